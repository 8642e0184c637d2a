"""The page's address: a button that copies it, and Back in one press."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

_SCRIPT = Path(__file__).with_suffix(".js")
_HTML = """
<button type="button" title="Copies the address of this page with everything that is chosen on it">
  Copy link
</button>
<output aria-live="polite"></output>
"""
_CSS = """
button {
  padding: 0.25rem 0.75rem;
  border: 1px solid var(--st-border-color);
  border-radius: 8px;
  background: var(--st-background-color);
  color: var(--st-text-color);
  font: inherit;
  font-size: 14px;
  cursor: pointer;
}
button:hover, button:focus-visible { border-color: var(--st-primary-color); color: var(--st-primary-color); }
output { margin-left: 0.5rem; color: var(--st-text-color); font-size: 13px; }
"""


def copy_link() -> None:
    """Shows the button; its script also keeps the browser's history at one entry a page."""
    _component()(key="address")


@cache
def _component() -> Any:
    script = _SCRIPT.read_text(encoding="utf-8")
    return st.components.v2.component("ltp_address", html=_HTML, css=_CSS, js=script)
