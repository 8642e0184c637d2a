"""Evaluation of a checkpoint over a data set: metrics, FLOPs, and one record per example."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from tokenizers import Encoding

from ltp_core.environment import downloads_allowed
from ltp_core.inference import Evaluation, Passes, run_passes
from ltp_core.metrics import compute_metrics
from ltp_core.questions.measure import measure_questions
from ltp_core.questions.rows import load_questions
from ltp_core.records import QuestionSettings, UserError
from ltp_core.tasks.catalogue import Task, find_task
from ltp_core.tasks.loading import Rows, load_rows
from ltp_core.token_categories import KindCounter
from ltp_core.tokenize import encode, encode_text

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod


def evaluate_checkpoint(
    model: PrunedModel,
    task: str | None = None,
    *,
    split: str = "validation",
    limit: int | None = None,
    data_dir: Path | None = None,
    method: PruningMethod | None = None,
    batch_size: int = 64,
    counter: KindCounter | None = None,
) -> Evaluation:
    """Runs a checkpoint over a split with the packed runner.

    Args:
        model: Loaded checkpoint.
        task: Task to evaluate on; None takes the checkpoint's own.
        split: Split of it.
        limit: Random subset of that many rows.
        data_dir: Folder of Parquet files for GLUE tasks.
        method: Prune by this instead of the checkpoint's own method.
        batch_size: Sequences per pass; no result depends on it.
        counter: Is given every decision, to count which kinds of token leave at which layer.

    Raises:
        UserError: No task is given or known, the data is absent, or the head does not fit the task.
    """
    name = task or model.task
    if name is None:
        raise UserError(f"{model.name} does not say what task it is for; give one with --task.")
    rows = load_split(name, split, model.questions, limit=limit, data_dir=data_dir)
    order = _check_head(model, find_task(name))
    method = method or model.method
    if rows.answers is not None:
        return measure_questions(model, rows, method, batch_size=batch_size, counter=counter)
    try:
        encoded = encode(model.tokenizer, rows.texts, model.max_length)
    except ValueError as error:
        raise UserError(f"{model.name}: {error}.") from error

    def describe(i: int) -> tuple[Encoding, tuple[str, ...]]:
        return encode_text(model.tokenizer, rows.texts[i], model.max_length)[0], rows.texts[i]

    passes = run_passes(
        model, encoded, method, batch_size=batch_size, counter=counter, describe=describe
    )
    if order is not None:
        passes = dataclasses.replace(passes, logits=[logits[order] for logits in passes.logits])
    return _summarise(rows, passes, model)


def load_split(
    task: str,
    split: str,
    questions: QuestionSettings | None,
    *,
    limit: int | None = None,
    data_dir: Path | None = None,
) -> Rows:
    """Rows of a split, questions as the checkpoint's settings say.

    Raises:
        UserError: There is no such task or split, or the data is absent or cannot be used.
    """
    options = {"data_dir": data_dir, "limit": limit, "allow_downloads": downloads_allowed()}
    if find_task(task).asks_questions:
        settings = questions or QuestionSettings()
        return load_questions(task, split, settings, **options)  # type: ignore[arg-type]
    return load_rows(task, split, **options)  # type: ignore[arg-type]


def kind_counter(model: PrunedModel) -> KindCounter:
    """A counter of token kinds that fits the model."""
    config = model.encoder.config
    return KindCounter(config.num_layers, config.vocab_size)


def _check_head(model: PrunedModel, task: Task) -> list[int] | None:
    """Which output stands for each of the task's classes; None: they are in its order already."""
    outputs, is_span = model.encoder.config.num_labels, model.encoder.config.head == "span"
    if is_span != task.asks_questions:
        kind = "answers questions about a text" if is_span else "classifies"
        raise UserError(f"{model.name} {kind}, which does not fit {task.name}.")
    if outputs != task.num_labels:
        raise UserError(
            f"{model.name} has {outputs} outputs, but {task.name} needs {task.num_labels}."
        )
    if model.is_multi_label:
        raise UserError(
            f"{model.name} gives independent labels; {task.name} has one for each text."
        )
    if is_span or task.num_labels == 1 or model.task == task.name:
        return None
    # Another's outputs may be in another order: they are matched by name, whatever their spelling.
    own, wanted = (
        [re.sub(r"[^a-z0-9]+", "", name.casefold()) for name in names]
        for names in (model.label_names, task.label_names)
    )
    own = [SYNONYMS.get(name, name) for name in own]
    if own == wanted or any(own == [f"{p}{i}" for i in range(len(own))] for p in ("label", "")):
        return None
    if sorted(own) != sorted(wanted):
        raise UserError(
            f"{model.name} has the labels {', '.join(model.label_names)}, {task.name} has "
            f"{', '.join(task.label_names)}: give its outputs these names in id2label of its "
            "config.json, in the order of the outputs."
        )
    return [own.index(name) for name in wanted]


SYNONYMS = {
    "neg": "negative",
    "pos": "positive",
    "entailed": "entailment",
    "contradictory": "contradiction",
    "nonentailment": "notentailment",
    "paraphrase": "equivalent",
    "notparaphrase": "notequivalent",
}
"""Other names of classes, as published checkpoints have them."""


def predictions_from(logits: np.ndarray) -> np.ndarray:
    """Class index of each example, or the value itself where there is one output."""
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1)


def _summarise(rows: Rows, passes: Passes, model: PrunedModel) -> Evaluation:
    logits = np.stack(passes.logits)
    predictions = predictions_from(logits)
    examples = pd.DataFrame(
        {
            "split": rows.split,
            "row": rows.row,
            "length": passes.length,
            "label": rows.labels,
            "prediction": predictions,
            **{f"logit_{i}": logits[:, i] for i in range(logits.shape[1])},
        }
    )
    return Evaluation(
        task=rows.task,
        split=rows.split,
        metrics=compute_metrics(rows.task, predictions, rows.labels),
        relative_flops=passes.relative_flops(model),
        mean_retained=passes.mean_retained,
        examples=examples,
        layers=passes.layers_frame(rows.split, rows.row),
        dataset={"source": rows.source, "rows": len(rows), "sha256": rows.sha256},
    )
