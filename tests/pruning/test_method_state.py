"""What a method is given at each layer, on both runners, and what becomes of what it returns."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod
from ltp_core.pruning.ltp import LearnedTokenPruning, LTPConfig
from ltp_core.trace import Forced
from tests import reference, strategies, tiny
from tests.running import MARGIN, both_runners, is_clear, ltp, run, token_ids
from tests.strategies import NUM_LAYERS, Case


class Accumulating(PruningMethod):
    """Keeps a token whose score, summed over the layers so far, stays above a rising line."""

    name = "accumulating"

    def __init__(self, slope: float) -> None:
        super().__init__(MethodConfig(), NUM_LAYERS)
        self.slope = slope

    def retain(self, state: LayerState) -> Decision:
        """Carries the sum from layer to layer."""
        total = state.score if state.carry is None else state.score + state.carry
        return Decision(total > self.slope * (state.layer_index + 1), carry=total)


@both_runners
@given(case=strategies.cases, slope=st.floats(0.3, 1.2))
def test_what_a_method_carries_follows_its_tokens(runner: str, case: Case, slope: float) -> None:
    """A value handed to the next layer arrives at the token it belongs to."""
    output = run(runner, case.encoder, case.inputs, Accumulating(slope))
    weights = reference.Weights(
        case.encoder.state_dict(), tiny.reference_config(case.encoder.config)
    )
    for row in range(len(case.lengths)):
        totals: reference.Scores = {}

        def rule(
            layer: int, score: reference.Scores, totals: reference.Scores = totals
        ) -> set[int]:
            for i, value in score.items():
                totals[i] = totals.get(i, 0.0) + value
            return {i for i in score if i == 0 or totals[i] > slope * (layer + 1)}

        expected = reference.run_hard(weights, *token_ids(case.inputs, row), rule)
        assume(all(abs(total - slope * k) > MARGIN for total in totals.values() for k in (1, 2, 3)))
        np.testing.assert_allclose(output.logits[row].numpy(), expected.logits, atol=1e-9)
        kept = output.layers[-1].retained[row].nonzero().flatten().tolist()
        assert expected.layers[-1].kept == kept


class Checking(LearnedTokenPruning):
    """LTP that checks what it is given against the batch it knows is running."""

    def __init__(self, lengths: tuple[int, ...]) -> None:
        super().__init__(LTPConfig(final_threshold=0.9), NUM_LAYERS)
        self.double()
        self.lengths = lengths
        self.seen = [0] * NUM_LAYERS

    def retain(self, state: LayerState) -> Decision:
        """Every field fits every other one."""
        count = len(state.live_length)
        assert state.live_length.tolist() == state.sequence.bincount(minlength=count).tolist()
        assert sorted(state.sequence.tolist()) == state.sequence.tolist()
        assert set(state.initial_length.tolist()) <= set(self.lengths)
        for index in range(count):
            mine = state.sequence == index
            position = state.position[mine].tolist()
            assert sorted(set(position)) == position
            assert 0 <= position[0] <= position[-1] < int(state.initial_length[index])
            assert (state.position[mine] == 0).tolist() == state.protected[mine].tolist()
            assert pytest.approx(len(position)) == float(state.score[mine].sum())
        self.seen[state.layer_index] += count
        return super().retain(state)


@both_runners
@given(case=strategies.cases)
def test_what_a_method_sees_is_consistent(runner: str, case: Case) -> None:
    """Lengths, positions, protection and scores of the live tokens fit together in every layer."""
    method = Checking(case.lengths)
    run(runner, case.encoder, case.inputs, method)
    assert [len(case.lengths)] * NUM_LAYERS == method.seen


@both_runners
@given(
    case=strategies.cases,
    thresholds=strategies.thresholds,
    keep=st.sets(st.integers(0, 13), max_size=3),
    drop=st.sets(st.integers(0, 13), max_size=3),
)
def test_forced_positions(
    runner: str, case: Case, thresholds: tuple[float, ...], keep: set[int], drop: set[int]
) -> None:
    """Kept positions stay, dropped ones leave after the first layer, the others are decided."""
    output = run(runner, case.encoder, case.inputs, Forced(ltp(thresholds), keep, drop))
    weights = reference.Weights(
        case.encoder.state_dict(), tiny.reference_config(case.encoder.config)
    )
    rule = reference.threshold_rule(thresholds, keep=keep, drop=drop)
    for row in range(len(case.lengths)):
        expected = reference.run_hard(weights, *token_ids(case.inputs, row), rule)
        assume(is_clear(expected, thresholds))
        np.testing.assert_allclose(output.logits[row].numpy(), expected.logits, atol=1e-9)
        for layer, record in zip(expected.layers, output.layers, strict=True):
            assert layer.kept == record.retained[row].nonzero().flatten().tolist()
