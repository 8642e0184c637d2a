"""Rows of a question answering task as a run wants them. Torch-free."""

from __future__ import annotations

import dataclasses
from functools import partial
from pathlib import Path

from ltp_core.records import QuestionSettings, UserError
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.loading import Rows, load_rows
from ltp_core.tasks.questions import make_unanswerable


def load_questions(
    task: str,
    split: str,
    settings: QuestionSettings,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    allow_downloads: bool = False,
) -> Rows:
    """Questions of a split; training and held-out ones from another task and made unanswerable.

    Other splits are as published. What makes a question unanswerable is another context of its article.
    Arguments are those of `load_rows`.

    Raises:
        UserError: The other task asks no questions, or the data is absent or cannot be used.
    """
    is_training = split in ("train", "heldout")
    source = settings.train_task if is_training and settings.train_task else task
    if not find_task(source).asks_questions:
        raise UserError(f"data.train_task = {source!r}: it must be a task of questions, as squad.")
    load = partial(
        load_rows,
        source,
        data_dir=data_dir,
        allow_downloads=allow_downloads,
        heldout_by=settings.heldout_by,
    )
    rows = load(split, limit=limit, seed=seed)
    if is_training and settings.unanswerable_share:
        # Of the article itself: held-out articles are not among the training rows.
        pool = load(split if settings.heldout_by == "article" else "train")
        rows = make_unanswerable(rows, settings.unanswerable_share, pool)
    return dataclasses.replace(rows, task=task)
