"""Charts of lengths through the layers: rows in, Vega-Lite out, no Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import altair as alt
import numpy as np
import pandas as pd
from jaxtyping import Int

from app.ltp_ui.shared import charts
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.method_charts import MUTED, method_color
from app.ltp_ui.shared.method_style import UNPRUNED_TITLE, title_of
from app.ltp_ui.shared.wording import percent
from ltp_core.analysis.example_records import ExampleRecords
from ltp_core.analysis.trajectories import mean_trajectory, remaining_histograms, trajectories

PICK = "pick"
"""Name of the selection: a click on an example."""

EXAMPLE, MEAN = "example", "mean of all"
RIGHT, WRONG = "right", "wrong"
SAMPLE_HEIGHT, FACET = 280, {"width": 138, "height": 96}
HISTOGRAM_WIDTH, HISTOGRAM_HEIGHT = 170, 160
"""Of a histogram on screen with its axes: two fit beside each other on a phone."""
AFTER_LAYER = "after layer (0 is the input)"


def sample_frame(records: ExampleRecords, rows: Sequence[int], picked: int | None) -> pd.DataFrame:
    """Trajectories of some examples, and the mean of all; one row an example and step.

    Args:
        records: A run.
        rows: Row numbers of the examples; those that the run lacks are left out.
        picked: Row number of the one that is marked, or None.
    """
    steps = trajectories(records)
    _, places, _ = np.intersect1d(records.row, np.array(rows), return_indices=True)
    parts = [_long(steps[i], EXAMPLE, int(records.row[i])) for i in places]
    parts.append(_long(mean_trajectory(steps), MEAN, -1))
    frame = pd.concat(parts, ignore_index=True)
    return frame.assign(width=np.where(frame["row"] == picked, 4.0, 1.4))


def _long(steps: Any, kind: str, row: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "kind": kind,
            "row": row,
            "layer": range(len(steps)),
            "tokens": [float(value) for value in steps],
            "initial": float(steps[0]),
        }
    )


def sample_chart(frame: pd.DataFrame, *, is_log: bool, most: int) -> Figure:
    """One line an example, coloured by the length at the input; a click picks one.

    Args:
        frame: Rows of `sample_frame`.
        is_log: Logarithmic instead of linear.
        most: Greatest length on the axis, the same for charts side by side.
    """
    return Figure(spec=_sample_spec(is_log, most) | {"height": SAMPLE_HEIGHT}, frame=frame)


@cache
def _sample_spec(is_log: bool, most: int) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=charts.layer_axis(AFTER_LAYER), y=_tokens_axis(is_log, most)
    )
    examples = base.transform_filter(f"datum.kind == '{EXAMPLE}'")
    # The axis says what the colour means; from below 0, so that the shortest is not too faint.
    color = alt.Color("initial:Q", legend=None, scale=alt.Scale(domain=[-most / 2, most]))
    lines = examples.mark_line(opacity=0.9).encode(
        detail="row:N", color=color, strokeWidth=alt.StrokeWidth("width:Q", scale=None)
    )
    pick = alt.selection_point(name=PICK, fields=["row"], on="click", empty=False)
    tooltip = [
        alt.Tooltip("row:N"),
        alt.Tooltip("initial:Q", title="tokens at the input"),
        alt.Tooltip("layer:O", title="after layer"),
        alt.Tooltip("tokens:Q", title="tokens live"),
    ]
    dots = examples.mark_point(filled=True, size=45, opacity=1, cursor="pointer").encode(
        color=color, tooltip=tooltip
    )
    mean = base.transform_filter(f"datum.kind == '{MEAN}'")
    thick = mean.mark_line(strokeWidth=3.5, strokeDash=[7, 4], color=MUTED)
    return charts.layered([lines, dots.add_params(pick), thick])


def _tokens_axis(is_log: bool, most: int) -> alt.Y:
    scale = (
        alt.Scale(type="log", domain=[1, most], nice=False)
        if is_log
        else alt.Scale(domain=[0, most])
    )
    return alt.Y("tokens:Q", title="live tokens", scale=scale, axis=alt.Axis(tickCount=6))


def mean_frame(runs: Mapping[str, ExampleRecords]) -> pd.DataFrame:
    """Mean tokens live at the input and after each layer; one row a run and step, by title."""
    parts = [
        pd.DataFrame(
            {
                "series": title,
                "method": title_of(run.method),
                "layer": range(run.num_layers + 1),
                "tokens": mean_trajectory(trajectories(run)),
            }
        )
        for title, run in runs.items()
    ]
    return pd.concat(parts, ignore_index=True)


def mean_chart(frame: pd.DataFrame, *, is_log: bool) -> Figure:
    """One line a run, coloured by method; named where the colour does not say which it is."""
    methods = tuple(m for m in dict.fromkeys(frame["method"]) if m != UNPRUNED_TITLE)
    names = frame.groupby("method")["series"].transform("nunique")
    is_named = (names > 1) | (frame["method"] == UNPRUNED_TITLE)
    most = int(np.ceil(frame["tokens"].max()))
    spec = _mean_spec(methods, is_log, most) | {"height": SAMPLE_HEIGHT}
    middle = frame["layer"].max() // 2
    return Figure(
        spec=spec,
        frame=frame.assign(label=frame["series"].where(is_named & (frame["layer"] == middle), "")),
    )


@cache
def _mean_spec(methods: tuple[str, ...], is_log: bool, most: int) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=charts.layer_axis(AFTER_LAYER),
        y=_tokens_axis(is_log, most),
        tooltip=[
            alt.Tooltip("series:N", title="model"),
            alt.Tooltip("layer:O", title="after layer"),
            alt.Tooltip("tokens:Q", title="mean tokens", format=".1f"),
        ],
    )
    is_control = f"datum.method == '{UNPRUNED_TITLE}'"
    color = alt.condition(is_control, alt.value(MUTED), method_color(methods))
    lines = base.mark_line(strokeWidth=2.5).encode(color=color, detail="series:N")
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(color=color)
    names = base.mark_text(align="left", dx=7, dy=-9, fontSize=12, color=MUTED).encode(
        text="label:N"
    )
    return charts.layered([lines, dots, names])


def histogram_frame(records: ExampleRecords) -> pd.DataFrame:
    """Remaining lengths by layer, right and wrong predictions each as shares of their own number.

    One row a layer, bin and outcome; a closing row of 0 ends each outline.

    Raises:
        ValueError: The task has no right or wrong.
    """
    is_correct = records.is_correct
    if is_correct is None:
        raise ValueError(f"{records.task} has no right or wrong")
    steps = trajectories(records)
    parts = []
    for layer, histogram in enumerate(remaining_histograms(steps, is_correct)):
        for outcome, counts in ((RIGHT, histogram.correct), (WRONG, histogram.incorrect)):
            parts.append(_outline(layer, outcome, histogram.edges, counts))
    return pd.concat(parts, ignore_index=True)


def _outline(
    layer: int, outcome: str, edges: Int[np.ndarray, " edges"], counts: Int[np.ndarray, " bins"]
) -> pd.DataFrame:
    share = counts / max(1, counts.sum())
    return pd.DataFrame(
        {
            "layer": "input" if layer == 0 else f"after layer {layer}",
            "number": layer,
            "outcome": outcome,
            "tokens": edges,
            "examples": [*counts.tolist(), 0],
            "share": [*share.tolist(), 0.0],
            "about": [*(percent(value) for value in share), ""],
        }
    )


def histogram_chart(frame: pd.DataFrame) -> Figure:
    """Small multiples in one picture, one a layer; filled for right, an outline for wrong."""
    layers = tuple(dict.fromkeys(frame["layer"]))
    return Figure(spec=_histograms_spec(layers), frame=frame)


def layer_histogram(frame: pd.DataFrame) -> Figure:
    """One of them, for a row on screen that breaks where it has to."""
    return Figure(spec=_histogram_spec() | {"title": str(frame["layer"].iloc[0])}, frame=frame)


@cache
def _histogram_spec() -> dict[str, Any]:
    outlines = _outlines(has_legend=False).properties(height=HISTOGRAM_HEIGHT)
    return charts.without_data(outlines)


@cache
def _histograms_spec(layers: tuple[str, ...]) -> dict[str, Any]:
    facets = (
        _outlines(has_legend=True)
        .properties(**FACET)
        .facet(facet=alt.Facet("layer:N", title=None, sort=list(layers)), columns=4)
        .resolve_scale(x="independent", y="independent")
    )
    return charts.without_data(facets)


def _outlines(*, has_legend: bool) -> alt.LayerChart | alt.FacetChart:
    """Right and wrong over each other."""
    base = alt.Chart().encode(
        x=alt.X("tokens:Q", title=None, axis=alt.Axis(tickCount=4, tickMinStep=1, format="d")),
        y=alt.Y("share:Q", title=None, axis=alt.Axis(format=".0%", tickCount=3)),
        color=alt.Color(
            "outcome:N",
            title="prediction",
            scale=alt.Scale(domain=[RIGHT, WRONG]),
            legend=alt.Legend(orient="top", symbolOpacity=1) if has_legend else None,
        ),
        tooltip=[
            alt.Tooltip("outcome:N", title="prediction"),
            alt.Tooltip("tokens:Q", title="tokens from"),
            alt.Tooltip("examples:Q"),
            alt.Tooltip("about:N", title="share"),
        ],
    )
    right = base.transform_filter(f"datum.outcome == '{RIGHT}'").mark_area(
        interpolate="step-after", opacity=0.35, line=False
    )
    wrong = base.transform_filter(f"datum.outcome == '{WRONG}'").mark_line(
        interpolate="step-after", strokeWidth=2
    )
    return alt.layer(right, wrong, data=alt.NamedData("table"))
