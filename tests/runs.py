"""Builders of complete runs for tests of the store."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltp_core import store
from ltp_core.records import RunManifest


def manifest(name: str = "sst2-ltp-0123456789", **changes: Any) -> RunManifest:
    """A manifest with everything filled in."""
    task, method, fingerprint = name.split("-")
    fields: dict[str, Any] = {
        "name": name,
        "task": task,
        "method": method,
        "fingerprint": fingerprint,
        "status": "complete",
        "config": {"task": task, "nested": {"rate": 0.1}},
        "seed": 7,
        "git": {"commit": None, "dirty": None},
        "packages": {"numpy": "2"},
        "hardware": {"threads": 2},
        "dataset": {"train": {"rows": 10, "sha256": "ab"}},
        "base": {"name": "sentence-transformers/all-MiniLM-L6-v2", "sha256": "cd"},
        "parent": None,
        "dense": "sst2-unpruned-0123456789",
        "summary": {"accuracy": 0.9, "relative_flops": {"paper": 0.5}},
        "created_at": "2026-01-01T00:00:00Z",
        "duration_s": 12.0,
    }
    return RunManifest(**{**fields, **changes})


def frames() -> dict[str, pd.DataFrame]:
    """A table of each kind, with every column that the format knows."""
    row = np.array([3, 3, 8])
    layer = np.array([0, 1, 0])
    split = ["validation"] * 3
    return {
        "history": pd.DataFrame(
            {
                "stage": ["finetune", "soft", "hard"],
                "step": [1, 2, 3],
                "epoch": [0.5, 1.0, 1.5],
                "loss": [0.7, 0.6, 0.5],
                "task_loss": [0.7, 0.5, 0.4],
                "distillation_loss": [0.0, 0.1, 0.1],
                "regularizer": [np.nan, 0.1, 0.0],
                "relative_flops": [1.0, 0.7, 0.5],
                "mean_retained": [1.0, 0.8, 0.6],
                "temperature": [np.nan, 0.128, np.nan],
                "learning_rate": [1e-4, 1e-4, 5e-5],
                "threshold_1": [0.1, 0.2, 0.3],
                "threshold_2": [0.2, 0.3, 0.4],
            }
        ),
        "examples": pd.DataFrame(
            {
                "split": split,
                "row": [3, 5, 8],
                "length": [12, 5, 512],
                "label": [0, 1, 1],
                "prediction": [0, 1, 0],
                "logit_0": [1.5, -1.0, 0.25],
                "logit_1": [-1.5, 1.0, -0.25],
                "holds_0": [0, 1, 1],
                "holds_1": [1, 0, 1],
                "exact_match": [0.0, 1.0, 0.0],
                "null_difference": [-1.5, 2.0, 0.25],
                "answer_exact_match": [0.0, 1.0, 1.0],
                "answer_f1": [0.5, 1.0, 1.0],
                "answer_begin": [0, 7, 100],
                "answer_end": [3, 70000, 110],
            }
        ),
        "layers": pd.DataFrame(
            {
                "split": split,
                "row": row,
                "layer": layer,
                "attention_length": [12, 9, 512],
                "ffn_length": [9, 1, 300],
                "window": [0, 0, 1],
            }
        ),
        "traces": pd.DataFrame(
            {
                "split": split,
                "row": row,
                "position": [0, 1, 0],
                "layer": layer,
                "score": [1.0, np.nan, 2.5],
                "retained": [True, False, True],
            }
        ),
        "candidates": pd.DataFrame(
            {
                "candidate": [0, 1, 2],
                "relative_flops": [0.8, 0.6, 0.5],
                "is_chosen": [False, True, False],
                "factor": [0.0, 1.0, 1.5],
                "metric": [0.9, 0.875, 0.75],
                "loss": [0.5, 0.625, 0.75],
                "divergence": [0.125, 0.25, np.nan],
                "agreement": [1.0, 0.75, 0.5],
                "protects_separators": [False, True, False],
                "length_1": [12, 9, 6],
                "length_2": [6, 5, 4],
                "threshold_1": [0.25, 0.5, np.nan],
                "threshold_2": [0.5, 0.75, np.nan],
            }
        ),
        "token_kinds": pd.DataFrame(
            {
                "split": split,
                "grouping": ["kind", "kind", "frequency"],
                "kind": ["special", "word", "frequency_1"],
                "layer": layer,
                "entering": [6, 70_000, 21],
                "retained": [6, 31, 0],
            }
        ),
        "curve": pd.DataFrame(
            {
                "split": split,
                "factor": [0.5, 1.0, 2.0],
                "rows": [3, 3, 3],
                "metric": [0.9, 0.875, 0.75],
                "relative_flops_paper": [0.8, 0.5, 0.25],
                "relative_flops_executed": [0.75, 0.45, 0.2],
            }
        ),
    }


def finished_run(folder: Path, **changes: Any) -> Path:
    """A complete run with all its tables and a weights file."""
    for kind, frame in frames().items():
        store.write_table(folder, kind, frame)
    store.atomic_write(folder / "tokenizer" / "tokenizer.json", b"{}")
    store.finish_run(folder, manifest(folder.name, **changes))
    return folder
