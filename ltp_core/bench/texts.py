"""The sequences that a benchmark runs: a task's rows, or real words where these are not at hand.

Speed depends on lengths and on which tokens survive, hardly on what is said. So a checkpoint whose
data is not on this machine, or that names no task, is measured on words of film reviews, which come
with the requirements, in the lengths that its own validation inputs had.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Int, Num

from ltp_core import store
from ltp_core.bench.settings import BenchSettings
from ltp_core.bench.workload import with_lengths
from ltp_core.checkpoint import PrunedModel
from ltp_core.records import UserError
from ltp_core.tables import read_table
from ltp_core.tasks.catalogue import known_task
from ltp_core.tasks.loading import AbsentDataError, load_rows
from ltp_core.tokenize import Encoded, encode

STAND_IN = "rotten_tomatoes"
"""Task whose words stand in: it comes with the requirements."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """What is run.

    Attributes:
        task: Task of the rows or of the checkpoint; None where it names none.
        source: Where they come from, in words, without a path of this machine.
        encoded: Token ids, by name of the checkpoint.
        labels: Their labels; None where the texts stand in for others.
    """

    task: str | None
    source: str
    encoded: dict[str, Encoded]
    labels: Num[np.ndarray, " examples"] | None


def sequences_of(
    settings: BenchSettings, models: Sequence[PrunedModel], data_dir: Path | None
) -> Sequences:
    """Rows of the task that is named or is the checkpoint's own; else words that stand in.

    Args:
        settings: Task, split and number of sequences.
        models: Checkpoints that run them, the measured one first.
        data_dir: Folder of Parquet files for GLUE tasks.

    Raises:
        UserError: A task is named whose data is absent, or a file of data is damaged.
    """
    task = settings.task or models[0].task
    if settings.task is not None or known_task(task) is not None:
        assert task is not None
        try:
            rows = load_rows(task, settings.split, data_dir=data_dir, limit=settings.limit)
        except AbsentDataError:
            if settings.task is not None or data_dir is not None:
                raise
        else:
            encoded = {m.name: encode(m.tokenizer, rows.texts, m.max_length) for m in models}
            return Sequences(task=task, source=rows.source, encoded=encoded, labels=rows.labels)
    return _standing_in(settings, models, task)


def _standing_in(
    settings: BenchSettings, models: Sequence[PrunedModel], task: str | None
) -> Sequences:
    rows = load_rows(STAND_IN, "validation")
    lengths = _stored_lengths(models[0].name, settings)
    encoded = {}
    for model in models:
        words = encode(model.tokenizer, rows.texts, model.max_length)
        if lengths is None:
            encoded[model.name] = words.take(np.arange(min(settings.limit, len(words))))
        else:
            encoded[model.name] = with_lengths(words, np.minimum(lengths, model.max_length))
    as_long = "" if lengths is None else f", as long as the {settings.split} inputs of its run"
    return Sequences(
        task=task,
        source=f"words of Rotten Tomatoes reviews{as_long}: its own texts are not at hand",
        encoded=encoded,
        labels=None,
    )


def _stored_lengths(name: str, settings: BenchSettings) -> Int[np.ndarray, " examples"] | None:
    """Tokens of the run's own inputs, `limit` of them at random; None where none are stored."""
    try:
        folder = store.find_run(name)
    except UserError:  # a model folder, which is no run
        return None
    # The name of a folder may also be the beginning of a run's name.
    if folder.name != name or not (folder / "examples.parquet").is_file():
        return None
    examples = read_table(folder, "examples")
    lengths = examples.loc[examples["split"] == settings.split, "length"].to_numpy(np.int64)
    if not len(lengths):
        return None
    chosen = np.random.default_rng(0).permutation(len(lengths))[: settings.limit]
    enough: Int[np.ndarray, " examples"] = np.maximum(lengths[chosen], 3)
    return enough
