"""Which question the throughput page answers, and with which result: stored, added, or just measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st

from app.ltp_ui.shared import jobs, state
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.labels import label_of
from app.ltp_ui.throughput import data
from app.ltp_ui.throughput.controls import KIND
from app.ltp_ui.throughput.data import Bench
from ltp_core.bench.results import parse_document

WHAT, RESULT = "throughput.what", "throughput.result"
UPLOADED, ADDED, WATCHED = "throughput.uploaded", "throughput.added", "throughput.watched"
NEXT_WHAT, SUBJECT = "throughput.next_what", "throughput.subject"
WHAT_PARAMETER, RESULT_PARAMETER = "what", "bench"

QUESTIONS = {
    "throughput": "By batch size",
    "scaling": "By length",
    "topk": "Top-k or threshold",
}

MOST_MEGABYTES = 20


def watch() -> None:
    """Shows what was measured as soon as it is there; call before any widget is drawn."""
    job = jobs.current(KIND)
    if job is None:
        return
    if job.is_running:
        st.session_state[WATCHED] = job.id
    elif st.session_state.pop(WATCHED, None) == job.id and job.state == "done":
        document = job.document or {}
        st.session_state[NEXT_WHAT] = document.get("what")
        st.session_state[ADDED] = document.get("name")


def question() -> str:
    """What the page is about: throughput, scaling or topk; from a link if there is one."""
    default, *_ = QUESTIONS
    given = st.session_state.pop(NEXT_WHAT, None) or state.adopt(WHAT_PARAMETER)
    if given in QUESTIONS:
        st.session_state[WHAT] = given
    st.session_state.setdefault(WHAT, default)
    chosen = st.segmented_control(
        "Question",
        list(QUESTIONS),
        required=True,
        format_func=QUESTIONS.__getitem__,
        key=WHAT,
        persist_state="session",
        label_visibility="collapsed",
    )
    state.publish(WHAT_PARAMETER, chosen if chosen != default else None)
    return chosen or default


def choose_result(what: str, checkpoint: str | None) -> tuple[Bench | None, list[Bench]]:
    """The benchmark to show, and all of this kind: the form's checkpoint first, then what is quiet."""
    found, problems = data.stored(what)
    found += [each for each in st.session_state.get(UPLOADED, []) if each.what == what]
    found.sort(key=lambda each: (not _is_of(each, checkpoint), each.rank))
    by_name = {each.name: each for each in found}
    if checkpoint is not None and st.session_state.get(SUBJECT) not in (None, checkpoint):
        st.session_state.pop(RESULT, None)  # the form turned to another: so does the result
    st.session_state[SUBJECT] = checkpoint
    _adopt_result(by_name)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Result",
            list(by_name),
            format_func=lambda name: by_name[name].title if name in by_name else name,
            key=RESULT,
            persist_state="session",
            placeholder="Nothing measured yet",
            disabled=not found,
        )
        _upload()
    first = found[0].name if found else None
    state.publish(RESULT_PARAMETER, chosen if chosen != first else None)
    shown = by_name.get(chosen or "")
    for problem in problems:
        st.caption(f":orange[:material/warning:] {plain(problem)}")
    return shown, found


def of_another(shown: Bench, found: Sequence[Bench], checkpoint: str | None) -> str:
    """What to say where the result is not of the form's checkpoint; empty where it is."""
    if _is_of(shown, checkpoint):
        return ""
    measured, wanted = label_of(str(shown.document["checkpoint"])), label_of(str(checkpoint))
    if any(_is_of(each, checkpoint) for each in found):
        return f"This result is of {measured}; the form below measures {wanted}."
    return f"Nothing has been measured of {wanted} yet: press Measure below. Shown is {measured}."


def _is_of(each: Bench, checkpoint: str | None) -> bool:
    """Whether a result is of the form's checkpoint, where both speak of one; a folder goes by its name."""
    measured = each.document.get("checkpoint")
    return checkpoint is None or measured in (None, checkpoint, Path(checkpoint).name)


def _adopt_result(by_name: Mapping[str, Bench]) -> None:
    """Takes the result of a link or a file; forgets one that is not here for this question."""
    given = st.session_state.pop(ADDED, None) or state.adopt(RESULT_PARAMETER)
    if given in by_name:
        st.session_state[RESULT] = given
    elif st.session_state.get(RESULT) not in by_name:
        st.session_state.pop(RESULT, None)


def _upload() -> None:
    """A document of another machine, for this session."""
    with st.popover("Add", icon=":material/upload_file:"):
        st.caption(
            "The `bench.json` of another machine. To keep it, copy its folder into `benches` of the "
            "store."
        )
        file = st.file_uploader("bench.json", type="json", max_upload_size=MOST_MEGABYTES)
        if file is not None:
            with boundary("The file"):
                _add(f"file: {file.name}", parse_document(file.getvalue()))


def _add(name: str, document: dict[str, Any]) -> None:
    """Adds a document once, and shows it."""
    known = st.session_state.setdefault(UPLOADED, [])
    if any(each.name == name and each.document == document for each in known):
        return
    added = data.bench(name, document)
    st.session_state[UPLOADED] = [*(each for each in known if each.name != name), added]
    st.session_state[ADDED], st.session_state[NEXT_WHAT] = name, document["what"]
    st.rerun()
