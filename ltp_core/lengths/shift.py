"""Training against evaluation lengths: the divergences and Table 2 of the paper, as one document.

Axes: `bins` bins of a histogram; `sets` pairs of sets; `resamples` pairs of sets that were drawn, `kinds`
bins or lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from ltp_core.lengths.counts import (
    LengthCounts,
    LengthSet,
    SplitLengths,
    ecdf,
    length_quantiles,
    share_longer,
)

MAX_TOKEN_BINS = 4_096
"""Bins of `DivergenceRule.bins = None`; sets that span more tokens get wider ones."""


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
    return 20 if task in {"rte", "mrpc", "stsb"} else 50


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
    # Lengths outside of all bins go to the nearest one.
    index = np.clip(np.searchsorted(edges, counts.length, side="right") - 1, 0, len(edges) - 2)
    binned = np.zeros(len(edges) - 1, dtype=np.int64)
    np.add.at(binned, index, counts.count)
    return binned


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
    return {
        name: Floor(
            median=float(np.median(values[name])),
            high=float(np.quantile(values[name], HIGH, method="higher")),
            share_as_great=float(np.mean(values[name] >= measured[name])),
        )
        for name in MEASURES
    }


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


Quartiles = tuple[int, int, int]


@dataclass(frozen=True)
class Table2Row:
    """One line of the paper's Table 2, in RoBERTa's tokens.

    Attributes:
        label: Name of the task there.
        task: Our name of the task.
        train: Q1, Q2 and Q3 of the training lengths.
        evaluation: The same of the evaluation lengths.
        kl: Divergence of the two, in nats as far as can be told; the paper states neither the
            direction nor the edges of its bins nor its smoothing.
        split: Our name of the evaluation split.
    """

    label: str
    task: str
    train: Quartiles
    evaluation: Quartiles
    kl: float
    split: str = "validation"


TABLE_2: tuple[Table2Row, ...] = (
    Table2Row("MNLI-m", "mnli", (27, 38, 50), (26, 37, 50), 0.0055),
    Table2Row("MNLI-mm", "mnli", (27, 38, 50), (29, 39, 51), 0.0042, "validation_mismatched"),
    Table2Row("QQP", "qqp", (23, 28, 36), (23, 28, 36), 0.0006),
    Table2Row("QNLI", "qnli", (39, 48, 59), (39, 49, 61), 0.0092),
    Table2Row("SST-2", "sst2", (7, 11, 19), (18, 25, 33), 1.2250),
    Table2Row("STS-B", "stsb", (20, 24, 32), (21, 29, 41), 0.0925),
    Table2Row("MRPC", "mrpc", (45, 54, 63), (45, 54, 64), 0.0033),
    Table2Row("RTE", "rte", (44, 57, 86), (42, 54, 78), 0.0261),
)
"""Source: Kim et al., Learned Token Pruning for Transformers, KDD 2022, Table 2."""


def table_2_row(task: str, split: str) -> Table2Row | None:
    """The paper's line for a task and evaluation split, if it has one."""
    return next((row for row in TABLE_2 if (row.task, row.split) == (task, split)), None)


TRAIN = "train"
EVALUATION_SPLITS = ("validation", "validation_matched", "dev", "test")
"""What the evaluation split of own data may be called, the likeliest first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One split of stored counts."""

    counts: LengthSet
    split: str

    @property
    def lengths(self) -> SplitLengths:
        """Its lengths."""
        return self.counts.splits[self.split]

    @property
    def name(self) -> str:
        """Data set and split, `sst2/train`."""
        return f"{self.counts.name}/{self.split}"


def training_split(counts: LengthSet) -> str:
    """The split that stands for training: `train`, else the first one."""
    return TRAIN if TRAIN in counts.splits else next(iter(counts.splits))


def evaluation_split(counts: LengthSet) -> str | None:
    """The split that is compared with training by default; None where there is only one."""
    others = [name for name in counts.splits if name != training_split(counts)]
    usual = (name for name in EVALUATION_SPLITS if name in others)
    return next(usual, next(iter(others), None))


def default_rule(train: LengthSet) -> DivergenceRule:
    """The paper's number of bins where it says one, else 50; bins both sides have."""
    return DivergenceRule(bins=kl_bins(train.name if train.is_task else ""))


def paper_row(train: Side, evaluation: Side | None) -> Table2Row | None:
    """The paper's line of Table 2 for this pair, if it has one."""
    if evaluation is None or not train.counts.is_task or train.split != TRAIN:
        return None
    is_one_task = evaluation.counts.is_task and evaluation.counts.name == train.counts.name
    return table_2_row(train.counts.name, evaluation.split) if is_one_task else None


def document(train: Side, evaluation: Side | None, shift: LengthShift | None) -> dict[str, Any]:
    """Everything as JSON's own types, arrays and dataclasses apart: fractions 0 to 1, tokens, nats.

    Args:
        train: What stands for training.
        evaluation: What it is compared with; None where there is nothing.
        shift: How far they are apart.
    """
    paper = paper_row(train, evaluation)
    return {
        "tokenizer": asdict(train.counts.tokenizer),
        "train": _side(train),
        "evaluation": None if evaluation is None else _side(evaluation),
        "shift": None if shift is None else asdict(shift),
        "paper": None if paper is None else asdict(paper),
    }


def _side(side: Side) -> dict[str, Any]:
    lengths = side.lengths
    return {
        "data": side.counts.name,
        "split": side.split,
        "key": side.counts.key,
        "columns": list(side.counts.columns),
        "lengths": asdict(summarize(lengths.counts)),
        "source": lengths.source,
        "sha256": lengths.sha256,
        "published_rows": lengths.published_rows,
        "is_published": lengths.is_published,
        "left_out": lengths.left_out,
        "created_at": side.counts.created_at,
    }


def counts_table(sides: Iterable[Side]) -> list[dict[str, Any]]:
    """One row a length of each side: data, split, length, count."""
    return [
        {"data": side.counts.name, "split": side.split, "length": length, "count": count}
        for side in sides
        for length, count in zip(
            side.lengths.counts.length.tolist(), side.lengths.counts.count.tolist(), strict=True
        )
    ]
