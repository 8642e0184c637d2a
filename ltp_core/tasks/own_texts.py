"""A random sample of the texts of a user's own file: plain lines, CSV, JSON lines or Parquet."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ltp_core.tasks.files import (
    LINES,
    SUFFIXES,
    DataError,
    Row,
    Texts,
    encoding_problem,
    look,
    place_of,
    read_chunks,
    read_lines,
    text_chunks,
)


@dataclass(frozen=True, kw_only=True)
class OwnTexts:
    """Inputs drawn from a file.

    Attributes:
        texts: One or two strings per input, in the order of the file.
        columns: Where they stood; empty for plain lines.
        total: Usable inputs of the file.
        left_out: Its empty lines, or rows that lack a text.
        sha256: Hash of the drawn texts.
    """

    texts: list[Texts]
    columns: tuple[str, ...]
    total: int
    left_out: int
    sha256: str


def sample_texts(
    path: Path,
    columns: Sequence[str] = (),
    *,
    expected: Sequence[str] = (),
    is_pair: bool | None = None,
    rows: int,
    seed: int = 0,
) -> OwnTexts:
    """Draws inputs at random; fewer rows are a subset of more.

    Args:
        path: `.txt` with a text a line, or a file that `tasks.files` reads. Empty lines and rows
            with a missing text are left out and counted.
        columns: Column of the text, or the two of a pair; empty chooses.
        expected: Columns that are chosen where the file has them all.
        is_pair: Whether an input is two texts; None takes either.
        rows: Inputs to draw.
        seed: Seed of the draw.

    Raises:
        DataError: The file is absent or cannot be read, has no text, or the columns are not clear.
    """
    if not path.is_file():
        raise DataError(f"There is no file {str(path)[:200]!r}: correct its path.")
    chosen = choose_columns(path, columns, expected, is_pair)
    random = np.random.default_rng(seed)
    # The least of random numbers, one an input, are a sample of a file that is read once.
    drawn: list[tuple[float, int, Texts]] = []
    total = left_out = 0
    lines = text_chunks(line_rows(path), ["text"], place_of(path))
    for chunk in read_chunks(path, chosen) if chosen else lines:
        keyed = zip(
            random.random(len(chunk.texts)),
            range(total, total + len(chunk.texts)),
            chunk.texts,
            strict=True,
        )
        drawn = heapq.nsmallest(rows, itertools.chain(drawn, keyed))
        total += len(chunk.texts)
        left_out += chunk.left_out
    texts = [text for _, _, text in sorted(drawn, key=lambda entry: entry[1])]
    if not texts:
        raise DataError(f"{path.name} has no text.")
    return OwnTexts(
        texts=texts, columns=chosen, total=total, left_out=left_out, sha256=_hash(texts)
    )


def choose_columns(
    path: Path,
    given: Sequence[str],
    expected: Sequence[str],
    is_pair: bool | None,
    *,
    option: str = "--column",
) -> tuple[str, ...]:
    """The columns that hold the texts; empty for plain lines.

    Args:
        path: The file.
        given: Columns that the user named; empty chooses.
        expected: Columns that are chosen where the file has them all.
        is_pair: Whether an input is two texts; None takes either.
        option: What names a column on the command line.

    Raises:
        DataError: The file is of no known kind, or the columns are not clear.
    """
    wanted = {None: "one or two texts", True: "two texts", False: "one text"}[is_pair]
    if path.suffix.lower() == LINES:
        if given or is_pair:
            raise DataError(
                f"{path.name} has one text a line and no columns: give {wanted} per input in a file "
                f"that ends in {', '.join(SUFFIXES)}."
            )
        return ()
    if path.suffix.lower() not in SUFFIXES:
        endings = ", ".join((LINES, *SUFFIXES))
        raise DataError(f"{path.name}: only files that end in {endings} can be read.")
    if given:
        if len(given) > 2 or (is_pair is not None and len(given) != 1 + is_pair):
            raise DataError(f"{len(given)} columns were named, but an input is {wanted}.")
        return tuple(given)
    present = look(path).text_columns
    if expected and set(expected) <= set(present):
        return tuple(expected)
    if len(present) == 1 and not is_pair:
        return present
    raise DataError(
        f"{path.name} has the text columns {', '.join(present)}, and an input is {wanted}: choose "
        f"{'both' if is_pair else 'one'} with {option}."
    )


def line_rows(path: Path) -> Iterator[Row]:
    """Each line as a row with one column, `text`: blanks around it aside, missing where it is empty.

    Raises:
        DataError: The file cannot be read or is not UTF-8.
    """
    try:
        for number, (line, fraction) in enumerate(read_lines(path), start=1):
            yield number, {"text": line.strip() or None}, fraction
    except UnicodeDecodeError as error:
        raise DataError(encoding_problem(path)) from error
    except OSError as error:
        raise DataError(f"{path.name} cannot be read: {error.strerror}.") from error


def _hash(texts: list[Texts]) -> str:
    digest = hashlib.sha256()
    for text in itertools.chain.from_iterable(texts):
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
