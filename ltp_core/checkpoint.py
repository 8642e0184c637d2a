"""Checkpoints: an encoder, a pruning method and a tokenizer that belong together.

A checkpoint is a run's folder (`pruning.json` with `adapter/` or `model/`) or any Hugging Face
model folder of the family, which then runs unpruned. Module level is torch-free.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core import store
from ltp_core.records import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from ltp_core.encoder.model import Encoder
    from ltp_core.pruning.base import PruningMethod
    from ltp_core.runners.packed import PackedRunner

PRUNING_FILE = "pruning.json"


class CheckpointError(UserError):
    """A checkpoint that is absent, incomplete or damaged."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint of the store, not loaded.

    Attributes:
        bytes: Size of its weights on disk; an adapter needs its base besides.
    """

    name: str
    task: str
    method: str
    base: str
    bytes: int
    folder: Path


@dataclass(frozen=True, kw_only=True)
class PrunedModel:
    """A loaded checkpoint, ready for inference and never changed.

    Attributes:
        name: Name of the run, or of the folder.
        task: Name of its task; None for a foreign folder.
        method: The pruning method with its learned state.
        encoder: Weights merged, evaluation mode.
        packed: The packed runner over the same weights.
        tokenizer: Padding and truncation off.
        label_names: Class names; empty for regression.
        max_length: Longest input in tokens.
        dense: Name of the dense counterpart's run, or None.
        base: Name of the base model.
    """

    name: str
    task: str | None
    method: PruningMethod
    encoder: Encoder
    packed: PackedRunner
    tokenizer: Tokenizer
    label_names: tuple[str, ...]
    max_length: int
    dense: str | None
    base: str


def save_pruning(
    folder: Path,
    method: PruningMethod,
    *,
    task: str,
    label_names: tuple[str, ...],
    max_length: int,
    base: dict[str, Any],
    dense: str | None,
) -> None:
    """Writes `pruning.json`: the method's state and what else the weights alone do not say."""
    store.write_json(
        folder / PRUNING_FILE,
        {
            "task": task,
            "method": method.state_json(),
            "label_names": list(label_names),
            "max_length": max_length,
            "base": base,
            "dense": dense,
        },
    )


def list_checkpoints() -> list[CheckpointInfo]:
    """Checkpoints of all stores, complete runs only, by name; the writable store comes first."""
    found: dict[str, CheckpointInfo] = {}
    for run in store.list_runs():
        if run.manifest is None or not (run.folder / PRUNING_FILE).exists():
            continue
        weights = [*run.folder.glob("adapter/*"), *run.folder.glob("model/*")]
        info = CheckpointInfo(
            name=run.name,
            task=run.manifest.task,
            method=run.manifest.method,
            base=str(run.manifest.base.get("name", "")),
            bytes=sum(path.stat().st_size for path in weights),
            folder=run.folder,
        )
        found.setdefault(run.name, info)
    return sorted(found.values(), key=lambda info: info.name)


def load_checkpoint(name_or_path: str, *, device: str = "cpu") -> PrunedModel:
    """Loads a checkpoint by run name, unique prefix of one, or folder.

    Raises:
        CheckpointError: There is none of that name, or its files are incomplete or damaged.
        UserError: Its base model is not at hand.
    """
    folder = _find(name_or_path)
    if (folder / PRUNING_FILE).exists():
        return _load_run(folder, device)
    return _load_foreign(folder, device)


def _find(name_or_path: str) -> Path:
    if "\0" in name_or_path or not name_or_path.strip():
        raise CheckpointError("Give the name of a run or the path of a model folder.")
    path = Path(name_or_path).expanduser()
    try:
        if path.is_dir():
            return path
    except OSError:
        pass
    return store.find_run(name_or_path)


def _load_run(folder: Path, device: str) -> PrunedModel:
    from ltp_core.encoder.adapter import merge_adapter
    from ltp_core.encoder.loading import downloads_allowed, find_base, load_encoder
    from ltp_core.encoder.tokenizer import load_tokenizer
    from ltp_core.pruning import load_method

    raw = _read_pruning(folder)
    try:
        method = load_method(raw["method"])
        label_names = tuple(raw["label_names"])
        task, max_length, dense = raw["task"], int(raw["max_length"]), raw["dense"]
        base = str(raw["base"]["name"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{folder / PRUNING_FILE} lacks or misstates {error}: it is damaged or was written by "
            "another version."
        ) from error
    if (folder / "model").is_dir():
        source = folder / "model"
        encoder = load_encoder(source)
    else:
        source = find_base(base, allow_downloads=downloads_allowed())
        encoder = load_encoder(source, num_labels=max(1, len(label_names)))
        merge_adapter(encoder, folder / "adapter")
    if method.num_layers != encoder.config.num_layers:
        raise CheckpointError(
            f"{folder} prunes {method.num_layers} layers, but its encoder has "
            f"{encoder.config.num_layers}."
        )
    return _model(
        name=folder.name,
        task=task,
        method=method,
        encoder=encoder,
        tokenizer=load_tokenizer(source),
        label_names=label_names,
        max_length=min(max_length, encoder.config.max_length),
        dense=dense,
        base=base,
        device=device,
    )


def _read_pruning(folder: Path) -> dict[str, Any]:
    try:
        raw = json.loads((folder / PRUNING_FILE).read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{folder / PRUNING_FILE} cannot be read: {error}") from error
    if not isinstance(raw, dict):
        raise CheckpointError(f"{folder / PRUNING_FILE} is not a JSON object.")
    return raw


def _load_foreign(folder: Path, device: str) -> PrunedModel:
    """A Hugging Face folder: unpruned, with the labels of its own configuration."""
    from ltp_core.encoder.loading import load_encoder, read_config
    from ltp_core.encoder.tokenizer import load_tokenizer
    from ltp_core.pruning import Unpruned

    encoder = load_encoder(folder)
    names = read_config(folder).get("id2label") or {}
    label_names = tuple(str(names[key]) for key in sorted(names, key=int))
    is_regression = encoder.config.num_labels == 1
    return _model(
        name=folder.resolve().name,
        task=None,
        method=Unpruned.neutral(encoder.config.num_layers),
        encoder=encoder,
        tokenizer=load_tokenizer(folder),
        label_names=() if is_regression else label_names or ("LABEL_0", "LABEL_1"),
        max_length=encoder.config.max_length,
        dense=None,
        base=str(folder),
        device=device,
    )


def _model(*, encoder: Encoder, method: PruningMethod, device: str, **fields: Any) -> PrunedModel:
    from ltp_core.runners.packed import PackedRunner

    encoder = encoder.to(device).eval().requires_grad_(False)
    return PrunedModel(
        encoder=encoder,
        packed=PackedRunner(encoder),
        method=method.to(device).requires_grad_(False),
        **fields,
    )
