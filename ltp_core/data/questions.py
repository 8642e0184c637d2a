"""The accepted answers of questions about a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ltp_core.records import UserError


@dataclass(frozen=True, kw_only=True)
class Answers:
    """The accepted answers of one question, all from its context.

    Attributes:
        texts: Empty where the context holds no answer.
        begins: Offset of each in the context, in characters.
        article: Title of the article that the context is from; "" where nothing says it.
    """

    texts: tuple[str, ...]
    begins: tuple[int, ...]
    article: str


def read_answers(table: pa.Table, description: str) -> tuple[Answers, ...]:
    """The column `answers` of a table of questions in the hub's schema, and `title` if it is there.

    Raises:
        UserError: The answers have another form.
    """
    articles = table.column("title").to_pylist() if "title" in table.column_names else None
    answers = table.column("answers").to_pylist()
    try:
        return tuple(
            _answers(raw, articles[i] if articles else "") for i, raw in enumerate(answers)
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{description}: column 'answers' must hold `text` and `answer_start`, lists of equal "
            "length."
        ) from error


def _answers(raw: dict[str, Any], article: str) -> Answers:
    texts, begins = tuple(raw["text"]), tuple(int(begin) for begin in raw["answer_start"])
    if len(texts) != len(begins) or not all(isinstance(text, str) for text in texts):
        raise ValueError("texts and offsets")
    return Answers(texts=texts, begins=begins, article=str(article))
