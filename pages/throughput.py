"""Throughput: how fast pruning really is here, beside its controls and what the FLOPs promise."""

import streamlit as st

from app.ltp_ui import jobs, throughput_controls, throughput_panels, throughput_results

st.title("Throughput", anchor=False)
st.markdown(
    "Fewer FLOPs are not less time. Measure on this machine what removing tokens is worth, beside the "
    "same network with its padding removed but nothing pruned, and beside what others use."
)
throughput_results.watch()
what = throughput_results.question()
throughput_controls.measure(what)
jobs.poll(throughput_controls.KIND, throughput_panels.progress)

chosen, found = throughput_results.choose_result(what)
if chosen is None:
    throughput_panels.nothing_yet(what)
else:
    throughput_panels.result(chosen, found)
