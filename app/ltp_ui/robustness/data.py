"""What the robustness page shows, read from the stores and kept until a run's manifest changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import stamps
from app.ltp_ui.shared.stamps import Stamp
from ltp_core import store
from ltp_core.analysis.example_records import ExampleRecords, read_examples
from ltp_core.analysis.operating_points import (
    OperatingPoint,
    RecordedRun,
    matched,
    operating_points,
    recorded_runs,
)
from ltp_core.analysis.robustness import Comparison, compare
from ltp_core.records import UserError
from ltp_core.tasks.loading import load_rows


@dataclass(frozen=True, kw_only=True, order=True)
class Experiment:
    """Runs that belong together: one task, one limit on the length of the training rows.

    Attributes:
        task: Name of the task.
        max_train_length: Longest training row in tokens; 0 for no limit.
    """

    task: str
    max_train_length: int


def experiments() -> dict[Experiment, list[OperatingPoint]]:
    """Everything that has records, by experiment; those trained on short rows come first."""
    groups: dict[Experiment, list[RecordedRun]] = {}
    for run in _runs(stamps.of_runs()):
        place = Experiment(task=run.task, max_train_length=run.max_train_length or 0)
        groups.setdefault(place, []).append(run)
    order = sorted(groups, key=lambda place: (place.max_train_length == 0, place))
    return {place: operating_points(groups[place]) for place in order}


def default_experiment(found: dict[Experiment, list[OperatingPoint]]) -> Experiment:
    """The one in which most methods can be compared; of equals the one with most runs."""
    return max(found, key=lambda p: (len({c.method for c in found[p]}), _num_runs(found[p])))


def _num_runs(found: Sequence[OperatingPoint]) -> int:
    return sum(len(point.runs) for point in found)


def splits(found: Sequence[OperatingPoint]) -> list[str]:
    """Splits of which any run has records; validation first."""
    names = {split for point in found for run in point.runs for split in run.splits}
    return sorted(names, key=lambda name: (name != "validation", name))


def records(run: RecordedRun, split: str) -> ExampleRecords:
    """A run's examples of a split.

    Raises:
        UserError: The run's tables are damaged.
    """
    return _records(str(run.folder), split, stamps.of_run(run.folder))


def usable(found: Sequence[OperatingPoint], split: str) -> list[OperatingPoint]:
    """Those with readable records of the split; of several seeds, the readable ones."""
    kept = (
        [run for run in point.runs if split in run.splits and _is_readable(run, split)]
        for point in found
    )
    return [OperatingPoint(runs=tuple(runs)) for runs in kept if runs]


def problems(task: str, found: Sequence[OperatingPoint], split: str) -> list[str]:
    """Why runs of the task cannot be shown, a sentence each."""
    broken = [text for name, text in _broken(stamps.of_runs()) if name.startswith(f"{task}-")]
    return broken + [
        sentence
        for point in found
        for run in point.runs
        if split in run.splits and (sentence := _problem(run, split))
    ]


def _problem(run: RecordedRun, split: str) -> str | None:
    try:
        records(run, split)
    except UserError as error:
        return str(error)
    return None


def _is_readable(run: RecordedRun, split: str) -> bool:
    return _problem(run, split) is None


def default_choice(found: Sequence[OperatingPoint], split: str) -> list[str]:
    """Names of one point a method, of about equal FLOPs on the shortest band."""
    first = {point.name: records(point.runs[0], split) for point in found}
    return [point.name for point in matched(found, first)]


def comparison(
    found: Sequence[OperatingPoint], split: str, quantiles: tuple[float, ...]
) -> Comparison:
    """The points by band."""
    stamp = tuple((str(r.folder), stamps.of_run(r.folder)) for c in found for r in c.runs)
    return _comparison(found, split, quantiles, stamp)


def token_kinds(run: RecordedRun, split: str) -> pd.DataFrame | None:
    """The run's counts of token kinds, or those of a later evaluation of it; None without any.

    Raises:
        UserError: The table is damaged.
    """
    later = (r for r in _runs(stamps.of_runs()) if r.is_evaluation and r.parent == run.name)
    frames = (_token_kinds(each, split) for each in (run, *later))
    return next((frame for frame in frames if frame is not None), None)


def _token_kinds(run: RecordedRun, split: str) -> pd.DataFrame | None:
    if not (run.folder / "token_kinds.parquet").is_file():
        return None
    frame = store.read_table(run.folder, "token_kinds")
    frame = frame[frame["split"] == split]
    return None if frame.empty else frame


@dataclass(frozen=True, kw_only=True)
class Text:
    """The text of an example.

    Attributes:
        texts: One or two.
        is_certain: The data at hand are those that the run was evaluated on.
    """

    texts: tuple[str, ...]
    is_certain: bool


def text_of(run: RecordedRun, split: str, row: int) -> Text:
    """The text of a stored example, joined from the data set.

    Raises:
        UserError: The data set is not at hand, or has no such row.
    """
    texts, sha256 = _texts(run.task, split)
    if row not in texts:
        raise UserError(f"The data of {run.task}/{split} at hand have no row {row}.")
    known = store.read_manifest(run.folder).dataset.get(split)
    expected = known.get("sha256") if isinstance(known, dict) else None
    return Text(texts=texts[row], is_certain=expected == sha256)


# ---- caches; a stamp makes a changed run another key ----


@st.cache_data(max_entries=4, show_spinner=False)
def _runs(stamp: Stamp) -> list[RecordedRun]:
    del stamp
    return recorded_runs()


@st.cache_data(max_entries=4, show_spinner=False)
def _broken(stamp: Stamp) -> list[tuple[str, str]]:
    del stamp
    return [(entry.name, entry.problem) for entry in store.list_runs() if entry.problem]


@st.cache_data(max_entries=200, show_spinner=False)
def _records(folder: str, split: str, stamp: float) -> ExampleRecords:
    del stamp
    return read_examples(Path(folder), split)


@st.cache_data(
    max_entries=50,
    show_spinner=False,
    hash_funcs={OperatingPoint: lambda point: [run.name for run in point.runs]},
)
def _comparison(
    found: Sequence[OperatingPoint],
    split: str,
    quantiles: tuple[float, ...],
    stamp: Stamp,
) -> Comparison:
    del stamp
    groups = {c.name: [records(run, split) for run in c.runs] for c in found}
    return compare(groups, quantiles)


@st.cache_data(max_entries=4, show_spinner=False)
def _texts(task: str, split: str) -> tuple[dict[int, tuple[str, ...]], str]:
    rows = load_rows(task, split)
    return dict(zip(rows.row.tolist(), rows.texts, strict=True)), rows.sha256
