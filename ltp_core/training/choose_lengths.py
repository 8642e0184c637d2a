"""LAT's configuration for a budget: the search, carried out on a trained adaptive model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from ltp_core.checkpoint import PrunedModel
from ltp_core.config import TrainConfig
from ltp_core.inference import input_batches, predict
from ltp_core.pruning.lat import LengthAdaptive, Lengths
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.task import Rows
from ltp_core.tokenize import encode
from ltp_core.training.losses import task_loss
from ltp_core.training.search import (
    Candidate,
    SearchSpace,
    best_within,
    earlier_search,
    length_cost,
    search,
)


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
    assert isinstance(model.method, LengthAdaptive)
    return model.method.with_lengths(best.lengths), found


def search_lengths(
    model: PrunedModel, rows: Rows, *, seed: int, max_configurations: int
) -> list[Candidate]:
    """Searches the whole range of costs; every configuration is evaluated on all rows."""
    method, config = model.method, model.encoder.config
    assert isinstance(method, LengthAdaptive)
    encoded = encode(model.tokenizer, rows.texts, model.max_length)
    space = SearchSpace(
        initial_length=method.initial_length,
        num_layers=config.num_layers,
        cost=length_cost(encoded.length, **config.sizes),
    )
    # The same batches are run again and again.
    task, batches = find_task(rows.task), list(input_batches(model, encoded))
    labels = torch.from_numpy(rows.labels)

    def measure(lengths: Lengths) -> Candidate:
        found = predict(model, encoded, method.with_lengths(lengths), batches=batches)
        metrics = task.score(found.answers, rows.labels)
        logits = torch.from_numpy(np.stack(found.logits))
        return Candidate(
            lengths=lengths,
            relative_flops=_stored(found.relative_flops(model)["paper"]),
            metric=_stored(next(iter(metrics.values()))),
            loss=_stored(float(task_loss(logits, labels))),
        )

    return search(space, measure, seed=seed, max_configurations=max_configurations)


def _stored(value: float) -> float:
    """As the store's tables hold it, so that a choice from a stored search is the same."""
    return float(np.float32(value))
