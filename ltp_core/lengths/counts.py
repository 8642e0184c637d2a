"""Length counts of data sets: quantiles, and the files of a store that hold them.

One JSON file a data set and tokenizer, in the folder `lengths` of a store; `data_cache/README.md` is the
format. The files hold counts, never a text. Axes: `distinct` different lengths of a set, ascending.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, Num

from ltp_core.records import UserError


@dataclass(frozen=True, kw_only=True, eq=False)
class LengthCounts:
    """How many inputs have each length.

    Attributes:
        length: Lengths in tokens, ascending, each once.
        count: Inputs of that length, at least 1.
    """

    length: Num[np.ndarray, " distinct"]
    count: Int[np.ndarray, " distinct"]

    @classmethod
    def of(cls, lengths: Num[np.ndarray, " examples"]) -> LengthCounts:
        """The counts of a list of lengths in any order."""
        length, count = np.unique(lengths, return_counts=True)
        return cls(length=length, count=count)

    @classmethod
    def tallied(cls, tally: Mapping[int, int]) -> LengthCounts:
        """The counts of whole lengths, by length."""
        length = np.array(sorted(tally), dtype=np.int64)
        return cls(length=length, count=np.array([tally[n] for n in length.tolist()]))

    @property
    def rows(self) -> int:
        """Number of inputs."""
        return int(self.count.sum())


def length_quantiles(counts: LengthCounts, *levels: float) -> tuple[float, ...]:
    """Quantiles in tokens at these levels (0 to 1), linearly interpolated as `numpy.quantile` does.

    Raises:
        ValueError: There is no length.
    """
    if not counts.rows:
        raise ValueError("quantiles need at least one length")
    last = np.cumsum(counts.count) - 1  # position of the last input of each length
    position = np.asarray(levels) * last[-1]
    below = counts.length[np.searchsorted(last, np.floor(position))].astype(float)
    above = counts.length[np.searchsorted(last, np.ceil(position))]
    return tuple(map(float, below + (position % 1) * (above - below)))


def ecdf(counts: LengthCounts, grid: Num[np.ndarray, " grid"]) -> Float[np.ndarray, " grid"]:
    """Fraction of the inputs that are at most as long as each value of an ascending grid."""
    total = np.concatenate([[0], np.cumsum(counts.count)])
    return total[np.searchsorted(counts.length, grid, side="right")] / counts.rows


def share_longer(counts: LengthCounts, limit: float) -> float:
    """Fraction of the inputs that are longer than a limit."""
    return float(counts.count[counts.length > limit].sum() / counts.rows)


def integer_edges(low: int, high: int, *, max_bins: int = 60) -> Int[np.ndarray, " edges"]:
    """Edges of bins for drawing: each holds the same whole number of lengths, so none is favoured.

    Equal bins of a fractional width hold now one length more, now one less, which shows as a
    saw-tooth. The width here is 1, 2 or 5 times a power of ten.

    Args:
        low: Least length; the first edge is the multiple of the width at or below it.
        high: Greatest length; it lies in the last bin.
        max_bins: More bins than this (and one for the alignment) are not made.

    Returns:
        Each edge is the least length of the bin that it begins; the last one ends the last bin.

    Example:
        >>> integer_edges(3, 11, max_bins=6)
        array([ 2,  4,  6,  8, 10, 12])
    """
    widths = (step * 10**power for power in range(18) for step in (1, 2, 5))
    width = next(w for w in widths if (high - low + 1) / w <= max_bins)
    return np.arange(low // width * width, high + width + 1, width)


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
        last = self.name.rstrip("/").rsplit("/", 1)[-1]
        short = re.sub(r"[^A-Za-z0-9._-]+", "_", last).strip("._-") or "tokenizer"
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
            first) and its UTF-8. Of lengths that were stated, of these and of what they are called.
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
        columns: Columns that hold the one or two texts; none where lengths were stated.
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
            "tokenizer": asdict(self.tokenizer),
            "splits": {
                name: {
                    "rows": split.counts.rows,
                    "published_rows": split.published_rows,
                    "left_out": split.left_out,
                    "source": split.source,
                    "sha256": split.sha256,
                    "length": split.counts.length.tolist(),
                    "count": split.counts.count.tolist(),
                }
                for name, split in self.splits.items()
            },
            "created_at": self.created_at,
            "git": self.git,
        }
        text = json.dumps(document, indent=2, ensure_ascii=False)
        lists = re.compile(r"\[[\d\s,]+\]")
        return lists.sub(lambda found: re.sub(r"\s+", "", found[0]), text) + "\n"


def own_key(content: str, tokenizer: TokenizerFacts) -> str:
    """Name of the file of own data's counts.

    Args:
        content: Hash of everything that the counts depend on.
        tokenizer: What counts.
    """
    return f"{own_prefix(content)}{tokenizer.slug}"


def own_prefix(content: str) -> str:
    """What the names of counts of this content begin with, whatever the tokenizer."""
    return f"own-{content[:16]}-"


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
    for store in stores:
        try:
            paths = sorted((store / FOLDER).iterdir())
        except OSError:  # a store need not have any
            continue
        for path in paths:
            known = entries.get(path.stem)
            is_known = known is not None and known.problem is None
            if path.suffix != ".json" or path.name.startswith(".") or is_known:
                continue
            try:
                entry = LengthEntry(key=path.stem, counts=read_set(path), problem=None)
            except LengthSetError as error:
                entry = LengthEntry(key=path.stem, counts=None, problem=str(error))
            entries[path.stem] = entry
    return [entries[key] for key in sorted(entries)]


def set_path(store: Path, key: str) -> Path:
    """Where a store keeps these counts."""
    return store / FOLDER / f"{key}.json"


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


PUBLISHED_ROWS: dict[str, dict[str, int]] = {
    "mnli": {"train": 392_702, "validation": 9_815, "validation_mismatched": 9_832},
    "qqp": {"train": 363_846, "validation": 40_430},
    "qnli": {"train": 104_743, "validation": 5_463},
    "sst2": {"train": 67_349, "validation": 872},
    "stsb": {"train": 5_749, "validation": 1_500},
    "mrpc": {"train": 3_668, "validation": 408},
    "rte": {"train": 2_490, "validation": 277},
}
"""Labelled rows of the splits that GLUE published, by task."""
