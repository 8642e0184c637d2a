"""Questions with and without an answer, apart: F1 against FLOPs (the paper's Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app.ltp_ui.shared import exports_panel
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.charts import Figure, legend_height, without_data
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.method_style import in_order, style_of, title_of
from app.ltp_ui.shared.stored import run_table
from app.ltp_ui.shared.wording import counted, percent
from app.ltp_ui.shared.wording import points as in_points
from ltp_core.analysis.runs import UNPRUNED, recipe_titles
from ltp_core.analysis.tradeoff import answer_groups, share_unanswerable
from ltp_core.records import UserError

PERCENT = "format(100 * datum.value, '.3~f') + ' %'"
INK = "gray"

STYLES = {
    "all": ("#7b7f87", "M0,-1L0.87,-0.5L0.87,0.5L0,1L-0.87,0.5L-0.87,-0.5Z"),
    "has answer": (
        "#8a63d2",
        "M0,-1L0.26,-0.36L0.95,-0.31L0.43,0.14L0.59,0.81L0,0.45L-0.59,0.81L-0.43,0.14"
        "L-0.95,-0.31L-0.26,-0.36Z",
    ),
    "no answer": (
        "#7f8400",
        "M-0.6,-1L0,-0.4L0.6,-1L1,-0.6L0.4,0L1,0.6L0.6,1L0,0.4L-0.6,1L-1,0.6L-0.4,0L-1,-0.6Z",
    ),
}
"""Colour, on light and dark alike, and marker of each group: hexagon, star and X, no method's."""


def answers_section(found: pd.DataFrame) -> None:
    """Draws the groups where the points on screen have any; else nothing."""
    for task, mine in found.groupby("task"):
        groups = answer_groups(mine, run_table())
        if groups.empty:
            continue
        st.header(f"{task_label(str(task))}: questions with and without an answer", anchor=False)
        for method in in_order(set(groups["method"]) - {UNPRUNED}):
            st.markdown(observation(method, groups))
        chart = groups_chart(groups, recipe_titles(mine))
        show(chart, alt="F1 by group of questions against relative FLOPs.")
        _exports(chart, str(task))
        if never := never_answering(mine):
            st.markdown(never)
        st.caption(
            "The paper reports for SQuAD 2.0 that with more pruning F1 falls on questions with an answer "
            "and rises on those without (Figure 5). At 100 % stands the dense counterpart: every line "
            "ends at its own. Points that are grey above are left out."
        )


def observation(method: str, groups: pd.DataFrame) -> str:
    """What the strongest pruning of a method does to both groups, and whether the paper saw the same."""
    own = groups[groups["method"] == method]
    cheapest = own["relative_flops"].min()
    strongest = own[own["relative_flops"] == cheapest].set_index("group")["difference"]
    with_answer, without = (strongest.get(name) for name in ("has answer", "no answer"))
    title = title_of(method)
    if pd.isna(with_answer) or pd.isna(without):
        return f"**{title}**: one of the two groups has no dense counterpart to compare with."
    same = with_answer < 0 < without
    return (
        f"**{title}** at {100 * cheapest:.0f} % of the FLOPs: {in_points(with_answer)} of F1 with an "
        f"answer, {in_points(without)} without, against the dense counterpart: "
        f"{'as' if same else 'not as'} in the paper."
    )


def never_answering(found: pd.DataFrame) -> str:
    """What never answering reaches on the same rows; empty where no run's records can be read."""
    first = found.iloc[0]
    try:
        share = share_unanswerable(first["folder"])
    except UserError:
        return ""
    rows = counted(int(first["rows_validation"]), "validation question")
    return (
        f"{percent(share)} of these {rows} have no answer: a model that never answers would reach "
        f"an F1 of {percent(share)} on all, 0 % and 100 % on the two groups."
    )


def _exports(chart: Figure, task: str) -> None:
    table, pictures = exports_panel.frame_files(exported(chart)), exports_panel.chart_files(chart)
    with st.popover("Export", icon=":material/download:", key=f"tradeoff.export.answers.{task}"):
        exports_panel.row("F1 by group", task, table | pictures, key="tradeoff.export")


def exported(chart: Figure) -> pd.DataFrame:
    """The rows of the chart, each once: a dense counterpart ends several lines."""
    columns = {"x": "relative_flops_paper", "y": "f1"}
    frame = chart.frame.rename(columns=columns).drop(columns=["line", "recipe"])
    return frame.drop_duplicates(ignore_index=True)


def groups_chart(groups: pd.DataFrame, recipes: dict[str, str]) -> Figure:
    """Lines of F1 by group; every method's line of one recipe ends at its dense counterpart.

    Args:
        groups: Rows of `answer_groups`.
        recipes: Title of each recipe; empty where there is only one.
    """
    training = groups["recipe"].map(lambda recipe: recipes.get(recipe, ""))
    method = groups["method"].map(title_of)
    frame = pd.DataFrame(
        {
            "x": groups["relative_flops"],
            "y": groups["f1"],
            "questions": groups["group"],
            "method": method,
            "training": training,
            "line": (method + ", " + training).where(training != "", method),
            "recipe": groups["recipe"],
        }
    )
    is_dense = groups["method"] == UNPRUNED
    # The method's dash; of a further recipe with dots between.
    dashes: dict[str, list[int]] = {}
    for name in in_order(set(groups["method"]) - {UNPRUNED}):
        stroke, gap = style_of(name).dash
        for number, line in enumerate(dict.fromkeys(frame.loc[groups["method"] == name, "line"])):
            dashes[line] = [stroke, gap] if number == 0 else [max(stroke, 8), 3, *[2, 3] * number]
    pruned, dense = frame[~is_dense], frame[is_dense]
    lines = pruned[["line", "recipe"]].drop_duplicates()
    ends = lines.merge(dense.drop(columns="line"), on="recipe")
    spec = _spec(dashes) | {"height": 420 + legend_height(list(dashes))}
    return Figure(spec=spec, frame=pd.concat([pruned, ends], ignore_index=True))


def _spec(dashes: dict[str, list[int]]) -> dict[str, Any]:
    axis = alt.Axis(labelExpr=PERCENT)
    scale = alt.Scale(zero=False)
    names, colors, shapes = list(STYLES), *zip(*STYLES.values(), strict=True)
    base = alt.Chart(alt.NamedData("table")).encode(
        x=alt.X("x:Q", title="relative FLOPs, paper’s accounting", axis=axis, scale=scale),
        y=alt.Y("y:Q", title="F1", axis=axis, scale=scale),
        color=_questions(alt.Color, names, colors),
        tooltip=[
            "method:N",
            "training:N",
            "questions:N",
            alt.Tooltip("x:Q", format=".1%", title="relative FLOPs"),
            alt.Tooltip("y:Q", format=".1%", title="F1"),
        ],
    )
    lines = base.mark_line().encode(strokeDash=_dash(dashes))
    markers = base.mark_point(size=90, filled=True, opacity=1).encode(
        shape=_questions(alt.Shape, names, shapes)
    )
    return without_data(alt.layer(lines, markers))


def _questions(channel: Any, names: Sequence[str], styles: Sequence[str]) -> Any:
    """Colour or marker by group, with one legend for both."""
    legend = alt.Legend(title="questions", orient="top", symbolSize=140, symbolOpacity=1)
    scale = alt.Scale(domain=list(names), range=list(styles))
    return channel("questions:N", scale=scale, legend=legend)


def _dash(dashes: dict[str, list[int]]) -> alt.StrokeDash:
    legend = alt.Legend(
        title=None,
        orient="bottom",
        columns=1,
        labelLimit=280,
        symbolType="stroke",
        symbolSize=900,
        symbolStrokeWidth=2.5,
        symbolStrokeColor=INK,
        symbolFillColor="transparent",
    )
    scale = alt.Scale(domain=list(dashes), range=list(dashes.values()))
    return alt.StrokeDash("line:N", scale=scale, legend=legend)
