"""Where a training stands and what it measured so far, so that a killed one goes on to the same result.

The snapshot is one safetensors file, written whole or not at all: trained tensors, AdamW's state,
the random generator, the position, and in float16 the scale of the loss. Several processes share
the main one's generator. The history has one row every few steps.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from torch.amp import GradScaler
from torch.optim import AdamW

from ltp_core import store
from ltp_core.files import atomic_write
from ltp_core.pruning.base import PruningMethod
from ltp_core.records import UserError
from ltp_core.training.objective import StepLoss
from ltp_core.training.watch import Watch

SNAPSHOT_FILE = ".resume.safetensors"


@dataclass(frozen=True, kw_only=True)
class Position:
    """Where the snapshot was taken.

    Attributes:
        stage: Name of the stage.
        step: Steps of it that are done.
        duration_s: Wall-clock seconds spent so far, over all attempts.
    """

    stage: str
    step: int
    duration_s: float


def save_snapshot(
    folder: Path,
    student: nn.Module,
    optimizer: AdamW,
    position: Position,
    scaler: GradScaler | None = None,
) -> None:
    """Writes the snapshot of a running stage."""
    tensors = {"rng": torch.get_rng_state()}
    for name, parameter in trained_parameters(student).items():
        tensors[f"parameter/{name}"] = parameter.detach()
    for index, state in optimizer.state_dict()["state"].items():
        for key, value in state.items():
            tensors[f"optimizer/{index}/{key}"] = value
    if torch.cuda.is_available():
        tensors["cuda_rng"] = torch.cuda.get_rng_state()
    contiguous = {key: value.detach().cpu().clone() for key, value in tensors.items()}
    metadata = {"position": json.dumps(asdict(position))}
    if scaler is not None:
        metadata["scaler"] = json.dumps(scaler.state_dict())
    atomic_write(folder / SNAPSHOT_FILE, save(contiguous, metadata=metadata))


def read_position(folder: Path) -> Position | None:
    """Where the run in this folder stands; None if it has no usable snapshot."""
    try:
        with safe_open(folder / SNAPSHOT_FILE, framework="pt") as file:
            position = Position(**json.loads(file.metadata()["position"]))
        is_whole = type(position.step) is int and isinstance(position.stage, str)
        is_possible = position.step >= 0 and 0 <= position.duration_s < math.inf
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    return position if is_whole and is_possible else None


def restore_snapshot(
    folder: Path, student: nn.Module, optimizer: AdamW, scaler: GradScaler | None = None
) -> None:
    """Puts a stage back to its snapshot; the position is in `read_position`.

    Raises:
        UserError: The snapshot is not of these tensors, or holds numbers that are none; nothing is
            changed.
    """
    with safe_open(folder / SNAPSHOT_FILE, framework="pt") as file:
        metadata = file.metadata()
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    own = trained_parameters(student)
    shapes = {f"parameter/{name}": tensor.shape for name, tensor in own.items()}
    shapes["rng"] = torch.get_rng_state().shape
    stepped = [p for group in optimizer.param_groups for p in group["params"]]
    for index, parameter in enumerate(stepped):
        moments = {"step": torch.Size(), "exp_avg": parameter.shape, "exp_avg_sq": parameter.shape}
        state = {f"optimizer/{index}/{field}": shape for field, shape in moments.items()}
        if state.keys() & tensors.keys():  # a parameter that had no gradient yet has none
            shapes |= state
    found = {key: tensor.shape for key, tensor in tensors.items() if key != "cuda_rng"}
    if found != shapes or not all(bool(tensor.isfinite().all()) for tensor in tensors.values()):
        raise UserError(
            f"The snapshot {folder / SNAPSHOT_FILE} is not one of this run, or is damaged: delete it, and "
            "the same command begins again."
        )
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(tensors[f"parameter/{name}"])
    optimizer.load_state_dict(
        {"state": _optimizer_state(tensors), "param_groups": optimizer.state_dict()["param_groups"]}
    )
    torch.set_rng_state(tensors["rng"])
    if "cuda_rng" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda_rng"])
    if scaler is not None and "scaler" in metadata:
        scaler.load_state_dict(json.loads(metadata["scaler"]))


def _optimizer_state(tensors: dict[str, Tensor]) -> dict[int, dict[str, Tensor]]:
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, field = key.split("/")
            state.setdefault(int(index), {})[field] = value
    return state


def trained_parameters(student: nn.Module) -> dict[str, Tensor]:
    """Parameters that receive gradients, and the method's numbers, which a stage may only scale."""
    parameters = dict(student.named_parameters())
    own = {**parameters, **dict(student.named_buffers())}
    learned = {name for name, parameter in parameters.items() if parameter.requires_grad}
    return {
        name: tensor
        for name, tensor in own.items()
        if name in learned or name.startswith("method.")
    }


SMOOTHING = 0.95
"""Share of the past in the shown averages."""


class Journal:
    """Collects history rows, shows a running average, and writes `history.parquet`."""

    def __init__(
        self,
        folder: Path,
        *,
        every: int = 10,
        is_shown: bool = False,
        watch: Watch | None = None,
    ) -> None:
        self.folder = folder
        self.every = every
        self.is_shown = is_shown
        self.watch = watch or Watch(folder.name)
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
        """Takes one step's figures; every few steps they become a row, every few seconds an event."""
        is_kept, is_told = step % self.every == 0, self.watch.is_due()
        if not (is_kept or is_told):
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
        if is_told:
            self.watch.tell("step", kept=None if out.kept is None else out.kept.tolist(), **row)
        if not is_kept:
            return
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
