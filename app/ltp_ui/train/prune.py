"""Thresholds for a model that is finetuned already: own texts and a budget, nothing is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import streamlit as st

from app.ltp_ui.explore.controls import choose_checkpoint
from app.ltp_ui.lengths import uploads
from app.ltp_ui.shared import blocks, jobs, kept, live
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.jobs import Job
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.stored import points
from app.ltp_ui.shared.wording import percent
from app.ltp_ui.shared.wording import points as in_points
from app.ltp_ui.train import finished
from ltp_core.analysis.runs import rows
from ltp_core.tasks.catalogue import known_task
from ltp_core.tasks.files import LINES

KIND = "calibrate"
ROWS = (100, 300, 1_000)
DEFAULT_BUDGET, DEFAULT_ROWS = 0.6, 300


def answer() -> None:
    """What to expect, in one sentence: what stored thresholds that nothing was trained for came to."""
    found = points()
    found = found[(found["method"] == "calibrated") & found["difference_validation"].notna()]
    if found.empty:
        return
    # Of the set of comparable points that was validated on most rows.
    best = found.sort_values("rows_validation")["comparable"].iloc[-1]
    mine = found[found["comparable"] == best].sort_values("paper_validation", ascending=False)
    first, *others = rows(mine)
    blocks.answer(
        plain(
            f"On {task_label(first.task)}, thresholds chosen without training change "
            f"{first.metric_name.replace('_', ' ')} by {in_points(first.difference_validation)} at "
            f"{percent(first.paper_validation, 0)} of the FLOPs"
            + "".join(
                f", by {in_points(each.difference_validation)} at {percent(each.paper_validation, 0)}"
                for each in others
            )
            + "."
        )
    )


def panel() -> None:
    """The form, and the choice that was started last."""
    jobs.poll(KIND, _draw)
    st.markdown(
        "A finetuned model of your own, or a dense one of the store, gets thresholds that spend a budget "
        "and change its answers least on texts like those that it will meet. The texts need no labels."
    )
    with boundary("Choosing thresholds"):
        name = choose_checkpoint()
        if name is None:
            blocks.no_checkpoint()
            return
        with blocks.loading(name):
            card = live.card(name)
        if card.prunes:
            st.info(
                plain(f"{card.name} prunes already, by {title_of(card.method)}")
                + ": new thresholds take the place of its own.",
                icon=":material/info:",
            )
        place = kept.choose("prune", "Texts: one a line (.txt), or a table", more=(LINES,))
        if place is None:
            return
        columns = _columns(place, card.task)
        left, right = st.columns(2, gap="large")
        with left:
            target = st.slider(
                "Budget",
                0.2,
                0.95,
                DEFAULT_BUDGET,
                0.05,
                format="percent",
                key="prune.budget",
                help="Share of the unpruned FLOPs, in the paper’s accounting.",
            )
        with right:
            rows = st.select_slider("Texts", ROWS, value=DEFAULT_ROWS, key="prune.rows")
        arguments = [
            *("calibrate", name, "--data", str(place), "--target-relative-flops", f"{target:g}"),
            *([] if rows == DEFAULT_ROWS else ["--rows", str(rows)]),
            *(part for column in columns for part in ("--column", column)),
        ]
        _start(arguments)
        with st.expander("The same in a terminal", icon=":material/terminal:"):
            command = f"python -m ltp_core {jobs.typed(arguments)}"
            st.code(command, language="bash", wrap_lines=True)


def _columns(place: Path, task_name: str | None) -> tuple[str, ...]:
    """Columns of the texts; none for a file with a text a line."""
    if place.suffix.lower() == LINES:
        return ()
    task, found = known_task(task_name), uploads.with_texts(uploads.facts(place))
    names = list(found.text_columns)
    expected = [name for name in (task.text_columns if task else ()) if name in names]
    first = expected[0] if expected else found.suggested
    with st.container(horizontal=True):
        text = st.selectbox("Text", names, index=names.index(first), key=f"prune.text.{place}")
        if task is None or not task.is_pair:
            return (text,)
        rest = [name for name in names if name != text]
        second = st.selectbox("Second text", rest, key=f"prune.pair.{place}")
    return (text,) if second is None else (text, second)


def _start(arguments: Sequence[str]) -> None:
    running = jobs.running()
    if running is not None and running.kind == KIND:
        return
    if st.button(
        "Prune this model",
        type="primary",
        icon=":material/content_cut:",
        disabled=running is not None,
        key="prune.start",
    ):
        if jobs.start(KIND, [*arguments, "--events"]).is_joined:
            st.toast(jobs.JOINED)
        st.rerun()
    if running is not None:
        st.caption(f"Something else is running: `{running.command}`. It has to finish first.")


def _draw(job: Job) -> None:
    """Progress of the search, or what it found."""
    state = job.state
    if state == "done":
        finished.draw(job)
    elif state == "running":
        tried = [event for event in job.events() if event.get("event") == "progress"]
        share = tried[-1]["tried"] / tried[-1]["max_configurations"] if tried else 0.0
        text = f"{tried[-1]['tried']} thresholds tried" if tried else "Loading the model"
        with st.container(border=True):
            st.progress(min(1.0, share), f"{text}, {job.elapsed_s:.0f} s")
            if st.button("Stop", icon=":material/stop:", key="prune.stop"):
                job.stop()
                st.rerun()
    elif job.is_recent:
        if state == "failed":
            st.error(plain(job.error or ""), title="That did not work", icon=":material/error:")
        if st.button("Dismiss", icon=":material/close:", key="prune.dismiss"):
            job.forget()
            st.rerun()
