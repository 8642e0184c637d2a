"""The training in the background: started, stopped, gone on with; whoever started it, every session sees it."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.ltp_ui.runs import charts
from app.ltp_ui.runs.detail import choose_quantity
from app.ltp_ui.shared import jobs
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.jobs import Job
from app.ltp_ui.shared.wording import duration, percent
from app.ltp_ui.train import finished
from app.ltp_ui.train.progress import Progress, read
from app.ltp_ui.train.settings import resumed

KIND = "train"


def start(arguments: Sequence[str]) -> None:
    """Starts the training, or joins it where somebody else has just started the same."""
    with boundary("Starting the training"):
        if jobs.start(KIND, [*arguments, "--events"]).is_joined:
            st.session_state["train.joined"] = True
        st.rerun()


def panel() -> None:
    """The training that was started last: running, stopped, failed or finished."""
    if st.session_state.pop("train.joined", False):
        st.toast(jobs.JOINED)
    jobs.poll(KIND, _draw)


def _draw(job: Job) -> None:
    with boundary("Showing the training"):
        state = job.state
        if state == "done":
            finished.draw(job)
            return
        with st.container(border=True):
            progress = read(job.events())
            if state == "running":
                _running(job, progress)
            else:
                _ended_early(job, progress)
            _figures(progress)
            with st.expander("The same in a terminal", icon=":material/terminal:"):
                st.code(job.command, language="bash", wrap_lines=True)


def _running(job: Job, progress: Progress) -> None:
    spent = duration(job.elapsed_s)
    left = progress.left_s
    known = (
        f"about {duration(left)} left" if left is not None else "the time left is being measured"
    )
    st.progress(progress.fraction, f"{progress.text}: {spent} so far, {known}")
    if st.button("Stop", icon=":material/stop:", key="train.stop"):
        job.stop()
        st.rerun()


def _ended_early(job: Job, progress: Progress) -> None:
    if job.state == "failed":
        st.error(plain(job.error or ""), title="The training failed", icon=":material/error:")
    else:
        st.info(
            "Stopped. What was learned up to some seconds before is kept.",
            icon=":material/pause_circle:",
        )
    with st.container(horizontal=True):
        busy = jobs.running() is not None
        if st.button(
            "Go on",
            type="primary",
            icon=":material/play_arrow:",
            key="train.resume",
            disabled=busy,
            help="From the last snapshot, to the same result as without a stop.",
        ):
            given = [argument for argument in job.arguments if argument != "--events"]
            start(resumed(given, progress.epochs))
        if st.button("Dismiss", icon=":material/close:", key="train.dismiss"):
            job.forget()
            st.rerun()


def _figures(progress: Progress) -> None:
    """Loss, FLOPs beside the budget and thresholds so far, and what stays after each layer."""
    history = progress.history
    if history.empty:
        return
    last = progress.rows[-1]
    with st.container(horizontal=True):
        st.metric("Loss", f"{last['loss']:.3f}", width="content")
        budget = f" (aims at {percent(progress.target, 0)})" if progress.target else ""
        st.metric(
            "Expected FLOPs", f"{percent(last['relative_flops'], 0)}{budget}", width="content"
        )
        st.metric("Tokens kept", percent(last["mean_retained"], 0), width="content")
    if progress.kept:
        layers = " → ".join(percent(share, 0) for share in progress.kept)
        st.caption(f"Tokens left after each layer, in the last step: {layers}")
    known = [name for name in charts.known_quantities(history) if name != "Temperature"]
    quantity = choose_quantity(known, key="train.quantity")
    show(charts.history_chart(history, quantity), alt=f"{quantity} over the steps so far.")
