"""Evaluating a checkpoint on a split, at one strength of pruning or several, and storing the result."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from ltp_core import environment, store
from ltp_core.inference import Predictions, input_batches, predict
from ltp_core.records import QuestionSettings, RunManifest, UserError
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.loading import load_rows
from ltp_core.tasks.task import Task
from ltp_core.token_categories import KindCounter

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod
    from ltp_core.runners.base import RunOutput


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
        selected: Where policies select before layers: of the tokens that they may drop, the share that
            each lets in. None for other methods.
        relative_bops: Of the unpruned FP16 model's bit operations, where the linear maps are in INT8.
    """

    task: str
    split: str
    metrics: dict[str, float]
    relative_flops: dict[str, float]
    mean_retained: list[float]
    examples: pd.DataFrame
    layers: pd.DataFrame
    dataset: dict[str, Any]
    selected: list[float] | None = None
    relative_bops: float | None = None

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
            **({} if self.selected is None else _verdict(self.selected)),
            **({} if self.relative_bops is None else {"relative_bops": self.relative_bops}),
        }


ALL_OR_NOTHING = 0.02
"""A policy that keeps a smaller share of the tokens, or drops a smaller one, decides nothing."""


def selected_shares(predictions: Predictions, method: PruningMethod) -> list[float]:
    """Of the tokens that each of a method's policies may drop, the share that it lets in; 0 of none.

    A protected first token is not counted; other protected ones are.
    """
    spared = len(predictions.length) if method.config.protect_first else 0
    came, entered = (
        lengths.sum(axis=0) - spared
        for lengths in (predictions.ffn_length, predictions.attention_length)
    )
    return [float(entered[i] / came[i - 1]) if came[i - 1] else 0.0 for i in method.entry_layers]


def _verdict(selected: list[float]) -> dict[str, Any]:
    """What a manifest says of policies: whether they came to a choice, or to all or nothing."""
    chooses = [ALL_OR_NOTHING < share < 1 - ALL_OR_NOTHING for share in selected]
    return {"selected": selected, "converged": any(chooses)}


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
        batch_size: Inputs per pass; no result depends on it.
        counter: Is given every decision, to count which kinds of token leave at which layer.

    Raises:
        UserError: No task is given or known, the data is absent, or the head does not fit the task.
    """
    name = task or model.task
    if name is None:
        raise UserError(f"{model.name} does not say what task it is for; give one with --task.")
    spec, settings = find_task(name), model.questions or QuestionSettings()
    rows = load_rows(name, split, data_dir=data_dir, limit=limit, questions=settings)
    order = _check_head(model, spec)
    inputs = spec.encode(model.tokenizer, rows.texts, model.max_length, settings.stride)
    method = method or model.method
    ran = [layer for layer in range(method.num_layers) if method.runs_layer(layer)]

    def count_kinds(index: Int[np.ndarray, " batch"], output: RunOutput) -> None:
        assert counter is not None
        encodings, texts = zip(*(inputs.tokens(int(i)) for i in index), strict=True)
        layers = {
            layer: (record.live.cpu().numpy(), record.retained.cpu().numpy())
            for layer, record in zip(ran, output.layers, strict=True)
        }
        counter.add(encodings, texts, layers)

    found = predict(
        model,
        inputs.encoded,
        method,
        batches=input_batches(model, inputs.encoded, batch_size),
        on_batch=None if counter is None else count_kinds,
    )
    logits = found.logits if order is None else [each[order] for each in found.logits]
    examples = spec.with_threshold(spec.decode(rows, inputs, logits), settings.null_threshold)
    return Evaluation(
        task=name,
        split=split,
        metrics=spec.metrics(examples),
        relative_flops=found.relative_flops(model),
        relative_bops=found.relative_bops(model),
        mean_retained=found.mean_retained,
        examples=examples,
        layers=found.layers_frame(split, rows.row[inputs.example], inputs.number),
        dataset=rows.about,
        selected=selected_shares(found, method) if method.entry_layers else None,
    )


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
    if model.is_multi_label != task.is_multi_label:
        kinds = {True: "any number of labels", False: "one label"}
        raise UserError(
            f"{model.name} gives {kinds[model.is_multi_label]} a text; {task.name} has "
            f"{kinds[task.is_multi_label]} for each."
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


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A checkpoint at one strength.

    Attributes:
        factor: What its strength is multiplied by: 1 as trained, 0 nothing pruned.
        evaluation: What it is worth and costs there.
    """

    factor: float
    evaluation: Evaluation


def measure_curve(
    model: PrunedModel,
    factors: Sequence[float],
    evaluate: Callable[..., Evaluation] = evaluate_checkpoint,
) -> list[CurvePoint]:
    """Evaluates a checkpoint at each strength, weakest first.

    Args:
        model: Loaded checkpoint.
        factors: What its strength is multiplied by: the thresholds of a threshold method, or what
            `PruningMethod.scaled` of another one changes.
        evaluate: `evaluate_checkpoint` with its other arguments filled in.

    Raises:
        UserError: The method cannot be scaled, or the evaluation is not possible.
    """
    points = []
    for factor in sorted(set(factors)):
        method = model.method.scaled(factor)
        if method is None:
            raise UserError(
                f"{model.name} prunes by {model.method.name}, which cannot prune more or less without "
                "being trained again: leave --scales out."
            )
        points.append(CurvePoint(factor=factor, evaluation=evaluate(model, method=method)))
    return points


def save_curve(folder: Path, points: Sequence[CurvePoint], *, device: str) -> None:
    """Adds the table `curve` to a complete run; earlier points of the same split are replaced.

    The manifest is written last; until then the run stays what it was. Where and when the curve was
    measured stands in the manifest's summary, under `curve`.

    Raises:
        StoreError: The folder is no complete run, or the disk does not take the table.
    """
    with store.lock_run(folder):
        manifest = store.read_manifest(folder)
        frame = curve_frame(points)
        splits = sorted(set(frame["split"]))
        frames = [frame]
        if (folder / "curve.parquet").exists():
            earlier = store.read_table(folder, "curve")
            frames.insert(0, earlier[~earlier["split"].isin(splits)])
        frames = [part for part in frames if not part.empty]
        store.write_table(folder, "curve", pd.concat(frames, ignore_index=True))
        provenance = {
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "git": environment.git_state(),
            "hardware": environment.hardware(device),
        }
        measured = dict(manifest.summary.get("curve") or {}) | dict.fromkeys(splits, provenance)
        store.finish_run(
            folder, dataclasses.replace(manifest, summary={**manifest.summary, "curve": measured})
        )


def curve_frame(points: Sequence[CurvePoint]) -> pd.DataFrame:
    """The points as the store's table `curve`."""
    return pd.DataFrame(
        {
            "split": point.evaluation.split,
            "factor": point.factor,
            "rows": point.evaluation.rows,
            "metric": next(iter(point.evaluation.metrics.values())),
            **{f"relative_flops_{name}": x for name, x in point.evaluation.relative_flops.items()},
        }
        for point in points
    )


def save_evaluation(
    model: PrunedModel,
    result: Evaluation,
    counter: KindCounter,
    *,
    limit: int | None = None,
    destination: Path | None = None,
) -> Path:
    """Writes the records of an evaluation as a run without weights; nothing where it is there.

    The run's name follows from weights, method and data. Its configuration is that of the checkpoint's own
    run where there is one, and under `evaluation` what was evaluated.

    Args:
        model: What was evaluated.
        result: What came out.
        counter: The counts of token kinds of the same pass.
        limit: Rows that were asked for, or None.
        destination: Store that receives it; None takes the one that is written to.

    Returns:
        The run's folder.

    Raises:
        StoreError: The disk does not take it, or another process is writing it.
    """
    about = {
        "checkpoint": model.name,
        "split": result.split,
        "limit": limit,
        "weights_sha256": model.weights_sha256,
        "data_sha256": result.dataset["sha256"],
    }
    identity = about | {"task": result.task, "method": model.method.state_json()}
    text = json.dumps(identity, sort_keys=True)
    fingerprint = hashlib.sha256(text.encode()).hexdigest()[:10]
    name = store.run_name(result.task, model.method.name, fingerprint)
    folder = store.run_folder(destination or store.default_store(), name)
    if (folder / store.MANIFEST).is_file():
        return folder
    manifest = _manifest(model, result, about, name, fingerprint)
    with store.lock_run(folder):
        store.write_json(folder / "config.json", manifest.config)
        store.write_table(folder, "examples", result.examples)
        store.write_table(folder, "layers", result.layers)
        store.write_table(folder, "token_kinds", counter.frame(result.split))
        store.finish_run(folder, manifest)
    return folder


def _manifest(
    model: PrunedModel, result: Evaluation, about: dict[str, Any], name: str, fingerprint: str
) -> RunManifest:
    origin, size = _origin(model), model.encoder.config
    config = origin.config if origin else {"method": {"name": model.method.name}}
    # The path of a foreign folder stays on this machine.
    base = origin.base if origin else {"name": model.name, "sha256": None}
    sizes = size.stored_sizes | model.method.decision_cost.to_json()
    return RunManifest(
        name=name,
        task=result.task,
        method=model.method.name,
        fingerprint=fingerprint,
        status="complete",
        config=config | {"task": result.task, "evaluation": about},
        seed=origin.seed if origin else 0,
        git=environment.git_state(),
        packages=environment.packages(),
        hardware=environment.hardware(str(model.device)),
        dataset={result.split: result.dataset},
        base=base | sizes,
        parent=model.name if origin else None,
        dense=model.dense,
        summary={result.split: result.summary},
        created_at=datetime.now(UTC).isoformat(timespec="seconds"),
        duration_s=0.0,
    )


def _origin(model: PrunedModel) -> RunManifest | None:
    """The run of the checkpoint; None for a foreign folder."""
    try:
        folder = store.find_run(model.name)
        # The name of a folder may also be the beginning of a run's name.
        return store.read_manifest(folder) if folder.name == model.name else None
    except UserError:
        return None
