"""What a user sets on the explore page: checkpoint, texts, thresholds, tokens kept or dropped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import pandas as pd
import streamlit as st

from app.ltp_ui import live, state
from app.ltp_ui.examples import Example, examples
from app.ltp_ui.live import Card, Question, WhatIf
from app.ltp_ui.wording import SCORE_UNIT_HELP, number
from ltp_core.data.tasks import TASKS, Task

EXAMPLE, FORCED, EDITOR = "explore.example", "explore.forced", "explore.editor"
QUESTION, FILLED = "explore.question", "explore.filled"
THRESHOLDS_PARAMETER = "thresholds"


def choose_checkpoint() -> str | None:
    """The checkpoint's name or folder; None where there is none and none was typed."""
    names = [found.name for found in live.checkpoints()]
    default = live.default_checkpoint(live.checkpoints())
    chosen = st.selectbox(
        "Checkpoint",
        names,
        index=names.index(default) if default else None,
        key=state.CHECKPOINT,
        bind="query-params",
        accept_new_options=True,
        placeholder="Choose one or type a folder",
        help="A run of the store, or the path of a model folder on this machine: type it in.",
    )
    return chosen.strip() if chosen and chosen.strip() else None


def ask(card: Card) -> Question | None:
    """The texts; None where they are not complete, which is then said on the page."""
    task = TASKS.get(card.task or "")
    first, second = _labels(task)
    _fill_in(card.task)
    text = _text_area(first, state.TEXT, card.task)
    pair = _text_area(second, state.PAIR, card.task) if second else ""
    _example_pills(card.task)
    is_pair_wanted = task is not None and task.is_pair
    if not text.strip():
        st.info("Write a text above or click an example.", icon=":material/edit:")
        return None
    if is_pair_wanted and not pair.strip():
        st.info(
            f"This checkpoint judges pairs: give the {second.lower()}, too, or click an example.",
            icon=":material/edit:",
        )
        return None
    question = Question(
        checkpoint=card.name_or_path, text=text, text_pair=pair if pair.strip() else None
    )
    _forget_if_new(question)
    return question


def _labels(task: Task | None) -> tuple[str, str]:
    """Labels of the two text fields; the second is empty where there is but one text."""
    if task is None:
        return "Text", "Second text, only for a pair"
    if not task.is_pair:
        return "Text", ""
    first, second = (re.sub(r"(\d)$", r" \1", name).capitalize() for name in task.text_columns)
    return first, second


def _text_area(label: str, key: str, task: str | None) -> str:
    value = st.text_area(label, key=key, height=84, persist_state="session")
    first = examples(task)[0]
    is_default = value == (first.text if key == state.TEXT else first.pair or "")
    state.publish(key, None if is_default else value)
    return value


def _fill_in(task: str | None) -> None:
    """Sets the texts: from a link, else the task's first example at first and for a new task."""
    for key in (state.TEXT, state.PAIR):
        if (given := state.adopt(key)) is not None:
            st.session_state[key] = given
    example, filled_for = st.session_state.get(FILLED, (None, None))
    shown = (st.session_state.get(state.TEXT), st.session_state.get(state.PAIR) or None)
    is_untouched = example is not None and shown == (example.text, example.pair)
    if state.TEXT not in st.session_state or (is_untouched and filled_for != task):
        use_example(examples(task)[0], task)
    st.session_state.setdefault(state.PAIR, "")


def use_example(example: Example, task: str | None) -> None:
    """Puts an example into the text fields; before they are drawn."""
    st.session_state[state.TEXT] = example.text
    st.session_state[state.PAIR] = example.pair or ""
    st.session_state[FILLED] = (example, task)


def _example_pills(task: str | None) -> None:
    by_name = {example.name: example for example in examples(task)}

    def take() -> None:
        if name := st.session_state.get(EXAMPLE):
            use_example(by_name[name], task)
            st.session_state[EXAMPLE] = None

    st.pills("Examples", list(by_name), key=EXAMPLE, on_change=take, wrap=True)


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
    thresholds = _thresholds(card)
    by_hand: dict[int, str] = st.session_state.get(FORCED, {})
    sides = {
        side: tuple(sorted(p for p, how in by_hand.items() if how == side and p < length))
        for side in ("keep", "drop")
    }
    for side, positions in sides.items():
        state.publish(side, state.format_positions(positions))
    return WhatIf(thresholds=thresholds, keep=sides["keep"], drop=sides["drop"])


def _thresholds(card: Card) -> tuple[float, ...] | None:
    learned = tuple(t for t in card.thresholds if t is not None)
    has_thresholds = len(learned) == len(card.thresholds) > 0
    scale = st.slider(
        "Threshold multiplier",
        0.0,
        3.0,
        1.0,
        0.05,
        key=state.SCALE,
        bind="query-params",
        disabled=not has_thresholds,
        format="%.2f×",
        width=260,
        help="Multiplies every layer's threshold and runs the network again: 0 prunes nothing."
        if has_thresholds
        else f"The method of this checkpoint ({card.method}) has no thresholds.",
    )
    if not has_thresholds:
        return None
    base = _edited(card.name_or_path, learned, scale)
    used = tuple(scale * threshold for threshold in base)
    return used if used != learned else None


def _edited(checkpoint: str, learned: tuple[float, ...], scale: float) -> tuple[float, ...]:
    """The thresholds of the editor, before the multiplier."""
    editor = _editor_state(checkpoint, learned)
    with st.popover("Thresholds by layer", icon=":material/tune:"):
        st.caption(
            f"In multiples of uniform attention. The multiplier, now {scale:.2f}×, applies to what "
            "stands here."
        )
        frame = st.data_editor(
            pd.DataFrame(
                {
                    "Layer": range(1, len(learned) + 1),
                    "Learned": [number(value) for value in learned],
                    "Threshold": editor["start"],
                }
            ),
            hide_index=True,
            disabled=["Layer", "Learned"],
            column_config={
                "Threshold": st.column_config.NumberColumn(
                    min_value=0.0, step=0.001, format="%.3f", required=True, help=SCORE_UNIT_HELP
                )
            },
            key=f"{EDITOR}.{editor['version']}",
            width=320,
        )
        if st.button("Back to the learned thresholds", icon=":material/undo:"):
            st.session_state[EDITOR] = editor | {
                "start": learned,
                "version": editor["version"] + 1,
            }
            st.rerun()
    base = tuple(float(value) for value in frame["Threshold"])
    state.publish(THRESHOLDS_PARAMETER, None if base == learned else state.format_thresholds(base))
    return base


def _editor_state(checkpoint: str, learned: tuple[float, ...]) -> dict[str, Any]:
    """What the editor starts from: the URL's thresholds at first, then the learned ones."""
    editor = st.session_state.get(EDITOR)
    given = state.parse_thresholds(state.adopt(THRESHOLDS_PARAMETER), len(learned))
    if editor is None or editor["checkpoint"] != checkpoint or given:
        version = editor["version"] + 1 if editor else 0
        editor = {"checkpoint": checkpoint, "start": given or learned, "version": version}
        st.session_state[EDITOR] = editor
    return editor
