"""Thresholds for a finetuned model and a FLOPs budget, from unlabelled texts; nothing is trained.

Beyond the paper. Wanted are the per-layer thresholds that change the output distribution least among
those that meet the budget; `ltp_core.calibration.search` looks for them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from torch import Tensor

from ltp_core.calibration.search import (
    Candidate,
    Counter,
    Measure,
    Probe,
    Probes,
    Report,
    Thresholds,
    search,
)
from ltp_core.checkpoint import ProblemType, PrunedModel
from ltp_core.encoder.tokenizer import separator_id
from ltp_core.inference import input_batches, predict
from ltp_core.pruning.base import PruningMethod
from ltp_core.pruning.calibrated import CalibratedConfig, CalibratedThreshold
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import UserError
from ltp_core.tokenize import Encoded

COARSE_SHARE = 4
"""Shapes are compared on every fourth text."""

MIN_COARSE = 64
"""Unless that would be fewer than this."""


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The outcome.

    Attributes:
        method: With the chosen thresholds.
        chosen: What they do to the texts.
        candidates: Everything that was tried on all texts, in order.
        tried: Number of configurations tried, those on a part of the texts included.
        cut_rows: Texts that were longer than the model takes and of which only the beginning counted.
    """

    method: CalibratedThreshold
    chosen: Candidate
    candidates: tuple[Candidate, ...]
    tried: int
    cut_rows: int

    def frame(self) -> pd.DataFrame:
        """The candidates as the store's table of that name."""
        frame = pd.DataFrame(
            {
                "relative_flops": candidate.cost,
                "divergence": candidate.divergence,
                "agreement": candidate.agreement,
                "is_chosen": candidate == self.chosen,
                "protects_separators": candidate.protects_separators,
                **{f"threshold_{i}": x for i, x in enumerate(candidate.thresholds, start=1)},
            }
            for candidate in self.candidates
        )
        return frame.assign(candidate=range(len(frame)))


def calibrate(
    model: PrunedModel,
    encoded: Encoded,
    target_relative_flops: float,
    *,
    settings: CalibratedConfig | None = None,
    max_configurations: int = 200,
    report: Report = lambda tried: None,
) -> Calibration:
    """Chooses thresholds for a model's weights; its own pruning is put aside.

    Args:
        model: Any checkpoint of which all layers run.
        encoded: Texts like those that the model will see.
        target_relative_flops: Budget, paper accounting; the result is at it or just below.
        settings: Which tokens are protected; None protects what the model's own method does.
        max_configurations: Configurations tried at most.
        report: Is told how many have been tried.

    Raises:
        UserError: There is no text, the budget is out of reach, or a layer of the model never runs.
    """
    own = model.method
    if not all(own.runs_layer(layer) for layer in range(own.num_layers)):
        raise UserError(
            f"{model.name} leaves out whole layers ({own.name}): calibrate a model that runs all of "
            "them."
        )
    encoded = encoded.take(np.flatnonzero(encoded.length > 0))
    if not len(encoded):
        raise UserError("There is no text to calibrate on.")
    settings = settings or CalibratedConfig(
        protect_first=own.config.protect_first, protect_separators=own.config.protect_separators
    )
    variants = [settings]
    # Separators are also tried protected, where there are any and they are not protected anyway.
    has_more = not settings.protect_separators and separator_id(model.tokenizer) is not None
    if has_more and settings.tries_separators:
        variants.append(replace(settings, protect_separators=True))
    methods = [CalibratedThreshold(variant, own.num_layers) for variant in variants]
    # Shapes are compared on every fourth text by length; on all at once if these are few.
    part = encoded
    if len(encoded) >= COARSE_SHARE * MIN_COARSE:
        part = encoded.take(np.argsort(encoded.length, kind="stable")[::COARSE_SHARE])
    counter = Counter(max_configurations, report)
    kinds = []
    for method in methods:
        fine = Probe(measure_on(model, method, encoded), counter)
        is_same = part is encoded
        coarse = fine if is_same else Probe(measure_on(model, method, part), counter)
        kinds.append(Probes(coarse, fine))
    chosen = search(kinds, own.num_layers, target_relative_flops)
    (method,) = (m for m in methods if m.config.protect_separators == chosen.protects_separators)
    return Calibration(
        method=_with_thresholds(method, chosen.thresholds),
        chosen=chosen,
        candidates=tuple(c for kind in kinds for c in kind.fine.found.values()),
        tried=counter.tried,
        cut_rows=int(np.count_nonzero(encoded.cut)),
    )


def _with_thresholds(method: CalibratedThreshold, thresholds: Thresholds) -> CalibratedThreshold:
    chosen = method.with_thresholds(list(thresholds))
    assert isinstance(chosen, CalibratedThreshold)
    return chosen


def measure_on(model: PrunedModel, method: CalibratedThreshold, encoded: Encoded) -> Measure:
    """What runs thresholds over these texts and compares with the unpruned predictions."""
    # Protected are the tokens that these thresholds protect, not those of the model's own method.
    model = replace(model, method=method)
    batches = list(input_batches(model, encoded))

    def run(candidate: PruningMethod) -> tuple[Float[Tensor, "examples label"], dict[str, float]]:
        found = predict(model, encoded, candidate, batches=batches)
        return torch.from_numpy(np.stack(found.logits)).double(), found.relative_flops(model)

    unpruned, _ = run(Unpruned(method.config, method.num_layers))

    def measure(thresholds: Thresholds) -> Candidate:
        pruned, relative = run(_with_thresholds(method, thresholds).to(model.device))
        return Candidate(
            thresholds=thresholds,
            relative_flops=relative,
            divergence=divergence(unpruned, pruned, model.problem_type),
            agreement=agreement(unpruned, pruned, model.problem_type),
            protects_separators=method.config.protect_separators,
        )

    return measure


def divergence(
    unpruned: Float[Tensor, "examples label"],
    pruned: Float[Tensor, "examples label"],
    problem_type: ProblemType = "single_label_classification",
) -> float:
    """Mean KL(unpruned || pruned) of the softmax; of independent labels the sum over these.

    Mean squared difference where the outputs are values.

    Example:
        >>> half, sure = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 0.0]])
        >>> divergence(half, half), round(divergence(half, sure), 4)
        (0.0, 0.8554)
    """
    if problem_type == "regression":
        return float((unpruned - pruned).square().mean())
    if problem_type == "multi_label_classification":
        # Each label is a distribution over "holds" and "does not", whose logits differ by its logit.
        unpruned, pruned = (torch.stack([x, torch.zeros_like(x)], 1) for x in (unpruned, pruned))
    expected, found = unpruned.log_softmax(dim=1), pruned.log_softmax(dim=1)
    return float((expected.exp() * (expected - found)).flatten(1).sum(dim=1).mean())


def agreement(
    unpruned: Float[Tensor, "examples label"],
    pruned: Float[Tensor, "examples label"],
    problem_type: ProblemType = "single_label_classification",
) -> float | None:
    """Share of equal predictions, of independent labels where all are equal; None for values."""
    if problem_type == "regression":
        return None
    if problem_type == "multi_label_classification":
        return float(((unpruned >= 0) == (pruned >= 0)).all(dim=1).double().mean())
    return float((unpruned.argmax(dim=1) == pruned.argmax(dim=1)).double().mean())
