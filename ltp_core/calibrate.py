"""Thresholds for a finetuned model and a FLOPs budget, from unlabelled texts; nothing is trained.

Beyond the paper. Wanted are the per-layer thresholds that change the output distribution least among
those that meet the budget. Only ratios of thresholds are searched: for any ratios, one multiplier
meets the budget. First come rises of the form `((l - s) / (L - s))^p`, on a quarter of the texts;
then, on all of them, the best rise is changed layer by layer while that helps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ltp_core.checkpoint import PrunedModel
from ltp_core.data.batching import Encoded, collate, sorted_batches
from ltp_core.evaluate import model_inputs
from ltp_core.flops import relative_flops
from ltp_core.pruning.base import PruningMethod
from ltp_core.pruning.calibrated import CalibratedThreshold
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import UserError

POWERS = (1.0, 2.0, 0.5, 0.0)
"""Exponents of the rise; 1 is the paper's straight line, 0 one threshold for all layers."""

MAX_START = 2
"""First layers that a rise leaves unpruned at most."""

NUM_RISES = 2
"""Rises that are tried on all texts."""

COARSE_SHARE = 0.25
"""Share of the texts on which rises are compared."""

MIN_COARSE = 64
"""Texts below which all are used at once."""

TOLERANCE = 0.005
"""How far below the budget the relative FLOPs may stay."""

MAX_TRIALS = 8
"""Multipliers tried for one shape."""

SLOPE = 0.4
"""Fall of the relative FLOPs per unit of the multiplier's logarithm, where nothing better is known."""

FIRST_STEP, LAST_STEP = 1.4, 1.05
"""Factor on one layer's threshold in the layer-by-layer search, at the start and at the end."""

BEYOND_ALL_SCORES = 1e6

BATCH_SIZE = 64

Thresholds = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Thresholds and what they do to a set of texts.

    Attributes:
        thresholds: One per layer, times uniform attention.
        relative_flops: Fraction of the unpruned FLOPs, by accounting.
        divergence: Mean KL divergence of the pruned from the unpruned prediction; mean squared
            difference for regression.
        agreement: Share of the texts with the unpruned model's prediction; None for regression.
    """

    thresholds: Thresholds
    relative_flops: dict[str, float]
    divergence: float
    agreement: float | None

    @property
    def cost(self) -> float:
        """Relative FLOPs, paper accounting."""
        return self.relative_flops["paper"]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The outcome.

    Attributes:
        method: With the chosen thresholds.
        chosen: What they do to the texts.
        candidates: Everything that was tried on all texts, in order.
        num_tried: Configurations tried, those on a part of the texts included.
    """

    method: CalibratedThreshold
    chosen: Candidate
    candidates: list[Candidate]
    num_tried: int


Measure = Callable[[Thresholds], Candidate]
Report = Callable[[int, Candidate], None]
"""Is told how many configurations have been tried, and the last one."""


def calibrate(
    model: PrunedModel,
    encoded: Encoded,
    target_relative_flops: float,
    *,
    method: CalibratedThreshold | None = None,
    max_configurations: int = 120,
    report: Report = lambda tried, candidate: None,
) -> Calibration:
    """Chooses thresholds for the model's weights.

    Args:
        model: Any checkpoint; its own method is put aside.
        encoded: Texts like those that the model will see.
        target_relative_flops: Budget, paper accounting; the result is at or just below it.
        method: Whose settings to take; None protects what the model's own method protects.
        max_configurations: Configurations tried at most.
        report: Is called after each of them.

    Raises:
        UserError: There is no text, the budget is below what pruning everything costs, or the model
            has layers that never run.
    """
    method = method or CalibratedThreshold(_protection(model.method), model.method.num_layers)
    _require_whole(model)
    encoded = encoded.take(np.flatnonzero(encoded.length > 0))
    if not len(encoded):
        raise UserError("There is no text to calibrate on.")
    trials = _Trials(max_configurations, report)
    fine = trials.counted(measure_on(model, method, encoded))
    coarse = fine
    if len(encoded) * COARSE_SHARE >= MIN_COARSE:
        part = encoded.take(_spread(encoded.length, COARSE_SHARE))
        coarse = trials.counted(measure_on(model, method, part))
    rises = _best_rises(coarse, trials, method.num_layers, target_relative_flops)
    starts = [reach(rise.thresholds, target_relative_flops, fine, trials) for rise in rises]
    found = [candidate for candidate in starts if candidate is not None]
    if not found:
        raise _unreachable(coarse(beyond(0, method.num_layers)), target_relative_flops)
    best = _descend(min(found, key=lambda c: c.divergence), target_relative_flops, fine, trials)
    chosen = method.with_thresholds(list(best.thresholds))
    assert isinstance(chosen, CalibratedThreshold)
    return Calibration(
        method=chosen, chosen=best, candidates=fine.candidates, num_tried=trials.num_tried
    )
