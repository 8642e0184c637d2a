"""Metrics of the paper (section 4.1), as fractions 0..1, and a paired interval for differences."""

from __future__ import annotations

from typing import Literal

import numpy as np
from jaxtyping import Num, Shaped

Vector = Num[np.ndarray, " examples"]


def _pearson(x: Vector, y: Vector) -> float:
    # A constant can leave a rounding residue after centring, so constancy is tested before it.
    if np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    x, y = x - x.mean(), y - y.mean()
    # Scaled first: the squares of very small or large deviations would leave the float range.
    x, y = x / np.abs(x).max(), y / np.abs(y).max()
    return float(np.clip(x @ y / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def _ranks(values: Vector) -> Vector:
    """Ranks from 0; ties share the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    shared: Vector = (ends - (counts + 1) / 2)[inverse]
    return shared


Metric = Literal["accuracy", "accuracy_f1", "correlation", "answers", "label_sets"]
"""What tasks are judged by."""


def compute_metrics(
    metric: Metric,
    predictions: Shaped[np.ndarray, " examples"],
    labels: Shaped[np.ndarray, " examples"],
) -> dict[str, float]:
    """Scores by name, the headline first.

    `accuracy`; `accuracy_f1`: the mean of accuracy and F1 (of class 1), then both; `correlation`: the
    mean of Pearson's and Spearman's, then both; `answers`: the mean over all questions, over those with
    an answer and over those without; `label_sets`: the mean over all examples of the F1 of their labels.
    F1 is 0 where class 1 occurs neither in the predictions nor in the labels; a correlation is 0 where
    either side is constant.

    Args:
        metric: What is computed.
        predictions: Class index of each example, or the predicted value; for `answers` and `label_sets`
            the F1 of each.
        labels: The truth in the same form; for `answers` 1 where there is an answer.

    Raises:
        ValueError: There is no example, or the numbers of predictions and labels differ.

    Example:
        >>> compute_metrics("accuracy_f1", np.array([1, 1, 0, 0]), np.array([1, 0, 0, 0]))
        {'accuracy_f1': 0.7083333333333333, 'accuracy': 0.75, 'f1': 0.6666666666666666}
    """
    if len(predictions) != len(labels) or not len(labels):
        raise ValueError(f"{len(predictions)} predictions do not fit {len(labels)} labels")
    if metric == "correlation":
        x, y = np.asarray(predictions, dtype=np.float64), np.asarray(labels, dtype=np.float64)
        pearson, spearman = _pearson(x, y), _pearson(_ranks(x), _ranks(y))
        mean = (pearson + spearman) / 2
        return {"pearson_spearman": mean, "pearson": pearson, "spearman": spearman}
    if metric == "answers":
        groups = {
            "f1": np.ones(len(labels), dtype=bool),
            "has_answer_f1": labels == 1,
            "no_answer_f1": labels == 0,
        }
        return {name: float(predictions[x].mean()) for name, x in groups.items() if x.any()}
    if metric == "label_sets":
        return {"f1": float(predictions.mean())}
    accuracy = float(np.mean(predictions == labels))
    if metric == "accuracy":
        return {"accuracy": accuracy}
    hits = np.count_nonzero((predictions == 1) & (labels == 1))
    named = np.count_nonzero(predictions == 1) + np.count_nonzero(labels == 1)
    f1 = float(2 * hits / named) if named else 0.0
    return {"accuracy_f1": (accuracy + f1) / 2, "accuracy": accuracy, "f1": f1}


def paired_interval(
    metric: Metric,
    labels: Shaped[np.ndarray, " examples"],
    predictions_a: Shaped[np.ndarray, " examples"],
    predictions_b: Shaped[np.ndarray, " examples"],
    *,
    seed: int = 0,
    num_resamples: int = 2000,
    level: float = 0.95,
) -> tuple[float, float, float]:
    """Difference of the headline metric, a minus b, with a paired bootstrap interval.

    Examples are drawn with replacement, the same ones for both models, and the percentiles of the
    differences are the bounds. Spread over training seeds is not in it.

    Args:
        metric: What is computed.
        labels: The truth.
        predictions_a: What model a says about the same examples.
        predictions_b: What model b says.
        seed: Seed of the draws; equal seeds give equal bounds.
        num_resamples: Number of draws.
        level: Share of the draws between the bounds, 0..1.

    Returns:
        Difference, lower bound, upper bound; fractions.

    Raises:
        ValueError: There is no example, or the lengths differ.
    """

    def headline(predictions: Vector, truth: Vector) -> float:
        return next(iter(compute_metrics(metric, predictions, truth).values()))

    difference = headline(predictions_a, labels) - headline(predictions_b, labels)
    random = np.random.default_rng(seed)
    draws = np.empty(num_resamples)
    # Of accuracies the difference is a mean over examples, so a draw needs nothing but that.
    gains = (predictions_a == labels).astype(np.int64) - (predictions_b == labels)
    for i in range(num_resamples):
        index = random.integers(len(labels), size=len(labels))
        if metric == "accuracy":
            draws[i] = gains[index].sum() / len(labels)
        else:
            a, b, truth = predictions_a[index], predictions_b[index], labels[index]
            draws[i] = headline(a, truth) - headline(b, truth)
    low, high = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2])
    return difference, float(low), float(high)
