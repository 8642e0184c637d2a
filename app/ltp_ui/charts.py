"""Altair charts of the explore and method pages: data in, chart out, no Streamlit.

Colours come from the theme on screen (series order matters) and are written out for exports.
"""

from __future__ import annotations

from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Float

from app.ltp_ui.figure import LIGHT
from app.ltp_ui.view import TokenView
from ltp_core.records import Trace

THIS, LEARNED, SCORE, THRESHOLD = "this setting", "learned thresholds", "score", "threshold"
CATEGORIES = [LIGHT.keep, LIGHT.drop, "#00805e"]
HEIGHT = 240
MAX_BARS = 14


def survivors_chart(trace: Trace, learned: Trace | None) -> alt.LayerChart:
    """Live tokens at the input and after each layer; a second line for the learned thresholds."""
    series = [(THIS, trace)] + ([(LEARNED, learned)] if learned else [])
    frame = pd.DataFrame(
        [
            {"layer": layer, "tokens": tokens, "setting": name}
            for name, one in series
            for layer, tokens in enumerate(one.lengths)
        ]
    )
    names = [name for name, _ in series]
    base = alt.Chart(frame).encode(
        x=_layer_axis("layer:O", "after layer (0 is the input)"),
        y=alt.Y("tokens:Q", title="live tokens", scale=alt.Scale(domainMin=0)),
        color=_color("setting:N", names),
        tooltip=["setting:N", "layer:O", "tokens:Q"],
    )
    lines = base.mark_line(point=alt.OverlayMarkDef(size=55)).encode(
        strokeDash=_dash("setting:N", names)
    )
    labels = (
        base.transform_filter(alt.datum.setting == THIS)
        .mark_text(dy=-11, fontSize=12)
        .encode(text="tokens:Q", color=alt.value("gray"))
    )
    return alt.layer(lines, labels).properties(height=HEIGHT)


def score_chart(view: TokenView, index: int) -> alt.Chart:
    """A token's score and the threshold it had to exceed, by layer, on a logarithmic axis."""
    scores = [row[index] for row in view.scores]
    series = [(SCORE, scores), (THRESHOLD, view.thresholds), (LEARNED, view.learned or ())]
    frame = pd.DataFrame(
        [
            {"layer": layer + 1, "value": value, "series": name}
            for name, values in series
            for layer, value in enumerate(values)
            if value
        ],
        columns=["layer", "value", "series"],
    )
    names = [name for name, values in series if any(values)]
    return (
        alt.Chart(frame)
        .mark_line(point=alt.OverlayMarkDef(size=65, filled=True))
        .encode(
            x=_layer_axis("layer:O", "layer"),
            y=alt.Y(
                "value:Q",
                title="times uniform attention",
                scale=alt.Scale(type="log", nice=False, padding=12),
                axis=alt.Axis(tickCount=5, format="~g"),
            ),
            color=_color("series:N", names),
            shape=alt.Shape("series:N", scale=alt.Scale(domain=names), legend=None),
            strokeDash=_dash("series:N", names),
            tooltip=["series:N", "layer:O", alt.Tooltip("value:Q", format=".4f")],
        )
        .properties(height=HEIGHT)
    )


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
        {"token": f"{texts[i]} ·{i}", "attention": float(received[i]), "rank": rank}
        for rank, i in enumerate(shown)
    ]
    if rest := order[MAX_BARS:]:
        total = float(received[rest].sum())
        rows.append({"token": f"{len(rest)} others", "attention": total, "rank": len(rows)})
    return pd.DataFrame(rows, columns=["token", "attention", "rank"])


def senders_chart(frame: pd.DataFrame) -> alt.LayerChart:
    """Bars of `senders`, each labelled with its attention."""
    base = alt.Chart(frame).encode(
        y=alt.Y("token:N", sort=alt.SortField("rank"), title=None, axis=alt.Axis(labelLimit=140)),
        x=alt.X("attention:Q", title="attention paid to it", scale=alt.Scale(domainMin=0)),
        tooltip=["token:N", alt.Tooltip("attention:Q", format=".4f")],
    )
    bars = base.mark_bar(height={"band": 0.7})
    labels = base.mark_text(align="left", dx=4, fontSize=12).encode(
        text=alt.Text("attention:Q", format=".3f"), color=alt.value("gray")
    )
    return alt.layer(bars, labels).properties(height=max(90, 20 * len(frame) + 40))


def mask_chart(threshold: float, temperature: float) -> alt.Chart:
    """The soft mask of Eq. 9 beside the hard mask of Eq. 8, over the score."""
    score = np.linspace(0.0, 2.0, 401)
    soft = 1 / (1 + np.exp(-np.clip((score - threshold) / temperature, -500, 500)))
    names = ["soft mask (Eq. 9)", "hard mask (Eq. 8)"]
    frame = pd.concat(
        [
            pd.DataFrame({"score": score, "mask": values, "kind": name})
            for name, values in zip(names, (soft, (score > threshold) * 1.0), strict=True)
        ]
    )
    return (
        alt.Chart(frame)
        .mark_line(strokeWidth=2.5)
        .encode(
            x=alt.X("score:Q", title="score (times uniform attention)"),
            y=alt.Y("mask:Q", title="mask", scale=alt.Scale(domain=[0, 1])),
            color=_color("kind:N", names),
            strokeDash=_dash("kind:N", names),
            tooltip=[
                "kind:N",
                alt.Tooltip("score:Q", format=".2f"),
                alt.Tooltip("mask:Q", format=".3f"),
            ],
        )
        .properties(height=280)
    )


def image(chart: alt.TopLevelMixin, kind: Literal["png", "svg"]) -> bytes:
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


def _color(field: str, names: list[str]) -> alt.Color:
    legend = alt.Legend(title=None, orient="top") if len(names) > 1 else None
    return alt.Color(field, scale=alt.Scale(domain=names), legend=legend)


def _dash(field: str, names: list[str]) -> alt.StrokeDash:
    dashes = [[1, 0], [6, 4], [2, 3]][: len(names)]
    return alt.StrokeDash(field, scale=alt.Scale(domain=names, range=dashes), legend=None)
