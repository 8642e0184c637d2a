"""The search for thresholds, on made-up costs whose best answer is known."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.calibration.search import (
    TOLERANCE,
    Candidate,
    Counter,
    Probe,
    Probes,
    Thresholds,
    reach,
    search,
    shapes,
)
from ltp_core.records import UserError


def made_up(damage: tuple[float, ...], least: float = 0.1) -> Probe:
    """Layers that lose `1 - exp(-threshold²)` of their tokens; each token lost in layer l hurts."""
    return Probe(
        lambda thresholds: outcome(thresholds, damage, least), Counter(120, lambda n: None)
    )


def outcome(thresholds: Thresholds, damage: tuple[float, ...], least: float) -> Candidate:
    """Cost and divergence of thresholds, in closed form."""
    live = np.cumprod(np.exp(-(np.array(thresholds) ** 2)))
    before = np.append(1.0, live[:-1])
    cost = float(np.mean(least + (1 - least) * (before / 3 + live * 2 / 3)))
    return Candidate(
        thresholds=thresholds,
        relative_flops={"paper": cost, "executed": cost},
        divergence=float(np.dot(damage, (before - live) ** 2)),
        agreement=1.0,
    )


def limited(probe: Probe, most: int) -> Probe:
    """The same with fewer configurations."""
    probe.counter.most = most
    return probe


# --- one set of ratios --------------------------------------------------------------------------------


def test_one_multiplier_meets_the_budget() -> None:
    """From far below and far above, at the budget or up to the tolerance below it."""
    targets, multipliers = (0.25, 0.4, 0.5, 0.75, 0.9, 0.99, 1.0), (0.15, 0.64, 3.0)
    for target, multiplier in itertools.product(targets, multipliers):
        probe = made_up((1.0, 1.0, 1.0))
        found = reach(probe, (0.5, 0.7, 1.0), target, multiplier)
        assert found is not None
        assert target - TOLERANCE <= found.cost <= target
        assert found.thresholds[1] == pytest.approx(0.7 * found.thresholds[2])
        assert len(probe.found) <= 8


def test_a_budget_out_of_reach_gives_nothing() -> None:
    """Where even everything pruned costs more, no candidate comes back."""
    assert reach(made_up((1.0, 1.0)), (0.0, 1.0), 0.3) is None


def test_a_cost_that_jumps_over_the_budget() -> None:
    """With few texts the cost moves in steps: the nearest one below the budget is taken."""

    def stepped(thresholds: Thresholds) -> Candidate:
        cost = 1.0 if thresholds[0] < 0.7 else 0.6 if thresholds[0] < 1.9 else 0.3
        flops = {"paper": cost, "executed": cost}
        return Candidate(
            thresholds=thresholds, relative_flops=flops, divergence=0.0, agreement=None
        )

    found = reach(Probe(stepped, Counter(99, lambda n: None)), (1.0,), 0.8, 4.0)
    assert found is not None
    assert 0.6 == found.cost


def test_shapes_by_hand() -> None:
    """Straight and bent, late, in one layer alone, level, early; each once."""
    assert shapes(6) == [
        (1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, 1.0),
        tuple((layer / 6) ** 2 for layer in range(1, 7)),
        (0.0, 0.0, 1.0, 1.0, 1.0, 1.0),
        (0.0, 0.0, 1.0, 0.0, 0.0, 0.0),
        (0.0, 0.0, 0.0, 1.0, 0.0, 0.0),
        (0.0, 1.0, 0.0, 0.0, 0.0, 0.0),
        (1.0,) * 6,
        (1.0, 1.0, 0.0, 0.0, 0.0, 0.0),
    ]
    assert shapes(1) == [(1.0,)]
    assert all(len(set(shapes(n))) == len(shapes(n)) for n in range(1, 25))


# --- the whole search -----------------------------------------------------------------------------------


damages = st.lists(st.floats(0.01, 10), min_size=1, max_size=6).map(tuple)


@given(damage=damages, target=st.floats(0.5, 1.0), most=st.integers(20, 150))
def test_the_choice_keeps_the_budget_and_the_limit(
    damage: tuple[float, ...], target: float, most: int
) -> None:
    """At the budget or just below, the best of everything tried on all texts, in so many trials."""
    fine = limited(made_up(damage), most)
    coarse = Probe(lambda thresholds: outcome(thresholds, damage, 0.12), fine.counter)
    if coarse(tuple([1e6] * len(damage))).cost > target:
        return
    chosen = search([Probes(coarse, fine)], len(damage), target)
    assert chosen.cost <= target
    assert most < 60 or chosen.cost >= target - 4 * TOLERANCE
    within = [c for c in fine.found.values() if target - TOLERANCE <= c.cost <= target]
    assert chosen.divergence <= min((c.divergence for c in within), default=10**9)
    assert len(coarse.found) + len(fine.found) == fine.counter.tried <= most


@pytest.mark.parametrize("damage", [(1.0, 5.0), (5.0, 1.0), (0.1, 10.0)])
def test_the_choice_is_near_the_best_there_is(damage: tuple[float, float]) -> None:
    """Two layers, against a fine grid."""
    probe = made_up(damage)
    chosen = search([Probes(probe, probe)], 2, 0.6)
    grid = [
        outcome(pair, damage, 0.1) for pair in itertools.product(np.linspace(0, 3, 151), repeat=2)
    ]
    best = min((c for c in grid if 0.595 <= c.cost <= 0.6), key=lambda c: c.divergence)
    assert chosen.divergence <= 1.1 * best.divergence


def test_the_better_kind_is_chosen() -> None:
    """Of two kinds of candidates that share their trials, the one that hurts less at the budget."""
    harmful = limited(made_up((9.0, 9.0, 9.0)), 400)
    gentle = Probe(
        lambda t: dataclasses.replace(outcome(t, (1.0, 1.0, 1.0), 0.1), protects_separators=True),
        harmful.counter,
    )
    for kinds in ((harmful, gentle), (gentle, harmful)):
        chosen = search([Probes(probe, probe) for probe in kinds], 3, 0.6)
        assert chosen.protects_separators
        assert chosen in gentle.found.values()


def test_what_cannot_be_reached_is_said() -> None:
    """Below what everything pruned costs; and with too few trials."""
    probe = made_up((1.0, 1.0))
    with pytest.raises(UserError, match=r"0\.2 are out of reach: .* they are 0\.2\d"):
        search([Probes(probe, probe)], 2, 0.2)
    probe = limited(made_up((1.0, 1.0)), 2)
    with pytest.raises(UserError, match="allow more of them"):
        search([Probes(probe, probe)], 2, 0.6)


def test_equal_thresholds_are_measured_once() -> None:
    """A probe remembers, and reports every trial."""
    seen: list[int] = []
    probe = Probe(lambda t: outcome(t, (1.0,), 0.1), Counter(5, seen.append))
    assert probe((0.5,)) is probe((0.5,))
    probe((0.7,))
    assert [1, 2] == seen
