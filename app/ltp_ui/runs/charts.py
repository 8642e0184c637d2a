"""The history of a training as a chart: rows in, Vega-Lite out, no Streamlit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from functools import cache
from html import escape
from itertools import cycle
from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd

from app.ltp_ui.shared.charts import Figure, without_data
from app.ltp_ui.shared.method_charts import MUTED

if TYPE_CHECKING:
    import plotly.graph_objects as go

QUANTITIES: Mapping[str, tuple[str, ...]] = {
    "Loss": ("loss", "task_loss", "distillation_loss", "regularizer"),
    "FLOPs": ("relative_flops", "mean_retained"),
    "Thresholds": ("threshold_*",),
    "Learning rate": ("learning_rate",),
    "Temperature": ("temperature",),
}
"""Columns of the history by what they are about."""

Y_TITLES = {
    "Loss": "loss",
    "FLOPs": "fraction",
    "Thresholds": "times uniform attention",
    "Learning rate": "learning rate",
    "Temperature": "times uniform attention",
}
DASHES = [[1, 0], [6, 3], [2, 2], [8, 3, 2, 3], [4, 4], [1, 2], [10, 3], [3, 1]]
PLOTLY_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
X_TITLE = "optimizer step, all stages"
LOSS_TICKS = [0, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20]
SERIES, STAGE = "series", "stage"
LONG_NAME = 24
"""Characters from which on a legend has one name a line."""

WINDOWS = (1, 3, 5, 10, 25, 50)
"""Logged steps that a curve can be averaged over."""


def known_quantities(history: pd.DataFrame) -> list[str]:
    """What this history has figures of."""
    return [name for name in QUANTITIES if columns_of(history, name)]


def columns_of(history: pd.DataFrame, quantity: str) -> list[str]:
    """Columns about a quantity that are not empty, layers in order."""
    found = _matching(map(str, history.columns), quantity)
    return [name for name in found if history[name].notna().any()]


def _matching(columns: Iterable[str], quantity: str) -> list[str]:
    known, found = list(columns), list[str]()
    for pattern in QUANTITIES[quantity]:
        names = re.compile(pattern.replace("*", r"\d+"))
        matching = [c for c in known if names.fullmatch(c)]
        found += sorted(matching, key=lambda name: (len(name), name))
    return found


def with_total_step(history: pd.DataFrame) -> pd.DataFrame:
    """The history with `total_step`, which counts on from stage to stage."""
    last = history.groupby("stage", sort=False)["step"].max() + 1
    before = last.cumsum() - last
    return history.assign(total_step=history["step"] + history["stage"].map(before))


def smoothed(history: pd.DataFrame, window: int) -> pd.DataFrame:
    """Every figure as the mean of the last `window` that were logged in its stage."""
    figures = [c for c in history.select_dtypes("number").columns if c not in ("step", "epoch")]
    means = history.groupby("stage", sort=False)[figures].transform(
        lambda values: values.rolling(window, min_periods=1).mean().where(values.notna())
    )
    return history.assign(**means)


def shared_columns(histories: Iterable[pd.DataFrame]) -> list[str]:
    """Columns that at least one of the histories has figures of, in the order of the quantities."""
    every = list(histories)
    found = [c for name in QUANTITIES for each in every for c in columns_of(each, name)]
    return list(dict.fromkeys(found))


def overlay_chart(histories: Mapping[str, pd.DataFrame], column: str, window: int) -> Figure:
    """One column of several histories, by their labels, over the steps of all stages."""
    lines = [
        with_total_step(smoothed(history, window))
        .dropna(subset=column)
        .assign(series=label, value=lambda frame: frame[column], kind=SERIES)
        for label, history in histories.items()
        if column in history
    ]
    frame = pd.concat(lines, ignore_index=True)[["total_step", STAGE, "series", "value", "kind"]]
    quantity = quantity_of(column)
    labels = tuple(frame["series"].unique())
    spec = _spec(Y_TITLES[quantity], labels, is_loss=quantity == "Loss")
    return Figure(spec=spec, frame=frame.astype(object))


def history_chart(history: pd.DataFrame, quantity: str, window: int = 1) -> Figure:
    """A quantity over the steps of all stages; rules and names where a stage begins."""
    steps = with_total_step(smoothed(history, window))
    names = columns_of(history, quantity)
    lines = steps.melt(
        ["total_step", "stage"], names, var_name="series", value_name="value"
    ).dropna(subset="value")
    lines["series"] = lines["series"].map(title_of_column)
    starts = steps.groupby("stage", sort=False)["total_step"].min().reset_index()
    frame = pd.concat([lines.assign(kind=SERIES), starts.assign(kind=STAGE)], ignore_index=True)
    titles = tuple(title_of_column(name) for name in names)
    spec = _spec(Y_TITLES[quantity], titles, is_loss=quantity == "Loss")
    return Figure(spec=spec, frame=frame.astype(object).where(frame.notna(), None))


def quantity_of(column: str) -> str:
    """What a column of the history is about."""
    return next(name for name in QUANTITIES if column in _matching([column], name))


def zoomable(chart: Figure, quantity: str) -> go.Figure:
    """The lines of a chart of this module in Plotly, which zooms into the box that is dragged over them.

    The theme gives the colours. Losses stand on a logarithmic axis as long as none is 0.
    """
    import plotly.graph_objects as go

    figure = go.Figure()
    lines = chart.frame[chart.frame["kind"] == SERIES]
    for (name, line), dash in zip(lines.groupby("series", sort=False), cycle(PLOTLY_DASHES)):
        figure.add_scatter(
            x=line["total_step"].tolist(),
            y=line["value"].tolist(),
            name=escape(str(name)),  # Plotly takes labels for HTML
            mode="lines",
            line={"width": 1.8, "dash": dash},
            hovertemplate="%{y:.4~g} at step %{x:,}<extra>%{fullData.name}</extra>",
        )
    for stage in chart.frame[chart.frame["kind"] == STAGE].itertuples():
        figure.add_vline(
            x=stage.total_step,
            line={"width": 1, "dash": "dash", "color": MUTED},
            annotation={
                "text": escape(str(stage.stage)),
                "font": {"color": MUTED},
                "yanchor": "bottom",  # above the curves
            },
            annotation_position="top right",
        )
    is_log = quantity == "Loss" and (lines["value"] > 0).all()
    return figure.update_layout(
        height=360,
        margin={"l": 8, "r": 8, "t": 8, "b": 8},
        legend={"orientation": "h", "yanchor": "bottom", "y": 1.1, "x": 0},
        showlegend=lines["series"].nunique() > 1,
        xaxis={"title": X_TITLE, "tickformat": ",d"},
        yaxis={"title": Y_TITLES[quantity], "type": "log" if is_log else "linear"},
    )


def title_of_column(name: str) -> str:
    """`threshold_3` as `layer 3`, `task_loss` as `task loss`."""
    return name.replace("threshold_", "layer ").replace("_", " ")


@cache
def _spec(title: str, names: tuple[str, ...], *, is_loss: bool) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table"))
    x = alt.X(
        "total_step:Q",
        title=X_TITLE,
        axis=alt.Axis(format=",d", tickCount=8),
        scale=alt.Scale(nice=False),
    )
    # The regularizer begins many times above what the rest of the training is about.
    scale = alt.Scale(type="symlog", constant=0.05) if is_loss else alt.Scale(zero=False)
    axis = alt.Axis(values=LOSS_TICKS, format="~g") if is_loss else alt.Axis()
    y = alt.Y("value:Q", title=title, scale=scale, axis=axis)
    legend = (
        alt.Legend(
            title=None,
            orient="top",
            columns=3 if max(map(len, names)) < LONG_NAME else 1,
            labelLimit=420,
            symbolType="stroke",
            symbolSize=500,
        )
        if (len(names) > 1)
        else None
    )
    lines = (
        base.transform_filter(f"datum.kind == '{SERIES}'")
        .mark_line(strokeWidth=1.8)
        .encode(
            x=x,
            y=y,
            color=alt.Color("series:N", scale=alt.Scale(domain=list(names)), legend=legend),
            strokeDash=alt.StrokeDash(
                "series:N",
                scale=alt.Scale(domain=list(names), range=DASHES[: max(len(names), 1)]),
                legend=legend,
            ),
            tooltip=[
                alt.Tooltip("series:N"),
                alt.Tooltip("stage:N"),
                alt.Tooltip("total_step:Q", title="step"),
                alt.Tooltip("value:Q", format=".4~g"),
            ],
        )
    )
    stages = base.transform_filter(f"datum.kind == '{STAGE}'")
    rules = stages.mark_rule(color="gray", strokeDash=[4, 4]).encode(x=x)
    texts = stages.mark_text(align="left", baseline="bottom", color="gray", fontSize=12)
    named = texts.encode(x=x, y=alt.value(-3), text="stage:N")
    return without_data(alt.layer(rules, lines, named).properties(height=300))
