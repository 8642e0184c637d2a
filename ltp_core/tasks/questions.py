"""Questions about a text: their answers, and questions made unanswerable."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float

from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.tasks.loading import Rows


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


def make_unanswerable(rows: Rows, share: float, pool: Rows) -> Rows:
    """The same questions, of which a share got another context of their article, without the answer.

    Of the article's other contexts that hold none of the accepted answers it is the one that has
    the most words of the question, rare words counting more; so it looks like an answer. Which
    questions these are follows from their text. A question whose article has no such context stays
    as it is.

    Differs from SQuAD 2.0: there people wrote questions that the context does not answer.

    Args:
        rows: Questions; `row` numbers stay those of the source.
        share: Share of the rows, 0 to 1.
        pool: Questions whose contexts are taken.

    Returns:
        Rows whose `source` says how many were made.
    """
    assert rows.answers is not None
    texts, answers = list(rows.texts), list(rows.answers)
    contexts = _contexts(pool, {each.article for each in answers})
    num_made = 0
    for i in np.flatnonzero(_is_chosen(rows.texts, share)):
        other = _other_context(texts[i], answers[i], contexts.get(answers[i].article, []))
        if answers[i].texts and other is not None:
            texts[i] = (texts[i][0], other)
            answers[i] = Answers(texts=(), begins=(), article=answers[i].article)
            num_made += 1
    return dataclasses.replace(
        rows,
        texts=texts,
        answers=tuple(answers),
        labels=np.array([int(bool(each.texts)) for each in answers]),
        sha256=hashlib.sha256(f"{rows.sha256} {share}".encode()).hexdigest(),
        source=f"{rows.source}; {num_made} of {len(rows)} questions made unanswerable by pairing "
        "them with another paragraph of their article",
    )


@dataclass(frozen=True)
class _Context:
    text: str
    words: frozenset[str]


def _contexts(rows: Rows, articles: set[str]) -> dict[str, list[_Context]]:
    """Distinct contexts of some articles, in the order of the rows."""
    assert rows.answers is not None
    seen: dict[str, dict[str, None]] = defaultdict(dict)
    for (_, context), answers in zip(rows.texts, rows.answers, strict=True):
        if answers.article in articles:
            seen[answers.article][context] = None
    return {
        article: [_Context(text, _words(text)) for text in texts] for article, texts in seen.items()
    }


def _words(text: str) -> frozenset[str]:
    return frozenset(re.findall(r"\w+", text.lower()))


def _is_chosen(texts: Sequence[tuple[str, ...]], share: float) -> Bool[np.ndarray, " rows"]:
    """A share of the questions by the hash of their text."""
    hashes = [hashlib.sha256("\0".join(text).encode("utf-8", "replace")).digest() for text in texts]
    places = np.array([int.from_bytes(digest[8:16], "big") / 2**64 for digest in hashes])
    chosen: Bool[np.ndarray, " rows"] = places < share
    return chosen


def _other_context(
    text: tuple[str, ...], answers: Answers, contexts: Sequence[_Context]
) -> str | None:
    question, own = text
    banned = [answer.lower() for answer in answers.texts]
    words = _words(question)
    usable = [
        context
        for context in contexts
        if context.text != own and not any(answer in context.text.lower() for answer in banned)
    ]
    if not usable:
        return None
    common = {word: sum(word in context.words for context in contexts) for word in words}
    # An exact sum: the order of a set differs from process to process, and ties would fall otherwise.
    scores: Float[np.ndarray, " contexts"] = np.array(
        [fsum(1 / common[word] for word in words & context.words) for context in usable]
    )
    return usable[int(scores.argmax())].text
