"""The token view as a Streamlit component: its scripts move what this module sends.

The component reports the pinned token (`token`, its position), the scrubbed layer (`layer`, number
of layers applied) and a wish to keep or drop a token by hand (`force`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from functools import cache
from html import escape
from pathlib import Path
from typing import Any

import streamlit as st

from app.ltp_ui.shared.wording import counted, number
from app.ltp_ui.token_view import figure, markup
from app.ltp_ui.token_view.view import NUM_LEVELS, PASSED, TokenView
from app.ltp_ui.token_view.wording import all_layers, answer_name, passed_words, ramp_words, side_of

_FOLDER = Path(__file__).parent
NOTE_ENDS = (44, 108)
"""Where the notes beside a row of the grid end, in pixels from its last cell."""

QUESTION_END = '<i class="mark divider"></i> end of the question'

_HTML = """
<div class="tv {kind}">
  <div class="bar">
    <button class="play" type="button" data-part="play" aria-label="Play layer by layer">▶</button>
    <label>Layer <input type="range" min="0" data-part="scrubber"></label>
    <output data-part="count"></output>
  </div>
  {tally}
  <div class="chips" data-part="chips" role="listbox" aria-label="Tokens"
       aria-orientation="horizontal"></div>
  <p class="detail" data-part="detail" aria-live="polite"></p>
  <div class="grid" data-part="grid"></div>
  <div class="legend" data-part="legend"></div>
</div>
"""


def skeleton(*, kind: str = "", tally: str = "") -> str:
    """The parts that the scripts fill, with a class and a line between scrubber and chips."""
    return _HTML.format(kind=kind, tally=tally)


def token_view(
    view: TokenView,
    *,
    key: str,
    token: int | None = None,
    layer: int | None = None,
    can_force: bool = False,
    version: int = 0,
    on_select: Callable[[], None] | None = None,
    on_force: Callable[[], None] = lambda: None,
) -> Any:
    """Shows a trace; returns the component's state with `token`, `layer` and `force`.

    Args:
        view: What is shown.
        key: Session key of the component's state.
        token: Position of the pinned token.
        layer: Number of layers applied; all if None.
        can_force: The keys K and D keep and drop the token at hand.
        version: Another one replaces what the user moved by `token` and `layer`.
        on_select: Called before the rerun when a token is pinned or a layer scrubbed.
        on_force: Called before the rerun when a token is to be kept or dropped by hand.
    """
    return _component()(
        key=key,
        data=payload(view, token=token, layer=layer, can_force=can_force, version=version),
        default={"token": token, "layer": layer},
        on_token_change=on_select or _nothing,
        on_layer_change=on_select or _nothing,
        on_force_change=on_force,
    )


def _nothing() -> None:
    """The component's state is read in the rerun."""


def payload(
    view: TokenView, *, token: int | None, layer: int | None, can_force: bool, version: int = 0
) -> dict[str, Any]:
    """What the component draws. `key` names the picture: a new one replaces what the user moved."""
    index = None if token is None else view.column_of(token)
    content = {
        "chips": markup.chips_html(view),
        "names": [column.text for column in view.columns],
        "positions": [column.positions for column in view.columns],
        "protected": [column.is_protected for column in view.columns],
        "learned": _ghosts(view),
        "grid": view.grid,
        "scores": [[None if s is None else number(s) for s in row] for row in view.scores],
        "thresholds": [None if t is None else number(t) for t in view.thresholds],
        "lengths": view.lengths,
        "num_layers": view.num_layers,
        "notes": _notes(view),
        "note_heads": ("live", "" if None in view.thresholds else "threshold"),
        "note_ends": NOTE_ENDS,
        "direction": "rtl" if view.is_right_to_left else "ltr",
        "summary": figure.described(view),
        "answer": list(view.answer_range),
        "context": view.context_index,
        "legend": legend_html(view, can_force=can_force),
        "hint": _hint(view),
        "can_force": can_force,
        "version": version,
        "dense": len(view.columns) > markup.DENSE_COLUMNS,
    }
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return content | {
        "key": digest,
        "selected": -1 if index is None else index,
        "layer": view.num_layers if layer is None else min(layer, view.num_layers),
    }


def legend_html(view: TokenView, *, can_force: bool) -> str:
    """The legend: only what occurs in this view."""
    ramp = "".join(
        f'<i style="opacity:{figure.fill_opacity(level)}"></i>' for level in range(NUM_LEVELS)
    )
    what, least, most = ramp_words(view)
    entries = [f'{what}: {least} <span class="ramp">{ramp}</span> {most}']
    if any("x" in row for row in view.grid):
        entries.append('<i class="mark left">✕</i> left ' + side_of(view) + " this layer")
    if any("!" in row for row in view.grid):
        entries.append('<i class="mark spared">●</i> stays though not above the threshold')
    if any(PASSED in row for row in view.grid):
        entries.append(f'<i class="mark passed"></i> {passed_words(view)}')
    if any(ghost is not None for ghost in _ghosts(view)):
        entries.append('<i class="mark ghost"></i> where the learned thresholds differ')
    if unknown := next((c.unknown for c in view.columns if c.unknown), ""):
        entries.append(f'<i class="mark unknown"></i> unknown: the model reads {escape(unknown)}')
    if view.answer_range:
        entries.append(f'<i class="mark answer"></i> {answer_name(view)}')
    if view.context_index is not None:
        entries.append(QUESTION_END)
    keys = "<kbd>←</kbd><kbd>→</kbd> token <kbd>↑</kbd><kbd>↓</kbd> layer <kbd>Enter</kbd> pin"
    if can_force:
        keys += " <kbd>K</kbd> keep <kbd>D</kbd> drop"
    return "".join(f"<span>{entry}</span>" for entry in [*entries, keys])


def _ghosts(view: TokenView) -> list[int | None]:
    """Layers survived with the learned thresholds, where that is not what is shown."""
    return [None if c.survived_learned == c.survived else c.survived_learned for c in view.columns]


def _notes(view: TokenView) -> list[tuple[str, str]]:
    """The text beside each row: tokens that go on and the threshold they had to pass."""
    return [
        (str(live) if runs else "–", "" if threshold is None else number(threshold))
        for live, threshold, runs in zip(view.lengths[1:], view.thresholds, view.runs, strict=True)
    ]


def _hint(view: TokenView) -> str:
    if not view.columns:
        return "There is no token to show."
    if all(length == view.lengths[0] for length in view.lengths):
        return f"Every token stays through {all_layers(view)}. Point at one to see its scores."
    if view.lengths[-1] == 1:
        left = f"Of {counted(view.lengths[0], 'token')} only the first is left at the end"
        return f"{left}." if view.asks else f"{left}; the head reads that one."
    return "Point at a token to see why it left or stayed; click it to pin it."


@cache
def _component() -> Any:
    return st.components.v2.component(
        "ltp_token_view",
        html=skeleton(),
        css=markup.CSS,
        js=script(_FOLDER / "component.js"),
    )


def script(path: Path) -> str:
    """A component's script, after what it shares with the others."""
    files = (_FOLDER / "base.js", path)
    return "\n".join(file.read_text(encoding="utf-8") for file in files)
