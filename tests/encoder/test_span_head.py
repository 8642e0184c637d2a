"""The span head: Hugging Face's, equal in both runners, and pruned tokens restored or excluded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import Tensor

from ltp_core.encoder.adapter import inject, merge_adapter, save_adapter
from ltp_core.encoder.errors import ModelError
from ltp_core.encoder.loading import load_encoder
from ltp_core.encoder.model import Encoder
from ltp_core.encoder.saving import save_encoder
from ltp_core.pruning.base import PrunedAnswers
from ltp_core.pruning.ltp import LearnedTokenPruning, LTPConfig
from ltp_core.pruning.shallow import Shallow, ShallowConfig
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.base import Inputs, make_inputs
from ltp_core.runners.masked import run_masked, run_soft
from ltp_core.runners.packed import run_packed
from tests import strategies, tiny
from tests.against_hugging_face import atol, exact
from tests.running import MARGIN, assert_same, both_runners, is_far_from, run
from tests.strategies import EVERYTHING_BELOW, NUM_LAYERS

every_architecture = pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
both_choices = pytest.mark.parametrize("pruned_answers", ["restored", "excluded"])
THRESHOLDS = (0.6, 0.8, 0.9)


def method(
    thresholds: tuple[float, ...], pruned_answers: PrunedAnswers = "restored", **settings: bool
) -> LearnedTokenPruning:
    """LTP with these thresholds, float64."""
    config = LTPConfig(pruned_answers=pruned_answers, **settings)
    made = LearnedTokenPruning(config, len(thresholds)).double()
    with torch.no_grad():
        made.thresholds.copy_(torch.tensor(thresholds, dtype=torch.float64))
    return made


def spans(logits: Tensor, inputs: Inputs, row: int) -> Tensor:
    """Logits of one sequence's real tokens."""
    return logits[row, : int(inputs.length[row])]


@every_architecture
def test_equals_hugging_face(architecture: str, tmp_path: Path) -> None:
    """Start and end logits of every real token are those of `...ForQuestionAnswering`."""
    theirs = tiny.hugging_face(architecture, kind="ForQuestionAnswering").float()
    theirs.save_pretrained(tmp_path)
    theirs = exact(theirs)
    family = tiny.ARCHITECTURES[architecture][0]
    inputs = tiny.inputs((11, 1, 6, 2), 7, family=family, extra_padding=2)
    inputs = replace(inputs, token_type_ids=torch.zeros_like(inputs.token_type_ids))
    encoder = load_encoder(tmp_path).double()
    assert encoder.config.head == "span"
    with torch.no_grad():
        expected = theirs(inputs.input_ids, attention_mask=inputs.attention_mask.long())
        outputs = [
            runner(encoder, inputs, Unpruned.neutral(3)) for runner in (run_masked, run_packed)
        ]
    together = torch.stack([expected.start_logits, expected.end_logits], dim=2)
    real = inputs.attention_mask
    for output in outputs:
        torch.testing.assert_close(
            output.logits[real], together[real].double(), rtol=0, atol=atol(architecture)
        )
        assert bool(output.logits[~real].isneginf().all())


@every_architecture
def test_saved_weights_open_in_transformers(architecture: str, tmp_path: Path) -> None:
    """What `save_encoder` writes is a `AutoModelForQuestionAnswering` with the same logits."""
    from transformers import AutoModelForQuestionAnswering

    theirs = tiny.hugging_face(architecture, kind="ForQuestionAnswering").float()
    theirs.save_pretrained(tmp_path / "theirs")
    encoder = load_encoder(tmp_path / "theirs")
    save_encoder(encoder, tmp_path / "ours", label_names=("start", "end"))
    again = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "ours")
    before, after = theirs.state_dict(), again.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_head_is_made_where_the_base_has_none(tmp_path: Path) -> None:
    """A base model gets a fresh span head; a head of another kind is not mistaken for it."""
    folder = tiny.save_hugging_face("bert", tmp_path)
    encoder = load_encoder(folder, num_labels=2, head="span")
    assert (2, 16) == encoder.qa_outputs.weight.shape
    assert not hasattr(encoder, "classifier")
    assert not hasattr(encoder, "pooler")


def test_adapters_carry_the_span_head(tmp_path: Path) -> None:
    """Saved and merged, an adapter gives the trained model; PEFT is told what it is."""
    base = tiny.copy_of(tiny.span_encoder()).float()
    trained = tiny.copy_of(base)
    inject(trained, rank=2, alpha=4.0)
    tiny.randomise(trained, 9)
    with torch.no_grad():
        for name, parameter in trained.named_parameters():
            if not parameter.requires_grad:
                parameter.copy_(dict(base.named_parameters())[name.replace(".base_layer", "")])
    save_adapter(trained, tmp_path, rank=2, alpha=4.0, base="tiny")
    assert '"QUESTION_ANS"' in (tmp_path / "adapter_config.json").read_text()
    assert '"qa_outputs"' in (tmp_path / "adapter_config.json").read_text()
    merge_adapter(base, tmp_path)
    inputs = tiny.inputs((9, 4))
    with torch.no_grad():
        left = run_masked(trained.eval(), inputs, Unpruned.neutral(3)).logits
        right = run_masked(base, inputs, Unpruned.neutral(3)).logits
    torch.testing.assert_close(left, right, rtol=0, atol=0.05)
    with pytest.raises(ModelError, match="made for another encoder"):
        merge_adapter(tiny.float32_encoder(), tmp_path)


@both_choices
@given(case=strategies.cases, thresholds=strategies.thresholds, protect_first=st.booleans())
def test_masked_equals_the_others(
    pruned_answers: PrunedAnswers,
    case: strategies.Case,
    thresholds: tuple[float, ...],
    protect_first: bool,
) -> None:
    """All runners give every token the same logits, whether or not it is pruned."""
    encoder = tiny.span_encoder(case.family, case.model_seed)
    inputs = tiny.inputs(
        case.lengths,
        case.data_seed,
        family=case.family,
        extra_padding=case.extra_padding,
        protect_first=protect_first,
    )
    pruning = method(thresholds, pruned_answers)
    masked = run("masked", encoder, inputs, pruning)
    assume(is_far_from(masked, thresholds, MARGIN))
    for other in ("packed", "repadded"):
        assert_same(masked, run(other, encoder, inputs, pruning))
        assert_same(
            run("masked", encoder, inputs, pruning, record=False),
            run(other, encoder, inputs, pruning, record=False),
        )


@both_runners
@both_choices
def test_alone_equals_batched(runner: str, pruned_answers: PrunedAnswers) -> None:
    """A sequence gets the same logits alone as in a batch with padding."""
    encoder, inputs = tiny.span_encoder("bert", 2), tiny.inputs((11, 1, 6), 3, extra_padding=2)
    pruning = method(THRESHOLDS, pruned_answers)
    together = run(runner, encoder, inputs, pruning)
    for row in range(3):
        alone = run(runner, encoder, tiny.row(inputs, row), pruning)
        torch.testing.assert_close(
            spans(together.logits, inputs, row), alone.logits[0], rtol=0, atol=1e-9
        )


def states_by_layer(encoder: Encoder, inputs: Inputs, pruning: LearnedTokenPruning) -> list[Tensor]:
    """Embeddings, then the output of every layer, of a masked pass."""
    states = [encoder.embed(inputs.input_ids, inputs.token_type_ids)]
    run_masked(encoder, inputs, pruning, observer=lambda _, probs, hidden: states.append(hidden))
    return states


@both_runners
def test_pruned_tokens_are_restored(runner: str) -> None:
    """The head reads a dropped token's input to the layer that dropped it, a kept one's output."""
    encoder, inputs = tiny.span_encoder("bert", 5), tiny.inputs((14,), 4)
    pruning = method(THRESHOLDS)
    output = run(runner, encoder, inputs, pruning)
    with torch.no_grad():
        states = states_by_layer(encoder, inputs, pruning)
        lived = sum(record.retained[0].long() for record in output.layers)
        assert set(lived.tolist()) == {0, 1, 2, 3}
        last = torch.stack([states[int(count)][0, i] for i, count in enumerate(lived)])
        torch.testing.assert_close(output.logits[0], encoder.qa_outputs(last), rtol=0, atol=1e-9)


@both_runners
def test_excluded_tokens_cannot_be_an_answer(runner: str) -> None:
    """Their logits are -inf; the first token's never are, since it stands for no answer."""
    encoder, inputs = tiny.span_encoder("bert", 5), tiny.inputs((14,), 4, protect_first=False)
    for thresholds in (THRESHOLDS, (EVERYTHING_BELOW,) * NUM_LAYERS):
        pruning = method(thresholds, "excluded", protect_first=False)
        restored = run(runner, encoder, inputs, method(thresholds, protect_first=False))
        output = run(runner, encoder, inputs, pruning)
        live = output.layers[-1].retained.clone()
        live[:, 0] = True
        assert torch.equal(output.logits.isfinite().all(dim=2), live)
        assert torch.equal(output.logits[live], restored.logits[live])


@both_choices
def test_the_cold_soft_stage_is_the_hard_rule(pruned_answers: PrunedAnswers) -> None:
    """For T → 0 the soft logits are the hard ones; what is excluded falls far below them."""
    encoder, inputs = tiny.span_encoder("bert", 2), tiny.inputs((11, 1, 6), 3, extra_padding=2)
    pruning = method(THRESHOLDS, pruned_answers)
    with torch.no_grad():
        hard = run_masked(encoder, inputs, pruning)
        soft = run_soft(encoder, inputs, pruning, temperature=1e-8)
    finite = hard.logits.isfinite()
    torch.testing.assert_close(soft.logits[finite], hard.logits[finite], rtol=0, atol=1e-8)
    excluded = inputs.attention_mask[..., None] & ~finite
    assert bool(excluded.any()) == (pruned_answers == "excluded")
    assert not bool((soft.logits[excluded] > hard.logits[finite].min() - 20).any())
    assert bool(soft.logits[~inputs.attention_mask].isneginf().all())


@both_choices
@pytest.mark.parametrize("form", ["softmax", "output"])
def test_soft_logits_have_gradients_for_every_threshold(
    pruned_answers: PrunedAnswers, form: str
) -> None:
    """All thresholds can learn from the answers, and no gradient is NaN."""
    encoder, inputs = tiny.span_encoder("bert", 2), tiny.inputs((11, 1, 6), 3)
    pruning = method(THRESHOLDS, pruned_answers).requires_grad_()
    soft = run_soft(encoder, inputs, pruning, temperature=0.128, form=form)  # type: ignore[arg-type]
    soft.logits[inputs.attention_mask].square().sum().backward()
    gradient = pruning.thresholds.grad
    assert gradient is not None
    assert bool((gradient.isfinite() & (gradient != 0)).all())


@both_runners
def test_layers_may_be_left_out(runner: str) -> None:
    """The head reads the states of the last layer that runs."""
    encoder, inputs = tiny.span_encoder("bert", 1), tiny.inputs((7, 3))
    output = run(runner, encoder, inputs, Shallow(ShallowConfig(layers=2), 3))
    with torch.no_grad():
        states = states_by_layer(encoder, inputs, method((0.0, 0.0, 0.0)))[2]
    real = inputs.attention_mask
    torch.testing.assert_close(output.logits[real], encoder.qa_outputs(states)[real])


def test_finishing_the_first_token_alone_is_refused() -> None:
    """A span head needs every token."""
    with pytest.raises(ValueError, match="every token"):
        run_packed(tiny.span_encoder(), tiny.inputs((4,)), Unpruned.neutral(3), last_layer="first")


def test_questions_can_be_protected() -> None:
    """Tokens named as protected stay, padding never is."""
    made = tiny.inputs((6, 3))
    question = torch.zeros_like(made.attention_mask)
    question[:, 1:4] = True
    inputs = make_inputs(
        made.input_ids, made.token_type_ids, made.attention_mask, protected=question
    )
    assert [[1, 1, 1, 1, 0, 0], [1, 1, 1, 0, 0, 0]] == inputs.protected.int().tolist()
    pruning = method((EVERYTHING_BELOW,) * NUM_LAYERS)
    output = run("packed", tiny.span_encoder(), inputs, pruning)
    assert torch.equal(output.layers[-1].retained, inputs.protected)
