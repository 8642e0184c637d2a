"""From texts to batches: tokens, padding, and an order that keeps lengths together.

Axes: `batch` examples of a batch, `seq` tokens of the padded sequence, `examples` of the whole set.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int, Num
from tokenizers import Encoding, Tokenizer
from torch import Tensor

from ltp_core.records import UserError


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids of a set of inputs, without padding.

    Attributes:
        input_ids: Vocabulary ids, special tokens included.
        token_type_ids: 0 for the first text, 1 for the second where the tokenizer tells them apart.
        length: Tokens of each input, after truncation.
        cut: Tokens of each input that truncation cut off.
        question_end: Position behind the last token of each question; None where none is asked.
    """

    input_ids: list[list[int]]
    token_type_ids: list[list[int]]
    length: Int[np.ndarray, " examples"]
    cut: Int[np.ndarray, " examples"]
    question_end: Int[np.ndarray, " examples"] | None = None

    def __len__(self) -> int:
        """Number of inputs."""
        return len(self.input_ids)

    def take(self, index: Int[np.ndarray, " chosen"]) -> Encoded:
        """The inputs at these positions."""
        return Encoded(
            input_ids=[self.input_ids[i] for i in index],
            token_type_ids=[self.token_type_ids[i] for i in index],
            length=self.length[index],
            cut=self.cut[index],
            question_end=None if self.question_end is None else self.question_end[index],
        )


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Inputs padded on the right to the longest of them.

    Attributes:
        input_ids: Vocabulary ids; `pad_id` behind the end.
        token_type_ids: 0 behind the end.
        attention_mask: True where there is a token, False where there is padding.
        labels: Class indices (int64), values (float32), or first and last token of an answer; None
            where not given.
        row: Position of each input in the `Encoded` that it came from.
        question: True for the tokens of a question, special tokens left out.
    """

    input_ids: Int[Tensor, "batch seq"]
    token_type_ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    labels: Num[Tensor, "batch ..."] | None
    row: Int[Tensor, " batch"]
    question: Bool[Tensor, "batch seq"] | None = None


def encode(tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int) -> Encoded:
    """Token ids of each input, cut to `max_length` tokens incl. special ones.

    Of a pair the longer text is cut first. Whatever truncation and padding the tokenizer is set to
    is put aside meanwhile and is the same afterwards.

    Args:
        tokenizer: A fast tokenizer.
        texts: One or two strings per input.
        max_length: Greatest length in tokens.

    Raises:
        UserError: `max_length` leaves no room beside the special tokens, or a text cannot be written
            as UTF-8.
    """
    if max_length <= tokenizer.num_special_tokens_to_add(any(len(t) == 2 for t in texts)):
        raise UserError(f"max_length {max_length} leaves no room beside the special tokens.")
    inputs = [text[0] if len(text) == 1 else text for text in texts]
    with own_settings(tokenizer):
        encodings = _encode_batch(tokenizer, inputs)
        full = np.array([len(e) for e in encodings], dtype=np.int64)
        too_long = np.flatnonzero(full > max_length)
        tokenizer.enable_truncation(max_length, strategy="longest_first")
        shortened = _encode_batch(tokenizer, [inputs[i] for i in too_long])
    for i, encoding in zip(too_long, shortened, strict=True):
        encodings[i] = encoding
    length = np.array([len(e) for e in encodings], dtype=np.int64)
    return Encoded(
        input_ids=[e.ids for e in encodings],
        token_type_ids=[e.type_ids for e in encodings],
        length=length,
        cut=full - length,
    )


def encode_text(
    tokenizer: Tokenizer, texts: tuple[str, ...], max_length: int
) -> tuple[Encoding, int]:
    """One input with its tokens, words and offsets, and the number of tokens that were cut off.

    Raises:
        UserError: A text cannot be written as UTF-8.
    """
    first, second = (*texts, None)[:2]
    with own_settings(tokenizer):
        try:
            encoding = tokenizer.encode(first, second)
            full = len(encoding)
            if full > max_length:
                tokenizer.enable_truncation(max_length, strategy="longest_first")
                encoding = tokenizer.encode(first, second)
        except (TypeError, UnicodeEncodeError) as error:
            raise UserError(_NOT_UNICODE) from error
    return encoding, full - len(encoding)


_NOT_UNICODE = "A text is not valid Unicode: save it as UTF-8 and try again."

# Tokenizers are shared between threads, and their settings are state.
_settings_lock = threading.Lock()


@contextlib.contextmanager
def own_settings(tokenizer: Tokenizer) -> Iterator[None]:
    """Truncation and padding off; the caller's settings come back at the end."""
    with _settings_lock:
        truncation, padding = tokenizer.truncation, tokenizer.padding
        tokenizer.no_truncation()
        tokenizer.no_padding()
        try:
            yield
        finally:
            tokenizer.no_truncation()
            if truncation is not None:
                tokenizer.enable_truncation(**truncation)
            if padding is not None:
                tokenizer.enable_padding(**padding)


def _encode_batch(tokenizer: Tokenizer, inputs: list[str | tuple[str, ...]]) -> list[Encoding]:
    try:
        return tokenizer.encode_batch_fast(inputs)
    except (TypeError, UnicodeEncodeError) as error:
        raise UserError(_NOT_UNICODE) from error


def collate(
    encoded: Encoded,
    index: Sequence[int] | Int[np.ndarray, " batch"],
    labels: Num[np.ndarray, "examples ..."] | None,
    pad_id: int,
    *,
    multiple: int = 1,
) -> Batch:
    """The inputs at `index` as one batch, padded to the longest of them.

    Args:
        encoded: The whole set.
        index: Positions in it.
        labels: Labels of the whole set, or None.
        pad_id: Vocabulary id of the padding token.
        multiple: Of what the width is one, unless no input of the set is that long.
    """
    chosen = np.asarray(index, dtype=np.int64)
    width = -(-int(encoded.length[chosen].max()) // multiple) * multiple
    width = min(width, int(encoded.length.max()))
    input_ids = torch.full((len(chosen), width), pad_id, dtype=torch.long)
    token_type_ids = torch.zeros((len(chosen), width), dtype=torch.long)
    for i, j in enumerate(chosen):
        n = int(encoded.length[j])
        input_ids[i, :n] = torch.tensor(encoded.input_ids[j])
        token_type_ids[i, :n] = torch.tensor(encoded.token_type_ids[j])
    position = torch.arange(width)
    length = torch.from_numpy(encoded.length[chosen])
    question = chosen_labels = None
    if encoded.question_end is not None:
        end = torch.from_numpy(encoded.question_end[chosen])
        question = (position > 0) & (position < end[:, None])
    if labels is not None:
        found = torch.from_numpy(labels[chosen])
        chosen_labels = found.float() if found.is_floating_point() else found.long()
    return Batch(
        input_ids=input_ids,
        token_type_ids=token_type_ids,
        attention_mask=position < length[:, None],
        labels=chosen_labels,
        row=torch.from_numpy(chosen),
        question=question,
    )


@dataclass(frozen=True, kw_only=True)
class LengthFacts:
    """How long some texts are, in tokens with special ones, before anything is cut.

    Attributes:
        median: Half of them are not longer.
        most: 95 % are not longer.
        longest: The longest.
        cut_share: Share of those that are cut.
    """

    median: int
    most: int
    longest: int
    cut_share: float


def length_facts(
    tokenizer: Tokenizer, texts: Sequence[tuple[str, ...]], max_length: int
) -> LengthFacts:
    """Lengths of texts beside the longest that is taken."""
    encoded = encode(tokenizer, texts, max_length)
    median, most, longest = np.quantile(encoded.length + encoded.cut, [0.5, 0.95, 1.0])
    return LengthFacts(
        median=int(median),
        most=int(most),
        longest=int(longest),
        cut_share=float((encoded.cut > 0).mean()),
    )


def bucketed_batches(
    length: Int[np.ndarray, " examples"],
    batch_size: int,
    *,
    seed: int,
    epoch: int,
    bucket: int = 50,
) -> list[Int[np.ndarray, " batch"]]:
    """Positions of each training batch: random, but with similar lengths together.

    The shuffled set is divided into pools of `bucket * batch_size`, each pool is sorted by length and
    divided into batches, and the batches are shuffled. Each position occurs exactly once. The same
    (seed, epoch) gives the same batches.
    """
    random = np.random.default_rng((seed, epoch))
    shuffled = random.permutation(len(length))
    pool_size = bucket * batch_size
    batches: list[Int[np.ndarray, " batch"]] = []
    for start in range(0, len(shuffled), pool_size):
        pool = shuffled[start : start + pool_size]
        batches += _divide(pool[np.argsort(length[pool], kind="stable")], batch_size)
    return [batches[i] for i in random.permutation(len(batches))]


def sorted_batches(
    length: Int[np.ndarray, " examples"], batch_size: int
) -> list[Int[np.ndarray, " batch"]]:
    """Positions of each evaluation batch, the longest inputs first."""
    return _divide(np.argsort(-np.asarray(length), kind="stable"), batch_size)


def _divide(
    index: Int[np.ndarray, " examples"], batch_size: int
) -> list[Int[np.ndarray, " batch"]]:
    return [index[i : i + batch_size] for i in range(0, len(index), batch_size)]
