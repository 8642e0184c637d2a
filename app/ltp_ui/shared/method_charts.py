"""Methods in charts of stored runs: one colour, marker and dash each, and one legend a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import altair as alt

from app.ltp_ui.shared.charts import Figure, method_legend
from app.ltp_ui.shared.method_style import (
    DARK_COLORS,
    KNOWN,
    LIGHT_COLORS,
    STAR,
    MethodStyle,
    style_of,
)

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


def legend_html(titles: Sequence[str]) -> str:
    """The methods with their markers in one line, or as many as a phone needs; for charts below it."""
    styles = {style.title: style for style in _styles(titles)}
    colors = dict(zip(styles, zip(LIGHT_COLORS, DARK_COLORS, strict=True), strict=False))
    entries = "".join(
        f'<span><b aria-hidden="true" style="color:light-dark({light},{dark})">'
        f"{_GLYPHS.get(styles[title].shape, '━')}</b> {escape(title)}</span>"
        for title in titles
        for light, dark in [colors.get(title, (MUTED, MUTED))]
    )
    style = "display:flex;flex-wrap:wrap;gap:4px 18px;font-size:14px;margin:0"
    return f'<p style="{style}">{entries}</p>'


_GLYPHS = {
    "circle": "●",
    "square": "■",
    "triangle-up": "▲",
    "triangle-down": "▼",
    "triangle-left": "◄",
    "triangle-right": "►",
    "diamond": "◆",
    "cross": "✚",
    STAR: "★",
}
"""Vega's markers as signs of text that are no emoji: Streamlit lets no drawing through."""


def without_legend(figure: Figure) -> Figure:
    """The chart as it stands below `legend_html`; an export has its own legend."""
    return Figure(spec=_stripped(figure.spec), frame=figure.frame)


def _stripped(part: Any) -> Any:
    """A specification in which no channel has a legend."""
    if isinstance(part, dict):
        return {name: None if name == "legend" else _stripped(x) for name, x in part.items()}
    return [_stripped(each) for each in part] if isinstance(part, list) else part
