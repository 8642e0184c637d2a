"""Builders of small stores with per-example records of several methods; no model, no torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltp_core import store
from ltp_core.analysis.example_records import ExampleRecords, ModelSize, read_examples
from ltp_core.flops import relative_flops
from ltp_core.tasks.catalogue import find_task
from ltp_core.token_categories import GROUPINGS
from tests import runs

SIZE = {"hidden_size": 16, "intermediate_size": 24}
NUM_LAYERS = 4

LTP = "qqp-ltp-00000000aa"
LTP_DEAR = "qqp-ltp-00000000ab"
LAT = "qqp-lat-00000000aa"
SPATTEN = "qqp-spatten-00000000aa"
DENSE = "qqp-unpruned-00000000aa"
REVIEWS = "rotten_tomatoes-ltp-00000000aa"


def lengths(count: int = 120, seed: int = 0) -> np.ndarray:
    """Input lengths from 5 to 44."""
    return np.random.default_rng(seed).integers(5, 45, count)


def layer_lengths(method: str, length: np.ndarray, scale: float = 1.0) -> np.ndarray:
    """Tokens that stay after each layer: a share of the length, or the same for all (LAT)."""
    if method == "unpruned":
        return np.repeat(length[:, None], NUM_LAYERS, axis=1)
    shares = scale * np.array([1.0, 0.7, 0.5, 0.2])
    if method == "lat":
        kept = np.minimum.outer(length, np.maximum(1, scale * np.array([20, 12, 8, 5])))
        return np.asarray(kept.astype(int))
    kept = np.clip(np.round(length[:, None] * shares), 1, length[:, None])
    if method == "ltp":
        kept[:, 1:] -= (np.arange(len(length)) % 3)[:, None]
    return np.minimum.accumulate(np.maximum(1, kept).astype(int), axis=1)


def records(
    length: np.ndarray,
    ffn_length: np.ndarray,
    *,
    label: np.ndarray | None = None,
    prediction: np.ndarray | None = None,
    **changes: Any,
) -> ExampleRecords:
    """Records in memory, rows numbered from 10."""
    length, ffn_length = np.asarray(length), np.asarray(ffn_length)
    fields: dict[str, Any] = {
        "name": LTP,
        "task": "sst2",
        "method": "ltp",
        "split": "validation",
        "row": np.arange(10, 10 + len(length)),
        "length": length,
        "label": np.zeros(len(length), dtype=int) if label is None else label,
        "prediction": np.zeros(len(length), dtype=int) if prediction is None else prediction,
        "attention_length": np.concatenate([length[:, None], ffn_length[:, :-1]], axis=1),
        "ffn_length": ffn_length,
        "size": ModelSize(hidden=16, intermediate=24),
    }
    return ExampleRecords(**{**fields, **changes})


def save_run(
    store_folder: Path,
    name: str,
    *,
    scale: float = 1.0,
    count: int = 120,
    seed: int = 0,
    max_train_length: int | None = 24,
    kinds: bool = True,
    **changes: Any,
) -> Path:
    """A complete run without weights; LAT errs on long inputs, the others now and then.

    Args:
        store_folder: Store that receives it.
        name: `<task>-<method>-<fingerprint>`.
        scale: How much is kept.
        count: Evaluated examples of the validation split.
        seed: Recorded seed, and that of its errors.
        max_train_length: Longest training row, as the configuration has it.
        kinds: Whether token kinds are stored.
        **changes: Fields of the manifest.
    """
    task, method, _ = name.split("-")
    folder = store.run_folder(store_folder, name)
    length = lengths(count)
    examples, layers = _tables(method, length, scale, seed)
    store.write_table(folder, "examples", examples)
    store.write_table(folder, "layers", layers)
    if kinds:
        store.write_table(folder, "token_kinds", kind_frame())
    data = {"max_length": 64, "train_rows": None, "max_train_length": max_train_length}
    config = {"task": task, "seed": seed, "method": {"name": method, "scale": scale}, "data": data}
    fields = {
        "config": config,
        "seed": seed,
        "base": {"name": "tiny", "sha256": None, **SIZE},
        "dense": None if method == "unpruned" else DENSE,
        "dataset": {"validation": {"source": "made up", "rows": count, "sha256": "ab"}},
        "summary": {"validation": _summary(task, examples, layers)},
    }
    store.finish_run(folder, runs.manifest(name, **{**fields, **changes}))
    return folder


def _tables(
    method: str, length: np.ndarray, scale: float, seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    random = np.random.default_rng(seed + len(method))
    label = np.arange(len(length)) % 2
    is_wrong = random.random(len(length)) < np.where((method == "lat") & (length > 24), 0.5, 0.1)
    row = 3 * np.arange(len(length))
    examples = pd.DataFrame(
        {
            "split": "validation",
            "row": row,
            "length": length,
            "label": label,
            "prediction": np.where(is_wrong, 1 - label, label),
        }
    )
    kept = layer_lengths(method, length, scale)
    entering = np.concatenate([length[:, None], kept[:, :-1]], axis=1)
    layers = pd.DataFrame(
        {
            "split": "validation",
            "row": np.repeat(row, NUM_LAYERS),
            "layer": np.tile(np.arange(NUM_LAYERS), len(length)),
            "attention_length": entering.ravel(),
            "ffn_length": kept.ravel(),
        }
    )
    return examples, layers


def _summary(task: str, examples: pd.DataFrame, layers: pd.DataFrame) -> dict[str, Any]:
    length = examples["length"].to_numpy()
    attention, ffn = (
        layers[c].to_numpy().reshape(len(length), NUM_LAYERS)
        for c in ("attention_length", "ffn_length")
    )
    return {
        "rows": len(length),
        "metrics": find_task(task).metrics(examples),
        "relative_flops": relative_flops(length, attention, ffn, hidden=16, intermediate=24),
        "mean_retained": (ffn.sum(axis=0) / length.sum()).tolist(),
    }


def kind_frame() -> pd.DataFrame:
    """Counts of all kinds: punctuation leaves at once, words last."""
    rows = []
    for grouping, kinds in GROUPINGS.items():
        for number, kind in enumerate(kinds):
            live = 100 + 10 * number
            for layer in range(NUM_LAYERS):
                kept = live * (number + 4) // 10
                rows.append(("validation", grouping, kind, layer, live, kept))
                live = kept
    names = ["split", "grouping", "kind", "layer", "entering", "retained"]
    return pd.DataFrame(rows, columns=names)


def save_store(store_folder: Path) -> Path:
    """QQP trained on short rows by four methods, LTP at two operating points; reviews by one."""
    save_run(store_folder, LTP)
    save_run(store_folder, LTP_DEAR, scale=1.4)
    save_run(store_folder, LAT)
    save_run(store_folder, SPATTEN)
    save_run(store_folder, DENSE)
    save_run(store_folder, REVIEWS, max_train_length=None, kinds=False)
    return store_folder


def read(store_folder: Path, name: str = LTP) -> ExampleRecords:
    """The records of a stored run."""
    return read_examples(store.run_folder(store_folder, name), "validation")
