"""Length robustness: does pruning hold on inputs longer than those it was trained on?"""

import streamlit as st

from app.ltp_ui.robustness import controls, data
from app.ltp_ui.robustness import kinds as robustness_kinds
from app.ltp_ui.robustness import panels as robustness_panels
from app.ltp_ui.shared.boundary import boundary
from app.ltp_ui.trajectories import panels as trajectories_panels

st.title("Length robustness", anchor=False)

found = data.recorded()
if found.empty:
    robustness_panels.empty()
    st.stop()

TABS = ["By length", "Trajectories", "Token kinds"]
lengths, layers, kinds = st.tabs(TABS, key="robustness.tab", on_change="rerun", bind="query-params")
open_tab, draw = next(
    (tab, draw)
    for tab, draw in (
        (lengths, robustness_panels.by_length),
        (layers, trajectories_panels.tab),
        (kinds, robustness_kinds.tab),
    )
    if tab.open
)
with open_tab, boundary("This tab"):
    # On screen the answer and the pictures come before the controls that change them.
    head = st.container()
    if (choice := controls.choose(found)) is not None:
        draw(choice, head)

with st.expander("How this is computed"):
    robustness_panels.how_computed()
