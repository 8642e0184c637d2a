"""Exact match and F1 of SQuAD 1.1 and 2.0, and the choice of a threshold. Torch-free.

Source of the rules: the data set's official evaluation scripts (Rajpurkar et al., 2016 and 2018).
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, kw_only=True)
class AnswerScores:
    """What the best answer found in the text is worth, question by question.

    Attributes:
        has_answer: 1 where the text answers the question, else 0.
        exact_match: Of the best answer in the text, never "no answer".
        f1: Likewise.
        null_difference: How much likelier "no answer" is than it, in units of the logits.
    """

    has_answer: Float[np.ndarray, " questions"]
    exact_match: Float[np.ndarray, " questions"]
    f1: Float[np.ndarray, " questions"]
    null_difference: Float[np.ndarray, " questions"]


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


def at_threshold(scores: AnswerScores, threshold: float) -> tuple[np.ndarray, np.ndarray]:
    """Exact match and F1 of each question if it is left unanswered above a threshold.

    Args:
        scores: What the answers found in the text are worth.
        threshold: A question is unanswered where `null_difference` exceeds it; infinite: never.
    """
    is_answered = scores.null_difference <= threshold
    unanswered = 1.0 - scores.has_answer
    return (
        np.where(is_answered, scores.exact_match, unanswered),
        np.where(is_answered, scores.f1, unanswered),
    )


def best_threshold(scores: AnswerScores) -> float:
    """The threshold with the highest mean F1; of several the lowest.

    Candidates are the differences that occur, and one below them all. It lies halfway to the next
    greater difference, so that rounding decides nothing.
    """
    order = np.argsort(scores.null_difference, kind="stable")
    differences = scores.null_difference[order]
    gain = (scores.f1 - (1.0 - scores.has_answer))[order]
    totals = np.concatenate([[0.0], np.cumsum(gain)])
    # Between equal differences no threshold can be.
    is_possible = np.concatenate([[True], differences[1:] > differences[:-1], [True]])
    best = int(np.where(is_possible, totals, -np.inf).argmax())
    edges = np.concatenate([[differences[0] - 1], differences, [differences[-1] + 1]])
    return float((edges[best] + edges[best + 1]) / 2)


def mean_scores(
    match: Float[np.ndarray, " questions"],
    f1: Float[np.ndarray, " questions"],
    has_answer: Float[np.ndarray, " questions"],
) -> dict[str, float]:
    """Means over all questions, over those with an answer and over those without, F1 first.

    A group that has no question is left out.
    """
    with_answer = has_answer == 1
    means = {"f1": f1.mean(), "exact_match": match.mean()}
    if with_answer.any():
        means["has_answer_f1"] = f1[with_answer].mean()
        means["has_answer_exact_match"] = match[with_answer].mean()
    if not with_answer.all():
        # Without an answer to hit, exact match and F1 are the same.
        means["no_answer_f1"] = f1[~with_answer].mean()
    return {name: float(value) for name, value in means.items()}
