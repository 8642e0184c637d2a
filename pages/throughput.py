"""Throughput: how fast pruning really is here, beside its controls and what the FLOPs promise."""

import streamlit as st

from app.ltp_ui.shared import jobs
from app.ltp_ui.throughput import controls, panels, results

st.title("Throughput", anchor=False)
results.watch()
what = results.question()
jobs.poll(controls.KIND, panels.progress)

# The answer and the picture come first on screen; what they show is chosen below them.
answer = st.container()
checkpoint = controls.measure(what)
chosen, found = results.choose_result(what, checkpoint)
with answer:
    if chosen is None:
        panels.nothing_yet(what)
    else:
        figures = panels.answer(chosen, results.of_another(chosen, found, checkpoint))
if chosen is not None:
    panels.details(chosen, found, figures)
