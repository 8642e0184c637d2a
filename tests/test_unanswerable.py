"""Questions made unanswerable: asked of another paragraph, or with a word replaced."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ltp_core.data.loading import Rows, load_rows
from ltp_core.data.questions import Answers
from ltp_core.data.unanswerable import make_unanswerable
from tests import trainings
from tests.source_trees import ROOT


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with questions."""
    folder = tmp_path_factory.mktemp("data")
    trainings.save_questions(folder)
    return folder


def made(data: Path, share: float, altered: float = 0.0) -> tuple[Rows, Rows]:
    """The training rows as they are, and with shares of them made unanswerable."""
    rows = load_rows("squad", "train", data_dir=data)
    return rows, make_unanswerable(rows, rows, share, altered)


def test_made_questions_have_no_answer_in_their_new_context(data: Path) -> None:
    """The same question, another context of the same article, no accepted answer in it."""
    rows, changed = made(data, 1.0)
    assert rows.answers is not None
    assert changed.answers is not None
    assert rows.row.tolist() == changed.row.tolist()
    contexts: dict[str, set[str]] = {}
    for (_, context), answers in zip(rows.texts, rows.answers, strict=True):
        contexts.setdefault(answers.article, set()).add(context)
    num_made = 0
    for i, (question, context) in enumerate(changed.texts):
        before = rows.answers[i]
        usable = [
            other
            for other in contexts[before.article] - {rows.texts[i][1]}
            if before.texts[0] not in other
        ]
        assert rows.texts[i][0] == question
        assert bool(usable) == (context != rows.texts[i][1])
        assert int(not usable) == changed.labels[i] == len(changed.answers[i].texts)
        if usable:
            assert context in usable
            num_made += 1
    assert 0 < num_made
    assert f"{num_made} of {len(rows)} questions made unanswerable" in changed.source
    assert rows.sha256 != changed.sha256


def test_the_context_with_most_words_of_the_question_is_taken(data: Path) -> None:
    """Of the usable contexts it is the one that looks most like an answer, rare words first."""
    rows = load_rows("squad", "train", data_dir=data)
    answers = dataclasses.replace(rows.answers[0], article="x", texts=("fun",), begins=(0,))  # type: ignore[index]
    contexts = ("fun", "the the", "the plot", "the fun plot of love", "the love", "love")
    pool = dataclasses.replace(
        rows,
        texts=[("", context) for context in contexts],
        answers=(answers,) * len(contexts),
        row=np.arange(len(contexts)),
        labels=np.ones(len(contexts)),
    )
    asked = dataclasses.replace(pool.take(np.array([0])), texts=[("the plot", "fun")])
    assert [("the plot", "the plot")] == make_unanswerable(asked, pool, 1.0, 0.0).texts


TIE = """
import numpy as np
from ltp_core.data.loading import Rows
from ltp_core.data.questions import Answers
from ltp_core.data.unanswerable import make_unanswerable
contexts = ["own", "six three two", "one", "six three", "six three too", "six two", "six", "six it"]
rows = Rows(
    task="squad",
    split="train",
    texts=[("six three two one", context) for context in contexts],
    labels=np.ones(len(contexts)),
    row=np.arange(len(contexts)),
    source="",
    sha256="",
    answers=(Answers(texts=("own",), begins=(0,), article="a"),) * len(contexts),
)
print(make_unanswerable(rows, rows, 1.0, 0.0).texts[0][1])
"""


def test_every_process_makes_the_same_questions() -> None:
    """Sets have another order in each process; contexts of equal rank must not fall by it."""
    found = {
        subprocess.run(
            [sys.executable, "-c", TIE],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 5, 7)
    }
    assert 1 == len(found), found


def test_the_share_is_kept_and_stable(data: Path) -> None:
    """No share changes nothing; a larger share contains a smaller one."""
    rows, none = made(data, 0.0)
    assert rows.texts == none.texts
    few, many = (set(np.flatnonzero(made(data, s)[1].labels == 0)) for s in (0.3, 0.7))
    assert few < many


# --- a word replaced ----------------------------------------------------------------------------


def asked(question: str, context: str, answer: str) -> Rows:
    """One question about one text."""
    return Rows(
        task="squad",
        split="train",
        texts=[(question, context)],
        labels=np.ones(1),
        row=np.arange(1),
        source="a source",
        sha256="",
        answers=(Answers(texts=(answer,), begins=(context.index(answer),), article="a"),),
    )


def altered(rows: Rows) -> Rows:
    """The rows with as many questions altered as can be."""
    return make_unanswerable(rows, rows, 0.0, 1.0)


MEADOW = "In spring, 1889 goats and 1906 sheep near the town of Ulm grazed for 12 days; shepherd Anna sold 45."


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        (
            "Were there 1889 of them near the farm?",
            "goats",
            "Were there 1906 of them near the farm?",
        ),
        ("How many did Anna have?", "45", "How many did Ulm have?"),
        ("Were any sheep grazed?", "12", None),
        ("What does Anna do about 1889 of us?", "1906", "What does Ulm do about 1889 of us?"),
        ("Is it 12?", "45", None),
    ],
)
def test_a_word_gives_way_to_one_of_its_kind(
    question: str, answer: str, expected: str | None
) -> None:
    """Numbers to numbers of as many digits, names to names; never to a word of the accepted answer."""
    rows = asked(question, MEADOW, answer)
    changed = altered(rows)
    assert [(expected or question, MEADOW)] == changed.texts
    assert [int(expected is None)] == changed.labels.tolist()
    assert "1 by replacing a word" in changed.source or expected is None


def test_lower_case_words_keep_their_ending() -> None:
    """A word of five letters or more is replaced by one with the same last two letters."""
    context = "The miller wanted bread, the weaver asked for cloth, and the farmer planted rye."
    (question, same), *_ = altered(asked("What had been wanted?", context, "bread")).texts
    assert context == same
    assert question in {"What had been asked?", "What had been planted?"}
    function = asked("What comes before bread?", "The store before the more distant core.", "core")
    assert function.texts == altered(function).texts


def test_every_altered_question_differs_in_one_word_that_its_text_has(data: Path) -> None:
    """On a table of questions: one word each, of the context, none of the accepted answers."""
    rows, changed = made(data, 0.0, 1.0)
    assert rows.answers is not None
    num_made = 0
    for before, after, answers, label in zip(
        rows.texts, changed.texts, rows.answers, changed.labels, strict=True
    ):
        assert before[1] == after[1]
        assert bool(label) == (before == after)
        if label:
            continue
        num_made += 1
        old, new = (re.findall(r"\w+", text[0]) for text in (before, after))
        assert len(old) == len(new)
        (word,) = (n for o, n in zip(old, new, strict=True) if o != n)
        assert word in re.findall(r"\w+", after[1])
        assert not any(word in re.findall(r"\w+", answer) for answer in answers.texts)
    assert num_made
    assert f"{num_made} by replacing a word with another of their paragraph" in changed.source


def test_no_question_is_made_unanswerable_twice(data: Path) -> None:
    """Paired ones stay the same when others are altered, and nobody is both."""
    rows, paired = made(data, 0.4)
    _, both = made(data, 0.4, 0.5)
    assert paired.sha256 != both.sha256
    assert {i for i, text in enumerate(paired.texts) if text[1] != rows.texts[i][1]} == {
        i for i, text in enumerate(both.texts) if text[1] != rows.texts[i][1]
    }
    assert all(
        text[0] == rows.texts[i][0] or text[1] == rows.texts[i][1]
        for i, text in enumerate(both.texts)
    )
