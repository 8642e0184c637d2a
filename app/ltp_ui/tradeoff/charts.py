"""The trade-off chart: rows in, Vega-Lite out, no Streamlit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd

from app.ltp_ui.shared.charts import Figure, legend_height, method_legend, without_data
from app.ltp_ui.shared.method_style import KNOWN, MethodStyle, style_of
from app.ltp_ui.tradeoff.frame import CURVE, DENSE, FRONT, PAPER, POINT, RULE, SIDES, X_TITLES, View

PICK = "pick"
"""Name of the selection: a click on a point or a curve."""

Range = tuple[float, float]

USUAL_LINES = 2
"""Of the legend; each further one makes the chart higher."""

MUTED, BEATEN = "gray", "#9aa1ac"
PERCENT = "format(100 * datum.value, '.3~f') + ' %'"
SIGNED_POINTS = "replace(format(100 * datum.value, '+.3~f'), '+0', '0')"
TOOLTIP = {
    "method": "method",
    "about": "metric",
    "cost": "relative FLOPs",
    "seeds": "seeds",
    "run": "run",
}


def tradeoff_chart(
    frame: pd.DataFrame, view: View, *, metric: str, methods: Sequence[str], height: int = 420
) -> Figure:
    """A chart of one experiment.

    Args:
        frame: Rows of `chart_frame`.
        view: How they were laid out.
        metric: Name of the headline metric.
        methods: Names of the methods that have a place in the legend, in its order.
        height: Of the chart with a legend of `USUAL_LINES`, in pixels.
    """
    ranges = _x_range(frame, view), _y_range(frame)
    spec = _spec(view, metric.replace("_", " "), tuple(methods), ranges)
    return Figure(
        spec=spec | {"height": height + legend_height(methods[USUAL_LINES:])},
        frame=frame.astype(object).where(frame.notna(), None),
    )


def _x_range(frame: pd.DataFrame, view: View) -> Range:
    """Fractions from a round one below the smallest to the whole; other units with some margin."""
    ends = frame[["x", "x_low", "x_high"]].to_numpy(dtype=float)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    if view.is_relative:
        return max(0.0, math.floor(10 * low - 0.5) / 10), max(1.04, high + 0.04)
    margin = 0.08 * (high - low) or 0.2 * abs(high) or 1.0
    return low - margin, high + margin


def _y_range(frame: pd.DataFrame) -> Range:
    """Everything with some margin, at least three points high."""
    ends = frame[["y", "y_low", "y_high"]].to_numpy(dtype=float)
    low, high = float(np.nanmin(ends)), float(np.nanmax(ends))
    margin = max(0.08 * (high - low), (0.03 - (high - low)) / 2)
    return low - margin, high + margin


@cache
def _spec(
    view: View, metric: str, methods: tuple[str, ...], ranges: tuple[Range, Range]
) -> dict[str, Any]:
    """The specification without data, which the caller adds."""
    base = alt.Chart(alt.NamedData("table"))
    x, y = _x(view, ranges[0]), _y(view, metric, ranges[1])
    tooltip = [alt.Tooltip(f"{name}:N", title=title) for name, title in TOOLTIP.items()]
    layers = [
        *_rules(base, y),
        *_curves(base, x, y, tooltip, methods),
        *_bars(base, x, y, methods),
        *_points(base, x, y, tooltip, methods),
        *_paper(base, x, y),
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
        title, axis = f"{metric}, points above the dense counterpart", SIGNED_POINTS
    else:
        title, axis = metric, PERCENT
    return alt.Y(
        "y:Q",
        title=title,
        scale=_scale(ends),
        axis=alt.Axis(labelExpr=axis, tickCount=7),
    )


def _rules(base: alt.Chart, y: alt.Y) -> list[alt.Chart]:
    """The dense counterpart, and dashed one point below it, named above its left or below its right end."""
    rules = base.transform_filter(f"datum.kind == '{RULE}'")
    is_dense = f"datum.about == '{DENSE}'"
    dash = alt.condition(is_dense, alt.value([1, 0]), alt.value([5, 4]))
    lines = rules.mark_rule(color=MUTED, strokeWidth=1.3).encode(y=y, strokeDash=dash)
    left, right = (rules.transform_filter(f"datum.side == '{side}'") for side in SIDES)
    text = alt.Text("text:N")
    return [
        lines,
        left.mark_text(
            align="left", baseline="bottom", dx=4, dy=-2, color=MUTED, fontSize=12
        ).encode(y=y, x=alt.value(0), text=text),
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
        color=_color(methods), detail="series:N"
    )
    dots = rows.mark_point(size=14, filled=True, opacity=0.8).encode(
        x=x, y=y, color=_color(methods), tooltip=tooltip
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
    upright = rows.mark_rule(strokeWidth=1.4, opacity=0.7).encode(
        x=x, y=alt.Y("y_low:Q"), y2="y_high:Q", color=_standing_color(methods)
    )
    level = rows.mark_rule(strokeWidth=1.4, opacity=0.7).encode(
        y=y, x=alt.X("x_low:Q"), x2="x_high:Q", color=_standing_color(methods)
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
        color=_color(methods), strokeDash=_dash(methods), detail="recipe:N"
    )
    markers = (
        rows.mark_point(size=110, filled=True, opacity=1, cursor="pointer")
        .encode(x=x, y=y, color=_standing_color(methods), shape=_shape(methods), tooltip=tooltip)
        .add_params(pick)
    )
    names = rows.mark_text(align="left", baseline="top", dx=6, dy=6, fontSize=12, color=MUTED)
    return [line, markers, names.encode(x=x, y=y, text="text:N")]


def _paper(base: alt.Chart, x: alt.X, y: alt.Y) -> list[alt.Chart]:
    """Hollow and grey, with the word "paper": not measured here."""
    rows = base.transform_filter(f"datum.kind == '{PAPER}'")
    tooltip = [
        alt.Tooltip(f"{name}:N", title=title)
        for name, title in {"text": "point", "about": "metric", "cost": "FLOPs"}.items()
    ]
    markers = rows.mark_point(
        size=130, filled=False, shape="circle", stroke=MUTED, strokeWidth=2, opacity=1
    )
    names = rows.mark_text(align="center", baseline="bottom", dy=-9, color=MUTED, fontSize=12)
    return [
        markers.encode(x=x, y=y, tooltip=tooltip),
        names.encode(x=x, y=y, text="text:N"),
    ]


def _color(methods: tuple[str, ...]) -> alt.Color:
    scale = alt.Scale(domain=[style.title for style in _places(methods)])
    return alt.Color(
        "method:N", scale=scale, legend=method_legend([style_of(name).title for name in methods])
    )


def _standing_color(methods: tuple[str, ...]) -> Any:
    """Grey for a point that another one beats."""
    is_front = f"datum.standing == '{FRONT}'"
    return alt.condition(is_front, _color(methods), alt.value(BEATEN))


def _shape(methods: tuple[str, ...]) -> alt.Shape:
    places = _places(methods)
    scale = alt.Scale(domain=[s.title for s in places], range=[s.shape for s in places])
    return alt.Shape(
        "method:N", scale=scale, legend=method_legend([style_of(name).title for name in methods])
    )


def _dash(methods: tuple[str, ...]) -> alt.StrokeDash:
    places = _places(methods)
    scale = alt.Scale(domain=[s.title for s in places], range=[list(s.dash) for s in places])
    return alt.StrokeDash("line:N", scale=scale, legend=None)


def _places(methods: tuple[str, ...]) -> list[MethodStyle]:
    """Every known method keeps its colour, whichever are on the chart."""
    return [style_of(name) for name in dict.fromkeys((*KNOWN, *methods))]
