"""Throughput: how fast pruning really is here, beside its controls and what the FLOPs promise."""

import streamlit as st

from app.ltp_ui.shared import jobs
from app.ltp_ui.throughput import controls, panels, results

st.title("Throughput", anchor=False)
st.markdown(
    "Fewer FLOPs are not less time. Measure on this machine what removing tokens is worth, beside the "
    "same network with its padding removed but nothing pruned, and beside what others use."
)
results.watch()
what = results.question()
controls.measure(what)
jobs.poll(controls.KIND, panels.progress)

chosen, found = results.choose_result(what)
if chosen is None:
    panels.nothing_yet(what)
else:
    panels.result(chosen, found)
