"""Attention of packed sequences of any length without blanks, and the scores with it: Triton, for GPUs.

Fused attention never has the probabilities in memory, and an importance score is a sum down a column of
them. So there are two kernels. The first gives each query's output (flash attention: Dao et al., 2022,
Algorithm 1, with each sequence's own length) and the logarithm of the sum that its softmax divides by;
from that, the second makes each probability anew and sums what every key receives.

It is imported only where attention runs in it: Triton comes with PyTorch for CUDA and is absent elsewhere.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from jaxtyping import Float, Int
from torch import Tensor

from ltp_core.encoder.model import PositionBias

TILE_BYTES = 4096
"""Size of a tile, the queries or keys that a program has at once: with it the registers suffice."""

LONGEST_TILE, SHORTEST_TILE = 64, 16
"""Rows of a tile at most, and at least, which is the smallest matrix that `tl.dot` takes."""


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """Where the sequences' tokens lie.

    Attributes:
        starts: First row of each.
        lengths: Tokens of each.
        longest: The greatest of them.
        position: Position of each row in its original sequence; None where no bias asks for it.
    """

    starts: Int[Tensor, " batch"]
    lengths: Int[Tensor, " batch"]
    longest: int
    position: Int[Tensor, " row"] | None


def tile_rows(longest: int, states: Float[Tensor, "row head head_size"]) -> int:
    """Rows of a tile of these queries or keys, where the longest sequence has so many."""
    most = TILE_BYTES // (_power_of_two(states.shape[-1]) * states.element_size())
    return max(SHORTEST_TILE, min(LONGEST_TILE, most, _power_of_two(longest)))


def attention_output(
    query: Float[Tensor, "query head head_size"],
    key: Float[Tensor, "key head head_size"],
    value: Float[Tensor, "key head head_size"],
    asking: Sequences,
    asked: Sequences,
    bias: PositionBias | None,
) -> tuple[Float[Tensor, "query hidden"], Float[Tensor, "head query"]]:
    """Output of the attention of each query over its sequence's keys, and the logarithm of its softmax' sum.

    Args:
        query: Scaled queries.
        key: Keys, of one stride with the values.
        value: Values.
        asking: The queries' sequences.
        asked: The keys' sequences, as many.
        bias: Added to the logits by original positions; None: nothing.
    """
    num_heads, head_size = query.shape[1:]
    context = query.new_empty(len(query), num_heads * head_size)
    log_sum = query.new_empty(num_heads, len(query), dtype=torch.float32)
    queries, keys = tile_rows(asking.longest, query), tile_rows(asked.longest, key)
    with _device_of(query):
        _attend[_tiles(asking, queries), num_heads, len(asking.starts)](
            query, key, value, context, log_sum,
            asking.starts, asking.lengths, asked.starts, asked.lengths,
            *_bias_arguments(asking, asked, bias, log_sum),
            query.stride(0), key.stride(0), context.stride(0), len(query), head_size,
            HAS_BIAS=bias is not None, QUERIES=queries, KEYS=keys, SIZE=_power_of_two(head_size),
        )  # fmt: skip
    return context, log_sum


def importance_score(
    query: Float[Tensor, "row head head_size"],
    key: Float[Tensor, "row head head_size"],
    log_sum: Float[Tensor, "head row"],
    sequences: Sequences,
    bias: PositionBias | None,
) -> Float[Tensor, " row"]:
    """Head-averaged column sums of the attention probabilities: the importance score of each token.

    Args:
        query: Scaled queries of all tokens.
        key: Their keys.
        log_sum: What `attention_output` said.
        sequences: Where they lie.
        bias: As there.
    """
    num_heads, head_size = query.shape[1:]
    received = torch.empty_like(log_sum)
    rows = tile_rows(sequences.longest, key)
    with _device_of(query):
        _receive[_tiles(sequences, rows), num_heads, len(sequences.starts)](
            query, key, log_sum, received,
            sequences.starts, sequences.lengths,
            *_bias_arguments(sequences, sequences, bias, log_sum),
            query.stride(0), key.stride(0), len(query), head_size,
            HAS_BIAS=bias is not None, TILE=rows, SIZE=_power_of_two(head_size),
        )  # fmt: skip
    return received.mean(dim=0)


def self_attention(
    query: Float[Tensor, "row head head_size"],
    key: Float[Tensor, "row head head_size"],
    log_sum: Float[Tensor, "head row"],
    bias: PositionBias | None,
) -> Float[Tensor, " row"]:
    """Head-averaged attention that each token pays to itself; arguments as in `importance_score`."""
    logit = (query.float() * key.float()).sum(dim=-1)
    if bias is not None:
        logit += bias.by_distance[:, bias.reach]
    return (logit - log_sum.T).exp().mean(dim=1)


def _bias_arguments(
    asking: Sequences, asked: Sequences, bias: PositionBias | None, unused: Tensor
) -> tuple[Any, ...]:
    """Table, step from head to head in it, reach, and positions; anything where there is no bias."""
    if bias is None:
        return unused, 0, 0, unused, unused
    table = bias.by_distance.contiguous()
    step = 0 if len(table) == 1 else table.shape[1]
    return table, step, bias.reach, asking.position, asked.position


def _device_of(values: Tensor) -> AbstractContextManager[None]:
    """Makes it the current one, which Triton takes whatever its arguments lie on."""
    guard: AbstractContextManager[None] = torch.cuda.device_of(values)  # type: ignore[no-untyped-call]
    return guard


def _tiles(sequences: Sequences, rows: int) -> int:
    """Programs that the longest sequence needs; those that a shorter one does not need have nothing to do."""
    return -(-sequences.longest // rows)


def _power_of_two(size: int) -> int:
    """The smallest one that holds so many and that `tl.dot` takes."""
    return max(SHORTEST_TILE, 1 << (size - 1).bit_length())


# Kernels. A program has one head of one sequence, and one tile of its queries or of its keys. Blank
# cells of a tile read as 0, and nothing is written from them. Numbers of tokens are not specialised:
# each new one would be compiled anew.


@triton.jit
@no_type_check
def _logits(
    queries, keys, row, column, is_key, bias, reach, query_position, key_position, HAS_BIAS: tl.constexpr
):  # fmt: skip
    """Logits of a tile of queries over one of keys, with the bias; -inf where there is no key."""
    # "ieee": float32 stays float32, where a GPU would round it to TF32.
    logits = tl.dot(queries, tl.trans(keys), input_precision="ieee")
    if HAS_BIAS:
        here = tl.load(query_position + row, mask=row >= 0, other=0)
        there = tl.load(key_position + column, mask=is_key, other=0)
        distance = tl.minimum(tl.maximum(there[None, :] - here[:, None], -reach), reach)
        logits += tl.load(bias + distance + reach).to(tl.float32)
    return tl.where(is_key[None, :], logits, float("-inf"))


@triton.jit
@no_type_check
def _tile(values, row, is_row, stride, head, head_size, SIZE: tl.constexpr):
    """One head of some rows."""
    dim = tl.arange(0, SIZE)
    cells = row[:, None] * stride + head * head_size + dim[None, :]
    return tl.load(values + cells, mask=is_row[:, None] & (dim < head_size)[None, :], other=0.0)


@triton.jit(do_not_specialize=["num_queries"])
@no_type_check
def _attend(
    query, key, value, context, log_sum,
    query_starts, query_lengths, key_starts, key_lengths,
    bias, bias_step, reach, query_position, key_position,
    query_stride, key_stride, context_stride, num_queries, head_size,
    HAS_BIAS: tl.constexpr, QUERIES: tl.constexpr, KEYS: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """Attention output of a tile of queries, keys tile by tile."""
    head, sequence = tl.program_id(1), tl.program_id(2)
    place = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES)
    is_query = place < tl.load(query_lengths + sequence)
    row = tl.load(query_starts + sequence) + place
    row = tl.where(is_query, row, -1)
    queries = _tile(query, row, is_query, query_stride, head, head_size, SIZE)
    first, length = tl.load(key_starts + sequence), tl.load(key_lengths + sequence)
    # The softmax so far: its greatest logit, and sum and output relative to that.
    greatest = tl.full((QUERIES,), float("-inf"), tl.float32)
    total = tl.zeros((QUERIES,), tl.float32)
    output = tl.zeros((QUERIES, SIZE), tl.float32)
    for begin in range(0, length, KEYS):
        at = begin + tl.arange(0, KEYS)
        is_key, column = at < length, first + at
        keys = _tile(key, column, is_key, key_stride, head, head_size, SIZE)
        logits = _logits(
            queries, keys, row, column, is_key, bias + head * bias_step, reach,
            query_position, key_position, HAS_BIAS,
        )  # fmt: skip
        greater = tl.maximum(greatest, tl.max(logits, axis=1))
        # A window may leave a query without any key so far; then nothing is counted yet.
        base = tl.where(greater == float("-inf"), 0.0, greater)
        probs = tl.exp(logits - base[:, None])
        shrink = tl.exp(greatest - base)
        values = _tile(value, column, is_key, key_stride, head, head_size, SIZE)
        total = total * shrink + tl.sum(probs, axis=1)
        output = output * shrink[:, None]
        output += tl.dot(probs.to(values.dtype), values, input_precision="ieee")
        greatest = greater
    dim = tl.arange(0, SIZE)
    cells = row[:, None] * context_stride + head * head_size + dim[None, :]
    is_cell = is_query[:, None] & (dim < head_size)[None, :]
    tl.store(context + cells, (output / total[:, None]).to(context.dtype.element_ty), mask=is_cell)
    tl.store(log_sum + head * num_queries + row, greatest + tl.log(total), mask=is_query)


@triton.jit(do_not_specialize=["num_rows"])
@no_type_check
def _receive(
    query, key, log_sum, received, starts, lengths,
    bias, bias_step, reach, query_position, key_position,
    query_stride, key_stride, num_rows, head_size,
    HAS_BIAS: tl.constexpr, TILE: tl.constexpr, SIZE: tl.constexpr,
):  # fmt: skip
    """What a tile of keys receives from all queries, tile by tile."""
    head, sequence = tl.program_id(1), tl.program_id(2)
    first, length = tl.load(starts + sequence), tl.load(lengths + sequence)
    place = tl.program_id(0) * TILE + tl.arange(0, TILE)
    is_key, column = place < length, first + place
    keys = _tile(key, column, is_key, key_stride, head, head_size, SIZE)
    total = tl.zeros((TILE,), tl.float32)
    for begin in range(0, length, TILE):
        at = begin + tl.arange(0, TILE)
        is_query = at < length
        row = tl.where(is_query, first + at, -1)
        queries = _tile(query, row, is_query, query_stride, head, head_size, SIZE)
        logits = _logits(
            queries, keys, row, column, is_key, bias + head * bias_step, reach,
            query_position, key_position, HAS_BIAS,
        )  # fmt: skip
        divisor = tl.load(log_sum + head * num_rows + row, mask=is_query, other=0.0)
        probs = tl.exp(logits - divisor[:, None])
        total += tl.sum(tl.where(is_query[:, None], probs, 0.0), axis=0)
    tl.store(received + head * num_rows + column, total, mask=is_key)
