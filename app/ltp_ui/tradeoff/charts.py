"""The trade-off chart: rows in, Vega-Lite out, no Streamlit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from app.ltp_ui.shared.charts import Figure, without_data
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.method_charts import (
    MUTED,
    PERCENT,
    SIGNED_POINTS,
    method_color,
    method_dash,
    method_shape,
)
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.tradeoff.frame import CURVE, DENSE, FRONT, POINT, RULE, SIDES, X_TITLES, View

PICK = "pick"
"""Name of the selection: a click on a point or a curve."""

Range = tuple[float, float]

BEATEN = "#9aa1ac"
PAPER_TOOLTIP = {"label": "task", "about": "LTP, paper", "cost": "FLOPs, paper"}
TOOLTIP = {
    "method": "method",
    "about": "metric",
    "cost": "relative FLOPs",
    "seeds": "seeds",
    "run": "run",
}


def tradeoff_chart(
    frame: pd.DataFrame,
    view: View,
    *,
    metric: str,
    methods: Sequence[str],
    height: int = 420,
    ranges: tuple[Range, Range] | None = None,
) -> Figure:
    """A chart of comparable points.

    Args:
        frame: Rows of `chart_frame`.
        view: How they were laid out.
        metric: Name of the headline metric.
        methods: Names of the methods that have a place in the legend, in its order.
        height: Of the plot without the legend, in pixels.
        ranges: Of both axes, the same for charts side by side.
    """
    ends = ranges or axis_ranges(frame, view)
    titles = tuple(title_of(name) for name in methods)
    has_curves = bool((frame["kind"] == CURVE).any())
    spec = _spec(view, metric.replace("_", " "), titles, ends, has_curves=has_curves)
    return Figure(
        spec=spec | {"height": height}, frame=frame.astype(object).where(frame.notna(), None)
    )


def axis_ranges(frame: pd.DataFrame, view: View) -> tuple[Range, Range]:
    """Ends of both axes. Fractions go from a round one to the whole; else there is some margin."""
    (low, high), (bottom, top) = (
        (float(np.nanmin(ends)), float(np.nanmax(ends)))
        for ends in (frame[[a, f"{a}_low", f"{a}_high"]].to_numpy(dtype=float) for a in "xy")
    )
    if view.is_relative:
        x = max(0.0, math.floor(10 * low - 0.5) / 10), max(1.04, high + 0.04)
    else:
        margin = 0.08 * (high - low) or 0.2 * abs(high) or 1.0
        x = low - margin, high + margin
    # At least three points high, so that noise does not look like a difference.
    margin = max(0.08 * (top - bottom), (0.03 - (top - bottom)) / 2)
    return x, (bottom - margin, top + margin)


def paper_chart(frame: pd.DataFrame, task: str | None, *, height: int = 220) -> Figure:
    """The paper's points, hollow: not measured here.

    Args:
        frame: Rows of `paper_frame`.
        task: Its point is drawn darker; None for none.
        height: In pixels.
    """
    frame = frame.assign(label=frame["task"].map(task_label), is_own=frame["task"] == task)
    base = alt.Chart(alt.NamedData("table")).encode(
        x=_x(View(), (0.4, 0.6)),
        y=alt.Y(
            "y:Q",
            title="LTP − baseline, points",
            scale=_scale((-0.0125, 0.0025)),
            axis=alt.Axis(labelExpr=SIGNED_POINTS, tickCount=5),
        ),
    )
    tooltip = [alt.Tooltip(f"{n}:N", title=t) for n, t in PAPER_TOOLTIP.items()]
    markers = base.mark_point(size=110, filled=False, shape="circle", stroke=MUTED).encode(
        strokeWidth=alt.condition("datum.is_own", alt.value(3.5), alt.value(1.5)), tooltip=tooltip
    )
    names = base.mark_text(align="left", dx=9, color=MUTED, fontSize=12).encode(text="label:N")
    return Figure(spec=without_data(alt.layer(markers, names)) | {"height": height}, frame=frame)


@cache
def _spec(
    view: View,
    metric: str,
    methods: tuple[str, ...],
    ranges: tuple[Range, Range],
    *,
    has_curves: bool,
) -> dict[str, Any]:
    """The specification without data, which the caller adds."""
    base = alt.Chart(alt.NamedData("table"))
    x, y = _x(view, ranges[0]), _y(view, metric, ranges[1])
    tooltip = [alt.Tooltip(f"{name}:N", title=title) for name, title in TOOLTIP.items()]
    layers = [
        *_rules(base, y),
        # A layer without a mark would be read out as a picture without a name.
        *(_curves(base, x, y, tooltip, methods) if has_curves else ()),
        *_bars(base, x, y, methods),
        *_points(base, x, y, tooltip, methods),
    ]
    return without_data(alt.layer(*layers))


def _x(view: View, ends: Range) -> alt.X:
    axis = (
        alt.Axis(labelExpr=PERCENT, labelFlush=False) if view.is_relative else alt.Axis(format="~g")
    )
    return alt.X("x:Q", title=X_TITLES[view.x], scale=_scale(ends), axis=axis)


def _scale(ends: Range) -> alt.Scale:
    return alt.Scale(domain=list(ends), nice=False, zero=False)


def _y(view: View, metric: str, ends: Range) -> alt.Y:
    if view.y == "difference":
        title, axis = f"{metric}, points against dense", SIGNED_POINTS
    else:
        title, axis = metric, PERCENT
    return alt.Y(
        "y:Q",
        title=title,
        scale=_scale(ends),
        axis=alt.Axis(labelExpr=axis, tickCount=7),
    )


def _rules(base: alt.Chart, y: alt.Y) -> list[alt.Chart]:
    """The dense counterpart, and dashed one point below it; names at the left or the right end."""
    rules = base.transform_filter(f"datum.kind == '{RULE}'")
    is_dense = f"datum.about == '{DENSE}'"
    dash = alt.condition(is_dense, alt.value([1, 0]), alt.value([5, 4]))
    lines = rules.mark_rule(color=MUTED, strokeWidth=1.3).encode(y=y, strokeDash=dash)
    left, right = (rules.transform_filter(f"datum.side == '{side}'") for side in SIDES)
    above, below = left.transform_filter(is_dense), left.transform_filter(f"!({is_dense})")
    text = alt.Text("text:N")
    return [
        lines,
        above.mark_text(
            align="left", baseline="bottom", dx=4, dy=-2, color=MUTED, fontSize=12
        ).encode(y=y, x=alt.value(0), text=text),
        below.mark_text(align="left", baseline="top", dx=4, dy=4, color=MUTED, fontSize=12).encode(
            y=y, x=alt.value(0), text=text
        ),
        right.mark_text(
            align="right", baseline="top", dx=-4, dy=4, color=MUTED, fontSize=12
        ).encode(y=y, x=alt.value("width"), text=text),
    ]


def _curves(
    base: alt.Chart, x: alt.X, y: alt.Y, tooltip: list[alt.Tooltip], methods: tuple[str, ...]
) -> list[alt.Chart]:
    """Thin lines through what was not retrained, each with its name at its cheapest end."""
    rows = base.transform_filter(f"datum.kind == '{CURVE}'")
    line = _left_to_right(rows.mark_line(strokeWidth=1, opacity=0.8), x, y).encode(
        color=method_color(methods), detail="series:N"
    )
    dots = rows.mark_point(size=14, filled=True, opacity=0.8).encode(
        x=x, y=y, color=method_color(methods), tooltip=tooltip
    )
    ends = rows.transform_window(
        rank="rank()", sort=[alt.SortField("x")], groupby=["series"]
    ).transform_filter("datum.rank == 1")
    names = ends.mark_text(align="left", baseline="top", dx=2, dy=5, fontSize=11, color=MUTED)
    return [line, dots, names.encode(x=x, y=y, text="text:N")]


def _left_to_right(chart: alt.Chart, x: alt.X, y: alt.Y) -> alt.Chart:
    """A line that is drawn from left to right."""
    return chart.encode(x=x, y=y, order=alt.Order("x:Q"))


def _bars(base: alt.Chart, x: alt.X, y: alt.Y, methods: tuple[str, ...]) -> list[alt.Chart]:
    """Spread to both sides, or the interval."""
    rows = base.transform_filter(f"datum.kind == '{POINT}'")
    # Those of beaten points are fainter, for there are many.
    opacity = alt.condition(f"datum.standing == '{FRONT}'", alt.value(0.75), alt.value(0.3))
    upright = rows.mark_rule(strokeWidth=1.4).encode(
        x=x, y=alt.Y("y_low:Q"), y2="y_high:Q", color=_standing_color(methods), opacity=opacity
    )
    level = rows.mark_rule(strokeWidth=1.4).encode(
        y=y, x=alt.X("x_low:Q"), x2="x_high:Q", color=_standing_color(methods), opacity=opacity
    )
    return [upright, level]


def _points(
    base: alt.Chart, x: alt.X, y: alt.Y, tooltip: list[alt.Tooltip], methods: tuple[str, ...]
) -> list[alt.Chart]:
    """Markers, and a line through the front of each recipe; several recipes have their names."""
    rows = base.transform_filter(f"datum.kind == '{POINT}'")
    # A field of its own: with that of the colour, dashes would get into the legend's markers.
    front = rows.transform_filter(f"datum.standing == '{FRONT}'").transform_calculate(
        line="datum.method"
    )
    pick = alt.selection_point(name=PICK, fields=["run"], on="click", empty=False)
    line = _left_to_right(front.mark_line(strokeWidth=2.2), x, y).encode(
        color=method_color(methods), strokeDash=method_dash("line", methods), detail="recipe:N"
    )
    markers = (
        rows.mark_point(size=110, filled=True, opacity=1, cursor="pointer")
        .encode(
            x=x, y=y, color=_standing_color(methods), shape=method_shape(methods), tooltip=tooltip
        )
        .add_params(pick)
    )
    names = rows.mark_text(align="left", baseline="top", dx=6, dy=6, fontSize=12, color=MUTED)
    return [line, markers, names.encode(x=x, y=y, text="text:N")]


def _standing_color(methods: tuple[str, ...]) -> Any:
    """Grey for a point that another one beats."""
    is_front = f"datum.standing == '{FRONT}'"
    return alt.condition(is_front, method_color(methods), alt.value(BEATEN))
