"""Training against evaluation lengths: everything that Table 2 and Figure 1 say about a pair of sets.

Axes: `resamples` pairs of sets that were drawn, `kinds` bins or lengths, `bins` bins.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Num

from ltp_core.lengths.statistics import (
    DivergenceRule,
    LengthCounts,
    bin_counts,
    jensen_shannon,
    kl_divergence,
    length_quantiles,
    rule_edges,
    share_longer,
    wasserstein,
)

KL, REVERSE_KL = "kl_train_to_evaluation", "kl_evaluation_to_train"
JENSEN_SHANNON, WASSERSTEIN = "jensen_shannon", "wasserstein"
MEASURES = (KL, REVERSE_KL, JENSEN_SHANNON, WASSERSTEIN)

RESAMPLES = 500
HIGH = 0.95
MAX_DISTINCT = 4_096
"""Different lengths that are drawn from; where there are more, neighbours are taken together."""


@dataclass(frozen=True, kw_only=True)
class LengthSummary:
    """One set of lengths in tokens: number of inputs, extremes, quartiles, 99th percentile, mean."""

    rows: int
    least: float
    q1: float
    q2: float
    q3: float
    p99: float
    greatest: float
    mean: float


@dataclass(frozen=True, kw_only=True)
class Floor:
    """What a measure comes to by chance, where both sets are drawn from one distribution.

    Attributes:
        median: Of the resamples.
        high: Their 95th percentile.
        share_as_great: Fraction of them that come at least to the measured value.
    """

    median: float
    high: float
    share_as_great: float


@dataclass(frozen=True, kw_only=True)
class LengthShift:
    """How far evaluation lengths are from training lengths.

    Attributes:
        train: Training lengths.
        evaluation: Evaluation lengths.
        rule: Bins and smoothing behind the divergences.
        num_bins: Bins that the rule comes to.
        low: First edge, in tokens.
        high: Last edge, in tokens.
        measures: By `MEASURES`: the divergences in nats, the Wasserstein distance in tokens.
        floors: What chance alone gives, by measure; None where it was not asked for.
        share_longer_than_p99: Fraction of the evaluation inputs longer than the training set's 99th
            percentile; 0.01 where nothing shifts.
        train_left_out: Fraction of the training inputs in bins that evaluation lacks.
        evaluation_left_out: Fraction of the evaluation inputs in bins that training lacks.
    """

    train: LengthSummary
    evaluation: LengthSummary
    rule: DivergenceRule
    num_bins: int
    low: float
    high: float
    measures: dict[str, float]
    floors: dict[str, Floor] | None
    share_longer_than_p99: float
    train_left_out: float
    evaluation_left_out: float


def summarize(counts: LengthCounts) -> LengthSummary:
    """Quartiles and extremes of a set.

    Raises:
        ValueError: It is empty.
    """
    q1, q2, q3, p99 = length_quantiles(counts, 0.25, 0.5, 0.75, 0.99)
    return LengthSummary(
        rows=counts.rows,
        least=float(counts.length[0]),
        q1=q1,
        q2=q2,
        q3=q3,
        p99=p99,
        greatest=float(counts.length[-1]),
        mean=float(np.average(counts.length, weights=counts.count)),
    )


def compare(
    train: LengthCounts,
    evaluation: LengthCounts,
    rule: DivergenceRule,
    *,
    resamples: int = RESAMPLES,
) -> LengthShift:
    """Everything about a pair of sets.

    Args:
        train: Training lengths.
        evaluation: Evaluation lengths.
        rule: Bins and smoothing.
        resamples: Pairs that are drawn for the floors; 0 leaves the floors out.

    Raises:
        ValueError: A set is empty.
    """
    edges = rule_edges(train, evaluation, rule)
    p, q = bin_counts(train, edges), bin_counts(evaluation, edges)
    found = {k: float(v) for k, v in _binned_measures(p, q, rule.epsilon).items()}
    found[WASSERSTEIN] = wasserstein(train, evaluation)
    summary = summarize(train)
    return LengthShift(
        train=summary,
        evaluation=summarize(evaluation),
        rule=rule,
        num_bins=len(edges) - 1,
        low=float(edges[0]),
        high=float(edges[-1]),
        measures=found,
        floors=sampling_floors(train, evaluation, rule, found, resamples) if resamples else None,
        share_longer_than_p99=share_longer(evaluation, summary.p99),
        train_left_out=float(p[q == 0].sum() / train.rows),
        evaluation_left_out=float(q[p == 0].sum() / evaluation.rows),
    )


def _binned_measures(
    p: Num[np.ndarray, "*sets bins"], q: Num[np.ndarray, "*sets bins"], epsilon: float | None
) -> dict[str, Float[np.ndarray, "*sets"]]:
    return {
        KL: kl_divergence(p, q, epsilon),
        REVERSE_KL: kl_divergence(q, p, epsilon),
        JENSEN_SHANNON: jensen_shannon(p, q),
    }


def sampling_floors(
    train: LengthCounts,
    evaluation: LengthCounts,
    rule: DivergenceRule,
    measured: Mapping[str, float],
    resamples: int = RESAMPLES,
    *,
    seed: int = 0,
) -> dict[str, Floor]:
    """What each measure comes to where there is no shift at all.

    Two sets of the true sizes are drawn from the training lengths again and again, and compared in
    the same bins as the true ones. For KL and small samples the result is near
    (bins − 1)/2 · (1/train rows + 1/evaluation rows).

    Args:
        train: Training lengths.
        evaluation: Evaluation lengths; they give the bins and the size.
        rule: Bins and smoothing.
        measured: The true values, by measure.
        resamples: How many pairs are drawn.
        seed: Seed of the draws.
    """
    random = np.random.default_rng(seed)
    sizes = train.rows, evaluation.rows
    edges = rule_edges(train, evaluation, rule)
    p, q = _draw(bin_counts(train, edges), sizes, resamples, random)
    values = _binned_measures(p, q, rule.epsilon)
    lengths = _coarse(train)
    p, q = (np.cumsum(drawn, axis=1) for drawn in _draw(lengths.count, sizes, resamples, random))
    gaps = np.abs(p / train.rows - q / evaluation.rows)
    values[WASSERSTEIN] = gaps[:, :-1] @ np.diff(lengths.length)
    return {name: _floor(values[name], measured[name]) for name in MEASURES}


def _draw(
    counts: Int[np.ndarray, " kinds"],
    sizes: tuple[int, int],
    resamples: int,
    random: np.random.Generator,
) -> list[Int[np.ndarray, "resamples kinds"]]:
    """Counts of `resamples` sets of each size, drawn with replacement."""
    return [random.multinomial(size, counts / counts.sum(), resamples) for size in sizes]


def _coarse(counts: LengthCounts) -> LengthCounts:
    """The same with at most `MAX_DISTINCT` lengths: neighbours share the middle of their stretch."""
    span = counts.length[-1] - counts.length[0] + 1
    if len(counts.length) <= MAX_DISTINCT:
        return counts
    width = -int(-span // MAX_DISTINCT)
    group = (counts.length - counts.length[0]) // width
    number, where = np.unique(group, return_inverse=True)
    middle = counts.length[0] + number * width + (width - 1) / 2
    return LengthCounts(length=middle, count=np.bincount(where, counts.count).astype(np.int64))


def _floor(values: Float[np.ndarray, " resamples"], measured: float) -> Floor:
    return Floor(
        median=float(np.median(values)),
        high=float(np.quantile(values, HIGH, method="higher")),
        share_as_great=float(np.mean(values >= measured)),
    )
