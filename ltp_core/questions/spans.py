"""From the logits of windows to answers: the likeliest spans, and how likely there is none. Torch-free."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

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
    windows: Windows, chosen: Iterable[int], logits: list[np.ndarray], count: int = 1
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
