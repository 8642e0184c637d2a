"""What is chosen on the robustness page: data, split, runs, and where the bands end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import pandas as pd
import streamlit as st

from app.ltp_ui.robustness import data
from app.ltp_ui.robustness.data import Series
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.labels import flops_label, task_label, training_label
from app.ltp_ui.shared.method_style import in_order, title_of
from app.ltp_ui.shared.wording import counted, percent
from ltp_core.analysis.bands import QUARTILES, TABLE_3
from ltp_core.analysis.runs import UNPRUNED, most_compared, rows

BANDS = {
    "paper": "As Table 3",
    "quartiles": "Quartiles",
    "own": "Own quantiles",
    "tokens": "Own, in tokens",
}
OWN, OWN_TOKENS = "0.5, 0.9", "16, 32"
T = TypeVar("T")
MATCHES = {"all": "all inputs", "short": "the shortest band", "long": "the longest band"}
MATCHED_BANDS = {"all": None, "short": 0, "long": -1}


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is looked at.

    Attributes:
        task: Name of the task.
        comparable: Key of the set of runs that is chosen from.
        split: Evaluated split.
        series: At least one, methods in the order of the legend, the unpruned control last.
        titles: What each is called on the screen, by its name; all different.
        quantiles: Between the bands.
        edges: Between the bands instead, in tokens; empty where the quantiles count.
    """

    task: str
    comparable: str
    split: str
    series: tuple[Series, ...]
    titles: dict[str, str]
    quantiles: tuple[float, ...]
    edges: tuple[int, ...]

    @property
    def pruned(self) -> list[Series]:
        """Those that prune."""
        return [each for each in self.series if each.method != UNPRUNED]


def choose(found: pd.DataFrame) -> Choice | None:
    """The choice; None where nothing can be shown, which is then said on the page."""
    titles_of_sets = set_titles(found)
    keys = list(titles_of_sets)
    # A link may name a task alone: of its sets that with most methods.
    given = found[found["task"] == st.query_params.get("robustness.data", "")]
    if len(given):
        del st.query_params["robustness.data"]
        st.session_state["robustness.data"] = most_compared(given)
    is_kept = "robustness.data" in st.session_state
    comparable = st.selectbox(
        "Task and training rows",
        keys,
        index=0 if is_kept else keys.index(default_set(found)),
        format_func=titles_of_sets.__getitem__,
        key="robustness.data",
        bind="query-params",
        width=420,
        help="Runs are compared that learned from the same rows, with the same base and adapter; with "
        "them stand checkpoints of your own that were evaluated.",
    )
    runs = data.of_set(found, comparable)
    task = str(found.loc[found["comparable"] == comparable, "task"].iloc[0])
    slot = st.container()
    with st.expander("Runs, split and bands"):
        with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
            split = st.selectbox(
                "Split", data.splits(runs), key="robustness.split", bind="query-params", width=160
            )
            quantiles, edges = _bands()
        readable, problems = data.readable(runs, split)
        chosen = _series(comparable, split, in_legend_order(readable)) if readable else []
    with slot:
        if problems:
            st.warning(
                "\n".join(f"- {plain(sentence)}" for sentence in problems),
                title="Some runs cannot be read and are left out",
                icon=":material/warning:",
            )
        if not readable:
            st.info("No run of this task can be read.", icon=":material/inventory_2:")
        elif not chosen:
            st.info("Choose at least one run.", icon=":material/checklist:")
    if not chosen:
        return None
    return Choice(
        task=task,
        comparable=comparable,
        split=split,
        series=tuple(chosen),
        titles=titles(chosen, split),
        quantiles=quantiles,
        edges=edges,
    )


def default_set(found: pd.DataFrame) -> str:
    """Of what was trained on short rows the set with most methods; else of everything."""
    short = found[found["max_train_length"] > 0]
    return most_compared(short if len(short) else found)


def set_titles(found: pd.DataFrame) -> dict[str, str]:
    """Sets of comparable runs by key; those trained on short rows first. Foreign runs join the others."""
    known = found[~found["is_foreign"]]
    alone = found[found["is_foreign"] & ~found["task"].isin(known["task"])]
    both = pd.concat([known, alone])
    both = both.assign(is_any=both["max_train_length"] == 0)
    both = both.sort_values(["is_any", "task", "comparable"]).drop_duplicates("comparable")
    named = {
        str(run.comparable): f"{task_label(str(run.task))} · {training_label(run)}"
        for run in rows(both)
    }
    counts = Counter(named.values())
    return {
        key: title if counts[title] == 1 else f"{title} · {key[:6]}" for key, title in named.items()
    }


def _bands() -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Quantiles between the bands, and edges in tokens, which go before if there are any."""
    kind = st.segmented_control(
        "Bands of length",
        list(BANDS),
        format_func=BANDS.__getitem__,
        default="paper",
        required=True,
        key="robustness.bands",
        bind="query-params",
        help="As Table 3 of the paper: up to the median (Q2) of the evaluated lengths, from there to the "
        "third quartile (Q3), above it. Or the four quarters, quantiles of your own, or lengths.",
    )
    if kind == "own":
        values = _typed("Quantiles", OWN, parse_quantiles, "numbers between 0 and 1, as 0.5, 0.9")
        return values or TABLE_3, ()
    if kind == "tokens":
        return TABLE_3, _typed("Lengths", OWN_TOKENS, parse_edges, "whole numbers, as 16, 32") or ()
    return (QUARTILES if kind == "quartiles" else TABLE_3), ()


def _typed(label: str, default: str, parse: Callable[[str], T | None], what: str) -> T | None:
    key = f"robustness.{label.lower()}"
    values = parse(st.text_input(label, default, key=key, bind="query-params", width=140))
    if values is None:
        st.caption(f"Write ascending {what}. Until then the bands are those of Table 3.")
    return values


def parse_quantiles(text: str) -> tuple[float, ...] | None:
    """Ascending numbers between 0 and 1, at most eight, separated by commas; else None."""
    try:
        values = tuple(float(piece) for piece in text.split(","))
    except ValueError:
        return None
    is_ascending = all(a < b for a, b in zip((0.0, *values), (*values, 1.0), strict=True))
    return values if is_ascending and len(values) <= 8 else None


def parse_edges(text: str) -> tuple[int, ...] | None:
    """Ascending whole numbers from 1 on, at most eight, separated by commas; else None."""
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(piece.isdecimal() and len(piece) < 7 for piece in pieces) or len(pieces) > 8:
        return None
    values = tuple(int(piece) for piece in pieces)
    return values if all(a < b for a, b in zip((0, *values), values, strict=False)) else None


def in_legend_order(found: Sequence[Series]) -> list[Series]:
    """Methods as in the legend, the unpruned control last."""
    order = [*in_order(each.method for each in found if each.method != UNPRUNED), UNPRUNED]
    return sorted(found, key=lambda each: (order.index(each.method), each.name))


def _series(comparable: str, split: str, found: list[Series]) -> list[Series]:
    by_name = {each.name: each for each in found}
    match = st.segmented_control(
        "Runs of about equal FLOPs on",
        list(MATCHES),
        format_func=MATCHES.__getitem__,
        default="all",
        required=True,
        key="robustness.match",
        bind="query-params",
        help="Which runs are chosen at first. The paper’s Table 3 makes the cost equal on the shortest inputs. "
        "LAT keeps at most a fixed number of tokens in each layer, so its share of the FLOPs falls with length.",
    )
    default = data.default_choice(found, split, MATCHED_BANDS[match])
    chosen = st.multiselect(
        "Runs",
        list(by_name),
        default=[name for name in by_name if name in default],
        format_func=lambda name: series_label(by_name[name], split),
        key=f"robustness.runs.{comparable}.{match}",
        bind="query-params",
        help="At first one run of each method is chosen. Runs that differ only in their seed are one entry.",
    )
    return [by_name[name] for name in by_name if name in chosen]


def series_label(series: Series, split: str) -> str:
    """A series in the list: method, cost, seeds, and the beginning of its fingerprint."""
    first = series.runs[0]
    seeds = f"seed {first.seed}" if len(series.runs) == 1 else counted(len(series.runs), "seed")
    parts = [
        title_of(series.method),
        flops_label(series.cost(split)) if series.method != UNPRUNED else "",
        "evaluated later" if first.is_evaluation else seeds,
        first.run.rpartition("-")[2][:4],
    ]
    return " · ".join(part for part in parts if part)


def titles(chosen: Sequence[Series], split: str) -> dict[str, str]:
    """Method names, with as much more as tells series of one method apart."""
    named = {each.name: title_of(each.method) for each in chosen}
    for is_last in (False, True):
        counts = Counter(named.values())
        for each in chosen:
            if counts[named[each.name]] > 1:
                tail = f" {each.name.rpartition('-')[2][:4]}" if is_last else ""
                named[each.name] = f"{title_of(each.method)} {percent(each.cost(split), 0)}{tail}"
    return named
