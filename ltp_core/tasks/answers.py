"""Answers to questions: the likeliest spans of the windows' logits, and what they are worth. Torch-free.

Source of exact match and F1: the official evaluation scripts of SQuAD 1.1 and 2.0 (Rajpurkar et al.,
2016 and 2018).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

if TYPE_CHECKING:
    import pandas as pd

    from ltp_core.tasks.windows import Windows

MAX_ANSWER_TOKENS = 30
"""Longest answer that is considered, as in the published scripts for BERT."""


@dataclass(frozen=True, kw_only=True)
class Span:
    """A part of the context as an answer.

    Attributes:
        window: Window that it was found in.
        first: Its first token's position in the window.
        last: Its last token's position.
        begin: Its first character in the context.
        end: The character behind its last one.
        score: Sum of the start's and the end's logit.
    """

    window: int
    first: int
    last: int
    begin: int
    end: int
    score: float


def best_spans(
    windows: Windows, window: int, logits: Float[np.ndarray, "seq 2"], count: int = 1
) -> list[Span]:
    """The likeliest spans of one window's context, the likeliest first; none in an empty context.

    All spans of up to `MAX_ANSWER_TOKENS` tokens are compared, where the published scripts combine
    the 20 likeliest starts and ends.
    """
    begin, end = int(windows.context_begin[window]), int(windows.context_end[window])
    length = end - begin
    if not length:
        return []
    start_logits, end_logits = logits[begin:end].T.astype(np.float64)
    first = np.arange(length)[:, None]
    last = first + np.arange(min(MAX_ANSWER_TOKENS, length))
    scores = start_logits[:, None] + np.append(end_logits, -np.inf)[np.minimum(last, length)]
    flat = scores.ravel()
    found = np.argpartition(-flat, min(count, len(flat)) - 1)[:count]
    ordered = found[np.argsort(-flat[found], kind="stable")]
    offsets = windows.offsets(window)
    return [
        _span(window, begin, int(i), last, offsets, float(flat[i]))
        for i in ordered
        if np.isfinite(flat[i])
    ]


def _span(
    window: int, begin: int, cell: int, last: np.ndarray, offsets: np.ndarray, score: float
) -> Span:
    row, column = divmod(cell, last.shape[1])
    end = int(last[row, column])
    return Span(
        window=window,
        first=begin + row,
        last=begin + end,
        begin=int(offsets[row, 0]),
        end=int(offsets[end, 1]),
        score=score,
    )


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a question's windows say together.

    Attributes:
        spans: The likeliest spans of all windows, the likeliest first; each place once.
        null_score: Start and end logit of the first token, which stands for "no answer": the least
            of all windows, since the answer needs to be in one only.
    """

    spans: list[Span]
    null_score: float

    @property
    def null_difference(self) -> float:
        """How much likelier no answer is than the best one; infinite where nothing can be one."""
        return self.null_score - self.spans[0].score if self.spans else np.inf


def find_answers(
    windows: Windows, chosen: Iterable[int], logits: Sequence[np.ndarray], count: int = 1
) -> Found:
    """The likeliest answers of one question.

    Args:
        windows: All windows.
        chosen: Which of them are the question's.
        logits: Logits of every window, `seq 2`.
        count: How many answers at most.
    """
    spans: dict[tuple[int, int], Span] = {}
    null_score = np.inf
    for window in chosen:
        null_score = min(null_score, float(logits[window][0].astype(np.float64).sum()))
        for span in best_spans(windows, window, logits[window], count):
            known = spans.get((span.begin, span.end))
            if known is None or known.score < span.score:
                spans[span.begin, span.end] = span
    ordered = sorted(spans.values(), key=lambda span: -span.score)
    return Found(spans=ordered[:count], null_score=null_score)


_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalise(answer: str) -> str:
    """Lower case without ASCII punctuation, English articles and superfluous blanks, in this order."""
    text = answer.lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, truth: str) -> float:
    """1 where both are the same after normalisation, else 0."""
    return float(normalise(prediction) == normalise(truth))


def token_f1(prediction: str, truth: str) -> float:
    """Harmonic mean of precision and recall of the words; without words on a side, their equality."""
    predicted, true = normalise(prediction).split(), normalise(truth).split()
    if not predicted or not true:
        return float(predicted == true)
    common = sum((Counter(predicted) & Counter(true)).values())
    return 2 * common / (len(predicted) + len(true))


def best_scores(prediction: str, truths: Sequence[str]) -> tuple[float, float]:
    """Exact match and F1 with the accepted answer that fits best.

    Answers of which normalisation leaves nothing do not count. Where no answer is left, the empty
    string is the one accepted answer: "there is none".
    """
    accepted = [truth for truth in truths if normalise(truth)] or [""]
    return (
        max(exact_match(prediction, truth) for truth in accepted),
        max(token_f1(prediction, truth) for truth in accepted),
    )


def at_threshold(examples: pd.DataFrame, threshold: float) -> pd.DataFrame:
    """F1 (`prediction`) and `exact_match` of each question if it is unanswered above a threshold.

    Args:
        examples: Of each question whether it has an answer (`label`), what the best answer in its text is
            worth (`answer_exact_match`, `answer_f1`), and how much likelier "no answer" is than it
            (`null_difference`).
        threshold: A question is unanswered where `null_difference` exceeds it; infinite: never.
    """
    is_answered = examples["null_difference"].astype(np.float64) <= threshold
    unanswered = 1.0 - examples["label"]
    return examples.assign(
        prediction=examples["answer_f1"].where(is_answered, unanswered),
        exact_match=examples["answer_exact_match"].where(is_answered, unanswered),
    )


def best_threshold(examples: pd.DataFrame) -> float:
    """The threshold with the highest mean F1; of several the lowest.

    Candidates are the differences that occur, and one below them all. It lies halfway to the next
    greater difference, so that rounding decides nothing. `examples` are those of `at_threshold`.
    """
    ordered = examples.astype({"null_difference": np.float64, "answer_f1": np.float64})
    ordered = ordered.sort_values("null_difference", kind="stable")
    differences = ordered["null_difference"].to_numpy()
    gain = (ordered["answer_f1"] - (1.0 - ordered["label"])).to_numpy()
    totals = np.concatenate([[0.0], np.cumsum(gain)])
    # Between equal differences no threshold can be.
    is_possible = np.concatenate([[True], differences[1:] > differences[:-1], [True]])
    best = int(np.where(is_possible, totals, -np.inf).argmax())
    edges = np.concatenate([[differences[0] - 1], differences, [differences[-1] + 1]])
    return float((edges[best] + edges[best + 1]) / 2)


def mean_scores(examples: pd.DataFrame) -> dict[str, float]:
    """Means over all questions, over those with an answer and over those without, F1 first.

    A group that has no question is left out. `examples` are those that `at_threshold` gives.
    """
    f1, match = (examples[c].to_numpy(dtype=np.float64) for c in ("prediction", "exact_match"))
    with_answer = examples["label"].to_numpy() == 1
    means = {"f1": f1.mean(), "exact_match": match.mean()}
    if with_answer.any():
        means["has_answer_f1"] = f1[with_answer].mean()
        means["has_answer_exact_match"] = match[with_answer].mean()
    if not with_answer.all():
        # Without an answer to hit, exact match and F1 are the same.
        means["no_answer_f1"] = f1[~with_answer].mean()
    return {name: float(value) for name, value in means.items()}
