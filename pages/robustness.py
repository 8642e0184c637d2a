"""Length robustness: does pruning hold on inputs longer than those it was trained on?"""

import streamlit as st

from app.ltp_ui import (
    robustness_controls,
    robustness_data,
    robustness_kinds,
    robustness_panel,
    trajectories_panel,
)
from app.ltp_ui.boundary import boundary

st.title("Length robustness", anchor=False)
st.markdown(
    "A learned threshold looks at every token, a fixed configuration only at how many there are. Here is "
    "what becomes of short and long inputs, band by band, layer by layer, and by kind of token."
)

found = robustness_data.experiments()
if not found:
    robustness_panel.empty()
    st.stop()
choice = robustness_controls.choose(found)
if choice is None:
    st.stop()

TABS = ["By length", "Trajectories", "Token kinds"]
lengths, layers, kinds = st.tabs(TABS, key="robustness.tab", on_change="rerun", bind="query-params")
if lengths.open:
    with lengths, boundary("This tab"):
        robustness_panel.by_length(choice)
if layers.open:
    with layers, boundary("This tab"):
        trajectories_panel.tab(choice)
if kinds.open:
    with kinds, boundary("This tab"):
        robustness_kinds.tab(choice)

with st.expander("How this is computed"):
    robustness_panel.how_computed()
