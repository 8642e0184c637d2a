"""What a run learns from: rows, their tokens and labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Num
from tokenizers import Tokenizer

from ltp_core.config import TrainConfig
from ltp_core.environment import downloads_allowed
from ltp_core.questions.rows import load_questions
from ltp_core.records import QuestionSettings, UserError
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.loading import Rows, load_rows
from ltp_core.tasks.windows import answer_positions, encode_windows
from ltp_core.tokenize import Encoded, encode


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """The rows that are learned from.

    Attributes:
        rows: As they were loaded.
        encoded: Their tokens; of questions, the windows.
        labels: One of each of `encoded`; of windows the first and last token of the answer.
    """

    rows: Rows
    encoded: Encoded
    labels: Num[np.ndarray, "inputs ..."]


def question_settings(config: TrainConfig) -> QuestionSettings | None:
    """How the run answers questions, before its threshold is chosen; None where it answers none."""
    if not find_task(config.task).asks_questions:
        return None
    data = config.data
    return QuestionSettings(
        stride=data.stride,
        train_task=data.train_task,
        unanswerable_share=data.unanswerable_share,
        heldout_by=data.heldout_by,
    )


def training_rows(
    config: TrainConfig, tokenizer: Tokenizer, longest: int, data_dir: Path | None
) -> TrainingRows:
    """Loads and encodes what a run learns from.

    Args:
        config: The run.
        tokenizer: Of the base model.
        longest: Tokens that the encoder takes at most.
        data_dir: Folder of Parquet files.

    Raises:
        UserError: Data is absent, or a setting is impossible.
    """
    settings = config.data
    if settings.max_length > longest:
        raise UserError(
            f"data.max_length = {settings.max_length}: {config.base} takes at most {longest} tokens."
        )
    questions = question_settings(config)
    options: dict[str, Any] = {
        "data_dir": data_dir,
        "limit": settings.train_rows,
        "seed": config.seed,
        "allow_downloads": downloads_allowed(),
    }
    if questions is None:
        rows = load_rows(config.task, "train", **options)
        found = _classified(rows, tokenizer, settings.max_length)
    else:
        rows = load_questions(config.task, "train", questions, **options)
        found = _asked(rows, tokenizer, settings.max_length, settings.stride)
    if settings.max_train_length is None:
        return found
    return _short_ones(found, settings.max_train_length)


def _classified(rows: Rows, tokenizer: Tokenizer, max_length: int) -> TrainingRows:
    try:
        encoded = encode(tokenizer, rows.texts, max_length)
    except ValueError as error:
        raise UserError(f"data.max_length: {error}.") from error
    return TrainingRows(rows=rows, encoded=encoded, labels=rows.labels)


def _asked(rows: Rows, tokenizer: Tokenizer, max_length: int, stride: int) -> TrainingRows:
    assert rows.answers is not None
    windows = encode_windows(tokenizer, rows.texts, max_length, stride)
    positions = answer_positions(windows, rows.answers)
    return TrainingRows(rows=rows, encoded=windows.encoded, labels=positions)


def _short_ones(found: TrainingRows, longest: int) -> TrainingRows:
    if found.rows.answers is not None:
        raise UserError(
            "data.max_train_length: long texts of questions are divided into windows; set "
            "data.max_length instead."
        )
    kept = np.flatnonzero(found.encoded.length <= longest)
    if not len(kept):
        raise UserError(f"data.max_train_length = {longest}: no training row is that short.")
    return TrainingRows(
        rows=found.rows.take(kept), encoded=found.encoded.take(kept), labels=found.labels[kept]
    )
