"""The one or two texts that are asked about, with examples to click; shared by the pages that ask."""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

import streamlit as st

from app.ltp_ui.shared import state
from app.ltp_ui.shared.examples import Example, examples
from ltp_core.tasks.catalogue import known_task
from ltp_core.tasks.task import Task

EXAMPLE, FILLED = "texts.example", "texts.filled"
CONTEXT_HEIGHT = 168


class Texts(NamedTuple):
    """What was written; no second text where there is but one."""

    text: str
    pair: str | None


def ask(task_name: str | None) -> Texts | None:
    """The texts; None where they are not complete, which is then said on the page.

    Args:
        task_name: Task of the checkpoint that will read them; None if it is not known.
    """
    task = known_task(task_name)
    first, second = _labels(task)
    _fill_in(task_name)
    text = _text_area(first, state.TEXT, task_name)
    pair = _text_area(second, state.PAIR, task_name) if second else ""
    _example_pills(task_name)
    if not text.strip():
        st.info("Write a text above or click an example.", icon=":material/edit:")
        return None
    if task is not None and task.is_pair and not pair.strip():
        what = "answers questions about a text" if task.asks_questions else "judges pairs"
        st.info(
            f"This checkpoint {what}: give the {second.lower()}, too, or click an example.",
            icon=":material/edit:",
        )
        return None
    return Texts(text, pair if pair.strip() else None)


def _labels(task: Task | None) -> tuple[str, str]:
    """Labels of the two text fields; the second is empty where there is but one text."""
    if task is None:
        return "Text", "Second text, only for a pair"
    if not task.is_pair:
        return "Text", ""
    first, second = (re.sub(r"(\d)$", r" \1", name).capitalize() for name in task.text_columns)
    return first, second


def _text_area(label: str, key: str, task: str | None) -> str:
    height: int | Literal["content"] = CONTEXT_HEIGHT if label == "Context" else "content"
    value = st.text_area(label, key=key, height=height, persist_state="session")
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

    st.pills(
        "Examples",
        list(by_name),
        key=EXAMPLE,
        on_change=take,
        wrap=True,
        label_visibility="collapsed",
    )
