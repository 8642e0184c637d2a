"""History of a training: one row every few steps, written as it goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from ltp_core import store
from ltp_core.pruning.base import PruningMethod
from ltp_core.training.objective import StepLoss

SMOOTHING = 0.95
"""Share of the past in the shown averages."""


class Journal:
    """Collects history rows, shows a running average, and writes `history.parquet`."""

    def __init__(self, folder: Path, *, every: int = 10, is_shown: bool = False) -> None:
        self.folder = folder
        self.every = every
        self.is_shown = is_shown
        self.rows: list[dict[str, Any]] = _read_rows(folder)
        self._means: dict[str, float] = {}

    def forget_after(self, stage: str, step: int) -> None:
        """Drops rows that a killed attempt wrote beyond its last snapshot."""
        stages = {row["stage"]: None for row in self.rows}
        before = list(stages)[: list(stages).index(stage)] if stage in stages else list(stages)
        self.rows = [
            row
            for row in self.rows
            if row["stage"] in before or (row["stage"] == stage and row["step"] < step)
        ]
        self._means = {}

    def log(
        self,
        stage: str,
        step: int,
        epoch: float,
        loss: StepLoss,
        temperature: float | None,
        learning_rate: float,
        method: PruningMethod,
    ) -> None:
        """Takes one step's figures; every few steps they become a row."""
        if step % self.every:
            return
        distillation, out = loss.prediction.distillation, loss.out
        row: dict[str, Any] = {
            "stage": stage,
            "step": step,
            "epoch": epoch,
            "loss": loss.prediction.total.item() + loss.penalty.item(),
            "task_loss": loss.prediction.task.item(),
            "distillation_loss": None if distillation is None else distillation.item(),
            "regularizer": loss.penalty.item(),
            "relative_flops": out.relative_flops.item(),
            "mean_retained": out.mean_retained.item(),
            "temperature": temperature,
            "learning_rate": learning_rate,
        }
        for layer in range(method.num_layers):
            row[f"threshold_{layer + 1}"] = method.threshold(layer)
        self.rows.append(row)
        for key in ("loss", "mean_retained", "relative_flops"):
            past = self._means.get(key, row[key])
            self._means[key] = SMOOTHING * past + (1 - SMOOTHING) * row[key]

    @property
    def postfix(self) -> str:
        """Running averages for the progress bar."""
        if not self._means:
            return ""
        loss, kept, flops = (self._means[k] for k in ("loss", "mean_retained", "relative_flops"))
        return f"loss {loss:.3f}, kept {kept:.1%}, FLOPs {flops:.1%}"

    def flush(self) -> None:
        """Writes all rows so far, whole or not at all."""
        if self.rows:
            store.write_table(self.folder, "history", pd.DataFrame(self.rows))


def _read_rows(folder: Path) -> list[dict[str, Any]]:
    try:
        records = store.read_table(folder, "history").to_dict("records")
    except store.StoreError:
        return []
    return [{str(key): value for key, value in record.items()} for record in records]
