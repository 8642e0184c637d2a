"""Charts of the length page: overlaid histograms and cumulative shares, with 99th percentiles.

Training is filled or solid, evaluation outlined or dashed, the paper's numbers hollow: never told
apart by colour alone.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, Literal

import altair as alt
import numpy as np
import pandas as pd

from app.ltp_ui.shared.charts import Figure, layered
from ltp_core.lengths.counts import LengthCounts, ecdf, integer_edges, length_quantiles
from ltp_core.lengths.shift import Table2Row, bin_counts

TRAIN, EVALUATION = "training", "evaluation"
SERIES = [TRAIN, EVALUATION]
P99 = 0.99
MAX_POINTS = 400
LEVELS = (0.25, 0.5, 0.75)
PAPER_LABEL = "hollow: paper, Table 2"
HEIGHT = 380


def shown_limit(train: LengthCounts, evaluation: LengthCounts) -> int:
    """The greatest length that is drawn: a long thin tail would squeeze everything else."""
    p99 = max(length_quantiles(counts, P99)[0] for counts in (train, evaluation))
    greatest = int(max(train.length[-1], evaluation.length[-1]))
    return greatest if greatest <= 1.6 * p99 else math.ceil(1.3 * p99)


def hidden(train: LengthCounts, evaluation: LengthCounts) -> tuple[int, int]:
    """Inputs beyond `shown_limit`, of training and of evaluation."""
    limit = shown_limit(train, evaluation)
    first, second = (int(c.count[c.length > limit].sum()) for c in (train, evaluation))
    return first, second


def histogram_chart(train: LengthCounts, evaluation: LengthCounts) -> Figure:
    """Share of each set's inputs by length, in bins that hold whole numbers of tokens."""
    limit = shown_limit(train, evaluation)
    low = int(min(train.length[0], evaluation.length[0]))
    edges = integer_edges(low, limit).astype(float)
    frames = [
        _bars(counts, edges, series)
        for counts, series in ((train, TRAIN), (evaluation, EVALUATION))
    ]
    rules = _rules(train, evaluation, limit)
    return Figure(spec=_histogram_spec(_placed(rules)), frame=_joined([*frames, rules]))


def ecdf_chart(
    train: LengthCounts, evaluation: LengthCounts, paper: Table2Row | None = None
) -> Figure:
    """Share of each set's inputs up to a length; the paper's quartiles as hollow marks."""
    limit = shown_limit(train, evaluation)
    frames = [
        _steps(counts, limit, series)
        for counts, series in ((train, TRAIN), (evaluation, EVALUATION))
    ]
    rules = _rules(train, evaluation, limit)
    if paper is not None:
        frames.append(_paper_marks(paper))
    spec = _ecdf_spec(_placed(rules), has_paper=paper is not None)
    return Figure(spec=spec, frame=_joined([*frames, rules]))


def _joined(frames: list[pd.DataFrame]) -> pd.DataFrame:
    # JSON has no NaN; Vega reads null as absent.
    joined = pd.concat(frames, ignore_index=True).astype(object)
    return joined.where(joined.notna(), None)


def _bars(counts: LengthCounts, edges: np.ndarray, series: str) -> pd.DataFrame:
    """A bin a row; the lengths a to b−1 are drawn from a−½ to b−½."""
    binned = bin_counts(_up_to(counts, edges[-1] - 1), edges - 0.5)
    low, high = edges[:-1], edges[1:] - 1
    names = [_span(int(a), int(b)) for a, b in zip(low, high, strict=True)]
    frame = pd.DataFrame(
        {
            "kind": "bar",
            "series": series,
            "start": edges[:-1] - 0.5,
            "end": edges[1:] - 0.5,
            "share": binned / counts.rows,
            "inputs": binned,
            "lengths": names,
        }
    )
    if series == TRAIN:
        return frame
    # The outline has to come down to 0 at its end.
    last = frame.iloc[[-1]].assign(start=frame["end"].iloc[-1], share=0.0, inputs=None)
    return pd.concat([frame.iloc[[0]].assign(share=0.0, inputs=None), frame, last])


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def _up_to(counts: LengthCounts, limit: float) -> LengthCounts:
    kept = counts.length <= limit
    return LengthCounts(length=counts.length[kept], count=counts.count[kept])


def _steps(counts: LengthCounts, limit: int, series: str) -> pd.DataFrame:
    grid = np.unique(
        np.append(counts.length[counts.length <= limit], [counts.length[0] - 1, limit])
    )
    if len(grid) > MAX_POINTS:
        grid = np.unique(np.linspace(grid[0], grid[-1], MAX_POINTS).round().astype(np.int64))
    return pd.DataFrame(
        {"kind": "step", "series": series, "start": grid, "share": ecdf(counts, grid)}
    )


def _rules(train: LengthCounts, evaluation: LengthCounts, limit: int) -> pd.DataFrame:
    values = [length_quantiles(counts, P99)[0] for counts in (train, evaluation)]
    return pd.DataFrame(
        {
            "kind": "rule",
            "series": SERIES,
            "start": values,
            "label": [f"99 %: {value:,.1f}".removesuffix(".0") for value in values],
            "place": _places(values[0], values[1], limit),
        }
    )


def _places(train: float, evaluation: float, limit: int) -> list[str]:
    """Where the labels go: the smaller one's before its rule, the greater one's behind it if there is room."""
    greater = "after" if max(train, evaluation) < 0.88 * limit else "inside"
    return [greater, "before"] if train > evaluation else ["before", greater]


def _placed(rules: pd.DataFrame) -> tuple[str, ...]:
    """Places that occur: Vega warns of layers without data."""
    return tuple(sorted(rules["place"]))


def _paper_marks(paper: Table2Row) -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {
            "kind": "paper",
            "series": series,
            "start": value,
            "share": level,
            "label": None,
        }
        for series, quartiles in ((TRAIN, paper.train), (EVALUATION, paper.evaluation))
        for level, value in zip(LEVELS, quartiles, strict=True)
    ]
    # One label, where it does not lie on another mark.
    max(rows, key=lambda row: (row["share"] == LEVELS[0], row["start"]))["label"] = PAPER_LABEL
    return pd.DataFrame(rows).astype({"start": float})


# ---- specifications, built once ----


@cache
def _histogram_spec(places: tuple[str, ...]) -> dict[str, Any]:
    plain = _plain(_SQUARES)
    base = plain.encode(y=_share("share of the inputs", alt.Scale(domainMin=0)))
    bars = base.transform_filter("datum.kind == 'bar' && datum.inputs != null").encode(
        x2="end:Q", y2=alt.Y2(datum=0), tooltip=_BAR_TOOLTIP
    )
    filled = bars.transform_filter(_is(TRAIN)).mark_bar(opacity=0.45, binSpacing=0)
    outline = (
        base.transform_filter("datum.kind == 'bar'")
        .transform_filter(_is(EVALUATION))
        .mark_line(interpolate="step-after", strokeWidth=2)
    )
    # Invisible, so that the outline has the bars' tooltip.
    touched = bars.transform_filter(_is(EVALUATION)).mark_bar(opacity=0)
    layers = [filled, outline, touched, *_p99_layers(plain, places)]
    return layered(layers) | {"height": HEIGHT}


@cache
def _ecdf_spec(places: tuple[str, ...], *, has_paper: bool) -> dict[str, Any]:
    plain = _plain(_STROKES)
    base = plain.encode(y=_share("share of the inputs up to this length", alt.Scale(domain=[0, 1])))
    lines = (
        base.transform_filter("datum.kind == 'step'")
        .mark_line(interpolate="step-after", strokeWidth=2.5)
        .encode(
            strokeDash=alt.StrokeDash(
                "series:N", scale=alt.Scale(domain=SERIES, range=_DASHES), legend=_STROKES
            ),
            tooltip=[
                alt.Tooltip("series:N"),
                alt.Tooltip("start:Q", title="tokens"),
                alt.Tooltip("share:Q", title="share up to there", format=".1%"),
            ],
        )
    )
    layers = [lines, *_p99_layers(plain, places)]
    if has_paper:
        papers = base.transform_filter("datum.kind == 'paper'")
        layers += [_paper_layer(papers, *pair) for pair in zip(SERIES, _SHAPES, strict=True)]
        text = papers.transform_filter("datum.label != null").mark_text(
            align="left", dx=9, fontSize=12
        )
        layers.append(text.encode(text="label:N", color=alt.value("gray")))
    return layered(layers) | {"height": HEIGHT}


def _paper_layer(papers: alt.Chart, series: str, shape: str) -> alt.Chart:
    marks = papers.transform_filter(_is(series))
    layer: alt.Chart = marks.mark_point(
        filled=False, shape=shape, size=90, strokeWidth=2, opacity=1
    ).encode(
        tooltip=[
            alt.Tooltip("series:N"),
            alt.Tooltip("start:Q", title="quartile, paper, Table 2"),
        ]
    )
    return layer


def _is(series: str) -> str:
    return f"datum.series == '{series}'"


def _plain(legend: alt.Legend) -> alt.Chart:
    """Lengths across, sets by colour; no shares yet."""
    chart: alt.Chart = alt.Chart(alt.NamedData("table")).encode(
        x=alt.X("start:Q", title="length in tokens", scale=alt.Scale(zero=False, nice=False)),
        color=alt.Color("series:N", scale=alt.Scale(domain=SERIES), legend=legend),
    )
    return chart


def _share(title: str, scale: alt.Scale) -> alt.Y:
    return alt.Y("share:Q", title=title, axis=alt.Axis(format=".2~%"), scale=scale)


def _p99_layers(plain: alt.Chart, places: tuple[str, ...]) -> list[alt.Chart]:
    """Rules at the 99th percentiles, evaluation's dashed, with labels."""
    rules = plain.transform_filter("datum.kind == 'rule'")
    layers = [
        rules.transform_filter(_is(series))
        .mark_rule(strokeWidth=1.5, strokeDash=dash)
        .encode(tooltip=[alt.Tooltip("series:N"), alt.Tooltip("label:N")])
        for series, dash in zip(SERIES, _DASHES, strict=True)
    ]
    for place, align, dx, y in _PLACES:
        if place not in places:
            continue
        chosen = rules.transform_filter(f"datum.place == '{place}'")
        text = chosen.mark_text(align=align, dx=dx, fontSize=12)
        layers.append(text.encode(y=alt.value(y), text="label:N"))
    return layers


_DASHES = [[1, 0], [6, 4]]
_SHAPES = ("circle", "diamond")
_PLACES: tuple[tuple[str, Literal["left", "right"], int, int], ...] = (
    ("before", "right", -3, -8),
    ("after", "left", 3, -8),
    ("inside", "right", -5, 10),
)
_SQUARES = alt.Legend(title=None, orient="top", symbolType="square", symbolSize=200, offset=24)
_STROKES = alt.Legend(
    title=None,
    orient="top",
    symbolType="stroke",
    symbolSize=600,
    symbolStrokeWidth=2.5,
    symbolFillColor="transparent",
    offset=24,
)
_BAR_TOOLTIP = [
    alt.Tooltip("series:N"),
    alt.Tooltip("lengths:N", title="tokens"),
    alt.Tooltip("share:Q", format=".2%"),
    alt.Tooltip("inputs:Q", format=","),
]
