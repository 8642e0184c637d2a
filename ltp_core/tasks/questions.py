"""Questions about a text: the task, accepted answers, and questions made unanswerable. Torch-free."""

from __future__ import annotations

import dataclasses
import hashlib
import math
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Int

from ltp_core.records import UserError
from ltp_core.tasks.answers import at_threshold, best_scores, find_answers, mean_scores
from ltp_core.tasks.task import Rows, Task, TaskInputs

if TYPE_CHECKING:
    import pandas as pd
    from tokenizers import Tokenizer

    from ltp_core.tasks.windows import Windows


@dataclass(frozen=True, kw_only=True)
class QuestionTask(Task):
    """Questions whose answer is a part of a text, or which have none.

    A long text is read in windows; a model names the start and the end of the answer in each. Of the
    records `label` says whether a question has an answer, and `prediction` is the F1 of what was answered.
    """

    asks_questions: ClassVar[bool] = True
    head: ClassVar[Literal["classification", "span"]] = "span"

    def encode(
        self, tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int, stride: int
    ) -> Windows:
        """Windows of each question's context.

        Raises:
            UserError: A question leaves no room for its context, or a text is not valid Unicode.
        """
        from ltp_core.tasks.windows import encode_windows

        return encode_windows(tokenizer, texts, max_length, stride)

    def targets(self, rows: Rows, inputs: TaskInputs) -> Int[np.ndarray, "windows 2"]:
        """First and last token of the answer in each window."""
        from ltp_core.tasks.windows import Windows, answer_positions

        assert isinstance(inputs, Windows)
        assert rows.answers is not None
        return answer_positions(inputs, rows.answers)

    def decode(self, rows: Rows, inputs: TaskInputs, logits: Sequence[np.ndarray]) -> pd.DataFrame:
        """The best answer of each question; `with_threshold` says what was answered."""
        import pandas as pd

        from ltp_core.tasks.windows import Windows

        assert isinstance(inputs, Windows)
        assert rows.answers is not None
        bounds = np.searchsorted(inputs.example, np.arange(len(rows) + 1))
        found = []
        for i, (_, context) in enumerate(rows.texts):
            answers = find_answers(inputs, range(bounds[i], bounds[i + 1]), logits)
            begin, end = (answers.spans[0].begin, answers.spans[0].end) if answers.spans else (0, 0)
            match, f1 = best_scores(context[begin:end], rows.answers[i].texts)
            found.append((answers.null_difference, match, f1, begin, end))
        difference, matches, f1s, begins, ends = (np.array(x) for x in zip(*found, strict=True))
        return pd.DataFrame(
            {
                "split": rows.split,
                "row": rows.row,
                "length": np.add.reduceat(inputs.encoded.length, bounds[:-1]),
                "label": rows.labels,
                "null_difference": difference.astype(np.float32),
                "answer_exact_match": matches,
                "answer_f1": f1s,
                "answer_begin": begins,
                "answer_end": ends,
            }
        )

    def with_threshold(self, examples: pd.DataFrame, threshold: float) -> pd.DataFrame:
        """F1 and exact match where "no answer" has to be likelier by `threshold`.

        Where every question has an answer, as in SQuAD 1.1, none is left unanswered.
        """
        return at_threshold(examples, threshold if self.allows_no_answer else math.inf)

    def metrics(self, examples: pd.DataFrame) -> dict[str, float]:
        """F1 and exact match over all questions, those with an answer and those without."""
        return mean_scores(examples)


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
