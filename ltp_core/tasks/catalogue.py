"""The tasks: their columns, labels, splits and where their rows come from."""

from __future__ import annotations

from ltp_core.metrics import Metric
from ltp_core.records import UserError, nearest
from ltp_core.tasks.own_data import Kind, OwnTask, own_names, own_task
from ltp_core.tasks.questions import QuestionTask
from ltp_core.tasks.task import MultiLabelTask, Task


def _movie_reviews(name: str) -> Task:
    return Task(
        name=name,
        text_columns=("text",),
        num_labels=2,
        label_names=("negative", "positive"),
        source="movie-reviews",
        hub_path=None,
        extra_splits=("test",),
    )


def _glue(
    name: str,
    text_columns: tuple[str, ...],
    label_names: tuple[str, ...],
    *,
    metric: Metric = "accuracy",
    validation_split: str = "validation",
    extra_splits: tuple[str, ...] = (),
) -> Task:
    return Task(
        name=name,
        text_columns=text_columns,
        num_labels=len(label_names) or 1,
        label_names=label_names,
        hub_config=name,
        metric=metric,
        validation_split=validation_split,
        extra_splits=extra_splits,
    )


def _squad(name: str, hub_config: str, *, allows_no_answer: bool) -> Task:
    return QuestionTask(
        name=name,
        text_columns=("question", "context"),
        num_labels=2,
        label_names=("start", "end"),
        source="squad",
        hub_path=f"rajpurkar/{name}",
        hub_config=hub_config,
        metric="answers",
        allows_no_answer=allows_no_answer,
    )


_ALL = (
    _movie_reviews("rotten_tomatoes"),
    _movie_reviews("imdb"),
    _glue("sst2", ("sentence",), ("negative", "positive")),
    _glue(
        "mrpc",
        ("sentence1", "sentence2"),
        ("not_equivalent", "equivalent"),
        metric="accuracy_f1",
    ),
    _glue("rte", ("sentence1", "sentence2"), ("entailment", "not_entailment")),
    _glue("stsb", ("sentence1", "sentence2"), (), metric="correlation"),
    _glue("qnli", ("question", "sentence"), ("entailment", "not_entailment")),
    _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), metric="accuracy_f1"),
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


def known_task(name: str | None) -> Task | None:
    """The task of this name, own ones among them; None where there is none.

    Raises:
        StoreError: It is an own one whose record is damaged.
    """
    if name is None or name in TASKS:
        return TASKS.get(name or "")
    own = own_task(name)
    return None if own is None else _from_own(own)


def _from_own(own: OwnTask) -> Task:
    kind = MultiLabelTask if own.kind == "multi_label" else Task
    metric: dict[Kind, Metric] = {
        "classification": "accuracy",
        "regression": "correlation",
        "multi_label": "label_sets",
    }
    return kind(
        name=own.name,
        text_columns=own.text_columns,
        num_labels=len(own.label_names) or 1,
        label_names=own.label_names,
        source="own",
        hub_path=None,
        metric=metric[own.kind],
        extra_splits=tuple(split for split in own.rows if split not in ("train", "validation")),
    )


def find_task(name: str) -> Task:
    """The task of this name.

    Raises:
        UserError: There is none; the message names the nearest one.
    """
    if (task := known_task(name)) is not None:
        return task
    raise UserError(f"There is no task {name!r}{nearest(name, [*own_names(), *TASKS])}")
