"""What a run needs before its first step: rows, model, method, and what its teacher says."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Num
from tokenizers import Tokenizer
from torch import Tensor, nn

from ltp_core.checkpoint import PrunedModel, load_checkpoint
from ltp_core.config import TrainConfig, is_int8
from ltp_core.encoder.adapter import inject, restore_adapter
from ltp_core.encoder.bases import find_base
from ltp_core.encoder.int8 import InputRecorder, quantize_
from ltp_core.encoder.loading import load_encoder
from ltp_core.encoder.model import Encoder
from ltp_core.encoder.tokenizer import load_tokenizer, separator_id
from ltp_core.inference import model_inputs
from ltp_core.pruning import METHODS, PruningMethod, Unpruned, method_config
from ltp_core.records import QuestionSettings, UserError
from ltp_core.runners.masked import run_masked
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.loading import load_rows
from ltp_core.tasks.task import Rows, Task
from ltp_core.tokenize import Encoded
from ltp_core.training.loop import TrainingSet
from ltp_core.training.losses import as_choices
from ltp_core.training.teacher import stored_teacher_logits


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
    mixed_precision: str


def prepare(
    config: TrainConfig,
    parent_folder: Path | None,
    data_dir: Path | None,
    destination: Path,
    device: str,
    mixed_precision: str,
) -> Prepared:
    """Loads and encodes the rows, and makes the model trainable from its parent or the base.

    Args:
        config: The run.
        parent_folder: Run to start from, which also is the teacher; None starts from the base.
        data_dir: Folder of Parquet files.
        destination: Store that keeps the teacher's logits.
        device: Where the teacher runs.
        mixed_precision: What the training computes in here, which may be finer than it asks for.

    Raises:
        UserError: Data or base model are absent, or a setting is impossible.
    """
    task = find_task(config.task)
    torch.manual_seed(config.seed)
    base = find_base(config.base)
    encoder = load_encoder(base, num_labels=task.num_labels, head=task.head)
    method = make_method(config, encoder.config.num_layers)
    method.fit_width_(encoder.config.hidden_size)
    tokenizer = load_tokenizer(base)
    found = training_rows(config, tokenizer, encoder.config.max_length, data_dir)
    method.prepare_(found.encoded.length)
    teacher = None if parent_folder is None else load_checkpoint(str(parent_folder), device=device)
    said: Tensor | None = None
    if teacher is not None and parent_folder is not None and _distils(config):
        said = stored_teacher_logits(teacher, parent_folder, found.encoded, destination)
        said = as_choices(said) if task.is_multi_label else said
    make_trainable(encoder, method, config, parent_folder, mixed_precision)
    if is_int8(config):
        assert teacher is not None
        scales = teacher.input_scales or measured_scales(teacher, found.encoded, config.seed)
        quantize_(encoder, scales)
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
        mixed_precision=mixed_precision,
    )


SCALE_ROWS, SCALE_TOKENS = 256, 8192
"""Of how many training rows, and tokens at most, the inputs of INT8 maps are looked at."""


@torch.no_grad()
def measured_scales(model: PrunedModel, encoded: Encoded, seed: int) -> dict[str, float]:
    """Scales for the inputs of each linear map, from random training rows with nothing pruned."""
    order = np.random.default_rng(seed).permutation(len(encoded))[:SCALE_ROWS]
    order = order[np.cumsum(encoded.length[order]) <= SCALE_TOKENS]
    nothing = Unpruned.neutral(model.encoder.config.num_layers)
    with InputRecorder(model.encoder) as recorder:
        for row in order:  # one by one, so that no padding is seen
            run_masked(model.encoder, model_inputs(model, encoded, [row]), nothing)
    return recorder.scales()


def make_method(config: TrainConfig, num_layers: int) -> PruningMethod:
    """The configured method.

    Raises:
        UserError: The method, or one of its settings, does not exist, or has the wrong type.
    """
    return METHODS[config.method.name](
        method_config(config.method.name, config.method.settings), num_layers
    )


def _distils(config: TrainConfig) -> bool:
    return config.select is None and any(
        stage.distillation_weight > 0 for stage in config.later_stages.values()
    )


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
    task = find_task(config.task)
    rows = load_rows(
        config.task,
        "train",
        data_dir=data_dir,
        limit=settings.train_rows,
        seed=config.seed,
        questions=question_settings(config),
    )
    inputs = task.encode(tokenizer, rows.texts, settings.max_length, settings.stride)
    found = TrainingRows(rows=rows, encoded=inputs.encoded, labels=task.targets(rows, inputs))
    if settings.max_train_length is None:
        return found
    return _short_ones(found, settings.max_train_length)


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


AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What a mixed precision computes matrix products in."""


def make_trainable(
    encoder: Encoder,
    method: PruningMethod,
    config: TrainConfig,
    parent_folder: Path | None,
    mixed_precision: str,
) -> None:
    """Adapter or all weights, continued from the parent where there is one.

    Layers that the method leaves out are frozen: they have no gradient to wait for, and nothing of
    theirs to store.
    """
    if config.adapter.kind == "lora":
        autocast = AUTOCAST.get(mixed_precision)
        if is_int8(config):
            autocast = None  # the nearest whole numbers are those of the weights in full width
        inject(encoder, rank=config.adapter.rank, alpha=config.adapter.alpha, autocast=autocast)
        if parent_folder is not None:
            restore_adapter(encoder, parent_folder / "adapter")
    elif parent_folder is not None:
        parent = load_encoder(parent_folder / "model")
        encoder.load_state_dict(parent.state_dict())
    if config.hidden_dropout is not None:
        for name, module in encoder.named_modules():
            if isinstance(module, nn.Dropout) and not name.endswith("attention_dropout"):
                module.p = config.hidden_dropout
    for index, layer in enumerate(encoder.layers):
        if config.attention_dropout is not None:
            layer.attention_dropout.p = config.attention_dropout
        if not method.runs_layer(index):
            layer.requires_grad_(False)
