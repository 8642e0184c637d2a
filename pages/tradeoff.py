"""Accuracy vs FLOPs: what each method's pruning costs and saves, from the runs of the stores."""

import streamlit as st

from app.ltp_ui.shared import blocks
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.stored import points
from app.ltp_ui.shared.wording import counted
from app.ltp_ui.tradeoff import groups, panels, tables

st.title("Accuracy vs FLOPs", anchor=False)

found = points()
if found.empty:
    panels.empty()
    st.stop()

# On screen the answer and the pictures come before the controls that change them.
answer, pictures = st.container(), st.container()
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    shown = panels.choose_task(found)
    view, with_paper = panels.choose_view()
methods = panels.choose_methods(shown)
drawn = shown[shown["method"].isin(methods)]
with answer:
    blocks.answer(plain(tables.answer(shown)))
with pictures:
    panels.pictures(drawn, view)

panels.smallest_section(shown)
panels.sources(drawn, view)
groups.answers_section(drawn)
if with_paper:
    tasks = set(shown["task"])
    panels.papers_picture(tasks.pop() if len(tasks) == 1 else None)

with st.expander(f"All {counted(len(shown), 'point')}"):
    st.dataframe(tables.points_frame(shown, with_intervals=False), hide_index=True)
with st.expander("How this is computed"):
    panels.how_computed()
