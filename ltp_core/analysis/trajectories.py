"""Lengths through the layers over a data set (Figures A.2 and A.3).

A trajectory has the tokens of the input and those live after each layer. Axes: `examples`,
`steps` (the number of layers and one).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from ltp_core.analysis.example_records import ExampleRecords
from ltp_core.analysis.intervals import Estimate, correlation_estimate, ratio_estimate

PAPER_FEWER_TOKENS = {"mnli": 0.2586, "sst2": 0.1208}
"""Section A.3.1: fraction by which LTP computes fewer tokens per layer than LAT (mnli: matched)."""


@dataclass(frozen=True, kw_only=True)
class Histogram:
    """Remaining lengths of one layer, those of right and wrong predictions apart.

    Attributes:
        edges: Bounds of the bins in tokens; a bin holds its lower bound and not its upper one.
        correct: Examples with a right prediction by bin.
        incorrect: The others.
    """

    edges: Int[np.ndarray, " edges"]
    correct: Int[np.ndarray, " bins"]
    incorrect: Int[np.ndarray, " bins"]


def trajectories(records: ExampleRecords) -> Int[np.ndarray, "examples steps"]:
    """Tokens at the input and after each layer. A layer that is left out changes nothing."""
    steps = np.concatenate([records.length[:, None], records.ffn_length], axis=1)
    for layer in range(1, steps.shape[1]):
        # A layer that runs keeps at least one token, so 0 can only mean that it did not run.
        steps[:, layer] = np.where(steps[:, layer] == 0, steps[:, layer - 1], steps[:, layer])
    return steps


def spread_by_length(
    length: Int[np.ndarray, " examples"], count: int
) -> Int[np.ndarray, " chosen"]:
    """Positions of a sample sorted by length: the shortest, the longest, and evenly between by rank.

    Raises:
        ValueError: The count is below 1.
    """
    if count < 1:
        raise ValueError(f"a sample has at least one example, not {count}")
    order = np.argsort(length, kind="stable").astype(np.int64)
    ranks = np.linspace(0, len(order) - 1, min(count, len(order)))
    return order[np.unique(np.round(ranks).astype(np.int64))]


def mean_trajectory(steps: Int[np.ndarray, "examples steps"]) -> Float[np.ndarray, " steps"]:
    """Mean number of tokens at the input and after each layer."""
    return np.asarray(steps.mean(axis=0))


def fewer_tokens(a: ExampleRecords, b: ExampleRecords) -> Estimate:
    """Fraction by which a computes fewer tokens per layer than b, over the examples that both have.

    Tokens of a layer are those that go through its FFN; summed over examples and layers before
    division. Negative where a computes more.

    Differs from the paper: section A.3.1 does not say which tokens of a layer it counts.

    Raises:
        ValueError: They have no example in common.
    """
    _, in_a, in_b = np.intersect1d(a.row, b.row, return_indices=True)
    if not len(in_a):
        raise ValueError(f"{a.name} and {b.name} have no example in common")
    ratio = ratio_estimate(a.ffn_length[in_a].sum(axis=1), b.ffn_length[in_b].sum(axis=1))
    return Estimate(value=1 - ratio.value, low=1 - ratio.high, high=1 - ratio.low)


def remaining_histograms(
    steps: Int[np.ndarray, "examples steps"],
    is_correct: Bool[np.ndarray, " examples"],
    *,
    max_bins: int = 24,
) -> list[Histogram]:
    """One histogram for the input and one after each layer, each on whole tokens (Figure A.3).

    Args:
        steps: Trajectories.
        is_correct: Whether each prediction is right.
        max_bins: Bins at most; they hold equally many lengths, one or more.
    """
    histograms = []
    for length in steps.T:
        low, high = int(length.min()), int(length.max())
        width = -(-(high - low + 1) // max_bins)
        edges = np.arange(low, high + width + 1, width)
        correct, _ = np.histogram(length[is_correct], edges)
        incorrect, _ = np.histogram(length[~is_correct], edges)
        histograms.append(Histogram(edges=edges, correct=correct, incorrect=incorrect))
    return histograms


def correctness_correlations(
    steps: Int[np.ndarray, "examples steps"], is_correct: Bool[np.ndarray, " examples"]
) -> list[Estimate | None]:
    """Correlation of remaining length and correctness at the input and after each layer."""
    right: Num[np.ndarray, " examples"] = is_correct.astype(np.float64)
    return [correlation_estimate(column, right) for column in steps.T]
