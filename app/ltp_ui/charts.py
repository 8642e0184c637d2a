"""Altair charts of the explore and method pages: data in, chart out, no Streamlit.

Colours come from the theme on screen (series order matters) and are written out for exports.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
Figure = alt.LayerChart | alt.FacetChart  # what alt.layer declares to return

THIS, LEARNED, SCORE, THRESHOLD = "this setting", "learned thresholds", "score", "threshold"
CATEGORIES = [LIGHT.keep, LIGHT.drop, "#00805e"]
HEIGHT = 240
MAX_BARS = 14


def survivors_chart(trace: Trace, learned: Trace | None) -> Figure:
    """Live tokens at the input and after each layer; a second line for the learned thresholds."""
    series = {THIS: trace.lengths} | ({LEARNED: learned.lengths} if learned else {})
    frame = pd.DataFrame(
        [
            {"layer": layer, "tokens": tokens, "series": name}
            for name, lengths in series.items()
            for layer, tokens in enumerate(lengths)
        ]
    )
    base = alt.Chart(frame).encode(
        x=_layer_axis("layer:O", "after layer (0 is the input)"),
        y=alt.Y("tokens:Q", title="live tokens", scale=alt.Scale(domainMin=0)),
        tooltip=["series:N", "layer:O", "tokens:Q"],
    )
    counts = (
        base.transform_filter(alt.datum.series == THIS)
        .mark_text(dy=-11, fontSize=12)
        .encode(text="tokens:Q", color=alt.value("gray"))
    )
    names = _names(base, series) if learned else []
    return alt.layer(*_lines(base, list(series)), counts, *names).properties(height=HEIGHT)


def score_chart(view: TokenView, index: int) -> Figure:
    """A token's score and the threshold it had to exceed, by layer, on a logarithmic axis."""
    everything: dict[str, Sequence[float | None]] = {
        SCORE: [row[index] for row in view.scores],
        THRESHOLD: view.thresholds,
        LEARNED: view.learned or (),
    }
    series = {name: values for name, values in everything.items() if any(values)}
    frame = pd.DataFrame(
        [
            {"layer": layer, "value": value, "series": name}
            for name, values in series.items()
            for layer, value in enumerate(values, start=1)
            if value
        ],
        columns=["layer", "value", "series"],
    )
    base = alt.Chart(frame).encode(
        x=_layer_axis("layer:O", "layer"),
        y=alt.Y(
            "value:Q",
            title=UNIT,
            scale=alt.Scale(type="log", nice=False, padding=20),
            axis=alt.Axis(tickCount=5, format="~g"),
        ),
        tooltip=["series:N", "layer:O", alt.Tooltip("value:Q", format=".4f")],
    )
    names = _names(base, series, first_layer=1)
    return alt.layer(*_lines(base, list(series)), *names).properties(height=HEIGHT)


def _lines(base: alt.Chart, names: list[str]) -> list[alt.Chart]:
    """A line with dots for each series, told apart by colour and dash; `_names` labels them."""
    dashes = [[1, 0], [6, 4], [2, 3]][: len(names)]
    dash = alt.StrokeDash("series:N", scale=alt.Scale(domain=names, range=dashes), legend=None)
    color = alt.Color("series:N", scale=alt.Scale(domain=names), legend=None)
    line = base.mark_line(strokeWidth=2.5).encode(color=color, strokeDash=dash)
    return [line, base.mark_circle(size=60, opacity=1).encode(color=color)]


def _names(
    base: alt.Chart, series: Mapping[str, Sequence[float | None]], first_layer: int = 0
) -> list[alt.Chart]:
    """The name of each series beside its line, where the lines lie farthest apart."""
    names = list(series)
    labels = []
    for name in names:
        place, is_upper = _clearest(name, series)
        labels.append(
            base.transform_filter(
                (alt.datum.series == name) & (alt.datum.layer == place + first_layer)
            )
            .mark_text(dy=-24 if is_upper else 18, fontSize=13, fontWeight=600)
            .encode(
                text="series:N",
                color=alt.Color("series:N", scale=alt.Scale(domain=names), legend=None),
            )
        )
    return labels


def _clearest(name: str, series: Mapping[str, Sequence[float | None]]) -> tuple[int, bool]:
    """Index at which the series is farthest from the others, and whether it is the upper one."""
    own = series[name]
    others = [values for other, values in series.items() if other != name]

    def gap(index: int) -> float:
        value = own[index]
        rivals = [v for values in others if index < len(values) and (v := values[index])]
        distances = [math.log((value or 1) / v) for v in rivals]
        return min(distances, key=abs, default=0.0)

    inner = [i for i, value in enumerate(own) if value and 0 < i < len(own) - 1]
    places = inner or [i for i, value in enumerate(own) if value]
    best = max(places, key=lambda i: abs(gap(i)))
    return best, gap(best) >= 0


def senders(
    attention: Float[np.ndarray, "seq seq"], positions: tuple[int, ...], texts: tuple[str, ...]
) -> pd.DataFrame:
    """Who attends to a token: attention from each live token, most first, the tail in one row.

    Of several pieces of a word the one that receives most is taken. The column sums to its score.
    """
    received = attention[:, max(positions, key=lambda i: attention[:, i].sum())]
    order = [int(i) for i in np.argsort(-received, kind="stable") if received[i] > 0]
    shown = order[:MAX_BARS]
    rows = [
        {"token": f"{i} {texts[i]}", "attention": float(received[i]), "rank": rank}
        for rank, i in enumerate(shown)
    ]
    if rest := order[MAX_BARS:]:
        total = float(received[rest].sum())
        rows.append({"token": f"{len(rest)} others", "attention": total, "rank": len(rows)})
    return pd.DataFrame(rows, columns=["token", "attention", "rank"])


def senders_chart(frame: pd.DataFrame) -> Figure:
    """Bars of `senders`, each labelled with its attention."""
    base = alt.Chart(frame).encode(
        y=alt.Y(
            "token:N",
            sort=list(frame["token"]),
            title=None,
            axis=alt.Axis(labelLimit=140, labelOverlap=False, labelFlush=False),
        ),
        x=alt.X("attention:Q", title="attention paid to it", scale=alt.Scale(domainMin=0)),
        tooltip=["token:N", alt.Tooltip("attention:Q", format=".4f")],
    )
    bars = base.mark_bar(height={"band": 0.7})
    labels = base.mark_text(align="left", dx=4, fontSize=12).encode(
        text=alt.Text("attention:Q", format=".3f"), color=alt.value("gray")
    )
    return alt.layer(bars, labels).properties(height=20 * max(len(frame), 3) + 50)


def mask_chart(threshold: float, temperature: float) -> Figure:
    """The soft mask of Eq. 9 beside the hard mask of Eq. 8, over the score."""
    score = np.linspace(0.0, 2.0, 401)
    soft = 1 / (1 + np.exp(-np.clip((score - threshold) / temperature, -500, 500)))
    names = ["soft mask (Eq. 9)", "hard mask (Eq. 8)"]
    frame = pd.concat(
        [
            pd.DataFrame({"score": score, "mask": values, "series": name})
            for name, values in zip(names, (soft, (score > threshold) * 1.0), strict=True)
        ]
    )
    base = alt.Chart(frame).encode(
        x=alt.X("score:Q", title="score (times uniform attention)"),
        y=alt.Y("mask:Q", title="mask", scale=alt.Scale(domain=[0, 1])),
        tooltip=[
            "series:N",
            alt.Tooltip("score:Q", format=".2f"),
            alt.Tooltip("mask:Q", format=".3f"),
        ],
    )
    color = alt.Color("series:N", scale=alt.Scale(domain=names), legend=None)
    dash = alt.StrokeDash(
        "series:N", scale=alt.Scale(domain=names, range=[[1, 0], [6, 4]]), legend=None
    )
    lines = base.mark_line(strokeWidth=2.5).encode(color=color, strokeDash=dash)
    return alt.layer(lines).properties(height=280)


def image(chart: Figure, kind: ImageKind) -> bytes:
    """The chart as a picture with the light palette, drawn in this process."""
    import vl_convert

    spec: dict[str, Any] = chart.to_dict()
    spec["config"] = {
        **spec.get("config", {}),
        "background": LIGHT.background,
        "range": {"category": CATEGORIES},
    }
    spec.setdefault("width", 560)
    if kind == "svg":
        return vl_convert.vegalite_to_svg(spec).encode()
    return bytes(vl_convert.vegalite_to_png(spec, scale=2.0))


def _layer_axis(field: str, title: str) -> alt.X:
    return alt.X(field, title=title, axis=alt.Axis(labelAngle=0))
