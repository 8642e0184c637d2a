"""The form of the page that trains: data, settings, the command, and the button."""

from __future__ import annotations

import streamlit as st

from app.ltp_ui.shared import blocks, jobs, state
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.stored import run_table
from app.ltp_ui.train import finished, job, settings, source
from ltp_core.analysis.runs import rows
from ltp_core.records import RunManifest

TRAIN = "Train on labels"


def answer() -> None:
    """What to expect, in one sentence: what the newest stored training for any budget came to."""
    table = run_table()
    found = rows(table[table["method"] == "ltp_s"])
    for run in sorted(found, key=lambda run: str(run.manifest.created_at), reverse=True):
        manifest: RunManifest = run.manifest
        curve, data = finished.curve_of(run.folder), manifest.dataset.get("train")
        if curve is not None and isinstance(data, dict):
            blocks.answer(
                f"Trained on {data['rows']:,} labelled texts, {plain(task_label(manifest.task))}: "
                f"{finished.sentence(manifest, curve)}"
            )
            return


def choose_what() -> str:
    """What the page is for now; a link may say it."""
    return st.segmented_control(
        "What",
        [TRAIN, state.PRUNE],
        default=TRAIN,
        required=True,
        key="what",
        bind="query-params",
        label_visibility="collapsed",
    )


def form() -> None:
    """From the data to the button."""
    st.header("Data", anchor=False)
    data = source.choose()
    if data is None:
        return
    st.header("Training", anchor=False)
    facts = None
    if data.name is not None:
        with boundary("Counting tokens"), st.spinner("Counting tokens"):
            facts = source.lengths(data.name)
    chosen = settings.choose(data, facts.most if facts else 0)
    if facts is not None:
        st.caption(source.length_line(facts, chosen.max_length))
    running = jobs.running()
    if st.button(
        "Train",
        type="primary",
        icon=":material/model_training:",
        disabled=running is not None,
        key="train.start",
    ):
        job.start(chosen.arguments)
    if running is not None and running.kind != job.KIND:
        st.caption(f"Something else is running: `{running.command}`. It has to finish first.")
    elif running is not None:
        st.caption("A training is running, shown above: wait for it or stop it.")
    else:
        st.caption(
            "How long it takes here is measured on the first steps and shown beside the bar; with a limit of "
            "minutes it is measured before."
        )
    with st.expander("The same in a terminal", icon=":material/terminal:"):
        command = f"python -m ltp_core {jobs.typed(chosen.arguments)}"
        st.code(command, language="bash", wrap_lines=True)


HOW = """
- **Splits**: 80 % of the rows are for training, 10 % for validation, 10 % for testing, by a hash of the text, so that equal
  texts are on one side. A tenth of the training rows is held out for choices; figures are of validation.
- **Finetuning, then pruning**: the base model is finetuned with a low-rank adapter; from there thresholds learn while tokens
  are pruned. LTP-S learns with every budget at once, so that one model serves all of them; LTP learns for one.
- **Expected FLOPs** are those of the last step’s texts in the paper’s accounting, as a share of the same texts unpruned.
- **Time left**: steps that are left, times the seconds that a step of their stage took; for a stage that has not begun,
  a known multiple of a finetuning step stands in.
- **A limit of minutes** becomes epochs before anything is trained, so the run is the same on any machine that trains it.
- **Bad rows** (no text, no label, a label that no training row has, a text of another split) are counted, named and left out.
"""
