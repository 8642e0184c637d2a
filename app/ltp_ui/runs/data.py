"""Runs of the stores as the Runs page lists them; read again when a folder changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import streamlit as st

from app.ltp_ui.shared.status import short_path
from app.ltp_ui.shared.stored import run_table
from app.ltp_ui.shared.wording import counted, percent
from ltp_core import store
from ltp_core.analysis.runs import REPORTED_ON
from ltp_core.checkpoint_places import holds_weights
from ltp_core.config import ConfigError, from_dict, to_dict, to_toml
from ltp_core.records import RunManifest
from ltp_core.store import RunEntry, StoreError
from ltp_core.toml_writer import toml_text

Origin = Literal["training", "evaluation", "calibration"]

FRESH_S = 10
"""A run that is being written changes without its manifest changing."""


@dataclass(frozen=True, kw_only=True)
class Listing:
    """What the stores hold.

    Attributes:
        runs: Complete runs that can be read, newest first.
        unusable: The other folders; those that are being trained come first.
    """

    runs: list[RunEntry]
    unusable: list[RunEntry]


@st.cache_data(ttl=FRESH_S, show_spinner=False, max_entries=4)
def listing(stores: tuple[str, ...]) -> Listing:
    """Everything in these stores."""
    entries = store.list_runs([Path(place) for place in stores], include_incomplete=True)
    runs = [entry for entry in entries if entry.problem is None and entry.manifest]
    others = [entry for entry in entries if entry not in runs]
    return Listing(
        runs=sorted(runs, key=_created, reverse=True),
        unusable=sorted(others, key=lambda entry: (not is_running(entry), entry.name)),
    )


def _created(entry: RunEntry) -> str:
    return entry.manifest.created_at if entry.manifest else ""


def current() -> Listing:
    """Everything in the stores that the program uses."""
    return listing(tuple(map(str, store.stores())))


def is_running(entry: RunEntry) -> bool:
    """Some process trains this run now."""
    return store.is_being_trained(entry.folder)


def reason(entry: RunEntry) -> str:
    """Why a folder is not among the runs."""
    return "It is being trained now." if is_running(entry) else entry.problem or ""


def runs_frame(entries: Sequence[RunEntry]) -> pd.DataFrame:
    """One row a run, fractions and plain units: what is exported."""
    rows = [_row(entry, entry.manifest) for entry in entries if entry.manifest]
    return pd.DataFrame(rows, columns=list(_COLUMNS))


_COLUMNS = (
    "run", "task", "method", "seed", "metric_name", "metric", "relative_flops_paper",
    "relative_flops_executed", "rows", "training_rows", "weights", "device", "commit", "dirty",
    "created_at", "duration_s", "bytes", "parent", "dense", "store",
)  # fmt: skip


def _row(entry: RunEntry, manifest: RunManifest) -> dict[str, Any]:
    result = table(manifest.summary, REPORTED_ON)
    metrics, flops = table(result, "metrics"), table(result, "relative_flops")
    name, value = next(iter(metrics.items()), (None, None))
    return {
        "run": entry.name,
        "task": manifest.task,
        "method": manifest.method,
        "seed": manifest.seed,
        "metric_name": name,
        "metric": _number(value),
        "relative_flops_paper": _number(flops.get("paper")),
        "relative_flops_executed": _number(flops.get("executed")),
        "rows": _number(result.get("rows")),
        "training_rows": _number(table(manifest.dataset, "train").get("rows")),
        "weights": holds_weights(entry.folder),
        "device": device(manifest),
        "commit": str(manifest.git.get("commit") or "")[:7],
        "dirty": bool(manifest.git.get("dirty")),
        "created_at": manifest.created_at,
        "duration_s": manifest.duration_s,
        "bytes": sum(file.bytes for file in manifest.files),
        "parent": manifest.parent,
        "dense": manifest.dense,
        "store": short_path(entry.folder.parent.parent),
    }


def table(raw: Any, key: str) -> dict[str, Any]:
    """A table of a document that anybody may have written; empty where there is none."""
    found = raw.get(key) if isinstance(raw, dict) else None
    return found if isinstance(found, dict) else {}


def _number(value: Any) -> float | None:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def device(manifest: RunManifest) -> str:
    """The accelerator's name, else what kind of device it was."""
    hardware = manifest.hardware
    name = str(hardware.get("accelerator") or hardware.get("device") or "unknown")
    return "CPU" if name == "cpu" else name


def origin(manifest: RunManifest) -> Origin:
    """What made the run: `train` or `sweep`, `evaluate --records`, or `calibrate`."""
    if "evaluation" in manifest.config:
        return "evaluation"
    return "calibration" if "calibration" in manifest.dataset else "training"


def calibrated_to(manifest: RunManifest) -> str:
    """The budget of a calibrated run, and what came of it on its texts; empty for other runs."""
    found = table(manifest.summary, "calibration")
    target, reached = _number(found.get("target_relative_flops")), table(found, "relative_flops")
    if target is None:
        return ""
    parts = [f"{percent(target)} of the FLOPs"]
    if (paper := _number(reached.get("paper"))) is not None:
        parts.append(f"reached {percent(paper)}")
    if (agreement := _number(found.get("agreement"))) is not None:
        parts.append(f"{percent(agreement)} of the answers as without pruning")
    if (rows := found.get("rows")) is not None and isinstance(rows, int):
        parts.append(f"on {counted(rows, 'text')}")
    return ", ".join(parts)


def training_file(manifest: RunManifest) -> str | None:
    """A TOML file that trains the run again; None where none would."""
    if origin(manifest) != "training":
        return None
    try:
        return to_toml(from_dict(manifest.config))
    except (ConfigError, TypeError, ValueError):  # of another version
        return None


def whole_settings(manifest: RunManifest) -> dict[str, Any]:
    """The run's settings with those that were added since, at their defaults, where that can be said."""
    try:
        return to_dict(from_dict(manifest.config))
    except (ConfigError, TypeError, ValueError):  # of another version, or not of a training
        return manifest.config


def settings_text(manifest: RunManifest) -> str:
    """The run's settings as they stand in its manifest."""
    return toml_text(manifest.config)


def siblings(name: str) -> list[tuple[int, str]]:
    """Seeds and names of the evaluated runs that differ from this one in the seed alone."""
    table = run_table()
    if name not in table.index or origin(table["manifest"][name]) != "training":
        return []
    own = table["setting"] == table["setting"][name]
    others = table[own & (table["run"] != name)].sort_values(["seed", "run"])
    return list(zip(others["seed"], others["run"], strict=True))


def history(entry: RunEntry) -> pd.DataFrame | None:
    """What training measured; None where it was not kept or cannot be read."""
    try:
        return store.read_table(entry.folder, "history")
    except StoreError:
        return None
