"""Training against evaluation lengths: the summary, and what chance alone gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.lengths import shift as lengths_shift
from ltp_core.lengths.counts import LengthCounts
from ltp_core.lengths.shift import KL, MEASURES, WASSERSTEIN, DivergenceRule, compare, summarize
from tests.length_lists import length_kl

lengths = st.lists(st.integers(1, 300), min_size=1, max_size=100).map(np.array)


def drawn(mean: float, rows: int, seed: int) -> LengthCounts:
    """Lengths that look like sentences'."""
    random = np.random.default_rng(seed)
    return LengthCounts.of(random.lognormal(np.log(mean), 0.4, rows).astype(int) + 2)


@given(lengths)
def test_summary_is_numpys(values: np.ndarray) -> None:
    """Extremes, quartiles, 99th percentile and mean of the expanded lengths."""
    found = summarize(LengthCounts.of(values))
    levels = np.quantile(values, (0, 0.25, 0.5, 0.75, 0.99, 1)).tolist()
    assert [found.least, found.q1, found.q2, found.q3, found.p99, found.greatest] == (
        pytest.approx(levels)
    )
    assert (found.rows, found.mean) == (len(values), pytest.approx(values.mean()))


@given(lengths, lengths)
def test_the_parts_belong_together(train: np.ndarray, evaluation: np.ndarray) -> None:
    """KL is that of `length_kl`; shares are fractions; floors are there for every measure."""
    first, second = LengthCounts.of(train), LengthCounts.of(evaluation)
    shift = compare(first, second, DivergenceRule(bins=20), resamples=20)
    assert shift.measures[KL] == length_kl(train, evaluation, bins=20)
    assert shift.floors is not None
    assert set(MEASURES) == set(shift.measures) == set(shift.floors)
    assert all(value >= 0 for value in shift.measures.values())
    assert shift.share_longer_than_p99 == np.mean(evaluation > np.quantile(train, 0.99))
    for share in (shift.train_left_out, shift.evaluation_left_out):
        assert 0 <= share <= 1
    for floor in shift.floors.values():
        assert floor.median <= floor.high
        assert 0 <= floor.share_as_great <= 1
    assert compare(first, second, DivergenceRule(bins=20), resamples=0).floors is None


def test_left_out_by_hand() -> None:
    """Of 4 training inputs one lies alone in the last of two bins, of 2 evaluation inputs none."""
    shift = compare(
        LengthCounts.of(np.array([1, 1, 2, 9])),
        LengthCounts.of(np.array([1, 3])),
        DivergenceRule(bins=2),
        resamples=0,
    )
    assert (0.25, 0.0) == (shift.train_left_out, shift.evaluation_left_out)
    assert (2, 1.0, 9.0) == (shift.num_bins, shift.low, shift.high)


def test_the_floor_of_kl_is_what_theory_says() -> None:
    """For full bins near (bins − 1)/2 · (1/n + 1/m), half a chi-squared variable."""
    uniform = LengthCounts.of(np.repeat(np.arange(20), 500))
    evaluation = LengthCounts.of(np.repeat(np.arange(20), 50))
    shift = compare(uniform, evaluation, DivergenceRule(bins=20), resamples=2_000)
    assert shift.floors is not None
    mean = 19 / 2 * (1 / 10_000 + 1 / 1_000)
    # Median and 95th percentile of chi-squared with 19 degrees of freedom, as multiples of its mean.
    assert shift.floors[KL].median == pytest.approx(mean * 18.34 / 19, rel=0.05)
    assert shift.floors[KL].high == pytest.approx(mean * 30.14 / 19, rel=0.05)


def test_sets_from_one_source_stay_below_the_floor_and_shifted_ones_do_not() -> None:
    """About 1 in 20 unshifted pairs exceeds it; a shift by a fifth is always seen."""
    train = drawn(25, 5_000, 0)
    for measure in MEASURES:
        beyond = 0
        for seed in range(1, 41):
            shift = compare(train, drawn(25, 400, seed), DivergenceRule(), resamples=200)
            assert shift.floors is not None
            beyond += shift.measures[measure] > shift.floors[measure].high
        assert beyond <= 6, measure
        shifted = compare(train, drawn(30, 400, 99), DivergenceRule(), resamples=200)
        assert shifted.floors is not None
        assert shifted.measures[measure] > shifted.floors[measure].high
        assert shifted.floors[measure].share_as_great == 0


def test_the_same_sets_have_the_same_floor() -> None:
    """Draws come from a seed."""
    pair = drawn(25, 1_000, 0), drawn(25, 200, 1)
    assert compare(*pair, DivergenceRule()).floors == compare(*pair, DivergenceRule()).floors


def test_many_lengths_are_taken_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """The floor of the Wasserstein distance hardly moves when neighbours share their middle."""
    pair = drawn(400, 3_000, 0), drawn(400, 300, 1)
    exact = compare(*pair, DivergenceRule()).floors
    monkeypatch.setattr(lengths_shift, "MAX_DISTINCT", 100)
    coarse = compare(*pair, DivergenceRule()).floors
    assert exact is not None
    assert coarse is not None
    assert coarse[KL] == exact[KL]
    assert coarse[WASSERSTEIN].median == pytest.approx(exact[WASSERSTEIN].median, rel=0.1)
