"""From texts to batches: the tokenizer's own result, padding and order."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer

from ltp_core.records import UserError
from ltp_core.tokenize import (
    Encoded,
    bucketed_batches,
    collate,
    encode,
    sorted_batches,
)
from tests import tiny

STRANGE = ["", " ", "a\x00b", "\u202eright to left", "<script>alert(1)</script>", "é\r\n\t😀", "NA"]


words = st.lists(st.sampled_from(tiny.WORDS))
texts_of_one = st.tuples(words.map(" ".join))
texts_of_two = st.tuples(words.map(" ".join), words.map(" ".join))
some_inputs = st.lists(texts_of_one, min_size=1, max_size=6) | st.lists(
    texts_of_two, min_size=1, max_size=6
)


@pytest.mark.parametrize("family", ["bert", "roberta"])
@given(texts=some_inputs, max_length=st.integers(5, 40))
def test_encoding_is_the_tokenizers_own(
    family: str, texts: list[tuple[str, ...]], max_length: int
) -> None:
    """Ids and token types equal the tokenizer's, cut by its own rule; what is cut is counted."""
    tokenizer = tiny.tokenizer(family)
    encoded = encode(tokenizer, texts, max_length)
    for i, text in enumerate(texts):
        tokenizer.no_padding()
        tokenizer.no_truncation()
        whole = tokenizer.encode(*text)
        tokenizer.enable_truncation(max_length, strategy="longest_first")
        cut = tokenizer.encode(*text)
        assert encoded.input_ids[i] == cut.ids
        assert encoded.token_type_ids[i] == cut.type_ids
        assert encoded.length[i] == len(cut.ids) <= max_length
        assert encoded.length[i] + encoded.cut[i] == len(whole.ids)


@pytest.mark.parametrize("is_set", [True, False])
def test_the_tokenizers_settings_survive(tiny_tokenizer: Tokenizer, is_set: bool) -> None:
    """Truncation and padding of the caller neither act on the result nor change, even on errors."""
    tokenizer = Tokenizer.from_str(tiny_tokenizer.to_str())
    tokenizer.no_truncation()
    tokenizer.no_padding()
    if is_set:
        tokenizer.enable_truncation(6, stride=1, strategy="only_first", direction="left")
        tokenizer.enable_padding(direction="left", pad_id=1, pad_token="x", length=9)
    before = (tokenizer.truncation, tokenizer.padding)
    encoded = encode(tokenizer, [("the a " * 20,), ("the",)], 30)
    assert encoded.length.tolist() == [30, 3]
    with pytest.raises(UserError, match="not valid Unicode"):
        encode(tokenizer, [("\ud800",)], 30)
    assert (tokenizer.truncation, tokenizer.padding) == before


def test_threads_share_a_tokenizer(tiny_tokenizer: Tokenizer) -> None:
    """Each gets its own maximum length, though the setting is the tokenizer's."""
    limits = [5, 50, 8, 17] * 25
    with ThreadPoolExecutor(4) as threads:
        found = threads.map(lambda n: encode(tiny_tokenizer, [("the a " * 100,)] * 4, n), limits)
        assert [encoded.length.tolist() for encoded in found] == [[n] * 4 for n in limits]


def test_a_length_without_room_is_an_error(tiny_tokenizer: Tokenizer) -> None:
    """Two special tokens for one text, three for a pair."""
    assert encode(tiny_tokenizer, [("the a",)], 3).length.tolist() == [3]
    with pytest.raises(UserError, match="max_length 2 leaves no room"):
        encode(tiny_tokenizer, [("the",)], 2)
    with pytest.raises(UserError, match="max_length 3 leaves no room"):
        encode(tiny_tokenizer, [("the", "a")], 3)


def test_strange_texts_are_encoded(tiny_tokenizer: Tokenizer) -> None:
    """Empty text, NUL, markup, emoji, and ten thousand words."""
    encoded = encode(tiny_tokenizer, [*((text,) for text in STRANGE), ("the " * 10_000,)], 64)
    assert encoded.length[0] == 2
    assert encoded.length[-1] == 64
    assert encoded.cut[-1] == 10_002 - 64
    assert len(encoded) == len(STRANGE) + 1


def test_no_input_is_no_error(tiny_tokenizer: Tokenizer) -> None:
    """An empty set has no lengths."""
    assert len(encode(tiny_tokenizer, [], 8)) == 0


length_lists = st.lists(st.integers(1, 90), min_size=1, max_size=200)


def encoded_of(lengths: list[int]) -> Encoded:
    """Inputs of these lengths with ids that tell them apart."""
    return Encoded(
        input_ids=[[100 * (i + 1) + j for j in range(n)] for i, n in enumerate(lengths)],
        token_type_ids=[[j % 2 for j in range(n)] for n in lengths],
        length=np.array(lengths),
        cut=np.zeros(len(lengths), dtype=np.int64),
    )


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=12), data=st.data())
def test_a_batch_is_padded_to_its_longest_and_nothing_else_changes(
    lengths: list[int], data: st.DataObject
) -> None:
    """Tokens under the mask are those of the input, the rest is padding, labels follow."""
    encoded = encoded_of(lengths)
    index = data.draw(st.lists(st.integers(0, len(lengths) - 1), min_size=1, max_size=5))
    labels = np.arange(len(lengths)) * 10
    batch = collate(encoded, index, labels, pad_id=7)
    assert batch.input_ids.shape == (len(index), max(lengths[i] for i in index))
    assert batch.row.tolist() == index
    assert batch.labels is not None
    assert batch.labels.tolist() == [10 * i for i in index]
    for b, i in enumerate(index):
        n = lengths[i]
        assert batch.attention_mask[b].tolist() == [j < n for j in range(batch.input_ids.shape[1])]
        assert batch.input_ids[b, :n].tolist() == encoded.input_ids[i]
        assert batch.token_type_ids[b, :n].tolist() == encoded.token_type_ids[i]
        assert (batch.input_ids[b, n:] == 7).all()
        assert (batch.token_type_ids[b, n:] == 0).all()


def test_widths_can_be_rounded_up(tiny_tokenizer: Tokenizer) -> None:
    """To a multiple, but never beyond the longest input of the set; what is added is padding."""
    encoded = encode(tiny_tokenizer, [("a good film",), ("the " * 17,), ("fun",)], 32)
    assert [5, 19, 3] == encoded.length.tolist()
    short = collate(encoded, [0, 2], None, 0, multiple=8)
    assert (2, 8) == short.input_ids.shape
    assert [5, 3] == short.attention_mask.sum(dim=1).tolist()
    assert 19 == collate(encoded, [1], None, 0, multiple=8).input_ids.shape[1]


def test_labels_are_classes_values_or_absent() -> None:
    """int64 for classes, float32 for regression, None without."""
    encoded = encoded_of([2, 3])
    classes = collate(encoded, [0, 1], np.array([1, 0]), pad_id=0).labels
    values = collate(encoded, [1, 0], np.array([0.5, 4.25]), pad_id=0).labels
    assert classes is not None
    assert values is not None
    assert classes.dtype == torch.int64
    assert values.dtype == torch.float32
    assert values.tolist() == [4.25, 0.5]
    assert collate(encoded, [0], None, pad_id=0).labels is None


@given(length_lists, st.integers(1, 17), st.integers(0, 2), st.integers(0, 2), st.integers(1, 4))
def test_every_example_is_in_one_training_batch(
    lengths: list[int], batch_size: int, seed: int, epoch: int, bucket: int
) -> None:
    """A permutation in full batches but for the last of the pools, the same for equal seeds."""
    length = np.array(lengths)
    batches = bucketed_batches(length, batch_size, seed=seed, epoch=epoch, bucket=bucket)
    again = bucketed_batches(length, batch_size, seed=seed, epoch=epoch, bucket=bucket)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(lengths)))
    assert [b.tolist() for b in batches] == [b.tolist() for b in again]
    assert len(batches) == -(-len(lengths) // batch_size)
    assert sum(len(b) < batch_size for b in batches) <= 1


def test_epochs_and_seeds_differ() -> None:
    """(0, 1) is not (1, 0)."""
    length = np.arange(200)
    orders = {
        tuple(np.concatenate(bucketed_batches(length, 4, seed=seed, epoch=epoch)).tolist())
        for seed in range(2)
        for epoch in range(2)
    }
    assert len(orders) == 4


def test_batches_hold_similar_lengths_in_random_order() -> None:
    """Less than a third of the padding of random batches, and no order by length."""
    length = np.random.default_rng(0).integers(5, 120, 4_000)
    batches = bucketed_batches(length, 32, seed=0, epoch=0)
    padded = sum(len(b) * length[b].max() for b in batches)
    shuffled = np.random.default_rng(1).permutation(4_000).reshape(-1, 32)
    unsorted = sum(len(b) * length[b].max() for b in shuffled)
    assert padded - length.sum() < (unsorted - length.sum()) / 3
    means = [length[b].mean() for b in batches]
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4


@given(length_lists, st.integers(1, 17))
def test_evaluation_batches_go_from_long_to_short(lengths: list[int], batch_size: int) -> None:
    """Each example once; the first batch is the one that needs most memory."""
    batches = sorted_batches(np.array(lengths), batch_size)
    order = np.concatenate(batches)
    assert sorted(order.tolist()) == list(range(len(lengths)))
    assert [lengths[i] for i in order] == sorted(lengths, reverse=True)
    assert all(len(b) == batch_size for b in batches[:-1])


def test_no_example_gives_no_batch() -> None:
    """An empty set is no error."""
    nothing = np.empty(0, dtype=np.int64)
    assert bucketed_batches(nothing, 4, seed=0, epoch=0) == []
    assert sorted_batches(nothing, 4) == []
