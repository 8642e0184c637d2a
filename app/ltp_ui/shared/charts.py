"""Charts of the explore and method pages: data in, Vega-Lite out, no Streamlit.

Altair builds each kind of chart once and the specification is kept: building costs more than a pass
through the network. Colours come from the theme on screen (series order matters) and are written out
for exports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Float

from app.ltp_ui.shared.method_style import LIGHT_COLORS
from app.ltp_ui.shared.palette import LIGHT
from app.ltp_ui.shared.wording import SCORE_UNITS, UNIT
from app.ltp_ui.token_view.texts import visible
from app.ltp_ui.token_view.view import TokenView
from ltp_core.records import Trace

ImageKind = Literal["png", "svg"]
Series = Mapping[str, Sequence[float | None]]

THIS, LEARNED, SCORE, THRESHOLD = "this setting", "learned thresholds", "score", "threshold"
SOFT, HARD = "soft mask (Eq. 9)", "hard mask (Eq. 8)"
DASHES = [[1, 0], [6, 4], [2, 3]]
HEIGHT = 300
MAX_BARS = 14


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A Vega-Lite specification and its data."""

    spec: dict[str, Any]
    frame: pd.DataFrame

    def to_dict(self) -> dict[str, Any]:
        """The specification with its data as a named data set.

        Streamlit draws a chart with unnamed data empty at first, and Vega complains of that.
        """
        records = self.frame.to_dict(orient="records")
        return self.spec | {"data": {"name": "table"}, "datasets": {"table": records}}


def survivors_chart(trace: Trace, learned: Trace | None) -> Figure:
    """Live tokens at the input and after each layer; a second line for the learned thresholds."""
    series: Series = {THIS: live_lengths(trace)}
    if learned:
        series = {THIS: live_lengths(trace), LEARNED: live_lengths(learned)}
    frame = _frame(series, first_layer=0)
    frame["count"] = [
        f"{value:.0f}" if name == THIS else ""
        for name, value in zip(frame["series"], frame["value"], strict=True)
    ]
    return Figure(spec=_survivors_spec(tuple(series)), frame=frame)


def live_lengths(trace: Trace) -> list[int | None]:
    """Live tokens at the input and after each layer; None for a layer that is left out."""
    layers = zip(trace.lengths[1:], trace.layers, strict=True)
    return [trace.lengths[0], *(live if layer.runs else None for live, layer in layers)]


def score_chart(view: TokenView, index: int) -> Figure:
    """A token's score and the threshold it had to exceed, by layer, on a logarithmic axis."""
    everything: Series = {
        SCORE: [row[index] for row in view.scores],
        THRESHOLD: view.thresholds,
        LEARNED: view.learned or (),
    }
    series = {name: values for name, values in everything.items() if any(values)}
    return Figure(
        spec=_score_spec(tuple(series), SCORE_UNITS[view.score_kind]),
        frame=_frame(series, first_layer=1),
    )


def senders(
    attention: Float[np.ndarray, "seq seq"], positions: tuple[int, ...], texts: tuple[str, ...]
) -> pd.DataFrame:
    """Who attends to a token: attention from each live token, most first.

    Of several pieces of a word the one that receives most is taken. The column sums to its score.
    """
    received = attention[:, max(positions, key=lambda i: attention[:, i].sum())]
    order = [int(i) for i in np.argsort(-received, kind="stable") if received[i] > 0]
    rows = [{"token": f"{i} {texts[i]}", "attention": float(received[i])} for i in order]
    return pd.DataFrame(rows, columns=["token", "attention"])


def senders_chart(frame: pd.DataFrame) -> Figure:
    """Bars of the first rows of `senders`, each labelled with its attention."""
    shown = frame.head(MAX_BARS)
    return Figure(spec=_senders_spec() | {"height": 20 * max(len(shown), 3) + 50}, frame=shown)


def mask_chart(threshold: float, temperature: float) -> Figure:
    """The soft mask of Eq. 9 beside the hard mask of Eq. 8, over the score."""
    score = np.linspace(0.0, 2.0, 401)
    soft = 1 / (1 + np.exp(-np.clip((score - threshold) / temperature, -500, 500)))
    hard = (score > threshold).astype(float)
    frames = [
        pd.DataFrame({"score": score, "mask": mask, "series": name})
        for name, mask in ((SOFT, soft), (HARD, hard))
    ]
    return Figure(spec=_mask_spec(), frame=pd.concat(frames, ignore_index=True))


def image(
    chart: Figure, kind: ImageKind, *, width: int = 560, caption: Sequence[str] = ()
) -> bytes:
    """The chart as a picture with the light palette and a caption, drawn in this process."""
    import vl_convert

    spec = _printable(chart.to_dict())
    if caption:
        look = {"anchor": "start", "fontSize": 11, "fontWeight": "normal"}
        spec["title"] = look | {"text": _printable(list(caption))}
    spec["config"] = {"background": LIGHT.background, "range": {"category": list(LIGHT_COLORS)}}
    spec["width"] = width
    if kind == "svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    return bytes(vl_convert.vegalite_to_png(spec, scale=2.0))


def _printable(part: Any) -> Any:
    """A specification without control characters and half surrogate pairs, which no picture takes."""
    if isinstance(part, dict):
        return {_printable(name): _printable(value) for name, value in part.items()}
    if isinstance(part, list | tuple):
        return [_printable(value) for value in part]
    return visible(part) if isinstance(part, str) else part


def _frame(series: Series, first_layer: int) -> pd.DataFrame:
    """One row a series and layer."""
    rows = [
        {"layer": index + first_layer, "value": value, "series": name}
        for name, values in series.items()
        for index, value in enumerate(values)
        if value
    ]
    return pd.DataFrame(rows, columns=["layer", "value", "series"])


# ---- specifications, built once ----


@cache
def _survivors_spec(names: tuple[str, ...]) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=layer_axis("after layer (0 is the input)"),
        y=alt.Y("value:Q", title="live tokens", scale=alt.Scale(domainMin=0)),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("value:Q", title="tokens"),
        ],
    )
    counts = base.mark_text(dy=-11, fontSize=12).encode(text="count:N", color=alt.value("gray"))
    return layered([*lines(base, names), counts])


@cache
def _score_spec(names: tuple[str, ...], unit: str) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=layer_axis("layer"),
        y=alt.Y(
            "value:Q",
            title=unit,
            scale=alt.Scale(type="log", nice=False, padding=20),
            axis=alt.Axis(tickCount=5, format="~g"),
        ),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("value:Q", format=".4f"),
        ],
    )
    return layered(lines(base, names))


@cache
def _senders_spec() -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        y=alt.Y(
            "token:N",
            sort=None,
            title=None,
            axis=alt.Axis(labelLimit=140, labelOverlap=False, labelFlush=False),
        ),
        x=alt.X("attention:Q", title="attention paid to it", scale=alt.Scale(domainMin=0)),
        tooltip=[alt.Tooltip("token:N"), alt.Tooltip("attention:Q", format=".4f")],
    )
    bars = base.mark_bar(height={"band": 0.7})
    labels = base.mark_text(align="left", dx=4, fontSize=12).encode(
        text=alt.Text("attention:Q", format=".3f"), color=alt.value("gray")
    )
    return layered([bars, labels])


@cache
def _mask_spec() -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=alt.X("score:Q", title=f"score ({UNIT})"),
        y=alt.Y("mask:Q", title="mask", scale=alt.Scale(domain=[0, 1])),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("score:Q", format=".2f"),
            alt.Tooltip("mask:Q", format=".3f"),
        ],
    )
    return layered([_line(base, (SOFT, HARD))])


def lines(base: alt.Chart, names: tuple[str, ...]) -> list[alt.Chart]:
    """A line with dots for each series, told apart by colour and dash."""
    dots = base.mark_circle(size=60, opacity=1).encode(color=_color(names))
    return [_line(base, names), dots]


def _line(base: alt.Chart, names: tuple[str, ...]) -> alt.Chart:
    scale = alt.Scale(domain=list(names), range=DASHES[: len(names)])
    dash = alt.StrokeDash("series:N", scale=scale, legend=_legend(names))
    line: alt.Chart = base.mark_line(strokeWidth=2.5).encode(color=_color(names), strokeDash=dash)
    return line


def _color(names: tuple[str, ...]) -> alt.Color:
    return alt.Color("series:N", scale=alt.Scale(domain=list(names)), legend=_legend(names))


def _legend(names: tuple[str, ...]) -> alt.Legend | None:
    """The same for colour and dash, so that they share one legend; a single line needs none."""
    if len(names) < 2:
        return None
    return alt.Legend(
        title=None,
        orient="top",
        symbolType="stroke",
        symbolSize=600,
        symbolStrokeWidth=2.5,
        symbolFillColor="transparent",
    )


def layer_axis(title: str) -> alt.X:
    """Layers as steps, with a title."""
    return alt.X("layer:O", title=title, axis=alt.Axis(labelAngle=0))


def layered(layers: list[alt.Chart]) -> dict[str, Any]:
    """A specification of the usual height, without data."""
    return without_data(alt.layer(*layers).properties(height=HEIGHT))


def without_data(chart: alt.LayerChart | alt.FacetChart) -> dict[str, Any]:
    """The specification without data and configuration, which the caller adds."""
    spec: dict[str, Any] = chart.to_dict()
    for key in ("data", "datasets", "config"):
        spec.pop(key, None)
    for layer in spec.get("layer", ()):
        layer.pop("data", None)
    return spec


LEGEND_LABEL = 150
"""Pixels for the longest of the methods' names, its marker and the gap after it come on top."""

LEGEND_COLUMN = 145
LEGEND_ROW = 32


def legend_height(titles: Sequence[str]) -> int:
    """Pixels of a legend of one column, for a chart whose plot must stay high beside others."""
    return LEGEND_ROW * len(titles)


def method_legend(
    titles: Sequence[str], *, column: int = LEGEND_COLUMN, label: int = LEGEND_LABEL
) -> alt.Legend:
    """The same in every layer and channel, so that they share one; as many columns as fit."""
    return alt.Legend(
        title=None,
        orient="top",
        columns=alt.ExprRef(f"max(1, floor(width / {column}))"),
        labelLimit=label,
        values=list(titles),
        symbolSize=140,
        symbolOpacity=1,
    )
