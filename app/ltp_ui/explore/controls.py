"""What a user sets on the explore page: checkpoint, texts, thresholds, tokens kept or dropped."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import live, state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.checkpoint_select import checkpoint_select
from app.ltp_ui.shared.live import Card, Question
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.palette import DARK, LIGHT
from app.ltp_ui.shared.strength import BUDGET, Strength, choose_budget
from app.ltp_ui.shared.texts import ask as ask_texts
from app.ltp_ui.shared.wording import SCORE_UNIT_HELP
from ltp_core.records import WhatIf

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

FORCED, EDITOR, QUESTION = "explore.forced", "explore.editor", "explore.question"
EDITOR_OPEN = "explore.thresholds"
THRESHOLDS_PARAMETER = "thresholds"
BAR = "explore-bar"
BAR_STYLE = f"""
<style>
:has(> .st-key-{BAR}) {{
  position: sticky;
  bottom: 0;
  z-index: 10;
  padding-block: 0.5rem;
  background: light-dark({LIGHT.background}, {DARK.background});
}}
.st-key-{BAR} {{ flex-wrap: nowrap; }}
.st-key-{BAR} > * {{ flex-shrink: 1; min-width: 0; }}
[data-testid="stElementContainer"] {{ opacity: 1 !important; }}
[data-testid="stTextArea"] textarea {{ max-height: 30vh; overflow-y: auto !important; }}
</style>
"""
"""The multiplier stays in sight with the picture that it changes, however long that is; nothing
greys while the page computes, for the picture is what one looks at then; a long text leaves room for
the answer below it."""

MULTIPLIER_WIDTH = 260


def choose_checkpoint() -> str | None:
    """The checkpoint's name or folder; None where there is none and none was typed."""
    found = live.checkpoints()
    names = [each.name for each in found]
    default = live.default_checkpoint(found)
    return checkpoint_select("Checkpoint", names, key=state.CHECKPOINT, default=default)


def bar() -> DeltaGenerator:
    """A container that stays at the lower edge of the window while the picture is above it."""
    st.html(BAR_STYLE)
    return st.container(key=BAR, horizontal=True, vertical_alignment="bottom", gap="medium")


def ask(card: Card) -> Question | None:
    """The texts; None where they are not complete, which is then said on the page."""
    texts = ask_texts(card.task)
    if texts is None:
        return None
    question = Question(checkpoint=card.name_or_path, text=texts.text, text_pair=texts.pair)
    _forget_if_new(question)
    return question


def _forget_if_new(question: Question) -> None:
    """What was forced belongs to one question; a link may bring it along with the first."""
    before = st.session_state.get(QUESTION)
    if before is None:
        keep = state.parse_positions(state.adopt("keep"))
        drop = state.parse_positions(state.adopt("drop")) - keep
        st.session_state[FORCED] = dict.fromkeys(keep, "keep") | dict.fromkeys(drop, "drop")
    elif before != question:
        st.session_state[FORCED] = {}
    st.session_state[QUESTION] = question


def force(positions: Iterable[int], how: str | None) -> None:
    """Lets tokens "keep" or "drop" by hand; None leaves them to their scores again."""
    forced = dict(st.session_state.get(FORCED, {}))
    for position in positions:
        forced.pop(position, None)
        if how:
            forced[position] = how
    st.session_state[FORCED] = forced


def num_forced() -> int:
    """How many tokens are kept or dropped by hand."""
    return len(st.session_state.get(FORCED, {}))


def forget_forced() -> None:
    """Leaves all tokens to their scores."""
    st.session_state[FORCED] = {}


def forced(positions: Iterable[int]) -> str | None:
    """What is forced on the first of these tokens."""
    chosen: dict[int, str] = st.session_state.get(FORCED, {})
    return next((chosen[position] for position in positions if position in chosen), None)


def what_if(card: Card, length: int) -> WhatIf:
    """Thresholds and forced tokens.

    Args:
        card: The checkpoint.
        length: Tokens of the input; positions beyond are left out.
    """
    thresholds, strength = _pruning(card)
    by_hand: dict[int, str] = st.session_state.get(FORCED, {})
    sides = {
        side: tuple(sorted(p for p, how in by_hand.items() if how == side and p < length))
        for side in ("keep", "drop")
    }
    for side, positions in sides.items():
        state.publish(side, state.format_positions(positions))
    return WhatIf(
        thresholds=thresholds,
        scale=strength.factor,
        budget=strength.budget,
        keep=sides["keep"],
        drop=sides["drop"],
    )


def _pruning(card: Card) -> tuple[tuple[float, ...] | None, Strength]:
    """Thresholds where others than the learned ones are wanted, and how strongly is pruned."""
    with st.container(width=MULTIPLIER_WIDTH):
        strength = multiplier(card, state.SCALE)
    if not card.has_thresholds:
        return None, strength
    learned = tuple(t for t in card.thresholds if t is not None)
    base = _edited(card.name_or_path, learned, strength.factor)
    return (base if base != learned else None), strength


def multiplier(card: Card, key: str, *, default: float = 1.0) -> Strength:
    """How much more or less than learned is pruned; as learned where the method has no such knob.

    Args:
        card: The checkpoint.
        key: Session key and parameter of the URL.
        default: Where it stands at first.
    """
    if card.curve is not None:
        return choose_budget(card.curve, f"{key}{BUDGET}", default)
    state.follow_link(key)
    chosen = st.slider(
        "Threshold multiplier" if card.has_thresholds else "Pruning multiplier",
        0.0,
        3.0,
        default,
        0.05,
        key=key,
        bind="query-params",
        disabled=not card.can_scale,
        format="%.2f×",
        help=_MULTIPLIER_HELP,
    )
    if not card.has_thresholds:
        st.caption(plain(about_multiplier(card)))
    return Strength(factor=float(chosen)) if card.can_scale else Strength()


def about_multiplier(card: Card) -> str:
    """What a multiplier does to a method without thresholds."""
    if not card.prunes:
        return f"Its method, {title_of(card.method)}, drops no token: there is nothing to move."
    if card.can_scale:
        return f"Its method, {title_of(card.method)}, has no thresholds; this moves how many tokens it drops."
    return f"Its method, {title_of(card.method)}, has no thresholds to move."


def _edited(checkpoint: str, learned: tuple[float, ...], scale: float) -> tuple[float, ...]:
    """The thresholds of the editor, before the multiplier; it is built when it is opened."""
    editor = _editor_state(checkpoint, learned)
    popover = st.popover(
        "Thresholds by layer", icon=":material/tune:", on_change="rerun", key=EDITOR_OPEN
    )
    if popover.open:
        with popover:
            editor["now"] = _editor(editor, learned, scale)
    elif editor["now"] != editor["start"]:  # the table is gone, and its edits with it
        editor |= {"start": editor["now"], "version": editor["version"] + 1}
    st.session_state[EDITOR] = editor
    base: tuple[float, ...] = editor["now"]
    state.publish(THRESHOLDS_PARAMETER, None if base == learned else state.format_thresholds(base))
    return base


def _editor(editor: dict[str, Any], learned: tuple[float, ...], scale: float) -> tuple[float, ...]:
    st.caption(
        f"In the unit of the scores. The multiplier, now {scale:.2f}×, applies to these values."
    )
    frame = st.data_editor(
        pd.DataFrame(
            {
                "Layer": range(1, len(learned) + 1),
                "Learned": learned,
                "Threshold": editor["start"],
            }
        ),
        hide_index=True,
        disabled=["Layer", "Learned"],
        column_config={
            "Learned": st.column_config.NumberColumn(format="plain"),
            "Threshold": st.column_config.NumberColumn(
                min_value=0.0, format="plain", required=True, help=SCORE_UNIT_HELP
            ),
        },
        key=f"{EDITOR}.{editor['version']}",
        width=320,
    )
    if st.button("Back to the learned thresholds", icon=":material/undo:"):
        st.session_state[EDITOR] = _fresh_editor(editor, learned)
        st.rerun()
    return tuple(float(value) for value in frame["Threshold"])


def _editor_state(checkpoint: str, learned: tuple[float, ...]) -> dict[str, Any]:
    """What the editor starts from: the URL's thresholds at first, then the learned ones."""
    editor = st.session_state.get(EDITOR)
    given = state.parse_thresholds(state.adopt(THRESHOLDS_PARAMETER), len(learned))
    if editor is None or editor["checkpoint"] != checkpoint or given:
        before = {"version": editor["version"] if editor else -1, "checkpoint": checkpoint}
        editor = _fresh_editor(before, given or learned)
    return dict(editor)


def _fresh_editor(editor: dict[str, Any], start: tuple[float, ...]) -> dict[str, Any]:
    """Another table that starts from these thresholds, which are in force."""
    return editor | {"start": start, "now": start, "version": editor["version"] + 1}


_MULTIPLIER_HELP = (
    "Multiplies every layer's threshold, or what else the method learned, and runs the network again: "
    "0 prunes nothing."
)


def words_and_specials(*cards: Card) -> tuple[bool, bool]:
    """Whether sub-words are merged, and whether special tokens are shown."""
    merge = st.toggle(
        "Whole words",
        key=state.MERGE_WORDS,
        bind="query-params",
        help="Shows words instead of their pieces: a word stays while any of its pieces stays.",
    )
    special = st.toggle(
        "Special tokens",
        value=True,
        key=state.SHOW_SPECIAL,
        bind="query-params",
        help=special_help(*cards),
    )
    return merge, special


def special_help(*cards: Card) -> str:
    """What special tokens are, and what the first of them is for."""
    uses = {card.pruned_answers is None for card in cards}
    first = "the first one is what the head reads" if uses == {True} else ""
    answers = uses == {False} and not any(card.reads_mean for card in cards)
    first = "the first one stands for “no answer”" if answers else first
    return "; ".join(filter(None, ["Show the tokens that the tokenizer adds", first])) + "."
