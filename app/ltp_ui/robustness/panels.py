"""The tab "By length": dots by band, Table 3 of the chosen runs, and the paper's beside."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pandas as pd
import streamlit as st

from app.ltp_ui.robustness import charts as robustness_charts
from app.ltp_ui.robustness import data
from app.ltp_ui.robustness.charts import Axis, band_labels, estimate_of
from app.ltp_ui.robustness.controls import Choice
from app.ltp_ui.shared import exports_panel
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.wording import counted, percent
from ltp_core.analysis.bands import PAPER_TABLE_3
from ltp_core.analysis.intervals import Estimate
from ltp_core.analysis.robustness import Comparison, comparison_frame

NONE = "none"


def by_length(choice: Choice) -> None:
    """The whole tab."""
    comparison = data.comparison(choice.points, choice.split, choice.quantiles)
    for sentence in takeaways(comparison, choice.titles):
        st.markdown(f"- {plain(sentence)}")
    _say_empty(comparison)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        accounting = _accounting()
        paper = _paper_task(choice.experiment.task)
        slot = st.container(width="content")
    figures = _charts(comparison, choice.titles, accounting, paper)
    st.caption(
        "Bars are 95 % intervals over examples. Grey strokes: the unpruned control."
        + (" Hollow and grey: the paper’s own numbers, of another model." if paper else "")
    )
    table = table_3(comparison, choice.titles, accounting)
    st.subheader("By band", anchor=False)
    st.dataframe(
        table, hide_index=True, height="content", alt="Metric and relative FLOPs by band of length."
    )
    st.caption(_provenance(comparison, choice))
    _paper_table(paper)
    with slot:
        _exports(comparison, choice, figures)


def takeaways(comparison: Comparison, titles: Mapping[str, str]) -> list[str]:
    """What the figures say about the shortest and the longest inputs, a sentence a point."""
    metric = comparison.metric_name.replace("_", " ")
    ends = [n for n, count in enumerate(comparison.counts) if count]
    first, last = ends[0], ends[-1]
    where = [robustness_charts.lengths(comparison.bands[n]) for n in (first, last)]
    where = [f"from {words}" if words[0].isdigit() else words for words in where]
    sentences = []
    for name, title in titles.items():
        cells = [comparison.cells[name][n] for n in (first, last)]
        if first == last or any(cell.metric is None for cell in cells):
            continue
        values = [percent(cell.metric.value) for cell in cells if cell.metric]
        costs = [percent(x.value) for cell in cells if (x := cell.relative_flops.get("paper"))]
        is_pruned = comparison.records[name][0].method != "unpruned" and len(costs) == 2
        cost = f"; relative FLOPs {costs[0]} and {costs[1]}" if is_pruned else ""
        sentences.append(
            f"{title}: {metric} {values[0]} on inputs {where[0]} tokens, {values[1]} {where[1]}{cost}."
        )
    if first != last:
        gaps = _gap(comparison, titles, first, last)
        sentences += [
            f"{pair}: {short} points on inputs {where[0]} tokens, {long} {where[1]}."
            for pair, short, long in gaps
        ]
    return sentences


def _gap(
    comparison: Comparison, titles: Mapping[str, str], short: int, long: int
) -> Iterator[tuple[str, str, str]]:
    """The first point against LAT, else against the second: who, and by how much in two bands."""
    first, *others = titles
    methods = {name: comparison.records[name][0].method for name in others}
    rivals = [name for name, method in methods.items() if method == "lat"] or others
    for other in rivals[:1]:
        try:
            gaps = comparison.difference(first, other)
        except ValueError:
            continue
        yield f"{titles[first]} − {titles[other]}", _signed(gaps[short]), _signed(gaps[long])


def _say_empty(comparison: Comparison) -> None:
    empty = [b.name for b, n in zip(comparison.bands, comparison.counts, strict=True) if not n]
    if empty:
        longest = int(comparison.lengths.max())
        share = float((comparison.lengths == longest).mean())
        st.info(
            f"No example is in {plain(', '.join(empty))}: {percent(share, 0)} of the inputs have the greatest "
            f"length, {longest} tokens, where these runs cut them. Other bands, or runs that read "
            "more, tell these apart.",
            icon=":material/content_cut:",
        )


def _accounting() -> Axis:
    options: dict[Axis, str] = {"paper": "Paper’s accounting", "executed": "Executed"}
    chosen: Axis = st.segmented_control(
        "Relative FLOPs",
        list(options),
        format_func=options.__getitem__,
        default="paper",
        required=True,
        key="robustness.flops",
        bind="query-params",
        help="In the paper’s accounting a token dropped in a layer still costs it the whole attention; "
        "executed is what the packed runner computes.",
    )
    return chosen


def _paper_task(task: str) -> str | None:
    options = [*PAPER_TABLE_3, NONE]
    chosen = st.segmented_control(
        "Paper beside",
        options,
        format_func=lambda name: name if name == NONE else f"{name.upper()}, paper",
        default=task if task in PAPER_TABLE_3 else NONE,
        required=True,
        key=f"robustness.paper.{task}",
        bind="query-params",
        help="Table 3: RoBERTa-base, a larger model. Its figures are drawn hollow.",
    )
    return None if chosen == NONE else chosen


def _charts(
    comparison: Comparison, titles: Mapping[str, str], accounting: Axis, paper: str | None
) -> dict[str, Figure]:
    """Metric and cost side by side; the figures by name, for the exports."""
    bands, figures = band_labels(comparison), {}
    axes: dict[str, Axis] = {comparison.metric_name: "metric", "relative FLOPs": accounting}
    for column, (name, axis) in zip(st.columns(2, gap="large"), axes.items(), strict=True):
        frame = robustness_charts.band_frame(comparison, titles, axis, paper=paper)
        with column:
            if frame.empty:
                st.caption("The size of this model is not known, so its FLOPs cannot be counted.")
                continue
            figures[name] = robustness_charts.band_chart(
                frame, axis, metric=comparison.metric_name, bands=bands
            )
            alt = f"{name} by band of length: {_spoken(frame)}."
            st.vega_lite_chart(spec=figures[name].to_dict(), alt=alt)
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
        costs = [estimate_of(cell, accounting) for cell in cells]
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
        rows.append([f"{titles[first]} − {titles[other]}", "points", *(_signed(g) for g in gaps)])
    return rows


def _bounded(estimate: Estimate | None, sd: float | None) -> str:
    if estimate is None:
        return "–"
    spread = "" if sd is None else f" ± {100 * sd:.1f}"
    bounds = f"[{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"
    return f"{100 * estimate.value:.1f}{spread} {bounds}"


def _signed(gap: Estimate | None) -> str:
    if gap is None:
        return "–"
    value, low, high = (f"{100 * x:+.1f}".replace("-", "−") for x in (gap.value, gap.low, gap.high))
    return f"{value} [{low}, {high}]"


def _provenance(comparison: Comparison, choice: Choice) -> str:
    runs = [run for point in choice.points for run in point.runs]
    seeds = len({run.seed for run in runs})
    rows = len(comparison.lengths)
    return plain(
        f"{choice.experiment.task}/{choice.split}, {counted(rows, 'example')}, "
        f"{counted(len(runs), 'run')}, {counted(seeds, 'seed')}. In brackets 95 % intervals over the "
        "examples; ± is one standard deviation over seeds. Q2 and Q3 are the median and the third "
        "quartile of these inputs’ lengths. The unpruned control needs 100 % of the FLOPs."
    )


def _paper_table(paper: str | None) -> None:
    if paper is None:
        return
    st.markdown(f"**Paper, Table 3** – RoBERTa-base on {paper.upper()}, not measured here")
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
    subject = f"{choice.experiment.task}-{choice.split}"
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
