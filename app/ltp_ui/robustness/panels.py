"""The tab "By length": dots by band, Table 3 of the chosen runs, and the paper's beside."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.ltp_ui.robustness import charts as robustness_charts
from app.ltp_ui.robustness import data
from app.ltp_ui.robustness.charts import Axis, band_labels, signed
from app.ltp_ui.robustness.controls import Choice
from app.ltp_ui.shared import blocks, exports_panel
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.method_charts import legend_html, without_legend
from app.ltp_ui.shared.method_style import in_order, title_of
from app.ltp_ui.shared.wording import counted, percent
from app.ltp_ui.shared.wording import points as in_points
from ltp_core.analysis.bands import PAPER_TABLE_3
from ltp_core.analysis.intervals import Estimate
from ltp_core.analysis.robustness import Comparison, comparison_frame

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

NONE = "none"


def by_length(choice: Choice, head: DeltaGenerator) -> None:
    """The whole tab; the answer and the pictures go into `head`, above what was chosen."""
    comparison = data.comparison(choice.series, choice.split, choice.quantiles, choice.edges)
    with head:
        costs = {each.name: each.cost(choice.split) for each in choice.pruned}
        blocks.answer(plain(answer(comparison, choice.titles, costs)))
        pictures = st.container()
        _say_empty(comparison)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        quality, accounting = _axes(comparison)
        paper = _paper_task(choice.task)
        slot = st.container(width="content")
    with pictures:
        figures = _charts(comparison, choice.titles, quality, accounting, paper)
        st.caption(
            "Bars are 95 % intervals over examples."
            + (" Grey strokes: the unpruned control." if quality == "metric" else "")
            + (" Hollow and grey: the paper’s own numbers, of another model." if paper else "")
        )
    st.header("By band", anchor=False)
    st.dataframe(
        table_3(comparison, choice.titles, accounting),
        hide_index=True,
        height="content",
        alt="Metric and relative FLOPs by band of length.",
    )
    st.caption(_provenance(comparison, choice))
    _paper_table(paper)
    with slot:
        _exports(comparison, choice, figures)


def answer(comparison: Comparison, titles: Mapping[str, str], costs: Mapping[str, float]) -> str:
    """What becomes of the longest inputs, and at which cost there and on all inputs, in a sentence.

    Against the unpruned control where it is shown, else each point's own shortest inputs.
    """
    ends = [n for n, count in enumerate(comparison.counts) if count]
    first, last = ends[0], ends[-1]
    metric = comparison.metric_name.replace("_", " ").capitalize()
    where = [robustness_charts.lengths(comparison.bands[n]) for n in (first, last)]
    short, long = (f"of {words}" if words[0].isdigit() else words for words in where)
    pruned = {n: t for n, t in titles.items() if comparison.records[n][0].method != "unpruned"}
    if not pruned:
        return "Nothing is pruned here: choose a run that prunes."
    gaps = {
        name: robustness_charts.estimates(comparison, name, "difference", list(titles))
        for name in pruned
    }
    has_control = all(
        gap is not None for each in gaps.values() for gap in (each[first], each[last])
    )

    def shown(band: int, *, with_cost: bool = False) -> str:
        parts = []
        for name, title in pruned.items():
            cell, gap = comparison.cells[name][band], gaps[name][band]
            metric_shown = percent(cell.metric.value) if cell.metric else "unknown"
            value = in_points(gap.value) if has_control and gap else metric_shown
            cost = cell.relative_flops.get("paper") if with_cost else None
            at = f" at {percent(cost.value, 0)} of the FLOPs" if cost else ""
            parts.append(f"{title} {value}{at}")
        return ", ".join(parts)

    against = " against the dense model" if has_control else ""
    if first == last:
        return f"{metric}{against}: {shown(first, with_cost=True)}."
    return (
        f"{metric}{against} on inputs {long} tokens: {shown(last, with_cost=True)}; on those {short}: "
        f"{shown(first)}.{_whole_costs(costs, titles)}"
    )


def _whole_costs(costs: Mapping[str, float], titles: Mapping[str, str]) -> str:
    """What several points cost over all inputs: methods spend it on other lengths."""
    known = [
        f"{titles[name]} {percent(cost, 0)}" for name, cost in costs.items() if math.isfinite(cost)
    ]
    return f" On all inputs: {', '.join(known)} of the FLOPs." if len(known) > 1 else ""


def _say_empty(comparison: Comparison) -> None:
    empty = [b.name for b, n in zip(comparison.bands, comparison.counts, strict=True) if not n]
    if empty:
        longest = int(comparison.lengths.max())
        share = float((comparison.lengths == longest).mean())
        st.info(
            f"No example is in {plain(', '.join(empty))}: {percent(share, 0)} of the inputs have the greatest "
            f"length, {longest} tokens, where these runs cut them. Choose other bands, or runs that "
            "read longer inputs, to tell these apart.",
            icon=":material/content_cut:",
        )


def _axes(comparison: Comparison) -> tuple[Axis, Axis]:
    """What the left picture shows, and in which accounting the right one counts."""
    metric = comparison.metric_name.replace("_", " ")
    qualities: dict[Axis, str] = {"difference": "difference to the dense model", "metric": metric}
    has_control = any(runs[0].method == "unpruned" for runs in comparison.records.values())
    quality: Axis = "metric"
    if has_control and len(comparison.records) > 1:
        quality = st.segmented_control(
            "y axis",
            list(qualities),
            format_func=qualities.__getitem__,
            default="difference",
            required=True,
            key="robustness.y",
            bind="query-params",
        )
    accountings: dict[Axis, str] = {"paper": "Paper’s accounting", "executed": "Executed"}
    accounting: Axis = st.segmented_control(
        "Relative FLOPs",
        list(accountings),
        format_func=accountings.__getitem__,
        default="paper",
        required=True,
        key="robustness.flops",
        bind="query-params",
        help="In the paper’s accounting a token dropped in a layer still costs it the whole attention; "
        "executed is what the packed runner computes.",
    )
    return quality, accounting


def _paper_task(task: str) -> str | None:
    options = [*PAPER_TABLE_3, NONE]
    chosen = st.segmented_control(
        "Figures of the paper",
        options,
        format_func=lambda name: name if name == NONE else f"{task_label(name)}, paper",
        default=task if task in PAPER_TABLE_3 else NONE,
        required=True,
        key=f"robustness.paper.{task}",
        bind="query-params",
        help="Table 3: RoBERTa-base, a larger model. Its figures are drawn hollow.",
    )
    return None if chosen == NONE else chosen


def _charts(
    comparison: Comparison,
    titles: Mapping[str, str],
    quality: Axis,
    accounting: Axis,
    paper: str | None,
) -> dict[str, Figure]:
    """Quality and cost side by side; the figures by name, for the exports."""
    bands, figures = band_labels(comparison), {}
    names = in_order(comparison.records[n][0].method for n in titles)
    methods = [title_of(name) for name in names if name != "unpruned"]
    metric = comparison.metric_name.replace("_", " ")
    name = metric if quality == "metric" else f"{metric}, difference"
    axes: dict[str, Axis] = {name: quality, "relative FLOPs": accounting}
    legend = st.container()
    for column, (title, axis) in zip(st.columns(2, gap="large"), axes.items(), strict=True):
        frame = robustness_charts.band_frame(comparison, titles, axis, paper=paper)
        with column:
            if frame.empty:
                st.caption("The size of this model is not known, so its FLOPs cannot be counted.")
                continue
            figures[title] = robustness_charts.band_chart(frame, axis, metric=metric, bands=bands)
            st.vega_lite_chart(
                spec=without_legend(figures[title]).to_dict(),
                alt=f"{title} by band of length: {_spoken(frame)}.",
            )
    with legend:
        st.html(legend_html(methods))
    if paper and not (frame["kind"] == robustness_charts.PAPER).any():
        st.caption(
            "The paper’s figures are for the bands of its Table 3 and in its own accounting."
        )
    return figures


def _spoken(frame: pd.DataFrame) -> str:
    parts = []
    for series, rows in frame.groupby("series", sort=False):
        values = ", ".join(percent(value) for value in rows["value"])
        parts.append(f"{series} {values}")
    return "; ".join(parts)


def table_3(
    comparison: Comparison, titles: Mapping[str, str], accounting: Axis = "paper"
) -> pd.DataFrame:
    """The paper's layout: two lines a point, then the differences to the first one, in percent."""
    bands = band_labels(comparison)
    metric = comparison.metric_name.replace("_", " ")
    rows = [["examples", "", *(f"{count:,}" for count in comparison.counts)]]
    for name, title in titles.items():
        cells = comparison.cells[name]
        rows.append([title, metric, *(_bounded(cell.metric, cell.metric_sd) for cell in cells)])
        costs = robustness_charts.estimates(comparison, name, accounting, list(titles))
        rows.append(["", "FLOPs", *(f"{100 * c.value:.1f}" if c else "–" for c in costs)])
    rows += _difference_rows(comparison, titles)
    return pd.DataFrame(rows, columns=["", "%", *bands])


def _difference_rows(comparison: Comparison, titles: Mapping[str, str]) -> list[list[str]]:
    """The first point minus each other one; nothing where they saw different data."""
    first, *others = titles
    rows = []
    for other in others:
        try:
            gaps = comparison.difference(first, other)
        except ValueError:
            continue
        rows.append(
            [
                f"{titles[first]} − {titles[other]}",
                "points",
                *(signed(g) if g else "" for g in gaps),
            ]
        )
    return rows


def _bounded(estimate: Estimate | None, sd: float | None) -> str:
    if estimate is None:
        return "–"
    spread = "" if sd is None else f" ± {100 * sd:.1f}"
    bounds = f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{100 * estimate.value:.1f}{spread} {bounds}"


def _provenance(comparison: Comparison, choice: Choice) -> str:
    runs = [run for each in choice.series for run in each.runs]
    seeds = len({run.seed for run in runs})
    rows = len(comparison.lengths)
    return plain(
        f"{task_label(choice.task)}, {choice.split}, {counted(rows, 'example')}, "
        f"{counted(len(runs), 'run')}, {counted(seeds, 'seed')}. In brackets 95 % intervals over the "
        "examples; ± is one standard deviation over seeds. Q2 and Q3 are the median and the third "
        "quartile of these inputs’ lengths. The unpruned control needs 100 % of the FLOPs."
    )


def _paper_table(paper: str | None) -> None:
    if paper is None:
        return
    st.markdown(f"**Paper, Table 3** – RoBERTa-base on {task_label(paper)}, not measured here")
    st.dataframe(
        paper_table(paper), hide_index=True, alt=f"Table 3 of the paper for {paper.upper()}."
    )


def paper_table(task: str) -> pd.DataFrame:
    """The paper's figures of a task in the same layout."""
    figures = PAPER_TABLE_3[task]
    bands = list(next(iter(figures.values())))
    rows = []
    for method, row in figures.items():
        name = f"{title_of(method)}, paper"
        rows.append([name, "accuracy", *(f"{100 * row[band][0]:.2f}" for band in bands)])
        rows.append(["", "FLOPs", *(f"{100 * row[band][1]:.2f}" for band in bands)])
    gaps = [figures["ltp"][band][0] - figures["lat"][band][0] for band in bands]
    rows.append(["LTP − LAT, paper", "points", *(f"{100 * gap:+.2f}" for gap in gaps)])
    return pd.DataFrame(rows, columns=["", "%", *bands])


def _exports(comparison: Comparison, choice: Choice, figures: Mapping[str, Figure]) -> None:
    subject = f"{choice.task}-{choice.split}"
    frame = comparison_frame(comparison)
    with st.popover("Export", icon=":material/download:", key="robustness.export"):
        files = exports_panel.frame_files(frame)
        exports_panel.row("By length", subject, files, key="robustness.export")
        for name, figure in figures.items():
            chart_exports(f"Chart {name}", subject, figure)


def chart_exports(title: str, subject: str, figure: Figure) -> None:
    """A chart as the two kinds of picture."""
    files = exports_panel.chart_files(figure, width=720)
    exports_panel.row(title, subject, files, key="robustness.export")


def empty() -> None:
    """The state of a store without records."""
    st.info(
        "No run in the store has records of its examples yet. Train one, or evaluate a checkpoint of "
        "your own and keep the records:",
        title="Nothing to look at yet",
        icon=":material/inventory_2:",
    )
    st.code("python -m ltp_core evaluate CHECKPOINT --task TASK --records", language="bash")


def how_computed() -> None:
    """Rules of the page."""
    st.markdown(
        """
- **Bands** lie between quantiles of the lengths of the evaluated inputs, in tokens, special ones included.
  A length that equals a quantile is below it. Inputs that some runs cut have the length that the run which
  read most of them saw.
- **Intervals** are over examples: Wilson’s for accuracy, that of a ratio of sums for FLOPs, the normal one of
  the paired differences for differences; where values are predicted, bootstraps. Of several seeds, values and bounds are means.
- **Accuracy**, as in Table 3, even where the headline metric is a mean with F1: that depends on how frequent
  a class is, which changes with length. Where values are predicted, the mean of both correlations.
- **Relative FLOPs**: sums over the band, divided by those of the model without pruning and without padding.
- **Paper**: Kim et al., KDD 2022, Table 3: trained on inputs shorter than the median of the evaluation set,
  operating points chosen to need about equal FLOPs on the shorter half. Its model is RoBERTa-base, so levels do not
  compare; how they change with length does.
- The same on the command line: `python -m ltp_core robustness TASK`.
"""
    )
