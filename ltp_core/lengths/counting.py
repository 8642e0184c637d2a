"""From texts to length counts, a chunk at a time, so that a million rows need little memory."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer

from ltp_core.lengths.sets import SplitLengths
from ltp_core.lengths.statistics import LengthCounts
from ltp_core.records import UserError
from ltp_core.tasks.files import CHUNK_ROWS, Chunk, Texts


def chunks_of(texts: Sequence[Texts]) -> Iterable[Chunk]:
    """Inputs that are in memory, in chunks."""
    for start in range(0, len(texts), CHUNK_ROWS):
        part = texts[start : start + CHUNK_ROWS]
        yield Chunk(texts=part, fraction=(start + len(part)) / len(texts))


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
        found.update(_lengths(tokenizer, chunk.texts, found.total()))
        left_out += chunk.left_out
        for texts in chunk.texts:
            for text in texts:
                encoded = text.encode()
                digest.update(len(encoded).to_bytes(8, "big") + encoded)
        on_progress(found.total(), chunk.fraction)
    if not found:
        raise UserError(f"{source} holds no text: nothing can be counted.")
    length = np.array(sorted(found), dtype=np.int64)
    return SplitLengths(
        counts=LengthCounts(length=length, count=np.array([found[n] for n in length.tolist()])),
        source=source,
        sha256=digest.hexdigest(),
        published_rows=published_rows,
        left_out=left_out,
    )


def _lengths(tokenizer: Tokenizer, texts: Sequence[Texts], rows_before: int) -> list[int]:
    inputs = [text[0] if len(text) == 1 else text for text in texts]
    try:
        return [len(encoding) for encoding in tokenizer.encode_batch_fast(inputs)]
    except (TypeError, UnicodeEncodeError) as error:
        raise UserError(
            f"One of the texts {rows_before + 1:,} to {rows_before + len(texts):,} is not valid "
            "Unicode: save the file as UTF-8 and try again."
        ) from error
