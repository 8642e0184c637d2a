"""Statistics of lengths: SciPy's entropy as the reference, and the rule for edges and empty bins."""

from __future__ import annotations

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import entropy

from ltp_core.data.lengths import bin_edges, kl_bins, length_kl, length_quartiles
from ltp_core.data.tasks import TASKS

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=200).map(np.array)
bin_counts = st.integers(1, 60)


@given(lengths, lengths, bin_counts)
def test_kl_is_scipys_entropy_on_the_common_bins(
    train: np.ndarray, evaluation: np.ndarray, bins: int
) -> None:
    """SciPy renormalises both sides by itself; bins that one side lacks are left out."""
    low, high = min(train.min(), evaluation.min()), max(train.max(), evaluation.max())
    p, _ = np.histogram(train, bins, range=(low, high))
    q, _ = np.histogram(evaluation, bins, range=(low, high))
    common = (p > 0) & (q > 0)
    kl = length_kl(train, evaluation, bins=bins)
    if common.any():
        assert kl == pytest.approx(entropy(p[common], q[common]), abs=1e-12)
    else:
        assert kl == float("inf")


@given(lengths, bin_counts, st.integers(1, 5))
def test_kl_of_a_set_with_itself_is_zero(train: np.ndarray, bins: int, times: int) -> None:
    """Only the shape counts, not the number of examples."""
    assert length_kl(train, np.tile(train, times), bins=bins) == pytest.approx(0, abs=1e-12)


@given(lengths, lengths, bin_counts, st.integers(-50, 50))
def test_kl_is_not_negative_and_does_not_depend_on_the_origin(
    train: np.ndarray, evaluation: np.ndarray, bins: int, shift: int
) -> None:
    """Bins begin at the least length, so a constant added to all lengths changes nothing."""
    kl = length_kl(train, evaluation, bins=bins)
    assert kl >= 0
    if bins & (bins - 1) == 0:
        # Other numbers of bins put lengths on rounded edges, which move with the origin.
        assert length_kl(train + shift, evaluation + shift, bins=bins) == pytest.approx(kl)


def test_kl_has_a_direction() -> None:
    """KL(train ‖ evaluation) by hand: 0.75 ln(0.75/0.25) + 0.25 ln(0.25/0.75), and 3:1 against 1:1."""
    train, even = np.array([1, 1, 1, 9]), np.array([1, 9])
    assert length_kl(train, even, bins=2) == pytest.approx(
        0.75 * np.log(1.5) + 0.25 * np.log(0.5), abs=1e-12
    )
    assert length_kl(even, train, bins=2) == pytest.approx(
        0.5 * np.log(0.5 / 0.75) + 0.5 * np.log(2), abs=1e-12
    )


def test_kl_of_sets_that_do_not_meet_is_infinite() -> None:
    """Neither an error nor a small number."""
    assert length_kl(np.array([1, 2]), np.array([100]), bins=20) == float("inf")


def test_one_length_only_is_no_special_case() -> None:
    """All lengths equal: no width to divide, and no divergence."""
    assert length_kl(np.array([7, 7]), np.array([7]), bins=20) == 0


def test_edges_span_both_sets() -> None:
    """From the least to the greatest length of the union, equally wide."""
    edges = bin_edges(np.array([4, 10]), np.array([2, 8]), bins=4)
    assert edges.tolist() == [2, 4, 6, 8, 10]


@given(lengths)
def test_quartiles_are_those_of_the_standard_library(values: np.ndarray) -> None:
    """Linear interpolation between the nearest two; the middle one is the median."""
    found = length_quartiles(values)
    # statistics.quantiles wants two values; doubling a single one changes no quartile.
    data = [int(n) for n in values] * (2 if len(values) == 1 else 1)
    assert list(found) == pytest.approx(statistics.quantiles(data, n=4, method="inclusive"))
    assert found[1] == np.median(values)


def test_bins_are_those_of_the_paper() -> None:
    """Table 2: 20 for rte, mrpc and stsb, 50 for the others."""
    assert {task for task in TASKS if kl_bins(task) == 20} == {"rte", "mrpc", "stsb"}
    assert {kl_bins(task) for task in TASKS} == {20, 50}


@pytest.mark.parametrize("empty_first", [True, False])
def test_an_empty_set_is_an_error(empty_first: bool) -> None:
    """No statistic of nothing."""
    nothing, something = np.empty(0, dtype=int), np.array([3])
    pair = (nothing, something) if empty_first else (something, nothing)
    with pytest.raises(ValueError, match="non-empty"):
        length_kl(*pair, bins=3)
    with pytest.raises(ValueError, match="at least one"):
        length_quartiles(nothing)
