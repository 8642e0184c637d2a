"""The selector of a checkpoint: what each is stands in the list, its name or folder in the address."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app.ltp_ui.shared import state
from app.ltp_ui.shared.labels import label_of

HELP = "A run of the store, or the path of a model folder on this machine: type it in."


def checkpoint_select(
    label: str,
    names: Sequence[str],
    *,
    key: str,
    default: str | None,
    help_text: str = HELP,
) -> str | None:
    """The chosen name or the typed folder; None where nothing was chosen.

    Args:
        label: Of the selector.
        names: Names of runs to choose from.
        key: Session key and parameter of the URL.
        default: Chosen at first, and then not in the URL.
        help_text: Behind the question mark.
    """
    if (given := state.adopt(key)) is not None:
        st.session_state[key] = given
    st.session_state.setdefault(key, default)
    chosen = st.selectbox(
        label,
        names,
        format_func=label_of,
        key=key,
        persist_state="session",
        accept_new_options=True,
        placeholder="Choose one or type a folder",
        help=help_text,
    )
    name = (chosen or "").strip() or None
    state.publish(key, None if name == default else name)
    return name
