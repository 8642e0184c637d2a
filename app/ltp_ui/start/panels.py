"""The live picture and the cards of the start page."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from app.ltp_ui.shared import blocks, live, state, status, warm_up
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.examples import examples
from app.ltp_ui.shared.export import facts
from app.ltp_ui.shared.live import Question
from app.ltp_ui.token_view.component import token_view
from app.ltp_ui.token_view.view import build_view, telling_layer
from ltp_core.records import Trace

POLL_S = 0.5
PICTURE_HEIGHT = 380
STORED = Path(__file__).parent / "trace.json"
"""`trace --json` of the shipped checkpoint that is shown first, on the first example."""


def hero() -> None:
    """A real sentence through the default checkpoint; the shipped one's picture needs no model."""
    name = live.default_checkpoint(live.checkpoints())
    if name is None:
        blocks.no_checkpoint()
        return
    stored = Trace.from_json(STORED.read_text(encoding="utf-8"))
    if stored.checkpoint == name:
        _show(stored)
        return
    is_warm = warm_up.is_done()
    st.fragment(_hero, run_every=None if is_warm else POLL_S)(name, is_warm)


def _hero(name: str, was_warm: bool) -> None:
    if not warm_up.is_done():
        st.skeleton(height=PICTURE_HEIGHT)
        st.caption("Loading the model. Everything else on this page works already.")
        return
    if not was_warm:
        st.rerun()  # ends the polling
    with boundary("The picture"):
        question = Question(checkpoint=name, text=_example_text(name))
        _show(live.with_unpruned(question, live.learned_trace(question)))


def _show(trace: Trace) -> None:
    view = build_view(trace, trace.words, protected=trace.protected)
    token_view(view, key="start.view", layer=telling_layer(trace.lengths))
    st.caption(plain(" ".join([f"{trace.checkpoint}.", *facts(trace)])))


def _example_text(name: str) -> str:
    task = next((found.task for found in live.checkpoints() if found.name == name), None)
    return examples(task)[-2 if task == "imdb" else 0].text


def example_links() -> None:
    """Links into the explore page, each with its own text."""
    name = live.default_checkpoint(live.checkpoints())
    task = next((found.task for found in live.checkpoints() if found.name == name), None)
    for example in examples(task):
        params = {state.TEXT: example.text}
        if example.pair:
            params[state.PAIR] = example.pair
        st.page_link(
            state.EXPLORE,
            label=f"{example.name}: {plain(_shortened(example.text))}",
            icon=":material/filter_alt:",
            query_params=params,
        )


def _shortened(text: str, limit: int = 60) -> str:
    return text if len(text) <= limit else text[:limit].rsplit(" ", 1)[0] + " …"


def status_card() -> None:
    """What was found on this machine."""
    with st.container(border=True):
        st.markdown("**On this machine**")
        for line in status.status_lines():
            icon = (
                ":green[:material/check_circle:]" if line.is_good else ":orange[:material/error:]"
            )
            st.markdown(f"{icon} **{line.title}** – {plain(line.detail)}")
