"""One question about one text: the answer, where it stands, and what is said about bad input."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import numpy as np
import pytest
from tokenizers.normalizers import BertNormalizer

from ltp_core.checkpoint import PrunedModel
from ltp_core.cli.trace import certainty, survival
from ltp_core.inference import predict
from ltp_core.pruning.ltp import LearnedTokenPruning
from ltp_core.records import QuestionSettings, Trace, UserError
from ltp_core.runners.base import Inputs, RunOutput
from ltp_core.runners.packed import PackedRunner
from ltp_core.tasks.catalogue import TASKS
from ltp_core.tasks.questions import Answers
from ltp_core.tasks.task import Rows
from ltp_core.trace import predict_text, received_attention, text_inputs, trace_text
from tests import tiny
from tests.encoder.test_span_head import method

QUESTION = "was the movie good"
CONTEXT = "the plot was slow but a good actor and a great story of love made it fun"
LONG = " ".join([CONTEXT] * 3)


def model_for(
    *,
    max_length: int = 40,
    pruning: LearnedTokenPruning | None = None,
    seed: int = 3,
    **settings: float,
) -> PrunedModel:
    """A tiny pruned model with a span head, float64."""
    encoder = tiny.span_encoder("bert", seed)
    return PrunedModel(
        name="tiny",
        task="squad_v2",
        method=(pruning or method((0.5, 0.7, 0.9))).requires_grad_(False),
        encoder=encoder,
        packed=PackedRunner(encoder),
        tokenizer=tiny.tokenizer("bert"),
        label_names=("start", "end"),
        max_length=max_length,
        dense=None,
        base="tiny",
        questions=QuestionSettings(stride=6, **settings),  # type: ignore[arg-type]
    )


def traced(model: PrunedModel, context: str = CONTEXT, **options: object) -> Trace:
    """The trace of the question."""
    return trace_text(model, QUESTION, context, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("runner", ["packed", "masked"])
@pytest.mark.parametrize("max_length", [40, 20])
def test_the_answer_is_that_of_the_evaluation(runner: str, max_length: int) -> None:
    """The same part of the context and the same certainty as over a data set."""
    model = model_for(max_length=max_length)
    trace = traced(model, LONG[:110] if max_length == 40 else LONG, runner=runner)
    context = LONG[:110] if max_length == 40 else LONG
    rows = Rows(
        task="squad_v2",
        split="validation",
        row=np.array([0]),
        texts=[(QUESTION, context)],
        labels=np.array([1]),
        sha256="",
        source="",
        answers=(Answers(texts=("fun",), begins=(0,), article=""),),
    )
    task = TASKS["squad_v2"]
    windows = task.encode(model.tokenizer, rows.texts, model.max_length, stride=6)
    logits = predict(model, windows.encoded).logits
    found = task.decode(rows, windows, logits).iloc[0]
    assert trace.answer is not None
    best = trace.answer.best
    assert best is not None
    assert (found["answer_begin"], found["answer_end"]) == (best.begin, best.end)
    assert context[best.begin : best.end] == best.text
    assert trace.answer.null_difference == pytest.approx(found["null_difference"], abs=1e-5)
    scores = [candidate.score for candidate in trace.answer.candidates]
    assert sorted(scores, reverse=True) == scores
    assert 5 == len(scores)


def test_the_answer_stands_where_its_tokens_are() -> None:
    """Positions in the traced sequence give the answer's words."""
    trace = traced(model_for())
    assert trace.answer is not None
    for candidate in trace.answer.candidates:
        assert candidate.tokens is not None
        first, last = candidate.tokens
        assert candidate.text == " ".join(trace.tokens[first : last + 1])


def test_the_threshold_decides_whether_it_is_answered() -> None:
    """Below it the best part is the answer, above it there is none; the candidates stay."""
    always, never = (traced(model_for(null_threshold=t)) for t in (math.inf, -math.inf))
    assert always.answer is not None
    assert never.answer is not None
    assert always.label == always.answer.candidates[0].text == always.answer.text
    assert never.label is None
    assert never.answer.text is None
    assert always.answer.candidates == never.answer.candidates
    assert always.logits == (always.answer.candidates[0].score, always.answer.null_score)
    assert always.unpruned is not None
    assert always.unpruned.answer is not None


def test_a_long_context_is_read_in_windows() -> None:
    """The window of the unpruned answer is shown, whatever is pruned."""
    model = model_for(max_length=20)
    trace = traced(model, LONG)
    assert trace.answer is not None
    assert trace.answer.num_windows > 3
    assert len(trace.tokens) <= 20
    assert trace.unpruned is not None
    assert trace.unpruned.answer is not None
    shown = trace.unpruned.answer
    assert shown.best is not None
    assert shown.best.tokens is not None
    for thresholds in ((0.0, 0.0, 0.0), (9.0, 9.0, 9.0)):
        other = traced(model, LONG, thresholds=thresholds)
        assert trace.tokens == other.tokens
        assert other.answer is not None
        assert shown.window == other.answer.window
    assert len(trace.words) == len(trace.tokens)
    assert (1, len(trace.tokens)) == tuple(text_inputs(model, QUESTION, LONG).input_ids.shape)
    attention = received_attention(model, trace, 1, QUESTION, LONG)
    live = [i for i, kept in enumerate(trace.layers[0].retained) if kept]
    expected = [trace.layers[1].score[i] for i in live]
    assert attention.sum(axis=0)[live] == pytest.approx(expected)
    assert trace.label == predict_text(model, QUESTION, LONG).label


def windows_read(model: PrunedModel, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Windows of every pass from now on."""
    seen: list[int] = []
    whole = PackedRunner.__call__

    def counted(self: PackedRunner, inputs: Inputs, *given: Any, **options: Any) -> RunOutput:
        seen.append(len(inputs.input_ids))
        return whole(self, inputs, *given, **options)

    monkeypatch.setattr(PackedRunner, "__call__", counted)
    return seen


def test_no_window_is_read_twice_for_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once unpruned to find the one to show, once pruned; nothing where the window is known."""
    model = model_for(max_length=20)
    seen = windows_read(model, monkeypatch)
    trace = traced(model, LONG)
    assert trace.answer is not None
    num, window = trace.answer.num_windows, trace.answer.window
    assert num > 3
    assert [num, 1, 1, num - 1] == seen
    seen.clear()
    again = traced(model, LONG, window=window, same_weights_unpruned=False)
    assert [1, num - 1] == seen
    assert dataclasses.replace(trace, unpruned=None) == again
    seen.clear()
    inputs = text_inputs(model, QUESTION, LONG, window=window)
    assert inputs.input_ids.shape[1] == len(trace.words)
    assert [] == seen
    assert trace.unpruned == predict_text(model, QUESTION, LONG, unpruned=True, window=window)
    assert [1, num - 1] == seen


def test_another_window_can_be_shown() -> None:
    """Its tokens, and the same answer; one that does not exist is refused."""
    model = model_for(max_length=20)
    trace = traced(model, LONG)
    assert trace.answer is not None
    other = 1 if trace.answer.window > 1 else 2
    shown = traced(model, LONG, window=other)
    assert shown.answer is not None
    assert other == shown.answer.window
    assert trace.tokens != shown.tokens
    assert trace.label == shown.label
    with pytest.raises(UserError, match=r"no window 99: the context has 1 to \d"):
        traced(model, LONG, window=99)


def test_an_answer_in_another_window_has_no_tokens_here() -> None:
    """For some weights pruning moves the answer to another window, and then the trace says so."""
    moved = 0
    for seed in range(6):
        trace = traced(model_for(max_length=20, seed=seed), LONG, thresholds=(1.0, 1.0, 1.0))
        assert trace.answer is not None
        for candidate in trace.answer.candidates:
            if candidate.tokens is None:
                moved += 1
            else:
                first, last = candidate.tokens
                tokens = trace.tokens[first : last + 1]
                for word, token in zip(candidate.text.split(), tokens, strict=True):
                    assert token in (word, "[UNK]")
    assert moved > 0


def test_a_trace_survives_json() -> None:
    """What is written is valid JSON, infinity as null, and comes back equal."""
    trace = traced(model_for())
    text = trace.to_json()
    assert "Infinity" not in text
    assert json.loads(text)["answer"]["null_threshold"] is None
    assert trace == Trace.from_json(text)


def test_survival_by_hand() -> None:
    """How many of the answer's tokens are live at the end, and when the first one leaves."""
    trace = traced(model_for(pruning=method((0.0, 0.0, 0.0))))
    assert trace.answer is not None
    best = trace.answer.candidates[0]
    assert best.tokens is not None
    first, last = best.tokens
    assert f"all {last - first + 1} survive all 3 layers" == survival(trace, best)
    gone = dataclasses.replace(
        trace.layers[2], retained=tuple(i != first for i in range(len(trace.tokens)))
    )
    less = dataclasses.replace(trace, layers=(*trace.layers[:2], gone))
    assert f"{last - first} of {last - first + 1} survive" in survival(less, best)
    assert "the first leaves after layer 3" in survival(less, best)


def test_certainty_in_words() -> None:
    """What is infinite is said in words."""
    trace = traced(model_for(null_threshold=1.5))
    assert trace.answer is not None
    limit = "given above 1.50"
    assert (
        f"score {trace.answer.null_difference:+.2f} beside the best answer; {limit}"
        == certainty(trace.answer)
    )
    always = dataclasses.replace(trace.answer, null_threshold=math.inf)
    assert certainty(always).endswith("never given")
    nothing = dataclasses.replace(trace.answer, candidates=())
    assert "no token of the context is left" in certainty(nothing)


@pytest.mark.parametrize(
    ("question", "context", "message"),
    [
        ("", CONTEXT, "no question; type one"),
        (QUESTION, "", "no context: give the text"),
        (QUESTION, " \n", "no context: give the text"),
        (QUESTION, None, "give both|takes two texts"),
        ("movie " * 40, CONTEXT, "leaves no room .* shorten the question"),
        (QUESTION, "good " * 2000, r"make \d+ windows of 40 tokens, and at most 64 are read"),
        (QUESTION, "\ud800", "not valid Unicode"),
    ],
)
def test_bad_input_is_a_sentence(question: str, context: str | None, message: str) -> None:
    """Nothing but a UserError that says what to do."""
    with pytest.raises(UserError, match=message):
        trace_text(model_for(), question, context)


def test_a_question_without_a_token_is_refused() -> None:
    """As a sign that the tokenizer removes, which is neither empty nor a blank."""
    model = model_for()
    model.tokenizer.normalizer = BertNormalizer()
    with pytest.raises(UserError, match="no token in the question: ask it in words"):
        trace_text(model, "\u200b", CONTEXT)


@pytest.mark.parametrize(
    "context", ["北京是中国的首都", "القاهرة عاصمة مصر", "🙂" * 9, "x\0y", "<b>"]
)
def test_other_scripts_are_read(context: str) -> None:
    """Unknown to the tokenizer or not, there is an answer that is part of the text."""
    trace = traced(model_for(), context)
    assert trace.answer is not None
    assert all(candidate.text in context for candidate in trace.answer.candidates)


def test_what_is_not_there_yet_is_a_sentence() -> None:
    """No throughput and no ONNX file for a span head, and no traceback either."""
    from ltp_core.bench.throughput import _check
    from ltp_core.export import onnx_model

    model = model_for()
    with pytest.raises(UserError, match="throughput is measured on classifiers only"):
        _check([model], [None])
    with pytest.raises(UserError, match="cannot be exported to ONNX yet"):
        onnx_model(model, pruned=True)
