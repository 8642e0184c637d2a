"""The training loop: one stage, one function, the same for every stage and method."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeGuard

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Float, Int, Num
from torch import Tensor
from torch.optim import AdamW
from tqdm import tqdm

from ltp_core.config import HardConfig, PolicyConfig, SoftConfig, StageConfig
from ltp_core.pruning.base import PruningMethod, ThresholdMethod
from ltp_core.records import UserError
from ltp_core.runners.base import Inputs, make_inputs
from ltp_core.runners.repadded import WIDTHS
from ltp_core.tokenize import Encoded, bucketed_batches, collate
from ltp_core.training.losses import Pass, Student, budget_at
from ltp_core.training.objective import (
    Moment,
    StepLoss,
    TrainingBatch,
    along_equal_cost_,
    elastic_loss,
    sandwich_loss,
    single_pass_loss,
    straight_loss,
)
from ltp_core.training.reinforce import policy_rate, reinforce_loss
from ltp_core.training.resume import (
    SNAPSHOT_FILE,
    Journal,
    Position,
    read_position,
    restore_snapshot,
    save_snapshot,
)

SNAPSHOT_S = 20.0
"""A snapshot is also taken when the last one is this old, unless taking it costs more than a 20th."""

Objective = Callable[..., StepLoss]
"""Takes the model, the method, a batch, the stage and where in it the step is."""


@dataclass(frozen=True)
class TrainingSet:
    """Encoded training rows with their labels and, once there is a teacher, its logits."""

    encoded: Encoded
    labels: Num[np.ndarray, "examples ..."]
    teacher_logits: Float[Tensor, "examples ..."] | None
    pad_id: int
    separator_id: int | None
    protect_first: bool
    protect_separators: bool = False
    protect_question: bool = False

    def inputs(self, index: Int[np.ndarray, " batch"]) -> tuple[Inputs, Tensor]:
        """One padded batch and its labels."""
        batch = collate(self.encoded, index, self.labels, self.pad_id, multiple=WIDTHS)
        assert batch.labels is not None
        inputs = make_inputs(
            batch.input_ids,
            batch.token_type_ids,
            batch.attention_mask,
            protect_first=self.protect_first,
            protect_separators=self.protect_separators,
            separator_id=self.separator_id,
            protected=batch.question if self.protect_question else None,
        )
        return inputs, batch.labels

    def teacher(self, index: Int[np.ndarray, " batch"], width: int) -> Tensor | None:
        """The teacher's logits; of a span head for as many tokens as the batch is wide.

        Independent labels are choices of two, fewer than any input has tokens.
        """
        if self.teacher_logits is None or self.teacher_logits.dim() == 2:
            return None if self.teacher_logits is None else self.teacher_logits[index]
        return self.teacher_logits[index, :width].float()


def run_stage(
    name: str,
    stage: StageConfig,
    student: Student,
    data: TrainingSet,
    accelerator: Accelerator,
    journal: Journal,
    *,
    seed: int,
    folder: Path,
    snapshot_every: int,
    elapsed_s: float,
) -> float:
    """Trains one stage, resuming it if the folder has a snapshot of it.

    Args:
        name: "finetune", "policy", "soft" or "hard".
        stage: Its settings.
        student: Encoder and method; changed in place.
        data: What it learns from.
        accelerator: Device, precision and processes.
        journal: Receives the history.
        seed: Of order and dropout.
        folder: Where snapshots go.
        snapshot_every: Steps between snapshots at most.
        elapsed_s: Seconds that earlier stages took.

    Returns:
        Seconds that all stages took so far.

    Raises:
        UserError: A loss or a gradient is not finite. No weight has seen it, and the last snapshot
            stays.
    """
    optimizer = _optimizer(stage, student)
    torch.manual_seed(seed)
    total_steps = num_steps(stage, len(data.encoded), accelerator.num_processes)
    position = read_position(folder)
    start = 0
    if position is not None and position.stage == name:
        if position.step > total_steps:
            raise UserError(
                f"The snapshot in {folder} is of step {position.step} of {total_steps}: delete "
                f"{SNAPSHOT_FILE} there, and the same command begins again."
            )
        restore_snapshot(folder, student, optimizer, accelerator.scaler)
        start, elapsed_s = position.step, position.duration_s
    journal.forget_after(name, start)
    objective = _objective(stage, student.method)
    method = student.method
    delta = None
    if isinstance(method, ThresholdMethod) and _learns_masks(stage, method):
        delta = method.delta
    model, stepper = accelerator.prepare(student, optimizer)
    model.train()
    weights = _weights(student)
    base_rates = [group["lr"] for group in optimizer.param_groups]
    began = time.perf_counter() - elapsed_s
    batches = _batches(data, stage, seed, start, total_steps, accelerator)
    journal.watch.tell("stage", stage=name, step=start, steps=total_steps, elapsed_s=elapsed_s)
    taken, wait_s = time.perf_counter(), SNAPSHOT_S
    bar = tqdm(
        batches, name, total_steps, initial=start, disable=not journal.is_shown, mininterval=1
    )
    for step, index in enumerate(bar, start):
        progress = step / total_steps
        temperature = soft_temperature(stage, student, progress)
        for group, rate in zip(optimizer.param_groups, base_rates, strict=True):
            group["lr"] = rate * _schedule(step, total_steps, stage.warmup_fraction)

        inputs, labels = data.inputs(index)
        teacher = data.teacher(index, inputs.input_ids.shape[1])
        batch = TrainingBatch(inputs, labels, teacher).to(accelerator.device)
        moment = Moment(seed=seed, step=step, progress=progress, temperature=temperature)
        loss = objective(model, student.method, batch, stage, moment)
        cost_gradient = None
        if delta is not None:
            (cost_gradient,) = torch.autograd.grad(
                loss.out.relative_flops, delta, retain_graph=True
            )
        accelerator.backward(loss.total)
        if delta is not None:
            along_equal_cost_(delta, accelerator.reduce(cost_gradient, "mean"))
        norm = accelerator.clip_grad_norm_(weights, 1.0)
        # A scaler leaves out steps of infinite gradients by itself, and lowers its scale.
        _require_finite(loss.total, norm if accelerator.scaler is None else None, name, step)
        stepper.step()
        stepper.zero_grad()
        _settle_thresholds(stage, student.method, loss.out, accelerator, progress=progress)

        epoch, rate = stage.epochs * progress, optimizer.param_groups[0]["lr"]
        journal.log(name, step, epoch, loss, temperature, rate, student.method)
        bar.set_postfix_str(journal.postfix, refresh=False)
        now = time.perf_counter()
        is_due = (step + 1) % snapshot_every == 0 or now - taken > wait_s
        if is_due and step + 1 < total_steps:
            here = Position(stage=name, step=step + 1, duration_s=now - began)
            _snapshot(accelerator, folder, student, optimizer, here, journal)
            taken = time.perf_counter()
            wait_s = max(SNAPSHOT_S, 20 * (taken - now))
    done = Position(stage=name, step=total_steps, duration_s=time.perf_counter() - began)
    _snapshot(accelerator, folder, student, optimizer, done, journal)
    return done.duration_s


def _learns_masks(stage: StageConfig, method: PruningMethod) -> TypeGuard[HardConfig]:
    """Whether thresholds and score learn in a stage that prunes."""
    is_asked = isinstance(stage, HardConfig) and stage.mask_gradient is not None
    return is_asked and isinstance(method, ThresholdMethod) and method.delta is not None


def _objective(stage: StageConfig, method: PruningMethod) -> Objective:
    if method.objective == "sandwich":
        return sandwich_loss
    if method.objective == "reinforce":
        return reinforce_loss
    if _learns_masks(stage, method):
        return elastic_loss if stage.elastic else straight_loss
    return single_pass_loss


def _require_finite(
    loss: Float[Tensor, ""], gradient_norm: Float[Tensor, ""] | None, stage: str, step: int
) -> None:
    """Refuses a step that would make every weight nan."""
    for what, value in (("loss", loss), ("norm of the gradient", gradient_norm)):
        if value is not None and not math.isfinite(number := value.item()):
            raise UserError(
                f"The {what} is {number} in step {step} of the {stage} stage: lower "
                f"{stage}.learning_rate. The last snapshot is kept."
            )


def num_steps(stage: StageConfig, num_rows: int, num_processes: int) -> int:
    """Optimizer steps of a stage, at least one."""
    per_epoch = num_rows / (stage.batch_size * num_processes)
    return max(1, round(stage.epochs * per_epoch))


def _batches(
    data: TrainingSet,
    stage: StageConfig,
    seed: int,
    start: int,
    total: int,
    accelerator: Accelerator,
) -> Iterator[Any]:
    """This process's batches of steps `start` to `total`."""
    step = epoch = 0
    while step < total:
        batches = bucketed_batches(data.encoded.length, stage.batch_size, seed=seed, epoch=epoch)
        usable = max(1, len(batches) // accelerator.num_processes) * accelerator.num_processes
        for first in range(0, usable, accelerator.num_processes):
            if start <= step < total:
                yield batches[(first + accelerator.process_index) % len(batches)]
            step += 1
        epoch += 1


def _optimizer(stage: StageConfig, student: Student) -> AdamW:
    """AdamW: weights with decay, vectors without, what the method learns with its own rate and none."""
    is_soft = isinstance(stage, SoftConfig) and student.method.is_learned
    learned = list(student.method.parameters())
    for parameter in learned:
        parameter.requires_grad_(is_soft or student.method.objective == "reinforce")
    weights = [] if isinstance(stage, PolicyConfig) else _weights(student)
    groups: list[dict[str, Any]] = [
        {"params": [p for p in weights if p.dim() > 1], "weight_decay": stage.weight_decay},
        {"params": [p for p in weights if p.dim() <= 1], "weight_decay": 0.0},
    ]
    if is_soft:
        assert isinstance(stage, SoftConfig)
        rate = stage.threshold_learning_rate
        groups.append({"params": learned, "lr": rate, "weight_decay": 0.0})
    if student.method.objective == "reinforce":
        rate = policy_rate(stage, student.method)
        groups.append({"params": learned, "lr": rate, "weight_decay": 0.0})
    if _learns_masks(stage, student.method):
        rates = {"delta": stage.shape_learning_rate, "direction": stage.score_learning_rate}
        for name, parameter in student.method.named_parameters():
            parameter.requires_grad_(True)
            groups.append({"params": [parameter], "lr": rates[name], "weight_decay": 0.0})
    return AdamW(groups, lr=stage.learning_rate)


def _weights(student: Student) -> list[Tensor]:
    return [p for p in student.encoder.parameters() if p.requires_grad]


def _schedule(step: int, total: int, warmup_fraction: float) -> float:
    """Linear rise, then linear fall to 0."""
    warmup = max(1, round(warmup_fraction * total))
    return min((step + 1) / warmup, (total - step) / max(1, total - warmup))


def soft_temperature(stage: StageConfig, student: Student, progress: float) -> float | None:
    """Temperature at a fraction of the soft stage, geometric; None where pruning is hard."""
    if not (isinstance(stage, SoftConfig) and student.method.is_learned):
        return None
    return float(stage.temperature * (stage.final_temperature / stage.temperature) ** progress)


def _settle_thresholds(
    stage: StageConfig,
    method: PruningMethod,
    out: Pass,
    accelerator: Accelerator,
    *,
    progress: float,
) -> None:
    """Learned parameters stay in their range; in the hard stage one multiplier holds the budget.

    Differs from the paper: its hard stage fixes the thresholds, and FLOPs drift upward.
    """
    budget = stage.target_relative_flops if isinstance(stage, HardConfig) else None
    relative_flops = out.relative_flops.detach()
    if _learns_masks(stage, method):
        assert isinstance(method, ThresholdMethod)
        whole = torch.tensor(out.whole_macs, device=relative_flops.device)
        macs, whole = accelerator.reduce(torch.stack([relative_flops * whole, whole]), "sum")
        goal = budget_at(stage, progress)
        method.steer_(macs.item(), whole.item(), goal, stage.budget_gain)
    elif budget is not None and isinstance(method, ThresholdMethod):
        assert isinstance(stage, HardConfig)
        excess = accelerator.reduce(relative_flops, "mean").item() - budget
        method.scale_(float(np.exp(stage.budget_gain * (1 - progress) * excess)))
    method.settle_()


def _snapshot(
    accelerator: Accelerator,
    folder: Path,
    student: Student,
    optimizer: AdamW,
    position: Position,
    journal: Journal,
) -> None:
    if accelerator.is_main_process:
        journal.flush()
        save_snapshot(folder, student, optimizer, position, accelerator.scaler)
