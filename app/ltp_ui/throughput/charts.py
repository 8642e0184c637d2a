"""Charts of the throughput page: tables in, Vega-Lite out, no Streamlit.

What is measured is filled; what is promised by FLOPs, and what the paper says, is hollow.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import altair as alt
import pandas as pd

from app.ltp_ui.shared.charts import Figure, method_legend, without_data
from app.ltp_ui.shared.method_charts import MUTED
from app.ltp_ui.throughput.data import Bench, people
from ltp_core.bench.variants import CONTROL, DEFAULT, METHOD, VARIANTS

HEIGHT, LEGEND_LINE = 320, 36
"""Pixels of a chart of lines, and of each name in its legend beyond the third."""
ROW_HEIGHT, AROUND = 30, 120
"""Pixels of a bar, and of legend and axis around the bars."""

LEGEND_COLUMN, LEGEND_LABEL = 210, 320
"""Pixels of a column of the legend, and of the longest name: these are longer than the methods'."""

MOST_LINES = 8
"""Where more are measured, the lines are those of the method, its controls and Hugging Face."""

SHAPES = (
    *("circle", "square", "diamond", "cross", "triangle-up", "triangle-down"),
    *("triangle-left", "triangle-right"),
)
HOLLOW = "M0,-1L1,0L0,1L-1,0ZM0,-0.55L-0.55,0L0,0.55L0.55,0Z"
"""A diamond's rim, as an area: a legend fills what it shows."""

DASHES = ([1, 0], [8, 3], [3, 3], [10, 4, 2, 4], [6, 2], [2, 2], [12, 2], [5, 5])

PAPER_THROUGHPUT = (("QNLI", 1.9), ("QQP", 2.0))
"""Figure 6 and section 4.5: up to about so many times, RoBERTa-base, on CPU and GPU alike."""

PAPER_TOPK = ((128, 7.4), (1024, 33.4))
"""Figure A.1: top-k slower by up to so many times at these lengths, Haswell CPU, batch 32."""

MEASURED, PROMISED, PAPER = "measured", "promised by the FLOPs", "paper"


def throughput_chart(bench: Bench) -> Figure:
    """Relative throughput against batch size (Figure 6), quartiles as bars; the paper's beside it."""
    names = list(bench.variants)
    if len(names) > MOST_LINES:
        names = [name for name in names if name in DEFAULT or name not in VARIANTS]
    has_lengths = bench.frame["length"].notna().any()
    lines = _measured(bench, bench.relative, names).assign(
        x=lambda frame: frame["place" if has_lengths else "batch"]
    )
    paper = pd.DataFrame(
        {
            "x": "paper, up to",
            "value": [value for _, value in PAPER_THROUGHPUT],
            "kind": PAPER,
            "label": [f"{task} {value:.1f}×" for task, value in PAPER_THROUGHPUT],
            "below": [True, False],
        }
    )
    return _lines(
        pd.concat([lines, paper], ignore_index=True),
        x="measured at" if has_lengths else "batch size",
        y=f"times {bench.baseline}",
    )


def promise_chart(bench: Bench, place: str) -> Figure:
    """Measured speedup over the unpruned packed control beside what the FLOPs promise."""
    frame = bench.frame[(bench.frame["place"] == place) & bench.frame["speedup"].notna()]
    shown = pd.DataFrame(
        {
            "series": [bench.variants[name].title for name in frame["contender"]],
            "value": frame["speedup"],
            "low": frame["speedup_q1"],
            "high": frame["speedup_q3"],
            "promised": frame["theoretical_speedup"],
        }
    )
    height = ROW_HEIGHT * max(2, len(shown)) + AROUND
    return Figure(spec=_promise_spec(title_of(bench, CONTROL)) | {"height": height}, frame=shown)


def length_chart(bench: Bench, batch_size: int) -> Figure:
    """Time per sequence against length, beside the time that its FLOPs take as one matrix product."""
    rows = _measured(bench, "sequences_per_s", list(bench.variants))
    rows = rows[(rows["batch_size"] == batch_size) & rows["length"].notna()]
    times = rows.assign(
        x=rows["length"],
        value=1_000 / rows["value"],
        low=1_000 / rows["high"],
        high=1_000 / rows["low"],
    )
    frames = [times]
    if bench.matmul_flops_per_s is not None:
        own = times[times["contender"].isin((METHOD, CONTROL))]
        ideal = 1_000 * own["flops_per_sequence"] / bench.matmul_flops_per_s
        frames.append(own.assign(value=ideal, kind=PROMISED))
    return _lines(
        pd.concat(frames, ignore_index=True),
        x="tokens of every sequence",
        y="ms per sequence",
        is_log=True,
    )


def topk_chart(bench: Bench, selection: str) -> Figure:
    """Time of top-k over the time of a comparison (Figure A.1), by length and retain ratio."""
    rows = _measured(bench, "slowdown", [selection]).sort_values(["retain_ratio", "length"])
    lines = rows.assign(
        x=rows["length"], series=[f"{100 * ratio:.0f} % kept" for ratio in rows["retain_ratio"]]
    )
    paper = pd.DataFrame(
        {
            "x": [length for length, _ in PAPER_TOPK],
            "value": [value for _, value in PAPER_TOPK],
            "kind": PAPER,
            "label": [f"paper, up to {value}×" for _, value in PAPER_TOPK],
            "below": False,
        }
    )
    return _lines(
        pd.concat([lines, paper], ignore_index=True),
        x="tokens of every sequence",
        y="times as long as a threshold",
        is_log=True,
    )


def machines_chart(benches: Sequence[Bench], variant: str, figure: str) -> Figure:
    """One variant on several machines: a line a benchmark."""
    parts = [
        _measured(bench, figure, [variant]).assign(
            x=lambda frame: frame["place"], series=f"{bench.machine} ({number})"
        )
        for number, bench in enumerate(benches, start=1)
    ]
    title = {
        "sequences_per_s": "sequences per second",
        "relative_to_sorted": "times Hugging Face, sorted",
        "relative_throughput": "times Hugging Face, shuffled",
        "speedup": "times the packed control",
        "slowdown": "times as long as a threshold",
    }[figure]
    return _lines(pd.concat(parts, ignore_index=True), x="", y=title)


def live_chart(frame: pd.DataFrame) -> Figure:
    """Bars of what a running benchmark has measured so far."""
    is_topk = frame["time_us"].notna().any()
    value = "time_us" if is_topk else "sequences_per_s"
    titles = {name: who.title for name, who in people({}, frame["contender"]).items()}
    shown = pd.DataFrame(
        {
            "x": [_kept(row) for _, row in frame.iterrows()],
            "series": frame["contender"].map(titles),
            "value": frame[value],
        }
    )
    return Figure(
        spec=_live_spec(tuple(titles.values()), "µs" if is_topk else "sequences per second"),
        frame=_without_gaps(shown),
    )


def _kept(row: Any) -> str:
    """The place, with the retain ratio where there is one."""
    if pd.isna(row["retain_ratio"]):
        return str(row["place"])
    return f"{row['length']:.0f} tokens, {100 * row['retain_ratio']:.0f} %"


def _measured(bench: Bench, figure: str, names: Sequence[str]) -> pd.DataFrame:
    """Rows of these variants that have the figure, with its quartiles, in the order of the legend."""
    frame = bench.frame[bench.frame[figure].notna() & bench.frame["contender"].isin(names)]
    frame = frame.assign(
        series=[title_of(bench, name) for name in frame["contender"]],
        batch=frame["batch_size"].map("{:.0f}".format),
        value=frame[figure],
        low=frame[f"{figure}_q1"],
        high=frame[f"{figure}_q3"],
        kind=MEASURED,
        label="",
    )
    rank = frame["contender"].map({name: index for index, name in enumerate(names)})
    return frame.iloc[rank.argsort(kind="stable")]


def title_of(bench: Bench, name: str) -> str:
    """A variant's title in this benchmark; its name if it did not take part."""
    return bench.variants[name].title if name in bench.variants else name


def _lines(frame: pd.DataFrame, *, x: str, y: str, is_log: bool = False) -> Figure:
    """A line a series over `x`, on logarithmic axes where it is a length, else over categories."""
    kept = [
        name
        for name in ("x", "series", "value", "low", "high", "kind", "label", "below")
        if name in frame
    ]
    series = tuple(frame["series"].dropna().unique())
    kinds = tuple(frame["kind"].unique())
    ticks = tuple(sorted({int(x) for x in frame["x"]})) if is_log else None
    return Figure(spec=_lines_spec(series, kinds, x, y, ticks), frame=_without_gaps(frame[kept]))


def _without_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """What is missing is None, which JSON knows."""
    return frame.astype(object).where(frame.notna(), None)


# ---- specifications, built once ----


@cache
def _lines_spec(
    series: tuple[str, ...], kinds: tuple[str, ...], x: str, y: str, ticks: tuple[int, ...] | None
) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table"))
    if ticks is None:
        across = alt.X("x:N", sort=None, title=x or None, axis=alt.Axis(labelAngle=0))
        scale, axis = alt.Scale(zero=True), alt.Axis()
    else:
        across = alt.X(
            "x:Q",
            title=x,
            scale=alt.Scale(type="log", nice=False, padding=16),
            axis=alt.Axis(values=list(ticks), format="d"),
        )
        scale = alt.Scale(type="log", nice=False, padding=16)
        axis = alt.Axis(tickCount=6, format="~g")
    upright = alt.Y("value:Q", title=y, scale=scale, axis=axis)
    legend = method_legend(series, column=LEGEND_COLUMN, label=LEGEND_LABEL)
    names = list(series)
    color = alt.Color("series:N", scale=alt.Scale(domain=names), legend=legend)
    shapes = [SHAPES[index % len(SHAPES)] for index in range(len(names))]
    shape = alt.Shape("series:N", scale=alt.Scale(domain=names, range=shapes), legend=legend)
    dashes = [DASHES[index % len(DASHES)] for index in range(len(names))]
    # A field of its own: with that of the colour, dashes would get into the legend's markers.
    dash = alt.StrokeDash("line:N", scale=alt.Scale(domain=names, range=dashes), legend=None)
    tooltip = [
        alt.Tooltip("series:N", title="who"),
        alt.Tooltip("kind:N", title="this is"),
        alt.Tooltip("x:N", title=x or "measured at"),
        alt.Tooltip("value:Q", title=y, format=".3~g"),
    ]

    measured = base.transform_filter(f"datum.kind == '{MEASURED}'").encode(x=across, color=color)
    layers = [
        measured.mark_rule(strokeWidth=1.4, opacity=0.6).encode(
            y=alt.Y("low:Q", title=y), y2="high:Q"
        ),
        measured.transform_calculate(line="datum.series")
        .mark_line(strokeWidth=2)
        .encode(y=upright, strokeDash=dash),
        measured.mark_point(size=80, filled=True, opacity=1).encode(
            y=upright, shape=shape, tooltip=tooltip
        ),
    ]
    if PROMISED in kinds:
        promised = base.transform_filter(f"datum.kind == '{PROMISED}'")
        promised = promised.encode(x=across, y=upright, color=color)
        layers += [
            promised.mark_line(strokeWidth=1.2, strokeDash=[2, 3]).encode(detail="series:N"),
            promised.mark_point(size=60, filled=False, opacity=1).encode(
                shape=shape, tooltip=tooltip
            ),
        ]
    if PAPER in kinds:
        paper = base.transform_filter(f"datum.kind == '{PAPER}'").encode(x=across, y=upright)
        layers.append(
            paper.mark_point(size=110, filled=False, shape="circle", stroke=MUTED).encode(
                tooltip=[alt.Tooltip("label:N", title="paper")]
            )
        )
        for is_below, dy in ((True, 15), (False, -12)):
            side = paper.transform_filter(f"datum.below == {str(is_below).lower()}")
            layers.append(side.mark_text(dy=dy, color=MUTED, fontSize=12).encode(text="label:N"))
    # On a phone every name has a line of the legend, which takes its height from the chart.
    height = HEIGHT + LEGEND_LINE * max(0, len(series) - 3)
    return without_data(alt.layer(*layers).properties(height=height))


@cache
def _promise_spec(control: str) -> dict[str, Any]:
    base = alt.Chart(alt.NamedData("table"))
    title = f"times {control}"
    across = alt.X("value:Q", title=title, scale=alt.Scale(zero=True))
    rows = base.encode(
        y=alt.Y(
            "series:N", sort=None, title=None, axis=alt.Axis(labelLimit=210, labelOverlap=False)
        ),
        tooltip=[
            alt.Tooltip("series:N", title="who"),
            alt.Tooltip("value:Q", title=MEASURED, format=".2f"),
            alt.Tooltip("promised:Q", title=PROMISED, format=".2f"),
        ],
    )
    one = base.mark_rule(color=MUTED, strokeDash=[2, 3], aria=False).encode(x=alt.datum(1))
    legend = alt.Legend(title=None, orient="top", direction="vertical", labelLimit=LEGEND_LABEL)
    kinds = alt.Scale(domain=[MEASURED, PROMISED])
    shapes = alt.Scale(domain=[MEASURED, PROMISED], range=["square", HOLLOW])
    color = alt.Color("kind:N", scale=kinds, legend=legend)
    shape = alt.Shape("kind:N", scale=shapes, legend=legend)
    measured, by_flops = (
        rows.transform_calculate(kind=f"'{kind}'") for kind in (MEASURED, PROMISED)
    )
    bars = measured.mark_bar(height={"band": 0.6}).encode(x=across, color=color)
    spread = rows.mark_rule(color=MUTED, strokeWidth=2).encode(
        x=alt.X("low:Q", title=title), x2="high:Q"
    )
    promised = by_flops.mark_point(size=170, filled=True, opacity=1).encode(
        x=alt.X("promised:Q", title=title), color=color, shape=shape
    )
    return without_data(alt.layer(bars, spread, promised, one))


@cache
def _live_spec(series: tuple[str, ...], title: str) -> dict[str, Any]:
    legend = method_legend(series, column=LEGEND_COLUMN, label=LEGEND_LABEL)
    bars = (
        alt.Chart(alt.NamedData("table"))
        .mark_bar()
        .encode(
            x=alt.X("x:N", sort=None, title=None, axis=alt.Axis(labelAngle=0)),
            xOffset=alt.XOffset("series:N", sort=list(series)),
            y=alt.Y("value:Q", title=title),
            color=alt.Color("series:N", scale=alt.Scale(domain=list(series)), legend=legend),
            tooltip=[
                alt.Tooltip("series:N", title="who"),
                alt.Tooltip("x:N", title="measured at"),
                alt.Tooltip("value:Q", title=title, format=",.0f"),
            ],
        )
    )
    return without_data(alt.layer(bars).properties(height=HEIGHT))
