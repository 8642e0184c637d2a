"""From a configuration to a finished run: parent, stages, weights, records, manifest."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator

from ltp_core import environment, store
from ltp_core.checkpoint import PrunedModel, load_checkpoint, save_pruning
from ltp_core.config import TrainConfig, dense_config, parent_config, to_dict
from ltp_core.data.batching import Encoded, collate, encode, sorted_batches
from ltp_core.data.loading import Rows, load_rows
from ltp_core.data.tasks import Task, find_task
from ltp_core.encoder.adapter import inject, restore_adapter, save_adapter
from ltp_core.encoder.loading import (
    downloads_allowed,
    find_base,
    load_encoder,
    save_encoder,
    sha256,
)
from ltp_core.encoder.model import Encoder
from ltp_core.encoder.tokenizer import load_tokenizer, separator_id
from ltp_core.evaluate import Evaluation, evaluate_checkpoint, model_inputs
from ltp_core.pruning import METHODS, PruningMethod
from ltp_core.records import RunManifest, UserError
from ltp_core.training.journal import Journal
from ltp_core.training.loop import TrainingSet, run_stage
from ltp_core.training.losses import Student
from ltp_core.training.snapshot import SNAPSHOT_FILE

EVALUATED_SPLITS = ("heldout", "validation")
"""Choices are made on `heldout` training rows; `validation` is only reported."""

TRACED_ROWS = 64
"""Examples of each evaluated split whose full traces are stored."""


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


def train(
    config: TrainConfig,
    *,
    data_dir: Path | None = None,
    destination: Path | None = None,
    force: bool = False,
    show_progress: bool = False,
    snapshot_every: int = 200,
) -> Path:
    """Trains what the store does not hold yet: the parent, then this run.

    A killed training goes on where its last snapshot was, to the same result on the same machine.

    Args:
        config: The run.
        data_dir: Folder of Parquet files for GLUE tasks.
        destination: Store to write to; None takes the default one.
        force: Train again although the run is complete; the old one is replaced at the end.
        show_progress: Draw progress bars on stderr.
        snapshot_every: Steps between snapshots.

    Returns:
        The run's folder.

    Raises:
        UserError: Data or base model are absent, a setting is impossible, or another process
            trains the same run.
    """
    target = destination or store.default_store()
    folder = store.run_folder(target, config.name)
    if not force and (done := _complete(config.name, target)):
        return done
    parent = parent_config(config)
    options: dict[str, Any] = {
        "data_dir": data_dir,
        "show_progress": show_progress,
        "snapshot_every": snapshot_every,
    }
    parent_folder = None if parent is None else train(parent, destination=target, **options)
    folder.mkdir(parents=True, exist_ok=True)
    with store.lock_run(folder):
        if force:
            _forget(folder)
        prepared = _prepare(config, parent_folder, data_dir)
        duration_s = _run_stages(prepared, folder, show_progress, snapshot_every)
        _save_weights(prepared, folder)
        _record(prepared, folder, parent_folder, duration_s, data_dir)
    return folder


def _complete(name: str, target: Path) -> Path | None:
    """The finished run of this name in the target store or the sample store."""
    for place in (target, *store.stores()):
        folder = store.run_folder(place, name)
        if (folder / store.MANIFEST).exists():
            return folder
    return None


def _forget(folder: Path) -> None:
    """Takes away what an earlier run left, its manifest first."""
    (folder / store.MANIFEST).unlink(missing_ok=True)
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif not path.name.startswith("."):
            path.unlink()


def _prepare(config: TrainConfig, parent_folder: Path | None, data_dir: Path | None) -> Prepared:
    task = find_task(config.task)
    torch.manual_seed(config.seed)
    base = find_base(config.base, allow_downloads=downloads_allowed())
    encoder = load_encoder(base, num_labels=task.num_labels)
    tokenizer = load_tokenizer(base)
    method = make_method(config, encoder.config.num_layers)
    rows = load_rows(
        config.task, "train", data_dir=data_dir, limit=config.data.train_rows, seed=config.seed
    )
    encoded = encode(tokenizer, rows.texts, config.data.max_length)
    rows, encoded = _short_rows(rows, encoded, config.data.max_train_length)
    teacher = None if parent_folder is None else load_checkpoint(str(parent_folder))
    _make_trainable(encoder, config, parent_folder)
    if config.attention_dropout is not None:
        for layer in encoder.layers:
            layer.attention_dropout.p = config.attention_dropout
    data = TrainingSet(
        encoded=encoded,
        labels=rows.labels,
        teacher_logits=_teacher_logits(teacher, encoded) if _distils(config) else None,
        pad_id=encoder.config.pad_id,
        separator_id=separator_id(tokenizer) if method.config.protect_separators else None,
        protect_first=method.config.protect_first,
    )
    return Prepared(
        config=config,
        task=task,
        base=base,
        encoder=encoder,
        method=method,
        rows=rows,
        data=data,
        teacher=teacher,
    )


def make_method(config: TrainConfig, num_layers: int) -> PruningMethod:
    """The configured method.

    Raises:
        UserError: The method, or one of its settings, does not exist.
    """
    name = config.method.name
    if name not in METHODS:
        raise UserError(f"method.name = {name!r}: must be one of {', '.join(METHODS)}.")
    cls = METHODS[name]
    try:
        return cls(cls.config_type(**config.method.settings), num_layers)
    except TypeError as error:
        raise UserError(f"method {name}: {error}.") from error


def _short_rows(
    rows: Rows, encoded: Encoded, max_train_length: int | None
) -> tuple[Rows, Encoded]:
    if max_train_length is None:
        return rows, encoded
    kept = np.flatnonzero(encoded.length <= max_train_length)
    return rows.take(kept), encoded.take(kept)


def _distils(config: TrainConfig) -> bool:
    return any(stage and stage.distillation_weight > 0 for stage in (config.soft, config.hard))


def _teacher_logits(teacher: PrunedModel | None, encoded: Encoded) -> torch.Tensor | None:
    """What the finetuned model says about every training row."""
    if teacher is None:
        return None
    config = teacher.encoder.config
    logits = torch.empty(len(encoded), config.num_labels)
    for index in sorted_batches(encoded.length, 64):
        batch = collate(encoded, index, None, config.pad_id)
        logits[index] = teacher.packed(model_inputs(teacher, batch), teacher.method).logits
    return logits


def _make_trainable(encoder: Encoder, config: TrainConfig, parent_folder: Path | None) -> None:
    """Adapter or all weights, continued from the parent where there is one."""
    if config.adapter.kind == "lora":
        inject(encoder, rank=config.adapter.rank, alpha=config.adapter.alpha)
        if parent_folder is not None:
            restore_adapter(encoder, parent_folder / "adapter")
    elif parent_folder is not None:
        parent = load_encoder(parent_folder / "model")
        encoder.load_state_dict(parent.state_dict())


def _run_stages(
    prepared: Prepared, folder: Path, show_progress: bool, snapshot_every: int
) -> float:
    config = prepared.config
    accelerator = Accelerator(mixed_precision=config.mixed_precision)
    student = Student(prepared.encoder, prepared.method)
    journal = Journal(folder, is_shown=show_progress and accelerator.is_main_process)
    stages = {"finetune": config.finetune} if prepared.teacher is None else {}
    stages |= {"soft": config.soft} if config.soft else {}
    stages |= {"hard": config.hard} if config.hard else {}
    duration_s = 0.0
    for number, (name, stage) in enumerate(stages.items()):
        duration_s = run_stage(
            name,
            stage,
            student,
            prepared.data,
            accelerator,
            journal,
            seed=1000 * config.seed + number,
            folder=folder,
            snapshot_every=snapshot_every,
            elapsed_s=duration_s,
        )
    accelerator.free_memory()
    return duration_s


def _save_weights(prepared: Prepared, folder: Path) -> None:
    config, task = prepared.config, prepared.task
    if config.adapter.kind == "lora":
        save_adapter(
            prepared.encoder,
            folder / "adapter",
            rank=config.adapter.rank,
            alpha=config.adapter.alpha,
            base=config.base,
        )
    else:
        save_encoder(prepared.encoder, folder / "model", label_names=task.label_names)
        load_tokenizer(prepared.base).save(str(folder / "model" / "tokenizer.json"))
    dense = dense_config(config)
    save_pruning(
        folder,
        prepared.method,
        task=task.name,
        label_names=task.label_names,
        max_length=config.data.max_length,
        base=_base(prepared),
        dense=None if dense is None else dense.name,
    )


def _base(prepared: Prepared) -> dict[str, Any]:
    weights = prepared.base / "model.safetensors"
    return {
        "name": prepared.config.base,
        "sha256": sha256(weights) if weights.exists() else None,
    }


def _record(
    prepared: Prepared,
    folder: Path,
    parent_folder: Path | None,
    duration_s: float,
    data_dir: Path | None,
) -> None:
    """Evaluates what was saved, not what was trained, and completes the run."""
    config = prepared.config
    model = load_checkpoint(str(folder))
    results = {
        split: evaluate_checkpoint(model, split=split, data_dir=data_dir)
        for split in EVALUATED_SPLITS
    }
    store.write_json(folder / "config.json", to_dict(config))
    for table in ("examples", "layers"):
        frames = [getattr(result, table) for result in results.values()]
        store.write_table(folder, table, pd.concat(frames, ignore_index=True))
    store.write_table(folder, "traces", _traces(model, results, data_dir))
    (folder / SNAPSHOT_FILE).unlink(missing_ok=True)
    dense = dense_config(config)
    manifest = RunManifest(
        name=config.name,
        task=config.task,
        method=config.method.name,
        fingerprint=config.fingerprint,
        status="complete",
        config=to_dict(config),
        seed=config.seed,
        git=environment.git_state(),
        packages=environment.packages(),
        hardware=environment.hardware(),
        dataset={"train": _dataset(prepared.rows)}
        | {split: result.dataset for split, result in results.items()},
        base=_base(prepared),
        parent=None if parent_folder is None else parent_folder.name,
        dense=None if dense is None else dense.name,
        summary={split: _summary(result) for split, result in results.items()},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=round(duration_s, 1),
    )
    store.finish_run(folder, manifest)


def _dataset(rows: Rows) -> dict[str, Any]:
    return {"source": rows.source, "rows": len(rows), "sha256": rows.sha256}


def _summary(result: Evaluation) -> dict[str, Any]:
    return {
        "rows": result.rows,
        "metrics": result.metrics,
        "relative_flops": result.relative_flops,
        "mean_retained": result.mean_retained,
    }


def _traces(
    model: PrunedModel, results: dict[str, Evaluation], data_dir: Path | None
) -> pd.DataFrame:
    """Positions, scores and masks of the first examples of each split; no token, no text."""
    frames = []
    for split, result in results.items():
        rows = load_rows(result.task, split, data_dir=data_dir)
        encoded = encode(model.tokenizer, rows.texts[:TRACED_ROWS], model.max_length)
        for i in range(len(encoded)):
            batch = collate(encoded, [i], None, model.encoder.config.pad_id)
            output = model.packed(model_inputs(model, batch), model.method, record=True)
            for layer, record in enumerate(output.layers):
                position = record.live[0].nonzero()[:, 0].numpy()
                frames.append(
                    pd.DataFrame(
                        {
                            "split": split,
                            "row": rows.row[i],
                            "position": position,
                            "layer": layer,
                            "score": record.score[0].numpy()[position],
                            "retained": record.retained[0].numpy()[position],
                        }
                    )
                )
    return pd.concat(frames, ignore_index=True)
