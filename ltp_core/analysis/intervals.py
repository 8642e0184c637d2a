"""Estimates with 95 % intervals over examples; spread over training seeds is not in them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

Z95 = 1.959963984540054
"""The standard normal distribution has 95 % of its mass within this many standard deviations."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A value and the bounds of its 95 % interval, all in the same unit."""

    value: float
    low: float
    high: float


def mean_estimate(found: Iterable[Estimate | None]) -> Estimate | None:
    """Means of the values and of their bounds, over seeds; None where no estimate is known.

    Means of bounds are on the safe side: the seeds' examples are the same.
    """
    known = [each for each in found if each is not None]
    if not known:
        return None
    return Estimate(
        value=statistics.fmean(each.value for each in known),
        low=statistics.fmean(each.low for each in known),
        high=statistics.fmean(each.high for each in known),
    )


def share_estimate(hits: int, count: int) -> Estimate:
    """Share of hits, with Wilson's score interval: inside 0..1 for any count.

    Raises:
        ValueError: The count is not positive, or there are more hits than that.

    Source: E. B. Wilson, JASA 22 (1927).
    """
    if not 0 <= hits <= count or count == 0:
        raise ValueError(f"{hits} hits of {count}")
    share = hits / count
    z2 = Z95**2 / count
    center = (share + z2 / 2) / (1 + z2)
    half = Z95 * math.sqrt(share * (1 - share) / count + z2 / (4 * count)) / (1 + z2)
    # The rounding of the bounds must not leave the value outside.
    return Estimate(
        value=share,
        low=min(share, max(0.0, center - half)),
        high=max(share, min(1.0, center + half)),
    )


def ratio_estimate(
    part: Num[np.ndarray, " examples"], whole: Num[np.ndarray, " examples"]
) -> Estimate:
    """Sum of `part` over sum of `whole`, with the normal interval of a ratio of sums.

    The standard error is that of the linearised ratio: the root of the summed squares of
    `part - ratio * whole` over the sum of `whole`.

    Raises:
        ValueError: There is no example, or the whole sums to 0.
    """
    part, whole = part.astype(np.float64), whole.astype(np.float64)
    total = float(whole.sum())
    if total == 0:
        raise ValueError("a ratio needs examples whose whole is not 0")
    ratio = float(part.sum()) / total
    half = Z95 * float(np.sqrt(np.square(part - ratio * whole).sum())) / total
    return Estimate(value=ratio, low=ratio - half, high=ratio + half)


def correlation_estimate(
    x: Num[np.ndarray, " examples"], y: Num[np.ndarray, " examples"]
) -> Estimate | None:
    """Pearson's correlation with Fisher's interval; None where a side is constant or n < 4."""
    if len(x) < 4 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    r = float(np.clip(np.corrcoef(x, y)[0, 1], -1.0, 1.0))
    center = math.atanh(min(max(r, -1 + 1e-12), 1 - 1e-12))
    half = Z95 / math.sqrt(len(x) - 3)
    low, high = math.tanh(center - half), math.tanh(center + half)
    return Estimate(value=r, low=min(r, low), high=max(r, high))


def bootstrap_estimate(
    statistic: Callable[[Int[np.ndarray, " drawn"]], float],
    count: int,
    *,
    seed: int = 0,
    num_resamples: int = 1000,
) -> Estimate:
    """A statistic of examples with the percentiles of its values on examples drawn with replacement.

    Args:
        statistic: Takes positions of examples, some of them repeatedly.
        count: Number of examples.
        seed: Seed of the draws; equal seeds give equal bounds.
        num_resamples: Number of draws.

    Raises:
        ValueError: There is no example.
    """
    if count < 1:
        raise ValueError("a statistic needs at least one example")
    random = np.random.default_rng(seed)
    draws = [statistic(random.integers(count, size=count)) for _ in range(num_resamples)]
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value=statistic(np.arange(count)), low=float(low), high=float(high))
