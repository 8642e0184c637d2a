"""The tokenizer of a model folder, as a `tokenizers.Tokenizer`."""

from __future__ import annotations

from pathlib import Path

from tokenizers import Tokenizer

from ltp_core.encoder.errors import ModelError, reason

SEPARATORS = ("[SEP]", "</s>")
"""Looked for where a tokenizer adds no special tokens by itself."""


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads `tokenizer.json`; other formats are converted by transformers.

    Padding and truncation settings of the file are switched off: batching decides about both.

    Raises:
        ModelError: The folder holds no tokenizer that can be read.
    """
    path = folder / "tokenizer.json"
    try:
        tokenizer = Tokenizer.from_file(str(path)) if path.exists() else _convert(folder)
        tokenizer.encode("A trial, 1 of 2.")  # some patterns fail at the first use only
    except BaseException as error:
        # A panic inside the library is no Exception.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise ModelError(
            f"{folder} holds no tokenizer that can be read: {reason(error)}"
        ) from error
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def _convert(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    fast = AutoTokenizer.from_pretrained(folder, local_files_only=True, use_fast=True)
    tokenizer: Tokenizer = fast.backend_tokenizer
    return tokenizer


def separator_id(tokenizer: Tokenizer) -> int | None:
    """Vocabulary id of the separator, or None if the tokenizer has none.

    It is what the tokenizer itself puts behind a text. A vocabulary may hold another that it never
    uses: MPNet's has `[SEP]` beside the real `</s>`.
    """
    nothing = tokenizer.encode("")
    if len(nothing.ids) > 1 and nothing.special_tokens_mask[-1]:
        return nothing.ids[-1]
    ids = (tokenizer.token_to_id(token) for token in SEPARATORS)
    return next((i for i in ids if i is not None), None)
