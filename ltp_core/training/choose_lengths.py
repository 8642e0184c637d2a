"""LAT's configuration for a budget: the search, carried out on a trained adaptive model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ltp_core.checkpoint import PrunedModel
from ltp_core.config import TrainConfig
from ltp_core.evaluation.evaluate import predictions_from
from ltp_core.flops import relative_flops
from ltp_core.inference import model_inputs
from ltp_core.metrics import compute_metrics
from ltp_core.pruning.lat import LengthAdaptive, Lengths
from ltp_core.runners.base import Inputs
from ltp_core.tasks.loading import Rows
from ltp_core.tokenize import Encoded, collate, encode, sorted_batches
from ltp_core.training.losses import task_loss
from ltp_core.training.search import (
    Candidate,
    SearchSpace,
    best_within,
    earlier_search,
    length_cost,
    search,
)

BATCH_SIZE = 64


def choose_lengths(
    model: PrunedModel, rows: Rows, config: TrainConfig, stores: Sequence[Path]
) -> tuple[LengthAdaptive, list[Candidate]]:
    """The most accurate configuration that the budget allows, and all that were tried.

    The search does not depend on the budget: that of an earlier run is taken where there is one.

    Args:
        model: A trained adaptive model.
        rows: Held-out training rows, on which accuracy and cost are measured.
        config: The run, with budget, size and seed of the search.
        stores: Where earlier runs may be.

    Raises:
        UserError: No configuration is as cheap as the budget.
    """
    select = config.select
    assert select is not None
    found = earlier_search(config, stores) or search_lengths(
        model, rows, seed=config.seed, max_configurations=select.max_configurations
    )
    best = best_within(found, select.target_relative_flops)
    return _adaptive(model).with_lengths(best.lengths), found


def search_lengths(
    model: PrunedModel, rows: Rows, *, seed: int, max_configurations: int
) -> list[Candidate]:
    """Searches the whole range of costs; every configuration is evaluated on all rows."""
    method, config = _adaptive(model), model.encoder.config
    encoded = encode(model.tokenizer, rows.texts, model.max_length)
    space = SearchSpace(
        initial_length=method.initial_length,
        num_layers=config.num_layers,
        cost=length_cost(
            encoded.length, hidden=config.hidden_size, intermediate=config.intermediate_size
        ),
    )
    measure = _measure(model, rows, encoded)
    return search(space, measure, seed=seed, max_configurations=max_configurations)


def _adaptive(model: PrunedModel) -> LengthAdaptive:
    assert isinstance(model.method, LengthAdaptive)
    return model.method


def _measure(model: PrunedModel, rows: Rows, encoded: Encoded) -> Callable[[Lengths], Candidate]:
    """Evaluates configurations on the same rows again and again."""
    method, config = _adaptive(model), model.encoder.config
    batches = list(_batches(model, encoded))
    labels = torch.from_numpy(rows.labels)

    def measure(lengths: Lengths) -> Candidate:
        logits = torch.empty(len(rows), config.num_labels)
        sizes = np.empty((2, len(rows), config.num_layers), dtype=np.int64)
        for index, inputs in batches:
            output = model.packed(inputs, method.with_lengths(lengths))
            logits[index] = output.logits.float().cpu()
            sizes[0, index], sizes[1, index] = output.attention_length, output.ffn_length
        metrics = compute_metrics(rows.task, predictions_from(logits.numpy()), rows.labels)
        relative = relative_flops(
            encoded.length, *sizes, hidden=config.hidden_size, intermediate=config.intermediate_size
        )
        return Candidate(
            lengths=lengths,
            relative_flops=_stored(relative["paper"]),
            metric=_stored(next(iter(metrics.values()))),
            loss=_stored(float(task_loss(logits, labels))),
        )

    return measure


def _stored(value: float) -> float:
    """As the store's tables hold it, so that a choice from a stored search is the same."""
    return float(np.float32(value))


def _batches(model: PrunedModel, encoded: Encoded) -> Iterator[tuple[np.ndarray, Inputs]]:
    device = model.device
    for index in sorted_batches(encoded.length, BATCH_SIZE):
        batch = collate(encoded, index, None, model.encoder.config.pad_id)
        yield index, model_inputs(model, batch).to(device)
