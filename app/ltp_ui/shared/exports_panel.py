"""Rows of download buttons; files are made when they are asked for."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import charts
from app.ltp_ui.shared.export import csv

Files = dict[str, tuple[str, str, Callable[[], bytes]]]
"""By label: suffix, media type, and what makes the file."""


def chart_files(chart: charts.Figure, *, width: int = 560, caption: Sequence[str] = ()) -> Files:
    """A chart as the two kinds of picture, with lines above it."""

    def image(kind: charts.ImageKind) -> bytes:
        return charts.image(chart, kind, width=width, caption=caption)

    return {
        "SVG": ("svg", "image/svg+xml", lambda: image("svg")),
        "PNG": ("png", "image/png", lambda: image("png")),
    }


def frame_files(frame: pd.DataFrame) -> Files:
    """A table as CSV and JSON; fractions stay fractions."""

    def document() -> bytes:
        return json.dumps(json.loads(frame.to_json(orient="records")), indent=2).encode()

    return {
        "CSV": ("csv", "text/csv", lambda: csv(frame)),
        "JSON": ("json", "application/json", document),
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
