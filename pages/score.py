"""Score a file: what a checkpoint says of each text, with and without pruning, and which labels flip."""

import streamlit as st

from app.ltp_ui.explore.controls import choose_checkpoint
from app.ltp_ui.score import data, panels
from app.ltp_ui.shared import blocks, live
from app.ltp_ui.shared.boundary import boundary

st.title("Score a file", anchor=False)
st.markdown(
    "Each text of a file, read with and without pruning by the same weights: which labels change, how sure "
    "the network is, and what each text costs."
)

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
    source = data.choose_source(card.task)
    if source is None:
        st.info(
            "Choose a file with one text a row; it stays on this machine.", icon=":material/table:"
        )
        st.stop()
    scored = data.scored(name, source, rows, pruned.factor)
    panels.headline(scored)
    position = panels.table(scored, card)
    panels.selected(scored, position, card, pruned)
    panels.downloads(scored, source, card, pruned)
