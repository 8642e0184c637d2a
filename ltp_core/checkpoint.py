"""Checkpoints: an encoder, a pruning method and a tokenizer that belong together.

A checkpoint is a run's folder (`pruning.json` with `adapter/` or `model/`) or any Hugging Face
model folder of the family, which then runs unpruned. Module level is torch-free.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import typing
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from jaxtyping import Float

from ltp_core import store
from ltp_core.checkpoint_places import (
    PRUNING_FILE,
    CheckpointError,
    checkpoint_folder,
    weights_folder,
    weights_sha256,
)
from ltp_core.records import QuestionSettings

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer

    from ltp_core.encoder.model import Encoder
    from ltp_core.pruning.base import PruningMethod
    from ltp_core.runners.base import Runner

ProblemType = Literal["regression", "single_label_classification", "multi_label_classification"]
PROBLEM_TYPES = (None, *typing.get_args(ProblemType))
"""What `config.json` may say of a head, as transformers spells it."""

NO_TASK = "custom"
"""Task that is stored with a checkpoint that names none."""


@dataclass(frozen=True, kw_only=True)
class PrunedModel:
    """A loaded checkpoint, ready for inference and never changed.

    Attributes:
        name: Name of the run, or of the folder.
        task: Name of its task; None for a foreign folder.
        method: The pruning method with its learned state.
        encoder: Weights merged, evaluation mode.
        packed: The runner that removes tokens, over the same weights: the fastest that is at hand.
        tokenizer: Padding and truncation off.
        label_names: Class names; empty for regression, of one value or several.
        max_length: Longest input in training and evaluation, in tokens.
        dense: Name of the dense counterpart's run, or None.
        base: Name of the base model.
        questions: How it answers questions; None where it answers none.
        is_multi_label: Labels are independent: each has its own probability, by the sigmoid.
    """

    name: str
    task: str | None
    method: PruningMethod
    encoder: Encoder
    packed: Runner
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    max_length: int
    dense: str | None
    base: str
    questions: QuestionSettings | None = None
    is_multi_label: bool = False

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return next(self.encoder.parameters()).device

    @property
    def problem_type(self) -> ProblemType:
        """What the head's outputs are: values, classes of which one holds, or independent labels."""
        if not self.label_names:
            return "regression"
        return (
            "multi_label_classification" if self.is_multi_label else "single_label_classification"
        )

    @property
    def input_scales(self) -> dict[str, float] | None:
        """Of the layers' linear maps, by name, where they run in INT8; else None."""
        from ltp_core.encoder.int8 import input_scales

        return input_scales(self.encoder)

    def probabilities(
        self, logits: Float[np.ndarray, "texts label"]
    ) -> Float[np.ndarray, "texts label"] | None:
        """Of each label: by the softmax, or where labels are independent by the sigmoid of each.

        None where the model gives values. Computed in float64.
        """
        import torch

        if not self.label_names:
            return None
        exact = torch.from_numpy(np.asarray(logits, dtype=np.float64))
        found = torch.sigmoid(exact) if self.is_multi_label else torch.softmax(exact, dim=1)
        result: Float[np.ndarray, "texts label"] = found.numpy()
        return result

    def labels_of(self, probabilities: Float[np.ndarray, "texts label"]) -> list[tuple[str, ...]]:
        """Labels of each text: the likeliest one; of independent ones all of 0.5 and more, or none."""
        if not self.is_multi_label:
            return [(self.label_names[i],) for i in probabilities.argmax(axis=1)]
        return [
            tuple(name for name, share in zip(self.label_names, row, strict=True) if share >= 0.5)
            for row in probabilities
        ]

    @functools.cached_property
    def weights_sha256(self) -> str:
        """Hex digest of the encoder's weights with their names."""
        digest = hashlib.sha256()
        for name, tensor in sorted(self.encoder.state_dict().items()):
            digest.update(name.encode())
            digest.update(tensor.cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()


def save_pruning(
    folder: Path,
    method: PruningMethod,
    *,
    task: str,
    label_names: tuple[str, ...],
    max_length: int,
    base: dict[str, Any],
    dense: str | None,
    questions: QuestionSettings | None = None,
    weights: Path | None = None,
    is_multi_label: bool = False,
    input_scales: Mapping[str, float] | None = None,
) -> None:
    """Writes `pruning.json`: the method's state and what else the weights alone do not say.

    With `weights`, another run's folder, this one has none of its own and shares that run's. With
    `input_scales`, the layers' linear maps run in INT8.
    """
    shared = {} if weights is None else {"run": weights.name, "sha256": weights_sha256(weights)}
    store.write_json(
        folder / PRUNING_FILE,
        {
            "task": task,
            "method": method.state_json(),
            "label_names": list(label_names),
            "max_length": max_length,
            "base": base,
            "dense": dense,
            **({} if questions is None else {"questions": questions.to_dict()}),
            **({"weights": shared} if shared else {}),
            **({"problem_type": "multi_label_classification"} if is_multi_label else {}),
            **({"int8": {"input_scales": dict(input_scales)}} if input_scales else {}),
        },
    )


def base_record(model: PrunedModel, source: Path | None) -> dict[str, Any]:
    """What a copy of a checkpoint says of its base: what it says itself; of a model folder its name.

    The path of a folder is no matter of another machine.

    Args:
        model: The checkpoint.
        source: Its folder; None where it has none.
    """
    if source and (source / PRUNING_FILE).is_file():
        base: dict[str, Any] = json.loads((source / PRUNING_FILE).read_bytes())["base"]
        return base
    return {"name": model.name, "sha256": None, **model.encoder.config.stored_sizes}


def load_checkpoint(
    name_or_path: str,
    *,
    device: str = "cpu",
    budget: float | None = None,
    max_loss: float | None = None,
) -> PrunedModel:
    """Loads a checkpoint by run name, unique prefix of one, or folder.

    Args:
        name_or_path: Which.
        device: Where it runs.
        budget: Prune as much as spends this share of the unpruned FLOPs (`budget.factor_for`).
        max_loss: Prune as much as loses this much of the headline metric.

    Raises:
        CheckpointError: There is none of that name, or its files are incomplete or damaged.
        UserError: Its base model is not at hand, or it cannot be asked for a budget.
    """
    folder = checkpoint_folder(name_or_path)
    if budget is not None or max_loss is not None:
        from ltp_core.budget import factor_for

        model = load_checkpoint(name_or_path, device=device)
        factor = factor_for(folder, relative_flops=budget, max_loss=max_loss, dense=model.dense)
        method = model.method.scaled(factor)
        if method is None:
            raise CheckpointError(f"{model.name} prunes by {model.method.name}, at one strength.")
        return replace(model, method=method.to(device).requires_grad_(False))
    if (folder / PRUNING_FILE).exists():
        return _load_run(folder, device)
    if (folder / store.MANIFEST).exists():
        raise CheckpointError(
            f"{folder.name} was stored without its weights, only its records are there: train it again "
            "with --force, or take one that `python -m ltp_core checkpoints` lists."
        )
    return _load_foreign(folder, device)


@dataclass(frozen=True, kw_only=True)
class _Pruning:
    """Content of `pruning.json`."""

    task: str
    method: PruningMethod
    label_names: tuple[str, ...]
    max_length: int
    base: str
    base_sha256: str | None
    dense: str | None
    questions: QuestionSettings | None
    is_multi_label: bool
    input_scales: dict[str, float] | None


def _read_pruning(folder: Path) -> _Pruning:
    path = folder / PRUNING_FILE
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}.") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{path} is not a JSON object.")
    try:
        return _parse_pruning(raw)
    except (
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
        RuntimeError,
        OverflowError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"{path} lacks or misstates something ({reason}): it is damaged or was written by another "
            "version."
        ) from error


def _parse_pruning(raw: dict[str, Any]) -> _Pruning:
    from ltp_core.pruning import load_method

    method = load_method(raw["method"]).requires_grad_(False)
    found = [method.threshold(layer) for layer in range(method.num_layers)]
    if not all(threshold is None or math.isfinite(threshold) for threshold in found):
        raise ValueError("the thresholds")
    base = raw["base"]
    if not isinstance(raw["label_names"], list):
        raise TypeError("the label names")
    problem = raw.get("problem_type")
    if problem not in PROBLEM_TYPES:
        raise ValueError("the problem type")
    return _Pruning(
        task=_text(raw, "task"),
        method=method,
        label_names=tuple(str(name) for name in raw["label_names"]),
        max_length=int(raw["max_length"]),
        base=_text(base, "name"),
        base_sha256=None if base.get("sha256") is None else _text(base, "sha256"),
        dense=None if raw["dense"] is None else _text(raw, "dense"),
        questions=QuestionSettings.from_dict(raw["questions"]) if "questions" in raw else None,
        is_multi_label=problem == "multi_label_classification",
        input_scales=_scales(raw["int8"]) if "int8" in raw else None,
    )


def _scales(raw: dict[str, Any]) -> dict[str, float]:
    if set(raw) != {"input_scales"}:
        raise ValueError("the INT8 settings")
    return {str(name): float(scale) for name, scale in raw["input_scales"].items()}


def _text(raw: dict[str, Any], key: str) -> str:
    value = raw[key]
    if not isinstance(value, str):
        raise TypeError(repr(key))
    return value


def _load_run(folder: Path, device: str) -> PrunedModel:
    from ltp_core.encoder.loading import load_encoder
    from ltp_core.encoder.tokenizer import load_tokenizer

    pruning, weights = _read_pruning(folder), weights_folder(folder)
    if (weights / "model").is_dir():
        source = weights / "model"
        encoder = load_encoder(source)
    else:
        source, encoder = _load_adapter(weights, pruning)
    if pruning.input_scales is not None:
        from ltp_core.encoder.int8 import quantize_

        quantize_(encoder, pruning.input_scales)
    layers, outputs = encoder.config.num_layers, encoder.config.num_labels
    if pruning.method.num_layers != layers:
        raise CheckpointError(
            f"{folder} prunes {pruning.method.num_layers} layers, but its encoder has {layers}."
        )
    # Without names the outputs are values.
    if pruning.label_names and len(pruning.label_names) != outputs:
        raise CheckpointError(
            f"{folder} names {len(pruning.label_names)} labels, but its head has {outputs} outputs."
        )
    return assemble(
        name=folder.resolve().name,
        task=None if pruning.task == NO_TASK else pruning.task,
        method=pruning.method,
        encoder=encoder,
        tokenizer=load_tokenizer(source),
        label_names=pruning.label_names,
        max_length=min(pruning.max_length, encoder.config.max_length),
        dense=pruning.dense,
        base=pruning.base,
        device=device,
        questions=pruning.questions,
        is_multi_label=pruning.is_multi_label,
    )


def _load_adapter(folder: Path, pruning: _Pruning) -> tuple[Path, Encoder]:
    """Folder of the base, and its encoder with the adapter added."""
    from ltp_core.encoder.adapter import merge_adapter
    from ltp_core.encoder.bases import KNOWN_BASES, base_sha256, find_base
    from ltp_core.encoder.loading import load_encoder

    source = find_base(pruning.base)
    expected = None if pruning.base in KNOWN_BASES else pruning.base_sha256  # checked already
    if expected and base_sha256(source) != expected:
        raise CheckpointError(
            f"The adapter in {folder} was trained on other weights than those in {source} (SHA-256 "
            f"{expected[:12]}…): restore the base that it was trained on."
        )
    num_labels = max(1, len(pruning.label_names))
    is_span = pruning.questions is not None
    encoder = load_encoder(
        source, num_labels=num_labels, head="span" if is_span else "classification"
    )
    merge_adapter(encoder, folder / "adapter")
    return source, encoder


def _load_foreign(folder: Path, device: str) -> PrunedModel:
    """A Hugging Face folder: unpruned, with the labels of its own configuration."""
    from ltp_core.encoder.errors import HeadError
    from ltp_core.encoder.loading import label_names, load_encoder, read_config
    from ltp_core.encoder.tokenizer import load_tokenizer
    from ltp_core.pruning import Unpruned

    if not (folder / "config.json").exists() and (folder / "adapter_config.json").exists():
        raise CheckpointError(
            f"{folder} is a PEFT adapter without its base: merge it with PEFT (merge_and_unload) and "
            "take the merged model's folder."
        )
    raw = read_config(folder)
    problem = raw.get("problem_type")
    if problem not in PROBLEM_TYPES:
        raise CheckpointError(
            f"{folder}: problem_type {str(problem)[:60]!r} is none of "
            f"{', '.join(map(str, PROBLEM_TYPES[1:]))}."
        )
    try:
        encoder = load_encoder(folder, needs_head=True)
    except HeadError as error:
        raise CheckpointError(
            f"{folder} has no head that classifies or answers questions ({error}): train one, "
            f"with base={folder} in the settings."
        ) from error
    is_span, outputs = encoder.config.head == "span", encoder.config.num_labels
    # Without names in the config the outputs in the file are counted, as LABEL_n.
    names = label_names(raw if raw.get("id2label") else {"num_labels": outputs})
    # One output without a stated problem is a value, as in transformers.
    is_values = problem == "regression" or (outputs == 1 and problem is None)
    return assemble(
        name=folder.resolve().name,
        task=None,
        method=Unpruned.neutral(encoder.config.num_layers),
        encoder=encoder,
        tokenizer=load_tokenizer(folder),
        label_names=() if is_values else names,
        is_multi_label=problem == "multi_label_classification",
        max_length=encoder.config.max_length,
        dense=None,
        base=str(folder),
        device=device,
        questions=QuestionSettings() if is_span else None,
    )


def assemble(*, encoder: Encoder, method: PruningMethod, device: str, **fields: Any) -> PrunedModel:
    """The loaded checkpoint of these parts, moved to a device.

    Args:
        encoder: Its weights; they are moved.
        method: Its pruning method; it is moved.
        device: Where it runs.
        fields: The others of `PrunedModel`, but for `packed`.

    Raises:
        CheckpointError: Encoder and tokenizer do not belong together.
    """
    from ltp_core.runners.native import fastest_runner

    # Ids may have gaps: the largest counts, not how many there are.
    num_tokens = 1 + max(fields["tokenizer"].get_vocab().values(), default=0)
    num_ids = encoder.config.vocab_size
    if num_tokens > num_ids:
        raise CheckpointError(
            f"The tokenizer of {fields['name']} has ids up to {num_tokens - 1}, its encoder {num_ids} of them: they "
            "do not belong together."
        )
    encoder = encoder.to(device).eval().requires_grad_(False)
    return PrunedModel(
        encoder=encoder,
        packed=fastest_runner(encoder),
        method=method.to(device).requires_grad_(False),
        **fields,
    )
