"""Charts of the throughput page: tables in, Plotly figures out, no Streamlit.

What is measured is filled; what is promised by FLOPs, and what the paper says, is hollow.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from app.ltp_ui.throughput.data import Bench, people
from app.ltp_ui.throughput.looks import (
    COLORS,
    GREY,
    error_bars,
    figure_of,
    lengths,
    line,
    look,
    parts_of,
    title_of,
    values,
)
from ltp_core.bench.variants import CONTROL, DEFAULT, VARIANTS

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROW_HEIGHT = 44

MOST_LINES = 8
"""Where more are measured, the lines are those of the method, its controls and Hugging Face."""

_LOG = {"type": "log", "dtick": "D2", "tickformat": "~g"}

PAPER_THROUGHPUT = (("QNLI", 1.9), ("QQP", 2.0))
"""Figure 6 and section 4.5: up to about so many times, RoBERTa-base, on CPU and GPU alike."""

PAPER_TOPK = ((128, 7.4), (1024, 33.4))
"""Figure A.1: top-k slower by up to so many times at these lengths, Haswell CPU, batch 32."""


def throughput_chart(bench: Bench) -> go.Figure:
    """Relative throughput against batch size (Figure 6), quartiles as bars; the paper's beside it."""
    frame = bench.frame[bench.frame[bench.relative].notna()]
    has_lengths = frame["length"].notna().any()
    frame = frame.assign(
        x=frame["place"] if has_lengths else frame["batch_size"].map("{:.0f}".format)
    )
    parts = parts_of(frame, bench)
    if len(parts) > MOST_LINES:
        parts = [(n, part) for n, part in parts if n in DEFAULT or n not in VARIANTS]
    traces = [line(part, bench.variants[name], bench.relative, x="x") for name, part in parts]
    traces.append(_paper_throughput())
    return figure_of(
        traces,
        x={"title": "measured at" if has_lengths else "batch size", "type": "category"},
        y={"title": f"throughput, times {bench.baseline}", "rangemode": "tozero"},
    )


def _paper_throughput() -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "paper, RoBERTa-base (Fig. 6)",
        "x": ["paper, up to"] * len(PAPER_THROUGHPUT),
        "y": [value for _, value in PAPER_THROUGHPUT],
        "text": [f"{task} " for task, _ in PAPER_THROUGHPUT],
        "textposition": ["bottom left", "top left"],
        "marker": {"symbol": "circle-open", "size": 11, "color": GREY, "line": {"width": 2}},
        "hovertemplate": "paper: up to about %{y:.1f}× on %{text}<extra></extra>",
    }


def promise_chart(bench: Bench, place: str) -> go.Figure:
    """Measured speedup over the unpruned packed control beside what the FLOPs promise."""
    frame = bench.frame[(bench.frame["place"] == place) & bench.frame["speedup"].notna()]
    frame = frame.iloc[::-1]
    titles = [bench.variants[name].title for name in frame["contender"]]
    bars = {
        "type": "bar",
        "orientation": "h",
        "name": "measured",
        "x": values(frame, "speedup"),
        "y": titles,
        "error_x": error_bars(frame, "speedup"),
        "marker": {
            "color": [look(name)[0] for name in frame["contender"]],
            "pattern": {"shape": [look(name)[3] for name in frame["contender"]]},
        },
        "hovertemplate": "%{y}: %{x:.2f}× measured<extra></extra>",
        "showlegend": False,
    }
    promised = {
        "type": "scatter",
        "mode": "markers",
        "name": "promised by the FLOPs that it executes",
        "x": values(frame, "theoretical_speedup"),
        "y": titles,
        "marker": {"symbol": "diamond-open", "size": 13, "color": GREY, "line": {"width": 2}},
        "hovertemplate": "%{y}: %{x:.2f}× by FLOPs<extra></extra>",
    }
    figure = figure_of(
        [bars, promised],
        x={"title": f"× {title_of(bench, CONTROL)}", "rangemode": "tozero"},
        y={"title": "", "automargin": True},
        height=120 + ROW_HEIGHT * max(2, len(frame)),
    )
    figure.add_vline(x=1, line={"dash": "dot", "color": GREY, "width": 1})
    return figure


def length_chart(bench: Bench, batch_size: int) -> go.Figure:
    """Time per sequence against length, beside the time that its FLOPs take as one matrix product."""
    frame = bench.frame[(bench.frame["batch_size"] == batch_size) & bench.frame["length"].notna()]
    traces = []
    for name, part in parts_of(frame, bench):
        times = part.assign(
            ms=1_000 / part["sequences_per_s"],
            ms_q1=1_000 / part["sequences_per_s_q3"],
            ms_q3=1_000 / part["sequences_per_s_q1"],
        )
        traces.append(line(times, bench.variants[name], "ms", x="length", unit=" ms"))
    traces += _ideal_lines(frame, bench)
    return figure_of(
        traces,
        x={"title": "tokens of every sequence", "type": "log", "tickvals": lengths(frame)},
        y={"title": "ms per sequence", **_LOG},
    )


def _ideal_lines(frame: pd.DataFrame, bench: Bench) -> list[dict[str, Any]]:
    """The method and the control at the machine's own rate for matrix products."""
    rate = bench.matmul_flops_per_s
    if rate is None:
        return []
    return [
        {
            "type": "scatter",
            "mode": "lines+markers",
            "name": f"{title_of(bench, name)}, by FLOPs",
            "x": values(part, "length"),
            "y": [1_000 * flops / rate for flops in part["flops_per_sequence"]],
            "line": {"dash": "dot", "color": look(name)[0], "width": 1.5},
            "marker": {"symbol": f"{look(name)[1]}-open", "size": 8},
            "hovertemplate": "%{y:.2f} ms at %{x} tokens by FLOPs<extra></extra>",
        }
        for name, part in parts_of(frame, bench)
        if name in ("packed", CONTROL)
    ]


def topk_chart(bench: Bench, selection: str) -> go.Figure:
    """Time of top-k over the time of a comparison (Figure A.1), by length and retain ratio."""
    frame = bench.frame[bench.frame["contender"] == selection]
    traces = []
    for index, (ratio, part) in enumerate(frame.groupby("retain_ratio")):
        part = part.sort_values("length")
        color, symbol = COLORS[index % 7], ("circle", "square", "diamond", "x", "cross")[index % 5]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{100 * float(str(ratio)):.0f} % kept",
                "x": values(part, "length"),
                "y": values(part, "slowdown"),
                "error_y": error_bars(part, "slowdown"),
                "line": {"color": color, "dash": ("solid", "dash", "dot", "dashdot")[index % 4]},
                "marker": {"symbol": symbol, "size": 9},
                "hovertemplate": "%{y:.1f}× at %{x} tokens<extra>%{fullData.name}</extra>",
            }
        )
    traces.append(_paper_topk())
    ticks = sorted({*lengths(frame), *(length for length, _ in PAPER_TOPK)})
    return figure_of(
        traces,
        x={"title": "tokens of every sequence", "type": "log", "tickvals": ticks},
        y={"title": "times as long as a threshold", **_LOG},
    )


def _paper_topk() -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "markers+text",
        "name": "paper, up to (Fig. A.1)",
        "x": [length for length, _ in PAPER_TOPK],
        "y": [value for _, value in PAPER_TOPK],
        "text": [f"paper {value}×" for _, value in PAPER_TOPK],
        "textposition": ["middle right", "middle left"],
        "marker": {"symbol": "circle-open", "size": 11, "color": GREY, "line": {"width": 2}},
        "hovertemplate": "paper: up to %{y}× at %{x} tokens<extra></extra>",
    }


def machines_chart(benches: Sequence[Bench], variant: str, figure: str) -> go.Figure:
    """One variant on several machines: a line a benchmark."""
    traces = []
    for index, bench in enumerate(benches):
        part = bench.frame[bench.frame["contender"] == variant]
        part = part[part[figure].notna()]
        symbol = ("circle", "square", "diamond", "x", "cross", "star")[index % 6]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{html.escape(bench.machine)} ({index + 1})",
                "x": list(part["place"]),
                "y": values(part, figure),
                "error_y": error_bars(part, figure),
                "line": {"color": COLORS[index % 7]},
                "marker": {"symbol": symbol, "size": 9},
                "hovertemplate": "%{y:.2f}, %{x}<extra>%{fullData.name}</extra>",
            }
        )
    title = {
        "sequences_per_s": "sequences per second",
        "relative_to_sorted": "throughput, times Hugging Face, sorted",
        "relative_throughput": "throughput, times Hugging Face, shuffled",
        "speedup": "speed, times the packed control",
        "slowdown": "times as long as a threshold",
    }[figure]
    return figure_of(
        traces, x={"title": "", "type": "category"}, y={"title": title, "rangemode": "tozero"}
    )


def live_chart(frame: pd.DataFrame) -> go.Figure:
    """Bars of what a running benchmark has measured so far."""
    is_topk = frame["time_us"].notna().any()
    value = "time_us" if is_topk else "sequences_per_s"
    variants = people({}, frame["contender"])
    traces = []
    for name, who in variants.items():
        part = frame[frame["contender"] == name]
        color, _, _, pattern = look(name)
        traces.append(
            {
                "type": "bar",
                "name": who.title,
                "x": [_kept(row) for _, row in part.iterrows()],
                "y": values(part, value),
                "error_y": error_bars(part, value),
                "marker": {"color": color, "pattern": {"shape": pattern}},
                "hovertemplate": "%{y:.0f}, %{x}<extra>%{fullData.name}</extra>",
            }
        )
    title = "µs" if is_topk else "sequences per second"
    return figure_of(traces, x={"title": "", "type": "category"}, y={"title": title}, height=300)


def _kept(row: Any) -> str:
    """The place, with the retain ratio where there is one."""
    if pd.isna(row["retain_ratio"]):
        return str(row["place"])
    return f"{row['length']:.0f} tokens, {100 * row['retain_ratio']:.0f} %"
