"""Files that the length page gives away: figure, statistics, counts, Table 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import charts
from app.ltp_ui.shared.export import csv
from ltp_core.files import json_text
from ltp_core.lengths.shift import LengthShift, Side, counts_table, document

_MIME = {"png": "image/png", "svg": "image/svg+xml", "csv": "text/csv", "json": "application/json"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What the page shows and its exports are made from.

    Attributes:
        train: Training lengths.
        evaluation: Evaluation lengths.
        shift: How far they are apart.
        figure: The picture on the screen.
        table_2: Makes the table with the paper's numbers.
    """

    train: Side
    evaluation: Side
    shift: LengthShift
    figure: charts.Figure
    table_2: Callable[[], pd.DataFrame]


def statistics_json(shown: Shown) -> bytes:
    """The document of `python -m ltp_core lengths … --json`."""
    return (json_text(document(shown.train, shown.evaluation, shown.shift)) + "\n").encode()


def counts_csv(shown: Shown) -> bytes:
    """Inputs by length of both sets: data, split, length, count."""
    return csv(pd.DataFrame(counts_table([shown.train, shown.evaluation])))


def table_2_csv(shown: Shown) -> bytes:
    """The table with the paper's numbers."""
    return csv(shown.table_2())


def export_popover(shown: Shown) -> None:
    """The menu; files are made when they are asked for."""
    rows: dict[str, dict[str, Callable[[], bytes]]] = {
        "Figure": {
            "png": lambda: charts.image(shown.figure, "png"),
            "svg": lambda: charts.image(shown.figure, "svg"),
        },
        "Statistics": {"json": lambda: statistics_json(shown)},
        "Counts": {"csv": lambda: counts_csv(shown)},
        "Table 2": {"csv": lambda: table_2_csv(shown)},
    }
    with st.popover("Export", icon=":material/download:"):
        for title, files in rows.items():
            st.markdown(f"**{title}**")
            with st.container(horizontal=True):
                for suffix, make in files.items():
                    _button(title, suffix, make)
        st.caption(
            "The JSON is what `python -m ltp_core lengths … --json` prints. Counts hold no text."
        )


def _button(title: str, suffix: str, make: Callable[[], bytes]) -> None:
    stem = f"lengths-{title.lower().replace(' ', '-')}"
    st.download_button(
        suffix.upper(),
        data=make,
        file_name=f"{stem}.{suffix}",
        mime=_MIME[suffix],
        on_click="ignore",
        key=f"lengths.export.{stem}.{suffix}",
    )
