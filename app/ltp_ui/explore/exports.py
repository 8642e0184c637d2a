"""The export menu of the explore page."""

from __future__ import annotations

import streamlit as st

from app.ltp_ui.explore.picture import Picture
from app.ltp_ui.shared import charts, export, live
from app.ltp_ui.shared.exports_panel import Files, chart_files, row
from app.ltp_ui.token_view.about import about

POPOVER = "explore.files"


@st.fragment
def export_popover(shown: Picture) -> None:
    """Trace, token view and survivors chart as files, once it is opened."""
    popover = st.popover("Export", icon=":material/download:", on_change="rerun", key=POPOVER)
    if not popover.open:
        return
    view, trace = shown.view, live.with_unpruned(shown.question, shown.trace)
    chart = charts.survivors_chart(trace, shown.learned)
    caption = [f"{trace.checkpoint}: live tokens by layer", *about(trace)]
    data: Files = {
        "JSON": ("json", "application/json", lambda: export.trace_json(trace)),
        "CSV": ("csv", "text/csv", lambda: export.csv(export.trace_frame(trace))),
    }
    picture: Files = {
        "HTML": ("html", "text/html", lambda: export.view_html(view, trace)),
        "SVG": ("svg", "image/svg+xml", lambda: export.view_svg(view, trace)),
        "PNG": ("png", "image/png", lambda: export.view_png(view, trace)),
    }
    with popover:
        row("Trace", trace.checkpoint, data, key="explore.export")
        row("Token view", trace.checkpoint, picture, key="explore.export")
        row(
            "Survivors chart",
            trace.checkpoint,
            chart_files(chart, caption=caption),
            key="explore.export",
        )
        st.caption(
            "The JSON opens with `Trace.from_json`; the CSV has a row for each layer (from 1) and "
            "token (from 0). All of them say the text and the setting; the CSV in its first row."
        )
