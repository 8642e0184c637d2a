"""A file of texts to the same rows with predictions: streamed, resumable, whole or not at all.

Predictions of a chunk of rows are one small file in a folder beside the output, `OUT.partial`; a run
that was killed goes on behind the last of them. When all are there the source is read once more and the
output is written whole, its rows untouched and in their order. Memory does not depend on the file.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ltp_core.checkpoint import PrunedModel
from ltp_core.files import atomic_write, lock_file, write_json
from ltp_core.predicting.join import (
    OUTPUTS,
    changed_meanwhile,
    json_line,
    read_source,
    write_joined,
)
from ltp_core.predicting.scoring import Scorer
from ltp_core.records import UserError
from ltp_core.tasks.files import (
    CHUNK_ROWS,
    MAX_CHARACTERS,
    DataError,
    Row,
    check_text,
    is_missing,
    place_of,
    read_rows,
)
from ltp_core.tasks.own_texts import line_rows

DECIMALS = 6
"""Of a probability that is written."""
MAX_NAMED = 5
"""Rows without a text that are named."""

Report = Callable[[int, float | None], None]
"""Takes the rows that are done and the fraction of the source that has been read."""


@dataclass(kw_only=True)
class Counts:
    """What became of the rows.

    Attributes:
        rows: All of them.
        without_text: Rows whose text is missing or blank: they have no prediction.
        first_without_text: Numbers of the first few of those.
        cut: Texts that are longer than the model takes: only their beginning counts.
        resumed: Rows that an earlier run had finished.
        duration_s: Of this run.
    """

    rows: int = 0
    without_text: int = 0
    first_without_text: list[int] = field(default_factory=list)
    cut: int = 0
    resumed: int = 0
    duration_s: float = 0.0

    def add(self, other: Counts) -> None:
        """Takes in a further stretch of rows."""
        self.rows += other.rows
        self.without_text += other.without_text
        self.first_without_text += other.first_without_text
        del self.first_without_text[MAX_NAMED:]
        self.cut += other.cut


@dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some consecutive rows.

    Attributes:
        rows: With their other columns.
        numbers: Their places in the source.
        texts: Of each row one or two; None, or blank, where there is none.
        fraction: Of the source, read so far.
    """

    rows: list[Mapping[str, Any]]
    numbers: list[int]
    texts: list[tuple[str | None, ...]]
    fraction: float | None


Predicted = tuple[Chunk, pa.Table, Counts]
"""Rows, the new columns, and what became of the rows."""
Engine = Callable[[Iterable[Chunk], str], Iterator[Predicted]]
"""What predicts chunks, in their order; the second argument begins the names of the new columns."""


def in_this_process(scorer: Scorer) -> Engine:
    """One chunk after another, each when it is asked for."""

    def predicted(chunks: Iterable[Chunk], prefix: str) -> Iterator[Predicted]:
        for chunk in chunks:
            yield chunk, *predict_texts(scorer, chunk.texts, chunk.numbers, prefix)

    return predicted


def predict_file(
    scorer: Scorer,
    source: Path,
    columns: Sequence[str],
    out: Path,
    *,
    prefix: str = "predicted_",
    settings: Mapping[str, Any] | None = None,
    chunk_rows: int = CHUNK_ROWS,
    engine: Engine | None = None,
    report: Report = lambda rows, fraction: None,
    notice: Callable[[str], None] = lambda sentence: None,
) -> Counts:
    """Writes every row of a file with its prediction; goes on where an earlier run was killed.

    The new columns are `label` and `probability_NAME` of each label behind the prefix; of independent
    labels `labels`, a list; of a model that gives a number `value`, of several `value_1` and on. A row
    without a text gets none of them.

    Args:
        scorer: The checkpoint.
        source: CSV, TSV, JSON lines, Parquet, or `.txt` with a text a line.
        columns: Columns with the text, or with the two of a pair; empty for `.txt`.
        out: File to write, in the format of its suffix.
        prefix: Beginning of the names of the new columns.
        settings: What else an unfinished run must have in common with this one, as JSON values.
        chunk_rows: Rows of a chunk at most; no result depends on it.
        engine: What predicts; None takes the scorer, here.
        report: Called after each chunk.
        notice: Takes a sentence when an unfinished run cannot be gone on with.

    Raises:
        UserError: The source or a text cannot be used, a new column is there already, another process
            writes the same file, or the disk is full.
    """
    _check_output(out, source)
    began = time.perf_counter()
    folder = out.with_name(f"{out.name}.partial")
    names = new_columns(scorer.model, prefix)
    options: dict[str, Any] = {"prefix": prefix, **(settings or {})}
    first = itertools.islice(read_source(source), 1)
    _check_names(source.name, names, [row for _, row, _ in first])
    with lock_file(folder / ".lock", f"{out} is being written"):
        try:
            plan = _plan(scorer.model, source, columns, options)
            counts = _finished(folder, plan, notice)
            rows = read_rows(source, columns) if columns else line_rows(source)
            rows = itertools.islice(rows, counts.resumed, None)
            number = len(_parts(folder))
            chunks = _chunks(rows, columns, chunk_rows, place_of(source), names)
            for chunk, table, found in (engine or in_this_process(scorer))(chunks, prefix):
                content, metadata = io.BytesIO(), {"counts": json.dumps(asdict(found))}
                pq.write_table(table.replace_schema_metadata(metadata), content)
                atomic_write(folder / f"{number:06}.parquet", content.getvalue())
                counts.add(found)
                number += 1
                report(counts.rows, chunk.fraction)
            if not counts.rows:
                raise DataError(f"{source.name} has no row: there is nothing to predict.")
            if _plan(scorer.model, source, columns, options) != plan:
                raise changed_meanwhile(source)
            write_joined(out, source, _parts(folder))
            is_needed = False
        except BaseException:
            is_needed = bool(_parts(folder))
            raise
        finally:
            if not is_needed:
                shutil.rmtree(folder, ignore_errors=True)
    counts.duration_s = time.perf_counter() - began
    return counts


def predict_stream(
    scorer: Scorer,
    rows: Iterable[Row],
    columns: Sequence[str],
    stream: TextIO,
    *,
    place: str,
    prefix: str = "predicted_",
    chunk_rows: int = CHUNK_ROWS,
    engine: Engine | None = None,
    report: Report = lambda rows, fraction: None,
) -> Counts:
    """Writes rows with their predictions as JSON lines while they come; the rest as `predict_file`.

    Args:
        scorer: The checkpoint.
        rows: What is read.
        columns: Columns with the text, or with the two of a pair.
        stream: Where to.
        place: Beginning of a sentence about a row; its number follows.
        prefix: Beginning of the names of the new columns.
        chunk_rows: Rows that are predicted, and written, together.
        engine: What predicts; None takes the scorer, here.
        report: Called after each chunk.
    """
    began, counts = time.perf_counter(), Counts()
    names = new_columns(scorer.model, prefix)
    chunks = _chunks(rows, columns, chunk_rows, place, names)
    for chunk, table, found in (engine or in_this_process(scorer))(chunks, prefix):
        for row, predicted in zip(chunk.rows, table.to_pylist(), strict=True):
            stream.write(json_line({**row, **predicted}))
        stream.flush()
        counts.add(found)
        report(counts.rows, chunk.fraction)
    if not counts.rows:
        raise DataError(f"{place.partition(',')[0]} has no row: there is nothing to predict.")
    counts.duration_s = time.perf_counter() - began
    return counts


def stream_lines(binary: BinaryIO) -> Iterator[str]:
    """Lines of standard input as UTF-8, whatever the locale; no more of one is held than is allowed.

    Raises:
        DataError: A line is not UTF-8, or longer than `MAX_CHARACTERS`.
    """
    for number in itertools.count(1):
        # No character has more than four bytes.
        raw = binary.readline(4 * MAX_CHARACTERS + 1)
        if not raw:
            return
        try:
            line = "" if len(raw) > 4 * MAX_CHARACTERS else raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise DataError(
                f"Standard input, line {number}: it is not UTF-8: convert it, as with iconv."
            ) from error
        if not line or len(line) > MAX_CHARACTERS:
            raise DataError(
                f"Standard input, line {number}: a line has at most {MAX_CHARACTERS:,} characters, and "
                "this is longer: divide it."
            )
        yield line.removeprefix("\ufeff") if number == 1 else line


def stream_rows(lines: Iterable[str], columns: Sequence[str]) -> Iterator[Row]:
    """Rows of standard input: JSON lines where columns are named, else a text a line.

    Raises:
        DataError: A line is no JSON object or lacks a column.
    """
    for number, line in enumerate(lines, start=1):
        row: Any = {"text": line.strip() or None}
        if columns:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            if not isinstance(row, dict):
                raise DataError(
                    f"Standard input, line {number}: not a JSON object; with --text each line must "
                    "be one, without it each line is a text."
                )
            if missing := [name for name in columns if name not in row]:
                raise DataError(
                    f"Standard input, line {number}: there is no {missing[0]!r}; there are "
                    f"{', '.join(row)}."
                )
        yield number, row, 0.0


def new_columns(model: PrunedModel, prefix: str) -> list[str]:
    """Names of the columns that a prediction adds."""
    if not model.label_names:
        outputs = model.encoder.config.num_labels
        return (
            [f"{prefix}value"]
            if outputs == 1
            else [f"{prefix}value_{i}" for i in range(1, outputs + 1)]
        )
    label = "labels" if model.is_multi_label else "label"
    return [prefix + label, *(f"{prefix}probability_{name}" for name in model.label_names)]


def predict_texts(
    scorer: Scorer,
    texts: list[tuple[Any, ...]],
    numbers: Sequence[int],
    prefix: str,
) -> tuple[pa.Table, Counts]:
    """The new columns of the rows with these texts and numbers, and what became of the rows.

    They are null where there is no text.
    """
    has_text = [not any(is_missing(t) or not t.strip() for t in text) for text in texts]
    chosen = np.flatnonzero(has_text)
    absent = [number for number, has in zip(numbers, has_text, strict=True) if not has]
    counts = Counts(
        rows=len(texts), without_text=len(absent), first_without_text=absent[:MAX_NAMED]
    )
    values: list[list[Any]] = [[None] * len(texts) for _ in new_columns(scorer.model, prefix)]
    if len(chosen):
        scores = scorer([texts[i] for i in chosen])
        counts.cut = int(np.count_nonzero(scores.num_cut))
        for column, found in zip(values, _values(scorer.model, scores.logits), strict=True):
            for i, value in zip(chosen, found, strict=True):
                column[i] = value
    kinds = [pa.float64()] * len(values)
    if scorer.model.label_names:
        kinds[0] = pa.list_(pa.string()) if scorer.model.is_multi_label else pa.string()
    arrays = [pa.array(column, kind) for column, kind in zip(values, kinds, strict=True)]
    return pa.table(arrays, names=new_columns(scorer.model, prefix)), counts


def _values(model: PrunedModel, logits: np.ndarray) -> list[list[Any]]:
    """What stands in each new column."""
    found = model.probabilities(logits)
    if found is None:
        return [[float(f"{value:.7g}") for value in column] for column in logits.T]
    labels = model.labels_of(found)
    first: list[Any] = [list(names) for names in labels]
    if not model.is_multi_label:
        first = [names[0] for names in labels]
    return [first, *np.round(found, DECIMALS).T.tolist()]


# ---- rows ----


def _chunks(
    rows: Iterable[Row],
    columns: Sequence[str],
    chunk_rows: int,
    place: str,
    names: Sequence[str],
) -> Iterator[Chunk]:
    """Rows in chunks of bounded size; their texts are texts, or missing.

    Raises:
        DataError: A column holds something that is no text.
        UserError: A row has a column of one of these names already.
    """
    source = place.partition(",")[0]
    found: list[Mapping[str, Any]] = []
    numbers: list[int] = []
    texts: list[tuple[str | None, ...]] = []
    characters, fraction = 0, None
    for number, row, fraction in rows:
        text = {name: row.get(name) for name in columns or ("text",)}
        for name, value in text.items():
            if not is_missing(value):
                characters += check_text(value, f"{place} {number}: column {name!r}")
        found.append(row)
        numbers.append(number)
        texts.append(tuple(text.values()))
        if len(found) == chunk_rows or characters >= MAX_CHARACTERS:
            _check_names(source, names, found)
            yield Chunk(rows=found, numbers=numbers, texts=texts, fraction=fraction)
            found, numbers, texts, characters = [], [], [], 0
    if found:
        _check_names(source, names, found)
        yield Chunk(rows=found, numbers=numbers, texts=texts, fraction=fraction)


def _check_names(source: str, names: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    """Refuses names that would stand for two columns."""
    twice = [name for i, name in enumerate(names) if name in names[:i]]
    if twice:
        raise UserError(f"Two labels would be written as {twice[0]!r}: give them different names.")
    for name in names:
        if any(name in row for row in rows):
            raise UserError(
                f"{source} has a column {name!r} already: choose another beginning of the new columns "
                "with --prefix."
            )


# ---- an unfinished run ----


def _check_output(out: Path, source: Path) -> None:
    if out.suffix.lower() not in OUTPUTS:
        raise UserError(f"{out.name}: only files that end in {', '.join(OUTPUTS)} are written.")
    with contextlib.suppress(OSError):
        if out.samefile(source):
            raise UserError(f"{out} is what is read: name another file to write.")


def _plan(
    model: PrunedModel, source: Path, columns: Sequence[str], options: Mapping[str, Any]
) -> dict[str, Any]:
    """What the parts of a run have in common."""
    about = source.stat()
    return {
        "source": {"name": source.name, "bytes": about.st_size, "changed_ns": about.st_mtime_ns},
        "columns": list(columns),
        "checkpoint": {
            "weights_sha256": model.weights_sha256,
            "method": json.loads(json.dumps(model.method.state_json())),
            "label_names": list(model.label_names),
            "max_length": model.max_length,
        },
        **options,
    }


def _parts(folder: Path) -> list[Path]:
    """Files of the finished chunks, in order, up to the first that is missing."""
    numbered = (folder / f"{i:06}.parquet" for i in itertools.count())
    return list(itertools.takewhile(Path.is_file, numbered))


def _finished(folder: Path, plan: Mapping[str, Any], notice: Callable[[str], None]) -> Counts:
    """What an earlier run of the same plan finished; the parts of another plan are deleted."""
    counts = Counts()
    path = folder / "plan.json"
    try:
        earlier = json.loads(path.read_bytes())
        changed = [key for key in plan if earlier.get(key) != plan[key]]
        for part in [] if changed else _parts(folder):
            metadata = pq.read_schema(part).metadata
            counts.add(Counts(**json.loads(metadata[b"counts"])))
    except FileNotFoundError:
        changed = []
    except (OSError, ValueError, KeyError, TypeError, AttributeError, pa.ArrowException):
        changed, counts = ["record"], Counts()
    if changed:
        notice(f"{folder} is of another run ({', '.join(changed)} changed): this one begins anew.")
        for part in folder.glob("*.parquet"):
            part.unlink()
    counts.resumed = counts.rows
    write_json(path, plan)
    return counts
