"""What the trade-off page shows, read from the stores once and kept until a manifest changes."""

from __future__ import annotations

import statistics

import streamlit as st

from app.ltp_ui.shared import stamps
from app.ltp_ui.shared.stamps import Stamp
from ltp_core.analysis import tradeoff, tradeoff_axes
from ltp_core.analysis.intervals import Estimate, mean_estimate
from ltp_core.analysis.tradeoff import Experiment, Point, StoredRun
from ltp_core.analysis.tradeoff_axes import Speedup
from ltp_core.bench.results import DOCUMENT
from ltp_core.records import UserError


def points() -> list[Point]:
    """All operating points of the stores."""
    return _points(stamps.of_runs())


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
    return _cached_interval(run, dense, [stamps.of_run(each.folder) for each in (run, dense)])


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
    found = [_gigaflops(run, stamps.of_run(run.folder)) for run in point.runs]
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
    known = _speedups(stamps.of_files(f"benches/*/{DOCUMENT}"))
    return next((known[run.name] for run in point.runs if run.name in known), None)


@st.cache_data(max_entries=4, show_spinner=False)
def _speedups(benches: Stamp) -> dict[str, Speedup]:
    del benches
    return tradeoff_axes.speedups()
