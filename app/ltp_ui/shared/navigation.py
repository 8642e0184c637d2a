"""The pages, in order, and what stands in the sidebar on each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app.ltp_ui.shared import address, live, state, status
from app.ltp_ui.shared.wording import counted

if TYPE_CHECKING:
    from streamlit.navigation.page import StreamlitPage

_PAGES = (
    ("start", "Start", ":material/home:"),
    ("explore", "Explore a sentence", ":material/filter_alt:"),
    ("compare", "Compare", ":material/compare_arrows:"),
    ("score", "Score a file", ":material/table:"),
    ("lengths", "Length shift", ":material/bar_chart:"),
    ("tradeoff", "Accuracy vs FLOPs", ":material/show_chart:"),
    ("robustness", "Length robustness", ":material/straighten:"),
    ("throughput", "Throughput", ":material/speed:"),
    ("pays", "Does it pay?", ":material/savings:"),
    ("train", "Train", ":material/model_training:"),
    ("runs", "Runs", ":material/table_rows:"),
    ("method", "Method", ":material/functions:"),
)


def pages() -> list[StreamlitPage]:
    """The pages whose scripts exist; the first is where the app opens."""
    return [
        st.Page(state.PAGES / f"{name}.py", title=title, icon=icon, default=name == "start")
        for name, title, icon in _PAGES
        if (state.PAGES / f"{name}.py").is_file()
    ]


def sidebar_footer() -> None:
    """The address to copy, and what the app runs on, in one line."""
    network = status.network()
    with st.sidebar:
        address.copy_link()
        st.caption(
            f"{counted(len(live.checkpoints()), 'checkpoint')} · {network.title.lower()}: "
            f"{network.detail}."
        )
