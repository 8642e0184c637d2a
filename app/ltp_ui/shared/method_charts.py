"""Methods in charts of stored runs: one colour, marker and dash each, and one legend a page."""

from __future__ import annotations

from collections.abc import Sequence

import altair as alt
import pandas as pd

from app.ltp_ui.shared.charts import Figure, method_legend, without_data
from app.ltp_ui.shared.method_style import KNOWN, MethodStyle, style_of

MUTED = "gray"
PERCENT = "format(100 * datum.value, '.3~f') + ' %'"
SIGNED_POINTS = "replace(format(100 * datum.value, '+.3~f'), '+0', '0')"


def method_color(titles: Sequence[str]) -> alt.Color:
    """Every known method keeps its place in the theme's list, whichever are on the chart."""
    scale = alt.Scale(domain=[style.title for style in _styles(titles)])
    return alt.Color("method:N", scale=scale, legend=method_legend(titles))


def method_shape(titles: Sequence[str]) -> alt.Shape:
    """The marker of each method."""
    styles = _styles(titles)
    scale = alt.Scale(domain=[s.title for s in styles], range=[s.shape for s in styles])
    return alt.Shape("method:N", scale=scale, legend=method_legend(titles))


def method_dash(field: str, titles: Sequence[str]) -> alt.StrokeDash:
    """The dash of each method's line."""
    styles = _styles(titles)
    scale = alt.Scale(domain=[s.title for s in styles], range=[list(s.dash) for s in styles])
    return alt.StrokeDash(f"{field}:N", scale=scale, legend=None)


def _styles(titles: Sequence[str]) -> list[MethodStyle]:
    known = {style.title: style for style in KNOWN.values()}
    return [known.get(title) or style_of(title) for title in dict.fromkeys((*known, *titles))]


def legend_chart(titles: Sequence[str]) -> Figure:
    """Nothing but the legend, for several charts below it."""
    marks = alt.Chart(alt.NamedData("table")).mark_point(size=0, opacity=0)
    both = marks.encode(color=method_color(titles), shape=method_shape(titles))
    return Figure(spec=without_data(both) | {"height": 1}, frame=pd.DataFrame({"method": titles}))


def without_legend(figure: Figure) -> Figure:
    """The chart as it stands below `legend_chart`; an export has its own legend."""
    config = {"legend": {"disable": True}}
    return Figure(spec=figure.spec | {"config": config}, frame=figure.frame)
