"""Stores of measured records without weights: methods at operating points, made up but consistent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltp_core import store
from ltp_core.config import TrainConfig, dense_config, load_config, parent_config, to_dict
from ltp_core.tasks.catalogue import find_task
from tests import runs

ROWS = {"heldout": 400, "validation": 300}

QUALITY = {"ltp": 0.02, "spatten": 0.06, "lat": 0.05, "manual": 0.04, "shallow": 0.08}
"""How much metric each made-up method loses when it would prune everything."""


@cache
def _preset() -> TrainConfig:
    return load_config("sst2_ltp")


def config(
    method: str, budget: float, *, task: str = "sst2", seed: int = 0, train_rows: int | None = 20000
) -> TrainConfig:
    """A configuration of one operating point; `budget` sets it apart, whatever the method."""
    made = _preset()
    assert made.soft is not None
    made = replace(made, soft=replace(made.soft, target_relative_flops=budget))
    settings = made.method if method == "ltp" else replace(made.method, name=method, settings={})
    data = replace(made.data, train_rows=train_rows)
    return replace(made, task=task, seed=seed, method=settings, data=data)


def examples(
    task: str, share_right: dict[str, float], seed: int, rows: dict[str, int] | None = None
) -> pd.DataFrame:
    """Predictions of which about these shares are right; the labels are the same for all runs."""
    frames = []
    for split, count in (rows or ROWS).items():
        fixed = np.random.default_rng(len(task) + len(split))
        label = fixed.integers(2, size=count)
        difficulty = fixed.random(count) + np.random.default_rng(seed).normal(0, 0.03, count)
        is_right = difficulty < share_right[split]
        frames.append(
            pd.DataFrame(
                {
                    "split": split,
                    "row": np.arange(count),
                    "length": fixed.integers(5, 60, size=count),
                    "label": label,
                    "prediction": np.where(is_right, label, 1 - label),
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def history(config: TrainConfig) -> pd.DataFrame:
    """A few logged steps of every stage that the run itself trains."""
    stages = ["finetune"] if parent_config(config) is None else ["soft", "hard"]
    steps = np.arange(0, 200, 10)
    frames = []
    for stage in stages:
        progress = steps / 200
        is_soft = stage == "soft"
        frames.append(
            pd.DataFrame(
                {
                    "stage": stage,
                    "step": steps,
                    "epoch": progress,
                    "loss": 0.7 - 0.4 * progress,
                    "task_loss": 0.6 - 0.3 * progress,
                    "relative_flops": 1 - 0.5 * progress if is_soft else 0.5,
                    "mean_retained": 1 - 0.6 * progress if is_soft else 0.4,
                    "temperature": 0.128 * 0.1**progress if is_soft else np.nan,
                    "learning_rate": 3e-4 * (1 - progress),
                    "threshold_1": 0.1 + 0.1 * progress,
                    "threshold_2": 0.2 + 0.3 * progress,
                }
            )
        )
    return pd.concat(frames, ignore_index=True)


def save_run(
    folder: Path, config: TrainConfig, /, *, right: float, flops: float, **changes: Any
) -> Path:
    """A complete run of records: about this share of right predictions, at these relative FLOPs."""
    home = store.run_folder(folder, config.name)
    frame = examples(config.task, dict.fromkeys(ROWS, right), config.seed + round(flops * 1000))
    store.write_table(home, "examples", frame)
    store.write_table(home, "history", history(config))
    parent, dense = parent_config(config), dense_config(config)
    facts: dict[str, Any] = {
        "config": to_dict(config),
        "seed": config.seed,
        "parent": parent.name if parent else None,
        "dense": dense.name if dense else None,
        "base": {"name": config.base, "sha256": None},
        "git": {"commit": "778441a21514ff6b64df55a5933594e5bd40b822", "dirty": False},
        "hardware": {"processor": "Some CPU", "threads": 1, "device": "cpu"},
        "dataset": {"train": {"rows": config.data.train_rows or 65349, "sha256": "ab"}},
        "summary": {split: _summary(config.task, frame, split, flops) for split in ROWS},
        "created_at": "2026-01-01T10:00:00+00:00",
        "duration_s": 1191.6,
    }
    store.finish_run(home, runs.manifest(config.name, **{**facts, **changes}))
    return home


def _summary(task: str, frame: pd.DataFrame, split: str, flops: float) -> dict[str, Any]:
    part = frame[frame["split"] == split]
    metrics = find_task(task).metrics(part)
    return {
        "rows": len(part),
        "metrics": metrics,
        "relative_flops": {"paper": flops, "executed": flops - 0.01},
        "mean_retained": [1.0, 0.8, 0.5, 0.3, 0.2, 0.1],
    }


def save_curve(home: Path, factors: Sequence[float] = (0.5, 0.75, 1, 1.5)) -> None:
    """Adds a cheap curve around the run's own point."""
    manifest = store.read_manifest(home)
    result = manifest.summary["validation"]
    metric, flops = next(iter(result["metrics"].values())), result["relative_flops"]["paper"]
    store.write_table(
        home,
        "curve",
        pd.DataFrame(
            {
                "split": "validation",
                "factor": [float(factor) for factor in factors],
                "rows": result["rows"],
                "metric": [metric - 0.05 * abs(factor - 1) for factor in factors],
                "relative_flops_paper": [flops ** float(factor) for factor in factors],
                "relative_flops_executed": [flops ** float(factor) - 0.01 for factor in factors],
            }
        ),
    )
    store.finish_run(home, manifest)


def save_store(
    folder: Path,
    tasks: Sequence[str] = ("sst2", "mrpc"),
    budgets: Sequence[float] = (0.3, 0.45, 0.6, 0.8),
) -> Path:
    """Every made-up method at every budget; three seeds of LTP and SpAtten on the first task."""
    for task in tasks:
        for method, loss in QUALITY.items():
            many = task == tasks[0] and method in ("ltp", "spatten")
            for seed in range(3 if many else 1):
                _save_method(folder, task, method, loss, budgets, seed)
    return folder


def _save_method(
    folder: Path, task: str, method: str, loss: float, budgets: Sequence[float], seed: int
) -> None:
    for budget in budgets:
        made = config(method, budget, task=task, seed=seed)
        dense = dense_config(made)
        assert dense is not None
        if not store.run_folder(folder, dense.name).exists():
            save_run(folder, dense, right=0.88, flops=1.0)
        right = 0.88 - loss * (1 - budget) ** 2 * 2
        home = save_run(folder, made, right=right, flops=budget + 0.005 * seed)
        if method == "ltp" and seed == 0 and budget == budgets[:2][-1]:
            save_curve(home)


def save_broken(folder: Path) -> None:
    """A run folder that does not validate, and one that is not complete."""
    home = save_run(folder, config("ltp", 0.5, task="rte", train_rows=None), right=0.8, flops=0.5)
    (home / "history.parquet").unlink()
    store.write_json(store.run_folder(folder, "rte-ltp-00000000ff") / "config.json", {})
