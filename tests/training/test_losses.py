"""What a stage minimises: losses by hand, distillation by SciPy, cost by the formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from ltp_core.config import HardConfig, SoftConfig, StageConfig
from ltp_core.flops import layer_macs
from ltp_core.pruning import LearnedTokenPruning, Unpruned
from ltp_core.training.losses import (
    Pass,
    Student,
    as_choices,
    budget_at,
    distillation_loss,
    prediction_loss,
    pruning_penalty,
    task_loss,
)
from tests import tiny
from tests.running import ltp, run

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
TEACHER = torch.tensor([[1.0, 1.5, -0.5], [0.2, -2.0, 1.0]])
LABELS = torch.tensor([0, 1])


def softened(logits: torch.Tensor, temperature: float) -> np.ndarray:
    """Class probabilities of each row at a temperature, in float64."""
    return np.asarray(special.softmax(logits.double().numpy() / temperature, axis=1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 10.0])
def test_distillation_is_the_softened_divergence(temperature: float) -> None:
    """T² times the mean over examples of KL(teacher || student), as SciPy computes it."""
    divergence = stats.entropy(
        softened(TEACHER, temperature), softened(LOGITS, temperature), axis=1
    )
    loss = distillation_loss(LOGITS, TEACHER, temperature)
    assert pytest.approx(temperature**2 * divergence.mean(), rel=1e-5) == float(loss)


@given(st.lists(st.floats(-20, 20), min_size=2, max_size=4), st.sampled_from([1.0, 2.0]))
def test_distillation_of_equal_distributions_is_zero(row: list[float], temperature: float) -> None:
    """Nothing to learn from a teacher that says the same, up to a constant in the logits."""
    logits = torch.tensor([row], requires_grad=True)
    loss = distillation_loss(logits, logits.detach() + 3.0, temperature)
    loss.backward()
    assert pytest.approx(0.0, abs=1e-5) == float(loss.detach())
    assert logits.grad is not None
    assert bool((logits.grad.abs() < 1e-5).all())


def test_distillation_gradient_does_not_fade_with_the_temperature() -> None:
    """The gradient of a softened loss is T (p_student - p_teacher) / batch."""
    for temperature in (1.0, 4.0):
        logits = LOGITS.clone().requires_grad_()
        distillation_loss(logits, TEACHER, temperature).backward()
        expected = softened(LOGITS, temperature) - softened(TEACHER, temperature)
        assert logits.grad is not None
        np.testing.assert_allclose(logits.grad.numpy(), temperature * expected / 2, rtol=1e-4)


def test_distillation_of_a_regression_is_the_squared_distance() -> None:
    """With one output there is no distribution: mean squared distance to the teacher."""
    loss = distillation_loss(torch.tensor([[1.0], [4.0]]), torch.tensor([[3.0], [3.0]]), 2.0)
    assert pytest.approx((4.0 + 1.0) / 2) == float(loss)


def test_task_loss_by_hand() -> None:
    """Cross-entropy of the labels; mean squared error where there is one output."""
    chosen = [softened(LOGITS, 1.0)[i, label] for i, label in enumerate(LABELS.tolist())]
    assert pytest.approx(-np.log(chosen).mean(), rel=1e-5) == float(task_loss(LOGITS, LABELS))
    regression = task_loss(torch.tensor([[1.0], [2.5]]), torch.tensor([2.0, 2.0]))
    assert pytest.approx((1.0 + 0.25) / 2) == float(regression)


def test_losses_of_half_precision_logits_are_float32() -> None:
    """Logits that autocast left in bfloat16 are widened before the loss."""
    half = LOGITS.bfloat16()
    for loss in (task_loss(half, LABELS), distillation_loss(half, TEACHER, 2.0)):
        assert torch.float32 == loss.dtype


def test_prediction_loss_mixes_by_the_weight() -> None:
    """`(1 - weight) task + weight distillation`."""
    stage = StageConfig(distillation_weight=0.25, distillation_temperature=3.0)
    mixed = prediction_loss(stage, LOGITS, LABELS, TEACHER)
    task, distilled = task_loss(LOGITS, LABELS), distillation_loss(LOGITS, TEACHER, 3.0)
    assert (float(task), float(distilled)) == (float(mixed.task), float(mixed.distillation or 0))
    assert pytest.approx(0.75 * float(task) + 0.25 * float(distilled)) == float(mixed.total)


@pytest.mark.parametrize(("weight", "teacher"), [(0.5, None), (0.0, TEACHER)])
def test_without_a_teacher_there_is_the_task_alone(
    weight: float, teacher: torch.Tensor | None
) -> None:
    """No teacher, or no weight on it: no distillation is computed or reported."""
    alone = prediction_loss(StageConfig(distillation_weight=weight), LOGITS, LABELS, teacher)
    assert alone.distillation is None
    assert float(task_loss(LOGITS, LABELS)) == float(alone.total)


# --- what pruning costs ---------------------------------------------------------------------------


def made(flops: float, retained: float) -> Pass:
    """A pass that measured this."""
    return Pass(LOGITS, torch.tensor(flops), torch.tensor(retained))


def test_penalty_is_lambda_times_the_mean_mask_plus_the_squared_excess() -> None:
    """Regulariser (Eq. 12) and budget, each with its weight; below the budget nothing is due."""
    stage = SoftConfig(regularization_weight=0.3, target_relative_flops=0.4, budget_weight=20.0)
    for flops, excess in ((0.7, 0.3), (0.1, 0.0)):
        expected = 0.3 * 0.5 + 20.0 * excess**2
        found = pruning_penalty(stage, made(flops, 0.5), 1.0, is_soft=True)
        assert pytest.approx(expected) == float(found)


@pytest.mark.parametrize(
    ("ramp", "progress", "budget"),
    [
        (0.5, 0.0, 1.0),
        (0.5, 0.25, 0.7),
        (0.5, 0.5, 0.4),
        (0.5, 0.9, 0.4),
        (1.0, 0.5, 0.7),
        (0.0, 0.0, 0.4),
        (0.0, 1.0, 0.4),
    ],
)
def test_the_budget_falls_linearly_to_its_target(
    ramp: float, progress: float, budget: float
) -> None:
    """From 1 to the target over the ramp, then constant; the penalty is 0 at the present budget."""
    stage = SoftConfig(target_relative_flops=0.4, budget_ramp=ramp)
    assert pytest.approx(budget) == budget_at(stage, progress)
    at_budget = pruning_penalty(stage, made(budget, 0.5), progress, is_soft=True)
    assert pytest.approx(0.0, abs=1e-9) == float(at_budget)


@pytest.mark.parametrize("progress", [0.0, 0.5, 1.0])
def test_penalty_without_budget_or_soft_stage(progress: float) -> None:
    """Lambda alone in the soft stage without a budget, and nothing outside of it."""
    soft, hard = SoftConfig(regularization_weight=0.3), HardConfig(target_relative_flops=0.2)
    out = made(0.7, 0.5)
    assert pytest.approx(0.15) == float(pruning_penalty(soft, out, progress, is_soft=True))
    assert float(pruning_penalty(soft, out, progress, is_soft=False)) == 0
    assert float(pruning_penalty(hard, out, progress, is_soft=False)) == 0


def student_pass(method: LearnedTokenPruning | Unpruned, temperature: float | None) -> Pass:
    """A training pass over sequences of 11, 1, 6 and 2 tokens."""
    with torch.no_grad():
        out: Pass = Student(tiny.encoder(), method)(tiny.inputs((11, 1, 6, 2), 7), temperature)
    return out


@pytest.mark.parametrize("temperature", [None, 1e-8])
def test_expected_flops_of_hard_weights_are_layer_macs(temperature: float | None) -> None:
    """With masks of 0 and 1 the differentiable cost is `flops.layer_macs` of the lengths."""
    method, config = ltp((0.4, 0.6, 0.8)), tiny.encoder().config
    lengths = run("packed", tiny.encoder(), tiny.inputs((11, 1, 6, 2), 7), method)
    size = {"hidden": config.hidden_size, "intermediate": config.intermediate_size}
    pairs = zip(
        lengths.attention_length.flatten().tolist(),
        lengths.ffn_length.flatten().tolist(),
        strict=True,
    )
    pruned = math.fsum(layer_macs(a, f, accounting="paper", **size) for a, f in pairs)
    whole = 3 * math.fsum(layer_macs(n, n, accounting="paper", **size) for n in (11, 1, 6, 2))
    out = student_pass(method, temperature)
    assert pytest.approx(pruned / whole, rel=1e-6) == float(out.relative_flops)
    kept = int(lengths.ffn_length.sum())
    assert pytest.approx(kept / (3 * 20), rel=1e-6) == float(out.mean_retained)
    assert 0.2 < pruned / whole < 0.9


def test_a_pass_that_prunes_nothing_costs_one() -> None:
    """The unpruned student keeps and costs everything."""
    out = student_pass(Unpruned.neutral(3), None)  # type: ignore[arg-type]
    assert [1.0, 1.0] == [float(out.relative_flops), float(out.mean_retained)]


@given(st.integers(1, 4), st.integers(2, 5), st.integers(0, 99))
def test_independent_labels_are_choices(rows: int, labels: int, seed: int) -> None:
    """Their losses are binary cross-entropy and the divergence of each sigmoid, means over labels."""
    random = torch.Generator().manual_seed(seed)
    logits, teacher = torch.randn(2, rows, labels, generator=random)
    truth = torch.randint(0, 2, (rows, labels), generator=random)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, truth.float())
    torch.testing.assert_close(task_loss(as_choices(logits), truth), expected)
    p, q = torch.sigmoid(teacher), torch.sigmoid(logits)
    kl = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    found = distillation_loss(as_choices(logits), as_choices(teacher), 1.0)
    torch.testing.assert_close(found, kl.mean())
