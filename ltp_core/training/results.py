"""What a finished training leaves in the store: weights, measured records, the manifest last."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors import SafetensorError

from ltp_core import environment, store
from ltp_core.budget import FACTORS
from ltp_core.checkpoint import PrunedModel, load_checkpoint, save_pruning
from ltp_core.config import TrainConfig, dense_config, to_dict
from ltp_core.encoder.adapter import save_adapter
from ltp_core.encoder.bases import base_sha256
from ltp_core.encoder.int8 import input_scales
from ltp_core.encoder.saving import save_encoder
from ltp_core.encoder.tokenizer import load_tokenizer
from ltp_core.evaluate import (
    Evaluation,
    curve_frame,
    evaluate_checkpoint,
    kind_counter,
    measure_curve,
)
from ltp_core.inference import model_inputs
from ltp_core.pruning import PruningMethod
from ltp_core.records import QuestionSettings, RunManifest
from ltp_core.tasks.answers import best_threshold
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.loading import load_rows
from ltp_core.tasks.task import Task
from ltp_core.training.prepare import Prepared, question_settings
from ltp_core.training.resume import SNAPSHOT_FILE
from ltp_core.training.select import Selection
from ltp_core.training.watch import Watch

EVALUATED_SPLITS = ("heldout", "validation")
"""Choices are made on `heldout` training rows; `validation` is only reported."""

TRACED_ROWS = 64
"""Examples of each evaluated split whose full traces are stored."""

TRACED_QUESTIONS = 12
"""The same for questions, whose contexts are ten times as long as a sentence."""


@dataclass(frozen=True)
class Trained:
    """A trained model and what it came from.

    Attributes:
        prepared: What it started with; the stages have changed its encoder and method.
        parent: Folder of the run it started from, or None.
        device: What it was trained on and is evaluated on.
        duration_s: Wall-clock time of the training.
        selection: A method chosen after training, and what was tried; or None.
    """

    prepared: Prepared
    parent: Path | None
    device: str
    duration_s: float
    selection: Selection | None = None

    @property
    def method(self) -> PruningMethod:
        """The method as the stages, or a choice after them, left it."""
        return self.selection.method if self.selection else self.prepared.method


def finish(trained: Trained, folder: Path, data_dir: Path | None, watch: Watch) -> None:
    """Saves the weights, evaluates what was saved, and completes the run.

    Args:
        trained: What came of the training.
        folder: Of the run.
        data_dir: Folder of Parquet files.
        watch: Is told how far the evaluation is.

    Raises:
        StoreError: The disk does not take a file; the snapshot stays, so training is not lost.
    """
    try:
        if trained.selection is None:  # else it shares its parent's weights
            _write_weights(trained.prepared, folder)
        _save_pruning(trained, folder, question_settings(trained.prepared.config))
    except (OSError, SafetensorError) as error:
        raise store.StoreError(
            f"The weights of {folder.name} cannot be written ({error}): make room and run the same "
            "command again."
        ) from error
    model = load_checkpoint(str(folder), device=trained.device)
    data = trained.prepared.config.data
    limits = {split: getattr(data, f"{split}_rows") for split in EVALUATED_SPLITS}
    counters = {split: kind_counter(model) for split in EVALUATED_SPLITS}
    results: dict[str, Evaluation] = {}
    hard = trained.prepared.config.hard
    has_curve = hard is not None and hard.elastic and trained.selection is None
    passes = len(EVALUATED_SPLITS) * (1 + len(FACTORS) * has_curve)
    done = 0

    def one_more() -> None:
        nonlocal done
        watch.tell("evaluate", done=done, passes=passes)
        done += 1

    one_more()
    for split, counter in counters.items():
        results[split] = evaluate_checkpoint(
            model, split=split, data_dir=data_dir, counter=counter, limit=limits[split]
        )
        task = trained.prepared.task
        if split == "heldout" and task.allows_no_answer:
            # Above which difference a question is left unanswered is chosen on held-out rows.
            assert model.questions is not None
            examples = results[split].examples
            threshold = best_threshold(examples)
            model = replace(model, questions=replace(model.questions, null_threshold=threshold))
            _save_pruning(trained, folder, model.questions)
            examples = task.with_threshold(examples, threshold)
            results[split] = replace(
                results[split], examples=examples, metrics=task.metrics(examples)
            )
        one_more()
    store.write_json(folder / "config.json", to_dict(trained.prepared.config))
    for table in ("examples", "layers"):
        frames = [getattr(result, table) for result in results.values()]
        store.write_table(folder, table, pd.concat(frames, ignore_index=True))
    kinds = [counter.frame(split) for split, counter in counters.items()]
    store.write_table(folder, "token_kinds", pd.concat(kinds, ignore_index=True))
    store.write_table(folder, "traces", _traces(model, results, data_dir, limits))
    if has_curve:

        def evaluate(model: PrunedModel, *, split: str, method: PruningMethod) -> Evaluation:
            found = evaluate_checkpoint(
                model, split=split, method=method, data_dir=data_dir, limit=limits[split]
            )
            one_more()
            return found

        points = [
            point
            for split in EVALUATED_SPLITS
            for point in measure_curve(model, FACTORS, partial(evaluate, split=split))
        ]
        store.write_table(folder, "curve", curve_frame(points))
    if trained.selection is not None:
        store.write_table(folder, "candidates", trained.selection.candidates)
    store.finish_run(folder, _manifest(trained, results))
    (folder / SNAPSHOT_FILE).unlink(missing_ok=True)


def _write_weights(prepared: Prepared, folder: Path) -> None:
    config = prepared.config
    if config.adapter.kind == "lora":
        save_adapter(
            prepared.encoder,
            folder / "adapter",
            rank=config.adapter.rank,
            alpha=config.adapter.alpha,
            base=config.base,
        )
    else:
        label_names = prepared.task.label_names
        save_encoder(
            prepared.encoder,
            folder / "model",
            label_names=label_names,
            is_multi_label=prepared.task.is_multi_label,
        )
        load_tokenizer(prepared.base).save(str(folder / "model" / "tokenizer.json"))


def _save_pruning(trained: Trained, folder: Path, questions: QuestionSettings | None) -> None:
    config, task = trained.prepared.config, trained.prepared.task
    save_pruning(
        folder,
        trained.method,
        task=task.name,
        label_names=task.label_names,
        max_length=config.data.max_length,
        base=_base(trained),
        dense=_dense_name(config),
        questions=questions,
        weights=None if trained.selection is None else trained.parent,
        input_scales=input_scales(trained.prepared.encoder),
        is_multi_label=task.is_multi_label,
    )


def _dense_name(config: TrainConfig) -> str | None:
    dense = dense_config(config)
    return None if dense is None else dense.name


def _base(trained: Trained) -> dict[str, Any]:
    size = trained.prepared.encoder.config
    return {
        "name": trained.prepared.config.base,
        "sha256": base_sha256(trained.prepared.base),
        **size.stored_sizes,
        **trained.method.decision_cost.to_json(),
    }


def _manifest(trained: Trained, results: dict[str, Evaluation]) -> RunManifest:
    config = trained.prepared.config
    return RunManifest(
        name=config.name,
        task=config.task,
        method=config.method.name,
        fingerprint=config.fingerprint,
        status="complete",
        config=to_dict(config),
        seed=config.seed,
        git=environment.git_state(),
        packages=environment.packages(),
        hardware=environment.hardware(trained.device)
        | {"mixed_precision": trained.prepared.mixed_precision},
        dataset={"train": trained.prepared.rows.about}
        | {split: result.dataset for split, result in results.items()},
        base=_base(trained),
        parent=trained.parent.name if trained.parent else None,
        dense=_dense_name(config),
        summary={split: result.summary for split, result in results.items()},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=round(trained.duration_s, 1),
    )


def _traces(
    model: PrunedModel,
    results: dict[str, Evaluation],
    data_dir: Path | None,
    limits: dict[str, int | None],
) -> pd.DataFrame:
    """Positions, scores and masks of the first examples of each split; no token, no text."""
    frames = []
    for split, result in results.items():
        rows = load_rows(
            result.task,
            split,
            data_dir=data_dir,
            limit=limits[split],
            questions=model.questions,
        )
        texts = rows.texts[: TRACED_ROWS if rows.answers is None else TRACED_QUESTIONS]
        for row, text in zip(rows.row, texts, strict=False):
            about = {"split": split, "row": int(row)}
            frames += _layer_frames(model, find_task(result.task), text, about)
    return pd.concat(frames, ignore_index=True)


def _layer_frames(
    model: PrunedModel, task: Task, text: tuple[str, ...], about: dict[str, Any]
) -> list[pd.DataFrame]:
    """Per layer, position, score and mask of the tokens that entered it; of a question its first window.

    Every line says what it is about, too.
    """
    stride = (model.questions or QuestionSettings()).stride
    inputs = task.encode(model.tokenizer, [text], model.max_length, stride)
    output = model.packed(model_inputs(model, inputs.encoded, [0]), model.method, record=True)
    frames = []
    running = filter(model.method.runs_layer, range(model.method.num_layers))
    for layer, record in zip(running, output.layers, strict=True):
        position = record.live[0].nonzero()[:, 0]
        columns = {
            "position": position,
            "score": record.score[0][position],
            "retained": record.retained[0][position],
        }
        arrays = {name: value.cpu().numpy() for name, value in columns.items()}
        frames.append(pd.DataFrame({**arrays, "layer": layer, **about}))
    return frames
