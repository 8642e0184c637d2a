"""Questions with and without an answer, apart: F1 against FLOPs (the paper's Figure 5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd
import streamlit as st

from app.ltp_ui.blocks import show
from app.ltp_ui.charts import Figure
from app.ltp_ui.wording import points as in_points
from ltp_core.analysis.answer_groups import GROUPS, GroupPoint, group_points
from ltp_core.analysis.tradeoff import Point

PERCENT = "format(100 * datum.value, '.3~f') + ' %'"


def answers_section(found: Sequence[Point]) -> None:
    """Draws the groups where the points on screen have any; else nothing."""
    for task in sorted({point.experiment.task for point in found}):
        groups = group_points([point for point in found if point.experiment.task == task])
        if not groups:
            continue
        st.subheader(f"{task}: questions with and without an answer", anchor=False)
        show(groups_chart(groups), alt="F1 by group of questions against relative FLOPs.")
        for method in sorted({each.method for each in groups} - {"unpruned"}):
            st.markdown(observation(method, groups))
        st.caption(
            "The paper reports for SQuAD 2.0 that with more pruning F1 falls on questions with an answer "
            "and rises on those without (Figure 5). At 100 % stands the dense counterpart."
        )


def observation(method: str, groups: Sequence[GroupPoint]) -> str:
    """What the strongest pruning of a method does to both groups, and whether the paper saw the same."""
    own = [each for each in groups if each.method == method]
    cheapest = min(each.relative_flops for each in own)
    gaps = {each.group: each.difference for each in own if each.relative_flops == cheapest}
    with_answer, without = (gaps.get(name) for name in ("has answer", "no answer"))
    if with_answer is None or without is None:
        return f"**{method}**: not both groups have a dense counterpart to compare with."
    same = with_answer < 0 < without
    return (
        f"**{method}** at {100 * cheapest:.0f} % of the FLOPs: {in_points(with_answer)} of F1 with an "
        f"answer, {in_points(without)} without, against the dense counterpart: "
        f"{'as' if same else 'not as'} in the paper."
    )


def groups_chart(groups: Sequence[GroupPoint]) -> Figure:
    """Lines of F1 by group, one style a method."""
    frame = pd.DataFrame(
        [
            {"x": each.relative_flops, "y": each.f1, "questions": each.group, "method": each.method}
            for each in groups
        ]
    )
    dense = frame[frame["method"] == "unpruned"]
    methods = sorted(set(frame["method"]) - {"unpruned"})
    # Every method's line ends at the dense counterpart.
    ends = [dense.assign(method=method) for method in methods]
    return Figure(spec=_spec(), frame=pd.concat([frame[frame["method"] != "unpruned"], *ends]))


def _spec() -> dict[str, Any]:
    axis = alt.Axis(labelExpr=PERCENT)
    scale = alt.Scale(zero=False)
    base = alt.Chart(pd.DataFrame()).encode(
        x=alt.X("x:Q", title="relative FLOPs, paper's accounting", axis=axis, scale=scale),
        y=alt.Y("y:Q", title="F1", axis=axis, scale=scale),
        color=alt.Color("questions:N", sort=list(GROUPS.values())),
        strokeDash=alt.StrokeDash("method:N"),
        shape=alt.Shape("questions:N", sort=list(GROUPS.values())),
        tooltip=[
            "method:N",
            "questions:N",
            alt.Tooltip("x:Q", format=".1%"),
            alt.Tooltip("y:Q", format=".1%"),
        ],
    )
    spec: dict[str, Any] = alt.layer(
        base.mark_line().encode(shape=alt.value("circle")), base.mark_point(size=70, filled=True)
    ).to_dict()
    for key in ("data", "datasets", "config"):
        spec.pop(key, None)
    for layer in spec["layer"]:
        layer.pop("data", None)
    return spec | {"height": 320}
