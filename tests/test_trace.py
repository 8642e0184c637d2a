"""One text through a checkpoint: the trace is what ran, and asking changes nothing."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import processors

from ltp_core.checkpoint import PrunedModel, load_checkpoint
from ltp_core.pruning.base import MethodConfig
from ltp_core.pruning.ltp import LearnedTokenPruning, LTPConfig
from ltp_core.pruning.shallow import Shallow, ShallowConfig
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import Trace, UserError, WhatIf
from ltp_core.runners.packed import PackedRunner
from ltp_core.trace import predict_text, received_attention, trace_text
from tests import reference, tiny
from tests.pruning.test_tr_bert import reducing
from tests.running import ltp

TEXT = "The film is long, slow and boring but the ending was great"
THRESHOLDS = (0.5, 0.7, 0.9)
both_runners = pytest.mark.parametrize("runner", ["packed", "masked"])


@pytest.fixture(scope="module")
def model(hugging_face_folder: Callable[[str], Path]) -> PrunedModel:
    """A tiny BERT in float64 with LTP."""
    loaded = load_checkpoint(str(hugging_face_folder("bert")))
    encoder = loaded.encoder.double()
    return dataclasses.replace(
        loaded,
        encoder=encoder,
        packed=PackedRunner(encoder),
        method=ltp(THRESHOLDS).requires_grad_(False),
    )


def loops(model: PrunedModel, trace: Trace, **settings: Any) -> reference.Result:
    """The trace's tokens through the reference."""
    config = tiny.reference_config(model.encoder.config)
    weights = reference.Weights(model.encoder.state_dict(), config)
    types = [0] * len(trace.tokens)
    rule = reference.threshold_rule(THRESHOLDS)
    return reference.run_hard(weights, trace.token_ids, types, rule, **settings)


@both_runners
def test_trace_equals_the_loops(model: PrunedModel, runner: str) -> None:
    """Scores, masks, logits and thresholds of a trace are those of the equations as loops."""
    trace = trace_text(model, TEXT, runner=runner)
    expected = loops(model, trace)
    assert pytest.approx(expected.logits, abs=1e-9) == trace.logits
    assert len(expected.layers) == len(trace.layers)
    for threshold, layer, traced in zip(THRESHOLDS, expected.layers, trace.layers, strict=True):
        scores = [layer.score.get(i) for i in range(len(trace.tokens))]
        assert threshold == traced.threshold
        assert [s is None for s in scores] == [s is None for s in traced.score]
        live = [s for s in traced.score if s is not None]
        assert pytest.approx([s for s in scores if s is not None]) == live
        assert layer.kept == [i for i, kept in enumerate(traced.retained) if kept]
    assert 1 < trace.lengths[-1] < trace.lengths[0]


@both_runners
def test_a_policy_takes_the_place_of_the_score(model: PrunedModel, runner: str) -> None:
    """Of every token that comes to its layer; elsewhere nothing is scored, and who went attends to none."""
    reduced = dataclasses.replace(model, method=reducing().requires_grad_(False))
    trace = trace_text(reduced, TEXT, runner=runner)
    first, second, third = trace.layers
    assert (None, 0.5, 0.5) == tuple(layer.threshold for layer in trace.layers)
    assert {None} == set(first.score)
    assert None not in second.score
    assert [score is not None for score in third.score] == list(second.retained)
    free = range(1, len(trace.tokens))
    assert [second.score[i] >= 0.5 for i in free] == [second.retained[i] for i in free]  # type: ignore[operator]
    assert 1 < trace.lengths[-1] < trace.lengths[0]
    for index, layer in enumerate(trace.layers):
        attention = received_attention(reduced, trace, index, TEXT)
        assert attention.sum(axis=1) == pytest.approx(np.array(layer.retained, dtype=float))
    held = next(i for i in free if not second.retained[i])
    assert all(layer.retained[held] for layer in trace_text(reduced, TEXT, keep=[held]).layers)


@pytest.mark.parametrize("accounting", ["paper", "executed"])
def test_relative_flops_of_a_trace(model: PrunedModel, accounting: str) -> None:
    """Relative FLOPs are counted multiply-accumulates over those of the unpruned loops."""
    trace = trace_text(model, TEXT)
    pruned = loops(model, trace, accounting=accounting).macs
    config = tiny.reference_config(model.encoder.config)
    weights = reference.Weights(model.encoder.state_dict(), config)
    ids, types = trace.token_ids, [0] * len(trace.tokens)
    whole = reference.run_hard(weights, ids, types, reference.keep_all, accounting=accounting)
    assert pytest.approx(pruned / whole.macs) == trace.relative_flops[accounting]


def test_both_runners_give_one_trace(model: PrunedModel) -> None:
    """Every field of the trace is the same, rounding apart."""
    packed, masked = (
        trace_text(model, TEXT, runner="packed"),
        trace_text(model, TEXT, runner="masked"),
    )
    assert masked.tokens == packed.tokens
    assert masked.lengths == packed.lengths
    assert pytest.approx(masked.logits) == packed.logits
    assert masked.relative_flops == packed.relative_flops
    assert [x.retained for x in masked.layers] == [x.retained for x in packed.layers]


def test_unpruned_is_the_same_weights_without_pruning(model: PrunedModel) -> None:
    """`unpruned` is what the model says with the method switched off, and can be left out."""
    method = Unpruned(MethodConfig(), model.encoder.config.num_layers)
    off = trace_text(dataclasses.replace(model, method=method), TEXT)
    trace = trace_text(model, TEXT)
    assert trace.unpruned is not None
    assert off.logits == trace.unpruned.logits
    assert {"paper": 1.0, "executed": 1.0} == off.relative_flops
    assert trace_text(model, TEXT, same_weights_unpruned=False).unpruned is None


def test_predict_text_is_the_traced_prediction(model: PrunedModel) -> None:
    """The prediction alone is that of the trace."""
    trace, prediction = trace_text(model, TEXT), predict_text(model, TEXT)
    assert (trace.logits, trace.probabilities, trace.label) == (
        prediction.logits,
        prediction.probabilities,
        prediction.label,
    )
    assert prediction.probabilities is not None
    assert pytest.approx(1.0) == sum(prediction.probabilities)


def test_trace_survives_json(model: PrunedModel) -> None:
    """A trace read back from its JSON is the same trace, to the last bit."""
    trace = trace_text(model, TEXT)
    assert trace == Trace.from_json(trace.to_json())


@both_runners
def test_what_if_changes_only_the_answer(model: PrunedModel, runner: str) -> None:
    """Other thresholds and forced tokens act on this call and leave the cached model alone."""
    before = trace_text(model, TEXT, runner=runner)
    changed = trace_text(model, TEXT, thresholds=[2.0, 2.0, 2.0], keep=[3], drop=[1], runner=runner)
    assert (2.0, 2.0, 2.0) == tuple(layer.threshold for layer in changed.layers)
    assert changed.lengths < before.lengths
    assert before == trace_text(model, TEXT, runner=runner)


@both_runners
def test_forced_tokens(model: PrunedModel, runner: str) -> None:
    """A forced token stays to the end or leaves after the first layer; the first always stays."""
    thresholds = [100.0] * 3
    kept = trace_text(model, TEXT, thresholds=thresholds, keep=[4], runner=runner)
    assert (3 * (4,)) == tuple(layer.retained.index(True, 1) for layer in kept.layers)
    dropped = trace_text(model, TEXT, thresholds=[0.0] * 3, drop=[0, 4], runner=runner)
    assert [True, False] == [dropped.layers[0].retained[i] for i in (0, 4)]
    assert len(dropped.tokens) - 1 == dropped.lengths[-1]


@pytest.mark.parametrize("layer_index", range(3))
def test_received_attention_sums_to_the_score(model: PrunedModel, layer_index: int) -> None:
    """Column sums over live queries are the traced scores; dead rows and columns are 0."""
    trace = trace_text(model, TEXT)
    attention = received_attention(model, trace, layer_index, TEXT)
    score = np.array([s or 0.0 for s in trace.layers[layer_index].score])
    np.testing.assert_allclose(attention.sum(axis=0), score, atol=1e-9)
    dead = [s is None for s in trace.layers[layer_index].score]
    assert not attention[dead].any()
    assert not attention[:, dead].any()
    np.testing.assert_allclose(attention.sum(axis=1)[np.logical_not(dead)], 1.0, atol=1e-9)


def test_received_attention_wants_its_own_text(model: PrunedModel) -> None:
    """A trace of another text is refused instead of mixed up."""
    with pytest.raises(UserError, match="another text"):
        received_attention(model, trace_text(model, TEXT), 0, "a good film")


def test_words_of_a_trace(model: PrunedModel) -> None:
    """Tokens of one word share a number, special tokens have none, a second text counts on."""
    assert (None, 0, 1, None) == trace_text(model, "good film").words
    assert (None, 0, None, 1, 2, None) == trace_text(model, "good", "bad film").words


def test_protected_tokens_of_a_trace(model: PrunedModel) -> None:
    """They are those that the method's settings protect."""
    assert (0,) == trace_text(model, "good film").protected
    method = LearnedTokenPruning(LTPConfig(protect_separators=True), 3)
    assert (0, 3) == trace_text(dataclasses.replace(model, method=method), "good film").protected


def test_the_unpruned_prediction_can_come_later(model: PrunedModel) -> None:
    """It is the one that a trace gives at once, also where a method leaves layers out."""
    shallow = dataclasses.replace(model, method=Shallow(ShallowConfig(layers=1), 3))
    for each in (model, shallow):
        assert trace_text(each, TEXT).unpruned == predict_text(each, TEXT, unpruned=True)
    assert predict_text(shallow, TEXT).logits == predict_text(shallow, TEXT, unpruned=True).logits


@given(text=st.text(max_size=60))
@example(text="")
@example(text="\0")
@example(text="<script>alert(1)</script>")
@example(text="[SEP] [PAD] [CLS]")
@example(text="word " * 10_000)
@example(text="\u202eright to left\u202c \U0001f600")
def test_any_text_can_be_traced(text: str) -> None:
    """Whatever is typed gets a finite answer with the first token alive in every layer."""
    trace = trace_text(any_model(), text)
    assert all(np.isfinite(trace.logits))
    assert all(layer.retained[0] for layer in trace.layers)
    assert len(trace.tokens) == len(trace.token_ids) <= 40
    assert trace == Trace.from_json(trace.to_json())


def any_model() -> PrunedModel:
    """A model without the fixture, for Hypothesis."""
    encoder = tiny.encoder("bert", 3)
    return PrunedModel(
        name="tiny",
        task=None,
        method=ltp(THRESHOLDS),
        encoder=encoder,
        packed=PackedRunner(encoder),
        tokenizer=tiny.tokenizer("bert"),
        label_names=("a", "b", "c"),
        max_length=40,
        dense=None,
        base="tiny",
    )


def test_a_long_text_is_cut_and_says_so() -> None:
    """Beyond the maximum length tokens are cut off and counted."""
    trace = trace_text(any_model(), "good " * 50)
    assert (40, 12) == (len(trace.tokens), trace.num_cut)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"thresholds": [0.5]}, "thresholds"),
        ({"thresholds": [0.5, float("nan"), 0.5]}, "threshold"),
        ({"runner": "fast"}, "packed and masked"),
        ({"keep": [99]}, "99"),
        ({"drop": [-1]}, "-1"),
    ],
)
def test_impossible_requests_are_refused(settings: dict[str, Any], words: str) -> None:
    """Settings that fit no model or no token are one sentence that names them."""
    with pytest.raises(UserError, match=words):
        trace_text(any_model(), "a good film", **settings)


@given(
    text=st.lists(st.sampled_from(tiny.WORDS), max_size=30).map(" ".join),
    thresholds=st.lists(st.floats(0, 3), min_size=3, max_size=3),
)
def test_scores_and_masks_are_sound(text: str, thresholds: list[float]) -> None:
    """Scores of live tokens sum to their number; who has left has no score and does not return."""
    trace = trace_text(any_model(), text, thresholds=thresholds)
    live = [True] * len(trace.tokens)
    for threshold, layer in zip(thresholds, trace.layers, strict=True):
        assert live == [score is not None for score in layer.score]
        assert pytest.approx(sum(live)) == sum(score for score in layer.score if score is not None)
        kept = [score is not None and score > threshold for score in layer.score]
        assert [True, *kept[1:]] == list(layer.retained)
        live = list(layer.retained)
    assert tuple(map(sum, zip(*(x.retained for x in trace.layers), strict=True))) == (
        trace.num_survived
    )


@both_runners
def test_dropping_goes_before_keeping(model: PrunedModel, runner: str) -> None:
    """A token in both sets leaves; forcing one token leaves the rule for the others alone."""
    trace = trace_text(model, TEXT, keep=[2, 5], drop=[5], runner=runner)
    assert [True, False] == [trace.layers[0].retained[i] for i in (2, 5)]
    first = trace_text(model, TEXT, runner=runner).layers[0].retained
    others = [i for i in range(len(trace.tokens)) if i not in (2, 5)]
    assert [first[i] for i in others] == [trace.layers[0].retained[i] for i in others]


def test_separators_stay_where_the_method_protects_them() -> None:
    """`protect_separators` keeps every separator of a pair to the end, and nothing else."""
    method = LearnedTokenPruning(LTPConfig(protect_separators=True), 3).with_thresholds([9.0] * 3)
    model = dataclasses.replace(any_model(), method=method)
    trace = trace_text(model, "good film", "bad story")
    assert ["[CLS]", "[SEP]", "[SEP]"] == [
        token for token, kept in zip(trace.tokens, trace.layers[0].retained, strict=True) if kept
    ]


def test_the_longer_text_of_a_pair_is_cut() -> None:
    """Truncation takes from the longer text and says how much."""
    trace = trace_text(any_model(), "good " * 50, "bad film")
    assert (40, 50 + 2 + 3 - 40) == (len(trace.tokens), trace.num_cut)
    assert ("bad", "film", "[SEP]") == trace.tokens[-3:]


def test_a_second_text_has_its_own_token_type() -> None:
    """The same words after the separator are another input than in one text."""
    pair = trace_text(any_model(), "good", "film")
    alone = trace_text(any_model(), "good [SEP] film")
    assert pair.tokens == alone.tokens
    assert pytest.approx(alone.logits) != pair.logits


@pytest.mark.parametrize(
    ("task", "texts", "words"),
    [
        ("mrpc", ("good film",), "tiny was trained on mrpc, which takes two texts"),
        ("sst2", ("good film", "bad film"), "tiny was trained on sst2, which takes one text"),
        ("sst2", ("good film", ""), "one text"),
    ],
)
def test_the_task_says_how_many_texts(task: str, texts: tuple[str, ...], words: str) -> None:
    """A pair task wants two texts, the others one; an empty second text is a text."""
    model = dataclasses.replace(any_model(), task=task)
    for ask in (trace_text, predict_text):
        with pytest.raises(UserError, match=words):
            ask(model, *texts)
    assert trace_text(dataclasses.replace(any_model(), task="mrpc"), "good film", "").tokens


def test_a_tokenizer_without_special_tokens_needs_a_word() -> None:
    """Where an empty text is no token at all, that is said."""
    tokenizer = tiny.tokenizer("bert")
    tokenizer.post_processor = processors.Sequence([])
    model = dataclasses.replace(any_model(), tokenizer=tokenizer)
    assert ("good",) == trace_text(model, "good").tokens
    with pytest.raises(UserError, match="no token"):
        trace_text(model, "")


def test_regression_has_a_value_and_no_probabilities(tmp_path: Path) -> None:
    """One output: no label, no probabilities, neither pruned nor unpruned."""
    model = load_checkpoint(str(tiny.save_hugging_face("bert", tmp_path, num_labels=1)))
    trace = trace_text(dataclasses.replace(model, method=ltp(THRESHOLDS)), TEXT)
    assert (1, None, None) == (len(trace.logits), trace.probabilities, trace.label)
    assert trace.unpruned is not None
    assert (None, None) == (trace.unpruned.probabilities, trace.unpruned.label)
    assert trace == Trace.from_json(trace.to_json())


def test_asking_changes_nothing_about_the_model(model: PrunedModel) -> None:
    """Method and tokenizer are as before, whatever was asked."""
    state, tokenizer = model.method.state_json(), model.tokenizer.to_str()
    trace = trace_text(model, "good " * 50, thresholds=[3.0] * 3, keep=[1], drop=[2])
    received_attention(model, trace, 1, "good " * 50)
    assert (state, tokenizer) == (model.method.state_json(), model.tokenizer.to_str())


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"layers": [{}]}'])
def test_what_is_no_trace_is_refused(text: str) -> None:
    """A file that this program did not write is an error of the input."""
    with pytest.raises(UserError, match="not a trace"):
        Trace.from_json(text)


def test_a_method_without_thresholds_says_so() -> None:
    """Asking an unpruned model for other thresholds is an error, not silence."""
    unpruned = dataclasses.replace(any_model(), method=Unpruned.neutral(3))
    assert [None] * 3 == [layer.threshold for layer in trace_text(unpruned, "a film").layers]
    with pytest.raises(UserError, match="no thresholds"):
        trace_text(unpruned, "a film", thresholds=[0.5] * 3)


def test_lone_surrogates_are_refused() -> None:
    """Text that is no valid Unicode is an error of the input, not of the tokenizer."""
    with pytest.raises(UserError, match="Unicode"):
        trace_text(any_model(), "broken \ud83d text")


def test_a_trace_says_what_was_read_and_how(model: PrunedModel) -> None:
    """Its texts, what each token stands for in them, and how the pass was set; also as JSON."""
    text = "The film 🎬 was good"
    thresholds = [0.5, 0.25, 0.125]
    trace = trace_text(model, text, thresholds=thresholds, keep=[2], drop=[3, 1])
    assert (text,) == trace.texts
    inner = trace.surfaces[1:-1]
    assert "" == trace.surfaces[0] == trace.surfaces[-1]
    assert text.replace(" ", "") == "".join(inner)
    assert WhatIf(thresholds=(0.5, 0.25, 0.125), keep=(2,), drop=(1, 3)) == trace.what_if
    assert trace == Trace.from_json(trace.to_json())


def test_an_older_trace_has_no_text(model: PrunedModel) -> None:
    """A file without these fields is read as learned."""
    raw = json.loads(trace_text(model, "a good film").to_json())
    for name in ("texts", "surfaces", "what_if"):
        del raw[name]
    old = Trace.from_json(json.dumps(raw))
    assert ((), (), WhatIf()) == (old.texts, old.surfaces, old.what_if)
