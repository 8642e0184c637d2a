"""Rows of a user's own files: CSV, TSV, JSON lines, Parquet; read in chunks, and never as code.

Every problem is one sentence that names the place and says what to do. No more than
`MAX_CHARACTERS` of one line or text are ever held, so memory does not depend on the file.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import io
import itertools
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ltp_core.records import UserError, first_line

JSON_SUFFIXES = (".jsonl", ".ndjson", ".json")
SUFFIXES = (".csv", ".tsv", *JSON_SUFFIXES, ".parquet")
LINES = ".txt"
"""A text a line, without columns; `own_texts.line_rows` reads it."""

CHUNK_ROWS = 4_096
PREVIEW_ROWS = 200
MAX_CHARACTERS = 4_000_000
"""Of one line of a file, and of one text; a tokenizer needs about 70 bytes for each character."""
MAX_LIST_BYTES = 128 * 2**20
"""Of a JSON file that is one list: it cannot be read in parts."""

_SHARD = re.compile(r"-\d+-of-\d+$")
_SEPARATOR_LINE = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)
_NUMBER = re.compile(r"\s*[-+]?[\d.,]*\s*")

Texts = tuple[str, ...]
Row = tuple[int, Mapping[str, Any], float]
"""Its number, its values by column, and the fraction of the file that has been read with it.

The number is that of its line in CSV and TSV (the first of them), else that of the row, from 1.
"""


class DataError(UserError):
    """A data set is absent or its files cannot be used; the message says what to do."""


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some consecutive inputs.

    Attributes:
        texts: One or two strings an input.
        fraction: Of the whole source that has been read with this chunk; None where that is unknown.
        left_out: Rows of this stretch of the source that have no text.
    """

    texts: Sequence[Texts]
    fraction: float | None = None
    left_out: int = 0


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
    """Columns of a file, from its first rows; columns that are empty there are followed further.

    Raises:
        DataError: It cannot be read, is empty, or has no column of text.
    """
    rows = read_rows(path)
    values: dict[str, list[Any]] = {}
    for _, row, _ in itertools.islice(rows, PREVIEW_ROWS):
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    if not values:
        raise DataError(f"{path.name} has no row: nothing can be read from it.")
    # A column may begin with any number of rows that have nothing in it.
    unknown = {name for name, found in values.items() if all(map(is_missing, found))}
    for _, row, _ in rows if unknown else ():
        for name in [name for name in unknown if not is_missing(row.get(name))]:
            values[name].append(row[name])
            unknown.remove(name)
        if not unknown:
            break
    characters = {name: _mean_characters(found) for name, found in values.items()}
    texts = {name: mean for name, mean in characters.items() if mean is not None}
    if not texts:
        raise DataError(f"{path.name} has no column of text; its columns are {', '.join(values)}.")
    return FileFacts(
        columns=tuple(values),
        text_columns=tuple(texts),
        suggested=max(texts, key=texts.__getitem__),
    )


def _mean_characters(values: Sequence[Any]) -> float | None:
    """Of the texts; None where most values are something else, or all are numbers."""
    present = [value for value in values if not is_missing(value)]
    texts = [value for value in present if isinstance(value, str)]
    if 2 * len(texts) <= len(present) or all(_NUMBER.fullmatch(text) for text in texts):
        return None
    return sum(map(len, texts)) / len(texts)


def is_missing(value: Any) -> bool:
    """Whether a cell holds nothing: null, or not a number."""
    return value is None or (isinstance(value, float) and value != value)


def read_chunks(path: Path, columns: Sequence[str]) -> Iterator[Chunk]:
    """The texts of one or two columns; rows in which one is missing are left out and counted.

    Raises:
        DataError: The file cannot be read, a column is not there, or it holds something that is no
            text.
    """
    yield from text_chunks(read_rows(path, columns), columns, place_of(path))


def place_of(path: Path) -> str:
    """Beginning of a sentence about a row of a file; its number follows."""
    return f"{path.name}, {'line' if path.suffix.lower() in ('.csv', '.tsv', LINES) else 'row'}"


def text_chunks(rows: Iterable[Row], columns: Sequence[str], place: str) -> Iterator[Chunk]:
    """Rows in chunks of bounded size, without those that lack a text.

    Args:
        rows: What is read.
        columns: One or two columns that hold the texts.
        place: Beginning of a sentence about a row; its number follows.

    Raises:
        DataError: A column holds something that is no text.
    """
    texts: list[Texts] = []
    left_out = characters = 0
    fraction = 0.0
    for number, row, fraction in rows:
        values: tuple[Any, ...] = tuple(row.get(name) for name in columns)
        if any(map(is_missing, values)):
            left_out += 1
        else:
            characters += sum(
                check_text(value, f"{place} {number}: column {name!r}")
                for name, value in zip(columns, values, strict=True)
            )
            texts.append(values)
        if len(texts) + left_out == CHUNK_ROWS or characters >= MAX_CHARACTERS:
            yield Chunk(texts=texts, fraction=fraction, left_out=left_out)
            texts, left_out, characters = [], 0, 0
    if texts or left_out:
        yield Chunk(texts=texts, fraction=fraction, left_out=left_out)


def check_text(value: Any, place: str) -> int:
    """The number of characters of a text.

    Raises:
        DataError: It is no text, too long, or not valid Unicode.
    """
    if not isinstance(value, str):
        raise DataError(
            f"{place} holds {_kind(value)}, not a text; correct the row or choose another column."
        )
    if len(value) > MAX_CHARACTERS:
        raise DataError(f"{place}: {_too_long('a text')}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{place} is not valid Unicode: save it as UTF-8.") from error
    return len(value)


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


def read_rows(path: Path, columns: Sequence[str] = (), *, keeps_all: bool = False) -> Iterator[Row]:
    """The rows of a file.

    Args:
        path: The file; its suffix says the format.
        columns: What has to be there; Parquet reads only these. Empty takes all.
        keeps_all: Every column is wanted, so that none may be there twice.

    Raises:
        DataError: The file cannot be read, or a column is not there or there twice.
    """
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise DataError(f"{path.name}: only files that end in {', '.join(SUFFIXES)} can be read.")
    try:
        if suffix == ".parquet":
            file = pq.ParquetFile(path)
            names = file.schema_arrow.names
            require_columns(path.name, [*columns, *(names if keeps_all else ())], names)
            chosen = None if keeps_all else list(columns) or None
            batches = file.iter_batches(CHUNK_ROWS, columns=chosen)
            yield from table_rows(batches, file.metadata.num_rows)
        elif suffix in JSON_SUFFIXES:
            rows = _json_rows(path)
            first = list(itertools.islice(rows, PREVIEW_ROWS))
            if first:
                require_columns(
                    path.name, columns, list(dict.fromkeys(n for _, o, _ in first for n in o))
                )
            yield from itertools.chain(first, rows)
        else:
            yield from _csv_rows(path, columns, keeps_all=keeps_all)
    except UnicodeDecodeError as error:
        raise DataError(encoding_problem(path)) from error
    except (pa.ArrowException, OSError, ValueError, RecursionError, MemoryError) as error:
        reason = first_line(error)
        raise DataError(f"{path.name} cannot be read ({reason}): save it again.") from error


def table_rows(batches: Iterable[pa.RecordBatch], total: int) -> Iterator[Row]:
    """Rows of Arrow tables."""
    number = 0
    for batch in batches:
        for row in batch.to_pylist():
            number += 1
            yield number, row, number / total


def read_lines(path: Path) -> Iterator[tuple[str, float]]:
    """Lines of a file of text with their ends, and the fraction of the file that has been read.

    Raises:
        DataError: A line is longer than `MAX_CHARACTERS`.
        UnicodeDecodeError: The file is not UTF-8.
        OSError: It cannot be read.
    """
    size = max(1, path.stat().st_size)
    with path.open("rb") as binary:
        text = io.TextIOWrapper(binary, encoding="utf-8-sig", newline="")
        for number in itertools.count(1):
            line = text.readline(MAX_CHARACTERS + 1)
            if not line:
                return
            if len(line) > MAX_CHARACTERS:
                raise DataError(f"{path.name}, line {number}: {_too_long('a line')}")
            yield line, min(1.0, binary.tell() / size)


def _too_long(what: str) -> str:
    return f"{what} has at most {MAX_CHARACTERS:,} characters, and this is longer: divide it."


def _csv_rows(path: Path, columns: Sequence[str], *, keeps_all: bool) -> Iterator[Row]:
    """Every row by the names of the header; all have the header's width, empty lines are skipped."""
    delimiter, has_quotes, begin = _dialect(path)
    fraction = 0.0

    def lines() -> Iterator[str]:
        nonlocal fraction
        for line, read in itertools.islice(read_lines(path), begin, None):
            fraction = read
            yield line

    csv.field_size_limit(MAX_CHARACTERS)
    reader = csv.reader(
        lines(),
        delimiter=delimiter,
        strict=True,
        quoting=csv.QUOTE_MINIMAL if has_quotes else csv.QUOTE_NONE,
    )
    header: list[str] | None = None
    while True:
        number = begin + reader.line_num + 1
        try:
            values = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{path.name}, line {number}: the row that begins here is not one of a table with the "
                f"separator {delimiter!r} ({error}); correct its quotation marks."
            ) from error
        if values is None:
            return
        if not values:
            continue
        if not has_quotes:
            values = [_unquoted(value) for value in values]
        if header is None:
            header = values
            require_columns(path.name, [*columns, *(header if keeps_all else ())], header)
            continue
        if len(values) != len(header):
            raise DataError(
                f"{path.name}, line {number}: {len(values)} fields where the header has "
                f"{len(header)}; put texts that hold the separator {delimiter!r} in quotation marks."
            )
        yield number, dict(zip(header, values, strict=True)), fraction


def _dialect(path: Path) -> tuple[str, bool, int]:
    """Separator, whether quotation marks hold texts together, and lines before the header."""
    if path.suffix.lower() == ".tsv":
        # Where every line has the same number of fields, a row is a line, and a quotation mark that
        # stands in a text is a part of it.
        widths = {line.count("\t") for line, _ in read_lines(path) if line.strip("\r\n")}
        return "\t", len(widths) != 1 or widths == {0}, 0
    head = [line for line, _ in itertools.islice(read_lines(path), PREVIEW_ROWS)]
    if head and (named := _SEPARATOR_LINE.fullmatch(head[0])):  # as Excel writes it
        return named[1], True, 1
    # The separator is what gives all rows the same width; else what the header has most of.
    outside_quotes = re.sub(r'"[^"]*"', "", head[0] if head else "")
    fitting = {}
    for delimiter in ",;\t":
        rows = [row for row in csv.reader(head, delimiter=delimiter) if row]
        rows = rows[:-1] if len(head) == PREVIEW_ROWS else rows  # perhaps only a part of a row
        widths = {len(row) for row in rows}
        if len(widths) == 1 and widths != {1}:
            fitting[delimiter] = widths.pop()
    chosen = max(fitting or ",;\t", key=lambda d: (fitting.get(d, 0), outside_quotes.count(d)))
    return chosen, True, 0


def _unquoted(value: str) -> str:
    inner = value[1:-1].replace('""', "")
    is_quoted = len(value) > 1 and value[0] == value[-1] == '"' and '"' not in inner
    return value[1:-1].replace('""', '"') if is_quoted else value


def _json_rows(path: Path) -> Iterator[Row]:
    """Every object; a file `.json` may also be one list of them."""
    with path.open("rb") as file:
        begin = file.read(1_000).removeprefix(codecs.BOM_UTF8).lstrip()
    rows: Iterable[tuple[Any, float]]
    is_list = path.suffix.lower() == ".json" and begin.startswith(b"[")
    if is_list:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise DataError(
                f"{path.name}: a JSON list of more than {MAX_LIST_BYTES // 2**20} MiB cannot be read "
                "in parts: save it as JSON lines."
            )
        found = json.loads(path.read_bytes().decode("utf-8-sig"))
        rows = ((value, (i + 1) / len(found)) for i, value in enumerate(found))
    else:
        rows = ((line, fraction) for line, fraction in read_lines(path) if line.strip())
    for number, (value, fraction) in enumerate(rows, start=1):
        try:
            row = value if is_list else json.loads(value)
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path.name}, row {number}: not JSON ({error}); each line must be one object."
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                f"{path.name}, row {number}: {_kind(row)} where an object with named columns is "
                "wanted."
            )
        yield number, row, fraction


def require_columns(name: str, columns: Sequence[str], present: Sequence[str]) -> None:
    """Refuses data that lack a column, or have it twice.

    Raises:
        DataError: They do.
    """
    for column in columns:
        if column not in present:
            raise DataError(
                f"{name} has no column {column!r}; it has {', '.join(present) or 'none'}."
            )
        if list(present).count(column) > 1:
            raise DataError(f"{name} has {column!r} twice as a column: rename one.")


def file_digest(path: Path) -> bytes:
    """SHA-256 of a file's content.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from error


def encoding_problem(path: Path) -> str:
    """Why a file of text is not UTF-8, in a sentence."""
    with path.open("rb") as file:
        if file.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return f"{path.name} is UTF-16: save it as UTF-8 and try again."
        file.seek(0)
        decoder, number = codecs.getincrementaldecoder("utf-8")(), 1
        try:
            while line := file.readline(MAX_CHARACTERS):
                decoder.decode(line)
                number += line.endswith(b"\n")
        except UnicodeDecodeError:
            pass
    return f"{path.name}, line {number}: not UTF-8; save the file as UTF-8 and try again."


def _kind(value: Any) -> str:
    names = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "a text",
        list: "a list",
        dict: "an object",
    }
    return names.get(type(value), f"a value of type {type(value).__name__}")
