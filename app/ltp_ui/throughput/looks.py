"""What the charts of the throughput page share: looks of the contenders, lines, error bars, frame.

Colours are placeholders that Streamlit replaces by the theme's categorical colours, so they fit light
and dark. Marker, dash and pattern tell the contenders apart without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from app.ltp_ui.throughput.data import Bench, Who

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLORS = [f"#00000{i}" for i in range(1, 8)]
GREY = "#7f8793"

HEIGHT = 380

LOOKS = {
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


def parts_of(frame: pd.DataFrame, bench: Bench) -> list[tuple[str, pd.DataFrame]]:
    """The lines of each contender, in the order of the legend."""
    parts = [(name, frame[frame["contender"] == name]) for name in bench.contenders]
    return [(name, part) for name, part in parts if len(part)]


def line(part: pd.DataFrame, who: Who, figure: str, *, x: str, unit: str = "×") -> dict[str, Any]:
    """One contender's measured figures as a line with quartiles."""
    color, symbol, dash, _ = look(who.name)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": who.title,
        "x": list(part[x]),
        "y": values(part, figure),
        "error_y": error_bars(part, figure),
        "line": {"color": color, "dash": dash, "width": 2.5 if who.name == "packed" else 1.8},
        "marker": {"symbol": symbol, "size": 10},
        "hovertemplate": f"%{{y:.2f}}{unit}, %{{x}}<extra>%{{fullData.name}}</extra>",
    }


def look(name: str) -> tuple[str, str, str, str]:
    """Colour, marker, dash and pattern of a contender; other checkpoints share a colour."""
    if name in LOOKS:
        index, symbol, dash, pattern = LOOKS[name]
        return COLORS[index], symbol, dash, pattern
    return COLORS[6], _OTHER_SYMBOLS[sum(map(ord, name)) % len(_OTHER_SYMBOLS)], "longdash", "+"


def error_bars(part: pd.DataFrame, figure: str) -> dict[str, Any]:
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


def values(part: pd.DataFrame, column: str) -> list[float | None]:
    """A column as Plotly takes it: what is missing is None."""
    return [None if pd.isna(value) else float(value) for value in part[column]]


def lengths(frame: pd.DataFrame) -> list[int]:
    """The lengths that occur, ascending."""
    return sorted({int(length) for length in frame["length"].dropna()})


def title_of(bench: Bench, name: str) -> str:
    """A contender's title in this benchmark; its name if it did not take part."""
    return bench.contenders[name].title if name in bench.contenders else name


def figure_of(
    traces: Sequence[dict[str, Any]], *, x: dict[str, Any], y: dict[str, Any], height: int = HEIGHT
) -> go.Figure:
    """Traces in the frame that all charts share."""
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
