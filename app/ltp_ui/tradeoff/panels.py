"""The parts of the trade-off page: controls, one chart an experiment, tables, exports."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from app.ltp_ui.runs.data import device
from app.ltp_ui.shared import exports_panel, state
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.labels import task_label, training_label
from app.ltp_ui.shared.method_charts import legend_html, without_legend
from app.ltp_ui.shared.method_style import in_order, title_of
from app.ltp_ui.shared.stored import run_table
from app.ltp_ui.shared.wording import counted, percent
from app.ltp_ui.tradeoff import charts, data, tables
from app.ltp_ui.tradeoff.frame import (
    POINT,
    X_TITLES,
    Y_TITLES,
    View,
    XAxis,
    chart_frame,
    paper_frame,
    with_spread,
)
from ltp_core.analysis.runs import Row, dense_table, recipe_titles, rows
from ltp_core.analysis.tradeoff import PAPER_TABLE_1

ALL_TASKS = "all tasks"
FIRST_TASK = "sst2"
"""Where the page opens, if the store has it."""


def empty() -> None:
    """The state of a store without a pruned run."""
    st.info(
        "There is no run of a pruning method in the store yet. A sweep trains several methods at "
        "several operating points; this shows what it would do:",
        title="Nothing to compare yet",
        icon=":material/inventory_2:",
    )
    st.code("python -m ltp_core sweep sst2 --dry-run", language="bash")


def choose_task(found: pd.DataFrame) -> pd.DataFrame:
    """The points to show: all sets of one task, or the largest set of each."""
    tasks = sorted(dict.fromkeys(found["task"]), key=lambda task: task != FIRST_TASK)
    options = [*tasks, ALL_TASKS] if len(tasks) > 1 else tasks
    # A link has a task's own name, `sst2`; a bound widget would know the labels on screen only.
    names = {task_label(task): task for task in options} | {task: task for task in options}
    given = names.get(st.query_params.get("tradeoff.task", ""))
    if given and "tradeoff.task" not in st.session_state:
        st.session_state["tradeoff.task"] = given
    chosen = st.selectbox(
        "Task",
        options,
        format_func=task_label,
        key="tradeoff.task",
        help="One task shows every set of training rows; all tasks show one set of each, that with the most points.",
        width=190,
    )
    st.query_params["tradeoff.task"] = chosen
    order = data.comparable_sets(found)
    if chosen == ALL_TASKS:
        largest = found.drop_duplicates("comparable").set_index("comparable").loc[order]
        order = largest.reset_index().drop_duplicates("task")["comparable"].tolist()
    else:
        found = found[found["task"] == chosen]
    shown = found[found["comparable"].isin(order)]
    return shown.sort_values("comparable", key=lambda keys: keys.map(order.index), kind="stable")


def choose_view() -> tuple[View, bool]:
    """What lies on the axes, and whether the paper's points have a chart."""
    x: XAxis = st.selectbox(
        "x axis",
        list(X_TITLES),
        format_func=X_TITLES.__getitem__,
        key="tradeoff.x",
        bind="query-params",
        width=290,
    )
    y = st.segmented_control(
        "y axis",
        list(Y_TITLES),
        format_func=Y_TITLES.__getitem__,
        default="difference",
        required=True,
        key="tradeoff.y",
        bind="query-params",
        help="The difference has the 95 % interval of a paired bootstrap over validation examples.",
    )
    with_curves = st.toggle(
        "Curves of one checkpoint",
        value=True,
        key="tradeoff.curves",
        bind="query-params",
        help="Thin lines: one checkpoint at several budgets or strengths, not trained again "
        "(`evaluate --scales … --save`).",
    )
    with_paper = st.toggle(
        "Paper’s points",
        value=True,
        key="tradeoff.paper",
        bind="query-params",
        help="In a chart of their own, because they belong to another model.",
    )
    return View(x=x, y=y, with_curves=with_curves), with_paper


def choose_methods(found: pd.DataFrame) -> list[str]:
    """The methods to draw; none chosen means all."""
    names = in_order(found["method"])
    chosen = st.pills(
        "Methods",
        names,
        format_func=title_of,
        selection_mode="multi",
        key="tradeoff.methods",
        bind="query-params",
        help="Where none is chosen, all are drawn. The sentence and the table do not change.",
    )
    return [name for name in names if name in chosen] or names


def pictures(found: pd.DataFrame, view: View) -> None:
    """A chart for each set of comparable points with one legend above and the same axes.

    Of one task the largest set comes first; the others are smaller, two in a row.
    """
    # Counted in bit operations, models in INT8 and in floating point have one chart.
    one_chart = "experiment" if view.x == "bops" else "comparable"
    sets = [group for _, group in found.groupby(one_chart, sort=False)]
    if view.x == "bops":
        sets.sort(key=lambda group: not group["is_int8"].any())
    with st.spinner("Intervals are computed once", show_time=True):
        frames = [chart_frame(group, view) for group in sets]
    drawn = [
        (group, frame)
        for group, frame in zip(sets, frames, strict=True)
        if (frame["kind"] == POINT).any()
    ]
    if len(drawn) < len(sets):
        st.caption(f"{counted(len(sets) - len(drawn), 'set')} without a {X_TITLES[view.x]}.")
    if not drawn:
        st.caption(f"No run here has a {X_TITLES[view.x]}: choose another x axis.")
        return
    titles = [title_of(m) for m in in_order(found["method"])]
    st.html(legend_html(titles))
    # Of each base model: what a larger one loses would squeeze the others.
    of_base = {
        base: charts.axis_ranges(
            pd.concat([f for g, f in drawn if (g["base"] == base).all()]), view
        )
        for base in {group["base"].iloc[0] for group, _ in drawn}
    }
    if view.x == "bops":
        st.caption(
            "Paper, Figure 7, not measured here: INT8 LTP on RoBERTa-base needs up to 10 times fewer bit "
            "operations than FP16 at less than two points of loss."
        )
    is_one_task = found["task"].nunique() == 1
    if is_one_task:
        (group, frame), *drawn = drawn
        _picture(group, frame, view, height=360, ranges=of_base[group["base"].iloc[0]])
    for start in range(0, len(drawn), 2):
        pair = drawn[start : start + 2]
        # Below titles of one line and of two, the charts stand level.
        columns = st.columns(2, gap="medium", vertical_alignment="bottom")
        for column, (group, frame) in zip(columns, pair, strict=False):
            with column:
                # Metrics of several tasks have no common level; differences and costs have.
                is_shared = is_one_task or view.y == "difference"
                shared = of_base[group["base"].iloc[0]]
                own = shared if is_shared else charts.axis_ranges(frame, view)
                _picture(group, frame, view, height=300, ranges=own)


def _picture(
    found: pd.DataFrame,
    frame: pd.DataFrame,
    view: View,
    *,
    height: int,
    ranges: tuple[charts.Range, charts.Range],
) -> None:
    """One chart with its name above and where its figures come from below."""
    first: Row = rows(found)[0]
    trained = rows(found.sort_values("is_int8"))[0]
    precisions = ", FP16 and INT8" if found["is_int8"].nunique() > 1 else ""
    st.markdown(f"**{task_label(first.task)}** · {plain(training_label(trained))}{precisions}")
    methods = in_order(found["method"])
    chart = charts.tradeoff_chart(
        frame, view, metric=first.metric_name, methods=methods, height=height, ranges=ranges
    )
    event = st.vega_lite_chart(
        spec=without_legend(chart).to_dict(),
        alt=f"{first.metric_name} against FLOPs on {task_label(first.task)}: "
        f"{counted(len(found), 'operating point')} of {', '.join(map(title_of, methods))}.",
        on_select="rerun",
        selection_mode=charts.PICK,
        key=f"tradeoff.chart.{first.comparable}",
    )
    _follow(event)
    with st.popover(
        "Export", icon=":material/download:", key=f"tradeoff.export.{first.comparable}"
    ):
        files = exports_panel.frame_files(tables.points_frame(found))
        subject = f"{first.task}-{first.comparable}"
        pictures = exports_panel.chart_files(chart, width=720)
        exports_panel.row("Accuracy vs FLOPs", subject, files | pictures, key="tradeoff.export")


def papers_picture(task: str | None) -> None:
    """The paper's Table 1 as a chart of its own."""
    figure: Figure = charts.paper_chart(paper_frame(), task)
    st.markdown("**Paper, Table 1** · LTP on RoBERTa-base, not measured here")
    spoken = "; ".join(
        f"{task_label(name)} {100 * each.relative_flops:.0f} % of the FLOPs, "
        f"{100 * each.difference:.1f} points"
        for name, each in PAPER_TABLE_1.items()
    )
    show(figure, alt=f"The paper’s points: {spoken}.")


def _follow(event: object) -> None:
    """A clicked point leads to its run."""
    selection = event.get("selection", {}) if isinstance(event, dict) else {}
    picked = selection.get(charts.PICK) or []
    name = picked[0].get("run") if picked else None
    if isinstance(name, str):
        st.switch_page(state.RUNS, query_params={"run": name})


def smallest_section(found: pd.DataFrame) -> None:
    """The table that the sentence at the top is from."""
    st.header("Smallest FLOPs within one point of the dense model", anchor=False)
    is_one_task = found["task"].nunique() == 1
    table = tables.smallest_table(found) if is_one_task else tables.tasks_table(found)
    alt = "Relative FLOPs of the cheapest run within one point, by method."
    st.table(table, hide_index=True, border="horizontal", alt=alt)
    st.caption(
        "**Held-out rule**: for each method the cheapest point that is at most one point below its dense "
        "counterpart on held-out training rows; its FLOPs and its difference are those on validation, "
        "where it may lie lower. In hindsight: the cheapest within one point on validation itself, which "
        "flatters. FLOPs in the paper’s accounting; brackets are 95 % intervals over examples."
    )


def sources(found: pd.DataFrame, view: View) -> None:
    """What stands behind the charts: rows, seeds, dense counterparts, base, devices."""
    runs = run_table()
    for _, group in found.groupby("comparable", sort=False):
        first: Row = rows(group)[0]
        names = [name for each in group["runs"] for name in each]
        titles = recipe_titles(group)
        dense = [
            f"dense counterpart{f' ({title})' if (title := titles.get(str(each.recipe))) else ''} "
            f"{with_spread(each.mean, each.sd)}, {counted(int(each.count), 'seed')}"
            for each in rows(dense_table(run_table(), group))
        ]
        parts = [
            f"{task_label(first.task)}, {training_label(first)}: {counted(len(names), 'run')}, "
            f"{counted(len({seed for each in group['seeds'] for seed in each}), 'seed')}",
            *dense,
            f"{int(first.rows_validation):,} validation rows",
            f"base {first.base.rpartition('/')[2]}",
            ", ".join(sorted({device(runs["manifest"][name]) for name in names})),
        ]
        st.caption(plain(" · ".join(parts)))
        if stuck := [point for point in rows(group) if not point.converged]:
            named = ", ".join(
                f"{title_of(point.method)} at {percent(point.paper_validation)}" for point in stuck
            )
            st.caption(f"Did not converge, policies let in all tokens or none: {named}.")
    bars = (
        "paired 95 % intervals over examples; with several seeds the mean of their bounds"
        if view.y == "difference"
        else "± one standard deviation over seeds"
    )
    st.caption(
        f"Bars: {bars}. Grey: on held-out rows another point of the same method is no worse and needs no "
        "more FLOPs. A click on a point opens its run."
    )


def how_computed() -> None:
    """Rules of the page."""
    st.markdown(
        """
- **Row**: runs of one configuration, mean over seeds. **Line**: the points of a method that no other
  one of it beats on held-out rows. Points that have another dense counterpart, because they were trained
  for longer or otherwise, have a line of their own.
- **Relative FLOPs**: sums over the data set, divided by those of the model without pruning and without
  padding. *Paper’s accounting*: a token dropped in a layer still costs it the whole attention.
  *Executed*: what the packed runner computes.
- **Bit operations**: FLOPs weighted with the bits of both factors, relative to the model without pruning in
  FP16. In INT8 the linear maps count 8 × 8 bits, attention’s own products 16 × 16. The paper’s Figure 7
  has up to ten times fewer at less than two points, of RoBERTa-base.
- **Dense counterpart**: nothing pruned, in floating point, same data, same epochs, same distillation, same seed.
- **Held-out rows** are training rows that no training saw; everything that is chosen is chosen on them.
  Validation is only reported. Tasks, methods and axes can be switched without changing any choice.
- **Measured speed-up**: throughput against the same weights unpruned, padding removed in both, from the
  newest stored benchmark of the run at its largest batch.
- **Paper**: Kim et al., KDD 2022, Table 1: RoBERTa-base, the smallest FLOPs within 1 % of its baseline.
  Runs here start from a smaller model, so levels do not compare; fractions of FLOPs and differences do.
"""
    )
