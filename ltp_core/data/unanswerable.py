"""Questions made unanswerable: asked of another paragraph, or with a word replaced.

Neither is SQuAD 2.0's way: there people wrote questions that a paragraph seems to answer.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum

import numpy as np
from jaxtyping import Float

from ltp_core.data.loading import Rows
from ltp_core.data.questions import Answers

_WORD = re.compile(r"\w+")
_NAME = re.compile(r"(?<=[a-z,] )[A-Z]\w+")
"""Not what merely begins a sentence."""

_SHORTEST = 5
"""Letters of a lower-case word that may be replaced; shorter ones mostly are function words."""

_FUNCTION_WORDS = frozenset(
    _WORD.findall(
        "about after again always among another because before being between could during every might "
        "never often other should since their there these those through under until using where which "
        "while whose within without would"
    )
)


def make_unanswerable(rows: Rows, pool: Rows, paired: float, altered: float) -> Rows:
    """The same questions, shares of which their context no longer answers.

    Paired ones got another context of their article. Of those that hold none of the accepted answers
    it is the one that has the most words of the question, rare words counting more; so it looks like
    an answer. In altered ones a word that the context has too was replaced by another word of the
    context: a number by one of as many digits, a name by a name, another word by one with the same
    last two letters; never by a word of the question or of an accepted answer. A few of them mean what they
    meant.

    Which questions these are follows from their text. Where there is no such context or word, a question
    stays as it is.

    Args:
        rows: Questions; `row` numbers stay those of the source.
        pool: Questions whose contexts are taken.
        paired: Share of the rows, 0 to 1.
        altered: Share of the rows; no row is both.

    Returns:
        Rows whose `source` says how many were made.
    """
    assert rows.answers is not None
    texts, answers = list(rows.texts), list(rows.answers)
    contexts = _contexts(pool, {each.article for each in answers})
    num_paired = num_altered = 0
    for i, (question, context) in enumerate(rows.texts):
        digest = _digest(rows.texts[i])
        place, own = int.from_bytes(digest[8:16], "big") / 2**64, answers[i]
        if not own.texts or place >= paired + altered:
            continue
        if place < paired:
            other = _other_context(rows.texts[i], own, contexts.get(own.article, []))
            changed = None if other is None else (question, other)
            num_paired += changed is not None
        else:
            other = _other_question(rows.texts[i], own, digest)
            changed = None if other is None else (other, context)
            num_altered += changed is not None
        if changed is not None:
            texts[i], answers[i] = changed, Answers(texts=(), begins=(), article=own.article)
    shares = f"{paired} {altered}" if altered else f"{paired}"
    return dataclasses.replace(
        rows,
        texts=texts,
        answers=tuple(answers),
        labels=np.array([int(bool(each.texts)) for each in answers]),
        sha256=hashlib.sha256(f"{rows.sha256} {shares}".encode()).hexdigest(),
        source=_source(rows, num_paired, num_altered),
    )


def _source(rows: Rows, num_paired: int, num_altered: int) -> str:
    said = (
        f"{rows.source}; {num_paired} of {len(rows)} questions made unanswerable by pairing them with "
        "another paragraph of their article"
    )
    if num_altered:
        said += f", {num_altered} by replacing a word with another of their paragraph"
    return said


def _digest(text: tuple[str, ...]) -> bytes:
    return hashlib.sha256("\0".join(text).encode("utf-8", "replace")).digest()


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
    return frozenset(_WORD.findall(text.lower()))


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


def _other_question(text: tuple[str, ...], answers: Answers, digest: bytes) -> str | None:
    """The question with one word replaced; which one, and by what, follows from the digest."""
    question, context = text
    words, names = dict.fromkeys(_WORD.findall(context)), frozenset(_NAME.findall(context))
    banned = _words(question).union(*map(_words, answers.texts))
    others: dict[str, list[str]] = defaultdict(list)
    for word in words:
        if word.lower() not in banned:
            others[_kind(word, names)].append(word)
    places = [
        (place, others[kind])
        for place in _WORD.finditer(question)
        if place.group() in words and (kind := _kind(place.group(), names)) and others[kind]
    ]
    if not places:
        return None
    place, choices = places[int.from_bytes(digest[16:20], "big") % len(places)]
    choice = choices[int.from_bytes(digest[20:24], "big") % len(choices)]
    return question[: place.start()] + choice + question[place.end() :]


def _kind(word: str, names: frozenset[str]) -> str:
    """Words of one kind may stand for each other; "" for words that nothing may stand for."""
    if word.isdecimal():
        return f"{len(word)} digits"
    if word[0].isupper():
        return "name" if word in names else ""
    return "" if len(word) < _SHORTEST or word in _FUNCTION_WORDS else f"...{word[-2:]}"
