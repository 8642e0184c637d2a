"""The export menu of the explore page; files are made when they are asked for."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app.ltp_ui import charts, export
from app.ltp_ui.view import TokenView
from ltp_core.records import Trace


def export_popover(view: TokenView, trace: Trace, learned: Trace | None) -> None:
    """Trace, token view and survivors chart as files."""

    def survivors(kind: charts.ImageKind) -> bytes:
        return charts.image(charts.survivors_chart(trace, learned), kind)

    with st.popover("Export", icon=":material/download:"):
        _row(
            "Trace",
            trace,
            {
                "JSON": ("json", "application/json", lambda: export.trace_json(trace)),
                "CSV": ("csv", "text/csv", lambda: export.trace_csv(trace)),
            },
        )
        _row(
            "Token view",
            trace,
            {
                "HTML": ("html", "text/html", lambda: export.view_html(view, trace)),
                "SVG": ("svg", "image/svg+xml", lambda: export.view_svg(view)),
                "PNG": ("png", "image/png", lambda: export.view_png(view)),
            },
        )
        _row(
            "Survivors chart",
            trace,
            {
                "SVG": ("svg", "image/svg+xml", lambda: survivors("svg")),
                "PNG": ("png", "image/png", lambda: survivors("png")),
            },
        )
        st.caption(
            "The JSON opens with `Trace.from_json`; the CSV has a row for each layer (from 1) and "
            "token (from 0)."
        )


def _row(title: str, trace: Trace, files: dict[str, tuple[str, str, Callable[[], bytes]]]) -> None:
    st.markdown(f"**{title}**")
    stem = f"{trace.checkpoint}-{title.lower().replace(' ', '-')}"
    with st.container(horizontal=True):
        for label, (suffix, mime, make) in files.items():
            st.download_button(
                label,
                data=make,
                file_name=f"{stem}.{suffix}",
                mime=mime,
                on_click="ignore",
                key=f"explore.export.{stem}.{suffix}",
            )
