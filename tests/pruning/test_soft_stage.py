"""The soft stage: the loops' equal, removal when cold, differentiable, and what it pays for."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ltp_core.flops import relative_flops
from ltp_core.runners.masked import SoftMaskForm, SoftOutput, run_soft
from ltp_core.training.losses import Pass, Student
from tests import reference_soft, strategies, tiny
from tests.running import FORMS, is_far_from, ltp, run, soft_loops
from tests.strategies import NUM_LAYERS, Case

RISING = (0.4, 0.6, 0.8)


def soft(
    case: Case, thresholds: tuple[float, ...], temperature: float, form: SoftMaskForm
) -> SoftOutput:
    """The masked runner's soft pass, without gradients."""
    with torch.no_grad():
        return run_soft(
            case.encoder, case.inputs, ltp(thresholds), temperature=temperature, form=form
        )


@pytest.mark.parametrize("form", FORMS)
@given(
    case=strategies.cases,
    thresholds=strategies.thresholds,
    temperature=st.sampled_from([0.01, 0.128, 1.0]),
)
def test_soft_stage_equals_the_loops(
    form: SoftMaskForm, case: Case, thresholds: tuple[float, ...], temperature: float
) -> None:
    """Soft logits and weights, in both forms, are those of the equations written as loops."""
    output = soft(case, thresholds, temperature, form)
    for row, length in enumerate(case.lengths):
        expected = soft_loops(case.encoder, case.inputs, row, thresholds, temperature, FORMS[form])
        np.testing.assert_allclose(output.logits[row].numpy(), expected.logits, atol=1e-8)
        weights = [[layer.weight[i] for i in range(length)] for layer in expected.layers]
        np.testing.assert_allclose(output.weights[1:, row, :length].numpy(), weights, atol=1e-9)
        assert not bool(output.weights[:, row, length:].any())
        assert [1.0] * length == output.weights[0, row, :length].tolist()


@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_cold_soft_stage_is_removal(case: Case, thresholds: tuple[float, ...]) -> None:
    """With T towards 0, the soft weights are the hard masks and the soft logits the hard ones."""
    hard = run("masked", case.encoder, case.inputs, ltp(thresholds))
    assume(is_far_from(hard, thresholds, 1e-5))
    cold = soft(case, thresholds, 1e-8, "softmax")
    torch.testing.assert_close(cold.logits, hard.logits, rtol=0, atol=1e-8)
    for record, weight in zip(hard.layers, cold.weights[1:], strict=True):
        torch.testing.assert_close(weight, record.retained.to(weight.dtype), rtol=0, atol=1e-9)


@given(case=strategies.cases, temperature=st.sampled_from([0.01, 0.128, 1.0]))
def test_soft_weights_fall_from_layer_to_layer(case: Case, temperature: float) -> None:
    """A token that faded does not come back; protected tokens stay at exactly 1."""
    weights = soft(case, RISING, temperature, "softmax").weights
    assert bool((weights[1:] <= weights[:-1]).all())
    assert [1.0] * len(case.lengths) * (NUM_LAYERS + 1) == weights[:, :, 0].flatten().tolist()


@pytest.mark.parametrize("form", FORMS)
@given(case=strategies.cases)
def test_soft_stage_alone_equals_batched(form: SoftMaskForm, case: Case) -> None:
    """Batch mates and padding do not leak into the soft stage either."""
    batched = soft(case, RISING, 0.1, form)
    for row, length in enumerate(case.lengths):
        with torch.no_grad():
            alone = run_soft(
                case.encoder,
                tiny.row(case.inputs, row),
                ltp(RISING),
                temperature=0.1,
                form=form,
            )
        torch.testing.assert_close(batched.logits[row], alone.logits[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(
            batched.weights[:, row, :length], alone.weights[:, 0], rtol=0, atol=1e-9
        )


@pytest.mark.parametrize("form", FORMS)
def test_gradients_reach_every_threshold(form: SoftMaskForm) -> None:
    """Logits move every threshold but the last layer's; the mean weight moves every one."""
    method = ltp((0.0, 0.6, 0.9))
    output = run_soft(tiny.encoder(), tiny.inputs((9, 5), 3), method, temperature=0.128, form=form)
    (from_weights,) = torch.autograd.grad(
        output.weights[1:].mean(), method.thresholds, retain_graph=True
    )
    (from_logits,) = torch.autograd.grad(output.logits.square().sum(), method.thresholds)
    assert bool((from_weights.abs() > 1e-6).all())
    assert bool((from_logits[:-1].abs() > 1e-6).all())


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("layer", range(NUM_LAYERS))
def test_threshold_gradient_equals_finite_differences(form: SoftMaskForm, layer: int) -> None:
    """Automatic gradients are the slopes of the loops, for the loss and for the mean weight."""
    encoder, inputs = tiny.encoder("bert", 2), tiny.inputs((7,), 4)
    thresholds = (0.5, 0.6, 0.9)

    def value(shift: float) -> float:
        moved = tuple(t + shift * (i == layer) for i, t in enumerate(thresholds))
        result = soft_loops(encoder, inputs, 0, moved, 0.2, FORMS[form])
        return float(result.logits.sum()) + reference_soft.regularizer([result])

    method = ltp(thresholds)
    output = run_soft(encoder, inputs, method, temperature=0.2, form=form)
    (output.logits.sum() + output.weights[1:].mean()).backward()
    assert method.thresholds.grad is not None
    expected = (value(1e-5) - value(-1e-5)) / 2e-5
    assert pytest.approx(expected, rel=1e-5, abs=1e-8) == float(method.thresholds.grad[layer])


def test_gradients_stay_finite_when_tokens_have_faded() -> None:
    """Weights that reach 0 in float32 give no NaN, forwards or backwards."""
    encoder = tiny.float32_encoder(1)
    method = ltp((50.0, 50.0, 50.0)).float()
    output = run_soft(encoder, tiny.inputs((9, 5), 3), method, temperature=0.01)
    output.logits.sum().backward()
    assert bool(output.logits.isfinite().all())
    assert method.thresholds.grad is not None
    assert bool(method.thresholds.grad.isfinite().all())
    assert all(bool(p.grad.isfinite().all()) for p in encoder.parameters() if p.grad is not None)


def test_thresholds_learn_under_autocast() -> None:
    """In mixed precision the weights stay float32 and the gradients reach every threshold."""
    method = ltp(RISING).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = run_soft(
            tiny.float32_encoder(0), tiny.inputs((9, 5), 3), method, temperature=0.128
        )
    assert torch.float32 == output.weights.dtype
    output.weights.mean().backward()
    assert method.thresholds.grad is not None
    assert bool((method.thresholds.grad < -1e-4).all())


# --- what it costs ---------------------------------------------------------------------------


def soft_pass(case: Case, temperature: float | None, form: SoftMaskForm = "softmax") -> Pass:
    """The training pass of the case; hard without a temperature."""
    with torch.no_grad():
        out: Pass = Student(case.encoder, ltp(RISING))(case.inputs, temperature, form)
    return out


@pytest.mark.parametrize("form", FORMS)
@given(case=strategies.cases, temperature=st.sampled_from([0.013, 0.128, 1.0]))
@settings(max_examples=20)
def test_regularizer_and_budget_equal_the_loops(
    form: SoftMaskForm, case: Case, temperature: float
) -> None:
    """Mean weight and expected FLOPs are sums over the batch's real tokens, then divided."""
    config = tiny.reference_config(case.encoder.config)
    expected = [
        soft_loops(case.encoder, case.inputs, row, RISING, temperature, FORMS[form])
        for row in range(len(case.lengths))
    ]
    actual = soft_pass(case, temperature, form)
    flops = reference_soft.expected_relative_flops(expected, config)
    assert pytest.approx(reference_soft.regularizer(expected), rel=1e-6) == float(
        actual.mean_retained
    )
    assert pytest.approx(flops, rel=1e-6) == float(actual.relative_flops)


@given(case=strategies.cases)
def test_cold_soft_cost_is_the_hard_cost(case: Case) -> None:
    """Towards T = 0 the expected FLOPs and the mean weight are what hard pruning measures."""
    hard = run("packed", case.encoder, case.inputs, ltp(RISING))
    assume(is_far_from(hard, RISING, 1e-5))
    measured = relative_flops(
        case.inputs.length.numpy(),
        hard.attention_length.numpy(),
        hard.ffn_length.numpy(),
        **case.encoder.config.sizes,
    )["paper"]
    kept = float(hard.ffn_length.sum()) / (sum(case.lengths) * NUM_LAYERS)
    for out in (soft_pass(case, 1e-8), soft_pass(case, None)):
        assert pytest.approx(measured, rel=1e-6) == float(out.relative_flops)
        assert pytest.approx(kept, rel=1e-6) == float(out.mean_retained)


def test_cost_ignores_padding() -> None:
    """More padding makes a batch neither cheaper nor dearer."""
    tight = Case(
        family="bert", model_seed=1, num_heads=2, lengths=(5, 9), data_seed=2, extra_padding=0
    )
    loose = Case(**{**vars(tight), "extra_padding": 6})
    for temperature in (0.128, None):
        left, right = soft_pass(tight, temperature), soft_pass(loose, temperature)
        torch.testing.assert_close(right.relative_flops, left.relative_flops)
        torch.testing.assert_close(right.mean_retained, left.mean_retained)


def test_budget_gradient_reaches_every_threshold() -> None:
    """Raising any threshold lowers the expected FLOPs."""
    method = ltp(RISING)
    out: Pass = Student(tiny.encoder(), method)(tiny.inputs((9, 5), 3), 0.128)
    (gradient,) = torch.autograd.grad(out.relative_flops, method.thresholds)
    assert bool((gradient < -1e-5).all())
