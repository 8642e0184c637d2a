"""The tokenizer of a checkpoint without its weights. Which one it is, is found out without torch."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from ltp_core import store
from ltp_core.checkpoint_places import (
    existing_folder,
    list_checkpoints,
    pruning_record,
    weights_folder,
)
from ltp_core.config import TrainConfig
from ltp_core.lengths.counts import TokenizerFacts
from ltp_core.records import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

DEFAULT_TOKENIZER = TrainConfig.base


def tokenizer_facts(checkpoint: str | None) -> TokenizerFacts:
    """The tokenizer of a run, of a model folder or of a base model's name; None takes the default.

    Raises:
        UserError: Several runs have names that begin so, or it is the path of no folder.
    """
    if checkpoint is None:
        return TokenizerFacts(name=DEFAULT_TOKENIZER, sha256=None)
    folder = _folder(checkpoint)
    if folder is None:
        return TokenizerFacts(name=checkpoint, sha256=None)
    file, base = _tokenizer_file(folder), pruning_record(folder).get("base")
    # A model folder has the name of its own; damage is found when it is loaded.
    named = base.get("name") if isinstance(base, dict) else None
    name = folder.resolve().name if named is None else str(named)
    return TokenizerFacts(name=name, sha256=_sha256(file) if file else None)


def load_tokenizer_of(checkpoint: str | None) -> tuple[Tokenizer, TokenizerFacts]:
    """The tokenizer itself, padding and truncation off; imports torch.

    Raises:
        UserError: There is no such run, folder or base model, or it has no tokenizer.
    """
    from ltp_core.encoder.bases import find_base
    from ltp_core.encoder.errors import ModelError
    from ltp_core.encoder.tokenizer import load_tokenizer

    facts = tokenizer_facts(checkpoint)
    folder = None if checkpoint is None else _folder(checkpoint)
    file = _tokenizer_file(folder) if folder else None
    if file is not None:
        return load_tokenizer(file.parent), facts
    try:
        place = find_base(facts.name)
    except ModelError:
        if checkpoint is not None and folder is None:
            store.find_run(checkpoint)  # says that there is no such run, and which one is near
        raise
    file = place / "tokenizer.json"
    sha256 = _sha256(file) if file.is_file() else None
    return load_tokenizer(place), TokenizerFacts(name=facts.name, sha256=sha256)


def _folder(checkpoint: str) -> Path | None:
    """Folder of a run or model; None where it can only be the name of a base model."""
    if not checkpoint.strip() or "\0" in checkpoint:
        raise UserError("Give the name of a run, a model folder, or leave the checkpoint out.")
    if (folder := existing_folder(checkpoint)) is not None:
        return folder
    runs = {info.name: info.folder for info in list_checkpoints()}
    matches = store.beginning_with(checkpoint, list(runs))
    if checkpoint in runs or len(matches) == 1:
        return runs[checkpoint if checkpoint in runs else matches[0]]
    # It says which runs begin so, or that there is no such folder: no base's name begins like a path.
    is_path = checkpoint.startswith((os.sep, "~", "."))
    return store.find_run(checkpoint) if matches or is_path else None


def _tokenizer_file(folder: Path) -> Path | None:
    files = (weights_folder(folder) / "model" / "tokenizer.json", folder / "tokenizer.json")
    return next((file for file in files if file.is_file()), None)


def _sha256(file: Path) -> str:
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise UserError(f"{file} cannot be read: {error.strerror}.") from error
