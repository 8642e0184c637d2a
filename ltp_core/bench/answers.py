"""Whether variants with coarser numbers still give the same answers, and how good these are.

In float32 the variants agree to within rounding. Int8 and bfloat16 change logits, and decisions of
scores near a threshold with them; a speed without the price would be half a figure.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Num, Shaped

from ltp_core.bench.engines import Entry, floating
from ltp_core.bench.settings import BenchSettings
from ltp_core.bench.variants import VARIANTS
from ltp_core.bench.workload import Batches
from ltp_core.checkpoint import PrunedModel
from ltp_core.encoder.int8 import input_scales
from ltp_core.inference import model_inputs
from ltp_core.pruning import Unpruned
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.task import predictions_from
from ltp_core.tokenize import Encoded, sorted_batches

Predictions = Num[np.ndarray, " examples"]

REFERENCE_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What a checkpoint answers in float32, by whether its method prunes.

    Attributes:
        task: Task of the rows.
        labels: The truth; None where nobody knows it.
        predictions: Class of each row, with pruning and without.
    """

    task: str | None
    labels: Shaped[np.ndarray, " examples"] | None
    predictions: dict[bool, Predictions]

    def take(self, index: np.ndarray) -> Reference:
        """The rows at these positions."""
        predictions = {key: values[index] for key, values in self.predictions.items()}
        labels = None if self.labels is None else self.labels[index]
        return Reference(task=self.task, labels=labels, predictions=predictions)


def reference_of(
    model: PrunedModel,
    task: str | None,
    encoded: Encoded,
    labels: Shaped[np.ndarray, " examples"] | None,
) -> Reference:
    """The packed runner's answers in float32; of an INT8 model, those of its weights in floating point."""
    model, answers = floating(model), {}
    for is_pruned, method in ((True, model.method), (False, Unpruned.control_of(model.method))):
        logits = np.empty((len(encoded), model.encoder.config.num_labels), dtype=np.float32)
        for index in sorted_batches(encoded.length, REFERENCE_BATCH):
            output = model.packed(model_inputs(model, encoded, index), method)
            logits[index] = output.logits.float().cpu().numpy()
        answers[is_pruned] = predictions_from(logits)
    return Reference(task=task, labels=labels, predictions=answers)


def compare_answers(
    entry: Entry, encoded: Encoded, batches: Batches, reference: Reference
) -> dict[str, float]:
    """Share of equal predictions and, where there are labels, the headline metric on these rows.

    Args:
        entry: Who answers.
        encoded: The sequences.
        batches: As they are measured: quantisation of a batch looks at all of it.
        reference: Of the same rows, from the same checkpoint.
    """
    logits = np.empty((len(encoded), entry.model.encoder.config.num_labels), dtype=np.float32)
    for index in batches:
        logits[index] = entry.logits(encoded, index).float().cpu().numpy()
    predictions = predictions_from(logits)
    expected = reference.predictions[entry.variant.is_pruned]
    found = {"equal_predictions": float(np.mean(predictions == expected))}
    if reference.task is not None and reference.labels is not None:
        task = find_task(reference.task)
        for name, given in (("metric", predictions), ("reference_metric", expected)):
            metrics = task.score(given, reference.labels)
            found[name] = next(iter(metrics.values()))
    return found


def is_coarse(entry: Entry) -> bool:
    """It answers in coarser numbers than float32."""
    return entry.variant.is_model and not (is_as_stored(entry) and _is_floating(entry.model))


def is_as_stored(entry: Entry) -> bool:
    """It answers in the numbers that the checkpoint was evaluated in."""
    weight = next(entry.model.encoder.parameters())
    return entry.variant.precision == "settings" and weight.dtype == torch.float32


def needs_reference(settings: BenchSettings, model: PrunedModel) -> bool:
    """Some variant will answer with classes in coarser numbers."""
    precisions = {VARIANTS[name].precision for name in settings.variants}
    is_float32 = settings.dtype == "float32" and precisions == {"settings"}
    return model.encoder.config.num_labels > 1 and not (is_float32 and _is_floating(model))


def _is_floating(model: PrunedModel) -> bool:
    return not input_scales(model.encoder)
