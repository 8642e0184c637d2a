"""Everything about one run: what it measured, how it was trained, where it comes from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.ltp_ui.pays import panels as pays_panels
from app.ltp_ui.runs import charts
from app.ltp_ui.runs import data as runs_data
from app.ltp_ui.runs.compared import choose_smoothing, show_zoomable
from app.ltp_ui.shared import exports_panel, state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.labels import label_of, task_label
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.status import short_path
from app.ltp_ui.shared.wording import counted, duration, percent
from ltp_core.analysis.runs import REPORTED_ON
from ltp_core.checkpoint_places import holds_weights
from ltp_core.records import RunManifest, nearest
from ltp_core.store import RunEntry


def detail(entry: RunEntry, listing: runs_data.Listing) -> None:
    """All of one run."""
    manifest = entry.manifest
    assert manifest is not None
    st.header(plain(label_of(entry.name)), anchor=False)
    st.caption(plain(f"{entry.name}: {_sentence(manifest)}"))
    if sentence := runs_data.calibrated_to(manifest):
        st.markdown(plain(f"Calibrated to {sentence}."))
    _links(entry, manifest, listing.runs)
    _results(manifest)
    training, pays, settings, facts, files = st.tabs(
        ["Training", "Does it pay?", "Settings", "Provenance", "Files"]
    )
    with pays:
        pays_panels.summary(entry.name)
    with training:
        _training(entry)
    with settings:
        _settings(entry, manifest)
    with facts:
        rows = list(_facts(entry, manifest))
        st.table({"": [row[0] for row in rows], "value": [plain(row[1]) for row in rows]})
    with files:
        st.dataframe(
            pd.DataFrame(
                [{"file": f.name, "bytes": f.bytes, "SHA-256": f.sha256} for f in manifest.files]
            ),
            hide_index=True,
            alt="Files of the run with size and hash.",
        )


def absent(name: str, listing: runs_data.Listing) -> None:
    """Why there is no run of this name."""
    for entry in listing.unusable:
        if entry.name == name:
            st.warning(plain(runs_data.reason(entry)), title=plain(name))
            return
    known = [entry.name for entry in listing.runs]
    st.warning(plain(f"There is no run {name[:100]!r}{nearest(name, known)}"), title="No such run")


def _sentence(manifest: RunManifest) -> str:
    took = duration(manifest.duration_s)
    work = {
        "training": f"{_training_work(manifest)} in {took}",
        "evaluation": "evaluated",
        "calibration": f"calibrated in {took}",
    }[runs_data.origin(manifest)]
    return (
        f"{title_of(manifest.method)} for {task_label(manifest.task)}, seed {manifest.seed}, {work} "
        f"on {runs_data.device(manifest)}, {manifest.created_at[:10]}.{_convergence(manifest)}"
    )


def _convergence(manifest: RunManifest) -> str:
    """Says so where policies came to all or nothing."""
    result = runs_data.table(manifest.summary, REPORTED_ON)
    if result.get("converged") is not False:
        return ""
    return " It did not converge: its policies let in all tokens, or none."


def _training_work(manifest: RunManifest) -> str:
    """What `train` did: trained, or chose something for weights that were trained already."""
    if manifest.config.get("select"):
        return f"chosen for the weights of {manifest.parent}"
    rows = runs_data.table(manifest.dataset, "train").get("rows")
    return f"trained on {counted(rows, 'training row')}" if isinstance(rows, int) else "trained"


def _links(entry: RunEntry, manifest: RunManifest, runs: Sequence[RunEntry]) -> None:
    """To the picture, the curve, and the runs that belong to this one."""
    names = {run.name for run in runs}
    with st.container(horizontal=True):
        if holds_weights(entry.folder):
            st.page_link(
                state.EXPLORE,
                label="Open in Explore",
                icon=":material/filter_alt:",
                query_params={state.CHECKPOINT: entry.name},
            )
        if state.TRADEOFF.is_file() and manifest.method != "unpruned":
            st.page_link(
                state.TRADEOFF,
                label="Accuracy vs FLOPs",
                icon=":material/show_chart:",
                query_params={"tradeoff.task": task_label(manifest.task)},
            )
        for label, other in (
            ("Dense counterpart", manifest.dense),
            ("Starts from", manifest.parent),
        ):
            if other in names:
                _run_link(f"{label}: {label_of(str(other))}", str(other))
        for seed, sibling in runs_data.siblings(entry.name):
            _run_link(f"Seed {seed}", sibling)
    if not holds_weights(entry.folder):
        st.caption("Stored without its weights: what it measured is here, but it cannot be loaded.")


def _run_link(label: str, name: str) -> None:
    st.page_link(
        state.RUNS, label=plain(label), icon=":material/table_rows:", query_params={"run": name}
    )


def _results(manifest: RunManifest) -> None:
    """Metrics and cost on every split that was evaluated."""
    rows = [
        _result_row(split, result)
        for split, result in manifest.summary.items()
        if isinstance(result, dict) and isinstance(result.get("metrics"), dict)
    ]
    if rows:
        alt = "Metrics and FLOPs by split."
        st.table(pd.DataFrame(rows), hide_index=True, border="horizontal", alt=alt)


def _result_row(split: str, result: dict[str, Any]) -> dict[str, str]:
    flops = result.get("relative_flops")
    costs = flops if isinstance(flops, dict) else {}
    kept = result.get("mean_retained")
    return {
        "split": split,
        "rows": str(result.get("rows", "–")),
        **{name.replace("_", " "): _percent(value) for name, value in result["metrics"].items()},
        "FLOPs, paper": _percent(costs.get("paper")),
        "FLOPs, executed": _percent(costs.get("executed")),
        "kept after each layer": " ".join(_percent(k, 0) for k in kept)
        if isinstance(kept, list)
        else "–",
    }


def _percent(value: Any, decimals: int = 1) -> str:
    return percent(value, decimals) if isinstance(value, int | float) else "–"


def choose_quantity(known: list[str], *, key: str) -> str:
    """Which of the logged quantities is drawn; the first one until another is chosen."""
    chosen = st.segmented_control(
        "Quantity",
        known,
        default=known[0],
        required=True,
        key=key,
        label_visibility="collapsed",
    )
    return chosen if chosen in known else known[0]


def _training(entry: RunEntry) -> None:
    history = runs_data.history(entry)
    if history is None or history.empty:
        is_trained = runs_data.origin(entry.manifest) == "training" if entry.manifest else True
        st.caption(
            "The history of this training was not kept."
            if is_trained
            else "Nothing was trained for this run."
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        quantity = choose_quantity(charts.known_quantities(history), key="runs.quantity")
        window = choose_smoothing("runs.smoothing")
    chart = charts.history_chart(history, quantity, window)
    show_zoomable(chart, quantity, alt=f"{quantity} of {entry.name} over the optimizer steps.")
    files: exports_panel.Files = {
        "CSV": exports_panel.frame_files(history)["CSV"],
        **exports_panel.chart_files(chart, width=640),
    }
    with st.popover("Export", icon=":material/download:", key="runs.export.history"):
        exports_panel.row(f"History {quantity}", entry.name, files, key="runs.export")


def _settings(entry: RunEntry, manifest: RunManifest) -> None:
    text = runs_data.training_file(manifest)
    if text is not None:
        st.markdown("These settings, kept as a file, train the run again:")
    else:
        st.markdown(_why_not_again(manifest))
        text = runs_data.settings_text(manifest)
    st.code(text, language="toml", height=360)
    st.download_button(
        "Download TOML",
        text,
        file_name=f"{entry.name}.toml",
        mime="application/toml",
        on_click="ignore",
        key="runs.toml",
    )
    if holds_weights(entry.folder):
        st.markdown("Evaluate it again, or at other strengths without training:")
        st.code(
            f"python -m ltp_core evaluate {entry.name}\n"
            f"python -m ltp_core evaluate {entry.name} --scales 0.5,0.75,1,1.5 --save",
            language="bash",
        )


def _why_not_again(manifest: RunManifest) -> str:
    """What made a run that no file of settings trains again."""
    match runs_data.origin(manifest):
        case "evaluation":
            about = runs_data.table(manifest.config, "evaluation")
            checkpoint = plain(str(about.get("checkpoint")))
            split = plain(f"{manifest.task}/{about.get('split')}")
            return (
                f"This run holds the records of an evaluation of {checkpoint} on {split} "
                "(`evaluate --records`); nothing was trained. Settings of that checkpoint, and under "
                "evaluation what was evaluated:"
            )
        case "calibration":
            about = runs_data.table(manifest.dataset, "calibration")
            texts = plain(f"{about.get('rows')} texts of {about.get('source')}")
            return (
                f"The thresholds of this run were chosen on {texts} for "
                f"{plain(manifest.parent or 'a checkpoint')} (`calibrate`); nothing was trained. "
                "Settings of that checkpoint, and under select those of the choice:"
            )
        case _:
            return (
                "These settings were written by another version, whose settings this one does not "
                "know; as they stand they train nothing:"
            )


def _facts(entry: RunEntry, manifest: RunManifest) -> Iterator[tuple[str, str]]:
    """Provenance, line by line."""
    commit = manifest.git.get("commit") or "unknown"
    dirty = ", with changes that were not committed" if manifest.git.get("dirty") else ""
    yield "commit", f"{commit}{dirty}"
    yield "created", manifest.created_at
    yield "hardware", ", ".join(f"{k} {v}" for k, v in manifest.hardware.items())
    yield "base", ", ".join(str(v) for v in manifest.base.values() if v is not None)
    for split, data in manifest.dataset.items():
        shown = data.items() if isinstance(data, dict) else [("", data)]
        yield f"data, {split}", ", ".join(f"{k} {v}" for k, v in shown)
    yield "packages", ", ".join(f"{k} {v}" for k, v in manifest.packages.items())
    yield "starts from", manifest.parent or "the base model"
    yield "dense counterpart", manifest.dense or "it is unpruned itself"
    curve = manifest.summary.get("curve")
    for split, measured in curve.items() if isinstance(curve, dict) else ():
        if isinstance(measured, dict):
            yield f"curve, {split}", f"measured {measured.get('created_at', 'at an unknown time')}"
    yield "store", short_path(entry.folder)
