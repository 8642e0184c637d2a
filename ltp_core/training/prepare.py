"""What a run needs before its first step: rows, model, method, and what its teacher says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ltp_core.checkpoint import PrunedModel, load_checkpoint
from ltp_core.config import TrainConfig
from ltp_core.encoder.loading import find_base, load_encoder
from ltp_core.encoder.model import Encoder, Head
from ltp_core.encoder.tokenizer import load_tokenizer, separator_id
from ltp_core.environment import downloads_allowed
from ltp_core.pruning import METHODS, MethodConfig, PruningMethod
from ltp_core.records import UserError
from ltp_core.strict import build
from ltp_core.tasks.catalogue import Task, find_task
from ltp_core.tasks.loading import Rows
from ltp_core.training.loop import TrainingSet
from ltp_core.training.rows import training_rows
from ltp_core.training.teacher import stored_teacher_logits
from ltp_core.training.weights import make_trainable


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """What a run needs before its first step."""

    config: TrainConfig
    task: Task
    base: Path
    encoder: Encoder
    method: PruningMethod
    rows: Rows
    data: TrainingSet
    teacher: PrunedModel | None


def prepare(
    config: TrainConfig,
    parent_folder: Path | None,
    data_dir: Path | None,
    destination: Path,
    device: str,
) -> Prepared:
    """Loads and encodes the rows, and makes the model trainable from its parent or the base.

    Args:
        config: The run.
        parent_folder: Run to start from, which also is the teacher; None starts from the base.
        data_dir: Folder of Parquet files.
        destination: Store that keeps the teacher's logits.
        device: Where the teacher runs.

    Raises:
        UserError: Data or base model are absent, or a setting is impossible.
    """
    task = find_task(config.task)
    torch.manual_seed(config.seed)
    base = find_base(config.base, allow_downloads=downloads_allowed())
    head: Head = "span" if task.asks_questions else "classification"
    encoder = load_encoder(base, num_labels=task.num_labels, head=head)
    method = make_method(config, encoder.config.num_layers)
    method.fit_width_(encoder.config.hidden_size)
    tokenizer = load_tokenizer(base)
    found = training_rows(config, tokenizer, encoder.config.max_length, data_dir)
    method.prepare_(found.encoded.length)
    teacher = None if parent_folder is None else load_checkpoint(str(parent_folder), device=device)
    said: Tensor | None = None
    if teacher is not None and parent_folder is not None and _distils(config):
        said = stored_teacher_logits(teacher, parent_folder, found.encoded, destination)
    make_trainable(encoder, method, config, parent_folder)
    data = TrainingSet(
        encoded=found.encoded,
        labels=found.labels,
        teacher_logits=said,
        pad_id=encoder.config.pad_id,
        separator_id=separator_id(tokenizer),
        protect_first=method.config.protect_first,
        protect_separators=method.config.protect_separators,
        protect_question=method.config.protect_question,
    )
    return Prepared(
        config=config,
        task=task,
        base=base,
        encoder=encoder,
        method=method,
        rows=found.rows,
        data=data,
        teacher=teacher,
    )


def method_config(config: TrainConfig) -> MethodConfig:
    """The settings of the configured method.

    Raises:
        UserError: The method, or one of its settings, does not exist, or has the wrong type.
    """
    name = config.method.name
    if name not in METHODS:
        raise UserError(f"method.name = {name!r}: must be one of {', '.join(METHODS)}.")
    return build(METHODS[name].config_type, config.method.settings, "method.")


def make_method(config: TrainConfig, num_layers: int) -> PruningMethod:
    """The configured method.

    Raises:
        UserError: The method, or one of its settings, does not exist, or has the wrong type.
    """
    return METHODS[config.method.name](method_config(config), num_layers)


def _distils(config: TrainConfig) -> bool:
    return config.select is None and any(
        stage and stage.distillation_weight > 0 for stage in (config.soft, config.hard)
    )
