"""Training configurations: frozen dataclasses, read from TOML, strict about every key.

A configuration's fingerprint is the identity of its run. Pure data: nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ltp_core.records import nearest
from ltp_core.sections import (
    AdapterConfig,
    DataConfig,
    HardConfig,
    MethodSettings,
    PolicyConfig,
    SelectConfig,
    SoftConfig,
    StageConfig,
    require_name,
)
from ltp_core.strict import (
    ConfigError,
    build,
    require,
    require_between,
)
from ltp_core.toml_writer import toml_text

__all__ = [
    "AdapterConfig",
    "ConfigError",
    "DataConfig",
    "HardConfig",
    "MethodSettings",
    "PolicyConfig",
    "SelectConfig",
    "SoftConfig",
    "StageConfig",
    "TrainConfig",
    "apply_override",
    "dense_config",
    "from_dict",
    "lineage",
    "load_config",
    "load_table",
    "overrides_task",
    "parent_config",
    "preset_names",
    "read_toml",
    "resolve",
    "stages_of",
    "to_dict",
    "to_toml",
]

PRESETS = Path(__file__).parent / "presets"

UNTRAINED = ("calibrated",)
"""Methods that choose on the dense model and train nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run: a task, a method and its stages.

    Without `policy`, `soft` and `hard` the run is the finetuned model that later runs start from.
    """

    task: str
    """A name from `TASKS`, or of an own task."""
    base: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Hub name or folder of the pretrained encoder."""
    seed: int = 0
    """Of initialisation, dropout, order and subset."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Accelerate's mixed precision; bf16 only where the processor multiplies it, else float32."""
    attention_dropout: float | None = None
    """Of the attention probabilities while training; None takes the base model's."""
    hidden_dropout: float | None = None
    """Of hidden states and embeddings while training; None takes the base model's."""
    method: MethodSettings = field(default_factory=MethodSettings)
    data: DataConfig = field(default_factory=DataConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    finetune: StageConfig = field(default_factory=StageConfig)
    policy: PolicyConfig | None = None
    soft: SoftConfig | None = None
    hard: HardConfig | None = None
    select: SelectConfig | None = None

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_name("task", self.task)
        require_between(self, 0, 2**32 - 1, "seed")
        require_between(self, 0, 1, "attention_dropout", "hidden_dropout")

    @property
    def later_stages(self) -> dict[str, StageConfig]:
        """The stages after finetuning, by name, in order."""
        stages = {"policy": self.policy, "soft": self.soft, "hard": self.hard}
        return {name: stage for name, stage in stages.items() if stage is not None}

    @property
    def fingerprint(self) -> str:
        """First 10 hex digits of the SHA-256 of every setting that differs from its default.

        So a setting that is added later changes no name; a default, once used, must never change.
        """
        text = json.dumps(_differences(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def name(self) -> str:
        """`<task>-<method>-<fingerprint>`, the name of the run."""
        return f"{self.task}-{self.method.name}-{self.fingerprint}"


def _differences(config: Any) -> dict[str, Any]:
    """Settings that are not at their default, as JSON values; whole numbers of floats as floats."""
    if isinstance(config, MethodSettings):
        return {"name": config.name, **config.settings}
    changed: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        default = item.default_factory() if callable(item.default_factory) else item.default
        if value == default:
            continue
        if is_dataclass(value):
            changed[item.name] = _differences(value)
        else:
            changed[item.name] = float(value) if "float" in str(item.type) else value
    return changed


def parent_config(config: TrainConfig) -> TrainConfig | None:
    """The run that this one starts from; None if it starts from the base model.

    Stages start from the finetuned model, a choice after training from the trained run: the dense
    model where the method trains nothing.
    """
    if config.select is not None:
        trained = replace(config, select=None)
        return dense_config(trained) if config.method.name in UNTRAINED else trained
    if not config.later_stages:
        return None
    return replace(config, method=MethodSettings(), policy=None, soft=None, hard=None)


def lineage(config: TrainConfig) -> list[TrainConfig]:
    """The run and those that it starts from, in the order in which they are trained."""
    parent = parent_config(config)
    return [config] if parent is None else [*lineage(parent), config]


def stages_of(config: TrainConfig) -> dict[str, StageConfig]:
    """The stages that a run goes through itself, by name; none where it only chooses."""
    if config.select is not None:
        return {}
    return config.later_stages or {"finetune": config.finetune}


def dense_config(config: TrainConfig) -> TrainConfig | None:
    """The dense counterpart: same data, epochs of the weights and distillation; no pruning, no INT8.

    None if the run prunes nothing itself and is in floating point.
    """
    if config.method.name == "unpruned" and not is_int8(config):
        return None
    soft = config.soft and SoftConfig(**_shared(config.soft))
    hard = config.hard and HardConfig(**_shared(config.hard))
    return replace(config, method=MethodSettings(), policy=None, soft=soft, hard=hard, select=None)


def is_int8(config: TrainConfig) -> bool:
    """Whether the layers' linear maps run in INT8."""
    return config.hard is not None and config.hard.int8


def _shared(stage: StageConfig) -> dict[str, Any]:
    return {f.name: getattr(stage, f.name) for f in fields(StageConfig)}


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Plain JSON values of a configuration; the method's settings stand beside its name."""
    raw = dataclasses.asdict(config)
    raw["method"] = {"name": config.method.name, **raw["method"]["settings"]}
    return raw


def to_toml(config: TrainConfig) -> str:
    """The configuration as a TOML file with every default; what is None is a comment."""
    return toml_text(to_dict(config))


def load_config(preset: str, overrides: list[str] | None = None) -> TrainConfig:
    """Reads a preset by name or a TOML file by path, then applies `key=value` overrides.

    A file that the table `data` names becomes an own task.

    Raises:
        ConfigError: No such preset or file, no TOML, or a setting that is unknown or impossible.
    """
    from ltp_core.tasks.own_data import (
        with_own_task,
    )  # imports pyarrow, which help must not wait for

    raw = load_table(preset)
    for override in overrides or []:
        apply_override(raw, override)
    names_task = preset.endswith(".toml") or any(map(overrides_task, overrides or []))
    raw = with_own_task(raw, names_task=names_task)
    return resolve(from_dict(raw))


def resolve(config: TrainConfig) -> TrainConfig:
    """The same run, its method's settings written in the one way that gives the run its name.

    Whatever is to be trained goes through here; a stored run keeps the settings that it was stored
    with. Imports torch, since only the method knows its settings.

    Raises:
        ConfigError: The method, or one of its settings, does not exist, or has the wrong type.
    """
    from ltp_core.pruning import canonical_settings

    name = config.method.name
    settings = canonical_settings(name, config.method.settings)
    return replace(config, method=MethodSettings(name=name, settings=settings))


def load_table(preset: str) -> dict[str, Any]:
    """The settings of a preset by name or a TOML file by path, as they stand there, unchecked.

    Raises:
        ConfigError: No such preset or file, or no TOML.
    """
    if preset.endswith(".toml"):
        return read_toml(Path(preset))
    if preset not in preset_names():
        raise ConfigError(f"There is no preset {preset!r}{nearest(preset, preset_names())}")
    return read_toml(PRESETS / f"{preset}.toml")


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file.

    Raises:
        ConfigError: There is no such file, or it is no TOML.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"There is no file {str(path)!r}.") from error
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{str(path)!r} cannot be read as TOML: {error}.") from error


def from_dict(raw: Mapping[str, Any]) -> TrainConfig:
    """Builds a configuration from plain values, refusing what it does not know.

    Raises:
        ConfigError: An unknown key (with the nearest name), a wrong type, an impossible value.
    """
    table = raw.get("method", {})
    require(isinstance(table, Mapping), f"method = {table!r}: must be a table")
    name = table.get("name", "unpruned")
    require(isinstance(name, str), f"method.name = {name!r}: must be a string")
    settings = {key: value for key, value in table.items() if key != "name"}
    values = {key: value for key, value in raw.items() if key != "method"}
    return replace(build(TrainConfig, values), method=MethodSettings(name=name, settings=settings))


def apply_override(raw: dict[str, Any], override: str) -> None:
    """`section.key=value`, the value as TOML, else as a bare string; `none` removes the key.

    Raises:
        ConfigError: It has another form, or a section is no table.
    """
    key, separator, text = (part.strip() for part in override.partition("="))
    require(bool(separator and key), f"{override!r}: write overrides as key=value")
    *sections, last = key.split(".")
    table: Any = raw
    for section in sections:
        table = table.setdefault(section, {})
        require(isinstance(table, dict), f"{key}: {section} is not a table")
    if text == "none":
        table.pop(last, None)
    else:
        table[last] = _override_value(text)


def overrides_task(override: str) -> bool:
    """Whether a `key=value` says what the task is."""
    return override.partition("=")[0].strip() == "task"


def _override_value(text: str) -> Any:
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if set(values) == {"value"} else text
