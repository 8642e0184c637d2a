"""Texts of a user's own files: CSV, TSV, JSON lines, Parquet; read in chunks, and never as code.

Every problem is one sentence that names the place and says what to do.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ltp_core.lengths.counting import CHUNK_ROWS, Chunk, Texts
from ltp_core.tasks.loading import DataError

CSV_SUFFIXES = (".csv", ".tsv")
JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (*CSV_SUFFIXES, *JSON_SUFFIXES, ".parquet")

PREVIEW_ROWS = 200
MAX_FIELD_CHARACTERS = 64 * 2**20

_SHARD = re.compile(r"-\d+-of-\d+$")
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")

Row = tuple[Texts | None, float]
"""The chosen texts of a row, None where one is missing; and the fraction of the file read by then."""


@dataclass(frozen=True, kw_only=True)
class FileFacts:
    """What a file seems to hold, from its first rows.

    Attributes:
        columns: All columns, in the order of the file.
        text_columns: Those that can be tokenized.
        suggested: The one of them with the longest texts.
    """

    columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    suggested: str


def look(path: Path) -> FileFacts:
    """Columns of a file; reads its beginning only.

    Raises:
        DataError: It cannot be read, is empty, or has no column of text.
    """
    with _explained(path):
        columns, rows = _preview(path)
    if not rows:
        raise DataError(f"{path.name} has no row: nothing can be counted.")
    characters = {name: _mean_characters([row.get(name) for row in rows]) for name in columns}
    texts = {name: mean for name, mean in characters.items() if mean is not None}
    if not texts:
        raise DataError(f"{path.name} has no column of text; its columns are {', '.join(columns)}.")
    return FileFacts(
        columns=columns, text_columns=tuple(texts), suggested=max(texts, key=texts.__getitem__)
    )


def _mean_characters(values: Sequence[Any]) -> float | None:
    """Of the texts; None where there is something else, or only numbers."""
    texts = [value for value in values if value is not None]
    if not texts or not all(isinstance(text, str) for text in texts):
        return None
    if all(re.fullmatch(r"\s*[-+]?[\d.,]*\s*", text) for text in texts):
        return None
    return sum(map(len, texts)) / len(texts)


def read_chunks(path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
    """The texts of one or two columns; rows in which one is missing are left out and counted.

    Raises:
        DataError: The file cannot be read, a column is not there, or it holds something that is no
            text.
    """
    with _explained(path):
        yield from chunked(_reader(path)(path, tuple(columns)))


def chunked(rows: Iterator[Row]) -> Iterator[Chunk]:
    """Rows in chunks, without those that lack a text."""
    while part := list(itertools.islice(rows, CHUNK_ROWS)):
        texts = [found for found, _ in part if found is not None]
        yield Chunk(texts=texts, fraction=part[-1][1], left_out=len(part) - len(texts))


def split_files(folder: Path) -> dict[str, list[Path]]:
    """Data files of a folder by split, which is the name up to a suffix like `-00000-of-00002`.

    A folder `data` inside is looked into where the folder itself has no data file.

    Raises:
        DataError: There is no data file.
    """
    for place in (folder, folder / "data"):
        found: dict[str, list[Path]] = {}
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            if path.is_file() and path.suffix.lower() in SUFFIXES and path.name[0] != ".":
                found.setdefault(_SHARD.sub("", path.stem), []).append(path)
        if found:
            return found
    raise DataError(
        f"The folder {folder} has no file that ends in {', '.join(SUFFIXES)}: name one that has, or "
        "a file."
    )


# ---- formats ----


def _reader(path: Path) -> Callable[[Path, tuple[str, ...]], Iterator[Row]]:
    suffix = path.suffix.lower()
    if suffix in CSV_SUFFIXES:
        return _csv_rows
    if suffix in JSON_SUFFIXES:
        return _json_rows
    if suffix == ".parquet":
        return _parquet_rows
    raise DataError(f"{path.name}: only files that end in {', '.join(SUFFIXES)} can be read.")


def _preview(path: Path) -> tuple[tuple[str, ...], list[dict[str, Any]]]:
    """Columns and first rows, with values of any kind."""
    _reader(path)  # refuses other suffixes
    if path.suffix.lower() == ".parquet":
        file = pq.ParquetFile(path)
        batch = next(file.iter_batches(PREVIEW_ROWS), None)
        return tuple(file.schema_arrow.names), batch.to_pylist() if batch else []
    if path.suffix.lower() in JSON_SUFFIXES:
        objects = [o for _, o, _ in itertools.islice(_json_objects(path), PREVIEW_ROWS)]
        return tuple(dict.fromkeys(key for o in objects for key in o)), objects
    with _opened(path) as (file_of_text, _):
        lines = _csv_lines(path, file_of_text)
        header = tuple(next(lines, []))
        rows = [
            dict(zip(header, line, strict=True)) for line in itertools.islice(lines, PREVIEW_ROWS)
        ]
    return header, rows


def _csv_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    with _opened(path) as (text, fraction):
        lines = _csv_lines(path, text)
        header = next(lines, [])
        _require(path, columns, header)
        places = [header.index(name) for name in columns]
        for line in lines:
            yield tuple(line[place] for place in places), fraction()


def _csv_lines(path: Path, text: io.TextIOWrapper) -> Iterator[list[str]]:
    """The header, then every row, all of the header's width; empty lines are skipped."""
    first = text.readline()
    delimiter = "\t" if path.suffix.lower() == ".tsv" else max(",;\t", key=first.count)
    limit = csv.field_size_limit(MAX_FIELD_CHARACTERS)
    try:
        reader = csv.reader(itertools.chain([first], text), delimiter=delimiter, strict=True)
        width = 0
        for line in reader:
            width = width or len(line)
            if line and len(line) != width:
                raise DataError(
                    f"{path.name}, line {reader.line_num}: {len(line)} fields where the header has "
                    f"{width}; put texts that hold the separator {delimiter!r} in quotation marks."
                )
            if line:
                yield line
    except csv.Error as error:
        raise DataError(
            f"{path.name}, line {reader.line_num}: not a table with the separator {delimiter!r} "
            f"({error}); save it again as CSV, or as JSON lines."
        ) from error
    finally:
        csv.field_size_limit(limit)


def _json_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    for number, found, fraction in _json_objects(path):
        values = [found.get(name) for name in columns]
        for name, value in zip(columns, values, strict=True):
            if not isinstance(value, str | None):
                raise DataError(
                    f"{path.name}, row {number}: column {name!r} holds {_kind(value)}, not a text; "
                    "correct the row or choose another column."
                )
        if number == 1 and any(name not in found for name in columns):
            _require(path, columns, _preview(path)[0])
        yield tuple(values) if None not in values else None, fraction  # type: ignore[arg-type]


def _json_objects(path: Path) -> Iterator[tuple[int, dict[str, Any], float]]:
    """Every object with its number from 1 on and the fraction of the file read by then."""
    with _opened(path) as (text, fraction):
        is_list = text.read(1) == "[" and path.suffix.lower() == ".json"
        text.seek(0)
        rows: Any = json.load(text) if is_list else (line for line in text if line.strip())
        for number, row in enumerate(rows, start=1):
            try:
                found = row if is_list else json.loads(row)
            except (ValueError, RecursionError) as error:
                raise DataError(
                    f"{path.name}, row {number}: not JSON ({error}); each line must be one object."
                ) from error
            if not isinstance(found, dict):
                raise DataError(
                    f"{path.name}, row {number}: {_kind(found)} where an object with named columns is "
                    "wanted."
                )
            yield number, found, number / len(rows) if is_list else fraction()


def _parquet_rows(path: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    file = pq.ParquetFile(path)
    _require(path, columns, file.schema_arrow.names)
    yield from table_rows(
        file.iter_batches(CHUNK_ROWS, columns=list(columns)),
        columns,
        path.name,
        file.metadata.num_rows,
    )


def table_rows(
    batches: Iterator[pa.RecordBatch], columns: tuple[str, ...], name: str, total: int
) -> Iterator[Row]:
    """Rows of Arrow tables.

    Raises:
        DataError: A column holds something else than text.
    """
    done = 0
    for batch in batches:
        values = [
            _text_column(batch.column(column), f"{name}, column {column!r}") for column in columns
        ]
        for texts in zip(*values, strict=True):
            done += 1
            yield None if None in texts else texts, done / total


def _text_column(column: pa.Array, where: str) -> list[str | None]:
    kind = column.type.value_type if pa.types.is_dictionary(column.type) else column.type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind)):
        raise DataError(f"{where} holds {kind}, not text: choose another column.")
    values: list[str | None] = column.to_pylist()
    return values


# ---- shared ----


def _require(path: Path, columns: Sequence[str], present: Sequence[str]) -> None:
    for name in columns:
        if name not in present:
            raise DataError(
                f"{path.name} has no column {name!r}; it has {', '.join(present) or 'none'}."
            )
        if list(present).count(name) > 1:
            raise DataError(f"{path.name} has {name!r} twice as a column: rename one.")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[io.TextIOWrapper, Callable[[], float]]]:
    """The file as text, and a function that tells the fraction of it that has been read."""
    size = max(1, path.stat().st_size)
    with path.open("rb") as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        yield text, lambda: min(1.0, binary.tell() / size)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turns what libraries raise into a sentence about the file."""
    try:
        yield
    except UnicodeDecodeError as error:
        raise DataError(_encoding_problem(path)) from error
    except (pa.ArrowException, OSError, ValueError, RecursionError, MemoryError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path.name} cannot be read ({reason}): save it again.") from error


def _encoding_problem(path: Path) -> str:
    with path.open("rb") as file:
        if file.read(2) in _UTF_16:
            return f"{path.name} is UTF-16: save it as UTF-8 and try again."
        file.seek(0)
        number = next((n for n, line in enumerate(file, start=1) if not _is_utf8(line)), 0)
    where = f", line {number}" if number else ""
    return f"{path.name}{where}: not UTF-8; save the file as UTF-8 and try again."


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), "a text" if isinstance(value, str) else "nothing")
