"""Metrics equal those of scikit-learn and SciPy; the paired interval has its properties."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import pearsonr, rankdata, spearmanr
from sklearn.metrics import accuracy_score, f1_score

from ltp_core.metrics import _ranks, compute_metrics, paired_interval
from ltp_core.tasks.catalogue import TASKS

HEADLINES = {"mrpc": "accuracy_f1", "qqp": "accuracy_f1", "stsb": "pearson_spearman"}

classes = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=1, max_size=60)
# Few values, so that ties occur.
scores = st.lists(st.tuples(st.integers(-3, 3), st.integers(0, 5)), min_size=3, max_size=60)


def columns(pairs: list[tuple[int, int]], kind: type = np.int64) -> tuple[np.ndarray, np.ndarray]:
    """Predictions and labels of pairs."""
    table = np.array(pairs, dtype=kind)
    return table[:, 0], table[:, 1]


@pytest.mark.parametrize("task", [name for name in TASKS if not TASKS[name].asks_questions])
def test_every_task_has_its_headline_first(task: str) -> None:
    """The first key is the paper's metric of the task, and a perfect answer has 1."""
    labels = np.array([0, 1, 1, 0, 1])
    metrics = TASKS[task].score(labels, labels)
    assert next(iter(metrics)) == HEADLINES.get(task, "accuracy")
    assert all(value == pytest.approx(1) for value in metrics.values())


@given(classes)
def test_accuracy_and_f1_are_those_of_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    """For mrpc and qqp the headline is their mean; without any positive F1 is 0."""
    predictions, labels = columns(pairs)
    metrics = compute_metrics("accuracy_f1", predictions, labels)
    accuracy = accuracy_score(labels, predictions)
    f1 = f1_score(labels, predictions, zero_division=0.0)
    assert metrics == pytest.approx(
        {"accuracy_f1": (accuracy + f1) / 2, "accuracy": accuracy, "f1": f1}
    )


@given(scores, st.floats(1e-3, 1e3), st.floats(-1e3, 1e3))
def test_correlations_are_those_of_scipy(
    pairs: list[tuple[int, int]], scale: float, shift: float
) -> None:
    """Ties included; where a side is constant SciPy has no value and the metric is 0."""
    predictions, labels = columns(pairs, np.float64)
    predictions = predictions * scale + shift
    metrics = compute_metrics("correlation", predictions, labels)
    if np.ptp(predictions) == 0 or np.ptp(labels) == 0:
        assert metrics == {"pearson_spearman": 0.0, "pearson": 0.0, "spearman": 0.0}
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # SciPy on nearly constant input
        pearson = pearsonr(predictions, labels).statistic
        spearman = spearmanr(predictions, labels).statistic
    assert metrics["pearson"] == pytest.approx(pearson, abs=1e-6)
    assert metrics["spearman"] == pytest.approx(spearman, abs=1e-9)
    assert metrics["pearson_spearman"] == (metrics["pearson"] + metrics["spearman"]) / 2


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40))
def test_ranks_are_mean_ranks(values: list[int]) -> None:
    """Equal values share the mean of their ranks."""
    array = np.array(values, dtype=np.float64)
    assert _ranks(array).tolist() == (rankdata(array) - 1).tolist()


@given(classes)
def test_metrics_are_fractions(pairs: list[tuple[int, int]]) -> None:
    """Never in percent."""
    for task in ("sst2", "mrpc"):
        assert all(0 <= m <= 1 for m in TASKS[task].score(*columns(pairs)).values())


@pytest.mark.parametrize("count", [0, 2])
def test_numbers_that_do_not_fit_are_an_error(count: int) -> None:
    """No metric of nothing, none of unlike lengths."""
    # Under the run-time shape check of the tests the shapes are refused first.
    with pytest.raises((ValueError, TypeError), match=r"do not fit|examples"):
        compute_metrics("accuracy", np.zeros(count, dtype=int), np.zeros(count // 2, dtype=int))


@given(classes, st.sampled_from(["sst2", "mrpc"]))
def test_a_model_does_not_differ_from_itself(pairs: list[tuple[int, int]], task: str) -> None:
    """Paired draws: difference and both bounds are exactly 0."""
    predictions, labels = columns(pairs)
    result = paired_interval(TASKS[task].metric, labels, predictions, predictions, num_resamples=20)
    assert result == (0.0, 0.0, 0.0)


def noisy(task: str, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, predictions of a good model and of a worse one."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, 2, 400)
    good = np.where(random.random(400) < 0.1, 1 - labels, labels)
    worse = np.where(random.random(400) < 0.2, 1 - labels, labels)
    if task == "stsb":
        return labels.astype(np.float64), good + random.random(400), worse + random.random(400)
    return labels, good, worse


@pytest.mark.parametrize("task", ["sst2", "mrpc", "stsb"])
def test_the_interval_holds_the_difference_and_changes_sign_with_the_order(task: str) -> None:
    """The same draws serve both, so swapping the models mirrors the interval."""
    labels, good, worse = noisy(task, 0)
    difference, low, high = paired_interval(
        TASKS[task].metric, labels, good, worse, num_resamples=300
    )
    mirrored = paired_interval(TASKS[task].metric, labels, worse, good, num_resamples=300)
    assert low < difference < high
    assert low > 0
    assert mirrored == pytest.approx((-difference, -high, -low), abs=1e-12)


def test_the_interval_for_accuracy_is_about_the_normal_one() -> None:
    """Mean ± 1.96 standard errors of the paired differences, in closed form."""
    labels, good, worse = noisy("sst2", 1)
    paired = (good == labels).astype(float) - (worse == labels)
    error = 1.96 * paired.std() / np.sqrt(len(paired))
    difference, low, high = paired_interval("accuracy", labels, good, worse)
    assert difference == pytest.approx(paired.mean())
    assert (low, high) == pytest.approx((difference - error, difference + error), abs=0.006)


def test_the_interval_follows_from_its_seed_and_widens_with_its_level() -> None:
    """Equal seeds give equal bounds; 0.99 includes 0.8."""
    labels, good, worse = noisy("sst2", 2)
    again = [paired_interval("accuracy", labels, good, worse, num_resamples=200) for _ in range(2)]
    assert again[0] == again[1]
    _, low, high = paired_interval("accuracy", labels, good, worse, num_resamples=200, level=0.8)
    _, lower, higher = paired_interval(
        "accuracy", labels, good, worse, num_resamples=200, level=0.99
    )
    assert lower < low < high < higher
