"""Charts of the compare page: data in, Vega-Lite out, no Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import altair as alt
import pandas as pd

from app.ltp_ui.compare.comparison import Comparison, Side
from app.ltp_ui.shared import charts
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.wording import SCORE_UNITS

Values = Mapping[str, Sequence[float | None]]

A, B = "A", "B"
SCORE, THRESHOLD = "score", "threshold"
ABOVE, BELOW = "above", "below"


def survivors_chart(comparison: Comparison) -> Figure:
    """Live tokens of both at the input and after each layer, until each has ended."""
    sides = {side.letter: _live(side) for side in (comparison.a, comparison.b)}
    frame = _frame(sides, first_layer=0)
    highest = frame.groupby("layer")["value"].transform("max")
    frame["label"] = [f"{value:.0f}" for value in frame["value"]]
    frame["place"] = (frame["value"] < highest).map({False: ABOVE, True: BELOW})
    frame.loc[frame.duplicated(["layer", "value"]), "label"] = ""
    return Figure(spec=_survivors_spec(), frame=frame)


def jaccard_chart(comparison: Comparison) -> Figure:
    """The Jaccard index of the surviving tokens, by layer, as far as both have layers."""
    values = [tally.jaccard for tally in comparison.tallies]
    frame = _frame({"Jaccard": values}, first_layer=0)
    frame["label"] = [f"{value:.2f}" for value in frame["value"]]
    return Figure(spec=_jaccard_spec(), frame=frame)


def score_chart(comparison: Comparison, index: int) -> Figure:
    """A token's score in both, and the thresholds it had to exceed, on a logarithmic axis."""
    frames = []
    for side in (comparison.a, comparison.b):
        series = {
            SCORE: [row[index] for row in side.view.scores],
            THRESHOLD: side.view.thresholds,
        }
        frame = _frame(series, first_layer=1).rename(columns={"series": "kind"})
        frames.append(frame.assign(series=side.letter)[frame["value"] > 0])
    kinds = dict.fromkeys(side.view.score_kind for side in (comparison.a, comparison.b))
    unit = " or ".join(SCORE_UNITS[kind] for kind in kinds)
    return Figure(spec=_score_spec(unit), frame=pd.concat(frames, ignore_index=True))


def _live(side: Side) -> list[int | None]:
    return charts.live_lengths(side.trace)[: side.end + 1]


def _frame(series: Values, first_layer: int) -> pd.DataFrame:
    """One row a series and layer; a layer without a value has none."""
    rows = [
        {"layer": index + first_layer, "value": value, "series": name}
        for name, values in series.items()
        for index, value in enumerate(values)
        if value is not None
    ]
    return pd.DataFrame(rows, columns=["layer", "value", "series"])


# ---- specifications, built once ----


@cache
def _survivors_spec() -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=charts.layer_axis("after layer (0 is the input)"),
        y=alt.Y("value:Q", title="live tokens", scale=alt.Scale(nice=False, padding=20)),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("value:Q", title="tokens"),
        ],
    )
    labels = [
        base.transform_filter(alt.datum.place == place)
        .mark_text(dy=dy, fontSize=12)
        .encode(text="label:N", color=alt.value("gray"))
        for place, dy in ((ABOVE, -11), (BELOW, 14))
    ]
    return charts.layered([*charts.lines(base, (A, B)), *labels])


@cache
def _jaccard_spec() -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=charts.layer_axis("after layer (0 is the input)"),
        y=alt.Y(
            "value:Q",
            title="Jaccard index",
            scale=alt.Scale(domain=[0, 1.1], nice=False),
            axis=alt.Axis(values=[0, 0.2, 0.4, 0.6, 0.8, 1]),
        ),
        tooltip=[alt.Tooltip("layer:O"), alt.Tooltip("value:Q", title="Jaccard", format=".3f")],
    )
    labels = base.mark_text(dy=-11, fontSize=12).encode(text="label:N", color=alt.value("gray"))
    return charts.layered([*charts.lines(base, ("Jaccard",)), labels])


@cache
def _score_spec(unit: str) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=charts.layer_axis("layer"),
        y=alt.Y(
            "value:Q",
            title=unit,
            scale=alt.Scale(type="log", nice=False, padding=20),
            axis=alt.Axis(tickCount=5, format="~g"),
        ),
        color=alt.Color("series:N", scale=alt.Scale(domain=[A, B]), legend=_legend("circle")),
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("kind:N"),
            alt.Tooltip("layer:O"),
            alt.Tooltip("value:Q", format=".4f"),
        ],
    )
    dash = alt.Scale(domain=[SCORE, THRESHOLD], range=[[1, 0], [6, 4]])
    shape = alt.Scale(domain=[A, B], range=["circle", "square"])
    line = base.mark_line(strokeWidth=2.5).encode(
        strokeDash=alt.StrokeDash("kind:N", scale=dash, legend=_legend("stroke"))
    )
    dots = base.mark_point(size=60, filled=True, opacity=1).encode(
        shape=alt.Shape("series:N", scale=shape, legend=_legend("circle"))
    )
    return charts.layered([line, dots])


def _legend(symbol: str) -> alt.Legend:
    if symbol == "circle":
        return alt.Legend(title=None, orient="top")
    return alt.Legend(title=None, orient="top", symbolType="stroke", symbolSize=600)
