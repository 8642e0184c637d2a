"""What one training step minimises.

One pass (soft or hard), LAT's sandwich of sub-models (Kim and Cho, ACL 2021), or straight-through
passes in which thresholds and score learn while tokens are pruned, for one budget or for all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Num
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.config import HardConfig, SoftConfig, StageConfig
from ltp_core.pruning.base import PruningMethod, ThresholdMethod
from ltp_core.pruning.lat import LengthAdaptive
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.base import Inputs
from ltp_core.training.losses import (
    Pass,
    PredictionLoss,
    divergence,
    prediction_loss,
    pruning_penalty,
)


@dataclass(frozen=True)
class TrainingBatch:
    """What a step learns from."""

    inputs: Inputs
    labels: Num[Tensor, "batch ..."]
    teacher_logits: Float[Tensor, "batch ..."] | None

    def to(self, device: torch.device) -> TrainingBatch:
        """The same batch on another device."""
        teacher = None if self.teacher_logits is None else self.teacher_logits.to(device)
        return TrainingBatch(self.inputs.to(device), self.labels.to(device), teacher)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """Where in a stage a step is.

    Attributes:
        seed: Of the stage. Whatever a step draws follows from seed and step alone, so that a killed
            training goes on to the same result.
        step: Number of the step.
        progress: Share of the stage that is done.
        temperature: Of the soft mask; None where pruning is hard.
    """

    seed: int
    step: int
    progress: float
    temperature: float | None


@dataclass(frozen=True)
class StepLoss:
    """Loss of one step.

    Attributes:
        out: The pass; costs are means where a step has several.
        prediction: Task loss and distillation.
        penalty: What the method adds: regulariser and budget, or the divergence of sub-models.
    """

    out: Pass
    prediction: PredictionLoss
    penalty: Float[Tensor, ""]

    @property
    def total(self) -> Float[Tensor, ""]:
        """What is minimised."""
        return self.prediction.total + self.penalty


def single_pass_loss(
    model: nn.Module,
    method: PruningMethod,
    batch: TrainingBatch,
    stage: StageConfig,
    moment: Moment,
) -> StepLoss:
    """Prediction loss of one pass, soft or hard, with the pruning penalty of the soft stage."""
    form = method.soft_form or (stage.soft_mask if isinstance(stage, SoftConfig) else "softmax")
    out: Pass = model(batch.inputs, moment.temperature, form)
    prediction = prediction_loss(stage, out.logits, batch.labels, batch.teacher_logits)
    is_soft = moment.temperature is not None
    return StepLoss(out, prediction, pruning_penalty(stage, out, moment.progress, is_soft=is_soft))


def sandwich_loss(
    model: nn.Module,
    method: PruningMethod,
    batch: TrainingBatch,
    stage: StageConfig,
    moment: Moment,
) -> StepLoss:
    """Mean over the full, the smallest and a few random sub-models of this step.

    The full model learns the task, as every other method does. A sub-model learns only to say what
    the full model says in this step, whose logits are detached.

    Source: the authors' code, trainer.py; all terms are divided by the number of passes there too.
    """
    assert isinstance(method, LengthAdaptive)
    subs = method.sub_models(np.random.default_rng((moment.seed, moment.step)))
    passes: list[Pass] = [model(batch.inputs, None, "softmax", sub) for sub in subs]
    full, *others = passes
    prediction = prediction_loss(stage, full.logits, batch.labels, batch.teacher_logits)
    divergences = [
        sub_model_divergence(out.logits, full.logits.detach(), method.config.sub_model_loss)
        for out in others
    ]
    count = len(passes)
    return StepLoss(
        out=mean_costs(passes),
        prediction=PredictionLoss(
            prediction.total / count, prediction.task, prediction.distillation
        ),
        penalty=torch.stack(divergences).sum() / count + anchor(model),
    )


def sub_model_divergence(
    logits: Float[Tensor, "batch ..."], full_logits: Float[Tensor, "batch ..."], kind: str
) -> Float[Tensor, ""]:
    """Divergence of a sub-model from the full model, mean over the batch; MSE for regression.

    `reverse` is KL(sub-model || full model), which the authors' code minimises; `forward` is
    KL(full model || sub-model), as in ordinary distillation.
    """
    if logits.shape[1:] == (1,):
        return functional.mse_loss(logits.float(), full_logits.float())
    source, target = (logits, full_logits) if kind == "reverse" else (full_logits, logits)
    return divergence(source, target)


def mean_costs(passes: list[Pass]) -> Pass:
    """The first pass, with the mean of what they all cost."""
    return Pass(
        logits=passes[0].logits,
        relative_flops=torch.stack([p.relative_flops for p in passes]).mean(),
        mean_retained=torch.stack([p.mean_retained for p in passes]).mean(),
    )


def anchor(model: nn.Module) -> Tensor:
    """0, through every weight: processes that train together each expect all gradients.

    LayerDrop may leave out a layer in all passes of a step.
    """
    sums = [p.flatten()[0] for p in model.parameters() if p.requires_grad]
    return 0.0 * torch.stack([s.float() for s in sums]).sum()


LEAST_SCALE = 0.05
"""Smallest scale of the thresholds that an elastic step draws: next to nothing goes."""


def straight_loss(
    model: nn.Module,
    method: PruningMethod,
    batch: TrainingBatch,
    stage: StageConfig,
    moment: Moment,
) -> StepLoss:
    """Prediction loss of one straight-through pass at the present scale."""
    assert isinstance(stage, HardConfig)
    assert isinstance(method, ThresholdMethod)
    out: Pass = model(
        batch.inputs, stage.mask_gradient, "softmax", None, method.log_scale.detach().clone()
    )
    prediction = prediction_loss(stage, out.logits, batch.labels, batch.teacher_logits)
    return StepLoss(out, prediction, torch.zeros((), device=out.logits.device))


def elastic_loss(
    model: nn.Module,
    method: PruningMethod,
    batch: TrainingBatch,
    stage: StageConfig,
    moment: Moment,
) -> StepLoss:
    """Sum over three passes: unpruned, at the present scale, and at one between.

    The unpruned pass learns from labels and teacher, as every other method does. The pruned ones
    learn only to say what it says in this step, whose logits are detached. So one model serves
    every budget between 1 and that of the present scale.

    Differs from the paper: it trains one model for each budget. The sandwich is that of slimmable
    networks (Yu and Huang, ICCV 2019), which LAT uses for its lengths.
    """
    assert isinstance(stage, HardConfig)
    assert isinstance(method, ThresholdMethod)
    whole: Pass = model(batch.inputs, None, "softmax", Unpruned.control_of(method))
    prediction = prediction_loss(stage, whole.logits, batch.labels, batch.teacher_logits)
    # A scale between, log-uniform; the present one while it is still that small.
    largest, least = float(method.log_scale), math.log(LEAST_SCALE)
    drawn = np.random.default_rng((moment.seed, moment.step)).random()
    between = least + drawn * (largest - least) if largest > least else largest
    penalty = torch.zeros((), device=whole.logits.device)
    for scale in (between, largest):
        out: Pass = model(
            batch.inputs, stage.mask_gradient, "softmax", None, method.log_scale.new_tensor(scale)
        )
        penalty = penalty + sub_model_divergence(out.logits, whole.logits.detach(), "forward")
    return StepLoss(out, prediction, penalty)


def along_equal_cost_(delta: nn.Parameter, cost_gradient: torch.Tensor) -> None:
    """Takes from the shape's gradient the part that changes the cost, which the scale answers for.

    `g <- g - (g c / c c) c`, with c the gradient of the relative FLOPs.
    """
    if delta.grad is None:
        return
    share = (delta.grad @ cost_gradient) / (cost_gradient @ cost_gradient).clamp_min(1e-12)
    delta.grad -= share * cost_gradient
