"""Scores relative to ordinary tokens, the learned factor, and straight-through masks."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from ltp_core.encoder.model import Encoder
from ltp_core.flops import layer_macs
from ltp_core.pruning import load_method
from ltp_core.pruning.base import ThresholdMethod, decide
from ltp_core.pruning.importance import importance_score, relative_to_mean
from ltp_core.pruning.ltp import LearnedTokenPruning, LTPConfig
from ltp_core.pruning.ltp_s import LTPSConfig, ScoredTokenPruning
from ltp_core.runners.base import Inputs
from ltp_core.runners.head import head_logits, is_answerable
from ltp_core.runners.masked import StraightOutput, run_masked, run_straight_through
from ltp_core.runners.state import padded_state
from tests import strategies, tiny
from tests.running import RUNNERS, run
from tests.strategies import NUM_LAYERS, Case

WIDTH = tiny.SIZES["hidden_size"]


def scored(thresholds: list[float], seed: int = 3, **settings: Any) -> ScoredTokenPruning:
    """LTP-S with random directions, float64."""
    method = ScoredTokenPruning(LTPSConfig(**settings), NUM_LAYERS)
    method.fit_width_(WIDTH)
    assert method.direction is not None
    generator = torch.Generator().manual_seed(seed)
    method.direction.data.normal_(std=2.0, generator=generator)
    return method.with_thresholds(thresholds).double()


@given(strategies.scores, st.integers(0, 2**20))
def test_the_mean_over_what_counts_is_one(scores: list[float], bits: int) -> None:
    """Whatever the others have; a loop over the sequences gives the same numbers."""
    score = torch.tensor([*scores, *scores], dtype=torch.float64) + 0.1
    counts = torch.tensor([float(bits >> (i % 20) & 1) for i in range(len(score))]).double()
    sequence = torch.arange(2).repeat_interleave(len(scores))
    found = relative_to_mean(score, counts, sequence, 2)
    for number in range(2):
        own = sequence == number
        plain = [s for s, c in zip(score[own].tolist(), counts[own].tolist(), strict=True) if c]
        mean = sum(plain) / len(plain) if plain else 1.0
        assert found[own].tolist() == pytest.approx([s / mean for s in score[own].tolist()])


@pytest.mark.parametrize("runner", RUNNERS)
@given(case=strategies.cases, threshold=st.floats(0, 0.999))
def test_no_sentence_empties_below_a_threshold_of_one(
    runner: str, case: Case, threshold: float
) -> None:
    """The best ordinary token is at or above the mean, so one stays as long as there are any."""
    method = LearnedTokenPruning(LTPConfig(score_mean="ordinary"), NUM_LAYERS).double()
    output = run(runner, case.encoder, case.inputs, method.with_thresholds([threshold] * 3))
    ordinary = case.inputs.attention_mask & ~case.inputs.protected & ~case.inputs.special
    had = ordinary.any(dim=1)
    for record in output.layers:
        assert ((record.retained & ordinary).any(dim=1) == had).all()


def test_words_are_measured_against_words() -> None:
    """The first token and separators draw most of the attention, and no word falls for it."""
    score = torch.tensor([8.0, 0.4, 0.2, 0.6, 3.0])
    words = torch.tensor([0.0, 1.0, 1.0, 1.0, 0.0])
    relative = relative_to_mean(score, words, torch.zeros(5, dtype=torch.long), 1)
    assert relative.tolist() == pytest.approx([20.0, 1.0, 0.5, 1.5, 7.5])


@given(case=strategies.cases)
@settings(max_examples=15)
@torch.no_grad()
def test_the_learned_score_equals_the_loops(case: Case) -> None:
    """In the first layer, by the formula, token by token."""
    method, inputs = scored([0.0] * 3), case.inputs
    record = run_masked(case.encoder, inputs, method, record=True).layers[0]
    hidden = case.encoder.embed(inputs.input_ids, inputs.token_type_ids)
    layer = case.encoder.layers[0]
    position = torch.arange(hidden.shape[1])[None]
    positions = case.encoder.encoder.positions()[0]
    query, key, value = layer.project(hidden)
    probs = layer.attention_probs(query, key, inputs.attention_mask, None, positions, position)
    attention = importance_score(probs, inputs.attention_mask)
    attended = layer.attention.output(layer.context(probs, value), hidden)
    assert method.direction is not None
    direction = method.direction[0].tolist()
    for row, length in enumerate(case.lengths):
        raw = []
        for i in range(length):
            product = sum(u * h for u, h in zip(direction, attended[row, i].tolist(), strict=True))
            factor = math.exp(2 * math.tanh(product / math.sqrt(WIDTH)))
            raw.append(float(attention[row, i]) * factor)
        words = [s for i, s in enumerate(raw) if not inputs.special[row, i] and i > 0]
        mean = sum(words) / len(words) if words else 1.0
        expected = [s / mean for s in raw]
        assert record.score[row, :length].tolist() == pytest.approx(expected, abs=1e-9)
        plain = attention[row, :length].tolist()
        assert record.attention[row, :length].tolist() == pytest.approx(plain, abs=1e-9)


def test_at_the_start_the_learned_score_is_ltp() -> None:
    """Directions of 0 change no score."""
    method = ScoredTokenPruning(LTPSConfig(), NUM_LAYERS)
    method.fit_width_(WIDTH)
    thresholds = [0.8, 0.9, 0.7]
    plain = LearnedTokenPruning(LTPConfig(score_mean="ordinary"), NUM_LAYERS)
    encoder, inputs = tiny.float32_encoder(3), tiny.inputs((9, 4), 1)
    ours = run("packed", encoder, inputs, method.with_thresholds(thresholds))
    theirs = run("packed", encoder, inputs, plain.with_thresholds(thresholds))
    assert ours.ffn_length.tolist() == theirs.ffn_length.tolist()
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=0, atol=1e-6)


def test_the_learned_factor_is_counted() -> None:
    """D MACs for each token that enters, and, as executed, its attention output where it goes."""
    method = scored([0.0] * 3)
    assert method.reads_states
    sizes: dict[str, Any] = {"hidden": 8, "intermediate": 32}
    added = {
        accounting: layer_macs(5, 3, decision=method.decision_cost, accounting=accounting, **sizes)
        - layer_macs(5, 3, accounting=accounting, **sizes)
        for accounting in ("paper", "executed")
    }
    assert added == {"paper": 5 * 8, "executed": 5 * 8 + 2 * (5 * 8 + 8 * 8)}


def test_directions_are_kept_to_the_last_bit() -> None:
    """Written as text and read again, the numbers are the same."""
    method = scored([0.8, 0.9, 0.7]).float()
    assert method.direction is not None
    loaded = load_method(json.loads(json.dumps(method.state_json())))
    assert isinstance(loaded, ScoredTokenPruning)
    assert loaded.direction is not None
    assert torch.equal(loaded.direction, method.direction)


# --- straight-through masks -----------------------------------------------------------------------


def straight(
    case: Case, method: ThresholdMethod, log_scale: float, temperature: float = 0.15
) -> tuple[Tensor, Tensor]:
    """Logits and lengths of a straight-through pass."""
    scale = torch.tensor(log_scale, dtype=torch.float64)
    out = run_straight_through(
        case.encoder, case.inputs, method, temperature=temperature, log_scale=scale
    )
    return out.logits, out.lengths


@pytest.mark.parametrize("kind", ["ltp", "ltp_s"])
@given(case=strategies.cases, log_scale=st.floats(-3, 1))
def test_forward_it_is_the_hard_pass(kind: str, case: Case, log_scale: float) -> None:
    """Same logits and lengths as removal with the thresholds of that scale."""
    method: ThresholdMethod = scored([0.5] * 3)
    if kind == "ltp":
        method = LearnedTokenPruning(
            LTPConfig(score_mean="ordinary", shape="learned"), NUM_LAYERS
        ).double()
    assert method.delta is not None
    method.delta.data.copy_(torch.tensor([0.2, -0.3, 0.1]))
    logits, lengths = straight(case, method, log_scale)
    thresholds = method.shaped(torch.tensor(log_scale, dtype=torch.float64)).tolist()
    hard = run_masked(case.encoder, case.inputs, method.with_thresholds(thresholds))
    torch.testing.assert_close(logits, hard.logits, rtol=0, atol=1e-9)
    assert lengths[:, 1:].tolist() == hard.ffn_length.tolist()
    assert lengths[:, 0].tolist() == list(case.lengths)


def test_the_gradient_of_the_cost_equals_the_loops() -> None:
    """Of the first layer's length to the shape, by the sigmoid's slope; no score receives any."""
    case = Case(
        family="bert", model_seed=2, num_heads=2, lengths=(9,), data_seed=4, extra_padding=0
    )
    method, log_scale, t = scored([0.5] * 3), math.log(0.9), 0.15
    _, lengths = straight(case, method, log_scale, t)
    gradients = torch.autograd.grad(
        lengths[0, 1], [method.delta, method.direction], allow_unused=True
    )
    assert gradients[1] is None
    record = run_masked(case.encoder, case.inputs, method, record=True).layers[0]
    free = ~case.inputs.protected[0]
    expected = [0.0] * 3
    for score in record.score[0][free].tolist():
        gate = 1 / (1 + math.exp(-(score - 0.9) / t))
        for k in range(3):
            own = (1.0 if k == 0 else 0.0) - 1 / 3  # of threshold_0 / 0.9 to delta_k
            expected[k] -= gate * (1 - gate) / t * 0.9 * own
    assert gradients[0].tolist() == pytest.approx(expected, rel=1e-6)


def test_a_token_that_went_has_a_gradient() -> None:
    """The logits move the directions and the shape although every mask is 0 or 1."""
    case = Case(
        family="bert", model_seed=2, num_heads=2, lengths=(9, 6), data_seed=4, extra_padding=1
    )
    method = scored([0.5] * 3)
    logits, _ = straight(case, method, math.log(0.9))
    logits[:, 0].sum().backward()
    assert method.direction is not None
    assert method.delta is not None
    # The last layer's decision changes no logit: the head reads the first token, which stays.
    assert method.direction.grad[:2].abs().amax(dim=1).min() > 1e-8
    assert method.delta.grad.abs().max() > 1e-8
    assert method.direction.grad.isfinite().all()


@given(case=strategies.cases, log_scale=st.floats(-2, 1))
def test_what_is_left_out_has_no_gradient(case: Case, log_scale: float) -> None:
    """All gradients are those of a pass that computes every row of every layer."""
    method = scored([0.5] * 3)
    assert method.delta is not None
    method.delta.data.copy_(torch.tensor([0.2, -0.3, 0.1]))
    encoder = case.encoder.requires_grad_()
    learned = [p for p in (*encoder.parameters(), *method.parameters()) if p.requires_grad]
    scale = torch.tensor(log_scale, dtype=torch.float64)
    found = []
    for run_pass in (run_straight_through, computing_every_row):
        out = run_pass(encoder, case.inputs, method, temperature=0.15, log_scale=scale)
        value = out.logits.sin().sum() + (out.lengths * out.lengths.detach().cos()).sum()
        found.append(torch.autograd.grad(value, learned, materialize_grads=True))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)


def computing_every_row(
    encoder: Encoder,
    inputs: Inputs,
    method: ThresholdMethod,
    *,
    temperature: float,
    log_scale: Tensor,
) -> StraightOutput:
    """A straight-through pass over all places of the batch, whether anything depends on them or not."""
    live = inputs.attention_mask
    mask = cost_mask = live.double()
    thresholds = method.shaped(log_scale)
    hard = method.with_thresholds(thresholds.detach().tolist())
    mixed = hidden = encoder.embed(inputs.input_ids, inputs.token_type_ids)
    positions, position = encoder.encoder.positions(), torch.arange(live.shape[1])[None]
    kept = [cost_mask.sum(dim=1)]
    for index, layer in enumerate(encoder.layers):
        query, key, value = layer.project(hidden)
        probs = layer.attention_probs(
            query, key, inputs.attention_mask, None, positions[index], position
        )
        probs = probs * mask[:, None, None, :]
        probs = probs / probs.sum(dim=-1, keepdim=True).clamp_min(1e-300)
        attended = layer.attend(layer.context(probs, value), hidden)
        state = padded_state(
            index,
            method,
            inputs,
            probs=probs,
            score=importance_score(probs, live),
            live=live,
            attended=attended,
            carry=None,
        )
        retained, masks = decide(hard, state).retained, []
        for compared in (method.score(state), method.score(state).detach()):
            slope = torch.sigmoid((compared - thresholds[index]) / temperature) * ~state.protected
            place = torch.zeros(live.shape, dtype=torch.float64)
            masks.append(place.masked_scatter(live, retained + (slope - slope.detach())))
        mask, cost_mask = mask * masks[0], cost_mask * masks[1]
        kept.append(cost_mask.sum(dim=1))
        hidden = layer.feed_forward(attended)
        mixed = mixed + mask[..., None] * (hidden - mixed)
        live = mask.detach() > 0
    return StraightOutput(
        head_logits(encoder, mixed, is_answerable(inputs, method, live)), torch.stack(kept, dim=1)
    )


def test_the_scale_follows_a_budget() -> None:
    """It rises while too much is spent, by at most a bounded step, and comes to rest at the goal."""
    method = scored([0.5] * 3)
    spent = []
    for _ in range(300):
        # A model whose relative FLOPs fall linearly with the logarithm of the scale.
        flops = min(1.0, max(0.1, 0.5 - 0.4 * float(method.log_scale)))
        before = float(method.log_scale)
        method.steer_(flops * 7, 7.0, 0.4, 0.1)
        assert abs(float(method.log_scale) - before) <= 0.07 + 1e-9
        spent.append(flops)
    assert spent[-1] == pytest.approx(0.4, abs=0.01)
    assert min(spent) > 0.35  # it does not swing far below
