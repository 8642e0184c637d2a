"""How each pruning method looks in every chart: never by colour alone.

Colours are places in the theme's categorical list, so they fit light and dark; the order here is
that of the list in `app/.streamlit/config.toml`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MethodStyle:
    """One method's look.

    Attributes:
        name: Name of the method.
        title: Name on screen.
        shape: Vega's name of its marker, or its outline.
        dash: Lengths of stroke and gap of its line.
    """

    name: str
    title: str
    shape: str
    dash: tuple[int, int]


STAR = "M0,-1.4L0.35,-0.35L1.4,0L0.35,0.35L0,1.4L-0.35,0.35L-1.4,0L-0.35,-0.35Z"
"""Four points, in Vega's units; its own shapes are all taken, or thin."""

BAR = "M-1.4,-0.35L1.4,-0.35L1.4,0.35L-1.4,0.35Z"

_STYLES = (
    MethodStyle(name="ltp", title="LTP", shape="circle", dash=(1, 0)),
    MethodStyle(name="spatten", title="SpAtten", shape="square", dash=(8, 3)),
    MethodStyle(name="lat", title="LAT", shape="triangle-up", dash=(3, 3)),
    MethodStyle(name="manual", title="Manual threshold", shape="diamond", dash=(6, 2)),
    MethodStyle(name="calibrated", title="Calibrated threshold", shape="cross", dash=(10, 4)),
    MethodStyle(name="shallow", title="Shallow control", shape="triangle-down", dash=(2, 2)),
    MethodStyle(name="power_bert", title="PoWER-BERT", shape="triangle-right", dash=(5, 5)),
    MethodStyle(name="ltp_s", title="LTP-S", shape="triangle-left", dash=(12, 2)),
    MethodStyle(name="tr_bert", title="TR-BERT", shape=STAR, dash=(4, 1)),
)
KNOWN = {style.name: style for style in _STYLES}

UNPRUNED_TITLE = "Unpruned"

LIGHT_COLORS = (
    "#0072b2",
    "#d55e00",
    "#00805e",
    "#b0508a",
    "#6a4c00",
    "#4b5563",
    "#0e7c92",
    "#8a3b12",
    "#5b3fb5",
    "#1f2937",
)
"""The light theme's list, written out for exports; the last is for what has no place in the list above."""

DARK_COLORS = (
    "#56b4e9",
    "#e69f00",
    "#2bbf94",
    "#d98cba",
    "#d8c04a",
    "#a3acba",
    "#7ee0e6",
    "#f0a27a",
    "#b9a7ff",
    "#e5e7eb",
)
"""The dark theme's list."""


def style_of(name: str) -> MethodStyle:
    """A method's look; one that is not in the list is a bar in the colour of ink under its own name."""
    return KNOWN.get(name) or MethodStyle(name=name, title=title_of(name), shape=BAR, dash=(1, 1))


def title_of(name: str) -> str:
    """A method's name on screen."""
    if name == "unpruned":
        return UNPRUNED_TITLE
    return KNOWN[name].title if name in KNOWN else name


def in_order(names: Iterable[str]) -> list[str]:
    """Names in the order of the legend; unknown ones come last."""
    order = list(KNOWN)
    return sorted(set(names), key=lambda n: (order.index(n) if n in KNOWN else len(order), n))
