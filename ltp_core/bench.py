"""Throughput, measured honestly: same rows, same process, contenders taking turns.

Each repeat runs every contender once over the same rows, in an order that rotates, so that a
machine whose speed drifts slows all of them alike. Figures are medians with quartiles; ratios are
taken within a repeat. Excluded is tokenisation; included are padding, packing and the head.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from tqdm import tqdm

from ltp_core import environment
from ltp_core.data.batching import Encoded, collate, encode, sorted_batches
from ltp_core.data.loading import load_rows
from ltp_core.encoder.loading import downloads_allowed, save_encoder
from ltp_core.evaluate import model_inputs
from ltp_core.flops import relative_flops
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import UserError
from ltp_core.runners import Inputs, RunOutput, run_masked

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod

BASELINE = "hugging_face"

CONTENDERS = {
    "hugging_face": "Hugging Face, default attention, shuffled, padded to the longest of a batch",
    "hugging_face_sorted": "the same, batches sorted by length",
    "packed_unpruned": "packed runner, nothing pruned: padding removed only (control)",
    "masked": "masked runner: pruned tokens are computed anyway",
    "packed": "packed runner, tokens really removed",
}


@dataclass(frozen=True)
class _Workload:
    """Rows to run and the order to run them in."""

    encoded: Encoded
    shuffled: list[np.ndarray]
    by_length: list[np.ndarray]


def bench(
    model: PrunedModel,
    *,
    task: str | None = None,
    split: str = "validation",
    batch_sizes: Sequence[int] = (1, 8, 32),
    repeats: int = 5,
    limit: int = 256,
    data_dir: Path | None = None,
    contenders: Sequence[str] = tuple(CONTENDERS),
    progress: bool = False,
) -> dict[str, Any]:
    """Measures sequences per second of a checkpoint and its controls.

    Args:
        model: Loaded checkpoint.
        task: Whose texts; None takes the checkpoint's own.
        split: Split of it.
        batch_sizes: Sequences per pass.
        repeats: Rounds in which every contender runs once.
        limit: Rows per round.
        data_dir: Folder of Parquet files for GLUE tasks.
        contenders: Names from `CONTENDERS`.
        progress: Draw a progress bar on stderr.

    Returns:
        `environment`, `workload` and `results`: per batch size and contender `sequences_per_s` and
        `ratio_to_hugging_face`, each with `median`, `q1`, `q3`.

    Raises:
        UserError: The data is absent, or the checkpoint names no task and none is given.
    """
    name = task or model.task
    if name is None:
        raise UserError(f"{model.name} does not say what task it is for; give one with --task.")
    rows = load_rows(
        name, split, data_dir=data_dir, limit=limit, allow_downloads=downloads_allowed()
    )
    encoded = encode(model.tokenizer, rows.texts, model.max_length)
    passes = _passes(model, contenders)
    return {
        "checkpoint": model.name,
        "environment": environment.hardware(str(_device(model)))
        | {"packages": environment.packages()},
        "workload": _describe(model, name, split, encoded),
        "contenders": {key: CONTENDERS[key] for key in contenders},
        "results": [
            _measure(encoded, size, passes, repeats, progress=progress) for size in batch_sizes
        ],
    }


def _describe(model: PrunedModel, task: str, split: str, encoded: Encoded) -> dict[str, Any]:
    """Rows, lengths, and relative FLOPs of exactly these rows."""
    config = model.encoder.config
    outputs = [
        model.packed(
            model_inputs(model, collate(encoded, index, None, config.pad_id)), model.method
        )
        for index in sorted_batches(encoded.length, 64)
    ]
    order = np.concatenate(sorted_batches(encoded.length, 64))
    return {
        "task": task,
        "split": split,
        "rows": len(encoded),
        "mean_length": float(encoded.length.mean()),
        "relative_flops": relative_flops(
            encoded.length[order],
            np.concatenate([output.attention_length.numpy() for output in outputs]),
            np.concatenate([output.ffn_length.numpy() for output in outputs]),
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
        ),
    }


Pass = Callable[[Encoded, np.ndarray], Any]


def _passes(model: PrunedModel, contenders: Sequence[str]) -> dict[str, Pass]:
    """One function per contender: runs the rows of one batch."""
    unpruned = Unpruned(model.method.config, model.method.num_layers)

    def packed(method: PruningMethod) -> Pass:
        def run(encoded: Encoded, index: np.ndarray) -> RunOutput:
            return model.packed(_inputs(model, encoded, index), method)

        return run

    def masked(encoded: Encoded, index: np.ndarray) -> RunOutput:
        with torch.inference_mode():
            return run_masked(model.encoder, _inputs(model, encoded, index), model.method)

    known: dict[str, Pass] = {
        "packed_unpruned": packed(unpruned),
        "masked": masked,
        "packed": packed(model.method),
    }
    if any(name.startswith("hugging_face") for name in contenders):
        known["hugging_face"] = known["hugging_face_sorted"] = _hugging_face_pass(model)
    return {name: known[name] for name in contenders}


def _device(model: PrunedModel) -> torch.device:
    return next(model.encoder.parameters()).device


def _inputs(model: PrunedModel, encoded: Encoded, index: np.ndarray) -> Inputs:
    batch = collate(encoded, index, None, model.encoder.config.pad_id)
    return model_inputs(model, batch).to(_device(model))


def _hugging_face_pass(model: PrunedModel) -> Pass:
    """The same weights in transformers' own model with its default attention."""
    from transformers import AutoModelForSequenceClassification

    with tempfile.TemporaryDirectory() as folder:
        save_encoder(model.encoder, Path(folder), label_names=model.label_names)
        peer = AutoModelForSequenceClassification.from_pretrained(folder).eval().to(_device(model))
    has_token_types = model.encoder.config.family == "bert"

    @torch.inference_mode()
    def run(encoded: Encoded, index: np.ndarray) -> Any:
        inputs = _inputs(model, encoded, index)
        extra = {"token_type_ids": inputs.token_type_ids} if has_token_types else {}
        mask = inputs.attention_mask.long()
        return peer(input_ids=inputs.input_ids, attention_mask=mask, **extra)

    return run


def _measure(
    encoded: Encoded,
    batch_size: int,
    passes: dict[str, Pass],
    repeats: int,
    *,
    progress: bool,
) -> dict[str, Any]:
    """All contenders at one batch size; each repeat has its own random order of the rows."""
    names = list(passes)
    speeds: dict[str, list[float]] = {name: [] for name in names}
    rounds = tqdm(range(repeats + 1), f"batch {batch_size}", disable=not progress)
    for repeat in rounds:
        workload = _workload(encoded, batch_size, seed=repeat)
        first = repeat % len(names)
        for name in names[first:] + names[:first]:
            seconds = _time(passes[name], workload, is_sorted=name.endswith("_sorted"))
            if repeat > 0:  # the first round warms up
                speeds[name].append(len(encoded) / seconds)
    baseline = speeds.get(BASELINE)
    return {
        "batch_size": batch_size,
        "contenders": {
            name: {
                "sequences_per_s": _spread(values),
                f"ratio_to_{BASELINE}": baseline and _spread(np.divide(values, baseline)),
            }
            for name, values in speeds.items()
        },
    }


def _workload(encoded: Encoded, batch_size: int, *, seed: int) -> _Workload:
    order = np.random.default_rng(seed).permutation(len(encoded))
    shuffled = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    return _Workload(encoded, shuffled, sorted_batches(encoded.length, batch_size))


def _time(run: Pass, workload: _Workload, *, is_sorted: bool) -> float:
    batches = workload.by_length if is_sorted else workload.shuffled
    began = time.perf_counter()
    for index in batches:
        run(workload.encoded, index)
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began


def _spread(values: Sequence[float] | np.ndarray) -> dict[str, float]:
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": float(median), "q1": float(q1), "q3": float(q3)}
