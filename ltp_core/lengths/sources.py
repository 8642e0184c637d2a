"""From what a user names to length counts: a task, a file, a folder, a data set of the hub."""

from __future__ import annotations

import csv
import datetime
import hashlib
import io
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ltp_core import environment
from ltp_core.lengths.counts import (
    PUBLISHED_ROWS,
    LengthCounts,
    LengthSet,
    SplitLengths,
    TokenizerFacts,
    list_sets,
    own_key,
    own_prefix,
)
from ltp_core.records import UserError, first_line
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.files import (
    CHUNK_ROWS,
    LINES,
    Chunk,
    DataError,
    file_digest,
    read_chunks,
    require_columns,
    split_files,
    table_rows,
    text_chunks,
)
from ltp_core.tasks.loading import load_rows
from ltp_core.tasks.own_texts import line_rows

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_LENGTH = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
FILE_SPLIT = "all"
"""Name of the one split of a single file."""

Report = Callable[[str, int, float | None], None]
"""Takes the split, the inputs counted so far, and the fraction of the split that has been read."""


# ---- stored counts ----


def find_task_set(stores: Iterable[Path], task: str, tokenizer: TokenizerFacts) -> LengthSet | None:
    """A task's stored counts with this tokenizer; None where it has not been counted."""
    for entry in list_sets(stores):
        found = entry.counts
        if found and found.is_task and found.name == task and found.tokenizer.is_same(tokenizer):
            return found
    return None


# ---- counting ----


def count_lengths(
    tokenizer: Tokenizer,
    chunks: Iterable[Chunk],
    *,
    source: str,
    published_rows: int | None = None,
    on_progress: Callable[[int, float | None], None] = lambda rows, fraction: None,
) -> SplitLengths:
    """Lengths in tokens, special tokens included, nothing cut off.

    Args:
        tokenizer: A fast tokenizer with padding and truncation switched off.
        chunks: The inputs.
        source: Where they come from.
        published_rows: Rows of the published split of that name.
        on_progress: Called after each chunk with the inputs counted and the fraction read.

    Raises:
        UserError: There is no input, or a text is not valid Unicode.
    """
    digest, found, left_out = hashlib.sha256(), Counter[int](), 0
    for chunk in chunks:
        inputs = [text[0] if len(text) == 1 else text for text in chunk.texts]
        try:
            found.update(len(encoding) for encoding in tokenizer.encode_batch_fast(inputs))
        except (TypeError, UnicodeEncodeError) as error:
            first, last = found.total() + 1, found.total() + len(inputs)
            raise UserError(
                f"One of the texts {first:,} to {last:,} is not valid Unicode: save the file as UTF-8 "
                "and try again."
            ) from error
        left_out += chunk.left_out
        for texts in chunk.texts:
            for text in texts:
                encoded = text.encode()
                digest.update(len(encoded).to_bytes(8, "big") + encoded)
        on_progress(found.total(), chunk.fraction)
    if not found:
        raise UserError(f"{source} holds no text: nothing can be counted.")
    return SplitLengths(
        counts=LengthCounts.tallied(found),
        source=source,
        sha256=digest.hexdigest(),
        published_rows=published_rows,
        left_out=left_out,
    )


def count_task(
    task: str,
    tokenizer: Tokenizer,
    facts: TokenizerFacts,
    *,
    data_dir: Path | None = None,
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
            parts = [
                load_rows(task, part, data_dir=data_dir)
                for part in (("train", "heldout") if split == "train" else (split,))
            ]
        except DataError:
            if split in spec.extra_splits:
                continue
            raise
        # Training and held-out rows in the order of the source.
        order = np.argsort(np.concatenate([part.row for part in parts]), kind="stable")
        together = [text for part in parts for text in part.texts]
        texts = [together[i] for i in order]
        splits[split] = count_lengths(
            tokenizer,
            (
                Chunk(
                    texts=texts[start : start + CHUNK_ROWS],
                    fraction=min(1.0, (start + CHUNK_ROWS) / len(texts)),
                )
                for start in range(0, len(texts), CHUNK_ROWS)
            ),
            source=parts[0].source,
            published_rows=PUBLISHED_ROWS.get(task, {}).get(split),
            on_progress=partial(report, split),
        )
    key = f"{task}-{facts.slug}"
    return _length_set(task, key, spec.text_columns, facts, splits, is_task=True)


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


def stated_lengths(path: Path) -> LengthCounts | None:
    """The lengths that a file states, one whole number a line, perhaps below a header; None for others.

    Args:
        path: A file that ends in `.txt`, `.csv` or `.tsv`.

    Raises:
        DataError: A line among numbers is none, or the file cannot be read.
    """
    if path.suffix.lower() not in (LINES, ".csv", ".tsv"):
        return None
    found = Counter[int]()
    for number, row, _ in line_rows(path):
        text = row["text"]
        if text is None:
            continue
        if _LENGTH.fullmatch(text):
            found[int(text)] += 1
        elif found:
            raise DataError(
                f"{path.name}, line {number}: {text[:40]!r} is no length; each line is one whole number of "
                "tokens from 1 on."
            )
        elif number > 1:
            return None
    return LengthCounts.tallied(found) if found else None


def typed_lengths(text: str) -> LengthCounts:
    """The lengths of a list that was typed or pasted: whole numbers, whatever stands between them.

    Raises:
        DataError: There is none, or something else is among them.
    """
    words = re.split(r"[\s,;]+", text.strip(" \t\r\n,;"))
    for word in words:
        if not _LENGTH.fullmatch(word):
            raise DataError(
                f"{word[:40]!r} is no length: give whole numbers of tokens from 1 on, with blanks, commas or "
                "line ends between them."
            )
    return LengthCounts.of(np.array(words, dtype=np.int64))


def stated_set(name: str, counts: LengthCounts, facts: TokenizerFacts) -> LengthSet:
    """Lengths that were stated, not counted, as a set of one split.

    Args:
        name: What the user calls them.
        counts: The lengths, taken to be in tokens of this tokenizer.
        facts: Which that is.
    """
    content = _hash([name, counts.length.tolist(), counts.count.tolist()])
    split = SplitLengths(counts=counts, source=f"{name}, lengths as stated", sha256=content)
    key = own_key(content, facts)
    return _length_set(name, key, (), facts, {FILE_SPLIT: split}, is_task=False)


def content_hash(files: Mapping[str, Sequence[Path]], columns: Sequence[str]) -> str:
    """Hash of everything that the counts of own files depend on, the tokenizer apart.

    Raises:
        DataError: A file cannot be read.
    """
    contents = {
        split: hashlib.sha256(b"".join(map(file_digest, paths))).hexdigest()
        for split, paths in files.items()
    }
    return _hash([contents, list(columns)])


def find_own_set(
    stores: Iterable[Path], content: str, tokenizer: TokenizerFacts
) -> LengthSet | None:
    """Stored counts of this content with this tokenizer; None where it has not been counted."""
    for entry in list_sets(stores):
        found = entry.counts
        is_it = found is not None and found.key.startswith(own_prefix(content))
        if found and is_it and found.tokenizer.is_same(tokenizer):
            return found
    return None


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
    key = own_key(content_hash(files, columns), facts)
    splits = {
        split: count_lengths(
            tokenizer,
            _chunks(paths, columns),
            source=", ".join(path.name for path in paths),
            on_progress=partial(report, split),
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
    report: Report = lambda split, rows, fraction: None,
) -> LengthSet:
    """Counts a data set of the hub, from its local cache unless downloads are allowed.

    Args:
        name: `owner/name` or `owner/name:configuration`.
        splits: Names of the splits there.
        columns: One or two columns with texts.
        tokenizer: What counts.
        facts: Which that is.
        report: Called as counting goes on.

    Raises:
        DataError: It is not at hand, or lacks a column.
    """
    counted = {
        split: count_lengths(
            tokenizer,
            _hub_chunks(name, split, columns),
            source=f"hub data set {name}, {split}",
            on_progress=partial(report, split),
        )
        for split in splits
    }
    key = own_key(_hash([name, list(splits), list(columns)]), facts)
    return _length_set(name, key, columns, facts, counted, is_task=False)


def _hub_chunks(name: str, split: str, columns: Sequence[str]) -> Iterator[Chunk]:
    from ltp_core.tasks.hub import parse, read_split

    try:
        allowed = environment.downloads_allowed()
        table = read_split(*parse(name), split, allow_downloads=allowed)
    except Exception as error:
        reason = first_line(error)
        raise DataError(f"The split {split} of {name} cannot be had: {reason}") from error
    require_columns(name, columns, table.column_names)
    batches = table.select(list(columns)).to_batches(CHUNK_ROWS)
    yield from text_chunks(table_rows(batches, table.num_rows), columns, f"{name}/{split}, row")


def _chunks(paths: Sequence[Path], columns: Sequence[str]) -> Iterator[Chunk]:
    """All files one after another; the fraction is that of files and of the file at hand."""
    for index, path in enumerate(paths):
        for chunk in read_chunks(path, columns):
            fraction = (index + (chunk.fraction or 0.0)) / len(paths)
            yield Chunk(texts=chunk.texts, fraction=fraction, left_out=chunk.left_out)


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


def split_names(text: str) -> tuple[str, ...]:
    """Names separated by commas, as a line of CSV: a name that holds a comma stands in quotation marks.

    Raises:
        ValueError: There is no name, or a quotation mark has no partner.
    """
    try:
        names = next(csv.reader([text], skipinitialspace=True, strict=True), [])
    except csv.Error as error:
        raise ValueError(str(error)) from error
    if not names or not all(names):
        raise ValueError("a name is missing")
    return tuple(names)


def join_names(names: Iterable[str]) -> str:
    """What `split_names` reads."""
    line = io.StringIO()
    csv.writer(line, quoting=csv.QUOTE_ALL, lineterminator="").writerow(names)
    return line.getvalue()


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
