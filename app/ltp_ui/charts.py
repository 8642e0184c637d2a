"""Charts of the explore and method pages: data in, Vega-Lite out, no Streamlit.

Altair builds each kind of chart once and the specification is kept: building costs more than a pass
through the network. Colours come from the theme on screen (series order matters) and are written out
for exports.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Float

from app.ltp_ui.figure import LIGHT
from app.ltp_ui.view import TokenView
from app.ltp_ui.wording import UNIT
from ltp_core.records import Trace

ImageKind = Literal["png", "svg"]
Series = Mapping[str, Sequence[float | None]]

THIS, LEARNED, SCORE, THRESHOLD = "this setting", "learned thresholds", "score", "threshold"
SOFT, HARD = "soft mask (Eq. 9)", "hard mask (Eq. 8)"
CATEGORIES = [LIGHT.keep, LIGHT.drop, "#00805e"]
DASHES = [[1, 0], [6, 4], [2, 3]]
CORNERS = {
    "above_left": (-8, -9),
    "above_right": (8, -9),
    "below_left": (-8, 12),
    "below_right": (8, 12),
}
"""Corners of a dot where a line's name may stand: shift to the right and down, in pixels."""
HEIGHT = 240
MAX_BARS = 14
MAX_ROOM = 10.0
"""Room beside a line that nothing is next to, in powers of e; more than any two scores differ by."""


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
    series: Series = {THIS: trace.lengths} | ({LEARNED: learned.lengths} if learned else {})
    frame = _frame(series, first_layer=0)
    frame["count"] = [
        f"{value:.0f}" if name == THIS else ""
        for name, value in zip(frame["series"], frame["value"], strict=True)
    ]
    return Figure(spec=_survivors_spec(tuple(series)), frame=frame)


def score_chart(view: TokenView, index: int) -> Figure:
    """A token's score and the threshold it had to exceed, by layer, on a logarithmic axis."""
    everything: Series = {
        SCORE: [row[index] for row in view.scores],
        THRESHOLD: view.thresholds,
        LEARNED: view.learned or (),
    }
    series = {name: values for name, values in everything.items() if any(values)}
    return Figure(spec=_score_spec(tuple(series)), frame=_frame(series, first_layer=1))


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


def image(chart: Figure, kind: ImageKind) -> bytes:
    """The chart as a picture with the light palette, drawn in this process."""
    import vl_convert

    spec = chart.to_dict()
    spec["config"] = {"background": LIGHT.background, "range": {"category": CATEGORIES}}
    spec["width"] = 560
    if kind == "svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    return bytes(vl_convert.vegalite_to_png(spec, scale=2.0))


def _frame(series: Series, first_layer: int) -> pd.DataFrame:
    """One row a series and layer; a column for each corner of a dot names the line there, once."""
    rows = []
    for name, values in series.items():
        place, corner = _name_place(name, series) if len(series) > 1 else (-1, "")
        for index, value in enumerate(values):
            if value:
                names = {c: name if (index, c) == (place, corner) else "" for c in CORNERS}
                layer = index + first_layer
                rows.append({"layer": layer, "value": value, "series": name} | names)
    return pd.DataFrame(rows, columns=["layer", "value", "series", *CORNERS])


def _name_place(name: str, series: Series) -> tuple[int, str]:
    """Index and corner for a line's name: on the side of its dot from which the line turns away."""
    index, is_above = _clearest(name, series)
    own = series[name]
    before, after = (
        own[i] if 0 <= i < len(own) and own[i] else own[index] for i in (index - 1, index + 1)
    )
    falls = (after or 0) < (before or 0)
    return index, f"{'above' if is_above else 'below'}_{'right' if falls == is_above else 'left'}"


def _clearest(name: str, series: Series) -> tuple[int, bool]:
    """Where a name fits best beside its line: the index, and whether above the line.

    The best place has the most room up to the next line; the ends are left out, where a name would
    stick out of the picture.
    """
    own = series[name]
    others = [values for other, values in series.items() if other != name]

    def room(place: tuple[int, bool]) -> float:
        index, is_above = place
        rivals = [v for values in others if index < len(values) and (v := values[index])]
        distances = [math.log(v / (own[index] or 1)) * (1 if is_above else -1) for v in rivals]
        return min(
            (d for d in distances if d >= 0), default=MAX_ROOM + max(map(abs, distances), default=0)
        )

    present = [i for i, value in enumerate(own) if value]
    inner = [i for i in present if 0 < i < len(own) - 1] or present
    return max(itertools.product(inner, (True, False)), key=room)


# ---- specifications, built once ----


@cache
def _survivors_spec(names: tuple[str, ...]) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=_layer_axis("after layer (0 is the input)"),
        y=alt.Y("value:Q", title="live tokens", scale=alt.Scale(domainMin=0)),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("value:Q", title="tokens"),
        ],
    )
    counts = base.mark_text(dy=-11, fontSize=12).encode(text="count:N", color=alt.value("gray"))
    return _spec([*_lines(base, names), counts])


@cache
def _score_spec(names: tuple[str, ...]) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=_layer_axis("layer"),
        y=alt.Y(
            "value:Q",
            title=UNIT,
            scale=alt.Scale(type="log", nice=False, padding=20),
            axis=alt.Axis(tickCount=5, format="~g"),
        ),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("value:Q", format=".4f"),
        ],
    )
    return _spec(_lines(base, names))


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
    return _spec([bars, labels])


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
    return _spec([_line(base, (SOFT, HARD))])


def _lines(base: alt.Chart, names: tuple[str, ...]) -> list[alt.Chart]:
    """A line with dots for each series, told apart by colour, dash and its name beside it."""
    color = _color(names)
    layers = [_line(base, names), base.mark_circle(size=60, opacity=1).encode(color=color)]
    if len(names) > 1:
        for corner, (shift_x, shift_y) in CORNERS.items():
            align: Literal["left", "right"] = "left" if shift_x > 0 else "right"
            text = base.mark_text(dx=shift_x, dy=shift_y, align=align, fontSize=13, fontWeight=600)
            layers.append(text.encode(text=f"{corner}:N", color=color))
    return layers


def _line(base: alt.Chart, names: tuple[str, ...]) -> alt.Chart:
    scale = alt.Scale(domain=list(names), range=DASHES[: len(names)])
    dash = alt.StrokeDash("series:N", scale=scale, legend=None)
    line: alt.Chart = base.mark_line(strokeWidth=2.5).encode(color=_color(names), strokeDash=dash)
    return line


def _color(names: tuple[str, ...]) -> alt.Color:
    return alt.Color("series:N", scale=alt.Scale(domain=list(names)), legend=None)


def _layer_axis(title: str) -> alt.X:
    return alt.X("layer:O", title=title, axis=alt.Axis(labelAngle=0))


def _spec(layers: list[alt.Chart]) -> dict[str, Any]:
    """The specification without data and configuration, which the caller adds."""
    spec: dict[str, Any] = alt.layer(*layers).properties(height=HEIGHT).to_dict()
    for key in ("data", "datasets", "config"):
        spec.pop(key, None)
    for layer in spec["layer"]:
        layer.pop("data", None)
    return spec
