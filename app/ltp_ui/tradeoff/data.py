"""What the trade-off page shows, read from the stores once and kept until a manifest changes."""

from __future__ import annotations

import statistics
from pathlib import Path

import streamlit as st

from ltp_core import store
from ltp_core.analysis import tradeoff, tradeoff_axes
from ltp_core.analysis.intervals import Estimate, mean_estimate
from ltp_core.analysis.tradeoff import Experiment, Point, StoredRun
from ltp_core.analysis.tradeoff_axes import Speedup
from ltp_core.bench.results import DOCUMENT
from ltp_core.records import UserError

Stamp = tuple[tuple[str, float], ...]
"""Files of the stores, each with the time of its last change."""


def points() -> list[Point]:
    """All operating points of the stores."""
    return _points(stamp())


def stamp() -> Stamp:
    """What a cached answer depends on."""
    manifests = (
        path for place in store.stores() for path in (place / "runs").glob(f"*/{store.MANIFEST}")
    )
    return tuple(sorted((str(path), path.stat().st_mtime) for path in manifests))


@st.cache_data(max_entries=4, show_spinner=False)
def _points(stamp: Stamp) -> list[Point]:
    del stamp
    return tradeoff.operating_points(tradeoff.stored_runs())


def experiments(found: list[Point]) -> list[Experiment]:
    """Experiments by task; of one task the one with most points comes first."""
    counts: dict[Experiment, int] = {}
    for point in found:
        counts[point.experiment] = counts.get(point.experiment, 0) + 1
    return sorted(counts, key=lambda e: (e.task, -counts[e], e.key))


def largest(found: list[Experiment]) -> list[Experiment]:
    """The first experiment of each task."""
    first: dict[str, Experiment] = {}
    for experiment in found:
        first.setdefault(experiment.task, experiment)
    return list(first.values())


def interval(point: Point) -> Estimate | None:
    """Mean difference to the dense counterparts, with its interval; None where it is not known."""
    return mean_estimate(_interval(a, b) for a, b in point.pairs())


def _interval(run: StoredRun, dense: StoredRun) -> Estimate | None:
    manifests = [each.folder / store.MANIFEST for each in (run, dense)]
    return _cached_interval(run, dense, [_changed(path) for path in manifests])


def _changed(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


@st.cache_data(
    max_entries=5000,
    show_spinner=False,
    hash_funcs={StoredRun: lambda run: str(run.folder)},
)
def _cached_interval(run: StoredRun, dense: StoredRun, changed: list[float]) -> Estimate | None:
    del changed
    try:
        value, low, high = tradeoff_axes.paired_difference(run, dense)
    except UserError:
        return None
    return Estimate(value=value, low=low, high=high)


def gigaflops(point: Point) -> float | None:
    """Mean GFLOPs of a validation example, over seeds; None where the model's size is not known."""
    found = [_gigaflops(run, _changed(run.folder / store.MANIFEST)) for run in point.runs]
    known = [value for value in found if value is not None]
    return statistics.fmean(known) if known else None


@st.cache_data(
    max_entries=5000,
    show_spinner=False,
    hash_funcs={StoredRun: lambda run: str(run.folder)},
)
def _gigaflops(run: StoredRun, changed: float) -> float | None:
    del changed
    try:
        return tradeoff_axes.gigaflops(run)
    except UserError:
        return None


def speedup(point: Point) -> Speedup | None:
    """A measured speed-up of one of the point's runs; None where none is stored."""
    known = _speedups(_benches())
    return next((known[run.name] for run in point.runs if run.name in known), None)


def _benches() -> Stamp:
    documents = (
        path for place in store.stores() for path in (place / "benches").glob(f"*/{DOCUMENT}")
    )
    return tuple(sorted((str(path), path.stat().st_mtime) for path in documents))


@st.cache_data(max_entries=4, show_spinner=False)
def _speedups(benches: Stamp) -> dict[str, Speedup]:
    del benches
    return tradeoff_axes.speedups()
