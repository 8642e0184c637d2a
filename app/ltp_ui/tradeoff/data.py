"""What the trade-off page shows, read from the stores once and kept until a run changes."""

from __future__ import annotations

import math
import statistics
from pathlib import Path

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import stamps
from app.ltp_ui.shared.stored import run_table
from ltp_core import store
from ltp_core.analysis import tradeoff
from ltp_core.analysis.intervals import Estimate, mean_estimate
from ltp_core.analysis.runs import Row
from ltp_core.analysis.tradeoff import Speedup
from ltp_core.bench.results import DOCUMENT
from ltp_core.records import UserError


def comparable_sets(found: pd.DataFrame) -> list[str]:
    """Sets of comparable points, by task; of one task the one with most points comes first."""
    counts = found.groupby(["task", "comparable"]).size().reset_index(name="count")
    counts = counts.sort_values(["task", "count"], ascending=[True, False], kind="stable")
    return [str(key) for key in counts["comparable"]]


# ---- figures that are read from tables of the runs, one by one ----


def interval(point: Row) -> Estimate | None:
    """Mean difference to the dense counterparts, with its interval; None where it is not known."""
    folders = run_table()["folder"]
    return mean_estimate(
        _interval(
            point.task,
            folders[run],
            folders[dense],
            sum(stamps.of_run(folders[name]) for name in (run, dense)),
        )
        for run, dense in zip(point.runs, point.counterparts, strict=True)
        if dense is not None
    )


@st.cache_data(max_entries=5000, show_spinner=False)
def _interval(task: str, folder: Path, dense: Path, changed: float) -> Estimate | None:
    del changed
    try:
        return tradeoff.paired_difference(task, folder, dense)
    except UserError:
        return None


def gigaflops(point: Row) -> float:
    """Mean GFLOPs of a validation example, over seeds; NaN where the model's size is not known."""
    folders = run_table()["folder"]
    return statistics.fmean(
        _gigaflops(folder, stamps.of_run(folder)) for folder in folders[list(point.runs)]
    )


@st.cache_data(max_entries=5000, show_spinner=False)
def _gigaflops(folder: Path, changed: float) -> float:
    del changed
    try:
        found = tradeoff.gigaflops(folder, store.read_manifest(folder))
    except UserError:
        return math.nan
    return math.nan if found is None else found


def speedup(point: Row) -> Speedup | None:
    """A measured speed-up of one of the point's runs; None where none is stored."""
    known = _speedups(stamps.of_files(f"benches/*/{DOCUMENT}"))
    return next((known[run] for run in point.runs if run in known), None)


@st.cache_data(max_entries=4, show_spinner=False)
def _speedups(benches: stamps.Stamp) -> dict[str, Speedup]:
    del benches
    return tradeoff.speedups()
