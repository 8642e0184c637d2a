"""Charts of accuracy and cost by length: rows in, Vega-Lite out, no Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Literal

import altair as alt
import pandas as pd

from app.ltp_ui.shared.charts import Figure, without_data
from app.ltp_ui.shared.method_charts import (
    MUTED,
    PERCENT,
    SIGNED_POINTS,
    method_color,
    method_shape,
)
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.wording import percent
from ltp_core.analysis.bands import PAPER_TABLE_3, Band
from ltp_core.analysis.intervals import Estimate
from ltp_core.analysis.robustness import Comparison

Axis = Literal["difference", "metric", "paper", "executed"]

TITLES: dict[Axis, str] = {
    "difference": "points against the dense model",
    "metric": "metric",
    "paper": "relative FLOPs, paper’s accounting",
    "executed": "relative FLOPs, executed",
}
OURS, UNPRUNED, PAPER = "ours", "unpruned", "paper"
HEIGHT = 280
TWO_LINES = "split(replace(datum.label, ')', ''), ' (')"
"""A band's name and below it its lengths, which side by side have no room."""

COLUMNS = (
    "kind", "band", "order", "series", "method", "value", "low", "high", "label", "about", "run", "examples",
)  # fmt: skip


def band_labels(comparison: Comparison) -> list[str]:
    """Name of each band with its lengths: `~Q2 (up to 27)`."""
    return [f"{band.name} ({lengths(band)})" for band in comparison.bands]


def lengths(band: Band) -> str:
    """The lengths of a band in words: `up to 27`, `28 to 36`, `above 36`."""
    if band.low == -float("inf"):
        return f"up to {int(band.high)}"
    first = int(band.low) + 1
    if band.high == float("inf"):
        return f"above {first - 1}"
    return f"{first} to {int(band.high)}" if first <= int(band.high) else "none"


def band_frame(
    comparison: Comparison,
    titles: Mapping[str, str],
    axis: Axis,
    *,
    paper: str | None = None,
) -> pd.DataFrame:
    """One row a mark; bands without an example have none.

    Args:
        comparison: The points by band.
        titles: What each is called on the screen, by name.
        axis: What is drawn.
        paper: Task whose figures of the paper are drawn beside; only in the paper's own bands.
    """
    bands = band_labels(comparison)
    rows = []
    for name, title in titles.items():
        method = comparison.records[name][0].method
        if method == "unpruned" and axis != "metric":
            continue
        for number, estimate in enumerate(estimates(comparison, name, axis, list(titles))):
            if estimate is None:
                continue
            cell = comparison.cells[name][number]
            seeds = f", {len(cell.by_seed)} seeds" if len(cell.by_seed) > 1 else ""
            rows.append(
                {
                    "kind": UNPRUNED if method == "unpruned" else OURS,
                    "band": bands[number],
                    "order": number,
                    "series": title,
                    "method": title_of(method),
                    "value": estimate.value,
                    "low": estimate.low,
                    "high": estimate.high,
                    "label": "",
                    "about": f"{_shown(estimate, axis)}{seeds}",
                    "run": name,
                    "examples": cell.count,
                }
            )
    paper_rows = _paper_rows(comparison, paper, axis) if paper else []
    return pd.DataFrame([*rows, *paper_rows], columns=list(COLUMNS))


def estimates(
    comparison: Comparison, name: str, axis: Axis, shown: Sequence[str]
) -> list[Estimate | None]:
    """What is drawn of a point, band by band; None where it has no such figure.

    Args:
        comparison: The points by band.
        name: Of the point.
        axis: What is drawn.
        shown: Names of all points on screen; differences are to the unpruned one among them.
    """
    cells = comparison.cells[name]
    if axis == "difference":
        control = next((n for n in shown if comparison.records[n][0].method == "unpruned"), None)
        try:
            gaps = comparison.difference(name, control) if control else None
        except ValueError:  # evaluated on other data
            gaps = None
        return gaps or [None] * len(cells)
    return [cell.metric if axis == "metric" else cell.relative_flops.get(axis) for cell in cells]


def _shown(estimate: Estimate, axis: Axis) -> str:
    if axis == "difference":
        return signed(estimate)
    bounds = f"{100 * estimate.low:.1f}, {100 * estimate.high:.1f}"
    return f"{percent(estimate.value)} [{bounds}]"


def signed(gap: Estimate) -> str:
    """A difference in points with its interval: `−1.2 [−2.0, −0.4]`."""
    parts = (f"{100 * x:+.1f}".replace("-", "−") for x in (gap.value, gap.low, gap.high))
    value, low, high = parts
    return f"{value} [{low}, {high}]"


def _paper_rows(comparison: Comparison, paper: str, axis: Axis) -> list[dict[str, Any]]:
    """The paper's Table 3 of a task; empty where the bands are others or the accounting is ours."""
    bands = dict(
        zip((band.name for band in comparison.bands), band_labels(comparison), strict=True)
    )
    figures = PAPER_TABLE_3.get(paper, {})
    if axis in ("executed", "difference") or any(
        set(bands) != set(row) for row in figures.values()
    ):
        return []
    return [
        {
            "kind": PAPER,
            "band": bands[band],
            "order": number,
            "series": f"{title_of(method)}, paper",
            "method": title_of(method),
            "value": pair[0] if axis == "metric" else pair[1],
            "label": "paper" if number == len(row) - 1 else "",
            "about": f"{percent(pair[0] if axis == 'metric' else pair[1], 2)} (Table 3)",
            "run": f"RoBERTa-base on {paper.upper()}",
        }
        for method, row in figures.items()
        for number, (band, pair) in enumerate(row.items())
    ]


def band_chart(frame: pd.DataFrame, axis: Axis, *, metric: str, bands: Sequence[str]) -> Figure:
    """Dots with intervals, one place a band and series; a thin line joins those of a series.

    Args:
        frame: Rows of `band_frame`.
        axis: What was laid out.
        metric: Name of the headline metric.
        bands: Labels of all bands, in order.
    """
    series = tuple(dict.fromkeys(frame["series"]))
    methods = tuple(dict.fromkeys(frame.loc[frame["kind"] == OURS, "method"]))
    title = metric.replace("_", " ") if axis == "metric" else TITLES[axis]
    kinds = frozenset(frame["kind"])
    spec = _band_spec(tuple(bands), series, methods, title, axis, kinds)
    return Figure(
        spec=spec | {"height": HEIGHT},
        frame=frame.astype(object).where(frame.notna(), None),
    )


@cache
def _band_spec(
    bands: tuple[str, ...],
    series: tuple[str, ...],
    methods: tuple[str, ...],
    title: str,
    axis: Axis,
    kinds: frozenset[str],
) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table")).encode(
        x=alt.X(
            "band:N",
            title="length in tokens",
            scale=alt.Scale(domain=list(bands), paddingInner=0.3, paddingOuter=0.15),
            axis=alt.Axis(labelAngle=0, labelExpr=TWO_LINES),
        ),
        xOffset=alt.XOffset("series:N", scale=alt.Scale(domain=list(series))),
    )
    # Metrics are near each other, so their axis begins where they do; a cost begins at 0.
    scales = {"metric": alt.Scale(zero=False, padding=14), "difference": alt.Scale(padding=14)}
    scale = scales.get(axis, alt.Scale(domainMin=0))
    labels = SIGNED_POINTS if axis == "difference" else PERCENT
    y = alt.Y("value:Q", title=title, scale=scale, axis=alt.Axis(labelExpr=labels, tickCount=6))
    layers = _ours(base, y, methods)
    # A layer without a mark would be read out as a picture without a name.
    if UNPRUNED in kinds:
        layers += _control(base, y)
    if PAPER in kinds:
        layers += _papers(base, y, methods)
    if axis == "difference":
        zero = alt.Chart(alt.NamedData("table")).mark_rule(color=MUTED, aria=False)
        layers.append(zero.encode(y=alt.YDatum(0)))
    return without_data(alt.layer(*layers))


def _ours(base: alt.Chart, y: alt.Y, methods: tuple[str, ...]) -> list[alt.Chart]:
    rows = base.transform_filter(f"datum.kind == '{OURS}'")
    color, shape = method_color(methods), method_shape(methods)
    line = rows.mark_line(strokeWidth=1, opacity=0.6).encode(
        y=y, color=color, detail="series:N", order="order:Q"
    )
    bars = rows.mark_rule(strokeWidth=1.8).encode(y=alt.Y("low:Q"), y2="high:Q", color=color)
    dots = rows.mark_point(size=110, filled=True, opacity=1)
    return [line, bars, dots.encode(y=y, color=color, shape=shape, tooltip=_tooltip())]


def _control(base: alt.Chart, y: alt.Y) -> list[alt.Chart]:
    """The unpruned control as grey strokes."""
    control = base.transform_filter(f"datum.kind == '{UNPRUNED}'")
    return [
        control.mark_rule(strokeWidth=1.2, color=MUTED).encode(y=alt.Y("low:Q"), y2="high:Q"),
        control.mark_point(shape="stroke", size=260, strokeWidth=3, color=MUTED, opacity=1).encode(
            y=y, tooltip=_tooltip()
        ),
    ]


def _papers(base: alt.Chart, y: alt.Y, methods: tuple[str, ...]) -> list[alt.Chart]:
    """The paper's figures as hollow marks with the word."""
    paper = base.transform_filter(f"datum.kind == '{PAPER}'")
    named = base.transform_filter(f"datum.kind == '{PAPER}' && datum.label != ''")
    return [
        paper.mark_line(strokeWidth=1, strokeDash=[3, 3], color=MUTED, opacity=0.7).encode(
            y=y, detail="series:N", order="order:Q"
        ),
        paper.mark_point(size=110, filled=False, stroke=MUTED, strokeWidth=2, opacity=1).encode(
            y=y, shape=method_shape(methods), tooltip=_tooltip()
        ),
        named.mark_text(dy=-14, fontSize=11, color=MUTED).encode(y=y, text="label:N"),
    ]


def _tooltip() -> list[alt.Tooltip]:
    titles = {"series": "model", "about": "value", "examples": "examples", "run": "run"}
    return [alt.Tooltip(f"{name}:N", title=title) for name, title in titles.items()]
