"""A finished training: what came of it in a sentence, and the pages that it opens in."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import jobs, state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.jobs import Job
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.wording import counted, percent
from ltp_core import store
from ltp_core.analysis.runs import ALLOWED_DROP, CHOSEN_ON, REPORTED_ON, number
from ltp_core.records import RunManifest, UserError

SHOWN_BUDGETS = (0.8, 0.6, 0.5, 0.4, 0.3)


def draw(job: Job) -> None:
    """The run of a training that is done, if it is still in the store."""
    document = job.document if isinstance(job.document, dict) else {}
    try:
        folder = store.find_run(str(document.get("name") or document.get("checkpoint")))
        manifest = store.read_manifest(folder)
    except UserError as error:
        st.info(plain(str(error)), icon=":material/info:")
        return
    with st.container(border=True):
        curve = curve_of(folder)
        st.markdown(f"**{sentence(manifest, curve)}**")
        if curve is not None:
            _budgets(curve)
        links(manifest)
        notes(manifest)
        with st.expander("The same in a terminal", icon=":material/terminal:"):
            score = (
                f"python -m ltp_core predict {manifest.name} FILE --text COLUMN --out scored.csv"
            )
            st.code(f"{job.command}\n{score}", language="bash", wrap_lines=True)
        if st.button("Dismiss", icon=":material/close:", key="train.dismiss"):
            job.forget()
            st.rerun()


def sentence(manifest: RunManifest, curve: pd.DataFrame | None = None) -> str:
    """Metric, rows and cost; of a run for any budget where about a point is lost, chosen on held-out rows."""
    method, calibration = title_of(manifest.method), manifest.summary.get("calibration")
    if isinstance(calibration, dict):
        agreement, cost = calibration.get("agreement"), calibration["relative_flops"]["paper"]
        same = (
            ""
            if agreement is None
            else f"; {percent(agreement)} of the predictions are as unpruned"
        )
        return f"The thresholds spend {percent(cost)} of the FLOPs{same}."
    result: Any = manifest.summary.get(REPORTED_ON)
    if not isinstance(result, dict):
        return f"{method} for {plain(task_label(manifest.task))} is ready."
    metric, value = next(iter(result["metrics"].items()))
    name, rows = metric.replace("_", " "), counted(int(result["rows"]), "validation text")
    if curve is not None:
        whole, chosen = (curve.loc[x].to_dict() for x in (curve.index.min(), cheapest(curve)))
        return (
            f"{method} has {percent(chosen[REPORTED_ON])} {name} on {rows} at "
            f"{percent(chosen['FLOPs'])} of the FLOPs, {percent(whole[REPORTED_ON])} with nothing pruned."
        )
    if manifest.method == "unpruned":
        return f"{method} has {percent(number(value))} {name} on {rows}."
    cost = result["relative_flops"]["paper"]
    return (
        f"{method} has {percent(number(value))} {name} on {rows} at {percent(cost)} of the FLOPs."
    )


def curve_of(folder: Path) -> pd.DataFrame | None:
    """FLOPs and metric on both splits by strength, weakest first; None for a run at one strength."""
    try:
        found = store.read_table(folder, "curve")
    except UserError:
        return None
    splits = {split: mine.set_index("factor") for split, mine in found.groupby("split")}
    if not {CHOSEN_ON, REPORTED_ON} <= set(splits):
        return None
    return pd.DataFrame(
        {
            "FLOPs": splits[REPORTED_ON]["relative_flops_paper"],
            REPORTED_ON: splits[REPORTED_ON]["metric"],
            CHOSEN_ON: splits[CHOSEN_ON]["metric"],
        }
    ).sort_index()


def cheapest(curve: pd.DataFrame) -> float:
    """The greatest strength that loses at most a point on held-out rows against nothing pruned."""
    least = curve[CHOSEN_ON].iloc[0] - ALLOWED_DROP
    return float(curve.index[curve[CHOSEN_ON] >= least].max())


def _budgets(curve: pd.DataFrame) -> None:
    """The curve as a table of some budgets."""
    wanted = [1.0, *SHOWN_BUDGETS]
    nearest = {(curve["FLOPs"] - budget).abs().idxmin() for budget in wanted}
    shown = curve[curve.index.isin(nearest)]
    st.dataframe(
        shown,
        hide_index=True,
        column_config={
            name: st.column_config.NumberColumn(label, format="percent")
            for name, label in (
                ("FLOPs", "FLOPs"),
                (REPORTED_ON, "validation"),
                (CHOSEN_ON, "held-out"),
            )
        },
        alt="The metric at several budgets.",
        width="content",
    )
    st.caption(
        "The sentence takes the strongest pruning that loses at most a point on held-out rows; any other "
        "budget is a slider away in Explore."
    )


def links(manifest: RunManifest) -> None:
    """To every page that shows a run."""
    checkpoint = {state.CHECKPOINT: manifest.name}
    # What a page wants in its address to show this run.
    pages: tuple[tuple[Path, str, str, dict[str, str]], ...] = (
        (state.EXPLORE, "Explore a sentence", ":material/filter_alt:", checkpoint),
        (state.PAGES / "score.py", "Score a file", ":material/table:", checkpoint),
        (
            state.TRADEOFF,
            "Accuracy vs FLOPs",
            ":material/show_chart:",
            {"tradeoff.task": manifest.task},
        ),
        (
            state.PAGES / "robustness.py",
            "Length robustness",
            ":material/straighten:",
            {"robustness.data": manifest.task},
        ),
        (state.PAGES / "throughput.py", "Throughput", ":material/speed:", checkpoint),
        (state.PAYS, "Does it pay?", ":material/savings:", checkpoint),
        (state.RUNS, "Runs", ":material/table_rows:", {"run": manifest.name}),
    )
    with st.container(horizontal=True):
        for page, label, icon, parameters in pages:
            st.page_link(page, label=label, icon=icon, query_params=parameters)


def notes(manifest: RunManifest) -> None:
    """How sure the figure is, and what a fair comparison still lacks."""
    result: Any = manifest.summary.get(REPORTED_ON)
    if isinstance(result, dict) and "accuracy" in result["metrics"]:
        p, n = number(result["metrics"]["accuracy"]), int(result["rows"])
        half = 1.96 * math.sqrt(p * (1 - p) / n)
        st.caption(
            f"On {counted(n, 'text')} chance alone moves an accuracy by ± {percent(half)} (95 %)."
        )
    if manifest.dense is None or manifest.method == "calibrated":
        return
    try:
        store.find_run(manifest.dense)
    except UserError:
        st.caption(
            "To tell what pruning costs, a dense model of the same epochs is needed; it is not "
            "trained yet."
        )
        arguments = dense_arguments(manifest)
        busy = jobs.running() is not None
        if arguments and st.button(
            "Train the dense counterpart",
            icon=":material/balance:",
            key="train.dense",
            disabled=busy,
        ):
            jobs.start("train", [*arguments, "--events"])
            st.rerun()


def dense_arguments(manifest: RunManifest) -> list[str]:
    """Of `train`, for the dense counterpart; its settings are kept as a file of the store.

    Empty where this version does not know the run's settings.
    """
    from ltp_core.config import ConfigError, dense_config, from_dict, to_toml
    from ltp_core.files import atomic_write

    try:
        config = dense_config(from_dict(manifest.config))
    except ConfigError:
        return []
    if config is None:
        return []
    path = store.default_store() / "settings" / f"{config.name}.toml"
    atomic_write(path, to_toml(config).encode())
    return ["train", str(path)]
