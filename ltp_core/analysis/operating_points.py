"""Who can be compared by length: stored runs with records of their examples, and a fair choice of them.

Runs that differ in their seed alone are one point. Torch-free.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltp_core import store
from ltp_core.analysis.bands import TABLE_3, by_band, length_bands, match_operating_points
from ltp_core.analysis.example_records import ExampleRecords, evaluated_splits
from ltp_core.config import ConfigError, from_dict, to_dict
from ltp_core.records import RunManifest

UNPRUNED = "unpruned"


@dataclass(frozen=True, kw_only=True)
class RecordedRun:
    """A complete run whose examples were recorded.

    Attributes:
        name: Name of the run.
        folder: Where it is.
        task: Task that it was evaluated on.
        method: Name of its pruning method.
        seed: Seed of its training.
        splits: Splits that it was evaluated on.
        max_train_length: It saw only training rows of at most that many tokens; None for any.
        dense: Name of its dense counterpart, or None.
        parent: Name of the run that it started from, or None.
        is_evaluation: It holds records of a checkpoint that was trained elsewhere.
        relative_flops: By split, over all its examples; paper's accounting.
        setting: Equal for runs that differ in the seed alone.
        learned_from: Equal for runs of one base, one set of training rows and one kind of adapter.
    """

    name: str
    folder: Path
    task: str
    method: str
    seed: int
    splits: tuple[str, ...]
    max_train_length: int | None
    dense: str | None
    parent: str | None
    is_evaluation: bool
    relative_flops: dict[str, float]
    setting: str
    learned_from: str


@dataclass(frozen=True, kw_only=True)
class OperatingPoint:
    """One configuration: its runs by seed, at least one.

    Attributes:
        runs: They differ in the seed alone.
    """

    runs: tuple[RecordedRun, ...]

    @property
    def name(self) -> str:
        """Name of the run with the lowest seed."""
        return self.runs[0].name

    @property
    def method(self) -> str:
        """Name of the pruning method."""
        return self.runs[0].method


def recorded_runs(entries: Sequence[store.RunEntry] | None = None) -> list[RecordedRun]:
    """Complete runs with records of their examples, by name; others are left out."""
    found = store.list_runs() if entries is None else entries
    return [
        _recorded_run(entry.folder, entry.manifest)
        for entry in found
        if entry.manifest is not None
        and entry.problem is None
        and evaluated_splits(entry.manifest)
        and all((entry.folder / f"{kind}.parquet").is_file() for kind in ("examples", "layers"))
    ]


def _recorded_run(folder: Path, manifest: RunManifest) -> RecordedRun:
    data = manifest.config.get("data")
    longest = data.get("max_train_length") if isinstance(data, dict) else None
    splits = evaluated_splits(manifest)
    about = _filled_in(manifest.config)
    return RecordedRun(
        name=folder.name,
        folder=folder,
        task=manifest.task,
        method=manifest.method,
        seed=manifest.seed,
        splits=tuple(splits),
        max_train_length=longest if isinstance(longest, int) else None,
        dense=manifest.dense,
        parent=manifest.parent,
        is_evaluation="evaluation" in manifest.config,
        relative_flops={split: _paper_flops(manifest.summary[split]) for split in splits},
        setting=setting_of(manifest),
        learned_from=json.dumps(
            [about.get(key) for key in ("base", "data", "adapter")], sort_keys=True, default=str
        ),
    )


def setting_of(manifest: RunManifest) -> str:
    """What sets a run apart besides its seed, as text: equal for runs that differ in the seed alone."""
    about = {key: value for key, value in _filled_in(manifest.config).items() if key != "seed"}
    return json.dumps(about, sort_keys=True, default=str)


def _filled_in(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration with the defaults of today; an older one lacks what came later.

    What a saved evaluation adds stands beside the configuration of the run that was evaluated.
    """
    trained = {key: value for key, value in config.items() if key != "evaluation"}
    if trained.keys() <= {"task", "method"}:  # of a checkpoint that was trained elsewhere
        return config
    try:
        return config | to_dict(from_dict(trained))
    except ConfigError:  # by a later version
        return config


def _paper_flops(result: dict[str, Any]) -> float:
    flops = result.get("relative_flops")
    value = flops.get("paper") if isinstance(flops, dict) else None
    return float(value) if isinstance(value, int | float) else math.nan


def operating_points(runs: Iterable[RecordedRun]) -> list[OperatingPoint]:
    """Runs grouped by what sets them apart besides the seed, in the order in which they come."""
    groups: dict[tuple[str, str], list[RecordedRun]] = {}
    for run in runs:
        # What was evaluated elsewhere has the configuration of another run.
        own = run.name if run.is_evaluation else ""
        groups.setdefault((run.setting, own), []).append(run)
    return [
        OperatingPoint(runs=tuple(sorted(group, key=lambda run: (run.seed, run.name))))
        for group in groups.values()
    ]


def matched(
    found: Sequence[OperatingPoint],
    records: Mapping[str, ExampleRecords],
    quantiles: Sequence[float] = TABLE_3,
    target: float | None = None,
) -> list[OperatingPoint]:
    """One point of each method that prunes, of about equal FLOPs on the shortest band.

    All learned from the same rows: those from which most methods learned. Then the dense counterpart
    of the first of them that has one among those given. Left out are what another run of the same
    method starts from, which is only half trained, and what was evaluated once more.

    Args:
        found: What can be chosen.
        records: Records of the first run of each, by its name; what is absent cannot be chosen.
        quantiles: Between the bands.
        target: Relative FLOPs wanted, paper's accounting; None brings the methods close together.
    """
    by_name = {point.name: point for point in found}
    costs: dict[str, dict[str, float]] = {}
    left_out = _halves(found) | _repeated(found)
    for point in found:
        cost = _cost_on_short(records.get(point.name), quantiles)
        if point.method != UNPRUNED and point.name not in left_out and cost is not None:
            costs.setdefault(point.method, {})[point.name] = cost
    if not costs:
        return _first_dense([], found)
    origin = {name: point.runs[0].learned_from for name, point in by_name.items()}
    common = _of_one_origin(costs, origin)
    fair = {
        m: {n: c for n, c in points.items() if origin[n] == common} for m, points in costs.items()
    }
    fair = {method: points for method, points in fair.items() if points}
    chosen = [by_name[name] for name in match_operating_points(fair, target).values()]
    return [*chosen, *_first_dense(chosen, found)]


def _of_one_origin(costs: Mapping[str, Mapping[str, float]], origin: Mapping[str, str]) -> str:
    """What most methods learned from; of equals, what most points did, then the first."""
    methods: dict[str, list[str]] = {}
    for method, points in costs.items():
        for name in points:
            methods.setdefault(origin[name], []).append(method)
    return max(methods, key=lambda place: (len(set(methods[place])), len(methods[place])))


def _halves(found: Sequence[OperatingPoint]) -> set[str]:
    method_of = {run.name: run.method for point in found for run in point.runs}
    return {
        run.parent
        for point in found
        for run in point.runs
        if run.parent and not run.is_evaluation and method_of.get(run.parent) == run.method
    }


def _repeated(found: Sequence[OperatingPoint]) -> set[str]:
    names = {run.name for point in found for run in point.runs}
    return {c.name for c in found if c.runs[0].is_evaluation and c.runs[0].parent in names}


def _cost_on_short(records: ExampleRecords | None, quantiles: Sequence[float]) -> float | None:
    if records is None:
        return None
    shortest = by_band(records, length_bands(records.length, quantiles))[0]
    estimate = shortest.relative_flops.get("paper")
    return None if estimate is None else estimate.value


def _first_dense(
    chosen: Sequence[OperatingPoint], found: Sequence[OperatingPoint]
) -> list[OperatingPoint]:
    for point in chosen:
        names = {run.dense for run in point.runs}
        dense = [c for c in found if any(run.name in names for run in c.runs)]
        if dense:
            return dense[:1]
    unpruned = [c for c in found if c.method == UNPRUNED]
    return unpruned[:1]
