"""LAT: its decisions against the loops, LengthDrop and the sandwich by hand and by their bounds."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.pruning import load_method
from ltp_core.pruning.base import LayerState
from ltp_core.pruning.lat import LATConfig, LengthAdaptive
from ltp_core.strict import ConfigError
from tests import reference, strategies, tiny
from tests.running import both_runners, run, token_ids
from tests.strategies import NUM_LAYERS, Case

lengths = st.lists(st.integers(1, 12), min_size=NUM_LAYERS, max_size=NUM_LAYERS).map(
    lambda found: tuple(sorted(found, reverse=True))
)
"""A configuration for the tiny models."""


def lat(
    num_layers: int = NUM_LAYERS, *, initial_length: int = 20, **settings: Any
) -> LengthAdaptive:
    """LAT with these settings that saw inputs of this length."""
    method = LengthAdaptive(LATConfig(**settings), num_layers)
    method.prepare_(np.array([initial_length]))
    return method


def random(seed: int = 0) -> np.random.Generator:
    """A source of draws."""
    return np.random.default_rng(seed)


# --- decisions --------------------------------------------------------------------------------------


def test_a_layer_by_hand() -> None:
    """Three stay of each input, the first token among them; of equals the earlier one."""
    state = LayerState(
        layer_index=1,
        score=torch.tensor([0.1, 0.9, 0.9, 0.9, 1.3, 0.2, 1.4]),
        sequence=torch.tensor([0, 0, 0, 0, 0, 1, 1]),
        position=torch.tensor([0, 2, 3, 5, 8, 0, 1]),
        protected=torch.tensor([True, False, False, False, False, True, False]),
        live_length=torch.tensor([5, 2]),
        initial_length=torch.tensor([9, 2]),
    )
    found = lat(2, lengths=(6, 3)).retain(state).retained
    assert [True, True, False, False, True, True, True] == found.tolist()


@both_runners
@given(case=strategies.cases, chosen=lengths)
def test_runs_equal_the_loops(runner: str, case: Case, chosen: tuple[int, ...]) -> None:
    """Logits, kept sets and counts of top-k written as a sort of every sequence."""
    output = run(runner, case.encoder, case.inputs, lat(lengths=chosen).double())
    weights = reference.Weights(
        case.encoder.state_dict(), tiny.reference_config(case.encoder.config)
    )
    for row, length in enumerate(case.lengths):
        expected = reference.run_hard(
            weights,
            *token_ids(case.inputs, row),
            lambda layer, score: reference.top_k(score, chosen[layer]),
        )
        np.testing.assert_allclose(output.logits[row].numpy(), expected.logits, atol=1e-9)
        for layer, record in zip(expected.layers, output.layers, strict=True):
            assert layer.kept == record.retained[row].nonzero().flatten().tolist()
        assert [min(length, n) for n in chosen] == output.ffn_length[row].tolist()


@both_runners
def test_a_layer_left_out_hands_its_input_on(runner: str) -> None:
    """LayerDrop: with the first layer left out, the second one sees the embeddings; no cost."""
    encoder, inputs = tiny.encoder(), tiny.inputs((9, 4), 1)
    method = lat().with_lengths((5, 5, 3), dropped_layers={0, 2})
    output = run(runner, encoder, inputs, method)
    assert [[0, 9, 0], [0, 4, 0]] == output.attention_length.tolist()
    assert [[0, 5, 0], [0, 4, 0]] == output.ffn_length.tolist()
    assert 1 == len(output.layers)
    with torch.no_grad():
        hidden = encoder.embed(inputs.input_ids, inputs.token_type_ids)
        layer = encoder.layers[1]
        query, key, value = layer.project(hidden)
        probs = layer.attention_probs(query, key, inputs.attention_mask)
        expected = encoder.head(
            layer.feed_forward(layer.attend(layer.context(probs, value), hidden))[:, 0]
        )
    torch.testing.assert_close(output.logits, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([3, 4, 2], "never rise"),
        ([3, 2], "2 lengths for 3 layers"),
        ([3, 2, 0], "from 1 on"),
    ],
)
def test_impossible_lengths_are_refused(given: list[Any], words: str) -> None:
    """By hand, and where a stored state was changed."""
    with pytest.raises(ValueError, match=words):
        load_method({**lat().state_json(), "lengths": given})


@pytest.mark.parametrize(
    "settings", [{"length_drop": 1.1}, {"layer_drop": -0.1}, {"num_random": -1}]
)
def test_impossible_settings_are_refused(settings: dict[str, Any]) -> None:
    """Shares are between 0 and 1."""
    with pytest.raises(ConfigError, match=next(iter(settings))):
        LATConfig(**settings)


def test_the_state_keeps_configuration_and_initial_length() -> None:
    """Lengths that were searched stand beside those that were set by hand."""
    method = lat(initial_length=31, lengths=(9, 8, 7)).with_lengths((5, 4, 3))
    loaded = load_method(method.state_json())
    assert isinstance(loaded, LengthAdaptive)
    assert ((5, 4, 3), 31, (9, 8, 7)) == (
        loaded.lengths,
        loaded.initial_length,
        loaded.config.lengths,
    )


def test_scaled_by_hand() -> None:
    """Half of the way in the exponent: a quarter becomes a half, 1/16 a quarter."""
    method = lat(initial_length=32).with_lengths((32, 8, 2))
    for factor, expected in ((0.5, (32, 16, 8)), (1.0, (32, 8, 2)), (2.0, (32, 2, 1)), (0.0, ())):
        scaled = method.scaled(factor)
        assert scaled is not None
        assert expected == scaled.lengths
    assert lat().scaled(0.7) is None


# --- LengthDrop and LayerDrop -----------------------------------------------------------------------


def test_the_initial_length_is_the_99th_percentile() -> None:
    """Of 200 inputs one is longer than the 99th percentile, rounded up."""
    method = lat()
    method.prepare_(np.array([10] * 198 + [20, 300]))
    assert math.ceil(np.quantile([10] * 198 + [20, 300], 0.99)) == method.initial_length == 11


def test_the_sandwich_by_hand() -> None:
    """Full, smallest, two random ones; 20 tokens at p = 0.4 leave at least 12, 8 and 5."""
    full, smallest, *others = lat(length_drop=0.4, layer_drop=0.0).sub_models(random())
    assert () == full.lengths
    assert (12, 8, 5) == smallest.lengths
    assert 2 == len(others)
    assert others[0].lengths != others[1].lengths


@given(
    seed=st.integers(0, 10_000),
    initial_length=st.integers(1, 300),
    length_drop=st.sampled_from([0.0, 0.25, 0.3, 0.4, 1.0]),
    layer_drop=st.sampled_from([0.0, 0.2, 0.9]),
)
def test_length_drop_keeps_its_bounds(
    seed: int, initial_length: int, length_drop: float, layer_drop: float
) -> None:
    """A layer drops at most its share, and nothing where it is left out; two tokens always stay."""
    method = lat(6, initial_length=initial_length, length_drop=length_drop, layer_drop=layer_drop)
    for sub in method.sub_models(random(seed))[1:]:
        for layer, (before, after) in enumerate(pairwise((initial_length, *sub.lengths))):
            if not sub.runs_layer(layer):
                assert before == after
            least = max(2, math.ceil(round((1 - length_drop) * before, 9)))
            assert min(before, least) <= after <= before


def test_length_drop_is_uniform_from_its_lower_bound_on() -> None:
    """20 tokens at p = 0.25: each of 15 to 20 a sixth of the time."""
    method, source = lat(1, length_drop=0.25, layer_drop=0.0, num_random=1), random(3)
    drawn = [method.sub_models(source)[2].lengths[0] for _ in range(6000)]
    values, counts = np.unique(drawn, return_counts=True)
    assert [15, 16, 17, 18, 19, 20] == values.tolist()
    np.testing.assert_allclose(counts / 6000, 1 / 6, atol=0.02)


def test_layer_drop_leaves_out_each_layer_at_its_rate() -> None:
    """In the full pass too, independently."""
    method, source = lat(4, layer_drop=0.2), random(5)
    subs = [method.sub_models(source) for _ in range(1500)]
    for which in (0, 1, 3):
        rate = np.mean([[not s[which].runs_layer(i) for i in range(4)] for s in subs], axis=0)
        np.testing.assert_allclose(rate, 0.2, atol=0.04)


def test_sampling_leaves_the_method_as_it_is() -> None:
    """Sub-models are copies; all layers run in evaluation."""
    method = lat(layer_drop=0.9)
    before = method.state_json()
    first = [sub.state_json() for sub in method.sub_models(random(1))]
    assert first == [sub.state_json() for sub in method.sub_models(random(1))]
    assert before == method.state_json()
    assert all(method.runs_layer(layer) for layer in range(NUM_LAYERS))
