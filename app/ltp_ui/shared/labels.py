"""What tasks, bases and runs are called on every page: "LTP · SST-2 · 46 % of the FLOPs · seed 0"."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any

from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.wording import percent
from ltp_core import store
from ltp_core.checkpoint_places import holds_weights
from ltp_core.encoder.bases import DEFAULT_BASE, MPNET_BASE
from ltp_core.records import RunManifest

_TASKS = {
    "sst2": "SST-2",
    "rotten_tomatoes": "Rotten Tomatoes",
    "imdb": "IMDB",
    "mrpc": "MRPC",
    "rte": "RTE",
    "stsb": "STS-B",
    "qnli": "QNLI",
    "qqp": "QQP",
    "mnli": "MNLI",
    "squad": "SQuAD 1.1",
    "squad_v2": "SQuAD 2.0",
}


def task_label(name: str) -> str:
    """A task by the name that its authors gave it; one that is not known as it is."""
    return _TASKS.get(name, name)


def base_label(name: str) -> str:
    """A base model that is not the default one, by the last part of its name; else empty."""
    last = name.rstrip("/").rpartition("/")[2]
    return {DEFAULT_BASE: "", MPNET_BASE: "MPNet, 12 layers"}.get(name, last)


def flops_label(fraction: float | None) -> str:
    """`46 % of the FLOPs`; empty where it is not known or no fraction."""
    is_known = fraction is not None and math.isfinite(fraction) and fraction >= 0
    return f"{percent(fraction, 0)} of the FLOPs" if is_known and fraction is not None else ""


def run_label(manifest: RunManifest, *, split: str = "validation") -> str:
    """Method, task, base if not the default, cost in the paper's accounting, and seed.

    An evaluation and a calibration say so.
    """
    result: Any = manifest.summary.get(split) or manifest.summary.get("calibration")
    flops: Any = result.get("relative_flops") if isinstance(result, dict) else None
    paper: Any = flops.get("paper") if isinstance(flops, dict) else None
    is_number = isinstance(paper, int | float) and not isinstance(paper, bool)
    cost = flops_label(paper) if is_number and manifest.method != "unpruned" else ""
    base = base_label(str(manifest.base.get("name") or DEFAULT_BASE))
    what = title_of(manifest.method), task_label(manifest.task), base
    parts = [*what, cost, f"seed {manifest.seed}"]
    if "evaluation" in manifest.config:
        parts[-1] = "evaluated later"
    elif "calibration" in manifest.dataset:
        parts[-1] = "calibrated on own texts"
    return " · ".join(part for part in parts if part)


def run_labels(
    manifests: Iterable[RunManifest],
    *,
    split: str = "validation",
    with_weights: Collection[str] = (),
) -> dict[str, str]:
    """Label of each run by its name, all different: twins end in the fingerprint's first digits.

    Args:
        manifests: Of the runs that must be told apart.
        split: Whose cost is named.
        with_weights: Names of runs that can be loaded: the only one among twins has the label alone.
    """
    labels = {each.name: run_label(each, split=split) for each in manifests}
    counts = Counter(labels.values())
    loadable = Counter(label for name, label in labels.items() if name in with_weights)

    def is_alone(name: str, label: str) -> bool:
        return counts[label] == 1 or (name in with_weights and loadable[label] == 1)

    return {
        name: label if is_alone(name, label) else f"{label} · {name.rpartition('-')[2][:6]}"
        for name, label in labels.items()
    }


def stored_labels() -> Mapping[str, str]:
    """Label of every run of the stores by its name; a folder that is none has its own name."""
    return _stored_labels(store.runs_stamp())


def label_of(name: str) -> str:
    """A run of the stores by what it is; anything else, as a folder that was typed, by its name."""
    return stored_labels().get(name, name)


@lru_cache(maxsize=2)
def _stored_labels(stamp: str) -> Mapping[str, str]:
    del stamp
    runs = [run for run in store.list_runs() if run.manifest]
    weights = {run.name for run in runs if holds_weights(run.folder)}
    manifests = (run.manifest for run in runs if run.manifest)
    return MappingProxyType(run_labels(manifests, with_weights=weights))


def training_label(run: Any) -> str:
    """What a row of `runs_table` was trained on, and which weights: `20,000 training rows, rank 8`.

    A base that is not the default one comes first.
    """
    known = run.training_rows is not None and run.training_rows == run.training_rows
    text = f"{int(run.training_rows):,} training rows" if known else "training rows"
    if run.takes_all:
        text = f"all {text}"
    if run.max_train_length:
        text += f" of at most {run.max_train_length} tokens"
    if run.is_foreign:
        return "trained elsewhere"
    if run.adapter == "full":
        text += ", all weights trained"
    elif run.config is not None:
        text += f", rank {run.config.adapter.rank}"
    text = ", ".join(filter(None, (base_label(run.base), text)))
    return f"{text}, in INT8" if run.is_int8 else text
