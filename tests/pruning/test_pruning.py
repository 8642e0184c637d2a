"""The score, the keep rules and the soft mask, on bare tensors."""

from __future__ import annotations

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.pruning import METHODS, importance_score, load_method
from ltp_core.pruning.base import LayerState, ThresholdMethod
from ltp_core.pruning.ltp import LearnedTokenPruning, LTPConfig
from ltp_core.pruning.manual import ManualConfig, ManualThreshold
from tests import reference, strategies

THRESHOLD_METHODS = [name for name, m in METHODS.items() if issubclass(m, ThresholdMethod)]


def layer_state(scores: list[float], *, layer_index: int = 0, protect: bool = True) -> LayerState:
    """All tokens of one sequence, live at the entry of a layer."""
    size = len(scores)
    protected = torch.zeros(size, dtype=torch.bool)
    protected[0] = protect
    return LayerState(
        layer_index=layer_index,
        score=torch.tensor(scores, dtype=torch.float32),
        sequence=torch.zeros(size, dtype=torch.long),
        position=torch.arange(size),
        protected=protected,
        live_length=torch.tensor([size]),
        initial_length=torch.tensor([size]),
    )


def threshold_method(name: str, thresholds: list[float]) -> ThresholdMethod:
    """A method of this name with these absolute thresholds on the importance score as it comes."""
    kind = METHODS[name]
    assert issubclass(kind, ThresholdMethod)
    method = kind(kind.config_type(score_mean="live"), len(thresholds))
    return method.with_thresholds(thresholds)


# --- the score --------------------------------------------------------------------------------


def test_score_of_a_hand_computed_layer() -> None:
    """The score is the column sum of the attention, averaged over heads."""
    head_a = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.25, 0.25, 0.5]]
    head_b = [[0.25, 0.25, 0.5], [1.0, 0.0, 0.0], [0.5, 0.25, 0.25]]
    attention = torch.tensor([[head_a, head_b]])
    live = torch.ones(1, 3, dtype=torch.bool)
    assert [[1.25, 1.0, 0.75]] == importance_score(attention, live).tolist()


def test_score_ignores_queries_that_are_not_live() -> None:
    """What padding and pruned tokens attend to does not count."""
    attention = torch.tensor([[[[0.75, 0.25, 0.0], [0.5, 0.5, 0.0], [0.0, 1.0, 0.0]]]])
    live = torch.tensor([[True, True, False]])
    assert [[1.25, 0.75, 0.0]] == importance_score(attention, live).tolist()


@given(strategies.cases, st.data())
def test_scores_of_live_tokens_have_mean_one(case: strategies.Case, data: st.DataObject) -> None:
    """The unit is times uniform attention, whatever the length, the heads and what is live."""
    lengths = case.lengths
    width = max(lengths) + case.extra_padding
    generator = torch.Generator().manual_seed(case.data_seed)
    live = torch.zeros(len(lengths), width, dtype=torch.bool)
    for index, length in enumerate(lengths):
        live[index, :length] = torch.rand(length, generator=generator) < 0.6
        live[index, data.draw(st.integers(0, length - 1))] = True
    logits = 3 * torch.randn(
        len(lengths), case.num_heads, width, width, generator=generator, dtype=torch.float64
    )
    probs = logits.masked_fill(~live[:, None, None, :], -math.inf).softmax(-1)
    mean = importance_score(probs, live).sum(1) / live.sum(1)
    torch.testing.assert_close(mean, torch.ones_like(mean), rtol=0, atol=1e-12)


def test_score_equals_the_loops() -> None:
    """The score equals n times Eq. 7 written as loops, queries weighted or not."""
    generator = torch.Generator().manual_seed(3)
    probs = torch.rand(1, 2, 5, 5, generator=generator, dtype=torch.float64)
    weight = torch.rand(1, 5, generator=generator, dtype=torch.float64)
    heads = [{(j, i): float(head[j, i]) for j in range(5) for i in range(5)} for head in probs[0]]
    every = list(range(5))
    plain = reference.importance(heads, every, dict.fromkeys(every, 1.0))
    weighted = reference.importance(heads, every, dict(enumerate(weight[0].tolist())))
    live = torch.ones(1, 5, dtype=torch.bool)
    assert pytest.approx(list(plain.values())) == importance_score(probs, live)[0].tolist()
    soft = importance_score(probs, query_weight=weight)[0].tolist()
    assert pytest.approx(list(weighted.values())) == soft


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_score_is_summed_in_float32(dtype: torch.dtype) -> None:
    """Half-precision attention is averaged over heads and summed over queries in float32."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 3, 300, 300, generator=generator, dtype=torch.float64)
    probs = logits.softmax(-1).to(dtype)
    score = importance_score(probs, torch.ones(1, 300, dtype=torch.bool))
    assert torch.float32 == score.dtype
    expected = probs.double().mean(1).sum(1).float()
    torch.testing.assert_close(score, expected, rtol=1e-5, atol=0)


# --- thresholds -------------------------------------------------------------------------------


def test_linear_thresholds_of_the_paper() -> None:
    """With theta of layer 12 at the paper's 0.01 (here 1.28), layers 3, 6, 9 have 1/4, 1/2, 3/4."""
    method = LearnedTokenPruning(LTPConfig(final_threshold=1.28), 12)
    expected = [0.32, 0.64, 0.96, 1.28]
    assert pytest.approx(expected) == [method.threshold(layer) for layer in (2, 5, 8, 11)]


@pytest.mark.parametrize("name", THRESHOLD_METHODS)
def test_a_score_equal_to_the_threshold_is_pruned(name: str) -> None:
    """Eq. 8 keeps what is greater, not what is equal."""
    method = threshold_method(name, [0.5])
    above = math.nextafter(0.5, 1) + 1e-7
    assert [True, False, False] == method.retain(layer_state([above, 0.5, 0.4])).retained.tolist()


@pytest.mark.parametrize("name", THRESHOLD_METHODS)
@given(scores=strategies.scores, threshold=st.floats(0, 4, width=32), layer=st.integers(0, 1))
def test_threshold_rule_equals_the_loops(
    name: str, scores: list[float], threshold: float, layer: int
) -> None:
    """The elementwise rule keeps what the rule written as a loop keeps."""
    thresholds = [threshold, threshold / 2]
    state = layer_state(scores, layer_index=layer)
    kept = threshold_method(name, thresholds).retain(state).retained | state.protected
    expected = reference.threshold_rule(thresholds)(layer, dict(enumerate(scores)))
    assert sorted(expected) == kept.nonzero().flatten().tolist()


@pytest.mark.parametrize("name", THRESHOLD_METHODS)
def test_with_thresholds_leaves_the_original_alone(name: str) -> None:
    """What-if thresholds are a copy: the method that was loaded keeps its own."""
    original = threshold_method(name, [0.25, 0.5])
    changed = original.with_thresholds([1.0, 2.0])
    assert [0.25, 0.5] == [original.threshold(0), original.threshold(1)]
    assert [1.0, 2.0] == [changed.threshold(0), changed.threshold(1)]


@pytest.mark.parametrize("name", THRESHOLD_METHODS)
def test_with_thresholds_wants_one_per_layer(name: str) -> None:
    """A wrong number of thresholds is an error that names both numbers."""
    with pytest.raises(ValueError, match=r"3 .*2"):
        threshold_method(name, [0.25, 0.5]).with_thresholds([1.0, 2.0, 3.0])


@pytest.mark.parametrize("name", THRESHOLD_METHODS)
@given(thresholds=st.lists(st.floats(0, 64, width=32), min_size=1, max_size=12))
def test_saved_thresholds_are_bit_equal(name: str, thresholds: list[float]) -> None:
    """Thresholds are stored absolute and come back with every bit, through JSON text."""
    method = threshold_method(name, thresholds)
    loaded = load_method(json.loads(json.dumps(method.state_json())))
    assert thresholds == [loaded.threshold(layer) for layer in range(len(thresholds))]


def test_stored_thresholds_do_not_follow_the_config() -> None:
    """Changing the initial final threshold in a saved state shifts no learned threshold."""
    state = LearnedTokenPruning(LTPConfig(final_threshold=0.64), 2).state_json()
    state["config"]["final_threshold"] = 1.28
    assert [0.32, 0.64] == pytest.approx([load_method(state).threshold(i) for i in (0, 1)])


def test_thresholds_are_clamped_at_zero() -> None:
    """A threshold below 0 would mean nothing, as no score is: it becomes 0."""
    method = LearnedTokenPruning(LTPConfig(), 3).with_thresholds([-0.5, 0.0, 0.5])
    method.settle_()
    assert [0.0, 0.0, 0.5] == method.thresholds.tolist()


def test_scaling_multiplies_every_threshold() -> None:
    """One multiplier moves all thresholds by the same factor."""
    method = LearnedTokenPruning(LTPConfig(), 2).with_thresholds([0.5, 1.0])
    method.scale_(0.5)
    assert [0.25, 0.5] == method.thresholds.tolist()


def test_learned_thresholds_are_parameters_and_manual_ones_are_not() -> None:
    """Only LTP's thresholds are trained."""
    learned = LearnedTokenPruning(LTPConfig(), 2)
    manual = ManualThreshold(ManualConfig(), 2)
    assert ["thresholds"] == [name for name, _ in learned.named_parameters()]
    assert [] == list(manual.parameters())
    assert ["thresholds"] == list(manual.state_dict())


def test_top_k_by_hand() -> None:
    """The loops rank protected tokens first, then by score, equal scores by position."""
    score = {0: 0.1, 2: 0.5, 3: 0.9, 5: 0.5, 6: 0.5}
    kept = [sorted(reference.top_k(score, k)) for k in (0, 1, 2, 3, 4, 9)]
    assert [[0], [0], [0, 3], [0, 2, 3], [0, 2, 3, 5], [0, 2, 3, 5, 6]] == kept


# --- the soft mask ----------------------------------------------------------------------------


def ltp(thresholds: list[float]) -> LearnedTokenPruning:
    """LTP in float64 with these thresholds."""
    return LearnedTokenPruning(LTPConfig(), len(thresholds)).with_thresholds(thresholds).double()


def test_soft_mask_by_hand() -> None:
    """Eq. 9: 1/2 at the threshold, sigmoid(1) one temperature above, 1 where protected."""
    score = torch.tensor([[0.1, 0.5, 0.75]], dtype=torch.float64)
    protected = torch.tensor([[True, False, False]])
    mask = ltp([0.5]).soft_mask(score, protected, 0, 0.25)
    assert pytest.approx([1.0, 0.5, 1 / (1 + math.exp(-1))]) == mask[0].tolist()


def test_gradient_of_the_soft_mask() -> None:
    """Eq. 13: a threshold's gradient is the sum of -M (1 - M) / T over unprotected tokens."""
    method = ltp([0.0, 0.6])
    score = torch.tensor([[0.2, 0.5, 0.7, 1.3]], dtype=torch.float64)
    protected = torch.tensor([[True, False, False, False]])
    mask = method.soft_mask(score, protected, 1, 0.3)
    (gradient,) = torch.autograd.grad(mask.sum(), method.thresholds)
    free = mask.detach()[0, 1:]
    assert pytest.approx([0.0, float(-(free * (1 - free)).sum() / 0.3)]) == gradient.tolist()


def test_a_threshold_at_zero_still_learns() -> None:
    """The clamp at 0 is no trap: the gradient there is not 0."""
    method = ltp([0.0])
    score = torch.tensor([[1.0, 0.4]], dtype=torch.float64)
    protected = torch.tensor([[True, False]])
    method.soft_mask(score, protected, 0, 0.2).sum().backward()
    assert method.thresholds.grad is not None
    assert float(method.thresholds.grad[0]) < -0.1


@given(strategies.scores, st.floats(0, 4), st.sampled_from([1e-6, 1e-3, 0.1, 10.0]))
def test_soft_mask_is_finite_and_between_zero_and_one(
    scores: list[float], threshold: float, temperature: float
) -> None:
    """No score, threshold or temperature overflows, forwards or backwards."""
    method = LearnedTokenPruning(LTPConfig(), 1).with_thresholds([threshold])
    score = torch.tensor([scores])
    protected = torch.zeros_like(score, dtype=torch.bool)
    mask = method.soft_mask(score, protected, 0, temperature)
    mask.sum().backward()
    assert bool(((mask >= 0) & (mask <= 1)).all())
    assert method.thresholds.grad is not None
    assert bool(method.thresholds.grad.isfinite().all())
