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
from ltp_core.threads import fit_threads  # noqa: E402

THREADS_S = 10  # the number of threads follows what else runs on the machine

st.set_page_config(
    page_title="Token Pruning Explorer",
    page_icon=str(ROOT / "app" / "ltp_ui" / "icon.png"),
    layout="wide",
)
with boundary("Choosing the number of threads"):
    st.cache_resource(ttl=THREADS_S, show_spinner=False)(fit_threads)()
page = st.navigation(navigation.pages())
state.enter(page.title)
with boundary("Removing old uploads"):
    uploads.forget_stale()
navigation.sidebar_footer()
with boundary():
    page.run()
