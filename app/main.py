"""Entry of the app: `streamlit run app/main.py`."""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from app.ltp_ui.lengths import uploads  # noqa: E402
from app.ltp_ui.shared import navigation, state  # noqa: E402
from app.ltp_ui.shared.boundary import boundary  # noqa: E402

st.set_page_config(
    page_title="Token Pruning Explorer",
    page_icon=str(ROOT / "app" / "ltp_ui" / "icon.png"),
    layout="wide",
)
page = st.navigation(navigation.pages())
state.enter(page.title)
with boundary("Removing old uploads"):
    uploads.forget_stale()
navigation.sidebar_footer()
with boundary():
    page.run()
