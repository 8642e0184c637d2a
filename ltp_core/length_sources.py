"""From what a user names to length counts: a task, a file, a folder, a data set of the hub.

Which tokenizer a checkpoint uses is found out without torch; counting loads it.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ltp_core import environment, store
from ltp_core.checkpoint import PRUNING_FILE, list_checkpoints
from ltp_core.config import TrainConfig
from ltp_core.data.lengths_count import CHUNK_ROWS, Chunk, Texts, chunks_of, count_lengths
from ltp_core.data.lengths_files import SUFFIXES, chunked, read_chunks, split_files, table_rows
from ltp_core.data.lengths_paper import published_rows
from ltp_core.data.lengths_sets import (
    LengthSet,
    SplitLengths,
    TokenizerFacts,
    list_sets,
    own_key,
    task_key,
)
from ltp_core.data.loading import DataError, load_rows
from ltp_core.data.tasks import find_task
from ltp_core.records import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

HUB = "hub:"
DEFAULT_TOKENIZER = TrainConfig.base
FILE_SPLIT = "all"
"""Name of the one split of a single file."""

Report = Callable[[str, int, float | None], None]
"""Takes the split, the inputs counted so far, and the fraction of the split that has been read."""


# ---- tokenizers ----


def tokenizer_facts(checkpoint: str | None) -> TokenizerFacts:
    """The tokenizer of a run, of a model folder or of a base model's name; None takes the default.

    Raises:
        UserError: Several runs have names that begin so.
    """
    if checkpoint is None:
        return TokenizerFacts(name=DEFAULT_TOKENIZER, sha256=None)
    folder = _folder(checkpoint)
    if folder is None:
        return TokenizerFacts(name=checkpoint, sha256=None)
    file = _tokenizer_file(folder)
    return TokenizerFacts(name=_base_name(folder), sha256=_sha256([file]) if file else None)


def load_tokenizer_of(checkpoint: str | None) -> tuple[Tokenizer, TokenizerFacts]:
    """The tokenizer itself, padding and truncation off; imports torch.

    Raises:
        UserError: There is no such run, folder or base model, or it has no tokenizer.
    """
    from ltp_core.encoder.loading import ModelError, downloads_allowed, find_base
    from ltp_core.encoder.tokenizer import load_tokenizer

    facts = tokenizer_facts(checkpoint)
    folder = None if checkpoint is None else _folder(checkpoint)
    file = _tokenizer_file(folder) if folder else None
    if file is not None:
        return load_tokenizer(file.parent), facts
    try:
        place = find_base(facts.name, allow_downloads=downloads_allowed())
    except ModelError:
        if checkpoint is not None and folder is None:
            store.find_run(checkpoint)  # says that there is no such run, and which one is near
        raise
    file = place / "tokenizer.json"
    sha256 = _sha256([file]) if file.is_file() else None
    return load_tokenizer(place), TokenizerFacts(name=facts.name, sha256=sha256)


def _folder(checkpoint: str) -> Path | None:
    """Folder of a run or model; None where it can only be the name of a base model."""
    if not checkpoint.strip() or "\0" in checkpoint:
        raise UserError("Give the name of a run, a model folder, or leave the checkpoint out.")
    try:
        path = Path(checkpoint).expanduser()
        if path.is_dir():
            return path
    except (OSError, RuntimeError):  # too long for a path, or nobody's home
        pass
    runs = {info.name: info.folder for info in list_checkpoints()}
    matches = [name for name in runs if name.startswith(checkpoint)]
    if checkpoint in runs or len(matches) == 1:
        return runs[checkpoint if checkpoint in runs else matches[0]]
    # All runs that begin so were counted with one tokenizer, or the name is not clear.
    return store.find_run(checkpoint) if matches else None


def _tokenizer_file(folder: Path) -> Path | None:
    files = (folder / "model" / "tokenizer.json", folder / "tokenizer.json")
    return next((file for file in files if file.is_file()), None)


def _base_name(folder: Path) -> str:
    try:
        return str(json.loads((folder / PRUNING_FILE).read_bytes())["base"]["name"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return folder.resolve().name  # a model folder; damage is found when it is loaded


# ---- stored counts ----


def find_task_set(stores: Iterable[Path], task: str, tokenizer: TokenizerFacts) -> LengthSet | None:
    """A task's stored counts with this tokenizer; None where it has not been counted."""
    for entry in list_sets(stores):
        found = entry.counts
        if found and found.is_task and found.name == task and found.tokenizer.is_same(tokenizer):
            return found
    return None


# ---- counting ----


def count_task(
    task: str,
    tokenizer: Tokenizer,
    facts: TokenizerFacts,
    *,
    data_dir: Path | None = None,
    allow_downloads: bool = False,
    report: Report = lambda split, rows, fraction: None,
) -> LengthSet:
    """Counts every split of a task; `train` is the source's whole split, held-out rows included.

    Raises:
        UserError: There is no such task, or its training or validation rows are not at hand.
    """
    spec = find_task(task)
    splits: dict[str, SplitLengths] = {}
    for split in ("train", "validation", *spec.extra_splits):
        try:
            texts, source = _task_texts(task, split, data_dir, allow_downloads)
        except DataError:
            if split in spec.extra_splits:
                continue
            raise
        splits[split] = count_lengths(
            tokenizer,
            chunks_of(texts),
            source=source,
            published_rows=published_rows(task, split),
            on_progress=_for_split(report, split),
        )
    return _length_set(task, task_key(task, facts), spec.text_columns, facts, splits, is_task=True)


def _task_texts(
    task: str, split: str, data_dir: Path | None, allow_downloads: bool
) -> tuple[list[Texts], str]:
    """Texts in the order of the source, and where they come from."""
    parts = [
        load_rows(task, part, data_dir=data_dir, allow_downloads=allow_downloads)
        for part in (("train", "heldout") if split == "train" else (split,))
    ]
    texts = [text for part in parts for text in part.texts]
    order = np.argsort(np.concatenate([part.row for part in parts]), kind="stable")
    return [texts[i] for i in order], parts[0].source


def own_files(source: Path, splits: Sequence[str] | None) -> dict[str, list[Path]]:
    """Files of a file or folder by split.

    Args:
        source: A file, or a folder with one or more files a split.
        splits: Splits that are wanted; None takes all.

    Raises:
        DataError: A folder has no data file, or lacks a split.
    """
    if not source.is_dir():
        return {FILE_SPLIT: [source]}
    found = split_files(source)
    for name in splits or ():
        if name not in found:
            raise DataError(
                f"The folder {source.name} has no split {name!r}; it has {', '.join(found)}."
            )
    return {name: found[name] for name in splits or found}


def own_file_key(
    files: Mapping[str, Sequence[Path]], columns: Sequence[str], tokenizer: TokenizerFacts
) -> str:
    """Name of the counts of these contents; the same content gives the same name.

    Raises:
        DataError: A file cannot be read.
    """
    contents = {split: _sha256(paths) for split, paths in files.items()}
    return own_key(_hash([contents, list(columns)]), tokenizer)


def count_files(
    name: str,
    files: Mapping[str, Sequence[Path]],
    columns: Sequence[str],
    tokenizer: Tokenizer,
    facts: TokenizerFacts,
    *,
    report: Report = lambda split, rows, fraction: None,
) -> LengthSet:
    """Counts own files.

    Raises:
        UserError: A file cannot be read, or lacks a column.
    """
    key = own_file_key(files, columns, facts)
    splits = {
        split: count_lengths(
            tokenizer,
            _chunks(paths, columns),
            source=", ".join(path.name for path in paths),
            on_progress=_for_split(report, split),
        )
        for split, paths in files.items()
    }
    return _length_set(name, key, columns, facts, splits, is_task=False)


def count_hub(
    name: str,
    splits: Sequence[str],
    columns: Sequence[str],
    tokenizer: Tokenizer,
    facts: TokenizerFacts,
    *,
    allow_downloads: bool = False,
    report: Report = lambda split, rows, fraction: None,
) -> LengthSet:
    """Counts a data set of the hub, from its local cache unless downloads are allowed.

    Args:
        name: `owner/name` or `owner/name:configuration`.
        splits: Names of the splits there.
        columns: One or two columns with texts.
        tokenizer: What counts.
        facts: Which that is.
        allow_downloads: Ask the hub for what is not on this machine.
        report: Called as counting goes on.

    Raises:
        DataError: It is not at hand, or lacks a column.
    """
    counted = {
        split: count_lengths(
            tokenizer,
            _hub_chunks(name, split, columns, allow_downloads),
            source=f"hub data set {name}, {split}",
            on_progress=_for_split(report, split),
        )
        for split in splits
    }
    key = own_key(_hash([name, list(splits), list(columns)]), facts)
    return _length_set(name, key, columns, facts, counted, is_task=False)


def _hub_chunks(
    name: str, split: str, columns: Sequence[str], allow_downloads: bool
) -> Iterator[Chunk]:
    from ltp_core.data.hub import is_cached, read_split

    path, _, config = name.partition(":")
    absent = (
        f"The data set {name}, {split}, is not in the Hugging Face cache: allow downloads with "
        "LTP_ALLOW_DOWNLOADS=1, or give its files as a folder."
    )
    # Looked up before the import of `datasets`, which takes seconds.
    if not allow_downloads and not is_cached(path, config or "default"):
        raise DataError(absent)
    try:
        table = read_split(path, config or "default", split, allow_downloads=allow_downloads)
    except Exception as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{absent} ({reason})") from error
    missing = [column for column in columns if column not in table.column_names]
    if missing:
        raise DataError(
            f"{name} has no column {missing[0]!r}; it has {', '.join(table.column_names)}."
        )
    batches = table.select(list(columns)).to_batches(CHUNK_ROWS)
    yield from chunked(table_rows(iter(batches), tuple(columns), name, table.num_rows))


def _chunks(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[Chunk]:
    """All files one after another; the fraction is that of files and of the file at hand."""
    for index, path in enumerate(paths):
        for chunk in read_chunks(path, columns):
            fraction = (index + (chunk.fraction or 0.0)) / len(paths)
            yield Chunk(texts=chunk.texts, fraction=fraction, left_out=chunk.left_out)


def _for_split(report: Report, split: str) -> Callable[[int, float | None], None]:
    return lambda rows, fraction: report(split, rows, fraction)


def _length_set(
    name: str,
    key: str,
    columns: Sequence[str],
    facts: TokenizerFacts,
    splits: dict[str, SplitLengths],
    *,
    is_task: bool,
) -> LengthSet:
    now = datetime.datetime.now(datetime.UTC)
    return LengthSet(
        name=name,
        key=key,
        is_task=is_task,
        columns=tuple(columns),
        tokenizer=facts,
        splits=splits,
        created_at=now.isoformat(timespec="seconds"),
        git=environment.git_state(),
    )


def is_data_file(path: Path) -> bool:
    """Whether a path looks like a file of data."""
    return path.suffix.lower() in SUFFIXES


def _sha256(paths: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        try:
            with path.open("rb") as file:
                digest.update(hashlib.file_digest(file, "sha256").digest())
        except OSError as error:
            raise DataError(f"{path.name} cannot be read: {error.strerror}.") from error
    return digest.hexdigest()


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
