"""What the robustness page shows, read from the stores and kept until a run's manifest changes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import stamps
from app.ltp_ui.shared.stored import run_table
from ltp_core import store
from ltp_core.analysis.bands import band_cost
from ltp_core.analysis.example_records import ExampleRecords, read_examples
from ltp_core.analysis.robustness import Comparison, compare
from ltp_core.analysis.runs import Row, matched, rows
from ltp_core.records import UserError
from ltp_core.tasks.loading import load_rows


@dataclass(frozen=True, kw_only=True)
class Series:
    """What is drawn as one: runs that differ in the seed alone, by seed, at least one."""

    runs: tuple[Row, ...]

    @property
    def name(self) -> str:
        """Name of the run with the lowest seed."""
        return str(self.runs[0].run)

    @property
    def method(self) -> str:
        """Name of the pruning method."""
        return str(self.runs[0].method)

    @property
    def setting(self) -> str:
        """Equal for runs that differ in the seed alone."""
        return str(self.runs[0].setting)

    def cost(self, split: str) -> float:
        """Relative FLOPs of the first run, paper's accounting; NaN where not known."""
        return float(getattr(self.runs[0], f"paper_{split}", math.nan))


def recorded() -> pd.DataFrame:
    """Runs whose examples were kept."""
    table = run_table()
    return table[table["has_records"]]


def of_set(found: pd.DataFrame, comparable: str) -> pd.DataFrame:
    """Runs that may be compared, and with them those of the task of whose training nothing is known."""
    own = found["comparable"] == comparable
    tasks = set(found.loc[own, "task"])
    return found[own | (found["is_foreign"] & found["task"].isin(tasks))]


def splits(found: pd.DataFrame) -> list[str]:
    """Splits of which any run has records; validation first."""
    names = {split for each in found["splits"] for split in each}
    return sorted(names, key=lambda name: (name != "validation", name))


def readable(found: pd.DataFrame, split: str) -> tuple[list[Series], list[str]]:
    """Series with records of the split, of several seeds the readable ones; and what is wrong with the rest."""
    [task, *_] = found["task"]
    broken = [(e.name, e.problem) for e in _broken(store.runs_stamp())]
    problems = [str(problem) for name, problem in broken if name.startswith(f"{task}-")]
    series: dict[str, list[Row]] = {}
    for run in rows(found.sort_values(["seed", "run"])):
        if split not in run.splits:
            continue
        try:
            records(run, split)
        except UserError as error:
            problems.append(str(error))
        else:
            series.setdefault(str(run.setting), []).append(run)
    return [Series(runs=tuple(runs)) for runs in series.values()], problems


@st.cache_data(max_entries=4, show_spinner=False)
def _broken(stamp: str) -> list[store.RunEntry]:
    del stamp
    return [entry for entry in store.list_runs() if entry.problem]


def default_choice(found: Sequence[Series], split: str, band: int | None = None) -> list[str]:
    """Names of one series a method, of about equal FLOPs: over all inputs, or on a band of Table 3."""
    costs = {
        each.setting: each.cost(split)
        if band is None
        else band_cost(records(each.runs[0], split), band)
        for each in found
    }
    runs = run_table()
    runs = runs[runs["run"].isin([run.run for each in found for run in each.runs])]
    wanted = matched(runs, costs)
    return [each.name for each in found if each.setting in wanted]


def records(run: Row, split: str) -> ExampleRecords:
    """A run's examples of a split.

    Raises:
        UserError: The run's tables are damaged.
    """
    return _records(str(run.folder), split, stamps.of_run(run.folder))


@st.cache_data(max_entries=200, show_spinner=False)
def _records(folder: str, split: str, stamp: float) -> ExampleRecords:
    del stamp
    return read_examples(Path(folder), split)


def comparison(
    found: Sequence[Series], split: str, quantiles: tuple[float, ...], edges: tuple[int, ...]
) -> Comparison:
    """The series by band."""
    stamp = tuple((str(r.folder), stamps.of_run(r.folder)) for each in found for r in each.runs)
    return _comparison(found, split, quantiles, edges, stamp)


@st.cache_data(
    max_entries=50,
    show_spinner=False,
    hash_funcs={Series: lambda series: [run.run for run in series.runs]},
)
def _comparison(
    found: Sequence[Series],
    split: str,
    quantiles: tuple[float, ...],
    edges: tuple[int, ...],
    stamp: stamps.Stamp,
) -> Comparison:
    del stamp
    groups = {each.name: [records(run, split) for run in each.runs] for each in found}
    return compare(groups, quantiles, edges)


def token_kinds(run: Row, split: str) -> pd.DataFrame | None:
    """The run's counts of token kinds, or those of a later evaluation of it; None without any.

    Raises:
        UserError: The table is damaged.
    """
    table = recorded()
    later = table[table["is_evaluation"] & (table["parent"] == run.run)]
    for folder in (run.folder, *later["folder"]):
        if (folder / "token_kinds.parquet").is_file():
            frame = store.read_table(folder, "token_kinds")
            if not (frame := frame[frame["split"] == split]).empty:
                return frame
    return None


@dataclass(frozen=True, kw_only=True)
class Text:
    """The text of an example.

    Attributes:
        texts: One or two.
        is_certain: The data at hand are those that the run was evaluated on.
    """

    texts: tuple[str, ...]
    is_certain: bool


def text_of(run: Row, split: str, row: int) -> Text:
    """The text of a stored example, joined from the data set.

    Raises:
        UserError: The data set is not at hand, or has no such row.
    """
    texts, sha256 = _texts(run.task, split)
    if row not in texts:
        raise UserError(f"The data of {run.task}/{split} at hand have no row {row}.")
    known = run.manifest.dataset.get(split)
    expected = known.get("sha256") if isinstance(known, dict) else None
    return Text(texts=texts[row], is_certain=expected == sha256)


@st.cache_data(max_entries=4, show_spinner=False)
def _texts(task: str, split: str) -> tuple[dict[int, tuple[str, ...]], str]:
    rows = load_rows(task, split, allow_downloads=False)
    return dict(zip(rows.row.tolist(), rows.texts, strict=True)), rows.sha256
