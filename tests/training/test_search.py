"""LAT's search, on made-up qualities: a true front, within its limits, the same every time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.flops import relative_flops
from ltp_core.records import UserError
from ltp_core.training.search import (
    Candidate,
    SearchSpace,
    best_within,
    cross,
    length_cost,
    pareto_front,
    search,
)

ROWS = np.array([3, 5, 8, 8, 12, 20])
COST = length_cost(ROWS, hidden=16, intermediate=24)
Lengths = tuple[int, ...]


def space(num_layers: int = 4, initial_length: int = 16) -> SearchSpace:
    """Configurations of a small model on the rows above."""
    return SearchSpace(initial_length=initial_length, num_layers=num_layers, cost=COST)


def measured(seen: list[Lengths]) -> Callable[[Lengths], Candidate]:
    """Measures by a formula, in which the third layer's tokens count most; remembers what it saw."""

    def measure(lengths: Lengths) -> Candidate:
        seen.append(lengths)
        worth = float(np.log(lengths).sum() + 3 * np.log(lengths[2]))
        return Candidate(
            lengths=lengths, relative_flops=COST(lengths), metric=round(worth, 1), loss=-worth
        )

    return measure


def made(cost: float, metric: float, loss: float = 0.0, length: int = 1) -> Candidate:
    """A candidate with these figures."""
    return Candidate(lengths=(length,), relative_flops=cost, metric=metric, loss=loss)


def beats(one: Candidate, other: Candidate) -> bool:
    """At most as dear, at least as good, and one of them truly."""
    is_no_worse = one.relative_flops <= other.relative_flops and one.quality >= other.quality
    return is_no_worse and (one.relative_flops, one.quality) != (
        other.relative_flops,
        other.quality,
    )


figures = st.lists(
    st.tuples(
        st.sampled_from([0.2, 0.4, 0.4, 0.5, 0.9]),
        st.sampled_from([0.5, 0.7, 0.8]),
        st.sampled_from([0.1, 0.2]),
        st.integers(1, 5),
    ),
    min_size=1,
    max_size=12,
)
"""Cost, metric, loss and length of some candidates."""
Figures = list[tuple[float, float, float, int]]


@given(figures)
def test_the_front_holds_what_nothing_beats(drawn: Figures) -> None:
    """No member is beaten by any candidate, and every other candidate is beaten or equalled."""
    found = [made(*values) for values in drawn]
    front = pareto_front(found)
    assert not any(beats(other, member) for member in front for other in found)
    figures_of = {(m.relative_flops, m.quality) for m in front}
    assert len(figures_of) == len(front)
    for candidate in found:
        own = (candidate.relative_flops, candidate.quality)
        assert own in figures_of or any(beats(member, candidate) for member in front)


@given(figures, st.sampled_from([0.2, 0.45, 1.0]))
def test_the_choice_keeps_the_budget_and_is_the_best_there(drawn: Figures, target: float) -> None:
    """Best metric, then lowest loss, then lowest cost of all that the budget allows."""
    found = [made(*values) for values in drawn]
    allowed = [c for c in found if c.relative_flops <= target]
    if not allowed:
        with pytest.raises(UserError, match="cheapest configuration needs"):
            best_within(found, target)
        return
    best = best_within(found, target)
    keys = [(-c.metric, c.loss, c.relative_flops) for c in allowed]
    assert min(keys) == (-best.metric, best.loss, best.relative_flops)


@given(seed=st.integers(0, 1000), limit=st.sampled_from([1, 5, 22, 30, 120]))
def test_a_search_measures_possible_configurations_once(seed: int, limit: int) -> None:
    """Never rising, at least two tokens, no configuration twice, no more than allowed."""
    seen: list[Lengths] = []
    found = search(space(), measured(seen), seed=seed, max_configurations=limit)
    assert seen == [candidate.lengths for candidate in found]
    assert len(set(seen)) == len(seen) <= limit
    assert all(list(n) == sorted(n, reverse=True) for n in seen)
    assert all(16 >= n[0] and n[-1] >= 2 for n in seen)


def test_a_search_is_the_same_every_time() -> None:
    """One seed, one search; another seed, another one."""
    runs = [
        [c.lengths for c in search(space(), measured([]), seed=seed, max_configurations=100)]
        for seed in (0, 0, 1)
    ]
    assert runs[0] == runs[1] != runs[2]


def test_a_search_beats_constant_ratios() -> None:
    """At every budget there are better lengths than those of a constant ratio."""
    found = search(space(), measured([]), seed=0, max_configurations=200)
    family = found[:22]
    for budget in (0.5, 0.6, 0.7, 0.8):
        assert best_within(found, budget).quality > best_within(family, budget).quality


def test_a_search_finds_the_best_of_a_small_space() -> None:
    """With 84 configurations in all, the front is the true one."""
    small = space(num_layers=3, initial_length=8)
    every = [n for n in product(range(2, 9), repeat=3) if list(n) == sorted(n, reverse=True)]
    assert 84 == len(every)
    found = search(small, measured([]), seed=0, max_configurations=84)
    truth = pareto_front(measured([])(n) for n in every)
    for budget in (0.5, 0.7, 0.9):
        assert best_within(truth, budget).metric == pytest.approx(
            best_within(found, budget).metric, abs=0.3
        )


@pytest.mark.parametrize("initial_length", [1, 2, 3])
def test_a_search_ends_where_there_is_little_to_find(initial_length: int) -> None:
    """One, one and four configurations of three layers."""
    little = space(num_layers=3, initial_length=initial_length)
    found = search(little, measured([]), seed=0, max_configurations=200)
    assert {1: 1, 2: 1, 3: 4}[initial_length] == len(found)


def test_a_search_ends_when_the_front_stands_still() -> None:
    """Nothing is better than the cheapest: one round of children is enough."""
    seen: list[Lengths] = []

    def worthless(lengths: Lengths) -> Candidate:
        seen.append(lengths)
        return Candidate(lengths=lengths, relative_flops=COST(lengths), metric=0.5, loss=1.0)

    search(space(), worthless, seed=0, max_configurations=500)
    assert len(seen) <= len(space().initial()) + 30


def test_the_first_configurations_are_evenly_spaced_in_cost() -> None:
    """Constant ratios, then equal lengths: from two tokens a layer to l_0 throughout."""
    rows = np.arange(50, 201)
    wide = SearchSpace(
        initial_length=200, num_layers=6, cost=length_cost(rows, hidden=16, intermediate=24)
    )
    first = wide.initial()
    family, flat = first[:22], [first[0], *first[22:], first[21]]
    assert ((2,) * 6, (200,) * 6, 28) == (first[0], family[-1], len(first))
    for some in (family, flat):
        costs = np.array([wide.cost(n) for n in some])
        np.testing.assert_allclose(costs, np.linspace(costs[0], costs[-1], len(costs)), atol=0.02)
    assert all(len(set(n)) == 1 for n in flat)
    for lengths in family:
        if lengths[-1] >= 20:
            ratios = [after / before for before, after in pairwise((200, *lengths))]
            np.testing.assert_allclose(ratios, ratios[0], atol=0.03)


def test_crossover_by_hand() -> None:
    """Element-wise mean; a half is rounded to the even number."""
    assert (7, 4, 2) == cross((8, 5, 2), (6, 4, 2))


def test_cost_is_that_of_the_records() -> None:
    """min(n, l) tokens through the paper's accounting, by the loops of the evaluation."""
    lengths = (9, 6, 6, 2)
    leaving = np.minimum(ROWS[:, None], lengths)
    entering = np.column_stack([ROWS, leaving[:, :-1]])
    expected = relative_flops(ROWS, entering, leaving, hidden=16, intermediate=24)["paper"]
    assert pytest.approx(expected) == COST(lengths)
