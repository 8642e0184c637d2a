"""Statistics of sequence lengths: quantiles, histograms, and the divergence of two sets (Table 2).

Axes: `distinct` different lengths of a set, ascending; `bins` bins of a histogram.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

_FEW_BINS = frozenset({"rte", "mrpc", "stsb"})

MAX_TOKEN_BINS = 4_096
"""Bins of `DivergenceRule.bins = None`; sets that span more tokens get wider ones."""


@dataclass(frozen=True, kw_only=True, eq=False)
class LengthCounts:
    """How many inputs have each length.

    Attributes:
        length: Lengths in tokens, ascending, each once.
        count: Inputs of that length, at least 1.
    """

    length: Num[np.ndarray, " distinct"]
    count: Int[np.ndarray, " distinct"]

    @classmethod
    def of(cls, lengths: Num[np.ndarray, " examples"]) -> LengthCounts:
        """The counts of a list of lengths in any order."""
        length, count = np.unique(lengths, return_counts=True)
        return cls(length=length, count=count)

    @property
    def rows(self) -> int:
        """Number of inputs."""
        return int(self.count.sum())


@dataclass(frozen=True, kw_only=True)
class DivergenceRule:
    """How lengths are put into bins, and what happens where one set has none.

    Attributes:
        bins: Number of equal bins; None for bins of one token each.
        from_zero: Bins begin at 0, not at the least length of both sets.
        epsilon: Added to the probability of every bin before it is renormalised; 0 changes nothing.
            None leaves out the bins that one side lacks and renormalises both on the others.

    Differs from the paper: it states neither the direction nor the edges nor the smoothing of its
    Table 2; KL(train ‖ evaluation) with the defaults comes nearest to its figures.
    """

    bins: int | None = 50
    from_zero: bool = False
    epsilon: float | None = None


def kl_bins(task: str) -> int:
    """Number of bins that the paper's Table 2 uses for a task: 20 for rte, mrpc, stsb, else 50."""
    return 20 if task in _FEW_BINS else 50


def length_quantiles(counts: LengthCounts, *levels: float) -> tuple[float, ...]:
    """Quantiles in tokens at these levels (0 to 1), linearly interpolated as `numpy.quantile` does.

    Raises:
        ValueError: There is no length.
    """
    if not counts.rows:
        raise ValueError("quantiles need at least one length")
    last = np.cumsum(counts.count) - 1  # position of the last input of each length
    position = np.asarray(levels) * last[-1]
    below = counts.length[np.searchsorted(last, np.floor(position))].astype(float)
    above = counts.length[np.searchsorted(last, np.ceil(position))]
    return tuple(map(float, below + (position % 1) * (above - below)))


def rule_edges(
    train: LengthCounts, evaluation: LengthCounts, rule: DivergenceRule
) -> Float[np.ndarray, " edges"]:
    """Edges of the rule's bins, ascending; the last bin includes its right edge.

    Raises:
        ValueError: A set is empty, or the rule asks for less than one bin.
    """
    if not train.rows or not evaluation.rows:
        raise ValueError("two non-empty sets of lengths are needed")
    low = 0.0 if rule.from_zero else float(min(train.length[0], evaluation.length[0]))
    high = float(max(train.length[-1], evaluation.length[-1]))
    if rule.bins is None:
        width = -int(-(high - low + 1) // MAX_TOKEN_BINS)
        return np.arange(low, high + width + 1, width) - 0.5
    return np.histogram_bin_edges(np.empty(0), bins=rule.bins, range=(low, high))


def bin_counts(
    counts: LengthCounts, edges: Float[np.ndarray, " edges"]
) -> Int[np.ndarray, " bins"]:
    """Inputs in each bin; a length on an inner edge belongs to the bin on its right."""
    binned = np.zeros(len(edges) - 1, dtype=np.int64)
    np.add.at(binned, bin_index(counts.length, edges), counts.count)
    return binned


def bin_index(
    lengths: Num[np.ndarray, " distinct"], edges: Float[np.ndarray, " edges"]
) -> Int[np.ndarray, " distinct"]:
    """The bin of each length, from 0; lengths outside of all bins go to the nearest one."""
    return np.clip(np.searchsorted(edges, lengths, side="right") - 1, 0, len(edges) - 2)


def kl_divergence(
    p: Num[np.ndarray, "*sets bins"], q: Num[np.ndarray, "*sets bins"], epsilon: float | None = None
) -> Float[np.ndarray, "*sets"]:
    """KL(p ‖ q) of counts in the same bins, in nats; several pairs at once on the leading axes.

    Args:
        p: Counts of the first distribution.
        q: Counts of the second one.
        epsilon: As in `DivergenceRule`.

    Returns:
        At least 0; infinite where no bin has mass in both, or where p has mass in a bin that q lacks
        and nothing was done about it (`epsilon` 0).
    """
    if epsilon is None:
        common = (p > 0) & (q > 0)
        p, q = np.where(common, p, 0), np.where(common, q, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        p, q = _shares(p, epsilon or 0.0), _shares(q, epsilon or 0.0)
        total = np.where(p > 0, p * np.log(p / q), 0.0).sum(axis=-1)
    return np.where(np.isnan(p).any(axis=-1), np.inf, np.maximum(total, 0.0))


def jensen_shannon(
    p: Num[np.ndarray, "*sets bins"], q: Num[np.ndarray, "*sets bins"]
) -> Float[np.ndarray, "*sets"]:
    """Jensen–Shannon divergence of counts in the same bins, in nats: 0 to ln 2, symmetric, finite.

    The mean of both sides' KL divergence from their average; it needs no smoothing.

    Source: Lin, Divergence measures based on the Shannon entropy, IEEE Trans. Inf. Theory 1991.
    """
    p, q = _shares(p, 0.0), _shares(q, 0.0)
    middle = (p + q) / 2
    return np.asarray((kl_divergence(p, middle, 0.0) + kl_divergence(q, middle, 0.0)) / 2)


def _shares(
    counts: Num[np.ndarray, "*sets bins"], epsilon: float
) -> Float[np.ndarray, "*sets bins"]:
    shares = counts / counts.sum(axis=-1, keepdims=True) + epsilon
    return np.asarray(shares / shares.sum(axis=-1, keepdims=True))


def wasserstein(train: LengthCounts, evaluation: LengthCounts) -> float:
    """Wasserstein-1 distance in tokens: how far the average input has to move, without any bins.

    Raises:
        ValueError: A set is empty.
    """
    if not train.rows or not evaluation.rows:
        raise ValueError("two non-empty sets of lengths are needed")
    grid = np.union1d(train.length, evaluation.length)
    gaps = np.abs(ecdf(train, grid) - ecdf(evaluation, grid))
    return float(np.sum(gaps[:-1] * np.diff(grid)))


def ecdf(counts: LengthCounts, grid: Num[np.ndarray, " grid"]) -> Float[np.ndarray, " grid"]:
    """Fraction of the inputs that are at most as long as each value of an ascending grid."""
    total = np.concatenate([[0], np.cumsum(counts.count)])
    return total[np.searchsorted(counts.length, grid, side="right")] / counts.rows


def share_longer(counts: LengthCounts, limit: float) -> float:
    """Fraction of the inputs that are longer than a limit."""
    return float(counts.count[counts.length > limit].sum() / counts.rows)


def integer_edges(low: int, high: int, *, max_bins: int = 60) -> Int[np.ndarray, " edges"]:
    """Edges of bins for drawing: each holds the same whole number of lengths, so none is favoured.

    Equal bins of a fractional width hold now one length more, now one less, which shows as a
    saw-tooth. The width here is 1, 2 or 5 times a power of ten.

    Args:
        low: Least length; the first edge is the multiple of the width at or below it.
        high: Greatest length; it lies in the last bin.
        max_bins: More bins than this (and one for the alignment) are not made.

    Returns:
        Each edge is the least length of the bin that it begins; the last one ends the last bin.

    Example:
        >>> integer_edges(3, 11, max_bins=6)
        array([ 2,  4,  6,  8, 10, 12])
    """
    widths = (step * 10**power for power in range(18) for step in (1, 2, 5))
    width = next(w for w in widths if (high - low + 1) / w <= max_bins)
    return np.arange(low // width * width, high + width + 1, width)
