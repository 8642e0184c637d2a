"""Questions with long contexts as windows: inputs of bounded length that overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int
from tokenizers import Encoding, Tokenizer

from ltp_core.records import UserError
from ltp_core.tasks.questions import Answers
from ltp_core.tasks.task import TaskInputs
from ltp_core.tokenize import Encoded, own_settings

MIN_CONTEXT = 8
"""Tokens of context that a window must have room for beside the question."""


@dataclass(frozen=True, kw_only=True)
class Windows(TaskInputs):
    """Windows of a set of questions, all windows of a question one after another.

    Attributes:
        encodings: Tokens with their offsets.
        context_begin: Position of the first token of the context.
        context_end: Position behind its last one.
    """

    encodings: list[Encoding]
    context_begin: Int[np.ndarray, " windows"]
    context_end: Int[np.ndarray, " windows"]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.encodings)

    def offsets(self, window: int) -> Int[np.ndarray, "tokens 2"]:
        """Begin and end, in characters of the context, of the tokens of a window's context."""
        found = self.encodings[window].offsets
        begin, end = self.context_begin[window], self.context_end[window]
        return np.array(found[begin:end], dtype=np.int64).reshape(-1, 2)

    @property
    def number(self) -> Int[np.ndarray, " windows"]:
        """Number of each window within its question, from 0."""
        first = np.searchsorted(self.example, self.example, side="left")
        numbers: Int[np.ndarray, " windows"] = np.arange(len(self)) - first
        return numbers


def encode_windows(
    tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int, stride: int
) -> Windows:
    """Windows of each question's context.

    Args:
        tokenizer: A fast tokenizer.
        texts: Question and context.
        max_length: Greatest length of a window in tokens, question and special tokens included.
        stride: Tokens of context that two neighbouring windows share; fewer where the question
            leaves less room.

    Raises:
        UserError: A question leaves no room for the context, or a text is not valid Unicode.
    """
    questions = [question.strip() for question, _ in texts]
    try:
        with own_settings(tokenizer):
            lengths = [len(e) for e in tokenizer.encode_batch(questions, add_special_tokens=False)]
            room = max_length - tokenizer.num_special_tokens_to_add(True) - np.array(lengths)
            if len(room) and room.min() < MIN_CONTEXT:
                raise UserError(
                    f"A question of {lengths[int(room.argmin())]} tokens leaves no room for its context "
                    f"in a window of {max_length} tokens: shorten the question."
                )
            encodings = []
            for question, (_, context), free in zip(questions, texts, room, strict=True):
                overlap = min(stride, int(free) // 2)
                tokenizer.enable_truncation(max_length, stride=overlap, strategy="only_second")
                whole = tokenizer.encode(question, context)
                encodings.append([whole, *whole.overflowing])
    except (TypeError, UnicodeEncodeError) as error:
        raise UserError("A text is not valid Unicode: save it as UTF-8 and try again.") from error
    flat = [window for windows in encodings for window in windows]
    # Of each token 0: question, 1: context, None: special.
    sides = [window.sequence_ids for window in flat]
    contexts = [[i for i, side in enumerate(each) if side == 1] for each in sides]
    # Where there is no context, begin and end are both at the separator behind it.
    begins = [at[0] if at else len(side) - 1 for at, side in zip(contexts, sides, strict=True)]
    context_ends = [
        at[-1] + 1 if at else len(side) - 1 for at, side in zip(contexts, sides, strict=True)
    ]
    question_ends = [
        1 + max((i for i, side in enumerate(each) if side == 0), default=0) for each in sides
    ]
    example = np.repeat(np.arange(len(encodings)), [len(windows) for windows in encodings])
    return Windows(
        encoded=Encoded(
            input_ids=[window.ids for window in flat],
            token_type_ids=[window.type_ids for window in flat],
            length=np.array([len(window) for window in flat], dtype=np.int64),
            cut=np.zeros(len(flat), dtype=np.int64),
            question_end=np.array(question_ends, dtype=np.int64),
        ),
        example=example,
        tokens=lambda i: (flat[i], (questions[example[i]], texts[example[i]][1])),
        encodings=flat,
        context_begin=np.array(begins, dtype=np.int64),
        context_end=np.array(context_ends, dtype=np.int64),
    )


def answer_positions(windows: Windows, answers: Sequence[Answers]) -> Int[np.ndarray, "windows 2"]:
    """First and last token of each question's first answer in each window.

    Both 0, the first token, where the window does not hold the whole answer or there is none.
    """
    found = np.zeros((len(windows), 2), dtype=np.int64)
    for window, example in enumerate(windows.example):
        answer = answers[example]
        if answer.texts:
            begin = answer.begins[0]
            found[window] = _positions(windows, window, begin, begin + len(answer.texts[0]))
    return found


def _positions(windows: Windows, window: int, begin: int, end: int) -> tuple[int, int]:
    offsets = windows.offsets(window)
    if not len(offsets) or begin < offsets[0, 0] or end > offsets[-1, 1]:
        return 0, 0
    first = int(np.searchsorted(offsets[:, 0], begin, side="right")) - 1
    last = int(np.searchsorted(offsets[:, 1], end, side="left"))
    start = int(windows.context_begin[window])
    return start + first, start + max(first, last)
