"""Does it pay: FLOPs, time, cost and accuracy of a checkpoint on some lengths and a machine."""

import streamlit as st

from app.ltp_ui.pays import controls, data, panels
from app.ltp_ui.shared.boundary import boundary

st.title("Does it pay?", anchor=False)

# The answer comes first on screen; what it is about is chosen below it.
answer = st.container()
with boundary("The decision"):
    with st.container(border=True):
        asked = controls.ask()
        if asked is None:
            st.stop()
        found = data.decide(asked)
        bench, batch_size = controls.choose_bench(found, asked.lengths)
        controls.measure_here(found)
    found = data.decide(asked, bench=bench, batch_size=batch_size)
    with answer:
        panels.answer(found)
        panels.figures(found, asked)
        panels.pictures(found)
        panels.missing(found)
    controls.other_lengths(asked.run)
    panels.numbers(found, asked)
    panels.how()
