"""All runners, one answer: masked, packed, repadded and the loops of `tests/reference.py` agree.

What holds for every method on every runner stands in `tests/pruning/test_method_contract.py`.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from ltp_core import native_build
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.base import RunOutput
from ltp_core.runners.masked import run_masked
from ltp_core.runners.packed import PackedRunner, run_packed
from ltp_core.runners.repadded import run_repadded
from tests import strategies, tiny
from tests.running import (
    MARGIN,
    RUNNERS,
    assert_same,
    both_runners,
    is_clear,
    is_far_from,
    loops,
    ltp,
    run,
)
from tests.strategies import EVERYTHING_BELOW, NUM_LAYERS, Case

OTHERS = ("packed", "repadded")
run_computing_blanks = partial(run_repadded, computes_blanks=True)

unchecked = pytest.mark.unchecked
"""Passes like those of `test_runner_equals_the_loops`, whose types and shapes are checked there."""

# --- equality with the loops, and of the runners ------------------------------------------------


@both_runners
@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_runner_equals_the_loops(runner: str, case: Case, thresholds: tuple[float, ...]) -> None:
    """Logits, scores and kept sets are those of Eqs. 1 to 8 written as loops."""
    output = run(runner, case.encoder, case.inputs, ltp(thresholds))
    for row, length in enumerate(case.lengths):
        expected = loops(case, row, thresholds)
        assume(is_clear(expected, thresholds))
        np.testing.assert_allclose(output.logits[row].numpy(), expected.logits, atol=1e-9)
        for layer, record in zip(expected.layers, output.layers, strict=True):
            assert layer.live == record.live[row].nonzero().flatten().tolist()
            assert layer.kept == record.retained[row].nonzero().flatten().tolist()
            scores = [layer.score.get(i, 0.0) for i in range(length)]
            np.testing.assert_allclose(record.score[row, :length].numpy(), scores, atol=1e-9)
        entering, leaving = zip(*expected.lengths, strict=True)
        assert list(entering) == output.attention_length[row].tolist()
        assert list(leaving) == output.ffn_length[row].tolist()


@unchecked
@given(
    seed=st.integers(0, 7),
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=6),
    thresholds=strategies.thresholds,
)
def test_masked_equals_the_others_in_float32(
    seed: int, lengths: list[int], thresholds: tuple[float, ...]
) -> None:
    """In float32 the runners agree to 1e-4, leaving out decisions within 1e-4 of a threshold."""
    encoder, method = tiny.float32_encoder(seed), ltp(thresholds).float()
    inputs = tiny.inputs(lengths, seed)
    masked = run("masked", encoder, inputs, method)
    assume(is_far_from(masked, thresholds, 1e-4))
    assert torch.float32 == masked.logits.dtype
    for other in OTHERS:
        assert_same(masked, run(other, encoder, inputs, method), atol=1e-4)


@unchecked
@given(case=strategies.cases, thresholds=strategies.thresholds, protect_first=st.booleans())
def test_gradients_equal_those_of_the_masked_runner(
    case: Case, thresholds: tuple[float, ...], protect_first: bool
) -> None:
    """What trains the hard stage pushes every weight as the reference does."""
    case = replace(case, protect_first=protect_first)
    assume(
        is_far_from(run("masked", case.encoder, case.inputs, ltp(thresholds)), thresholds, MARGIN)
    )
    found = []
    for runner in (run_masked, run_repadded, run_computing_blanks):
        encoder = tiny.copy_of(case.encoder).requires_grad_(True)
        runner(encoder, case.inputs, ltp(thresholds)).logits.square().sum().backward()
        found.append([weight.grad for weight in encoder.parameters()])
    for expected, *others in zip(*found, strict=True):
        for actual in others:
            torch.testing.assert_close(actual, expected, rtol=0, atol=1e-9)


@unchecked
@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_computes_blanks_changes_no_answer(case: Case, thresholds: tuple[float, ...]) -> None:
    """Blanks that go through output projection and FFN as tokens do are read by nobody."""
    masked = run("masked", case.encoder, case.inputs, ltp(thresholds))
    assume(is_far_from(masked, thresholds, MARGIN))
    with torch.no_grad():
        found = run_computing_blanks(case.encoder, case.inputs, ltp(thresholds), record=True)
    assert_same(masked, found)


@pytest.mark.parametrize("computes_blanks", [False, True])
def test_attention_dropout_acts_while_training(computes_blanks: bool) -> None:
    """With blanks computed or not; in evaluation the same weights answer as without it."""
    encoder = tiny.noisy_encoder(attention_dropout=0.5, hidden_dropout=0.0)
    inputs, method = tiny.inputs((9, 4), 1), ltp((0.4, 0.6, 0.8))
    with torch.no_grad():
        trained, evaluated = (
            run_repadded(encoder.train(mode), inputs, method, computes_blanks=computes_blanks)
            for mode in (True, False)
        )
    assert not torch.allclose(trained.logits, evaluated.logits)
    expected = run("masked", encoder, inputs, method)
    torch.testing.assert_close(evaluated.logits, expected.logits, rtol=0, atol=1e-9)


def test_rounded_shapes_change_no_answer() -> None:
    """Under autocast, where batches come in few shapes, kept tokens and lengths stay the same."""
    encoder, inputs = tiny.float32_encoder(1), tiny.inputs((21, 5, 13), 2)
    outputs = []
    for runner in ("masked", "repadded"):
        with torch.autocast("cpu", torch.bfloat16):
            outputs.append(run(runner, encoder, inputs, ltp((0.4, 0.6, 0.8)).float()))
    assert_same(outputs[0], outputs[1], atol=0.05)


# --- batch mates, padding, and what is inside a mask -----------------------------------------------


@both_runners
def test_contents_of_the_padding_do_not_matter(runner: str) -> None:
    """Whatever ids and token types lie under the padding, the answer stays."""
    encoder, inputs = tiny.encoder("bert", 1), tiny.inputs((3, 9, 6), 5, extra_padding=2)
    noise = torch.randint(2, tiny.VOCAB_SIZE, inputs.input_ids.shape)
    dirty = replace(
        inputs,
        input_ids=torch.where(inputs.attention_mask, inputs.input_ids, noise),
        token_type_ids=torch.where(inputs.attention_mask, inputs.token_type_ids, 1),
    )
    method = ltp((0.4, 0.6, 0.8))
    assert_same(run(runner, encoder, inputs, method), run(runner, encoder, dirty, method))


@both_runners
def test_everything_below_threshold(runner: str) -> None:
    """If no score reaches the threshold, exactly the first token is left, and nothing is NaN."""
    for lengths in ((1,), (2,), (3,), (1, 1), (7, 2), (5, 1, 3)):
        output = run(runner, tiny.encoder(), tiny.inputs(lengths), ltp((EVERYTHING_BELOW,) * 3))
        assert [[1, 1, 1]] * len(lengths) == output.ffn_length.tolist()
        assert bool(output.logits.isfinite().all())


@both_runners
def test_an_unprotected_sequence_keeps_a_token(runner: str) -> None:
    """Even with nothing protected and everything below threshold, one token stays live."""
    for lengths in ((1,), (4,), (6, 2, 9)):
        inputs = tiny.inputs(lengths, protect_first=False)
        output = run(runner, tiny.encoder(), inputs, ltp((EVERYTHING_BELOW,) * 3))
        assert bool((output.ffn_length >= 1).all())
        assert bool(output.logits.isfinite().all())


@unchecked
@given(
    case=strategies.cases.map(lambda c: Case(**{**vars(c), "protect_first": False})),
    thresholds=strategies.thresholds,
)
def test_masked_equals_the_others_without_protection(
    case: Case, thresholds: tuple[float, ...]
) -> None:
    """The runners agree even where the first token, which the head reads, may be pruned."""
    masked = run("masked", case.encoder, case.inputs, ltp(thresholds))
    assume(is_far_from(masked, thresholds, MARGIN))
    for other in OTHERS:
        assert_same(masked, run(other, case.encoder, case.inputs, ltp(thresholds)))


@both_runners
def test_pruning_changes_the_answer(runner: str) -> None:
    """Removed tokens matter: pruning is not computed beside the answer but acts on it."""
    encoder, inputs = tiny.encoder(), tiny.inputs((12,), 1)
    pruned = run(runner, encoder, inputs, ltp((0.9, 0.9, 0.9)))
    whole = run(runner, encoder, inputs, Unpruned.neutral(NUM_LAYERS))
    assert not torch.allclose(pruned.logits, whole.logits, atol=1e-2)


@both_runners
@pytest.mark.parametrize("protected", [(0, 3), (0, 1, 2, 3, 4, 5)])
def test_protected_tokens_stay(runner: str, protected: tuple[int, ...]) -> None:
    """Protected tokens survive every layer although their scores are below the threshold."""
    inputs = tiny.inputs((6, 6), 2)
    mask = torch.zeros_like(inputs.protected)
    mask[0, list(protected)] = True
    mask[1, 0] = True
    marked = replace(inputs, protected=mask)
    output = run(runner, tiny.encoder(), marked, ltp((EVERYTHING_BELOW,) * 3))
    assert mask.tolist() == output.layers[-1].retained.tolist()


@both_runners
def test_a_run_leaves_model_method_and_inputs_alone(runner: str) -> None:
    """A pass is pure: nothing that it was given has changed afterwards."""
    encoder, inputs, method = tiny.encoder("bert", 3), tiny.inputs((4, 7), 8), ltp((0.5, 0.6, 0.7))
    before = [
        t.clone() for t in (*encoder.parameters(), *method.parameters(), *vars(inputs).values())
    ]
    run(runner, encoder, inputs, method)
    after = [*encoder.parameters(), *method.parameters(), *vars(inputs).values()]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


@both_runners
def test_recording_changes_nothing(runner: str) -> None:
    """The pass that is traced is the pass that is benchmarked."""
    encoder, inputs, method = tiny.encoder("bert", 4), tiny.inputs((4, 7), 8), ltp((0.5, 0.6, 0.7))
    plain = run(runner, encoder, inputs, method, record=False)
    traced = run(runner, encoder, inputs, method)
    assert () == plain.layers
    assert plain.logits.tolist() == traced.logits.tolist()


def test_packed_runner_refuses_training_mode() -> None:
    """The packed runner is for inference: with dropout on it says so instead of answering."""
    encoder = tiny.float32_encoder(0).train()
    try:
        with pytest.raises(RuntimeError, match="inference"):
            run_packed(encoder, tiny.inputs((4,)), Unpruned.neutral(NUM_LAYERS))
    finally:
        encoder.eval()


def test_packed_runner_is_reusable() -> None:
    """One prepared runner answers many batches as fresh ones do."""
    encoder, method = tiny.encoder("bert", 6), ltp((0.5, 0.6, 0.7))
    prepared = PackedRunner(encoder)
    for seed, lengths in enumerate([(3, 9), (1,), (12, 4, 4)]):
        inputs = tiny.inputs(lengths, seed)
        expected = run("packed", encoder, inputs, method)
        assert_same(expected, prepared(inputs, method, record=True), atol=0.0)


@both_runners
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision(runner: str, dtype: torch.dtype) -> None:
    """Half-precision weights run, with scores in float32 and logits near those of float64."""
    encoder, inputs = tiny.encoder(), tiny.inputs((12, 5, 9, 1), 3)
    half = tiny.copy_of(encoder).to(dtype)
    expected = run(runner, encoder, inputs, Unpruned.neutral(NUM_LAYERS))
    actual = run(runner, half, inputs, Unpruned.neutral(NUM_LAYERS))
    assert dtype == actual.logits.dtype
    assert [torch.float32] * NUM_LAYERS == [record.score.dtype for record in actual.layers]
    tolerance = 0.02 if dtype == torch.float16 else 0.2
    torch.testing.assert_close(actual.logits.double(), expected.logits, rtol=0, atol=tolerance)


def test_score_comes_before_dropout() -> None:
    """Attention dropout does not make the score noisy (the authors' code scores after it)."""
    encoder = tiny.noisy_encoder(attention_dropout=0.9, hidden_dropout=0.0)
    inputs = tiny.inputs((8, 5), 4)
    expected = run("masked", encoder.eval(), inputs, Unpruned.neutral(NUM_LAYERS))
    actual = run("masked", encoder.train(), inputs, Unpruned.neutral(NUM_LAYERS))
    torch.testing.assert_close(actual.layers[0].score, expected.layers[0].score, rtol=0, atol=1e-12)
    assert not torch.allclose(actual.logits, expected.logits)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-4)])
@pytest.mark.parametrize("runner", RUNNERS)
def test_cuda_equals_cpu(
    runner: str, dtype: torch.dtype, tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runners give on CUDA what they give on the CPU; packed in float32 with compiled kernels."""
    monkeypatch.delenv(native_build.VARIABLE)
    encoder = tiny.copy_of(tiny.encoder("mpnet", 5)).to(dtype)
    inputs, method = tiny.inputs((12, 1, 7, 30), 6, family="mpnet"), ltp((0.4, 0.6, 0.8))
    expected = run(runner, encoder, inputs, method)
    moved = run(runner, tiny.copy_of(encoder).cuda(), inputs.to("cuda"), method.cuda())
    layers = tuple(
        type(r)(r.live.cpu(), r.score.cpu(), r.retained.cpu(), r.attention.cpu())
        for r in moved.layers
    )
    on_cpu = RunOutput(
        moved.logits.cpu(), moved.attention_length.cpu(), moved.ffn_length.cpu(), layers
    )
    assert_same(expected, on_cpu, tolerance)
