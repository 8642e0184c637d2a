"""What one training step minimises, by method: one pass, or LAT's sandwich of sub-models."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor, nn

from ltp_core.config import SoftConfig, StageConfig
from ltp_core.pruning.base import PruningMethod, SoftMaskForm
from ltp_core.runners.base import Inputs
from ltp_core.training.losses import Pass, PredictionLoss, prediction_loss, pruning_penalty


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
    out: Pass = model(batch.inputs, moment.temperature, _form(stage, method))
    prediction = prediction_loss(stage, out.logits, batch.labels, batch.teacher_logits)
    is_soft = moment.temperature is not None
    return StepLoss(out, prediction, pruning_penalty(stage, out, moment.progress, is_soft=is_soft))


def _form(stage: StageConfig, method: PruningMethod) -> SoftMaskForm:
    if method.soft_form is not None:
        return method.soft_form
    return stage.soft_mask if isinstance(stage, SoftConfig) else "softmax"
