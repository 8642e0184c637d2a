"""What the charts of the throughput page share: looks of the variants, lines, error bars, frame.

Colours are placeholders that Streamlit replaces by the theme's categorical colours, so they fit light
and dark. Marker, dash and pattern tell the variants apart without them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from app.ltp_ui.throughput.data import Bench, Who
from ltp_core.bench.variants import VARIANTS

if TYPE_CHECKING:
    import plotly.graph_objects as go

COLORS = [f"#00000{i}" for i in range(1, 8)]
GREY = "#7f8793"

HEIGHT = 380

_ENGINE_COLORS = {
    "repadded": 2,
    "masked": 3,
    "onnx": 4,
    "openvino": 4,
    "compiled": 5,
    "hugging_face": 5,
    "hugging_face_eager": 5,
}
"""Place in the theme's colours; the packed runner and its products take 0 pruned and 1 unpruned."""

_SYMBOLS = (
    *("circle", "square", "diamond", "cross", "x", "triangle-up", "triangle-down", "star"),
    *("triangle-left", "triangle-right", "pentagon", "hexagon", "octagon", "hexagram"),
    *("diamond-tall", "diamond-wide", "hourglass", "bowtie", "hexagon2", "triangle-ne"),
)
_DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
_PATTERNS = ("", "/", "x", ".", "-", "|", "\\", "+")


def _looks() -> dict[str, tuple[int, str, str, str]]:
    return {
        name: (
            _ENGINE_COLORS.get(variant.engine, 0 if variant.is_pruned else 1),
            _SYMBOLS[i % len(_SYMBOLS)],
            _DASHES[i % len(_DASHES)],
            _PATTERNS[i % len(_PATTERNS)],
        )
        for i, (name, variant) in enumerate(VARIANTS.items())
    }


LOOKS = _looks()
"""Place in the theme's colours, marker, dash and bar pattern of each variant."""

_OTHER_SYMBOLS = ("star-triangle-up", "star-square", "hourglass", "bowtie", "star-diamond")


def parts_of(frame: pd.DataFrame, bench: Bench) -> list[tuple[str, pd.DataFrame]]:
    """The lines of each variant, in the order of the legend."""
    parts = [(name, frame[frame["contender"] == name]) for name in bench.variants]
    return [(name, part) for name, part in parts if len(part)]


def line(part: pd.DataFrame, who: Who, figure: str, *, x: str, unit: str = "×") -> dict[str, Any]:
    """One variant's measured figures as a line with quartiles."""
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
    """Colour, marker, dash and pattern of a variant; other checkpoints share a colour."""
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
    """A variant's title in this benchmark; its name if it did not take part."""
    return bench.variants[name].title if name in bench.variants else name


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
