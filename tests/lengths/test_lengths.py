"""Statistics of lengths: SciPy's entropy as the reference, and the rule for edges and empty bins."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy, wasserstein_distance

from ltp_core.lengths.counts import (
    LengthCounts,
    ecdf,
    integer_edges,
    length_quantiles,
    share_longer,
)
from ltp_core.lengths.shift import (
    MAX_TOKEN_BINS,
    DivergenceRule,
    bin_counts,
    jensen_shannon,
    kl_bins,
    kl_divergence,
    rule_edges,
    wasserstein,
)
from ltp_core.tasks.catalogue import TASKS
from tests.length_lists import expanded, length_kl, length_quartiles

lengths = st.lists(st.integers(1, 512), min_size=1, max_size=200).map(np.array)
numbers_of_bins = st.integers(1, 60)


@given(lengths, lengths, numbers_of_bins)
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


@given(lengths, numbers_of_bins, st.integers(1, 5))
def test_kl_of_a_set_with_itself_is_zero(train: np.ndarray, bins: int, times: int) -> None:
    """Only the shape counts, not the number of examples."""
    assert length_kl(train, np.tile(train, times), bins=bins) == pytest.approx(0, abs=1e-12)


@given(lengths, lengths, numbers_of_bins, st.integers(-50, 50))
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
    pair = LengthCounts.of(np.array([4, 10])), LengthCounts.of(np.array([2, 8]))
    edges = rule_edges(*pair, DivergenceRule(bins=4))
    assert edges.tolist() == [2, 4, 6, 8, 10]


@given(lengths)
def test_quartiles_are_those_of_the_standard_library(values: np.ndarray) -> None:
    """Linear interpolation between the nearest two; the middle one is the median."""
    found = length_quartiles(LengthCounts.of(values))
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
        length_quartiles(LengthCounts.of(nothing))


# --- against slow loops ---------------------------------------------------------------------------


def kl_by_loops(train: Sequence[int], evaluation: Sequence[int], bins: int) -> float:
    """The rule in words: equal bins over the union, renormalised on the bins that both sides have."""
    low, high = min(*train, *evaluation), max(*train, *evaluation)
    width = (high - low) / bins
    if width == 0:
        return 0.0
    edges = [low + i * width for i in range(bins)]
    edges.append(high)
    p, q = [0] * bins, [0] * bins
    for counts, lengths in ((p, train), (q, evaluation)):
        for length in lengths:
            inside = [i for i in range(bins) if edges[i] <= length < edges[i + 1]]
            counts[inside[0] if inside else bins - 1] += 1
    common = [i for i in range(bins) if p[i] and q[i]]
    p_sum, q_sum = sum(p[i] for i in common), sum(q[i] for i in common)
    if not common:
        return math.inf
    return sum(p[i] / p_sum * math.log(p[i] / p_sum / (q[i] / q_sum)) for i in common)


@given(lengths, lengths, st.sampled_from([1, 2, 4, 8, 16, 32]))
def test_kl_equals_the_loops(train: np.ndarray, evaluation: np.ndarray, bins: int) -> None:
    """With binary fractions as widths no edge is rounded, so that both agree exactly."""
    expected = kl_by_loops(train.tolist(), evaluation.tolist(), bins)
    assert length_kl(train, evaluation, bins=bins) == pytest.approx(expected, abs=1e-12)


counted = st.lists(st.integers(0, 30), min_size=3, max_size=3).map(np.array)
FIRST, LAST = np.array([1, 0, 0]), np.array([0, 0, 1])
"""Added to `counted`, so that no set is empty."""


@given(counted, counted, st.floats(1e-6, 1))
def test_smoothed_kl_is_scipys_entropy(p: np.ndarray, q: np.ndarray, epsilon: float) -> None:
    """Added to the probabilities, not to the counts, and renormalised."""
    p, q = p + FIRST, q + LAST
    expected = entropy(p / p.sum() + epsilon, q / q.sum() + epsilon)
    assert kl_divergence(p, q, epsilon) == pytest.approx(expected, abs=1e-9)


def test_unsmoothed_kl_is_infinite_where_the_second_has_nothing() -> None:
    """`epsilon` 0 is the definition: by hand 0.5 ln 2 one way, infinite the other."""
    one, both = np.array([4, 0]), np.array([3, 3])
    assert kl_divergence(one, both, 0.0) == pytest.approx(math.log(2))
    assert kl_divergence(both, one, 0.0) == math.inf
    assert kl_divergence(both, one) == 0


@given(counted, counted)
def test_jensen_shannon_is_scipys_squared(p: np.ndarray, q: np.ndarray) -> None:
    """Symmetric, between 0 and ln 2."""
    p, q = p + FIRST, q + LAST
    found = float(jensen_shannon(p, q))
    assert found == pytest.approx(jensenshannon(p, q) ** 2, abs=1e-9)
    assert found == pytest.approx(float(jensen_shannon(q, p)), abs=1e-12)
    assert -1e-12 <= found <= math.log(2) + 1e-12


@given(lengths, lengths)
def test_wasserstein_is_scipys(train: np.ndarray, evaluation: np.ndarray) -> None:
    """In tokens, without bins."""
    found = wasserstein(LengthCounts.of(train), LengthCounts.of(evaluation))
    assert found == pytest.approx(wasserstein_distance(train, evaluation), abs=1e-9)


def test_wasserstein_of_a_shifted_set_is_the_shift() -> None:
    """Every input five tokens longer: five."""
    train = np.array([3, 4, 4, 9])
    assert wasserstein(LengthCounts.of(train), LengthCounts.of(train + 5)) == pytest.approx(5)
    with pytest.raises(ValueError, match="non-empty"):
        wasserstein(LengthCounts.of(train), LengthCounts.of(train[:0]))


@given(counted, counted, counted, counted)
def test_several_pairs_at_once_are_each_pair(
    a: np.ndarray, b: np.ndarray, c: np.ndarray, d: np.ndarray
) -> None:
    """Leading axes are pairs."""
    p, q = np.stack([a, b]) + FIRST, np.stack([c, d]) + LAST
    for epsilon in (None, 0.0, 1e-3):
        each = [float(kl_divergence(p[i], q[i], epsilon)) for i in range(2)]
        assert kl_divergence(p, q, epsilon).tolist() == pytest.approx(each)


# --- counts, quantiles, bins ----------------------------------------------------------------------


@given(lengths, st.lists(st.floats(0, 1), min_size=1, max_size=5))
def test_quantiles_of_counts_are_numpys(values: np.ndarray, levels: list[float]) -> None:
    """Linear interpolation, without expanding the counts."""
    found = length_quantiles(LengthCounts.of(values), *levels)
    assert list(found) == pytest.approx(np.quantile(values, levels).tolist())


@given(lengths)
def test_counts_are_the_lengths(values: np.ndarray) -> None:
    """Nothing is lost but the order."""
    counts = LengthCounts.of(values)
    assert expanded(counts).tolist() == sorted(values.tolist())
    assert counts.rows == len(values)


@given(lengths, lengths, st.sampled_from([None, 1, 7, 50]), st.booleans())
def test_every_length_lies_in_a_bin(
    train: np.ndarray, evaluation: np.ndarray, bins: int | None, from_zero: bool
) -> None:
    """Whatever the rule, all inputs are counted, and one bin a token holds one token."""
    first, second = LengthCounts.of(train), LengthCounts.of(evaluation)
    edges = rule_edges(first, second, DivergenceRule(bins=bins, from_zero=from_zero))
    assert bin_counts(first, edges).sum() == len(train)
    assert bin_counts(second, edges).sum() == len(evaluation)
    if bins is None:
        assert set(np.diff(edges)) == {1.0}
        assert bin_counts(first, edges).max() == first.count.max()
    if from_zero:
        assert edges[0] == (0 if bins else -0.5)


def test_token_bins_have_an_end() -> None:
    """A novel among tweets must not make a million bins."""
    counts = LengthCounts.of(np.array([3, 2_000_000]))
    edges = rule_edges(counts, counts, DivergenceRule(bins=None))
    assert len(edges) - 1 <= MAX_TOKEN_BINS + 1
    assert set(np.diff(edges)) == {489.0}


@given(st.integers(0, 10_000), st.integers(0, 10_000), st.integers(2, 80))
def test_drawn_bins_hold_equally_many_lengths(low: int, span: int, max_bins: int) -> None:
    """Whole numbers of tokens, so that no bin is favoured; all lengths lie inside."""
    edges = integer_edges(low, low + span, max_bins=max_bins)
    widths = set(np.diff(edges).tolist())
    assert len(widths) == 1
    assert str(widths.pop()).rstrip("0") in {"1", "2", "5"}
    assert edges[0] <= low
    assert edges[-2] <= low + span < edges[-1]
    assert len(edges) - 1 <= max_bins + 1


@given(lengths, lengths)
def test_cumulative_shares_by_definition(values: np.ndarray, grid: np.ndarray) -> None:
    """The fraction of inputs at most as long; what is longer than a limit is the rest."""
    counts, grid = LengthCounts.of(values), np.sort(grid)
    assert ecdf(counts, grid).tolist() == pytest.approx([np.mean(values <= x) for x in grid])
    assert share_longer(counts, int(grid[0])) == pytest.approx(np.mean(values > grid[0]))
