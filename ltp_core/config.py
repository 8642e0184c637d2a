"""Training configurations: frozen dataclasses, read from TOML, strict about every key.

A configuration's fingerprint is the identity of its run. Pure data: nothing here imports torch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ltp_core.records import nearest
from ltp_core.strict import (
    ConfigError,
    build,
    is_plain,
    require,
    require_above_zero,
    require_between,
)
from ltp_core.toml_writer import toml_text

__all__ = [
    "AdapterConfig",
    "ConfigError",
    "DataConfig",
    "HardConfig",
    "MethodSettings",
    "SelectConfig",
    "SoftConfig",
    "StageConfig",
    "TrainConfig",
    "apply_override",
    "dense_config",
    "from_dict",
    "load_config",
    "load_table",
    "parent_config",
    "preset_names",
    "read_toml",
    "to_dict",
    "to_toml",
]

PRESETS = Path(__file__).parent / "presets"

UNTRAINED = ("calibrated",)
"""Methods that choose on the dense model and train nothing."""


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Which method, and its own settings as plain values; the method's config class checks them."""

    name: str = "unpruned"
    """A name from `METHODS`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of the method's config class."""

    def __post_init__(self) -> None:
        """Rejects what can be no name of a method, and what JSON cannot say."""
        _require_name("method.name", self.name)
        for key, value in self.settings.items():
            require(is_plain(value), f"method.{key} = {value!r}: must be a number, text or a list")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on."""

    max_length: int = 128
    """Longest sequence in tokens; longer ones are cut."""
    train_rows: int | None = None
    """Random subset of the training rows; None takes all."""
    max_train_length: int | None = None
    """Only training rows of at most this many tokens (length-robustness experiment)."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "max_length", "train_rows", "max_train_length")


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Which weights are trained."""

    kind: Literal["lora", "full"] = "lora"
    """`lora`: low-rank additions to every linear map of the layers, and the head; `full`: all."""
    rank: int = 16
    """Rank of the additions."""
    alpha: float = 32.0
    """The additions are scaled by alpha / rank."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "rank", "alpha")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What every stage has: its length and its optimizer."""

    epochs: float = 1.0
    """Passes over the training rows; fractions stop early."""
    batch_size: int = 32
    """Sequences per step."""
    learning_rate: float = 5e-4
    """Peak rate of the weights; linear warm-up, linear decay to 0."""
    warmup_fraction: float = 0.06
    """Share of the steps that warm up."""
    weight_decay: float = 0.01
    """AdamW's decay of the weights; thresholds have none."""
    distillation_weight: float = 0.0
    """Share of the loss that is KL(teacher || student); the teacher is the finetuned model."""
    distillation_temperature: float = 2.0
    """Softens both distributions; the KL is multiplied by its square."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(
            self, "epochs", "batch_size", "learning_rate", "distillation_temperature"
        )
        require_between(self, 0, 1, "warmup_fraction", "distillation_weight")
        require_between(self, 0, math.inf, "weight_decay")


@dataclass(frozen=True, kw_only=True)
class SoftConfig(StageConfig):
    """Soft stage: thresholds and weights learn together (Algorithm 1, step i)."""

    threshold_learning_rate: float = 2.5e-3
    """Rate of the thresholds; the paper's 2e-5 is 2.5e-3 in multiples of uniform attention."""
    temperature: float = 0.128
    """Temperature at the start; the paper's 1e-3 is 0.128 in this unit."""
    final_temperature: float = 0.0128
    """Temperature at the end, reached geometrically."""
    soft_mask: Literal["softmax", "output"] = "softmax"
    """`softmax`: cumulative weights inside attention; `output`: the paper's Eqs. 10-11."""
    regularization_weight: float = 0.0
    """Lambda: multiplies the mean soft mask over real tokens and layers."""
    target_relative_flops: float | None = None
    """Budget in the paper's accounting, instead of lambda."""
    budget_weight: float = 20.0
    """Multiplies the squared excess over the budget."""
    budget_ramp: float = 0.5
    """Share of the stage in which the budget falls linearly from 1 to the target; 0 starts there."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        require_above_zero(self, "temperature", "final_temperature", "target_relative_flops")
        require_between(self, 0, self.temperature, "final_temperature")
        require_between(self, 0, 1, "target_relative_flops", "budget_ramp")
        require_between(
            self, 0, math.inf, "threshold_learning_rate", "regularization_weight", "budget_weight"
        )


@dataclass(frozen=True, kw_only=True)
class HardConfig(StageConfig):
    """Hard stage: tokens are really pruned, the weights adapt (Algorithm 1, steps ii and iii)."""

    target_relative_flops: float | None = None
    """Hold this budget: one common multiplier on the thresholds follows it. None fixes them."""
    budget_gain: float = 0.15
    """How fast the multiplier follows: change of its logarithm per unit of excess and step."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        require_above_zero(self, "target_relative_flops")
        require_between(self, 0, 1, "target_relative_flops")
        require_between(self, 0, math.inf, "budget_gain")


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """A choice that follows training, made on held-out training rows: LAT's search, calibration."""

    target_relative_flops: float = 0.5
    """Budget in the paper's accounting."""
    rows: int = 500
    """Held-out training rows that the choice looks at."""
    max_configurations: int = 200
    """Candidates tried at most."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "target_relative_flops", "rows", "max_configurations")
        require_between(self, 0, 1, "target_relative_flops")


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One run: a task, a method and its stages.

    Without `soft` and `hard` the run is the finetuned model that later runs start from.
    """

    task: str
    """A name from `TASKS`."""
    base: str = "sentence-transformers/all-MiniLM-L6-v2"
    """Hub name or folder of the pretrained encoder."""
    seed: int = 0
    """Of initialisation, dropout, order and subset."""
    mixed_precision: Literal["no", "bf16", "fp16"] = "no"
    """Accelerate's mixed precision."""
    attention_dropout: float | None = None
    """Of the attention probabilities while training; None takes the base model's."""
    method: MethodSettings = field(default_factory=MethodSettings)
    data: DataConfig = field(default_factory=DataConfig)
    adapter: AdapterConfig = field(default_factory=AdapterConfig)
    finetune: StageConfig = field(default_factory=StageConfig)
    soft: SoftConfig | None = None
    hard: HardConfig | None = None
    select: SelectConfig | None = None

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        _require_name("task", self.task)
        require_between(self, 0, 2**32 - 1, "seed")
        require_between(self, 0, 1, "attention_dropout")

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
    if config.soft is None and config.hard is None:
        return None
    return replace(config, method=MethodSettings(), soft=None, hard=None)


def dense_config(config: TrainConfig) -> TrainConfig | None:
    """The dense counterpart: same data, epochs and distillation, nothing pruned.

    None if the run prunes nothing itself.
    """
    if config.method.name == "unpruned":
        return None
    soft = config.soft and SoftConfig(**_shared(config.soft))
    hard = config.hard and HardConfig(**_shared(config.hard))
    return replace(config, method=MethodSettings(), soft=soft, hard=hard, select=None)


def _shared(stage: StageConfig) -> dict[str, Any]:
    return {f.name: getattr(stage, f.name) for f in fields(StageConfig)}


def _require_name(key: str, value: str) -> None:
    # Names become parts of folder names.
    is_name = re.fullmatch("[a-z0-9_]+", value) is not None
    require(is_name, f"{key} = {value!r}: must consist of lower-case letters, digits and _")


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

    Raises:
        ConfigError: No such preset or file, no TOML, or a setting that is unknown or impossible.
    """
    raw = load_table(preset)
    for override in overrides or []:
        apply_override(raw, override)
    return from_dict(raw)


def load_table(preset: str) -> dict[str, Any]:
    """The settings of a preset by name or a TOML file by path, as they stand there, unchecked.

    Raises:
        ConfigError: No such preset or file, or no TOML.
    """
    return read_toml(_find(preset))


def preset_names() -> list[str]:
    """Names of the presets that come with the package."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def _find(preset: str) -> Path:
    if preset.endswith(".toml"):
        return Path(preset)
    if preset in preset_names():
        return PRESETS / f"{preset}.toml"
    raise ConfigError(f"There is no preset {preset!r}{nearest(preset, preset_names())}")


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


def _override_value(text: str) -> Any:
    try:
        values = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return text
    return values["value"] if set(values) == {"value"} else text
