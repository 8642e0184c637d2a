"""Chunks of a file, predicted by tasks of a cluster.

Chunks are those of `predict_file`, which reads, keeps the order, saves what is finished and writes the
whole: a file is the same by whichever engine, and a killed run goes on with either. Ray's own readers and
writers know neither our formats nor where a run was killed, and write one file a block.

A task is any worker's: one that dies loses its chunk alone, and machines may come and go. A worker keeps
the model from its first chunk on.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from ltp_core.checkpoint import PrunedModel, assemble
from ltp_core.cluster.connection import Cluster, use_one_core
from ltp_core.predicting.predict import Chunk, Counts, Engine, Predicted, predict_texts
from ltp_core.predicting.scoring import RunnerName, Scorer
from ltp_core.records import UserError

CHUNKS_A_WORKER = 2
"""One that is computed and one that waits: what is in memory depends on the workers, not on the file."""


@dataclass(frozen=True, kw_only=True)
class _Setup:
    """What a worker makes its scorer of; the packed runner's copy of the weights is made there."""

    model: dict[str, Any]
    runner: RunnerName
    dtype: str
    batch_size: int
    device: str


def cluster_engine(
    cluster: Cluster,
    model: PrunedModel,
    *,
    runner: RunnerName,
    dtype: str,
    batch_size: int,
    device: str,
) -> Engine:
    """Predicts on every core of a cluster, or with a model on each GPU.

    Args:
        cluster: Connected; its machines need this package, not the checkpoint.
        model: Loaded checkpoint.
        runner: As `Scorer` takes it.
        dtype: Likewise.
        batch_size: Likewise.
        device: `cpu` or `cuda`.

    Raises:
        UserError: The device is another, or the cluster has none of it.
    """
    if device not in ("cpu", "cuda"):
        raise UserError(f"--device {device}: with --engine ray take cpu or cuda.")
    slots = cluster.accelerators if device == "cuda" else cluster.cores
    if slots < 1:
        raise UserError(f"The cluster has no {'GPU' if device == 'cuda' else 'core'} for tasks.")
    names = (field.name for field in dataclasses.fields(model))
    fields = {name: getattr(model, name) for name in names if name != "packed"}
    setup = cluster.ray.put(
        _Setup(model=fields, runner=runner, dtype=dtype, batch_size=batch_size, device=device)
    )
    task = cluster.task(_predict, on_accelerator=device == "cuda", keeps_state=True)

    def predicted(chunks: Iterable[Chunk], prefix: str) -> Iterator[Predicted]:
        waiting: deque[tuple[Chunk, Any]] = deque()
        for chunk in chunks:
            if len(waiting) == CHUNKS_A_WORKER * slots:
                first, reference = waiting.popleft()
                yield first, *cluster.result(reference)
            # In a list, the model is fetched where it is missing, and not with each task.
            waiting.append((chunk, task.remote([setup], chunk.texts, chunk.numbers, prefix)))
        for first, reference in waiting:
            yield first, *cluster.result(reference)

    return predicted


def _predict(
    setup: list[Any], texts: list[tuple[str | None, ...]], numbers: list[int], prefix: str
) -> tuple[pa.Table, Counts]:
    """The task."""
    return predict_texts(_scorer(setup[0]), texts, numbers, prefix)


@functools.lru_cache(maxsize=1)
def _scorer(reference: Any) -> Scorer:
    """The scorer of this worker."""
    use_one_core()
    setup: _Setup = importlib.import_module("ray").get(reference)
    return Scorer(
        assemble(**setup.model, device=setup.device),
        runner=setup.runner,
        dtype=setup.dtype,
        batch_size=setup.batch_size,
    )
