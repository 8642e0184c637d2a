"""What a stage minimises: task loss, distillation, regulariser, budget."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.config import HardConfig, SoftConfig, StageConfig
from ltp_core.encoder.model import Encoder
from ltp_core.flops import layer_macs
from ltp_core.pruning.base import PruningMethod, SoftMaskForm, ThresholdMethod
from ltp_core.runners.base import Inputs
from ltp_core.runners.masked import run_soft, run_straight_through
from ltp_core.runners.repadded import run_repadded


@dataclass(frozen=True)
class Pass:
    """One training pass.

    Attributes:
        logits: Head output.
        relative_flops: Of this batch, paper accounting, sums before division; differentiable in
            the soft stage.
        mean_retained: Mean over real tokens and layers of the mask (Eq. 12, divided by n).
        regularizer: The method's own, instead of `mean_retained`.
        whole_macs: MACs of the batch with nothing pruned, by which `relative_flops` was divided.
        kept: Share of the real tokens that stay after each layer; None where a step has several passes.
    """

    logits: Float[Tensor, "batch ..."]
    relative_flops: Float[Tensor, ""]
    mean_retained: Float[Tensor, ""]
    regularizer: Float[Tensor, ""] | None = None
    whole_macs: float = 0.0
    kept: Float[Tensor, " layers"] | None = None


class Student(nn.Module):
    """Encoder and method as one module, so that Accelerate can wrap both."""

    def __init__(
        self, encoder: Encoder, method: PruningMethod, *, is_multi_label: bool = False
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.method = method
        self.is_multi_label = is_multi_label

    def forward(
        self,
        inputs: Inputs,
        temperature: float | None,
        form: SoftMaskForm = "softmax",
        sub_model: PruningMethod | None = None,
        log_scale: Float[Tensor, ""] | None = None,
    ) -> Pass:
        """A soft pass if there is a temperature, else a hard one; on demand by another method.

        With a scale of the thresholds besides, tokens go and their masks have gradients.
        """
        if log_scale is not None:
            assert temperature is not None
            assert isinstance(self.method, ThresholdMethod)
            straight = run_straight_through(
                self.encoder, inputs, self.method, temperature=temperature, log_scale=log_scale
            )
            logits, lengths = straight.logits, straight.lengths
            length, entering, leaving = lengths[:, 0], lengths[:, :-1], lengths[:, 1:]
        elif temperature is None:
            output = run_repadded(self.encoder, inputs, sub_model or self.method)
            logits, length = output.logits, inputs.length.float()
            entering, leaving = output.attention_length.float(), output.ffn_length.float()
        else:
            soft = run_soft(
                self.encoder,
                inputs,
                self.method,  # type: ignore[arg-type]
                temperature=temperature,
                form=form,
            )
            logits, lengths = soft.logits, self.method.expected_lengths(soft.weights)
            length, entering, leaving = lengths[:, 0], lengths[:, :-1], lengths[:, 1:]
        size = {**self.encoder.config.sizes, "accounting": "paper"}
        macs = layer_macs(entering, leaving, decision=self.method.decision_cost, **size).sum()
        whole = layer_macs(length, length, **size).sum() * entering.shape[1]
        return Pass(
            logits=as_choices(logits) if self.is_multi_label else logits,
            relative_flops=macs / whole,
            mean_retained=leaving.sum() / (length.sum() * leaving.shape[1]),
            regularizer=None if temperature is None else self.method.regularizer(),
            whole_macs=whole.item(),
            kept=(leaving.sum(dim=0) / length.sum()).detach(),
        )


def as_choices(logits: Float[Tensor, "batch label"]) -> Float[Tensor, "batch 2 label"]:
    """Independent labels as so many choices between "does not hold" and "holds".

    The softmax over the two is the sigmoid of the logit, so cross-entropy and divergence over dimension 1,
    means over the rest, are those of independent labels.
    """
    return torch.stack([torch.zeros_like(logits), logits], dim=1)


def task_loss(
    logits: Float[Tensor, "batch ..."], labels: Num[Tensor, "batch ..."]
) -> Float[Tensor, ""]:
    """Cross-entropy, or mean squared error where there is one output.

    For a span head the classes are the positions, and the loss is the mean of start's and end's. A
    start or end that cannot be named any more adds nothing. For independent labels it is the mean over
    their choices.
    """
    return task_losses(logits, labels).mean()


def task_losses(
    logits: Float[Tensor, "batch ..."], labels: Num[Tensor, "batch ..."]
) -> Float[Tensor, " batch"]:
    """`task_loss` of each example."""
    if logits.shape[1:] == (1,):
        return functional.mse_loss(logits[:, 0].float(), labels.float(), reduction="none")
    if logits.dim() == 2:
        return functional.cross_entropy(logits.float(), labels, reduction="none")
    named = logits.detach().gather(1, labels[:, None]).squeeze(1).isfinite()
    known = labels.masked_fill(~named, UNKNOWN)
    losses = functional.cross_entropy(logits.float(), known, ignore_index=UNKNOWN, reduction="none")
    return losses.mean(dim=1)


UNKNOWN = -100
"""Label that the cross-entropy leaves out."""


def distillation_loss(
    logits: Float[Tensor, "batch ..."],
    teacher_logits: Float[Tensor, "batch ..."],
    temperature: float,
) -> Float[Tensor, ""]:
    """`T² KL(teacher || student)` of the softened distributions; squared error for regression.

    Source: Hinton et al., Distilling the Knowledge in a Neural Network, 2015.
    """
    if logits.shape[1:] == (1,):
        return functional.mse_loss(logits.float(), teacher_logits)
    return temperature**2 * divergence(teacher_logits / temperature, logits / temperature)


def divergence(
    source: Float[Tensor, "batch ..."], target: Float[Tensor, "batch ..."]
) -> Float[Tensor, ""]:
    """KL(source || target) of the distributions over dimension 1, mean over the rest.

    For a span head that is the mean over examples, start and end. A position that either side
    cannot name is left out on both.
    """
    source, target = source.float(), target.float()
    if source.dim() > 2:
        unnamed = source.isinf() | target.detach().isinf()
        source, target = source.masked_fill(unnamed, LOWEST), target.masked_fill(unnamed, LOWEST)
    found: Tensor = functional.kl_div(
        functional.log_softmax(target, dim=1),
        functional.log_softmax(source, dim=1),
        log_target=True,
        reduction="sum",
    )
    return found / (source.numel() / source.shape[1])


LOWEST = -1e4
"""A logit that is as good as -inf and has no infinite differences."""


@dataclass(frozen=True)
class PredictionLoss:
    """Task loss and distillation, and the mixture that is minimised.

    `distillation` is None where there is no teacher.
    """

    total: Float[Tensor, ""]
    task: Float[Tensor, ""]
    distillation: Float[Tensor, ""] | None


def prediction_loss(
    stage: StageConfig,
    logits: Float[Tensor, "batch ..."],
    labels: Num[Tensor, "batch ..."],
    teacher_logits: Float[Tensor, "batch ..."] | None,
) -> PredictionLoss:
    """Task loss and distillation, mixed by the stage's `distillation_weight`."""
    task = task_loss(logits, labels)
    if teacher_logits is None or stage.distillation_weight == 0:
        return PredictionLoss(task, task, None)
    distilled = distillation_loss(logits, teacher_logits, stage.distillation_temperature)
    share = stage.distillation_weight
    return PredictionLoss((1 - share) * task + share * distilled, task, distilled)


def budget_at(stage: SoftConfig | HardConfig, progress: float) -> float:
    """The budget at a fraction of a stage: it falls linearly from 1 to the target, then stays."""
    assert stage.target_relative_flops is not None
    fallen = min(1.0, progress / stage.budget_ramp) if stage.budget_ramp else 1.0
    return 1 + (stage.target_relative_flops - 1) * fallen


def pruning_penalty(
    stage: StageConfig, out: Pass, progress: float, *, is_soft: bool
) -> Float[Tensor, ""]:
    """λ times the regulariser (Eq. 12), and the squared excess over the present FLOPs budget.

    Below the budget nothing pushes: thresholds that start there keep their shape.
    """
    if not (is_soft and isinstance(stage, SoftConfig)):
        return torch.zeros((), device=out.logits.device)
    regularizer = out.mean_retained if out.regularizer is None else out.regularizer
    penalty = stage.regularization_weight * regularizer
    if stage.target_relative_flops is not None:
        excess = (out.relative_flops - budget_at(stage, progress)).clamp_min(0)
        penalty = penalty + stage.budget_weight * excess**2
    return penalty
