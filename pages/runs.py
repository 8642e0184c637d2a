"""Runs: what the stores hold, where every figure comes from, and what cannot be used."""

import streamlit as st

from app.ltp_ui.runs import compared, data, detail, panels

st.title("Runs", anchor=False)
listing = data.current()
if not listing.runs:
    panels.empty()
    panels.unusable_section(listing.unusable)
    st.stop()

panels.answer(listing.runs)
runs = panels.filtered(listing.runs)
names = panels.choose(runs, listing.runs)
if names:
    with st.container(border=True):
        chosen = [run for run in listing.runs if run.name in names]
        for name in set(names) - {run.name for run in chosen}:
            detail.absent(name, listing)
        if len(chosen) > 1:
            compared.compared(chosen)
        elif chosen:
            detail.detail(chosen[0], listing)
panels.unusable_section(listing.unusable)
