"""Two or more runs side by side: what they reached, what sets them apart, and their curves in one chart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.ltp_ui.runs import charts
from app.ltp_ui.runs import data as runs_data
from app.ltp_ui.shared import exports_panel
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.labels import label_of
from app.ltp_ui.shared.wording import counted, duration, percent
from ltp_core.analysis.runs import REPORTED_ON
from ltp_core.records import RunManifest
from ltp_core.store import RunEntry

MOST = 6
"""Runs side by side: more have no room, and no lines that can be told apart."""

FACT_WIDTH, RUNS_WIDTH, LEAST_WIDTH = 160, 360, 130
"""Pixels of the column of names, of all runs together where they have room, and of one run."""

FACT = "fact"


def compared(runs: Sequence[RunEntry]) -> None:
    """Facts in a column a run, and the training curves over each other."""
    shown = runs[:MOST]
    st.header(f"{counted(len(shown), 'run')} side by side", anchor=False)
    if len(runs) > MOST:
        st.caption(f"Shown are the first {MOST} of {len(runs)} chosen runs.")
    facts = side_by_side(shown)
    widths = [FACT_WIDTH, *[max(LEAST_WIDTH, RUNS_WIDTH // len(shown))] * len(shown)]
    st.dataframe(
        facts,
        hide_index=True,
        height="content",
        column_config={
            str(name): st.column_config.TextColumn(width=width)
            for name, width in zip(facts.columns, widths, strict=True)
        },
        alt="Results, costs and settings that differ, a column a run.",
    )
    histories = {
        label_of(entry.name): found
        for entry in shown
        if (found := runs_data.history(entry)) is not None and len(found)
    }
    if not histories:
        st.caption("The history of none of these trainings was kept.")
        return
    st.subheader("Training curves", anchor=False)
    _curves(histories)


def side_by_side(runs: Sequence[RunEntry]) -> pd.DataFrame:
    """A line a fact, a column a run; of the settings those that differ. What is absent is a dash."""
    columns = {
        label_of(entry.name): {
            **dict(_facts(entry.manifest)),
            **_flat(runs_data.whole_settings(entry.manifest)),
        }
        for entry in runs
        if entry.manifest
    }
    named = list(dict.fromkeys(name for facts in columns.values() for name in facts))
    rows = {name: [facts.get(name, "–") for facts in columns.values()] for name in named}
    facts = {name for entry in runs if entry.manifest for name, _ in _facts(entry.manifest)}
    kept = {name: values for name, values in rows.items() if name in facts or len(set(values)) > 1}
    frame = pd.DataFrame.from_dict(kept, orient="index", columns=list(columns))
    return frame.rename_axis(FACT).reset_index()


def _facts(manifest: RunManifest) -> Iterator[tuple[str, str]]:
    """What a run reached, at which cost, and what it took."""
    result = runs_data.table(manifest.summary, REPORTED_ON)
    for name, value in runs_data.table(result, "metrics").items():
        if isinstance(value, int | float):
            yield f"{REPORTED_ON}: {name.replace('_', ' ')}", percent(value)
    for name, value in runs_data.table(result, "relative_flops").items():
        if isinstance(value, int | float):
            yield f"FLOPs, {name}", percent(value)
    if sentence := runs_data.calibrated_to(manifest):
        yield "calibrated to", sentence
    rows = runs_data.table(manifest.dataset, "train").get("rows")
    if isinstance(rows, int):
        yield "training rows", f"{rows:,}"
    yield "took", f"{duration(manifest.duration_s)} on {runs_data.device(manifest)}"
    yield "date", manifest.created_at[:10]
    yield "run", manifest.name


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Settings by dotted name, as they stand in a preset."""
    found: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = "none" if value is None else str(value)
    return found


def _curves(histories: Mapping[str, pd.DataFrame]) -> None:
    """One quantity of all of them over the optimizer steps."""
    known = charts.shared_columns(histories.values())
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        column = st.selectbox(
            "Quantity",
            known,
            format_func=charts.title_of_column,
            key="runs.compared.quantity",
            persist_state="session",
            width=220,
        )
        window = choose_smoothing("runs.compared.smoothing")
    chart = charts.overlay_chart(histories, column or known[0], window)
    show_zoomable(
        chart,
        charts.quantity_of(column or known[0]),
        alt=f"{charts.title_of_column(column)} over the optimizer steps of {', '.join(histories)}.",
    )
    with st.popover("Export", icon=":material/download:", key="runs.compared.export"):
        files: exports_panel.Files = {
            "CSV": exports_panel.frame_files(chart.frame)["CSV"],
            **exports_panel.chart_files(chart, width=640),
        }
        exports_panel.row(f"History {column}", "runs", files, key="runs.compared")
    if missing := [name for name, found in histories.items() if column not in known_of(found)]:
        st.caption(plain(f"Not logged by {', '.join(missing)}."))


def show_zoomable(chart: Figure, quantity: str, *, alt: str) -> None:
    """Training curves that can be zoomed into; pictures of them are saved by the export beside them."""
    st.plotly_chart(charts.zoomable(chart, quantity), alt=alt, config={"displayModeBar": False})
    st.caption("Drag a box over the curves to zoom in; a double click shows all of them again.")


def known_of(history: pd.DataFrame) -> list[str]:
    """Columns of a history that have figures."""
    return charts.shared_columns([history])


def choose_smoothing(key: str) -> int:
    """Over how many logged steps a curve is averaged; 1 leaves it as it was logged."""
    return st.select_slider(
        "Smoothing",
        charts.WINDOWS,
        format_func=lambda n: "none" if n == 1 else f"mean of {n} logged steps",
        key=key,
        persist_state="session",
        width=260,
        help="Each point becomes the mean of the last so many that were logged, within its stage.",
    )
