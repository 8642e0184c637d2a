"""A task from a user's own labelled file or folder of splits. Torch-free.

What is read once is kept in the store, `tasks/NAME/`: the rows of each split as Parquet, and `task.json`,
which says what they are. The name ends in a hash of the content, so that a task never changes under the
runs that were trained on it, and no path of this machine is part of a run.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import hashlib
import itertools
import json
import math
import re
import secrets
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from ltp_core.files import StoreError, not_written, write_json
from ltp_core.store import default_store, stores
from ltp_core.strict import require
from ltp_core.tasks import hub
from ltp_core.tasks.files import (
    CHUNK_ROWS,
    PREVIEW_ROWS,
    DataError,
    check_text,
    file_digest,
    is_missing,
    look,
    place_of,
    read_rows,
    split_files,
)
from ltp_core.tasks.hub import HUB
from ltp_core.tasks.splits import hashed_split, text_hash

Kind = Literal["classification", "regression", "multi_label"]

TASK_FILE = "task.json"
LABEL = "label"
"""Column of the label in the stored splits."""
FORMAT = 1
MAX_CLASSES = 1_000
MAX_INTEGER_CLASSES = 20
"""Different whole numbers up to which they are taken for classes, not for values."""
OWN_SETTINGS = {"file", "hub", "text", "label", "text_pair", "kind"}
"""Settings of the table `data` of a training that name a user's file."""
MIN_TRAINING_ROWS = 10
MAX_LIST_CHARACTERS = 10_000
"""Of a cell that spells out a list of labels."""
SHOWN_ROWS = 5
"""First rows of a file that are shown."""
MAX_NAMED = 5
"""Rows of each kind of fault that are named."""
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("validation", "valid", "val", "dev", "development"),
    "test": ("test", "testing"),
}
"""Splits, and what their files may be called in a folder."""


@dataclass(frozen=True, kw_only=True)
class OwnSource:
    """What a user names.

    Attributes:
        data: CSV, TSV, JSON lines, Parquet, or a folder with one or more such files a split.
        text: Column of the text.
        label: Column of the label.
        text_pair: Column of the second text of a pair.
        kind: What the label is; None guesses.
    """

    data: Path
    text: str
    label: str
    text_pair: str | None = None
    kind: Kind | None = None

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of the one or two texts."""
        return (self.text,) if self.text_pair is None else (self.text, self.text_pair)


@dataclass(frozen=True, kw_only=True)
class LeftOut:
    """Rows that are not used, for one reason.

    Attributes:
        count: How many.
        first: Where the first few of them stand.
    """

    count: int
    first: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class OwnTask:
    """What `task.json` says.

    Attributes:
        name: Name of the task.
        source: Name of the file or folder, without its path.
        columns: Its columns of texts and label, in that order.
        kind: What the label is.
        guess: Why it is taken for that; None where the user said so.
        label_names: Classes; empty for regression.
        rows: By split.
        classes: Rows of each class by split; empty for regression.
        left_out: Rows that are not used, by reason.
        sha256: Hash of the files, the columns and the kind.
    """

    name: str
    source: str
    columns: tuple[str, ...]
    kind: Kind
    guess: str | None
    label_names: tuple[str, ...]
    rows: dict[str, int]
    classes: dict[str, tuple[int, ...]]
    left_out: dict[str, LeftOut]
    sha256: str

    @property
    def text_columns(self) -> tuple[str, ...]:
        """Columns of the texts; in the stored splits the label is in `label`."""
        return self.columns[:-1]


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """What the columns of a file seem to be, from its first rows.

    Attributes:
        columns: All, in the order of the file.
        text: The column of the text.
        text_pair: Of the second text of a pair; None where there seems to be none.
        label: Of the label; None where no column looks like one.
        first: The first few rows.
    """

    columns: tuple[str, ...]
    text: str
    text_pair: str | None
    label: str | None
    first: tuple[Mapping[str, Any], ...]


LABEL_NAMES = (
    "label", "labels", "class", "category", "target", "sentiment", "stars", "rating", "score", "tag",
    "tags", "topic", "intent", "y",
)  # fmt: skip
"""Names that a column of labels often has, likeliest first."""
PAIR_NAMES = (
    ("sentence1", "sentence2"), ("text1", "text2"), ("question1", "question2"), ("question", "sentence"),
    ("premise", "hypothesis"), ("question", "answer"), ("query", "passage"), ("title", "body"),
)  # fmt: skip
"""Names that the two columns of a pair often have."""


def suggest(path: Path) -> Suggestion:
    """Guesses which columns of a file hold texts and label.

    A label has a usual name; else it is the column other than the text that repeats most.

    Raises:
        DataError: The file cannot be read, is empty, or has no column of text.
    """
    found = look(path)
    first = tuple(row for _, row, _ in itertools.islice(read_rows(path), PREVIEW_ROWS))
    pair = next(
        ((a, b) for a, b in PAIR_NAMES if {a, b} <= set(found.text_columns)),
        (found.suggested, None),
    )
    others = [name for name in found.columns if name not in pair]
    named = [name for usual in LABEL_NAMES for name in others if name.lower() == usual]
    repeats = {
        name: len({str(row.get(name)) for row in first})
        for name in others
        if not all(is_missing(row.get(name)) for row in first)
    }
    few = [name for name in repeats if 1 < repeats[name] <= max(2, len(first) / 2)]
    return Suggestion(
        columns=found.columns,
        text=pair[0],
        text_pair=pair[1],
        label=next(iter(named), None) or min(few, key=repeats.__getitem__, default=None),
        first=first[:SHOWN_ROWS],
    )


def with_own_task(raw: Mapping[str, Any], *, names_task: bool) -> dict[str, Any]:
    """Settings of a training whose table `data` may name a user's file; a task stands for it then.

    The table takes `file`, `text`, `label`, `text_pair` and `kind`, as `OwnSource` has them, and in place
    of `file` the name of a data set of the hub: `hub = "owner/name"`, or `file = "hub:owner/name"`. It
    stands in for the task of a preset.

    Args:
        raw: The settings.
        names_task: The user, not a preset, named a task, which a file would contradict.

    Raises:
        UserError: A setting is missing or wrong, contradicts another, or no task can be made of the
            data.
    """
    data = raw.get("data")
    if not isinstance(data, Mapping) or not OWN_SETTINGS & set(data):
        return dict(raw)
    named = {key: value for key, value in data.items() if key in OWN_SETTINGS}
    require(
        not (names_task and "task" in raw),
        f"task = {raw.get('task')!r} and data.{next(iter(named))} name two different data: leave one out",
    )
    if "hub" in named:
        require(
            "file" not in named, "data.file and data.hub name two different data: leave one out"
        )
        named["file"] = f"{HUB}{named.pop('hub')}"
    for key in ("file", "text", "label"):
        require(key in named, f"data.{key}: this setting must be given with {', '.join(named)}")
    for key, value in named.items():
        require(isinstance(value, str), f"data.{key} = {value!r}: must be a string")
    kind = named.get("kind")
    require(
        kind in (None, *get_args(Kind)),
        f"data.kind = {kind!r}: must be one of {', '.join(get_args(Kind))}",
    )
    source = OwnSource(
        data=Path(named["file"]).expanduser(),
        text=named["text"],
        label=named["label"],
        text_pair=named.get("text_pair"),
        kind=kind,
    )
    is_on_hub = named["file"].startswith(HUB)
    task = register_hub(named["file"].removeprefix(HUB), source) if is_on_hub else register(source)
    rest = {key: value for key, value in data.items() if key not in OWN_SETTINGS}
    return {**raw, "task": task.name, "data": rest}


def own_task(name: str) -> OwnTask | None:
    """The task of this name that a store holds; None where none does.

    Raises:
        StoreError: Its file is damaged.
    """
    if not re.fullmatch("[a-z0-9_]+", name):
        return None
    folder = own_folder(name)
    return None if folder is None else _read(folder)


def own_folder(name: str) -> Path | None:
    """Folder of an own task in the first store that has it."""
    folders = (store / "tasks" / name for store in stores())
    return next((folder for folder in folders if (folder / TASK_FILE).is_file()), None)


def own_names() -> list[str]:
    """Names of all own tasks."""
    found = {path.parent.name for store in stores() for path in store.glob(f"tasks/*/{TASK_FILE}")}
    return sorted(name for name in found if name[0] != ".")


def _read(folder: Path) -> OwnTask:
    path = folder / TASK_FILE
    try:
        raw: dict[str, Any] = json.loads(path.read_bytes())
        raw |= {key: tuple(raw[key]) for key in ("columns", "label_names")}
        raw["classes"] = {split: tuple(counts) for split, counts in raw["classes"].items()}
        raw["left_out"] = {
            reason: LeftOut(count=each["count"], first=tuple(each["first"]))
            for reason, each in raw["left_out"].items()
        }
        return OwnTask(**raw)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}): delete {folder} and read the data again."
        ) from error


def register(source: OwnSource) -> OwnTask:
    """Makes a task of a user's data in the store that is written to; what is there is not read again.

    Rows without a text or a label, with a label that no training row has, or with a text that stands in
    an earlier split too are counted, named and left out. A single file is divided 80/10/10 by a hash of
    the text; so are the training rows of a folder that has no validation split.

    Args:
        source: What the user names.

    Raises:
        UserError: The data cannot be read, or no task can be made of it.
    """
    if LABEL in source.text_columns or source.text == source.text_pair:
        raise DataError(
            f"The texts are in {' and '.join(map(repr, source.text_columns))}: they must be in columns of "
            f"their own, with other names than {LABEL!r}."
        )
    files = _files(source.data)
    sha256 = _hash(files, source)
    stem = source.data.stem if source.data.is_file() else source.data.resolve().name
    slug = re.sub("[^a-z0-9]+", "_", stem.lower()).strip("_") or "data"
    name = f"{slug[:40]}_{sha256[:8]}"
    if (known := own_folder(name)) is not None:
        return _read(known)
    kind, guess, names = _kind(source, _rows(source, files))
    found = _Splits(source, kind, names)
    folder = default_store() / "tasks" / name
    place = folder.with_name(f".{name}.{secrets.token_hex(4)}")
    try:
        place.mkdir(parents=True)
        found.write(_rows(source, files), place)
        task = OwnTask(
            name=name,
            source=source.data.name,
            columns=(*source.text_columns, source.label),
            kind=kind,
            guess=guess,
            label_names=names,
            rows=dict(found.rows),
            classes={
                split: tuple(counts[n] for n in names) for split, counts in found.classes.items()
            }
            if names
            else {},
            left_out={
                reason: LeftOut(count=count, first=tuple(found.first[reason]))
                for reason, count in found.left_out.items()
            },
            sha256=sha256,
        )
        total = sum(task.rows.values())
        for split, least in (("train", MIN_TRAINING_ROWS), ("validation", 1)):
            if task.rows.get(split, 0) < least:
                raise DataError(
                    f"{task.source} has {total} usable rows, of which {task.rows.get(split, 0)} are "
                    f"for {split}: give more rows, or a folder with the splits train and validation."
                )
        write_json(place / TASK_FILE, dataclasses.asdict(task))
        place.rename(folder)
    except OSError as error:
        if (known := own_folder(name)) is not None:
            return _read(known)  # another process was faster
        raise not_written(folder, error) from error
    finally:
        shutil.rmtree(place, ignore_errors=True)
    return task


def register_hub(name: str, source: OwnSource) -> OwnTask:
    """The same of a data set of the hub, from its local cache unless downloads are allowed.

    Its splits become files of a folder for as long as they are read, and are then checked like any other.

    Args:
        name: `owner/name` or `owner/name:configuration`.
        source: What its columns are; `data` does not count.

    Raises:
        UserError: It is not at hand, or no task can be made of it.
    """
    folder = default_store() / "tasks" / f".hub.{secrets.token_hex(4)}"
    place = folder / re.sub("[^A-Za-z0-9.-]+", "_", name)
    try:
        place.mkdir(parents=True)
        hub.save_splits(name, (*source.text_columns, source.label), place)
        return register(dataclasses.replace(source, data=place))
    except OSError as error:
        raise not_written(folder, error) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _files(data: Path) -> dict[str, list[Path]]:
    """Files by split; a single one is all that there is to train on."""
    if not data.exists():
        raise DataError(f"There is no file or folder {str(data)[:200]!r}: correct its path.")
    if not data.is_dir():
        return {"train": [data]}
    found = split_files(data)
    chosen: dict[str, list[Path]] = {}
    for split, spellings in SPLIT_NAMES.items():
        present = [spelling for spelling in spellings if spelling in found]
        if len(present) > 1:
            raise DataError(
                f"The folder {data.name} has {' and '.join(present)}: keep one {split} split."
            )
        if present:
            chosen[split] = found[present[0]]
    if "train" not in chosen:
        raise DataError(
            f"The folder {data.name} has no split 'train'; it has {', '.join(found)}: name one of its "
            "files train, and others validation and test."
        )
    return chosen


def _hash(files: Mapping[str, Sequence[Path]], source: OwnSource) -> str:
    digest = hashlib.sha256(
        json.dumps([FORMAT, *source.text_columns, source.label, source.kind]).encode()
    )
    for split, paths in files.items():
        for path in paths:
            digest.update(split.encode() + path.suffix.lower().encode() + file_digest(path))
    return digest.hexdigest()


@dataclass(frozen=True)
class _Row:
    """One row; `place` says where it stands, `fault` why it cannot be used."""

    split: str
    place: str
    texts: tuple[Any, ...]
    label: Any
    fault: str | None


def _rows(source: OwnSource, files: Mapping[str, Sequence[Path]]) -> Iterator[_Row]:
    """Rows of all files, training first; those of a single file are divided by a hash of the text."""
    is_divided = "validation" not in files
    wanted = (*source.text_columns, source.label)
    for given, paths in files.items():
        for path in paths:
            for number, row, _ in read_rows(path, wanted):
                texts: tuple[Any, ...] = tuple(row.get(name) for name in source.text_columns)
                label = _plain_label(row.get(source.label))
                place = f"{place_of(path)} {number}"
                for name, text in zip(source.text_columns, texts, strict=True):
                    if not is_missing(text):
                        check_text(text, f"{place}: column {name!r}")
                split, fault = given, None
                if any(is_missing(text) or not text.strip() for text in texts):
                    fault = "no text"
                elif label is None:
                    fault = "no label"
                elif is_divided and given == "train":
                    split = hashed_split(texts)
                yield _Row(split, place, texts, label, fault)


def _plain_label(value: Any) -> Any:
    """A label, or None: missing, a text without a character, or what a table writes for no number."""
    if is_missing(value) or (isinstance(value, str) and value.strip().lower() in ("", "nan")):
        return None
    if not isinstance(value, str):
        return value
    text = value.strip()
    # A cell of a table may spell out a list, as JSON or Python write it.
    if len(text) <= MAX_LIST_CHARACTERS and text.startswith("[") and text.endswith("]"):
        with contextlib.suppress(ValueError, SyntaxError, RecursionError, MemoryError):
            found = ast.literal_eval(text)  # literals alone, nothing is run
            return found if isinstance(found, list) else text
    return text


def label_set(value: Any) -> tuple[str, ...]:
    """Names of the labels that a row of several has: a list, or a text with `;`, `|` or `,` between them.

    Example:
        >>> label_set("fast; cheap;fast"), label_set([3, 4.0]), label_set([])
        (('fast', 'cheap'), ('3', '4'), ())
    """
    parts = value if isinstance(value, list) else re.split(r"[;|,]", class_name(value))
    names = (class_name(part.strip() if isinstance(part, str) else part) for part in parts)
    return tuple(dict.fromkeys(name for name in names if name))


def class_name(value: Any) -> str:
    """Name of the class that a label stands for: 4 and 4.0 are one, true is `true`."""
    if isinstance(value, bool):
        return str(value).lower()
    is_whole = isinstance(value, float) and value.is_integer()
    return str(int(value) if is_whole else value)


def _number(value: Any) -> float | None:
    """The value of a label; None where it is no finite number."""
    try:
        number = math.nan if isinstance(value, bool | list | dict) else float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _kind(source: OwnSource, rows: Iterator[_Row]) -> tuple[Kind, str | None, tuple[str, ...]]:
    """What the labels are, why they are taken for that, and the classes of the training rows."""
    counts: Counter[str] = Counter()
    sets: Counter[str] = Counter()
    are_lists = are_numbers = are_whole = are_plain = True
    total = seen = 0
    for row in rows:
        seen += 1
        if row.split != "train" or row.fault:
            continue
        total += 1
        number = _number(row.label)
        are_lists = are_lists and isinstance(row.label, list)
        are_plain = are_plain and not isinstance(row.label, list | dict)
        are_numbers = are_numbers and number is not None
        are_whole = are_whole and number is not None and number.is_integer()
        if len(counts) <= MAX_CLASSES:
            counts[class_name(row.label)] += 1
        if len(sets) <= MAX_CLASSES and not isinstance(row.label, dict):
            sets.update(label_set(row.label))
    column = f"{source.data.name}: column {source.label!r}"
    if not seen:
        raise DataError(f"{source.data.name} has no row: nothing can be learned from it.")
    if not total:
        raise DataError(f"{column} holds no label beside a text: choose other columns.")
    kind, guess = source.kind, None
    if kind is None and are_lists:
        kind, guess = "multi_label", "lists of labels"
    elif kind is None and are_numbers and not (are_whole and len(counts) <= MAX_INTEGER_CLASSES):
        different = f"more than {MAX_CLASSES}" if len(counts) > MAX_CLASSES else str(len(counts))
        kind, guess = "regression", f"{different} different numbers"
    elif kind is None:
        what = "whole numbers" if are_whole else "labels"
        kind, guess = "classification", f"{len(counts)} different {what}"
    if kind == "multi_label":
        return kind, guess, _label_set_names(column, sets)
    if kind != "classification":
        return kind, guess, ()
    if not are_plain:
        raise DataError(
            f"{column} holds lists or objects beside plain labels: give one label a row."
        )
    if len(counts) > MAX_CLASSES or (total >= 20 and len(counts) > total / 2):
        raise DataError(
            f"{column} has {'more than ' * (len(counts) > MAX_CLASSES)}{len(counts):,} different labels "
            f"in {total:,} rows, which are no classes: choose another column, or --kind regression for "
            "numbers."
        )
    if len(counts) < 2:
        raise DataError(
            f"{column} has one class only, {next(iter(counts))!r}, in the training rows: there is "
            "nothing to tell apart."
        )
    names = sorted(counts)
    if are_numbers:
        names.sort(key=float)
    return kind, guess, tuple(names)


def _label_set_names(column: str, counts: Counter[str]) -> tuple[str, ...]:
    """The labels of which any number may hold.

    Raises:
        DataError: There are too many, or just one.
    """
    if len(counts) > MAX_CLASSES:
        raise DataError(
            f"{column} has more than {MAX_CLASSES:,} different labels: choose another column, or leave "
            "the rare ones out."
        )
    if len(counts) < 2:
        raise DataError(
            f"{column} has {len(counts)} different labels in the training rows, and several are needed: "
            "write those of a row as a list, or with ; between them."
        )
    return tuple(sorted(counts))


class _Splits:
    """The usable rows of each split, written as they are read, and what became of the others."""

    def __init__(self, source: OwnSource, kind: Kind, names: tuple[str, ...]) -> None:
        self._columns = source.text_columns
        self._is_regression = kind == "regression"
        self._is_multi_label = kind == "multi_label"
        self._index = {name: i for i, name in enumerate(names)}
        self.rows: Counter[str] = Counter()
        self.classes: dict[str, Counter[str]] = {}
        self.left_out: Counter[str] = Counter()
        self.first: dict[str, list[str]] = {}

    def write(self, rows: Iterator[_Row], folder: Path) -> None:
        """Writes `SPLIT.parquet` of each split."""
        kind = pa.float64() if self._is_regression else pa.int64()
        label = (LABEL, pa.list_(kind) if self._is_multi_label else kind)
        schema = pa.schema([*((name, pa.string()) for name in self._columns), label])
        seen: dict[bytes, str] = {}
        waiting: dict[str, list[tuple[Any, ...]]] = {}
        with contextlib.ExitStack() as stack:
            writers: dict[str, pq.ParquetWriter] = {}

            def flush(split: str) -> None:
                columns = zip(*waiting.pop(split), strict=True)
                arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
                if split not in writers:
                    path = folder / f"{split}.parquet"
                    writers[split] = stack.enter_context(pq.ParquetWriter(path, schema))
                writers[split].write_table(pa.Table.from_arrays(arrays, schema=schema))

            for row in rows:
                fault = row.fault or self._fault(row)
                if fault is None:
                    earlier = seen.setdefault(text_hash(row.texts), row.split)
                    if earlier != row.split:
                        fault = f"a text of {row.split} that {earlier} has too"
                if fault is not None:
                    self.left_out[fault] += 1
                    named = self.first.setdefault(fault, [])
                    named += [row.place] * (len(named) < MAX_NAMED)
                    continue
                self.rows[row.split] += 1
                if not self._is_regression:
                    self.classes.setdefault(row.split, Counter()).update(self._names(row))
                waiting.setdefault(row.split, []).append((*row.texts, self._value(row)))
                if len(waiting[row.split]) == CHUNK_ROWS:
                    flush(row.split)
            for split in list(waiting):
                flush(split)

    def _fault(self, row: _Row) -> str | None:
        """Why a row with text and label cannot be used; None where it can."""
        if self._is_regression:
            return "a label that is no number" if _number(row.label) is None else None
        if isinstance(row.label, dict):
            return "an object as its label"
        known = set(self._names(row)) <= set(self._index)
        return None if known else "a label that no training row has"

    def _names(self, row: _Row) -> tuple[str, ...]:
        """The classes of a row: one, or any number of labels."""
        return label_set(row.label) if self._is_multi_label else (class_name(row.label),)

    def _value(self, row: _Row) -> Any:
        """What is stored as its label: a number, an index, or the indices of all that hold."""
        if self._is_regression:
            return _number(row.label)
        found = [self._index[name] for name in self._names(row)]
        return found if self._is_multi_label else found[0]
