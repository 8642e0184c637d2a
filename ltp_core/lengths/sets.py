"""Stored length counts: one JSON file a data set and tokenizer, in the folder `lengths` of a store.

`data_cache/README.md` is the format. The files hold counts, never a text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ltp_core.lengths.statistics import LengthCounts
from ltp_core.records import UserError

FORMAT_VERSION = 1
FOLDER = "lengths"


class LengthSetError(UserError):
    """Stored counts that are damaged or of a newer version; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class TokenizerFacts:
    """Which tokenizer counted.

    Attributes:
        name: Base model that it belongs to.
        sha256: Of its `tokenizer.json`; None where that is not known.
    """

    name: str
    sha256: str | None

    @property
    def slug(self) -> str:
        """For file names: the last part of the name, and the beginning of the hash."""
        short = _slug(self.name.rstrip("/").rsplit("/", 1)[-1])
        return f"{short}-{self.sha256[:8]}" if self.sha256 else short

    def is_same(self, other: TokenizerFacts) -> bool:
        """Whether both count alike: by hash, or by name where a hash is missing."""
        if self.sha256 and other.sha256:
            return self.sha256 == other.sha256
        return self.name == other.name


@dataclass(frozen=True, kw_only=True, eq=False)
class SplitLengths:
    """Lengths of one split.

    Attributes:
        counts: Inputs by length in tokens, special tokens included, nothing cut off.
        source: Where the rows come from, without a path of this machine.
        sha256: Of the texts, in their order: each as its number of bytes (8 bytes, most significant
            first) and its UTF-8.
        published_rows: Rows of the published split of this name; None where there is none.
        left_out: Rows without a text, which are not counted.
    """

    counts: LengthCounts
    source: str
    sha256: str
    published_rows: int | None = None
    left_out: int = 0

    @property
    def is_published(self) -> bool | None:
        """Whether this is the whole published split; None where nothing is published."""
        if self.published_rows is None:
            return None
        return self.counts.rows == self.published_rows and "derived" not in self.source


@dataclass(frozen=True, kw_only=True, eq=False)
class LengthSet:
    """Length counts of a data set with one tokenizer.

    Attributes:
        name: Name of the task, or what the user calls the data.
        key: Name of its file, without the suffix.
        is_task: True for one of the tasks, False for own data.
        columns: Columns that hold the one or two texts.
        tokenizer: What counted.
        splits: Lengths by split; `train` of a task is the whole training split of the source.
        created_at: ISO 8601, UTC.
        git: `commit` and `dirty` of the code that counted; null where unknown.
    """

    name: str
    key: str
    is_task: bool
    columns: tuple[str, ...]
    tokenizer: TokenizerFacts
    splits: dict[str, SplitLengths]
    created_at: str
    git: dict[str, Any]

    def to_json(self) -> str:
        """The content of its file; numbers of a list stand on one line."""
        document = {
            "schema_version": FORMAT_VERSION,
            "name": self.name,
            "is_task": self.is_task,
            "columns": list(self.columns),
            "tokenizer": {"name": self.tokenizer.name, "sha256": self.tokenizer.sha256},
            "splits": {name: _split_json(split) for name, split in self.splits.items()},
            "created_at": self.created_at,
            "git": self.git,
        }
        text = json.dumps(document, indent=2, ensure_ascii=False)
        lists = re.compile(r"\[[\d\s,]+\]")
        return lists.sub(lambda found: re.sub(r"\s+", "", found[0]), text) + "\n"


def task_key(task: str, tokenizer: TokenizerFacts) -> str:
    """Name of the file of a task's counts."""
    return f"{task}-{tokenizer.slug}"


def own_key(content: str, tokenizer: TokenizerFacts) -> str:
    """Name of the file of own data's counts.

    Args:
        content: Hash of everything that the counts depend on.
        tokenizer: What counts.
    """
    return f"{_own_prefix(content)}{tokenizer.slug}"


def is_own_key(key: str, content: str) -> bool:
    """Whether counts of this name are of this content, with whatever tokenizer."""
    return key.startswith(_own_prefix(content))


def _own_prefix(content: str) -> str:
    return f"own-{content[:16]}-"


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._-]+", "_", name).strip("._-") or "tokenizer"


def _split_json(split: SplitLengths) -> dict[str, Any]:
    return {
        "rows": split.counts.rows,
        "published_rows": split.published_rows,
        "left_out": split.left_out,
        "source": split.source,
        "sha256": split.sha256,
        "length": split.counts.length.tolist(),
        "count": split.counts.count.tolist(),
    }


@dataclass(frozen=True, kw_only=True)
class LengthEntry:
    """One file of stored counts.

    Attributes:
        key: Its name without the suffix.
        counts: What it holds; None where it cannot be read.
        problem: Why it cannot be used, in a sentence; None where it can.
    """

    key: str
    counts: LengthSet | None
    problem: str | None


def list_sets(stores: Iterable[Path]) -> list[LengthEntry]:
    """Stored counts of all stores by name; of equal names the first readable one counts."""
    entries: dict[str, LengthEntry] = {}
    for path in _files(stores):
        known = entries.get(path.stem)
        if known is None or known.problem:
            entries[path.stem] = _entry(path)
    return [entries[key] for key in sorted(entries)]


def set_path(store: Path, key: str) -> Path:
    """Where a store keeps these counts."""
    return store / FOLDER / f"{key}.json"


def _files(stores: Iterable[Path]) -> Iterator[Path]:
    for store in stores:
        try:
            found = sorted((store / FOLDER).iterdir())
        except OSError:  # a store need not have any
            continue
        yield from (p for p in found if p.suffix == ".json" and not p.name.startswith("."))


def _entry(path: Path) -> LengthEntry:
    try:
        return LengthEntry(key=path.stem, counts=read_set(path), problem=None)
    except LengthSetError as error:
        return LengthEntry(key=path.stem, counts=None, problem=str(error))


def read_set(path: Path) -> LengthSet:
    """Stored counts. Fields that this version does not know are ignored.

    Raises:
        LengthSetError: The file is absent or damaged, or a newer version wrote it.
    """
    try:
        raw = json.loads(path.read_bytes())
        version = raw["schema_version"]
        if isinstance(version, int) and version > FORMAT_VERSION:
            raise LengthSetError(
                f"A newer version of this program wrote {path.name} (format {version}, known is up "
                f"to {FORMAT_VERSION}): update this program."
            )
        return _length_set(path.stem, raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
        raise LengthSetError(
            f"The length counts {path.name} are damaged ({reason}): delete the file and count again."
        ) from error


def _length_set(key: str, raw: Mapping[str, Any]) -> LengthSet:
    splits = {str(name): _split_lengths(split) for name, split in raw["splits"].items()}
    if not splits:
        raise ValueError("no split")
    sha256 = raw["tokenizer"]["sha256"]
    return LengthSet(
        name=str(raw["name"]),
        key=key,
        is_task=bool(raw["is_task"]),
        columns=tuple(map(str, raw["columns"])),
        tokenizer=TokenizerFacts(
            name=str(raw["tokenizer"]["name"]), sha256=None if sha256 is None else str(sha256)
        ),
        splits=splits,
        created_at=str(raw["created_at"]),
        git=dict(raw["git"]),
    )


def _split_lengths(raw: Mapping[str, Any]) -> SplitLengths:
    length, count = (_whole_numbers(raw[name]) for name in ("length", "count"))
    if len(length) != len(count) or not len(length):
        raise ValueError("lengths and counts do not belong together")
    if (np.diff(length) <= 0).any() or length[0] < 0 or count.min() < 1:
        raise ValueError("lengths do not ascend, or a count is below 1")
    counts = LengthCounts(length=length, count=count)
    if counts.rows != raw["rows"]:
        raise ValueError(f"{counts.rows} inputs are counted, not {raw['rows']}")
    published = raw.get("published_rows")
    return SplitLengths(
        counts=counts,
        source=str(raw["source"]),
        sha256=str(raw["sha256"]),
        published_rows=None if published is None else int(published),
        left_out=int(raw.get("left_out", 0)),
    )


def _whole_numbers(values: Any) -> np.ndarray:
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise TypeError("lengths and counts must be lists of whole numbers")
    return np.array(values, dtype=np.int64)
