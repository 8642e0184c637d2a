"""A file scored by `predict`, beside transformers' own pipeline over the same file and weights.

Every contender reads a CSV and writes one with a label and its probability for each row. The pipeline runs
the same weights, unpruned, as a user without this project would, in the order of the file and once more with
its texts sorted by length: what is left then is neither padding nor sorting.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ltp_core.bench.document import card
from ltp_core.bench.measure import Probe, Report, spread, take_turns, using_threads
from ltp_core.bench.settings import BenchSettings
from ltp_core.checkpoint import PrunedModel
from ltp_core.export import export_hugging_face
from ltp_core.predicting.predict import predict_file
from ltp_core.predicting.scoring import Scorer
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import UserError
from ltp_core.tasks.loading import load_rows

CONTENDERS = {
    "pipeline": {
        "title": "transformers pipeline",
        "meaning": "same weights, unpruned, in the order of the file",
    },
    "pipeline_sorted": {
        "title": "pipeline, sorted",
        "meaning": "the same with the texts sorted by length",
    },
    "unpruned": {"title": "predict, unpruned", "meaning": "same weights, nothing pruned"},
    "pruned": {"title": "predict", "meaning": "tokens removed"},
}


def bench_predict(
    settings: BenchSettings,
    model: PrunedModel,
    *,
    data_dir: Path | None = None,
    report: Report = lambda event, fields: None,
) -> dict[str, Any]:
    """Measures scoring a file of a task's rows; nothing is stored.

    Args:
        settings: `what` is `predict`; task, split, limit, batch sizes, repeats and threads count.
        model: Loaded checkpoint, on the processor.
        data_dir: Folder of Parquet files for GLUE tasks.
        report: Told after each turn, as in `throughput.bench`.

    Returns:
        Settings and environment, and for every batch size and contender `rows_per_s` and
        `relative_throughput`, over the pipeline's of the same round, each with quartiles over rounds.

    Raises:
        UserError: The checkpoint answers questions or is not on the processor, another type than float32
            is asked for, or a task's rows are absent.
    """
    if model.device.type != "cpu" or settings.dtype != "float32":
        raise UserError("--what predict measures on the processor in float32: leave the rest out.")
    if model.questions is not None:
        raise UserError(f"{model.name} answers questions; scoring is measured on classifiers only.")
    task = settings.task or model.task
    if task is None:
        raise UserError(f"{model.name} names no task: name one with --task.")
    rows = load_rows(task, settings.split, data_dir=data_dir, limit=settings.limit)
    config = model.encoder.config
    lines: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, using_threads(settings.threads):
        facts = card(settings, task=task, texts=rows.source, device="cpu")
        probe = Probe(config.hidden_size, config.intermediate_size, model.device, torch.float32)
        source = Path(name) / "texts.csv"
        columns = ["text", "text_pair"][: len(rows.texts[0])]
        pd.DataFrame(rows.texts, columns=columns).to_csv(source, index=False)
        pipeline = _pipeline(model, Path(name) / "model")
        for batch_size in settings.batch_sizes:
            turns = _turns(model, pipeline, source, columns, batch_size)
            for turn in turns.values():
                turn()
            taken = take_turns(
                {key: lambda number, turn=turn: turn() for key, turn in turns.items()},  # type: ignore[misc]
                settings.repeats,
                model.device,
                until=None,
                on_turn=lambda key, s: report("turn", {"contender": key, "seconds": s}),
                between=probe,
            )
            lines += _lines(taken, batch_size, len(rows.texts))
    return facts | {
        "rows": len(rows.texts),
        "noise": probe.noise().to_json(),
        "contenders": CONTENDERS,
        "results": lines,
    }


def _pipeline(model: PrunedModel, folder: Path) -> Any:
    import transformers

    export_hugging_face(model, folder)
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.model_max_length = model.max_length
    return transformers.pipeline("text-classification", model=network, tokenizer=tokenizer)


def _turns(
    model: PrunedModel, pipeline: Any, source: Path, columns: list[str], batch_size: int
) -> dict[str, Callable[[], None]]:
    """What each contender does in a round."""
    unpruned = replace(model, method=Unpruned.control_of(model.method))
    plain = Scorer(unpruned, batch_size=batch_size)
    pruned = Scorer(model, batch_size=batch_size)

    def theirs(*, is_sorted: bool) -> None:
        frame = pd.read_csv(source, keep_default_na=False)
        inputs = frame[columns].to_dict("records")
        order = np.arange(len(inputs))
        if is_sorted:
            order = np.argsort([-sum(map(len, row.values())) for row in inputs], kind="stable")
        found = pipeline([inputs[i] for i in order], batch_size=batch_size, truncation=True)
        frame.loc[order, "label"] = [row["label"] for row in found]
        frame.loc[order, "score"] = [row["score"] for row in found]
        frame.to_csv(source.with_name("theirs.csv"), index=False)

    def ours(scorer: Scorer) -> None:
        predict_file(scorer, source, columns, source.with_name("ours.csv"))

    return {
        "pipeline": lambda: theirs(is_sorted=False),
        "pipeline_sorted": lambda: theirs(is_sorted=True),
        "unpruned": lambda: ours(plain),
        "pruned": lambda: ours(pruned),
    }


def _lines(taken: dict[str, list[float]], batch_size: int, rows: int) -> list[dict[str, Any]]:
    seconds = {name: np.array(times) for name, times in taken.items()}
    return [
        {
            "batch_size": batch_size,
            "contender": name,
            "rounds": len(times),
            **spread("rows_per_s", rows / times),
            **spread("relative_throughput", seconds["pipeline"] / times),
            **spread("relative_to_sorted", seconds["pipeline_sorted"] / times),
        }
        for name, times in seconds.items()
    ]
