"""Evaluation of a checkpoint over a data set: metrics, FLOPs, and one record per example."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ltp_core.data.batching import Batch, collate, encode, encode_text, sorted_batches
from ltp_core.data.loading import Rows, load_rows
from ltp_core.data.tasks import find_task
from ltp_core.data.token_kinds import KindCounter
from ltp_core.encoder.loading import downloads_allowed
from ltp_core.encoder.tokenizer import separator_id
from ltp_core.flops import relative_flops
from ltp_core.metrics import compute_metrics
from ltp_core.records import UserError
from ltp_core.runners.base import Inputs, RunOutput, make_inputs

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a pass over a data set gave.

    Attributes:
        task: Task whose metrics were computed.
        split: Split of it.
        metrics: Fractions, the headline first.
        relative_flops: By accounting, sums over the data set before division.
        mean_retained: Per layer, tokens that go on as a fraction of all tokens of the data set.
        examples: One row per example, columns of the store's `examples` table.
        layers: One row per example and layer, columns of the store's `layers` table.
        dataset: Source, rows and SHA-256 of the data.
    """

    task: str
    split: str
    metrics: dict[str, float]
    relative_flops: dict[str, float]
    mean_retained: list[float]
    examples: pd.DataFrame
    layers: pd.DataFrame
    dataset: dict[str, Any]

    @property
    def rows(self) -> int:
        """Number of examples."""
        return len(self.examples)

    @property
    def summary(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "rows": self.rows,
            "metrics": self.metrics,
            "relative_flops": self.relative_flops,
            "mean_retained": self.mean_retained,
        }


def model_inputs(model: PrunedModel, batch: Batch) -> Inputs:
    """A collated batch with the tokens marked that the model's method protects."""
    config = model.method.config
    return make_inputs(
        batch.input_ids,
        batch.token_type_ids,
        batch.attention_mask,
        protect_first=config.protect_first,
        separator_id=separator_id(model.tokenizer) if config.protect_separators else None,
    )


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
    rows = load_rows(
        name, split, data_dir=data_dir, limit=limit, allow_downloads=downloads_allowed()
    )
    _check_head(model, name)
    try:
        encoded = encode(model.tokenizer, rows.texts, model.max_length)
    except ValueError as error:
        raise UserError(f"{model.name}: {error}.") from error
    method = method or model.method
    batches = sorted_batches(encoded.length, batch_size)
    config = model.encoder.config
    logits = np.empty((len(rows), config.num_labels), dtype=np.float32)
    lengths = np.empty((2, len(rows), config.num_layers), dtype=np.int64)
    device = next(model.encoder.parameters()).device
    for index in batches:
        batch = collate(encoded, index, None, config.pad_id)
        inputs = model_inputs(model, batch).to(device)
        output: RunOutput = model.packed(inputs, method, record=counter is not None)
        if counter is not None:
            _count(counter, model, [rows.texts[i] for i in index], method, output)
        logits[index] = output.logits.float().cpu().numpy()
        lengths[0, index] = output.attention_length.numpy()
        lengths[1, index] = output.ffn_length.numpy()
    return _summarise(rows, encoded.length, logits, lengths, model)


def kind_counter(model: PrunedModel) -> KindCounter:
    """A counter of token kinds that fits the model."""
    config = model.encoder.config
    return KindCounter(config.num_layers, config.vocab_size)


def _count(
    counter: KindCounter,
    model: PrunedModel,
    texts: list[tuple[str, ...]],
    method: PruningMethod,
    output: RunOutput,
) -> None:
    """Hands a batch over to the counter, with what `encode` does not keep of its tokens."""
    ran = [layer for layer in range(method.num_layers) if method.runs_layer(layer)]
    layers = {
        layer: (record.live.cpu().numpy(), record.retained.cpu().numpy())
        for layer, record in zip(ran, output.layers, strict=True)
    }
    encodings = [encode_text(model.tokenizer, text, model.max_length)[0] for text in texts]
    counter.add(encodings, texts, layers)


def _check_head(model: PrunedModel, task: str) -> None:
    outputs, wanted = model.encoder.config.num_labels, find_task(task).num_labels
    if outputs != wanted:
        raise UserError(f"{model.name} has {outputs} outputs, but {task} needs {wanted}.")


def predictions_from(logits: np.ndarray) -> np.ndarray:
    """Class index of each example, or the value itself where there is one output."""
    return logits[:, 0] if logits.shape[1] == 1 else logits.argmax(axis=1)


def _summarise(
    rows: Rows, length: np.ndarray, logits: np.ndarray, lengths: np.ndarray, model: PrunedModel
) -> Evaluation:
    predictions = predictions_from(logits)
    config = model.encoder.config
    attention_length, ffn_length = lengths
    examples = pd.DataFrame(
        {
            "split": rows.split,
            "row": rows.row,
            "length": length,
            "label": rows.labels,
            "prediction": predictions,
            **{f"logit_{i}": logits[:, i] for i in range(logits.shape[1])},
        }
    )
    return Evaluation(
        task=rows.task,
        split=rows.split,
        metrics=compute_metrics(rows.task, predictions, rows.labels),
        relative_flops=relative_flops(
            length,
            attention_length,
            ffn_length,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
        ),
        mean_retained=[float(x) for x in ffn_length.sum(axis=0) / length.sum()],
        examples=examples,
        layers=_layers_frame(rows, attention_length, ffn_length),
        dataset={"source": rows.source, "rows": len(rows), "sha256": rows.sha256},
    )


def _layers_frame(rows: Rows, attention_length: np.ndarray, ffn_length: np.ndarray) -> pd.DataFrame:
    num_layers = attention_length.shape[1]
    return pd.DataFrame(
        {
            "split": rows.split,
            "row": np.repeat(rows.row, num_layers),
            "layer": np.tile(np.arange(num_layers), len(rows)),
            "attention_length": attention_length.ravel(),
            "ffn_length": ffn_length.ravel(),
        }
    )
