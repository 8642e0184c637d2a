"""What every pruning method promises, on both runners; a new method is tested by being listed."""

from __future__ import annotations

import dataclasses
import json
import math
from itertools import chain

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st

from ltp_core.pruning import METHODS, load_method
from ltp_core.pruning.base import (
    LayerEntry,
    LayerState,
    PruningMethod,
    ThresholdMethod,
    select,
)
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.base import Inputs, RunOutput
from ltp_core.runners.masked import run_soft
from ltp_core.trace import Forced
from tests import strategies, tiny
from tests.running import MARGIN, assert_same, both_runners, is_far_from, run
from tests.strategies import NUM_LAYERS, Case

every_method = pytest.mark.parametrize("name", METHODS)
every_variant = pytest.mark.parametrize("name", strategies.METHOD_VARIANTS)
learned_method = pytest.mark.parametrize(
    "name", [name for name, method in METHODS.items() if method.is_learned]
)
removing_method = pytest.mark.parametrize(
    "name", [n for n, method in METHODS.items() if method.is_learned and method.soft_form is None]
)
"""Learned methods whose soft stage may fade tokens inside the softmax."""

unchecked = pytest.mark.unchecked
"""Passes like those of `test_masks_are_sound`, whose types and shapes are checked there."""

LONGEST = 9
"""Tokens of the longest training row that the methods saw."""


def make(variant: str, thresholds: tuple[float, ...] = (0.5, 0.7, 0.9)) -> PruningMethod:
    """A method that prunes, with these thresholds if it has any; float64."""
    name, settings = strategies.METHOD_VARIANTS[variant]
    kind = METHODS[name]
    method = kind(kind.config_type(**settings), NUM_LAYERS)
    method.prepare_(np.array([LONGEST]))
    method.fit_width_(tiny.SIZES["hidden_size"])
    generator = torch.Generator().manual_seed(5)
    for key, parameter in method.named_parameters():
        if key == "direction":  # 0 at the start, when it changes nothing
            parameter.data.normal_(std=2.0, generator=generator)
        if key.startswith("policies"):
            parameter.data.normal_(generator=generator)
    if isinstance(method, ThresholdMethod):
        method = method.with_thresholds(list(thresholds))
    return method.double()


def assume_clear(output: RunOutput, method: PruningMethod) -> None:
    """Leaves out runs in which rounding decides about a token."""
    bounds = [method.threshold(layer) for layer in range(NUM_LAYERS)]
    nowhere = tuple(math.inf if bound is None else bound for bound in bounds)
    if isinstance(method, ThresholdMethod) or method.entry_layers:
        assume(is_far_from(output, nowhere, MARGIN))


def layer_state(sequences: list[list[float]], layer_index: int) -> LayerState:
    """Live tokens of several sequences, nothing pruned so far, first tokens protected."""
    lengths = torch.tensor([len(scores) for scores in sequences])
    position = torch.cat([torch.arange(int(n)) for n in lengths])
    score = torch.tensor(list(chain.from_iterable(sequences)), dtype=torch.float64)
    return LayerState(
        layer_index=layer_index,
        score=score,
        diagonal=score / 4,
        special=(position == 0) | (position % 5 == 4),
        attended=torch.sin(score[:, None] * torch.arange(1, 1 + tiny.SIZES["hidden_size"])),
        sequence=torch.repeat_interleave(torch.arange(len(sequences)), lengths),
        position=position,
        protected=position == 0,
        live_length=lengths,
        initial_length=lengths,
    )


# --- decisions on bare scores -------------------------------------------------------------------


def test_every_method_is_tested() -> None:
    """A new method needs a variant, and then passes everything below."""
    assert set(METHODS) == {name for name, _ in strategies.METHOD_VARIANTS.values()}


@every_variant
@given(
    sequences=st.lists(strategies.scores, min_size=1, max_size=4),
    layer_index=st.integers(0, NUM_LAYERS - 1),
)
def test_a_decision_does_not_depend_on_batch_mates(
    name: str, sequences: list[list[float]], layer_index: int
) -> None:
    """Many sequences at once are decided as one after another, ties and zeros included."""
    method = make(name)
    together = method.retain(layer_state(sequences, layer_index)).retained.tolist()
    alone = [method.retain(layer_state([scores], layer_index)).retained for scores in sequences]
    assert torch.cat(alone).tolist() == together


@every_variant
@given(scores=strategies.scores, layer_index=st.integers(0, NUM_LAYERS - 1))
def test_a_decision_is_a_pure_function(name: str, scores: list[float], layer_index: int) -> None:
    """Deciding twice gives the same masks and leaves the state as it was."""
    method, state = make(name), layer_state([scores], layer_index)
    before = {f.name: getattr(state, f.name) for f in dataclasses.fields(state)}
    copies = {k: v.clone() for k, v in before.items() if isinstance(v, torch.Tensor)}
    first, second = method.retain(state), method.retain(state)
    assert torch.bool == first.retained.dtype
    assert first.retained.tolist() == second.retained.tolist()
    assert all(torch.equal(value, getattr(state, key)) for key, value in copies.items())


@every_method
def test_the_list_knows_a_method_by_its_name(name: str) -> None:
    """The key in METHODS is the method's own name; its settings are frozen and documented."""
    method = METHODS[name]
    assert name == method.name
    assert method.__doc__
    config = method.config_type()
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.protect_first = False  # type: ignore[misc]


@every_variant
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=4), seed=st.integers(0, 1000))
def test_a_selection_does_not_depend_on_batch_mates(
    name: str, lengths: list[int], seed: int
) -> None:
    """Many sequences at once are selected as one after another; deciding changes nothing."""
    method, width = make(name), tiny.SIZES["hidden_size"]
    generator = torch.Generator().manual_seed(seed)
    states = [torch.randn(n, width, generator=generator, dtype=torch.float64) for n in lengths]
    for layer in method.entry_layers:
        together = select(method, layer_entry(states, layer))
        alone = [select(method, layer_entry([each], layer)) for each in states]
        assert torch.cat([each.retained for each in alone]).tolist() == together.retained.tolist()
        assert (
            together.retained.tolist()
            == select(method, layer_entry(states, layer)).retained.tolist()
        )


def layer_entry(states: list[torch.Tensor], layer_index: int) -> LayerEntry:
    """Sequences with these states that come to a layer, first tokens protected."""
    lengths = torch.tensor([len(each) for each in states])
    position = torch.cat([torch.arange(int(n)) for n in lengths])
    return LayerEntry(
        layer_index=layer_index,
        hidden=torch.cat(states),
        sequence=torch.repeat_interleave(torch.arange(len(states)), lengths),
        position=position,
        protected=position == 0,
        batch=len(states),
    )


# --- both runners -------------------------------------------------------------------------------


@unchecked
@every_variant
@given(case=strategies.cases, thresholds=strategies.thresholds)
@example(
    case=Case(
        family="bert",
        model_seed=0,
        num_heads=2,
        lengths=(1, 2),
        data_seed=0,
        extra_padding=0,
    ),
    thresholds=(strategies.EVERYTHING_BELOW,) * NUM_LAYERS,
)
def test_masked_equals_the_others(name: str, case: Case, thresholds: tuple[float, ...]) -> None:
    """The runners agree on logits, kept sets, scores and lengths for this method."""
    method = make(name, thresholds)
    masked = run("masked", case.encoder, case.inputs, method)
    assume_clear(masked, method)
    for other in ("packed", "repadded"):
        assert_same(masked, run(other, case.encoder, case.inputs, method))


@every_variant
@both_runners
@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_masks_are_sound(name: str, runner: str, case: Case, thresholds: tuple[float, ...]) -> None:
    """Pruned tokens stay away, padding is never kept, the first token lives, counts fit masks."""
    method = make(name, thresholds)
    output = run(runner, case.encoder, case.inputs, method)
    assert bool(output.logits.isfinite().all())
    live = case.inputs.attention_mask
    running = [index for index in range(NUM_LAYERS) if method.runs_layer(index)]
    for index, record in zip(running, output.layers, strict=True):
        assert live.tolist() == record.live.tolist()
        assert not bool((record.retained & ~live).any())
        assert bool(record.retained[:, 0].all())
        assert not bool(record.score[~record.live].nan_to_num().any())
        entered = record.retained if index in method.entry_layers else live
        assert entered.sum(1).tolist() == output.attention_length[:, index].tolist()
        assert record.retained.sum(1).tolist() == output.ffn_length[:, index].tolist()
        live = record.retained
    absent = [index for index in range(NUM_LAYERS) if index not in running]
    for lengths in (output.attention_length, output.ffn_length):
        assert not lengths[:, absent].any()


@unchecked
@every_variant
@both_runners
@given(case=strategies.cases, order=st.randoms(use_true_random=False))
def test_alone_equals_padded_equals_shuffled(
    name: str, runner: str, case: Case, order: object
) -> None:
    """A sequence is pruned the same alone, padded, and at any place of a batch."""
    method, inputs = make(name), case.inputs
    rows = list(range(len(case.lengths)))
    order.shuffle(rows)  # type: ignore[attr-defined]
    batched = run(runner, case.encoder, inputs, method)
    assume_clear(batched, method)
    shuffled = run(runner, case.encoder, Inputs(*(t[rows] for t in vars(inputs).values())), method)
    for place, row in enumerate(rows):
        alone = run(runner, case.encoder, tiny.row(inputs, row), method)
        for other, index in ((batched, row), (shuffled, place)):
            torch.testing.assert_close(other.logits[index], alone.logits[0], rtol=0, atol=1e-9)
            assert alone.ffn_length[0].tolist() == other.ffn_length[index].tolist()
            for one, many in zip(alone.layers, other.layers, strict=True):
                kept, score = (t[index, : case.lengths[row]] for t in (many.retained, many.score))
                assert one.retained[0].tolist() == kept.tolist()
                torch.testing.assert_close(score, one.score[0], rtol=0, atol=1e-9, equal_nan=True)


@unchecked
@every_method
@both_runners
@given(case=strategies.cases)
def test_the_neutral_method_prunes_nothing(name: str, runner: str, case: Case) -> None:
    """The neutral instance keeps every token and gives the unpruned logits."""
    neutral = run(runner, case.encoder, case.inputs, METHODS[name].neutral(NUM_LAYERS).double())
    unpruned = run(runner, case.encoder, case.inputs, Unpruned.neutral(NUM_LAYERS))
    assert [[n] * NUM_LAYERS for n in case.lengths] == neutral.ffn_length.tolist()
    torch.testing.assert_close(neutral.logits, unpruned.logits, rtol=0, atol=1e-12)


@unchecked
@every_variant
@both_runners
def test_saved_method_decides_bit_equal(name: str, runner: str) -> None:
    """A method that went through JSON text makes the same decisions, to the last bit."""
    method = make(name, (0.1, 1 / 3, 0.7)).float()
    loaded = load_method(json.loads(json.dumps(method.state_json())))
    assert type(method) is type(loaded)
    assert method.config == loaded.config
    encoder = tiny.float32_encoder(3)
    for seed in range(5):
        inputs = tiny.inputs((9, 3, 14), seed)
        expected = run(runner, encoder, inputs, method)
        assert_same(expected, run(runner, encoder, inputs, loaded), atol=0.0)


@every_variant
@both_runners
def test_shortest_inputs(name: str, runner: str) -> None:
    """Sequences of one, two and three tokens give finite logits and keep at least one token."""
    method = make(name, (1e3, 1e3, 1e3))
    running = torch.tensor([method.runs_layer(index) for index in range(NUM_LAYERS)])
    for lengths in ((1,), (2,), (3,), (1, 1), (1, 2), (2, 3, 1, 9)):
        output = run(runner, tiny.encoder(), tiny.inputs(lengths), method)
        assert bool(output.logits.isfinite().all()), lengths
        assert bool((output.ffn_length[:, running] >= 1).all()), lengths
        assert bool((output.ffn_length <= torch.tensor(lengths)[:, None]).all()), lengths


@every_variant
@both_runners
def test_some_positions_can_be_forced(name: str, runner: str) -> None:
    """What-if for any method: a token that is held stays, one that is dropped goes."""
    forced = Forced(make(name), keep=[3], drop=[5])
    output = run(runner, tiny.encoder(), tiny.inputs((9, 6), 2), forced)
    for record in output.layers:
        assert [True, True] == record.retained[:, 3].tolist()
        assert [False, False] == record.retained[:, 5].tolist()


# --- pruning more and less ----------------------------------------------------------------------


@unchecked
@every_variant
@both_runners
@given(case=strategies.cases, factors=st.tuples(st.floats(0, 3), st.floats(0, 3)))
def test_scaled_prunes_more_and_less(
    name: str, runner: str, case: Case, factors: tuple[float, float]
) -> None:
    """At 0 nothing goes, at 1 it is the method itself, and a larger factor keeps fewer at once."""
    method = make(name, (0.5, 0.75, 1.0))
    if method.scaled(1.0) is None:
        return
    scaled = {f: method.scaled(f) for f in (0.0, 1.0, *factors)}
    assert all(type(other) is type(method) for other in scaled.values())
    found = {f: run(runner, case.encoder, case.inputs, other) for f, other in scaled.items()}
    assert [[n] * NUM_LAYERS for n in case.lengths] == found[0.0].ffn_length.tolist()
    assert_same(run(runner, case.encoder, case.inputs, method), found[1.0], atol=1e-12)
    fewer, more = (found[f].ffn_length[:, 0] for f in sorted(factors, reverse=True))
    assert bool((fewer <= more).all())  # later layers see other tokens, so only the first compares


# --- learned methods ----------------------------------------------------------------------------


@learned_method
def test_gradients_reach_every_parameter(name: str) -> None:
    """The mean weight of the soft stage moves every learned number."""
    method = make(name)
    form = method.soft_form or "softmax"
    output = run_soft(
        tiny.encoder(),
        tiny.inputs((LONGEST, 6), 1),
        method,  # type: ignore[arg-type]
        temperature=0.128,
        form=form,
    )
    output.weights[1:].mean().backward()  # type: ignore[no-untyped-call]
    for parameter in method.parameters():
        assert parameter.grad is not None
        assert bool((parameter.grad != 0).all())


@removing_method
@given(case=strategies.cases)
def test_cold_soft_stage_is_hard_pruning(name: str, case: Case) -> None:
    """Towards T = 0 the soft stage is what the packed runner does."""
    method = make(name)
    hard = run("packed", case.encoder, case.inputs, method)
    if isinstance(method, ThresholdMethod):
        assume(is_far_from(hard, tuple(method.thresholds.tolist()), 1e-5))
    with torch.no_grad():
        cold = run_soft(case.encoder, case.inputs, method, temperature=1e-8)  # type: ignore[arg-type]
    torch.testing.assert_close(cold.logits, hard.logits, rtol=0, atol=1e-8)
