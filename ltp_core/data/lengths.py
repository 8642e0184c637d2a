"""Statistics of sequence lengths: quartiles and the divergence of two distributions (Table 2)."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Num

_FEW_BINS = frozenset({"rte", "mrpc", "stsb"})


def kl_bins(task: str) -> int:
    """Number of bins that the paper's Table 2 uses for a task: 20 for rte, mrpc, stsb, else 50."""
    return 20 if task in _FEW_BINS else 50


def length_quartiles(lengths: Num[np.ndarray, " examples"]) -> tuple[float, float, float]:
    """Q1, Q2 and Q3 in tokens, linearly interpolated.

    Raises:
        ValueError: There is no length.

    Example:
        >>> length_quartiles(np.array([1, 2, 3, 4, 5]))
        (2.0, 3.0, 4.0)
    """
    if not len(lengths):
        raise ValueError("quartiles need at least one length")
    q1, q2, q3 = np.quantile(lengths, (0.25, 0.5, 0.75))
    return float(q1), float(q2), float(q3)


def bin_edges(
    train: Num[np.ndarray, " train"], evaluation: Num[np.ndarray, " evaluation"], *, bins: int
) -> Float[np.ndarray, " edges"]:
    """`bins + 1` edges of equal bins from the least to the greatest length of both sets.

    Raises:
        ValueError: A set is empty, or `bins` is below 1.
    """
    if not len(train) or not len(evaluation):
        raise ValueError("two non-empty sets of lengths are needed")
    low = min(train.min(), evaluation.min())
    high = max(train.max(), evaluation.max())
    return np.histogram_bin_edges(np.empty(0), bins=bins, range=(float(low), float(high)))


def length_kl(
    train: Num[np.ndarray, " train"], evaluation: Num[np.ndarray, " evaluation"], *, bins: int
) -> float:
    """KL(train ‖ evaluation) of the lengths in nats.

    Equal bins over the least to the greatest length of the union; no smoothing: both distributions
    are renormalised on the bins where both have mass. Not symmetric, and not invariant to the bins.

    Returns:
        At least 0; infinite where no bin has mass in both.

    Raises:
        ValueError: A set is empty, or `bins` is below 1.

    Example:
        >>> length_kl(np.array([1, 1, 2]), np.array([1, 2, 2]), bins=2)
        0.23104906018664842

    Differs from the paper: it states neither the direction nor the edges nor the smoothing of its
    Table 2; these come nearest to its figures.
    """
    edges = bin_edges(train, evaluation, bins=bins)
    p, _ = np.histogram(train, edges)
    q, _ = np.histogram(evaluation, edges)
    common = (p > 0) & (q > 0)
    if not common.any():
        return float("inf")
    p, q = p[common] / p[common].sum(), q[common] / q[common].sum()
    return max(0.0, float(np.sum(p * np.log(p / q))))
