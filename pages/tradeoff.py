"""Accuracy vs FLOPs: what each method's pruning costs and saves, from the runs of the stores."""

import streamlit as st

from app.ltp_ui.shared.wording import counted
from app.ltp_ui.tradeoff import data, groups, panels, tables

st.title("Accuracy vs FLOPs", anchor=False)
st.markdown(
    "How much of the computation each method saves, and what that does to the answers, beside the same "
    "model trained without pruning (the dense counterpart)."
)

found = data.points()
if not found:
    panels.empty()
    st.stop()

experiments = data.experiments(found)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    shown = panels.choose_task(experiments)
    view = panels.choose_view(found)
on_screen = [point for point in found if point.experiment in shown]
methods = panels.choose_methods(on_screen)

num_columns = 1 if len({experiment.task for experiment in shown}) == 1 else 2
columns = st.columns(num_columns, gap="large")
for number, experiment in enumerate(shown):
    mine = [p for p in on_screen if p.experiment == experiment and p.method in methods]
    if mine:
        with columns[number % num_columns]:
            panels.experiment_section(mine, view, height=500 if num_columns == 1 else 440)
st.caption(
    "Grey: on held-out rows another point of the same method is no worse and needs no more FLOPs. Hollow "
    "and grey: the paper’s own numbers, of another model."
)

groups.answers_section([point for point in on_screen if point.method in methods])

chosen = tables.choose(on_screen, shown)
panels.smallest_section(chosen, shown)

with st.expander(f"All {counted(len(on_screen), 'point')}"):
    st.dataframe(tables.points_frame(on_screen, with_intervals=False), hide_index=True)
with st.expander("How this is computed"):
    panels.how_computed()
