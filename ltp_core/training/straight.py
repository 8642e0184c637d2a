"""Training steps in which thresholds and score learn while tokens are pruned, for one budget or all."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import nn

from ltp_core.config import HardConfig, StageConfig
from ltp_core.pruning.base import PruningMethod, ThresholdMethod
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.training.losses import Pass, PredictionLoss, prediction_loss
from ltp_core.training.objective import Moment, StepLoss, TrainingBatch
from ltp_core.training.sandwich import sub_model_divergence

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
    return StepLoss(
        out, PredictionLoss(prediction.total, prediction.task, prediction.distillation), penalty
    )


def along_equal_cost_(delta: nn.Parameter, cost_gradient: torch.Tensor) -> None:
    """Takes from the shape's gradient the part that changes the cost, which the scale answers for.

    `g <- g - (g c / c c) c`, with c the gradient of the relative FLOPs.
    """
    if delta.grad is None:
        return
    share = (delta.grad @ cost_gradient) / (cost_gradient @ cost_gradient).clamp_min(1e-12)
    delta.grad -= share * cost_gradient


def goal_at(stage: HardConfig, progress: float) -> float:
    """The budget at a fraction of the stage: it falls linearly from 1 to the target, then stays."""
    assert stage.target_relative_flops is not None
    fallen = min(1.0, progress / stage.budget_ramp) if stage.budget_ramp else 1.0
    return 1 + (stage.target_relative_flops - 1) * fallen
