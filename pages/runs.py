"""Runs: what the stores hold, where every figure comes from, and what cannot be used."""

import streamlit as st

from app.ltp_ui import runs_data, runs_detail, runs_panel

st.title("Runs", anchor=False)
st.markdown(
    "Every training that the stores hold, with what it measured and where it comes from. A run is the "
    "evidence behind a figure on the other pages."
)

listing = runs_data.current()
if not listing.runs:
    runs_panel.empty()
    runs_panel.unusable_section(listing.unusable)
    st.stop()

runs = runs_panel.filtered(listing.runs)
name = runs_panel.choose(runs, listing.runs)
if name is not None:
    with st.container(border=True):
        runs_detail.detail(name, listing)
runs_panel.unusable_section(listing.unusable)
