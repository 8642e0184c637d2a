"""Runs: what the stores hold, where every figure comes from, and what cannot be used."""

import streamlit as st

from app.ltp_ui.runs import data, detail, panels

st.title("Runs", anchor=False)
st.markdown(
    "Every training that the stores hold, with what it measured and where it comes from. A run is the "
    "evidence behind a figure on the other pages."
)

listing = data.current()
if not listing.runs:
    panels.empty()
    panels.unusable_section(listing.unusable)
    st.stop()

runs = panels.filtered(listing.runs)
name = panels.choose(runs, listing.runs)
if name is not None:
    with st.container(border=True):
        detail.detail(name, listing)
panels.unusable_section(listing.unusable)
