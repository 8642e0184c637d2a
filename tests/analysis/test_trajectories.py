"""Trajectories: monotone, sampled by length, histograms complete."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.analysis.trajectories import (
    correctness_correlations,
    fewer_tokens,
    mean_trajectory,
    remaining_histograms,
    spread_by_length,
    trajectories,
)
from tests import length_runs

LENGTH = length_runs.lengths()


def test_a_trajectory_starts_at_the_input() -> None:
    """Then what is left after each layer; it never rises."""
    records = length_runs.records(LENGTH, length_runs.layer_lengths("ltp", LENGTH))
    steps = trajectories(records)
    assert (120, 5) == steps.shape
    assert LENGTH.tolist() == steps[:, 0].tolist()
    assert (np.diff(steps, axis=1) <= 0).all()
    assert pytest.approx(steps.mean(axis=0)) == mean_trajectory(steps)


def test_a_layer_that_is_left_out_changes_nothing() -> None:
    """Neither in the middle nor at the end nor at the beginning."""
    kept = np.array([[0, 7, 0, 3, 0, 0]])
    records = length_runs.records(np.array([9]), kept)
    assert [[9, 9, 7, 7, 3, 3, 3]] == trajectories(records).tolist()


@given(st.lists(st.integers(1, 80), min_size=1, max_size=60), st.integers(1, 70))
def test_a_sample_is_spread_over_the_lengths(length: list[int], count: int) -> None:
    """Ascending, no example twice, the shortest first and the longest last."""
    chosen = spread_by_length(np.array(length), count)
    picked = [length[i] for i in chosen]
    assert min(count, len(length)) >= len(chosen) == len(set(chosen.tolist()))
    assert picked == sorted(picked)
    assert min(length) == picked[0]
    if count > 1:
        assert max(length) == picked[-1]
        assert min(count, len(length)) == len(chosen)


def test_a_sample_has_an_example() -> None:
    """None is no sample."""
    with pytest.raises(ValueError, match="at least one example"):
        spread_by_length(LENGTH, 0)


def test_fewer_tokens_by_hand() -> None:
    """30 tokens against 40 over the layers of both examples are a quarter fewer."""
    length = np.array([10, 20])
    a = length_runs.records(length, np.array([[8, 2], [15, 5]]))
    b = length_runs.records(length, np.array([[8, 8], [16, 8]]))
    assert pytest.approx(0.25) == fewer_tokens(a, b).value
    assert pytest.approx(-1 / 3) == fewer_tokens(b, a).value
    found = fewer_tokens(a, b)
    assert found.low < found.value < found.high
    same = fewer_tokens(a, a)
    assert (0, 0, 0) == (same.value, same.low, same.high)


def test_fewer_tokens_needs_common_examples() -> None:
    """Only rows that both have count."""
    length = np.array([10, 20])
    a = length_runs.records(length, np.array([[8, 2], [15, 5]]))
    shifted = length_runs.records(length, np.array([[8, 2], [15, 5]]), row=np.array([11, 12]))
    assert pytest.approx(1 - 20 / 10) == fewer_tokens(a, shifted).value
    with pytest.raises(ValueError, match="no example in common"):
        fewer_tokens(a, length_runs.records(length, a.ffn_length, row=a.row + 50))


@given(
    st.lists(
        st.tuples(st.integers(1, 500), st.integers(1, 500), st.booleans()), min_size=1, max_size=50
    ),
    st.integers(1, 30),
)
def test_histograms_hold_every_example_once(
    examples: list[tuple[int, int, bool]], max_bins: int
) -> None:
    """In each layer, right and wrong apart, in the bin that it belongs to."""
    steps = np.array([[a, b] for a, b, _ in examples])
    is_correct = np.array([c for *_, c in examples])
    found = remaining_histograms(steps, is_correct, max_bins=max_bins)
    assert 2 == len(found)
    for layer, histogram in enumerate(found):
        assert len(histogram.edges) - 1 <= max_bins
        assert 1 == len(set(np.diff(histogram.edges)))
        for counts, wanted in ((histogram.correct, is_correct), (histogram.incorrect, ~is_correct)):
            chosen = steps[wanted, layer]
            slow = [
                sum(low <= n < high for n in chosen)
                for low, high in zip(histogram.edges, histogram.edges[1:], strict=False)
            ]
            assert slow == counts.tolist()
            assert len(chosen) == counts.sum()


def test_correlations_are_by_layer() -> None:
    """The last layer's lengths are all 1, so nothing correlates there."""
    steps = np.stack([LENGTH, LENGTH // 2, np.ones(120, dtype=int)], axis=1)
    found = correctness_correlations(steps, LENGTH > 20)
    assert found[0]
    assert found[0].low > 0.5
    assert found[2] is None
