"""Counting in the background: progress, and taking over what came out of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import streamlit as st

from app.ltp_ui.lengths import data
from app.ltp_ui.shared import jobs, state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.jobs import Job, OnEnd
from app.ltp_ui.shared.wording import counted
from ltp_core.lengths.counts import LengthSet
from ltp_core.lengths.shift import Side

KIND = "lengths"
STARTED = "lengths.job"
LINK = "job"
"""Parameter of the address: through a reload it tells the session that started a job from others."""

Role = Literal["evaluation", "training"]


def start(arguments: Sequence[str], role: Role, on_end: OnEnd) -> None:
    """Counts in the background and keeps the counts in the store.

    Args:
        arguments: Of the command `lengths`, the source first.
        role: What single counts are shown as when they are there.
        on_end: Called when nothing is counted any more, however it ended; by another thread.

    Raises:
        UserError: Another job runs, or the disk does not take the files.
    """
    job = jobs.start(KIND, ["lengths", *arguments, "--store", "--events"], on_end=on_end)
    st.session_state[STARTED] = {"id": job.id, "role": role}
    state.publish(LINK, job.id)
    if job.is_joined:
        st.toast(jobs.JOINED)


def is_running() -> bool:
    """Whether something is being counted now."""
    job = jobs.current(KIND)
    return job is not None and job.is_running


def take_over(sets: Sequence[LengthSet]) -> None:
    """Selects what this session has counted since the last run of the page; before the selectors."""
    job = _own()
    if job is None or job.state != "done":
        return
    started = st.session_state.pop(STARTED)
    state.publish(LINK, None)
    document = job.document or {}
    found = [_side(sets, document.get(name)) for name in ("train", "evaluation")]
    select(found[0], found[1], started["role"])


def select(train: Side | None, evaluation: Side | None, role: Role) -> None:
    """Shows these counts: a pair as a pair, a single set in the role that was wished for."""
    if train is not None and (evaluation is not None or role == "training"):
        st.session_state[data.TRAIN] = data.label(train)
    single = train if evaluation is None and role == "evaluation" else evaluation
    if single is not None:
        st.session_state[data.EVALUATION] = data.label(single)


def _side(sets: Sequence[LengthSet], found: dict[str, Any] | None) -> Side | None:
    if not found:
        return None
    counts = next((s for s in sets if s.key == found["key"] and found["split"] in s.splits), None)
    return None if counts is None else Side(counts=counts, split=found["split"])


def panel() -> None:
    """Progress while it runs, whoever started it; to that session the reason if it failed."""
    own, last = _own(), jobs.current(KIND)
    is_last = own is not None and last is not None and own.id == last.id
    if own is not None and not is_last:
        _draw(own)
    if last is not None and (is_last or last.is_running):
        jobs.poll(KIND, _draw)


def _own() -> Job | None:
    """The job that this session started, perhaps before its page was loaded anew; None without one."""
    linked = st.query_params.get(LINK)
    started = st.session_state.get(STARTED, {}).get("id", linked)
    job = jobs.find(started) if started else None
    if job is None or job.kind != KIND:
        return None
    if STARTED not in st.session_state:
        if not job.is_recent:
            return None
        st.session_state[STARTED] = {"id": job.id, "role": "evaluation"}
    if job.is_running:
        state.publish(LINK, job.id)  # a visit to another page takes it out of the address
    return job


def _draw(job: Job) -> None:
    if job.is_running:
        fraction, text = _progress(job)
        st.progress(fraction, text)
        if st.button("Stop", icon=":material/stop:", key="lengths.stop"):
            job.stop()
            st.rerun()
        return
    if job.state == "failed":
        st.error(plain(job.error or ""), title="That did not work", icon=":material/error:")
        if st.button("Dismiss", icon=":material/close:", key="lengths.dismiss"):
            job.forget()
            st.session_state.pop(STARTED, None)
            state.publish(LINK, None)
            st.rerun()
    elif job.state == "stopped":
        st.info("Counting was stopped; nothing was stored.", icon=":material/stop:")


def _progress(job: Job) -> tuple[float, str]:
    """How far it is, and in words."""
    events = [event for event in job.events() if event.get("event") == "progress"]
    if not events:
        return 0.0, "Loading the tokenizer …"
    last = events[-1]
    fraction = last.get("fraction") or 0.0
    rows = counted(int(last.get("rows", 0)), "input")
    return min(1.0, float(fraction)), plain(f"{last.get('split')}: {rows} counted")
