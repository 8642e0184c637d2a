"""Length robustness: does pruning hold on inputs longer than those it was trained on?"""

import streamlit as st

from app.ltp_ui.robustness import controls, data
from app.ltp_ui.robustness import kinds as robustness_kinds
from app.ltp_ui.robustness import panels as robustness_panels
from app.ltp_ui.shared.boundary import boundary
from app.ltp_ui.trajectories import panels as trajectories_panels

st.title("Length robustness", anchor=False)
st.markdown(
    "A learned threshold looks at every token, a fixed configuration only at how many there are. Here is "
    "what becomes of short and long inputs, band by band, layer by layer, and by kind of token."
)

found = data.recorded()
if found.empty:
    robustness_panels.empty()
    st.stop()
choice = controls.choose(found)
if choice is None:
    st.stop()

TABS = ["By length", "Trajectories", "Token kinds"]
lengths, layers, kinds = st.tabs(TABS, key="robustness.tab", on_change="rerun", bind="query-params")
if lengths.open:
    with lengths, boundary("This tab"):
        robustness_panels.by_length(choice)
if layers.open:
    with layers, boundary("This tab"):
        trajectories_panels.tab(choice)
if kinds.open:
    with kinds, boundary("This tab"):
        robustness_kinds.tab(choice)

with st.expander("How this is computed"):
    robustness_panels.how_computed()
