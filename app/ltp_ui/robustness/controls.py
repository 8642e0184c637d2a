"""What is chosen on the robustness page: data, split, runs, and where the bands end."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import streamlit as st

from app.ltp_ui.robustness import data
from app.ltp_ui.robustness.data import Experiment
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.method_style import in_order, title_of
from app.ltp_ui.shared.wording import percent
from ltp_core.analysis.bands import QUARTILES, TABLE_3
from ltp_core.analysis.operating_points import OperatingPoint

BANDS = {"paper": "As Table 3", "quartiles": "Quartiles", "own": "Own"}
OWN = "0.5, 0.9"


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What is looked at.

    Attributes:
        experiment: Task and training rows.
        split: Evaluated split.
        points: At least one, methods in the order of the legend, the unpruned control last.
        titles: What each is called on the screen, by its name; all different.
        quantiles: Between the bands.
    """

    experiment: Experiment
    split: str
    points: tuple[OperatingPoint, ...]
    titles: dict[str, str]
    quantiles: tuple[float, ...]

    @property
    def pruned(self) -> list[OperatingPoint]:
        """Those that prune."""
        return [c for c in self.points if c.method != "unpruned"]


def choose(found: dict[Experiment, list[OperatingPoint]]) -> Choice | None:
    """The choice; None where nothing can be shown, which is then said on the page."""
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        experiment = _experiment(found)
        split = _split(found[experiment])
        quantiles = _quantiles()
    _say_problems(data.problems(experiment.task, found[experiment], split))
    readable = _in_order(data.usable(found[experiment], split))
    if not readable:
        st.info("No run of this data can be read.", icon=":material/inventory_2:")
        return None
    chosen = _contenders(experiment, split, readable)
    if not chosen:
        st.info("Choose at least one run.", icon=":material/checklist:")
        return None
    return Choice(
        experiment=experiment,
        split=split,
        points=tuple(chosen),
        titles=titles(chosen, split),
        quantiles=quantiles,
    )


def _experiment(found: dict[Experiment, list[OperatingPoint]]) -> Experiment:
    by_title = {experiment_title(place): place for place in found}
    default = experiment_title(data.default_experiment(found))
    chosen = st.selectbox(
        "Task and training rows",
        list(by_title),
        index=list(by_title).index(default),
        key="robustness.data",
        bind="query-params",
        width=300,
        help="Runs are compared with runs of the same task that were trained on rows up to the same "
        "length; where none is named, on rows of every length.",
    )
    return by_title[chosen]


def experiment_title(place: Experiment) -> str:
    """The experiment in a few words."""
    if place.max_train_length:
        return f"{place.task}, rows up to {place.max_train_length} tokens"
    return place.task


def _split(found: Sequence[OperatingPoint]) -> str:
    names = data.splits(found)
    return st.selectbox("Split", names, key="robustness.split", bind="query-params", width=160)


def _quantiles() -> tuple[float, ...]:
    kind = st.segmented_control(
        "Bands of length",
        list(BANDS),
        format_func=BANDS.__getitem__,
        default="paper",
        required=True,
        key="robustness.bands",
        bind="query-params",
        help="As Table 3 of the paper: up to the median (Q2) of the evaluated lengths, from there to the "
        "third quartile (Q3), above it. Or the four quarters, or quantiles of your own.",
    )
    if kind != "own":
        return QUARTILES if kind == "quartiles" else TABLE_3
    text = st.text_input(
        "Quantiles", OWN, key="robustness.quantiles", bind="query-params", width=140
    )
    values = parse_quantiles(text)
    if values is None:
        st.caption("Write ascending numbers between 0 and 1, as 0.5, 0.9. Until then: Table 3’s.")
    return values or TABLE_3


def parse_quantiles(text: str) -> tuple[float, ...] | None:
    """Ascending numbers between 0 and 1, at most eight, separated by commas; else None."""
    try:
        values = tuple(float(piece) for piece in text.split(","))
    except ValueError:
        return None
    is_ascending = all(a < b for a, b in zip((0.0, *values), (*values, 1.0), strict=True))
    return values if is_ascending and len(values) <= 8 else None


def _say_problems(sentences: Sequence[str]) -> None:
    if sentences:
        st.warning(
            "\n".join(f"- {plain(sentence)}" for sentence in sentences),
            title="Some runs cannot be read and are left out",
            icon=":material/warning:",
        )


def _in_order(found: Sequence[OperatingPoint]) -> list[OperatingPoint]:
    order = [*in_order(c.method for c in found if c.method != "unpruned"), "unpruned"]
    return sorted(found, key=lambda c: (order.index(c.method), c.name))


def _contenders(
    experiment: Experiment, split: str, found: list[OperatingPoint]
) -> list[OperatingPoint]:
    by_name = {point.name: point for point in found}
    default = data.default_choice(found, split)
    chosen = st.multiselect(
        "Runs",
        list(by_name),
        default=[name for name in by_name if name in default],
        format_func=lambda name: run_title(by_name[name], split),
        key=f"robustness.runs.{experiment.task}.{experiment.max_train_length}",
        bind="query-params",
        help="At first one run of each method, so that all need about equal FLOPs on the shortest band, "
        "and the unpruned control. Percent: relative FLOPs of the split, paper’s accounting. Runs "
        "that differ in the seed alone are one entry.",
    )
    return [by_name[name] for name in by_name if name in chosen]


def run_title(point: OperatingPoint, split: str) -> str:
    """A run in the list: method, cost, what it is, and the beginning of its fingerprint."""
    first = point.runs[0]
    parts = [title_of(point.method)]
    if point.method != "unpruned":
        parts.append(percent(first.relative_flops.get(split, float("nan"))))
    if len(point.runs) > 1:
        parts.append(f"{len(point.runs)} seeds")
    if first.is_evaluation:
        parts.append("evaluated later")
    return " · ".join([*parts, first.name.rpartition("-")[2][:4]])


def titles(chosen: Sequence[OperatingPoint], split: str) -> dict[str, str]:
    """Method names, with as much more as tells runs of one method apart."""
    named = {c.name: title_of(c.method) for c in chosen}
    for longer in (_with_cost, _with_fingerprint):
        counts = Counter(named.values())
        named |= {c.name: longer(c, split) for c in chosen if counts[named[c.name]] > 1}
    return named


def _with_cost(point: OperatingPoint, split: str) -> str:
    cost = point.runs[0].relative_flops.get(split, float("nan"))
    return f"{title_of(point.method)} {percent(cost, 0)}"


def _with_fingerprint(point: OperatingPoint, split: str) -> str:
    return f"{_with_cost(point, split)} {point.name.rpartition('-')[2][:4]}"
