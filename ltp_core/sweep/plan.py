"""Sweeps: a file that names many runs, and the plan of what they need. Nothing here imports torch.

A plan lists training configurations, what is needed before what needs it; what the stores hold
is done. `runner` carries it out.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from ltp_core import store
from ltp_core.checkpoint_places import holds_weights
from ltp_core.config import (
    PRESETS,
    ConfigError,
    TrainConfig,
    apply_override,
    dense_config,
    from_dict,
    load_table,
    overrides_task,
    parent_config,
    read_toml,
    resolve,
)
from ltp_core.records import nearest
from ltp_core.strict import build, is_plain, require

SWEEPS = PRESETS / "sweeps"

State = Literal["done", "being trained", "to do"]


@dataclass(frozen=True, kw_only=True)
class Vary:
    """Settings that take one value after another, each a run of its own.

    Attributes:
        key: The setting, as `soft.target_relative_flops`.
        keys: Or several that always have the same value.
        values: What they are set to.
    """

    values: tuple[Any, ...]
    key: str | None = None
    keys: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Rejects what varies nothing."""
        require((self.key is None) != (not self.keys), "either key or keys must be given")
        require(bool(self.values), "values = []: must name at least one value")

    @property
    def points(self) -> list[dict[str, Any]]:
        """Value by setting, one table a run."""
        keys = (self.key,) if self.key is not None else self.keys
        return [dict.fromkeys(keys, value) for value in self.values]


@dataclass(frozen=True, kw_only=True)
class RunGroup:
    """Runs of a sweep that differ in one point and in their seeds.

    Attributes:
        method: Name of the method; the base preset's own settings of another method are dropped.
        preset: Base preset of these runs, where it is another than the sweep's.
        seeds: Seeds of these runs, where they are others than the sweep's.
        overrides: Changes as `key=value`, the value `none` removes a setting.
        vary: What takes several values.
    """

    method: str | None = None
    preset: str | None = None
    seeds: tuple[int, ...] | None = None
    overrides: tuple[str, ...] = ()
    vary: Vary | None = None


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A sweep file.

    Attributes:
        title: What it is for, in a few words.
        preset: Base preset, by name or path.
        runs: The groups of runs.
        overrides: Settings that all runs share, as tables like those of a preset.
        seeds: Seeds of every run.
    """

    title: str
    preset: str
    runs: tuple[RunGroup, ...]
    overrides: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0,)


@dataclass(frozen=True, kw_only=True)
class PlannedRun:
    """One run of a plan.

    Attributes:
        config: What is trained.
        role: Asked for by the sweep file; or only needed, to start from or to compare with.
        varied: What sets it apart from the others of its method, value by setting; empty where it is
            only needed.
    """

    config: TrainConfig
    role: Literal["run", "dense counterpart", "parent"]
    varied: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What sets it apart, in a line."""
        parts = [f"{key.rpartition('.')[2]} {value}" for key, value in self.varied.items()]
        about = [self.role] if self.role != "run" else list(dict.fromkeys(parts))
        return ", ".join([*about, f"seed {self.config.seed}"])


def sweep_names() -> list[str]:
    """Names of the sweeps that come with the package."""
    return sorted(path.stem for path in SWEEPS.glob("*.toml"))


def load_sweep(name_or_path: str) -> Sweep:
    """Reads a sweep by name, or a TOML file by path.

    Raises:
        ConfigError: There is none, it is no TOML, or a setting is unknown or impossible.
    """
    if name_or_path.endswith(".toml"):
        return build(Sweep, read_toml(Path(name_or_path)))
    if name_or_path in sweep_names():
        return build(Sweep, read_toml(SWEEPS / f"{name_or_path}.toml"))
    raise ConfigError(f"There is no sweep {name_or_path!r}{nearest(name_or_path, sweep_names())}")


def make_plan(sweep: Sweep) -> list[PlannedRun]:
    """Every run that the sweep asks for or needs, once, what is needed before what needs it.

    Raises:
        ConfigError: A group of runs has a setting that is unknown or impossible.
    """
    asked = list(_asked(sweep))
    is_asked = {run.config.fingerprint: run for run in reversed(asked)}
    plan: dict[str, PlannedRun] = {}
    for run in asked:
        for needed in _with_needs(run):
            name = needed.config.fingerprint
            plan.setdefault(name, is_asked.get(name, needed))
    return list(plan.values())


def _with_needs(run: PlannedRun) -> Iterator[PlannedRun]:
    """What the run starts from and is compared with, their needs first, then the run."""
    parent, dense = parent_config(run.config), dense_config(run.config)
    if parent is not None:
        yield from _with_needs(PlannedRun(config=parent, role="parent"))
    if dense is not None:
        yield from _with_needs(PlannedRun(config=dense, role="dense counterpart"))
    yield run


def _asked(sweep: Sweep) -> Iterator[PlannedRun]:
    """The runs that the file names, in its order; all seeds of a point together."""
    for number, group in enumerate(sweep.runs):
        try:
            yield from _group_runs(sweep, group)
        except ConfigError as error:
            raise ConfigError(f"runs[{number}]: {error}") from error


def _group_runs(sweep: Sweep, group: RunGroup) -> Iterator[PlannedRun]:
    for point in group.vary.points if group.vary else [{}]:
        for seed in sweep.seeds if group.seeds is None else group.seeds:
            table = _table(sweep, group, point)
            config = resolve(from_dict(table | {"seed": seed}))
            # What the group itself sets of its method tells groups of one method apart.
            keys = [override.partition("=")[0].strip() for override in group.overrides]
            settings = {f"method.{key}": value for key, value in table.get("method", {}).items()}
            varied = {key: settings[key] for key in keys if key in settings} | point
            yield PlannedRun(config=config, role="run", varied=varied)


def _table(sweep: Sweep, group: RunGroup, point: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of one run: preset, method, shared, of the group, of the point; the last one wins."""
    from ltp_core.tasks.own_data import (
        with_own_task,
    )  # imports pyarrow, which help must not wait for

    raw = load_table(group.preset or sweep.preset)
    method = raw.get("method")
    is_same = isinstance(method, Mapping) and method.get("name") == group.method
    if group.method is not None and not is_same:
        raw["method"] = {"name": group.method}
    _merge(raw, sweep.overrides)
    for override in group.overrides:
        apply_override(raw, override)
    for key, value in point.items():
        _set(raw, key, value)
    preset = group.preset or sweep.preset
    names_task = (
        preset.endswith(".toml")
        or "task" in {*sweep.overrides, *point}
        or any(map(overrides_task, group.overrides))
    )
    return with_own_task(raw, names_task=names_task)


def _merge(raw: dict[str, Any], changes: Mapping[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, Mapping) and isinstance(raw.get(key), dict):
            _merge(raw[key], value)
        else:
            raw[key] = copy.deepcopy(value)


def _set(raw: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for section in sections:
        raw = raw.setdefault(section, {})
        require(isinstance(raw, dict), f"{key}: {section} is not a table")
    require(is_plain(value), f"{key} = {value!r}: must be a number, text or a list")
    raw[last] = value


def states(plan: Sequence[PlannedRun], destination: Path) -> list[State]:
    """Where each run of a plan stands.

    Args:
        plan: In the order of `make_plan`.
        destination: Store that is written to; the others are only read.
    """
    still_open = {run.config.name for run in open_runs(plan, destination)}
    found: list[State] = []
    for name in (run.config.name for run in plan):
        is_begun = store.is_being_trained(store.run_folder(destination, name))
        found.append(("being trained" if is_begun else "to do") if name in still_open else "done")
    return found


def open_runs(plan: Sequence[PlannedRun], destination: Path) -> list[PlannedRun]:
    """What is not done yet, in the order of the plan.

    Of most runs the records are enough, but an open run needs its parent with the weights.
    """
    found: list[PlannedRun] = []
    for run in reversed(plan):
        with_weights = run.config.name in parent_names(found)
        if not is_stored(run.config.name, destination, with_weights=with_weights):
            found.append(run)
    return found[::-1]


def parent_names(runs: Sequence[PlannedRun]) -> set[str]:
    """Names of the runs that these ones start from."""
    parents = (parent_config(run.config) for run in runs)
    return {parent.name for parent in parents if parent is not None}


def is_stored(name: str, destination: Path, *, with_weights: bool = False) -> bool:
    """Whether a store has the run complete, on demand with its weights."""
    folders = [store.run_folder(place, name) for place in (destination, *store.stores())]
    complete = [folder for folder in folders if (folder / store.MANIFEST).is_file()]
    return any(holds_weights(folder) or not with_weights for folder in complete)
