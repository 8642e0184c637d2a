"""The parts of the Runs page: filters, the table, folders that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.ltp_ui.runs import data
from app.ltp_ui.shared import blocks, exports_panel, state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.labels import stored_labels
from app.ltp_ui.shared.method_style import in_order, title_of
from app.ltp_ui.shared.wording import counted
from ltp_core.analysis.runs import UNPRUNED
from ltp_core.checkpoint_places import holds_weights
from ltp_core.store import RunEntry

RUN = "run"
CHOSEN, LINKED = "runs.chosen", "runs.linked"


def empty() -> None:
    """The state of an empty store."""
    st.info(
        "The store has no run yet. Train a preset; a training that is stopped goes on with the same "
        "command:",
        title="No run",
        icon=":material/inventory_2:",
    )
    st.code("python -m ltp_core train rotten_tomatoes_ltp", language="bash")


def answer(runs: Sequence[RunEntry]) -> None:
    """How much evidence there is, and what can be loaded, in one sentence."""
    manifests = [run.manifest for run in runs if run.manifest]
    methods = counted(len({m.method for m in manifests} - {UNPRUNED}), "method")
    tasks = counted(len({m.task for m in manifests}), "task")
    loadable = sum(holds_weights(run.folder) for run in runs)
    blocks.answer(
        f"{counted(len(manifests), 'run')} of {methods} on {tasks} stand behind the figures of this app; "
        f"{loadable:,} can be loaded."
    )


def filtered(runs: Sequence[RunEntry]) -> list[RunEntry]:
    """The runs that pass the filters above the table."""
    manifests = [run.manifest for run in runs if run.manifest]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        tasks = st.multiselect(
            "Task",
            sorted({m.task for m in manifests}),
            key="runs.task",
            bind="query-params",
            placeholder="all",
        )
        methods = st.multiselect(
            "Method",
            in_order(m.method for m in manifests),
            format_func=title_of,
            key="runs.method",
            bind="query-params",
            placeholder="all",
        )
        words = st.text_input("Name contains", key="runs.name", bind="query-params", width=220)
        only_weights = st.toggle("With weights", key="runs.weights", bind="query-params")
    labels = stored_labels()
    return [
        run
        for run in runs
        if run.manifest
        and (not tasks or run.manifest.task in tasks)
        and (not methods or run.manifest.method in methods)
        and words.strip().lower() in f"{run.name} {labels.get(run.name, '')}".lower()
        and (not only_weights or holds_weights(run.folder))
    ]


def choose(runs: Sequence[RunEntry], known: Sequence[RunEntry]) -> list[str]:
    """The table; gives the names of the chosen runs, from clicks or a link."""
    linked = state.adopt(RUN)
    if linked is not None:
        st.session_state[CHOSEN] = st.session_state[LINKED] = linked.split(",")
        # A link from this page to itself changes what is read here, but not the browser's address.
        st.query_params[RUN] = linked
    # Those of a link come first, so that what is opened is in sight, and marked.
    first = st.session_state.get(LINKED, [])
    runs = sorted(runs, key=lambda run: run.name not in first)
    names = [run.name for run in runs]
    key = f"runs.table.{hash((*names, *first))}"

    def chosen() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        st.session_state[CHOSEN] = [names[row] for row in rows]

    opened: list[str] = st.session_state.get(CHOSEN, [])
    frame = data.runs_frame(runs)
    st.dataframe(
        _on_screen(frame),
        hide_index=True,
        height=min(420, 38 + 35 * max(len(frame), 1)),
        column_config=_COLUMN_CONFIG,
        on_select=chosen,
        selection_mode="multi-row",
        placeholder="–",
        selection_default={
            "selection": {"rows": [names.index(name) for name in opened if name in names]}
        },
        key=key,
        alt=f"{counted(len(frame), 'run')} with task, method, metric, FLOPs and provenance.",
    )
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(
            f"{len(runs)} of {counted(len(known), 'run')}. Tick one for everything about it, two or "
            "more to see them side by side."
        )
        _exports(frame)
    opened = st.session_state.get(CHOSEN, [])
    state.publish(RUN, ",".join(opened) or None)
    return opened


def _on_screen(frame: pd.DataFrame) -> pd.DataFrame:
    """What a run is, what it reached and what that costs; the rest stands below a chosen run.

    So few columns have room on a narrow screen, without scrolling sideways.
    """
    labels = stored_labels()
    return pd.DataFrame(
        {
            "run": [labels.get(name, name) for name in frame["run"]],
            "validation": 100 * frame["metric"].astype(float),
            "FLOPs": 100 * frame["relative_flops_paper"].astype(float),
        }
    )


_PERCENT = "%.1f %%"
_COLUMN_CONFIG = {
    "run": st.column_config.TextColumn(
        width=370,
        help="Method, task, share of the FLOPs, seed; runs that are alike end in their fingerprint.",
    ),
    "validation": st.column_config.NumberColumn(
        format=_PERCENT, help="Headline metric: of each task its own.", width=80
    ),
    "FLOPs": st.column_config.NumberColumn(
        format=_PERCENT, help="Relative FLOPs on validation, the paper’s accounting.", width=72
    ),
}


def _exports(frame: pd.DataFrame) -> None:
    with st.popover("Export", icon=":material/download:"):
        exports_panel.row("Table", "runs", exports_panel.frame_files(frame), key="runs.export")
        st.caption("Fractions, seconds and bytes, as in the manifests.")


def unusable_section(entries: Sequence[RunEntry]) -> None:
    """Folders that are no usable run, each with the reason."""
    if not entries:
        return
    st.header(f"{counted(len(entries), 'folder')} not in the table", anchor=False)
    for entry in entries:
        icon = ":material/hourglass_top:" if data.is_running(entry) else ":material/error:"
        st.markdown(f"{icon} **{plain(entry.name)}** – {plain(data.reason(entry))}")
