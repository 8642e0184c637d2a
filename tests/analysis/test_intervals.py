"""Intervals: known values, coverage of the value, and agreement with a plain bootstrap."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from ltp_core.analysis.intervals import (
    bootstrap_estimate,
    correlation_estimate,
    ratio_estimate,
    share_estimate,
)


@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_share_has_wilsons_interval(case: tuple[int, int]) -> None:
    """SciPy's, to rounding; the value is inside, and both bounds are shares."""
    hits, count = case
    found = share_estimate(hits, count)
    expected = stats.binomtest(hits, count).proportion_ci(0.95, method="wilson")
    assert pytest.approx((expected.low, expected.high), abs=1e-9) == (found.low, found.high)
    assert 0 <= found.low <= found.value == hits / count <= found.high <= 1


@pytest.mark.parametrize(("hits", "count"), [(0, 0), (3, 2), (-1, 4)])
def test_impossible_shares_are_refused(hits: int, count: int) -> None:
    """No examples, or more hits than examples."""
    with pytest.raises(ValueError, match="hits of"):
        share_estimate(hits, count)


def test_ratio_is_of_sums_and_its_interval_is_that_of_a_bootstrap() -> None:
    """Long examples count more; the closed form agrees with resampling to a tenth of its width."""
    random = np.random.default_rng(0)
    whole = random.integers(5, 200, 400).astype(float)
    part = whole * random.uniform(0.2, 0.9, 400)
    found = ratio_estimate(part, whole)
    assert part.sum() / whole.sum() == found.value
    slow = bootstrap_estimate(lambda i: float(part[i].sum() / whole[i].sum()), 400)
    width = found.high - found.low
    assert abs(found.low - slow.low) < 0.1 * width
    assert abs(found.high - slow.high) < 0.1 * width


def test_ratio_of_equal_parts_is_certain() -> None:
    """Nothing varies, so nothing is uncertain; no examples are no ratio."""
    whole = np.array([3, 4, 9])
    found = ratio_estimate(whole, whole)
    assert (1.0, 1.0, 1.0) == (found.value, found.low, found.high)
    with pytest.raises(ValueError, match="not 0"):
        ratio_estimate(np.array([], dtype=int), np.array([], dtype=int))


def test_correlation_has_fishers_interval() -> None:
    """SciPy's, and None where there is nothing to correlate."""
    random = np.random.default_rng(1)
    x = random.integers(0, 50, 80)
    y = (random.random(80) < 0.5).astype(float)
    found = correlation_estimate(x, y)
    assert found
    expected = stats.pearsonr(x, y)
    interval = expected.confidence_interval(0.95)
    assert pytest.approx(expected.statistic) == found.value
    assert pytest.approx((interval.low, interval.high)) == (found.low, found.high)
    assert correlation_estimate(x, np.ones(80)) is None
    assert correlation_estimate(x[:3], y[:3]) is None
    perfect = correlation_estimate(x, x)
    assert perfect
    assert pytest.approx((1.0, 1.0)) == (perfect.low, perfect.high)


def test_bootstrap_is_repeatable() -> None:
    """Equal seeds, equal bounds; another seed, others."""
    values = np.random.default_rng(2).normal(size=50)

    def mean(index: np.ndarray) -> float:
        return float(values[index].mean())

    assert bootstrap_estimate(mean, 50) == bootstrap_estimate(mean, 50)
    assert bootstrap_estimate(mean, 50).low != bootstrap_estimate(mean, 50, seed=1).low
    with pytest.raises(ValueError, match="at least one example"):
        bootstrap_estimate(mean, 0)
