"""Session keys and the URL: what a link must carry to show the same picture again.

Simple widgets bind themselves (`bind="query-params"`). Free text and what the token view reports
are carried by `adopt` and `publish`, which leave out values too long for a request line.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import streamlit as st

ROOT = Path(__file__).resolve().parents[3]
PAGES = ROOT / "pages"
EXPLORE = PAGES / "explore.py"
COMPARE = PAGES / "compare.py"
METHOD = PAGES / "method.py"
PAYS = PAGES / "pays.py"
RUNS = PAGES / "runs.py"
TRADEOFF = PAGES / "tradeoff.py"
TRAIN = PAGES / "train.py"

PRUNE = "Prune without training"
"""What the page Train is asked for by `what`, instead of a training."""

CHECKPOINT = "model"
A, B = "a", "b"
TEXT = "text"
PAIR = "pair"
SCALE = "scale"
MERGE_WORDS = "words"
SHOW_SPECIAL = "special"

_PAGE, _IS_NEW = "state.page", "state.page_is_new"

MAX_URL_CHARACTERS = 12_000
"""Of one value, percent-encoded. Servers refuse request lines of 64 KiB, and then the app with it."""


def enter(page: str) -> None:
    """Notes which page is about to run; the entry script calls it."""
    st.session_state[_IS_NEW] = st.session_state.get(_PAGE) != page
    st.session_state[_PAGE] = page


def follow_link(key: str) -> None:
    """Lets a link's value of a bound widget go before the one kept from an earlier visit.

    Streamlit itself prefers what it kept. Call it before the widget is drawn.
    """
    if st.session_state.get(_IS_NEW) and key in st.query_params:
        st.session_state.pop(key, None)


def adopt(name: str) -> str | None:
    """The URL's value of a parameter if someone else put it there: a link, or the back button."""
    value = st.query_params.get(name)
    return value if value != st.session_state.get(_seen(name)) else None


def publish(name: str, value: str | None) -> None:
    """Puts a value into the URL, or takes it out if it is None, empty or too long."""
    if value and len(quote(value)) <= MAX_URL_CHARACTERS:
        st.session_state[_seen(name)] = value
        if st.query_params.get(name) != value:
            st.query_params[name] = value
    else:
        st.session_state[_seen(name)] = None
        if name in st.query_params:
            del st.query_params[name]


def _seen(name: str) -> str:
    return f"url.{name}"


def whole(text: str | None) -> int | None:
    """A parameter that is a small whole number; None if it is none."""
    return int(text) if text and text.isdecimal() and len(text) < 6 else None


def parse_positions(text: str | None) -> set[int]:
    """Positions of a parameter like `3,8`; what is no position is left out."""
    pieces = (piece.strip() for piece in (text or "").split(","))
    return {int(piece) for piece in pieces if piece.isdecimal() and len(piece) < 6}


def format_positions(positions: Iterable[int]) -> str:
    """The parameter for positions."""
    return ",".join(map(str, sorted(positions)))


def parse_thresholds(text: str | None, num_layers: int) -> tuple[float, ...] | None:
    """Thresholds of a parameter like `0.1,0.25`; None unless there is one valid number a layer."""
    try:
        values = tuple(float(piece) for piece in (text or "").split(","))
    except ValueError:
        return None
    is_valid = len(values) == num_layers and all(0 <= value < 1e6 for value in values)
    return values if is_valid else None


def format_thresholds(thresholds: Iterable[float]) -> str:
    """The parameter for thresholds, which loses none of their digits."""
    return ",".join(repr(float(value)).removesuffix(".0") for value in thresholds)
