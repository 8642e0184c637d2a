"""The stored runs as one table, read again when the stores change."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from ltp_core import store
from ltp_core.analysis.runs import points_table, runs_table


def run_table() -> pd.DataFrame:
    """`runs_table` of the stores by name of the run; not to be changed."""
    return _tables(store.runs_stamp())[0]


def points() -> pd.DataFrame:
    """`points_table` of the stores; not to be changed."""
    return _tables(store.runs_stamp())[1]


@st.cache_resource(max_entries=2, show_spinner=False)
def _tables(stamp: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    del stamp
    table = runs_table()
    return table.set_index("run", drop=False).rename_axis(None), points_table(table)
