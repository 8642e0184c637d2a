"""SpAtten: its schedule by hand, its decisions against the loops."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ltp_core.flops import relative_flops
from ltp_core.pruning.base import LayerState
from ltp_core.pruning.spatten import SpAtten, SpAttenConfig, num_kept, paper_keep_layers
from ltp_core.strict import ConfigError
from tests import reference, strategies, tiny
from tests.running import both_runners, run, token_ids
from tests.strategies import NUM_LAYERS, Case


def spatten(num_layers: int = NUM_LAYERS, **settings: Any) -> SpAtten:
    """SpAtten with these settings."""
    return SpAtten(SpAttenConfig(**settings), num_layers)


def ratios(method: SpAtten) -> list[float]:
    """Share of the initial tokens by layer."""
    return [method.ratio(layer) for layer in range(method.num_layers)]


# --- the schedule -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_layers", "kept"), [(2, 3), (6, 3), (12, 3), (20, 3), (24, 4)])
def test_layers_that_keep_everything_in_the_paper(num_layers: int, kept: int) -> None:
    """At least three; 15 % of the layers, rounded up."""
    assert kept == paper_keep_layers(num_layers)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"final_ratio": 0.4}, [1, 1, 1, 0.8, 0.6, 0.4]),
        ({"final_ratio": 0.4, "keep_layers": 2}, [1, 1, 0.85, 0.7, 0.55, 0.4]),
        ({"final_ratio": -1.0, "keep_layers": 2}, [1, 1, 0.5, 0.01, 0.01, 0.01]),
        ({"final_ratio": 0.4, "keep_layers": 0}, [0.9, 0.8, 0.7, 0.6, 0.5, 0.4]),
        ({"final_ratio": 0.4, "keep_layers": 5}, [1, 1, 1, 1, 1, 0.4]),
        ({"final_ratio": -1.0, "keep_layers": 6}, [1] * 6),
        ({"final_ratio": 1.0, "keep_layers": 0}, [1] * 6),
    ],
)
def test_ratios_by_hand(settings: dict[str, Any], expected: list[float]) -> None:
    """Linear from the first layer that prunes to the final ratio in the last layer."""
    found = ratios(spatten(6, **settings))
    assert pytest.approx(expected) == found
    assert settings["final_ratio"] in found or settings["final_ratio"] < 0 or found == [1] * 6


@pytest.mark.parametrize(
    ("length", "ratio", "kept"),
    [(10, 0.5, 5), (10, 0.44, 4), (10, 0.45, 4), (10, 0.46, 5), (1, 0.01, 1), (3, 0.01, 1)],
)
def test_kept_tokens_are_rounded_and_never_none(length: int, ratio: float, kept: int) -> None:
    """Of ten tokens at 45 %, four; of three at 1 %, one."""
    assert [float(kept)] == num_kept(torch.tensor([length]), ratio).tolist()


def test_a_layer_by_hand() -> None:
    """Two inputs of different length, some tokens gone: k counts from the initial length."""
    state = LayerState(
        layer_index=1,
        score=torch.tensor([0.1, 0.9, 0.9, 0.5, 0.2, 1.4, 0.4]),
        sequence=torch.tensor([0, 0, 0, 0, 1, 1, 1]),
        position=torch.tensor([0, 2, 3, 5, 0, 1, 4]),
        protected=torch.tensor([True, False, False, False, True, False, False]),
        live_length=torch.tensor([4, 3]),
        initial_length=torch.tensor([6, 8]),
    )
    found = spatten(2, final_ratio=0.4, keep_layers=1).retain(state)
    # round(2.4) = 2: [CLS] and the first of two equal ones; round(3.2) = 3: all that are left.
    assert [True, True, False, False, True, True, True] == found.retained.tolist()
    assert found.carry is None


def test_scores_add_up_over_the_layers_if_cumulative() -> None:
    """What a token drew before counts, also in layers that keep everything."""
    method = spatten(2, final_ratio=0.5, keep_layers=1, cumulative=True)
    carry, retained = None, []
    for layer, scores in enumerate(([0.0, 2.0, 0.5, 0.5], [0.0, 0.5, 1.5, 1.0])):
        state = LayerState(
            layer_index=layer,
            score=torch.tensor(scores),
            sequence=torch.zeros(4, dtype=torch.long),
            position=torch.arange(4),
            protected=torch.tensor([True, False, False, False]),
            live_length=torch.tensor([4]),
            initial_length=torch.tensor([4]),
            carry=carry,
        )
        decision = method.retain(state)
        carry = decision.carry
        retained.append(decision.retained.tolist())
    assert [[True] * 4, [True, True, False, False]] == retained
    assert [0.0, 2.5, 2.0, 1.5] == pytest.approx(carry.tolist())  # type: ignore[union-attr]


# --- against the loops ------------------------------------------------------------------------------


@both_runners
@given(
    case=strategies.cases,
    final_ratio=st.floats(-1, 1),
    keep_layers=st.integers(0, NUM_LAYERS),
    cumulative=st.booleans(),
)
def test_runner_equals_the_loops(
    runner: str, case: Case, final_ratio: float, keep_layers: int, cumulative: bool
) -> None:
    """Logits and kept sets of a ragged batch are those of every sequence sorted on its own."""
    chosen = {"final_ratio": final_ratio, "keep_layers": keep_layers, "cumulative": cumulative}
    output = run(runner, case.encoder, case.inputs, spatten(**chosen))  # type: ignore[arg-type]
    weights = reference.Weights(
        case.encoder.state_dict(), tiny.reference_config(case.encoder.config)
    )
    for row, length in enumerate(case.lengths):
        rule = reference.spatten_rule(length, NUM_LAYERS, **chosen)  # type: ignore[arg-type]
        expected = reference.run_hard(weights, *token_ids(case.inputs, row), rule)
        for layer, record in zip(expected.layers, output.layers, strict=True):
            assert layer.kept == record.retained[row].nonzero().flatten().tolist()
        np.testing.assert_allclose(output.logits[row].numpy(), expected.logits, atol=1e-9)


@both_runners
@given(case=strategies.cases, final_ratio=st.floats(-1, 1))
def test_the_first_token_has_to_earn_its_place_unprotected(
    runner: str, case: Case, final_ratio: float
) -> None:
    """Without protection it goes like any other; one token is always left."""
    assume(max(case.lengths) > 2)
    inputs = tiny.inputs(case.lengths, case.data_seed, family=case.family, protect_first=False)
    method = spatten(final_ratio=final_ratio, keep_layers=0, protect_first=False)
    output = run(runner, case.encoder, inputs, method)
    for row, length in enumerate(case.lengths):
        rule = reference.spatten_rule(
            length, NUM_LAYERS, final_ratio=final_ratio, keep_layers=0, protected=()
        )
        live = set(range(length))
        for index, record in enumerate(output.layers):
            score = {i: float(record.score[row, i]) for i in live}
            live = rule(index, score)
            assert sorted(live) == record.retained[row].nonzero().flatten().tolist()


# --- cost and settings ------------------------------------------------------------------------------


@pytest.mark.parametrize(("keep_layers", "floor"), [(None, 0.62), (2, 0.49), (1, 0.37)])
def test_floor_of_a_six_layer_model(keep_layers: int | None, floor: float) -> None:
    """At a final ratio of -1 nothing is left to prune: what MiniLM costs at least at 24 tokens."""
    method = spatten(6, final_ratio=-1.0, keep_layers=keep_layers)
    kept = np.array([num_kept(torch.tensor([24]), ratio).tolist() for ratio in ratios(method)]).T
    entering = np.concatenate([[[24]], kept[:, :-1]], axis=1)
    found = relative_flops(np.array([24]), entering, kept, hidden=384, intermediate=1536)
    assert pytest.approx(floor, abs=0.01) == found["paper"]


def test_scaled_moves_the_final_ratio() -> None:
    """Its distance to 1 is multiplied; -1 is the end."""
    method = spatten(6, final_ratio=0.4, cumulative=True, keep_layers=2)
    found = {factor: method.scaled(factor) for factor in (0.0, 0.5, 1.0, 2.0, 9.0)}
    assert [1.0, 0.7, 0.4, -0.2, -1.0] == pytest.approx(
        [other.config.final_ratio for other in found.values()]
    )
    assert method.config == found[1.0].config
    assert {(True, 2)} == {(o.config.cumulative, o.keep_layers) for o in found.values()}


@pytest.mark.parametrize(
    "settings", [{"final_ratio": 1.1}, {"final_ratio": -2.0}, {"keep_layers": -1}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    """The sentence names the setting."""
    with pytest.raises(ConfigError, match=next(iter(settings))):
        SpAttenConfig(**settings)
