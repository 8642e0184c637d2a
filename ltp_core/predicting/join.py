"""Rows of a file with further columns beside them, as CSV, TSV, JSON lines or Parquet.

The rows stay as they are, in their order: Parquet keeps its types, CSV is text, JSON its values.
"""

from __future__ import annotations

import contextlib
import csv
import datetime
import io
import itertools
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from ltp_core.files import atomic_file
from ltp_core.tasks.files import (
    CHUNK_ROWS,
    JSON_SUFFIXES,
    LINES,
    DataError,
    Row,
    place_of,
    read_rows,
)
from ltp_core.tasks.own_texts import line_rows

OUTPUTS = (".csv", ".tsv", ".jsonl", ".parquet")


def write_joined(out: Path, source: Path, parts: Sequence[Path]) -> None:
    """Writes the rows of a source with those of other tables beside them, whole or not at all.

    Args:
        out: File to write; its suffix, one of `OUTPUTS`, says the format.
        source: A file that `read_rows` reads, or `.txt` with a text a line.
        parts: Parquet files whose rows, one after another, belong to those of the source.

    Raises:
        UserError: The source cannot be read or has more rows or fewer by now, the format cannot hold a
            value, or the disk is full.
    """
    with atomic_file(out) as file:
        if out.suffix.lower() == ".parquet":
            _write_parquet(file, source, parts)
            return
        added = (row for part in parts for row in pq.read_table(part).to_pylist())
        joined = _beside(source, added)
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        if out.suffix.lower() == ".jsonl":
            text.writelines(map(json_line, joined))
        else:
            header = [*_source_columns(source), *pq.read_schema(parts[0]).names]
            _write_csv(text, header, joined, out, place_of(source))
        text.flush()
        text.detach()


def changed_meanwhile(source: Path) -> DataError:
    """For a source whose rows are not those any more that were predicted."""
    return DataError(f"{source.name} changed meanwhile: run the same command again.")


def _beside(source: Path, added: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for row, more in itertools.zip_longest(_all_rows(source), added):
        if row is None or more is None:
            raise changed_meanwhile(source)
        yield {**row, **more}


def _write_csv(
    text: io.TextIOWrapper,
    header: Sequence[str],
    rows: Iterable[Mapping[str, Any]],
    out: Path,
    place: str,
) -> None:
    delimiter = "\t" if out.suffix.lower() == ".tsv" else ","
    writer = csv.writer(text, delimiter=delimiter, lineterminator="\n")
    writer.writerow(header)
    for number, row in enumerate(rows, start=1):
        try:
            writer.writerow([_cell(row.get(name)) for name in header])
        except UnicodeEncodeError as error:
            raise DataError(f"{place} {number} is not valid Unicode: correct it.") from error


def read_source(source: Path) -> Iterator[Row]:
    """Every row with every column.

    Raises:
        DataError: The file cannot be read, or two columns have one name.
    """
    is_lines = source.suffix.lower() == LINES
    return line_rows(source) if is_lines else read_rows(source, keeps_all=True)


def _all_rows(source: Path) -> Iterator[Mapping[str, Any]]:
    return (row for _, row, _ in read_source(source))


def _source_columns(source: Path) -> list[str]:
    """Columns of all rows, in the order in which they first occur."""
    if source.suffix.lower() == ".parquet":
        return list(pq.read_schema(source).names)
    rows = _all_rows(source)
    if source.suffix.lower() not in JSON_SUFFIXES:
        rows = itertools.islice(rows, 1)  # all have those of the header
    return list(dict.fromkeys(name for row in rows for name in row))


def json_line(row: Mapping[str, Any]) -> str:
    """A row as JSON with a line break: NaN is null, dates are in ISO's form, the rest is text.

    Raises:
        DataError: It holds bytes.
    """
    try:
        line = json.dumps(row, ensure_ascii=False, allow_nan=False, default=_plain)
        line.encode()
    except UnicodeEncodeError:  # half a surrogate pair: it can stand as an escape only
        line = json.dumps(row, allow_nan=False, default=_plain)
    except ValueError:  # JSON has no NaN
        return json_line({name: _without_nan(value) for name, value in row.items()})
    return line + "\n"


def _without_nan(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {name: _without_nan(each) for name, each in value.items()}
    return [_without_nan(each) for each in value] if isinstance(value, list) else value


def _plain(value: Any) -> Any:
    """What JSON has no type for, as text."""
    if isinstance(value, bytes):
        raise DataError("A column holds bytes, which only Parquet can: write a .parquet file.")
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool | list | dict):
        return json_line({"": value}).removeprefix('{"": ').removesuffix("}\n")
    return value if isinstance(value, str) else str(_plain(value))


def _write_parquet(file: BinaryIO, source: Path, parts: Sequence[Path]) -> None:
    tables = _tables(source)
    waiting = next(tables, pa.table({}))
    with contextlib.ExitStack() as open_files:
        writer: pq.ParquetWriter | None = None
        for part in parts:
            predicted = pq.read_table(part)
            size = predicted.num_rows
            while waiting.num_rows < size:
                if (more := next(tables, None)) is None:
                    raise changed_meanwhile(source)
                waiting = pa.concat_tables([waiting, more])
            table, waiting = waiting.slice(0, size), waiting.slice(size)
            metadata = table.schema.metadata
            for name in predicted.column_names:
                table = table.append_column(name, predicted.column(name))
            table = table.replace_schema_metadata(metadata)
            if writer is None:
                writer = open_files.enter_context(pq.ParquetWriter(file, table.schema))
            writer.write_table(table)
        if waiting.num_rows or next(tables, None) is not None:
            raise changed_meanwhile(source)


def _tables(source: Path) -> Iterator[pa.Table]:
    """The source with Arrow's types: its own in Parquet, texts in CSV, what fits all rows in JSON."""
    if source.suffix.lower() == ".parquet":
        for batch in pq.ParquetFile(source).iter_batches(CHUNK_ROWS):
            yield pa.Table.from_batches([batch])
        return
    schema = _schema(source)
    for rows in _batched(_all_rows(source)):
        columns = [
            pa.array(
                [_as_text(row.get(name)) for row in rows]
                if is_text
                else [row.get(name) for row in rows],
                kind,
            )
            for name, (kind, is_text) in schema.items()
        ]
        yield pa.table(columns, names=list(schema))


def _schema(source: Path) -> dict[str, tuple[pa.DataType, bool]]:
    """Type of each column, and whether what is no text has to be written as JSON there."""
    if source.suffix.lower() not in JSON_SUFFIXES:
        return {name: (pa.string(), False) for name in _source_columns(source)}
    kinds: dict[str, pa.DataType | None] = {}
    for rows in _batched(_all_rows(source)):
        for name in dict.fromkeys(name for row in rows for name in row):
            before = kinds.get(name, pa.null())
            try:
                kind = pa.array([row.get(name) for row in rows]).type
                fields = [pa.schema([(name, k)]) for k in (before, kind)]
                kinds[name] = pa.unify_schemas(fields, promote_options="permissive").field(0).type
            except (pa.ArrowException, TypeError, ValueError):
                kinds[name] = None  # of several kinds
    return {name: (kind or pa.string(), kind is None) for name, kind in kinds.items()}


def _batched(rows: Iterator[Mapping[str, Any]]) -> Iterator[list[Mapping[str, Any]]]:
    return iter(lambda: list(itertools.islice(rows, CHUNK_ROWS)), [])


def _as_text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else _cell(value)
