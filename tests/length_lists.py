"""Statistics of plain lists of lengths, one an input: what tests compare with other programs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Num

from ltp_core.lengths.counts import LengthCounts, length_quantiles
from ltp_core.lengths.shift import DivergenceRule, bin_counts, kl_divergence, rule_edges


def expanded(counts: LengthCounts) -> Num[np.ndarray, " examples"]:
    """One length an input, ascending."""
    return np.repeat(counts.length, counts.count)


def length_quartiles(counts: LengthCounts) -> tuple[float, ...]:
    """Q1, Q2 and Q3 in tokens."""
    return length_quantiles(counts, 0.25, 0.5, 0.75)


def length_kl(
    train: Num[np.ndarray, " train"], evaluation: Num[np.ndarray, " evaluation"], *, bins: int
) -> float:
    """KL(train ‖ evaluation) in nats on equal bins from the least to the greatest of both."""
    first, second = LengthCounts.of(train), LengthCounts.of(evaluation)
    edges = rule_edges(first, second, DivergenceRule(bins=bins))
    return float(kl_divergence(bin_counts(first, edges), bin_counts(second, edges)))
