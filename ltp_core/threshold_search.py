"""Search for the thresholds that meet a FLOPs budget with the least change of the predictions.

It knows nothing of models: it is given what measures thresholds. Only the ratios of thresholds are
searched, since for any ratios one multiplier meets the budget. First come rises of the form
`((l - s) / (L - s))^p`, on a part of the texts; then, on all of them, the best rise is changed layer
by layer while that helps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from ltp_core.records import UserError

POWERS = (1.0, 2.0, 0.5, 0.0)
"""Exponents p of the rise; 1 is the paper's straight line, 0 the same threshold in every layer."""

MAX_START = 2
"""First layers s that a rise leaves unpruned at most."""

NUM_RISES = 2
"""Rises that are tried on all texts."""

FIRST_MULTIPLIER = 0.64
"""Final threshold that the first rise starts from."""

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

SMALLEST_SHARE = 0.1
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
    """

    thresholds: Thresholds
    relative_flops: dict[str, float]
    divergence: float
    agreement: float | None

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


def search(coarse: Probe, fine: Probe, num_layers: int, target: float) -> Candidate:
    """The best candidate within the budget; what was tried stays in the probes.

    Args:
        coarse: Measures on a part of the texts, or the same as `fine`.
        fine: Measures on all texts.
        num_layers: Thresholds of a candidate.
        target: Relative FLOPs, paper accounting.

    Raises:
        UserError: The budget is below what pruning everything costs, or more would have to be tried.
    """
    rises = list(_rises(coarse, num_layers, target))
    rises.sort(key=_divergence)
    reached = [reach(fine, rise.thresholds, target) for rise in rises[:NUM_RISES]]
    found = [candidate for candidate in reached if candidate is not None]
    if not found:
        raise UserError(
            f"None of {fine.counter.tried} configurations has relative FLOPs of {target} or less: "
            "allow more of them."
        )
    best = _descend(fine, min(found, key=_divergence), target)
    # It may lie well below the budget, where its last step stopped short.
    polished = reach(fine, best.thresholds, target)
    return best if polished is None else min(best, polished, key=_divergence)


def _divergence(candidate: Candidate) -> float:
    return candidate.divergence


def rise(num_layers: int, start: int, power: float) -> Thresholds:
    """0 up to layer `start`, then `((l - start) / (L - start))^power`, layers counted from 1."""
    steps = (max(0, layer - start) / (num_layers - start) for layer in range(1, num_layers + 1))
    return tuple(step**power if step > 0 else 0.0 for step in steps)


def _rises(coarse: Probe, num_layers: int, target: float) -> Iterator[Candidate]:
    """One candidate at the budget per rise; half of all that may be tried goes here at most."""
    floors = [_floor(coarse, num_layers, start) for start in range(min(MAX_START + 1, num_layers))]
    if floors[0].cost > target:
        raise UserError(
            f"Relative FLOPs of {target} are out of reach: with everything pruned after the first "
            f"layer they are {floors[0].cost:.3f}."
        )
    multiplier = FIRST_MULTIPLIER
    for power, start in itertools.product(POWERS, range(len(floors))):
        if floors[start].cost > target or coarse.counter.tried > coarse.counter.most / 2:
            continue
        candidate = reach(coarse, rise(num_layers, start, power), target, multiplier)
        if candidate is not None:
            multiplier = max(candidate.thresholds)
            yield candidate


def _floor(probe: Probe, num_layers: int, start: int) -> Candidate:
    """Everything pruned that may be, from layer `start` on."""
    return probe((0.0,) * start + (ABOVE_ALL_SCORES,) * (num_layers - start))


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
    """The candidate, or a better one whose threshold in this layer is higher or lower."""
    for factor in (step, 1 / step):
        changed = _changed(best.thresholds, layer, factor)
        candidate = None if changed is None else reach(probe, changed, target)
        if candidate is not None and candidate.divergence < best.divergence:
            return candidate
    return best


def _changed(thresholds: Thresholds, layer: int, factor: float) -> Thresholds | None:
    """One layer's threshold multiplied; None where that changes nothing."""
    value = thresholds[layer]
    if value == 0:
        if factor < 1:
            return None
        value = SMALLEST_SHARE * max(thresholds)
    return (*thresholds[:layer], factor * value, *thresholds[layer + 1 :])
