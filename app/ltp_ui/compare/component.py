"""The comparison as a Streamlit component: chips in four states, one scrubber, difference grid.

The component reports the pinned token (`token`, its position) and the scrubbed layer (`layer`).
"""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from app.ltp_ui.compare import figure
from app.ltp_ui.compare import markup as compare_markup
from app.ltp_ui.compare.comparison import STATES, Comparison, Side
from app.ltp_ui.compare.wording import row_note
from app.ltp_ui.shared.wording import number
from app.ltp_ui.token_view import markup
from app.ltp_ui.token_view.component import QUESTION_END, script, skeleton
from app.ltp_ui.token_view.view import telling_layer
from app.ltp_ui.token_view.wording import why

_TALLY = """
  <div class="tally" data-part="tally">
    <span><i class="swatch both"></i> both keep <b data-state="both"></b></span>
    <span><i class="swatch only-a"></i> only A <b data-state="only-a"></b></span>
    <span><i class="swatch only-b"></i> only B <b data-state="only-b"></b></span>
    <span><i class="swatch neither"></i> neither <b data-state="neither"></b></span>
    <em data-note></em>
  </div>
"""
_LEGEND = (
    "<span>bars under a token: layers that it survives in A (upper) and in B (lower)</span>"
    "<span>cells: upper half A, lower half B</span>"
    "<span><kbd>←</kbd><kbd>→</kbd> token <kbd>↑</kbd><kbd>↓</kbd> layer <kbd>Enter</kbd> pin</span>"
)
_HINT = "Point at a token to see why it left or stayed in each of the two; click it to pin it."


def opening_layer(comparison: Comparison) -> int:
    """Where the view opens: the first layer after which the two differ, else A's telling layer."""
    return comparison.first_difference or telling_layer(comparison.a.trace.lengths)


def compare_view(comparison: Comparison, *, key: str, token: int | None, layer: int) -> Any:
    """Shows a comparison; returns the component's state with `token` and `layer`.

    Args:
        comparison: What is shown.
        key: Session key of the component's state.
        token: Position of the pinned token.
        layer: Number of layers applied.
    """
    return _component()(
        key=key,
        data=payload(comparison, token=token, layer=layer),
        default={"token": token, "layer": layer},
        on_token_change=lambda: None,
        on_layer_change=lambda: None,
    )


def payload(comparison: Comparison, *, token: int | None, layer: int) -> dict[str, Any]:
    """What the component draws. `key` names the picture: a new one replaces what the user moved."""
    a, b, view = comparison.a, comparison.b, comparison.a.view
    layers = range(comparison.num_layers + 1)
    index = None if token is None else view.column_of(token)
    content = {
        "chips": compare_markup.chips_html(comparison),
        "names": [column.text for column in view.columns],
        "positions": [column.positions for column in view.columns],
        "sides": {"a": _side(a), "b": _side(b)},
        "lengths": [(a.num_live(k), b.num_live(k)) for k in layers],
        "tallies": [_counts(comparison, k) for k in layers],
        "row_notes": [row_note(comparison, k) for k in layers],
        "num_tokens": comparison.num_tokens,
        "num_layers": comparison.num_layers,
        "notes": [figure.notes(comparison, k) for k in layers[1:]],
        "note_heads": figure.HEADS,
        "note_ends": figure.NOTE_ENDS,
        "direction": "rtl" if view.is_right_to_left else "ltr",
        "summary": figure.summary(comparison),
        "answer": [],
        "context": view.context_index,
        "legend": _LEGEND
        if view.context_index is None
        else f"{_LEGEND}<span>{QUESTION_END}</span>",
        "hint": _HINT if view.columns else "There is no token to show.",
        "dense": len(view.columns) > markup.DENSE_COLUMNS,
    }
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return content | {
        "key": digest,
        "selected": -1 if index is None else index,
        "layer": min(layer, comparison.num_layers),
    }


def _side(side: Side) -> dict[str, Any]:
    view = side.view
    return {
        "why": [f"{side.letter}: {why(view, i)}" for i in range(len(view.columns))],
        "scores": [[None if s is None else number(s) for s in row] for row in view.scores],
        "thresholds": [None if t is None else number(t) for t in view.thresholds],
    }


def _counts(comparison: Comparison, layer: int) -> dict[str, int]:
    tally = comparison.tallies[layer]
    counts = (tally.both, tally.only_a, tally.only_b, tally.neither)
    return dict(zip(STATES, counts, strict=True))


@cache
def _component() -> Any:
    return st.components.v2.component(
        "ltp_compare_view",
        html=skeleton(kind="compare", tally=_TALLY),
        css=compare_markup.CSS,
        js=script(Path(__file__).parent / "component.js"),
    )
