"""LAT's training step: the sandwich rule with in-place distillation (Kim and Cho, ACL 2021)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.config import StageConfig
from ltp_core.pruning import LengthAdaptive, PruningMethod
from ltp_core.training.losses import Pass, PredictionLoss, divergence, prediction_loss
from ltp_core.training.objective import Moment, StepLoss, TrainingBatch


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
        out=_mean_costs(passes),
        prediction=PredictionLoss(
            prediction.total / count, prediction.task, prediction.distillation
        ),
        penalty=torch.stack(divergences).sum() / count + _anchor(model),
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


def _mean_costs(passes: list[Pass]) -> Pass:
    return Pass(
        logits=passes[0].logits,
        relative_flops=torch.stack([p.relative_flops for p in passes]).mean(),
        mean_retained=torch.stack([p.mean_retained for p in passes]).mean(),
    )


def _anchor(model: nn.Module) -> Tensor:
    """0, through every weight: processes that train together each expect all gradients.

    LayerDrop may leave out a layer in all passes of a step.
    """
    sums = [p.flatten()[0] for p in model.parameters() if p.requires_grad]
    return 0.0 * torch.stack([s.float() for s in sums]).sum()
