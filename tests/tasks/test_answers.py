"""Answers: the official scores by hand, spans by brute force, and the choice of a threshold."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.metrics import compute_metrics
from ltp_core.records import UserError
from ltp_core.tasks.answers import (
    MAX_ANSWER_TOKENS,
    at_threshold,
    best_scores,
    best_spans,
    best_threshold,
    find_answers,
    mean_scores,
    normalise,
    token_f1,
)
from ltp_core.tasks.catalogue import TASKS
from ltp_core.tasks.questions import Answers
from ltp_core.tasks.windows import Windows, answer_positions, encode_windows
from tests import tiny

QUESTION = "was the movie good"
CONTEXT = "the plot was slow but a good actor and a great story of love made it fun"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("The Eiffel  Tower!", "eiffel tower"),
        ("a.b", "ab"),
        ("An apple a day", "apple day"),
        ("Theatre", "theatre"),
        ("the", ""),
        ("  ", ""),
        ("U.S.", "us"),
        ("“quoted”", "“quoted”"),
        ("the-end", "theend"),
        ("ÉCOLE\tnormale", "école normale"),
    ],
)
def test_normalisation(answer: str, expected: str) -> None:
    """Lower case, then ASCII punctuation, then articles, then blanks, as the official script."""
    assert expected == normalise(answer)


@pytest.mark.parametrize(
    ("prediction", "truths", "match", "f1"),
    [
        ("in 1066", ["1066", "the year 1066"], 0.0, 2 / 3),
        ("The year 1066.", ["1066", "the year 1066"], 1.0, 1.0),
        ("Paris Paris", ["Paris"], 0.0, 2 / 3),
        ("Rome", ["Paris", "London"], 0.0, 0.0),
        ("", [], 1.0, 1.0),
        ("Rome", [], 0.0, 0.0),
        ("", ["Rome"], 0.0, 0.0),
        ("the", [], 1.0, 1.0),
        ("a", ["the", "Rome"], 0.0, 0.0),
        ("two of the three", ["three of two"], 0.0, 1.0),
    ],
)
def test_scores_by_hand(prediction: str, truths: list[str], match: float, f1: float) -> None:
    """Exact match and F1 with the accepted answer that fits best; "" is the answer of none."""
    assert (match, pytest.approx(f1)) == best_scores(prediction, truths)


@given(st.text("ab the.", max_size=12), st.text("ab the.", max_size=12))
def test_f1_is_symmetric_and_bounded(left: str, right: str) -> None:
    """F1 does not know which side is the truth; equal texts have 1."""
    assert 0 <= token_f1(left, right) == token_f1(right, left) <= 1
    assert token_f1(left, left) == 1


def scores(*rows: tuple[float, float, float]) -> pd.DataFrame:
    """Questions as (has answer, F1 of the best answer in the text, null difference)."""
    found = pd.DataFrame(rows, columns=["label", "answer_f1", "null_difference"], dtype=float)
    return found.assign(answer_exact_match=(found["answer_f1"] == 1) * 1.0)


def test_scores_at_a_threshold_by_hand() -> None:
    """Above the threshold a question counts as unanswered: right only where there is no answer."""
    found = scores((1, 0.5, -2.0), (1, 1.0, 3.0), (0, 0.0, 3.0), (0, 0.0, -1.0))
    settled = at_threshold(found, 0.0)
    assert [0.0, 0.0, 1.0, 0.0] == settled["exact_match"].tolist()
    assert [0.5, 0.0, 1.0, 0.0] == settled["prediction"].tolist()
    assert {
        "f1": 0.375,
        "exact_match": 0.25,
        "has_answer_f1": 0.25,
        "has_answer_exact_match": 0.0,
        "no_answer_f1": 0.5,
    } == mean_scores(settled)
    assert [0.5, 1.0, 0.0, 0.0] == at_threshold(found, np.inf)["prediction"].tolist()
    assert [0.0, 0.0, 1.0, 1.0] == at_threshold(found, -np.inf)["prediction"].tolist()


def test_metrics_of_a_group_without_questions_are_left_out() -> None:
    """SQuAD 1.1 has no question without an answer, and none is left unanswered there."""
    found = scores((1, 1.0, 9.0), (1, 1.0, -9.0))
    assert "no_answer_f1" not in mean_scores(at_threshold(found, np.inf))
    settled = TASKS["squad"].with_threshold(found, 0.0)
    assert {"f1": 1.0, "exact_match": 1.0} == {
        name: value for name, value in mean_scores(settled).items() if "answer" not in name
    }
    assert {"f1": 0.5, "has_answer_f1": 0.5} == compute_metrics(
        "answers", np.array([1.0, 0.0]), np.array([1, 1])
    )
    assert ["f1", "has_answer_f1", "no_answer_f1"] == list(
        compute_metrics("answers", np.array([1.0, 0.0]), np.array([1, 0]))
    )


@given(
    st.lists(
        st.tuples(
            st.sampled_from([0, 1]), st.sampled_from([0.0, 0.4, 1.0]), st.integers(-3, 3).map(float)
        ),
        min_size=1,
        max_size=12,
    )
)
def test_the_best_threshold_is_the_best_of_all(rows: list[tuple[int, float, float]]) -> None:
    """No threshold has a higher mean F1, and none lies on a difference."""
    rows = [(has, f1 if has else 0.0, difference) for has, f1, difference in rows]
    found = scores(*rows)
    chosen = best_threshold(found)
    means = {t: at_threshold(found, t)["prediction"].mean() for t in np.arange(-4.5, 5)}
    assert at_threshold(found, chosen)["prediction"].mean() == pytest.approx(max(means.values()))
    assert chosen not in found["null_difference"].to_numpy()


def windows_of(context: str = CONTEXT, max_length: int = 16, stride: int = 4) -> Windows:
    """Windows of one question."""
    return encode_windows(tiny.tokenizer("bert"), [(QUESTION, context)], max_length, stride)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@pytest.mark.parametrize(("max_length", "stride"), [(40, 4), (16, 4), (18, 0), (17, 99)])
def test_windows_cover_the_context(family: str, max_length: int, stride: int) -> None:
    """Every context token is in a window, in order, with as much overlap as was asked for."""
    tokenizer = tiny.tokenizer(family)
    texts = [(QUESTION, CONTEXT), ("movie", "fun")]
    windows = encode_windows(tokenizer, texts, max_length, stride)
    assert int(windows.encoded.length.max()) <= max_length
    assert 1 == int((windows.example == 1).sum())
    assert list(range(len(windows) - 1)) == windows.number[:-1].tolist()
    own = [windows.offsets(w) for w in range(len(windows)) if windows.example[w] == 0]
    whole = [(b, e) for b, e in tokenizer.encode(CONTEXT, add_special_tokens=False).offsets]
    starts = [whole.index((int(each[0, 0]), int(each[0, 1]))) for each in own]
    for start, each in zip(starts, own, strict=True):
        assert whole[start : start + len(each)] == [(int(b), int(e)) for b, e in each]
    ends = [start + len(each) for start, each in zip(starts, own, strict=True)]
    assert 0 == starts[0]
    assert len(whole) == ends[-1]
    room = len(own[0])
    for end, start in zip(ends, starts[1:], strict=False):
        assert end - start == min(stride, room // 2)
    question = len(tokenizer.encode(QUESTION, add_special_tokens=False))
    assert 1 + question == windows.encoded.question_end[0]  # type: ignore[index]


def test_the_tokenizer_is_left_as_it_was() -> None:
    """Its own truncation comes back."""
    tokenizer = tiny.tokenizer("bert")
    tokenizer.enable_truncation(7)
    encode_windows(tokenizer, [(QUESTION, CONTEXT)], 16, 4)
    assert 7 == tokenizer.truncation["max_length"]


def test_a_question_that_fills_the_window_is_refused() -> None:
    """One sentence with the numbers."""
    with pytest.raises(UserError, match=r"question of 30 tokens .* window of 40 tokens: shorten"):
        encode_windows(tiny.tokenizer("bert"), [("movie " * 30, CONTEXT)], 40, 4)
    with pytest.raises(UserError, match="not valid Unicode"):
        encode_windows(tiny.tokenizer("bert"), [("movie", "\ud800")], 40, 4)


@pytest.mark.parametrize("answer", ["slow", "good actor", "story of love made it fun", "the plot"])
def test_answers_are_found_in_the_windows_that_hold_them(answer: str) -> None:
    """The tokens' offsets give the answer's text back; other windows have no answer."""
    windows = windows_of()
    begin = CONTEXT.index(answer)
    truth = Answers(texts=(answer,), begins=(begin,), article="")
    found = answer_positions(windows, [truth])
    assert found.any()
    for window, (first, last) in enumerate(found):
        offsets = windows.encodings[window].offsets
        covered = windows.offsets(window)
        holds = covered[0, 0] <= begin and begin + len(answer) <= covered[-1, 1]
        assert holds == bool(last)
        if holds:
            assert answer == CONTEXT[offsets[first][0] : offsets[last][1]]


def test_no_answer_is_the_first_token() -> None:
    """Of an unanswerable question every window points at position 0."""
    none = Answers(texts=(), begins=(), article="")
    assert not answer_positions(windows_of(), [none]).any()


def brute_force(windows: Windows, window: int, logits: np.ndarray) -> list[tuple[float, int, int]]:
    """All spans of a window by falling score."""
    begin, end = int(windows.context_begin[window]), int(windows.context_end[window])
    spans = [
        (float(logits[i, 0] + logits[j, 1]), i, j)
        for i in range(begin, end)
        for j in range(i, min(end, i + MAX_ANSWER_TOKENS))
    ]
    return sorted(spans, reverse=True)


@given(seed=st.integers(0, 1000), count=st.integers(1, 6))
def test_best_spans_equal_brute_force(seed: int, count: int) -> None:
    """The likeliest spans of a window, all lengths compared, within the context only."""
    windows = windows_of(CONTEXT * 4, max_length=60, stride=8)
    random = np.random.default_rng(seed)
    logits = [random.normal(size=(int(n), 2)) for n in windows.encoded.length]
    for window in range(len(windows)):
        found = best_spans(windows, window, logits[window], count)
        expected = brute_force(windows, window, logits[window])[:count]
        assert [(i, j) for _, i, j in expected] == [(span.first, span.last) for span in found]
        assert pytest.approx([score for score, _, _ in expected]) == [s.score for s in found]
        for span in found:
            offsets = windows.encodings[window].offsets
            assert (offsets[span.first][0], offsets[span.last][1]) == (span.begin, span.end)


def test_excluded_positions_are_no_answer() -> None:
    """A span with a position of -inf is not found, and without any span nothing can be answered."""
    windows = windows_of(max_length=40)
    logits = np.zeros((int(windows.encoded.length[0]), 2))
    begin = int(windows.context_begin[0])
    logits[begin:, :] = -np.inf
    logits[begin + 2, 0] = logits[begin + 3, 1] = 1.0
    only = best_spans(windows, 0, logits, 5)
    assert [(begin + 2, begin + 3)] == [(span.first, span.last) for span in only]
    logits[begin + 2, 0] = -np.inf
    assert [] == best_spans(windows, 0, logits, 5)
    assert np.inf == find_answers(windows, [0], [logits]).null_difference


def test_an_empty_context_has_no_answer() -> None:
    """Nothing to choose from, and no crash."""
    windows = windows_of("")
    logits = np.zeros((int(windows.encoded.length[0]), 2))
    assert [] == find_answers(windows, range(len(windows)), [logits]).spans


def test_windows_are_put_together() -> None:
    """The best span of all windows, each place once, and the least "no answer"."""
    windows = windows_of(stride=4)
    assert len(windows) > 2
    logits = [np.zeros((int(n), 2)) for n in windows.encoded.length]
    shared = windows.offsets(1)[0]
    last_of_first = int(windows.context_end[0]) - 4
    first_of_second = int(windows.context_begin[1])
    assert (windows.encodings[0].offsets[last_of_first]) == tuple(shared)
    logits[0][last_of_first] = 2.0
    logits[1][first_of_second] = 3.0
    logits[0][0] = [5.0, 1.0]
    logits[1][0] = [1.0, 1.0]
    logits[2][0] = [4.0, 4.0]
    found = find_answers(windows, range(len(windows)), logits, count=3)
    assert (6.0, 1) == (found.spans[0].score, found.spans[0].window)
    assert 2.0 - 6.0 == found.null_difference
    places = [(span.begin, span.end) for span in found.spans]
    assert len(set(places)) == len(places) == 3
