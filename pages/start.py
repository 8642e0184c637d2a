"""Start: what token pruning is, on a real sentence, and where to go from here."""

import streamlit as st

from app.ltp_ui.shared import state, warm_up
from app.ltp_ui.start import panels

st.title("Token Pruning Explorer", anchor=False)
verdict_slot, picture_slot = st.container(), st.container(border=True)

panels.doors()
st.header("Learned Token Pruning in three sentences", anchor=False)
st.markdown(
    "In every layer, a token's **score** is the attention that the other tokens pay to it. "
    "Tokens whose score does not exceed the layer's **threshold** are removed, so that all later "
    "layers have less to compute. The thresholds are **learned** with the weights, one a layer, "
    "and every input keeps as many tokens as its own attention asks for ([Kim et al., KDD 2022]"
    "(https://doi.org/10.1145/3534678.3539260))."
)
st.page_link(state.METHOD, label="How it works, in equations", icon=":material/functions:")
panels.status_card()

panels.hero(verdict_slot, picture_slot)
warm_up.start()
