"""Train: a labelled file becomes a model that prunes; or thresholds are chosen without training."""

import streamlit as st

from app.ltp_ui.shared import state
from app.ltp_ui.shared.boundary import boundary
from app.ltp_ui.train import job, panels, prune

st.title("Train", anchor=False)
answer_slot = st.container()
what = panels.choose_what()
if what == state.PRUNE:
    with answer_slot:
        prune.answer()
    prune.panel()
    st.stop()

with answer_slot:
    panels.answer()
st.markdown(
    "From a file of texts and labels to a model that drops the tokens it does not need: everything runs "
    "on this machine, can be resumed after a stop, and the model opens on every other page."
)
job.panel()
with boundary("The training"):
    panels.form()

with st.expander("How this is computed"):
    st.markdown(panels.HOW)
