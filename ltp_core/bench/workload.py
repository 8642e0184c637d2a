"""The sequences that are run, the order of the batches, and what each variant computes on.

Axes: `examples` sequences of a round, `layers` encoder layers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int

from ltp_core.bench.variants import Padding, Variant
from ltp_core.flops import FLOPS_PER_MAC, NO_COST, DecisionCost, total_flops
from ltp_core.tokenize import Encoded, sorted_batches

Batches = Sequence[Int[np.ndarray, " _"]]
"""Positions of the sequences of each batch; the last may be smaller."""


@dataclass(frozen=True)
class LayerLengths:
    """What is computed of each sequence in each layer, in tokens.

    Attributes:
        attention: Tokens that enter attention.
        query: Tokens whose queries are computed.
        ffn: Tokens that enter output projection and FFN.
        decision: What the method computes to decide; if it reads states, all tokens that ask have an
            attention output, whether they stay or not.
    """

    attention: Int[np.ndarray, "examples layers"]
    query: Int[np.ndarray, "examples layers"]
    ffn: Int[np.ndarray, "examples layers"]
    decision: DecisionCost = NO_COST

    @property
    def output(self) -> Int[np.ndarray, "examples layers"]:
        """Tokens whose attention output is computed."""
        return self.query if self.decision.reads_states else self.ffn

    def take(self, index: Int[np.ndarray, " _"]) -> LayerLengths:
        """The sequences at these positions."""
        lengths = self.attention[index], self.query[index], self.ffn[index]
        return LayerLengths(*lengths, decision=self.decision)


def with_lengths(
    encoded: Encoded, lengths: Int[np.ndarray, " examples"], *, seed: int = 0
) -> Encoded:
    """Sequences of exactly these lengths: real texts in random order, one after another, cut.

    The first and last token of the set's inputs (`[CLS]`, `[SEP]`) stand once at the beginning and
    the end of each sequence; everything is of token type 0.

    Args:
        encoded: Real inputs.
        lengths: Tokens of each sequence, special ones included; at least 3.
        seed: Seed of the order.
    """
    begin, end = encoded.input_ids[0][0], encoded.input_ids[0][-1]
    order = np.random.default_rng(seed).permutation(len(encoded))
    stream = np.concatenate([encoded.input_ids[i] for i in order])
    stream = stream[(stream != begin) & (stream != end)]
    if not len(stream):
        raise ValueError("the inputs have no token but special ones")
    inner = np.resize(stream, int((lengths - 2).sum()))
    parts = np.split(inner, np.cumsum(lengths - 2)[:-1])
    return Encoded(
        input_ids=[[begin, *part.tolist(), end] for part in parts],
        token_type_ids=[[0] * int(length) for length in lengths],
        length=lengths.astype(np.int64),
        cut=np.zeros(len(lengths), dtype=np.int64),
    )


def batches_of(
    variant: Variant, length: Int[np.ndarray, " examples"], batch_size: int, *, seed: int
) -> Batches:
    """The variant's batches in one round: sorted by length, or shuffled anew by the seed."""
    if variant.is_sorted:
        return sorted_batches(length, batch_size)
    order = np.random.default_rng(seed).permutation(len(length))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def with_padding(lengths: LayerLengths, batches: Batches, padding: Padding) -> LayerLengths:
    """The lengths that are computed on: with the padding that these batches bring along.

    Args:
        lengths: Live tokens; for what is masked, but computed, those without pruning.
        batches: Every sequence in one of them.
        padding: Up to what each sequence is padded; padding in attention alone have no tokens here,
            `attention_padding_flops` has them.
    """
    if padding in ("none", "attention"):
        return lengths

    def longest(source: Int[np.ndarray, "examples layers"]) -> Int[np.ndarray, "examples layers"]:
        padded = np.empty_like(source)
        for index in batches:
            padded[index] = source[index].max(axis=0)
        return padded

    return LayerLengths(
        longest(lengths.attention),
        longest(lengths.query),
        longest(lengths.ffn),
        decision=lengths.decision,
    )


def without_pruning(length: Int[np.ndarray, " examples"], runs: Sequence[bool]) -> LayerLengths:
    """All tokens in all layers that run.

    Args:
        length: Tokens of each sequence.
        runs: By layer, whether it runs at all.
    """
    full = np.outer(length, np.asarray(runs, dtype=np.int64))
    return LayerLengths(full, full, full)


def attention_padding_flops(lengths: LayerLengths, batches: Batches, *, hidden: int) -> float:
    """FLOPs beyond `flops_of` where only attention is padded, to a batch's longest survivor.

    Both products are then done for all queries, also for those of tokens that leave; a sequence on
    its own has no padding and does the second for its survivors only.
    """
    macs = 0.0
    for index in batches:
        if len(index) > 1:
            own = lengths.take(index)
            padded = len(index) * own.query.max(axis=0) * own.attention.max(axis=0)
            macs += hidden * float((2 * padded).sum())
            macs -= hidden * float(((own.query + own.output) * own.attention).sum())
    return FLOPS_PER_MAC * macs


def flops_of(lengths: LayerLengths, *, hidden: int, intermediate: int, ffn_maps: int = 2) -> float:
    """FLOPs of all sequences, as executed."""
    return total_flops(
        lengths.attention,
        lengths.ffn,
        hidden=hidden,
        intermediate=intermediate,
        ffn_maps=ffn_maps,
        accounting="executed",
        query_length=lengths.query,
        decision=lengths.decision,
    )
