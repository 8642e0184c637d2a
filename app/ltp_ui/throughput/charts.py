"""Charts of the throughput page: tables in, Plotly figures out, no Streamlit.

Colours are placeholders that Streamlit replaces by the theme's categorical colours, so they fit light
and dark. Marker, dash and pattern tell the contenders apart without them. What is measured is filled;
what is promised by FLOPs, and what the paper says, is hollow.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from app.ltp_ui.throughput.data import Bench, Who, people
from ltp_core.bench.catalogue import CONTROL

if TYPE_CHECKING:
    import plotly.graph_objects as go

_COLORS = [f"#00000{i}" for i in range(1, 8)]
GREY = "#7f8793"

_LOG = {"type": "log", "dtick": "D2", "tickformat": "~g"}

HEIGHT = 380
ROW_HEIGHT = 44

_LOOKS = {
    "packed": (0, "circle", "solid", ""),
    "packed_unpruned": (1, "square", "dash", "/"),
    "packed_first": (0, "pentagon", "dash", "-"),
    "packed_unpruned_first": (1, "star-diamond", "dot", "-"),
    "products": (0, "hexagram", "dot", "|"),
    "products_unpruned": (1, "octagon", "dashdot", "|"),
    "repadded": (2, "diamond", "dot", "x"),
    "masked": (3, "x", "dashdot", "."),
    "hugging_face": (5, "triangle-up", "solid", ""),
    "hugging_face_sorted": (5, "triangle-down", "dash", "/"),
    "hugging_face_eager": (5, "cross", "dot", "."),
    "onnx": (4, "star", "solid", ""),
    "onnx_sorted": (4, "hexagon", "dash", "/"),
    "onnx_int8_sorted": (4, "pentagon", "dot", "."),
    "packed_bfloat16": (0, "diamond-tall", "longdash", "\\"),
    "packed_unpruned_bfloat16": (1, "diamond-wide", "longdash", "\\"),
    "hugging_face_bfloat16_sorted": (5, "triangle-left", "longdash", "\\"),
    "onnx_pruned": (4, "triangle-right", "longdash", "\\"),
    "onnx_pruned_sorted": (4, "triangle-up", "dashdot", "+"),
    "onnx_pruned_int8_sorted": (4, "cross", "longdashdot", "|"),
}
"""Place in the theme's colours, marker, dash and bar pattern of each contender."""

_OTHER_SYMBOLS = ("star-triangle-up", "star-square", "hourglass", "bowtie", "star-diamond")

PAPER_THROUGHPUT = (("QNLI", 1.9), ("QQP", 2.0))
"""Figure 6 and section 4.5: up to about so many times, RoBERTa-base, on CPU and GPU alike."""

PAPER_TOPK = ((128, 7.4), (1024, 33.4))
"""Figure A.1: top-k slower by up to so many times at these lengths, Haswell CPU, batch 32."""


def throughput_chart(bench: Bench) -> go.Figure:
    """Relative throughput against batch size (Figure 6), quartiles as bars; the paper's beside it."""
    frame = bench.frame[bench.frame["relative_throughput"].notna()]
    has_lengths = frame["length"].notna().any()
    frame = frame.assign(
        x=frame["place"] if has_lengths else frame["batch_size"].map("{:.0f}".format)
    )
    traces = [
        _line(part, bench.contenders[name], "relative_throughput", x="x")
        for name, part in _parts(frame, bench)
    ]
    traces.append(_paper_throughput())
    return _figure(
        traces,
        x={"title": "measured at" if has_lengths else "batch size", "type": "category"},
        y={"title": "throughput, times Hugging Face", "rangemode": "tozero"},
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
    titles = [bench.contenders[name].title for name in frame["contender"]]
    bars = {
        "type": "bar",
        "orientation": "h",
        "name": "measured",
        "x": _values(frame, "speedup"),
        "y": titles,
        "error_x": _error(frame, "speedup"),
        "marker": {
            "color": [_look(name)[0] for name in frame["contender"]],
            "pattern": {"shape": [_look(name)[3] for name in frame["contender"]]},
        },
        "hovertemplate": "%{y}: %{x:.2f}× measured<extra></extra>",
        "showlegend": False,
    }
    promised = {
        "type": "scatter",
        "mode": "markers",
        "name": "promised by the FLOPs that it executes",
        "x": _values(frame, "theoretical_speedup"),
        "y": titles,
        "marker": {"symbol": "diamond-open", "size": 13, "color": GREY, "line": {"width": 2}},
        "hovertemplate": "%{y}: %{x:.2f}× by FLOPs<extra></extra>",
    }
    figure = _figure(
        [bars, promised],
        x={"title": f"speed, times {_title(bench, CONTROL)}", "rangemode": "tozero"},
        y={"title": "", "automargin": True},
        height=120 + ROW_HEIGHT * max(2, len(frame)),
    )
    figure.add_vline(x=1, line={"dash": "dot", "color": GREY, "width": 1})
    return figure


def length_chart(bench: Bench, batch_size: int) -> go.Figure:
    """Time per sequence against length, beside the time that its FLOPs take as one matrix product."""
    frame = bench.frame[(bench.frame["batch_size"] == batch_size) & bench.frame["length"].notna()]
    traces = []
    for name, part in _parts(frame, bench):
        times = part.assign(
            ms=1_000 / part["sequences_per_s"],
            ms_q1=1_000 / part["sequences_per_s_q3"],
            ms_q3=1_000 / part["sequences_per_s_q1"],
        )
        traces.append(_line(times, bench.contenders[name], "ms", x="length", unit=" ms"))
    traces += _ideal_lines(frame, bench)
    return _figure(
        traces,
        x={"title": "tokens of every sequence", "type": "log", "tickvals": _lengths(frame)},
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
            "name": f"{_title(bench, name)}, by FLOPs",
            "x": _values(part, "length"),
            "y": [1_000 * flops / rate for flops in part["flops_per_sequence"]],
            "line": {"dash": "dot", "color": _look(name)[0], "width": 1.5},
            "marker": {"symbol": f"{_look(name)[1]}-open", "size": 8},
            "hovertemplate": "%{y:.2f} ms at %{x} tokens by FLOPs<extra></extra>",
        }
        for name, part in _parts(frame, bench)
        if name in ("packed", CONTROL)
    ]


def topk_chart(bench: Bench, selection: str) -> go.Figure:
    """Time of top-k over the time of a comparison (Figure A.1), by length and retain ratio."""
    frame = bench.frame[bench.frame["contender"] == selection]
    traces = []
    for index, (ratio, part) in enumerate(frame.groupby("retain_ratio")):
        part = part.sort_values("length")
        color, symbol = _COLORS[index % 7], ("circle", "square", "diamond", "x", "cross")[index % 5]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{100 * float(str(ratio)):.0f} % kept",
                "x": _values(part, "length"),
                "y": _values(part, "slowdown"),
                "error_y": _error(part, "slowdown"),
                "line": {"color": color, "dash": ("solid", "dash", "dot", "dashdot")[index % 4]},
                "marker": {"symbol": symbol, "size": 9},
                "hovertemplate": "%{y:.1f}× at %{x} tokens<extra>%{fullData.name}</extra>",
            }
        )
    traces.append(_paper_topk())
    ticks = sorted({*_lengths(frame), *(length for length, _ in PAPER_TOPK)})
    return _figure(
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


def machines_chart(benches: Sequence[Bench], contender: str, figure: str) -> go.Figure:
    """One contender on several machines: a line a benchmark."""
    traces = []
    for index, bench in enumerate(benches):
        part = bench.frame[bench.frame["contender"] == contender]
        part = part[part[figure].notna()]
        symbol = ("circle", "square", "diamond", "x", "cross", "star")[index % 6]
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers",
                "name": f"{html.escape(bench.machine)} ({index + 1})",
                "x": list(part["place"]),
                "y": _values(part, figure),
                "error_y": _error(part, figure),
                "line": {"color": _COLORS[index % 7]},
                "marker": {"symbol": symbol, "size": 9},
                "hovertemplate": "%{y:.2f}, %{x}<extra>%{fullData.name}</extra>",
            }
        )
    title = {
        "sequences_per_s": "sequences per second",
        "relative_throughput": "throughput, times Hugging Face",
        "speedup": "speed, times the packed control",
        "slowdown": "times as long as a threshold",
    }[figure]
    return _figure(
        traces, x={"title": "", "type": "category"}, y={"title": title, "rangemode": "tozero"}
    )


def live_chart(frame: pd.DataFrame) -> go.Figure:
    """Bars of what a running benchmark has measured so far."""
    is_topk = frame["time_us"].notna().any()
    value = "time_us" if is_topk else "sequences_per_s"
    contenders = people({}, frame["contender"])
    traces = []
    for name, who in contenders.items():
        part = frame[frame["contender"] == name]
        color, _, _, pattern = _look(name)
        traces.append(
            {
                "type": "bar",
                "name": who.title,
                "x": [_kept(row) for _, row in part.iterrows()],
                "y": _values(part, value),
                "error_y": _error(part, value),
                "marker": {"color": color, "pattern": {"shape": pattern}},
                "hovertemplate": "%{y:.0f}, %{x}<extra>%{fullData.name}</extra>",
            }
        )
    title = "µs" if is_topk else "sequences per second"
    return _figure(traces, x={"title": "", "type": "category"}, y={"title": title}, height=300)


def _kept(row: Any) -> str:
    """The place, with the retain ratio where there is one."""
    if pd.isna(row["retain_ratio"]):
        return str(row["place"])
    return f"{row['length']:.0f} tokens, {100 * row['retain_ratio']:.0f} %"


def _parts(frame: pd.DataFrame, bench: Bench) -> list[tuple[str, pd.DataFrame]]:
    """The lines of each contender, in the order of the legend."""
    parts = [(name, frame[frame["contender"] == name]) for name in bench.contenders]
    return [(name, part) for name, part in parts if len(part)]


def _line(part: pd.DataFrame, who: Who, figure: str, *, x: str, unit: str = "×") -> dict[str, Any]:
    color, symbol, dash, _ = _look(who.name)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": who.title,
        "x": list(part[x]),
        "y": _values(part, figure),
        "error_y": _error(part, figure),
        "line": {"color": color, "dash": dash, "width": 2.5 if who.name == "packed" else 1.8},
        "marker": {"symbol": symbol, "size": 10},
        "hovertemplate": f"%{{y:.2f}}{unit}, %{{x}}<extra>%{{fullData.name}}</extra>",
    }


def _look(name: str) -> tuple[str, str, str, str]:
    """Colour, marker, dash and pattern of a contender; other checkpoints share a colour."""
    if name in _LOOKS:
        index, symbol, dash, pattern = _LOOKS[name]
        return _COLORS[index], symbol, dash, pattern
    return _COLORS[6], _OTHER_SYMBOLS[sum(map(ord, name)) % len(_OTHER_SYMBOLS)], "longdash", "+"


def _error(part: pd.DataFrame, figure: str) -> dict[str, Any]:
    """Quartiles as asymmetric error bars."""
    middle = part[figure]
    return {
        "type": "data",
        "symmetric": False,
        "array": (part[f"{figure}_q3"] - middle).clip(lower=0).fillna(0).tolist(),
        "arrayminus": (middle - part[f"{figure}_q1"]).clip(lower=0).fillna(0).tolist(),
        "thickness": 1.5,
        "color": GREY,
    }


def _values(part: pd.DataFrame, column: str) -> list[float | None]:
    return [None if pd.isna(value) else float(value) for value in part[column]]


def _lengths(frame: pd.DataFrame) -> list[int]:
    return sorted({int(length) for length in frame["length"].dropna()})


def _title(bench: Bench, name: str) -> str:
    return bench.contenders[name].title if name in bench.contenders else name


def _figure(
    traces: Sequence[dict[str, Any]], *, x: dict[str, Any], y: dict[str, Any], height: int = HEIGHT
) -> go.Figure:
    import plotly.graph_objects as go

    return go.Figure(
        data=list(traces),
        layout={
            "height": height,
            "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
            "legend": {"orientation": "h", "yanchor": "bottom", "y": 1.02, "x": 0},
            "xaxis": x,
            "yaxis": y,
            "hovermode": "closest",
            "bargap": 0.25,
        },
    )
