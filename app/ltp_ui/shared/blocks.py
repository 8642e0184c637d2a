"""Pieces that more than one page shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from app.ltp_ui.shared import charts, live
from app.ltp_ui.shared.boundary import plain

ANSWER = "answer"
"""Key of the answer, by which a browser finds it."""


def no_checkpoint() -> None:
    """The state of a fresh store."""
    st.info(
        "There is no checkpoint in the store yet. Train one, or type the folder of a model above:",
        title="No checkpoint",
        icon=":material/inventory_2:",
    )
    st.code("python -m ltp_core train --help", language="bash")


@contextmanager
def loading(name: str) -> Iterator[None]:
    """A spinner while a checkpoint that is not in memory is loaded."""
    if live.is_loaded(name):
        yield
        return
    with st.spinner(f"Loading {plain(name)}", show_time=True):
        yield


def answer(sentence: str, more: str = "") -> None:
    """What the page answers: one sentence with its numbers, first and looking alike on every page.

    Args:
        sentence: Markdown, drawn strong.
        more: Markdown that follows on the same line.
    """
    with st.container(key=ANSWER):
        st.markdown(f"**{sentence}** {more}".rstrip())


def show(chart: charts.Figure, *, alt: str) -> None:
    """A chart in the page's colours; `alt` says what it shows."""
    st.vega_lite_chart(spec=chart.to_dict(), alt=alt)
