"""The picture, the doors and the card of the start page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import streamlit as st

from app.ltp_ui.shared import blocks, live, state, status, warm_up
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.examples import Example, examples
from app.ltp_ui.shared.export import answer
from app.ltp_ui.shared.labels import label_of
from app.ltp_ui.shared.live import Question
from app.ltp_ui.shared.wording import percent
from app.ltp_ui.token_view.component import token_view
from app.ltp_ui.token_view.view import build_view, telling_layer
from ltp_core.records import Trace
from ltp_core.tasks.catalogue import known_task

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

POLL_S = 0.5
PICTURE_HEIGHT = 380
STORED = Path(__file__).parent / "trace.json"
"""`trace --json` of the shipped checkpoint that is shown first, on the first example."""

OWN_TEXT = "start.text"


class Door(NamedTuple):
    """A purpose, and the pages that serve it."""

    title: str
    about: str
    pages: tuple[tuple[str, str], ...]


DOORS = (
    Door(
        "See it",
        "Which words does a model stop reading, and why?",
        (
            ("explore", "Explore a sentence"),
            ("compare", "Compare two models"),
            ("method", "Method"),
        ),
    ),
    Door(
        "Decide",
        "Does pruning pay for my model, my data and my machine?",
        (
            ("pays", "Does it pay?"),
            ("tradeoff", "Accuracy vs FLOPs"),
            ("robustness", "Length robustness"),
            ("lengths", "Length shift"),
            ("throughput", "Throughput"),
        ),
    ),
    Door(
        "Use it",
        "Score texts with a pruned model, or train one.",
        (("score", "Score a file"), ("train", "Train"), ("runs", "Runs")),
    ),
)


def hero(verdict_slot: DeltaGenerator, picture_slot: DeltaGenerator) -> None:
    """A sentence through the default checkpoint; the shipped one's picture needs no model.

    Args:
        verdict_slot: For the answer and a field for a text of one's own.
        picture_slot: For the picture.
    """
    name = live.default_checkpoint(live.checkpoints())
    if name is None:
        with picture_slot:
            blocks.no_checkpoint()
        return
    example, reads_one = _example(name), not _reads_pairs(name)
    with verdict_slot:
        line = st.container()
        own = _own_text(example) if reads_one else ""
    stored = Trace.from_json(STORED.read_text(encoding="utf-8"))
    if own or stored.checkpoint != name:
        question = Question(
            checkpoint=name, text=own or example.text, text_pair=None if own else example.pair
        )
        is_warm = warm_up.is_done()
        run_every = None if is_warm else POLL_S
        with picture_slot:
            st.fragment(_live_picture, run_every=run_every)(question, is_warm)
        return
    with line:
        blocks.answer(*verdict(stored))
    with picture_slot:
        _show(stored)


def _own_text(example: Example) -> str:
    """A text of one's own; empty for the example."""
    typed = st.text_input(
        "Your own sentence",
        key=OWN_TEXT,
        persist_state="session",
        placeholder=f"Type your own sentence. Shown now: {_shortened(example.text, 90)}",
        label_visibility="collapsed",
    )
    return typed.strip()


def _live_picture(question: Question, was_warm: bool) -> None:
    if not warm_up.is_done():
        st.skeleton(height=PICTURE_HEIGHT)
        st.caption("Loading the model. Everything else on this page works already.")
        return
    if not was_warm:
        st.rerun()  # ends the polling
    with boundary("The picture"):
        trace = live.with_unpruned(question, live.learned_trace(question))
        blocks.answer(*verdict(trace))
        _show(trace)


def verdict(trace: Trace) -> tuple[str, str]:
    """What pruning saves on this text, and whether the answer stays; and what is said unpruned."""
    cost = percent(trace.relative_flops["paper"], 0)
    start = f"Token pruning removes words layer by layer: this text takes {cost} of the FLOPs"
    said, unpruned = plain(answer(trace.prediction)), trace.unpruned
    if unpruned is None:
        return f"{start}, and the answer is {said}.", ""
    keeps = unpruned.label == trace.prediction.label
    what = "keeps its answer" if keeps else "gets another answer"
    return f"{start} and {what}, {said}", f"(unpruned {plain(answer(unpruned))})."


def _show(trace: Trace) -> None:
    view = build_view(trace, trace.words, protected=trace.protected)
    token_view(view, key="start.view", layer=telling_layer(trace.lengths))
    st.caption(plain(f"{label_of(trace.checkpoint)}."))


def _task_of(name: str) -> str | None:
    return next((found.task for found in live.checkpoints() if found.name == name), None)


def _reads_pairs(name: str) -> bool:
    task = known_task(_task_of(name))
    return task is not None and task.is_pair


def _example(name: str) -> Example:
    task = _task_of(name)
    return examples(task)[-2 if task == "imdb" else 0]


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"


def doors() -> None:
    """What one can come here for, and the pages for it that there are."""
    for column, door in zip(st.columns(len(DOORS)), DOORS, strict=True):
        with column.container(border=True, height="stretch"):
            st.header(door.title, anchor=False)
            st.markdown(door.about)
            for name, title in door.pages:
                path = state.PAGES / f"{name}.py"
                if path.is_file():
                    st.page_link(path, label=title, icon=":material/arrow_forward:")


def status_card() -> None:
    """What was found on this machine."""
    with st.container(border=True):
        st.markdown("**On this machine**")
        for line in status.status_lines():
            icon = (
                ":green[:material/check_circle:]" if line.is_good else ":orange[:material/error:]"
            )
            st.markdown(f"{icon} **{line.title}** – {plain(line.detail)}")
