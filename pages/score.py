"""Score a file: what a checkpoint says of each text, with and without pruning, and which labels flip."""

import streamlit as st

from app.ltp_ui.explore.controls import choose_checkpoint
from app.ltp_ui.score import data, panels
from app.ltp_ui.shared import blocks, live
from app.ltp_ui.shared.boundary import boundary

st.title("Score a file", anchor=False)

# On screen the answer comes first, then the file, its table, and what reads it.
answer_slot, file_slot, table_slot = (st.container() for _ in range(3))
left, right = st.columns([2, 1], vertical_alignment="bottom")
with left:
    name = choose_checkpoint()
with right:
    rows = st.select_slider("Texts at most", data.ROWS, value=data.DEFAULT_ROWS, key="score.rows")
if name is None:
    blocks.no_checkpoint()
    st.stop()
with blocks.loading(name):
    card = live.card(name)

with boundary("Scoring"):
    pruned = panels.choose_strength(card)
    with file_slot:
        source = data.choose_source(card.task)
    with table_slot:
        scored = data.scored(name, source, rows, pruned.factor)
        panels.headline(scored)
        position = panels.table(scored, card)
        panels.selected(scored, position, card, pruned)
    with answer_slot:
        panels.answer(scored, source)
    if not source.examples:
        panels.downloads(scored, source, card, pruned)
