"""Accuracy against FLOPs: operating points from stored runs, and what is worth showing of them.

Choices are made on held-out training rows (`CHOSEN_ON`), figures are reported on validation
(`REPORTED_ON`). Nothing here imports torch.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ltp_core import store
from ltp_core.config import ConfigError, TrainConfig, from_dict
from ltp_core.records import RunManifest
from ltp_core.store import RunEntry

CHOSEN_ON, REPORTED_ON = "heldout", "validation"
UNPRUNED = "unpruned"
ALLOWED_DROP = 0.01
"""The paper's Table 1 allows one point less than the baseline."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run measured on one split.

    Attributes:
        metric: Headline metric, a fraction.
        relative_flops: By accounting, a fraction of the unpadded unpruned model's.
        rows: Evaluated examples.
    """

    metric: float
    relative_flops: dict[str, float]
    rows: int


@dataclass(frozen=True, kw_only=True)
class StoredRun:
    """A complete run as far as a trade-off needs it.

    Attributes:
        name: Name of the run.
        folder: Where it is.
        manifest: Everything else about it.
        config: Its configuration.
        metric_name: Name of the headline metric.
        results: By split; at least `REPORTED_ON`.
    """

    name: str
    folder: Path
    manifest: RunManifest
    config: TrainConfig
    metric_name: str
    results: dict[str, Result]

    @property
    def key(self) -> str:
        """Equal for runs that differ in the seed alone."""
        return replace(self.config, seed=0).fingerprint


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Mean over seeds, and standard deviation (n − 1); that is None for a single seed."""

    mean: float
    sd: float | None
    count: int


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """Runs that may be compared: one task, one base model, one set of training rows.

    Attributes:
        task: Name of the task.
        key: Equal for equal experiments.
        rows: Number of training rows.
        takes_all: These are all that there are.
        max_train_length: Only training rows of at most that many tokens; None for any.
        base: Name of the base model.
        adapter: `lora`, or `full` where all weights were trained.
    """

    task: str
    key: str
    rows: int | None
    takes_all: bool
    max_train_length: int | None
    base: str
    adapter: str


@dataclass(frozen=True, kw_only=True)
class Point:
    """One operating point of a method: runs of one configuration, by seed.

    Attributes:
        experiment: What it may be compared in.
        runs: At least one, by seed.
        dense: Dense counterpart by name of the run, as far as the stores have them.
    """

    experiment: Experiment
    runs: tuple[StoredRun, ...]
    dense: dict[str, StoredRun] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """Name of the pruning method."""
        return self.runs[0].config.method.name

    @property
    def key(self) -> str:
        """Equal for equal configurations."""
        return self.runs[0].key

    def metric(self, split: str = REPORTED_ON) -> Spread | None:
        """Headline metric over seeds."""
        return _spread(run.results[split].metric for run in self.runs if split in run.results)

    def relative_flops(self, accounting: str, split: str = REPORTED_ON) -> Spread | None:
        """Relative FLOPs over seeds."""
        return _spread(
            run.results[split].relative_flops[accounting]
            for run in self.runs
            if split in run.results
        )

    def pairs(self, split: str = REPORTED_ON) -> list[tuple[StoredRun, StoredRun]]:
        """Runs with their own dense counterparts, where both were evaluated on the split."""
        pairs = [(run, self.dense[run.name]) for run in self.runs if run.name in self.dense]
        return [(a, b) for a, b in pairs if split in a.results and split in b.results]

    def difference(self, split: str = REPORTED_ON) -> Spread | None:
        """Headline metric minus that of the dense counterpart of the same seed, over seeds."""
        pairs = self.pairs(split)
        return _spread(a.results[split].metric - b.results[split].metric for a, b in pairs)


def _spread(values: Iterable[float]) -> Spread | None:
    found = list(values)
    if not found:
        return None
    sd = statistics.stdev(found) if len(found) > 1 else None
    return Spread(mean=statistics.fmean(found), sd=sd, count=len(found))


# ---- from the store ----


def stored_runs(entries: Sequence[RunEntry] | None = None) -> list[StoredRun]:
    """Complete runs that were evaluated on validation; others are left out."""
    found = store.list_runs() if entries is None else entries
    runs = (_stored_run(entry) for entry in found if entry.problem is None)
    return [run for run in runs if run is not None]


def _stored_run(entry: RunEntry) -> StoredRun | None:
    manifest = entry.manifest
    if manifest is None:
        return None
    try:
        results = {
            split: _result(raw)
            for split, raw in manifest.summary.items()
            if isinstance(raw, dict) and "metrics" in raw
        }
        metric_name = next(iter(manifest.summary[REPORTED_ON]["metrics"]))
        config = from_dict(manifest.config)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration, ConfigError):
        return None
    return StoredRun(
        name=entry.name,
        folder=entry.folder,
        manifest=manifest,
        config=config,
        metric_name=metric_name,
        results=results,
    )


def _result(raw: dict[str, Any]) -> Result:
    flops = raw["relative_flops"]
    return Result(
        metric=float(next(iter(raw["metrics"].values()))),
        relative_flops={name: float(flops[name]) for name in ("paper", "executed")},
        rows=int(raw["rows"]),
    )


def operating_points(runs: Sequence[StoredRun]) -> list[Point]:
    """Points of every method that prunes, by task, method and FLOPs.

    A run that another one of its method starts from is only the first half of that one, so it is no
    point of its own.
    """
    by_name = {run.name: run for run in runs}
    halves = {
        run.manifest.parent
        for run in runs
        if (parent := by_name.get(run.manifest.parent or ""))
        and parent.config.method.name == run.config.method.name
    }
    groups: dict[str, list[StoredRun]] = {}
    for run in runs:
        if run.config.method.name != UNPRUNED and run.name not in halves:
            groups.setdefault(run.key, []).append(run)
    points = [_point(group, by_name) for group in groups.values()]
    return sorted(points, key=_order)


def _order(point: Point) -> tuple[str, str, str, float]:
    flops = point.relative_flops("paper")
    experiment = point.experiment
    return experiment.task, experiment.key, point.method, flops.mean if flops else 1.0


def _point(group: Sequence[StoredRun], by_name: dict[str, StoredRun]) -> Point:
    runs = tuple(sorted(group, key=lambda run: run.config.seed))
    dense = {run.name: by_name[run.manifest.dense] for run in runs if run.manifest.dense in by_name}
    return Point(experiment=experiment_of(runs[0]), runs=runs, dense=dense)


def experiment_of(run: StoredRun) -> Experiment:
    """What a run may be compared in."""
    config = run.config
    plain = TrainConfig(
        task=config.task, base=config.base, data=config.data, adapter=config.adapter
    )
    training = run.manifest.dataset.get("train")
    rows = training.get("rows") if isinstance(training, dict) else None
    return Experiment(
        task=config.task,
        key=plain.fingerprint,
        rows=rows if isinstance(rows, int) else config.data.train_rows,
        takes_all=config.data.train_rows is None and config.data.max_train_length is None,
        max_train_length=config.data.max_train_length,
        base=config.base,
        adapter=config.adapter.kind,
    )


# ---- what is worth showing ----


def dominated(points: Sequence[Point], accounting: str = "paper") -> set[str]:
    """Keys of points that another one of the same method beats on held-out rows.

    It beats one if it needs no more FLOPs and is no worse, and differs in one of the two.
    """
    return {
        point.key for point in points if any(_beats(other, point, accounting) for other in points)
    }


def _beats(other: Point, point: Point, accounting: str) -> bool:
    if (other.method, other.experiment) != (point.method, point.experiment):
        return False
    ours, theirs = _held_out(point, accounting), _held_out(other, accounting)
    if ours is None or theirs is None or ours == theirs:
        return False
    return theirs[0] <= ours[0] and theirs[1] >= ours[1]


def _held_out(point: Point, accounting: str) -> tuple[float, float] | None:
    flops, metric = point.relative_flops(accounting, CHOSEN_ON), point.metric(CHOSEN_ON)
    return None if flops is None or metric is None else (flops.mean, metric.mean)


def smallest_within(
    points: Sequence[Point], *, drop: float = ALLOWED_DROP, accounting: str = "paper"
) -> dict[tuple[Experiment, str], Point | None]:
    """The cheapest point of each experiment and method that is good enough on held-out rows.

    None stands for a method that has points, but none that is good enough. `drop` is how far below its
    dense counterpart a point may be, a fraction.
    """
    best: dict[tuple[Experiment, str], Point | None] = {}
    for point in points:
        place = point.experiment, point.method
        best.setdefault(place, None)
        if _is_within(point, drop) and _is_cheaper(point, best[place], accounting):
            best[place] = point
    return best


def _is_within(point: Point, drop: float) -> bool:
    difference = point.difference(CHOSEN_ON)
    # A drop of exactly one point must not be lost to rounding.
    return difference is not None and difference.mean >= -drop - 1e-9


def _is_cheaper(point: Point, best: Point | None, accounting: str) -> bool:
    ours = point.relative_flops(accounting, CHOSEN_ON)
    theirs = None if best is None else best.relative_flops(accounting, CHOSEN_ON)
    return ours is not None and (theirs is None or ours.mean < theirs.mean)


def baselines(points: Sequence[Point], split: str = REPORTED_ON) -> list[Spread]:
    """Headline metric of the dense counterparts over seeds, one a dense configuration, best first."""
    groups: dict[str, dict[str, StoredRun]] = {}
    for point in points:
        for run in point.dense.values():
            groups.setdefault(run.key, {})[run.name] = run
    spreads = (
        _spread(run.results[split].metric for run in group.values() if split in run.results)
        for group in groups.values()
    )
    return sorted((s for s in spreads if s is not None), key=lambda s: -s.mean)
