"""Search for the thresholds that meet a FLOPs budget with the least change of the predictions.

It knows nothing of models: it is given what measures thresholds. Only the ratios of thresholds are
searched, since for any ratios one multiplier meets the budget. First come a few shapes (rising, level,
pruning in one layer alone), on a part of the texts; then, on all of them, the best shape is changed
layer by layer while that helps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ltp_core.records import UserError

NUM_SHAPES = 2
"""Shapes that are tried on all texts."""

FIRST_MULTIPLIER = 0.64
"""Greatest threshold that the first shape starts from."""

TOLERANCE = 0.005
"""How far below the budget the relative FLOPs may stay."""

MAX_MULTIPLIERS = 8
"""Multipliers tried for one set of ratios."""

SLOPE = 0.4
"""Fall of the relative FLOPs per unit of the multiplier's logarithm, until two points say better."""

FAR_APART = 4.0
"""Ratio of two multipliers between which the middle is taken instead of the straight line."""

FIRST_STEP, LAST_STEP = 1.4, 1.05
"""Factor on one layer's threshold in the layer-by-layer search, at the start and at the end."""

RAISED_SHARE = 0.5
"""What a threshold of 0 is raised from, as a share of the greatest one."""

ABOVE_ALL_SCORES = 1e6

Thresholds = tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """Thresholds and what they do to a set of texts.

    Attributes:
        thresholds: One per layer, times uniform attention.
        relative_flops: Fraction of the unpruned FLOPs, by accounting.
        divergence: Mean KL divergence of the pruned from the unpruned prediction; mean squared
            difference for regression.
        agreement: Share of the texts with the unpruned prediction; None for regression.
        protects_separators: Whether separator tokens were kept whatever their score.
    """

    thresholds: Thresholds
    relative_flops: dict[str, float]
    divergence: float
    agreement: float | None
    protects_separators: bool = False

    @property
    def cost(self) -> float:
        """Relative FLOPs in the paper's accounting, which the budget is in."""
        return self.relative_flops["paper"]


Measure = Callable[[Thresholds], Candidate]

Report = Callable[[int], None]
"""Is told how many configurations have been tried."""


class Counter:
    """Configurations tried so far, on whatever texts."""

    def __init__(self, most: int, report: Report) -> None:
        self.most = most
        self.tried = 0
        self._report = report

    @property
    def is_spent(self) -> bool:
        """No further one may be tried."""
        return self.tried >= self.most

    def add(self) -> None:
        """One more."""
        self.tried += 1
        self._report(self.tried)


class Probe:
    """Measures thresholds on one set of texts, each once, and remembers them in order."""

    def __init__(self, measure: Measure, counter: Counter) -> None:
        self.counter = counter
        self.found: dict[Thresholds, Candidate] = {}
        self._measure = measure

    def __call__(self, thresholds: Thresholds) -> Candidate:
        """What these thresholds do."""
        if thresholds not in self.found:
            self.found[thresholds] = self._measure(thresholds)
            self.counter.add()
        return self.found[thresholds]


@dataclass(frozen=True)
class Probes:
    """Measures the same kind of candidate on a part of the texts, and on all of them."""

    coarse: Probe
    fine: Probe


def search(kinds: Sequence[Probes], num_layers: int, target: float) -> Candidate:
    """The best candidate within the budget; what was tried stays in the probes.

    Args:
        kinds: Kinds of candidates that compete; they share one counter.
        num_layers: Thresholds of a candidate.
        target: Relative FLOPs, paper accounting.

    Raises:
        UserError: The budget is below what pruning everything costs, or more would have to be tried.
    """
    tried = [(candidate, kind.fine) for kind, candidate in _shapes(kinds, num_layers, target)]
    tried.sort(key=lambda pair: pair[0].divergence)
    reached = [
        (reach(fine, candidate.thresholds, target), fine) for candidate, fine in tried[:NUM_SHAPES]
    ]
    found = [(candidate, fine) for candidate, fine in reached if candidate is not None]
    if not found:
        raise UserError(
            f"None of {kinds[0].fine.counter.tried} configurations has relative FLOPs of {target} or "
            "less: allow more of them."
        )
    best, fine = min(found, key=lambda pair: pair[0].divergence)
    best = _descend(fine, best, target)
    # It may lie well below the budget, where its last step stopped short.
    polished = reach(fine, best.thresholds, target)
    return min((c for c in (best, polished) if c), key=lambda candidate: candidate.divergence)


def shapes(num_layers: int) -> list[Thresholds]:
    """Ratios to begin with, without duplicates: those that did best on finetuned models come first.

    The paper's straight line and its square; level in the last two thirds; pruning in one layer
    alone, at a half, two thirds and a third of the depth; level; pruning in the first two layers.
    """
    layers = range(1, num_layers + 1)
    third, half, late = (max(1, round(num_layers * share)) for share in (1 / 3, 1 / 2, 2 / 3))
    found = [
        tuple(layer / num_layers for layer in layers),
        tuple((layer / num_layers) ** 2 for layer in layers),
        tuple(float(layer > third) for layer in layers),
        *(tuple(float(layer == only) for layer in layers) for only in (half, late, third)),
        (1.0,) * num_layers,
        tuple(float(layer <= 2) for layer in layers),
    ]
    return list(dict.fromkeys(ratios for ratios in found if max(ratios) > 0))


def _shapes(
    kinds: Sequence[Probes], num_layers: int, target: float
) -> Iterator[tuple[Probes, Candidate]]:
    """Candidates at the budget, one per shape and kind; half of all trials goes here at most."""
    counter = kinds[0].coarse.counter
    everything: Thresholds = (ABOVE_ALL_SCORES,) * num_layers
    cost = min(kind.coarse(everything).cost for kind in kinds)
    if cost > target:
        raise UserError(
            f"Relative FLOPs of {target} are out of reach: with everything pruned after the first "
            f"layer they are {cost:.3f}."
        )
    multipliers = dict.fromkeys(range(len(kinds)), FIRST_MULTIPLIER)
    for ratios, (number, kind) in itertools.product(shapes(num_layers), enumerate(kinds)):
        if counter.tried > counter.most / 2:
            return
        everything = tuple(ABOVE_ALL_SCORES * (ratio > 0) for ratio in ratios)
        if kind.coarse(everything).cost > target:
            continue
        candidate = reach(kind.coarse, ratios, target, multipliers[number])
        if candidate is not None:
            multipliers[number] = max(candidate.thresholds)
            yield kind, candidate


def reach(
    probe: Probe, ratios: Thresholds, target: float, multiplier: float = 1.0
) -> Candidate | None:
    """The candidate with these ratios that costs the budget, or a little less.

    Args:
        probe: Measures.
        ratios: Thresholds up to a common multiplier.
        target: Relative FLOPs, paper accounting.
        multiplier: Where to begin.

    Returns:
        None if no candidate within the budget was found.
    """
    low, high = (0.0, 1.0), None  # multiplier and cost on both sides of the budget
    best: Candidate | None = None
    for trial in range(MAX_MULTIPLIERS):
        if probe.counter.is_spent:
            break
        candidate = probe(tuple(multiplier * ratio for ratio in ratios))
        if candidate.cost > target:
            low = (multiplier, candidate.cost)
        else:
            high = (multiplier, candidate.cost)
            best = candidate if best is None or candidate.cost > best.cost else best
            if candidate.cost >= target - TOLERANCE:
                break
        multiplier = _next_multiplier(low, high, target - TOLERANCE / 2, trial)
    return best


def _next_multiplier(
    low: tuple[float, float], high: tuple[float, float] | None, goal: float, trial: int
) -> float:
    """Between the two points, the cost falling with the logarithm of the multiplier.

    Beyond the only one by the slope that is usual, farther from trial to trial.
    """
    if high is None or low[0] == 0:
        multiplier, cost = high or low
        step = 2**trial * (cost - goal) / SLOPE
        return multiplier * math.exp(min(3.0, max(-3.0, step)))
    ratio = high[0] / low[0]
    share = (low[1] - goal) / (low[1] - high[1]) if ratio < FAR_APART else 0.5
    return low[0] * math.pow(ratio, min(0.9, max(0.1, share)))


def _descend(probe: Probe, best: Candidate, target: float) -> Candidate:
    """Changes one layer at a time, holding the budget, by ever smaller steps."""
    step = FIRST_STEP
    while step > LAST_STEP and not probe.counter.is_spent:
        before = best
        for layer in range(len(best.thresholds)):
            best = _better(probe, best, layer, step, target)
        step = step if best is not before else math.sqrt(step)
    return best


def _better(probe: Probe, best: Candidate, layer: int, step: float, target: float) -> Candidate:
    """The candidate, or a better one whose threshold in this layer is higher, lower or 0."""
    factors = (step, 1 / step, 0.0) if step == FIRST_STEP else (step, 1 / step)
    for factor in factors:
        changed = _changed(best.thresholds, layer, factor)
        candidate = None if changed is None else reach(probe, changed, target)
        if candidate is not None and candidate.divergence < best.divergence:
            return candidate
    return best


def _changed(thresholds: Thresholds, layer: int, factor: float) -> Thresholds | None:
    """One layer's threshold multiplied; None where that changes nothing, or leaves nothing."""
    value = thresholds[layer]
    if value == 0:
        if factor <= 1:
            return None
        value = RAISED_SHARE * max(thresholds)
    changed = (*thresholds[:layer], factor * value, *thresholds[layer + 1 :])
    return changed if max(changed) > 0 else None
