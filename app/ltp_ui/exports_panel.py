"""The export menu of the explore page; files are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.ltp_ui import charts, export
from app.ltp_ui.view import TokenView
from ltp_core.records import Trace

Files = dict[str, tuple[str, str, Callable[[], bytes]]]
"""By label: suffix, media type, and what makes the file."""


def export_popover(view: TokenView, trace: Trace, learned: Trace | None) -> None:
    """Trace, token view and survivors chart as files."""
    chart = charts.survivors_chart(trace, learned)
    data: Files = {
        "JSON": ("json", "application/json", lambda: export.trace_json(trace)),
        "CSV": ("csv", "text/csv", lambda: export.trace_csv(trace)),
    }
    picture: Files = {
        "HTML": ("html", "text/html", lambda: export.view_html(view, trace)),
        "SVG": ("svg", "image/svg+xml", lambda: export.view_svg(view)),
        "PNG": ("png", "image/png", lambda: export.view_png(view)),
    }
    with st.popover("Export", icon=":material/download:"):
        row("Trace", trace.checkpoint, data, key="explore.export")
        row("Token view", trace.checkpoint, picture, key="explore.export")
        row("Survivors chart", trace.checkpoint, chart_files(chart), key="explore.export")
        st.caption(
            "The JSON opens with `Trace.from_json`; the CSV has a row for each layer (from 1) and "
            "token (from 0)."
        )


def chart_files(chart: charts.Figure) -> Files:
    """A chart as the two kinds of picture."""
    return {
        "SVG": ("svg", "image/svg+xml", lambda: charts.image(chart, "svg")),
        "PNG": ("png", "image/png", lambda: charts.image(chart, "png")),
    }


def row(title: str, subject: str, files: Files, *, key: str) -> None:
    """A line of download buttons; the files are called `SUBJECT-TITLE.SUFFIX`."""
    st.markdown(f"**{title}**")
    stem = f"{subject}-{title.lower().replace(' ', '-')}"
    with st.container(horizontal=True):
        for label, (suffix, mime, make) in files.items():
            st.download_button(
                label,
                data=make,
                file_name=f"{stem}.{suffix}",
                mime=mime,
                on_click="ignore",
                key=f"{key}.{stem}.{suffix}",
            )
