"""Packed runner: tokens really removed, sequences concatenated without blanks.

Live tokens of all sequences lie one after another (also called unpadded, padding-free or varlen).
They go through a layer in blocks of whole sequences that fit into the cache, so memory is bounded
whatever the batch. Rows that a layer drops skip its output projection and FFN, and their context too
where a sequence attends on its own. Inference only.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from ltp_core.encoder.model import Encoder, PositionBias
from ltp_core.pruning.base import Decision, LayerEntry, PruningMethod, select
from ltp_core.runners.attention import (
    Attended,
    Rule,
    attend,
    attend_from_first,
    decide_from_states,
)
from ltp_core.runners.base import Inputs, LastLayer, LayerRecord, RunOutput
from ltp_core.runners.blocks import Block, join, merge, pack
from ltp_core.runners.engine import attends_without_blanks
from ltp_core.runners.head import head_logits, is_answerable
from ltp_core.runners.layout import ACCELERATOR, PROCESSOR, WITHOUT_BLANKS, Limits
from ltp_core.runners.linear import LayerWeights


class PackedRunner:
    """A snapshot of an encoder's weights laid out for inference.

    Args:
        encoder: Whose weights.
        limits: How much one step takes; None takes what suits the encoder's device.
        dtype: Type of the layers' weights and states; None takes the encoder's. Scores and
            probabilities are in float32 or wider, embeddings and head in the encoder's type.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        limits: Limits | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self.encoder = encoder
        weight = encoder.embeddings.word_embeddings.weight
        self._limits = limits or _usual_limits(weight.device, dtype or weight.dtype)
        with torch.no_grad():
            positions = encoder.encoder.positions()
        self._biases = [each.bias for each in positions]
        self._layers = [
            LayerWeights(layer, each.rotation, dtype)
            for layer, each in zip(encoder.layers, positions, strict=True)
        ]

    @torch.inference_mode()
    def __call__(
        self,
        inputs: Inputs,
        method: PruningMethod,
        *,
        record: bool = False,
        last_layer: LastLayer = "all",
    ) -> RunOutput:
        """One pass on live tokens only; equal to `run_masked` of the same arguments.

        A method that looks at nothing prunes nothing: no score is computed unless it is recorded.

        Args:
            inputs: Padded batch; padding is dropped at once.
            method: Decides after each layer's attention, and before it where it selects.
            record: Keep the scores and masks of every layer.
            last_layer: "first" finishes only the first token in the last layer that runs, which is
                all that the head reads: the same logits for less. `ffn_length` then counts that
                token alone. If nothing is recorded and the first token cannot be pruned, its query
                is the only one there (`query_length`), and nothing is decided. A head that reads the
                mean of all tokens needs them all, whatever is said here.

        Raises:
            RuntimeError: The encoder is in training mode.
            ValueError: A span head names tokens, and only the first one is to be finished.
        """
        check_call(self.encoder, last_layer)
        done = _Pass(self.encoder, inputs, method, is_recorded=record)
        dtype = self._layers[0].dtype
        blocks = pack(self.encoder, inputs, done.initial_length, self._limits, dtype)
        running = [i for i in range(len(self._layers)) if method.runs_layer(i)]
        if not done.is_read_at_the_end:
            done.take(blocks)
        for index in running:
            reads_first = not self.encoder.config.reads_every_token
            finishes_first = last_layer == "first" and reads_first and index == running[-1]
            weights, bias = self._layers[index], self._biases[index]
            blocks = done.layer(index, weights, bias, blocks, finishes_first=finishes_first)
        done.take(blocks)
        return done.output(blocks)


def _usual_limits(device: torch.device, dtype: torch.dtype) -> Limits:
    if device.type == "cpu":
        return PROCESSOR
    return WITHOUT_BLANKS if attends_without_blanks(device, dtype) else ACCELERATOR


def check_call(encoder: Encoder, last_layer: LastLayer) -> None:
    """Refuses what the packed runner cannot do with this encoder.

    Raises:
        RuntimeError: It is in training mode.
        ValueError: A span head names tokens, and only the first one is to be finished.
    """
    if encoder.training:
        raise RuntimeError("the packed runner is for inference; call encoder.eval() first")
    if last_layer == "first" and encoder.config.head == "span":
        raise ValueError("a span head reads every token: finish them all")


def run_packed(
    encoder: Encoder,
    inputs: Inputs,
    method: PruningMethod,
    *,
    record: bool = False,
    last_layer: LastLayer = "all",
) -> RunOutput:
    """`PackedRunner` for a single call."""
    return PackedRunner(encoder)(inputs, method, record=record, last_layer=last_layer)


class _Pass:
    """What one batch goes through, and what is noted on the way."""

    def __init__(
        self, encoder: Encoder, inputs: Inputs, method: PruningMethod, *, is_recorded: bool
    ) -> None:
        self.initial_length: list[int] = inputs.length.tolist()
        self._encoder, self._method, self._is_recorded = encoder, method, is_recorded
        self._inputs, self._mask = inputs, inputs.attention_mask
        self._needs_scores = is_recorded or bool(method.signals)
        self._protects_first = inputs.protects_first
        self._entered, self._asked, self._left = (
            [[0] * len(self.initial_length) for _ in encoder.layers] for _ in range(3)
        )
        self._records: list[LayerRecord] = []
        self._reads_all = encoder.config.reads_every_token
        is_first_certain = self._protects_first and not self._reads_all
        self.is_read_at_the_end = is_first_certain or not (
            self._needs_scores or method.entry_layers
        )
        weight = encoder.embeddings.word_embeddings.weight
        num_read = self._mask.numel() if self._reads_all else len(self.initial_length)
        self._states = weight.new_zeros(num_read, encoder.config.hidden_size)

    def layer(
        self,
        index: int,
        weights: LayerWeights,
        bias: PositionBias | None,
        blocks: list[Block],
        *,
        finishes_first: bool,
    ) -> list[Block]:
        """All blocks through one layer, one after another."""
        if self._is_recorded:
            self._records.append(_empty_record(self._mask, self._states.dtype))
        selects = index in self._method.entry_layers
        if selects:
            blocks = merge([self._select(index, block) for block in blocks])
        is_short_cut = finishes_first and self.is_read_at_the_end and not self._is_recorded
        if is_short_cut:
            after = [_finish_first(weights, bias, block) for block in blocks]
        else:
            rule = self._rule(index, finishes_first=finishes_first)
            after = merge([self._step(weights, bias, block, rule) for block in blocks])
        _note(self._entered[index], blocks)
        _note(self._asked[index], after if is_short_cut else blocks)
        _note(self._left[index], after)
        if not self.is_read_at_the_end:
            self.take(after)
        return after

    def _rule(self, index: int, *, finishes_first: bool) -> Rule | None:
        if not (self._needs_scores or finishes_first):
            return None
        return Rule(
            method=self._method,
            layer_index=index,
            initial_length=self.initial_length,
            is_never_empty=self._protects_first,
            finishes_first=finishes_first,
        )

    def _select(self, index: int, block: Block) -> Block:
        """The block's tokens that enter the layer."""
        layout, device = block.layout, block.hidden.device
        lengths = torch.tensor(layout.lengths, device=device)
        entry = LayerEntry(
            layer_index=index,
            hidden=block.hidden,
            sequence=torch.repeat_interleave(lengths, output_size=len(block)),
            position=block.position,
            protected=block.protected,
            batch=len(lengths),
            is_never_empty=self._protects_first,
        )
        selection = select(self._method, entry)
        if self._is_recorded:
            _record_selection(self._records[-1], block, entry, selection)
        kept = selection.retained.nonzero().view(-1)
        counts = torch.bincount(entry.sequence[kept], minlength=len(lengths))
        return Block(
            hidden=block.hidden.index_select(0, kept),
            position=block.position.index_select(0, kept),
            protected=block.protected.index_select(0, kept),
            special=block.special.index_select(0, kept),
            carry=None if block.carry is None else block.carry.index_select(0, kept),
            layout=replace(layout, lengths=counts.tolist()),
        )

    def _step(
        self, weights: LayerWeights, bias: PositionBias | None, block: Block, rule: Rule | None
    ) -> Block:
        """One block through one layer."""
        projected = weights.project(block.hidden, block.position)
        results = [
            attend(projected, block, group, weights.num_heads, rule, bias)
            for group in block.layout.groups
        ]
        if rule is None or not rule.method.reads_states:
            if rule is not None and self._is_recorded:
                _record(self._records[-1], block, results, rule)
            return _finish(weights, block, results)
        # States of all tokens after attention, then the decision, then the FFN of those that stay.
        rows = join([group.rows for group in block.layout.groups])
        context = join([result.context for result in results])
        attended = weights.attend(context, block.hidden.index_select(0, rows))
        parts = torch.split(attended[: len(rows)], [len(result.context) for result in results])
        decided = [
            decide_from_states(result, part, block, group, rule)
            for result, part, group in zip(results, parts, block.layout.groups, strict=True)
        ]
        if self._is_recorded:
            _record(self._records[-1], block, decided, rule)
        stayed = join([result.context for result in decided])
        hidden = weights.feed_forward(weights.projection.rounded(stayed))[: len(stayed)]
        return _stayed(block, hidden, _rows(block, decided), decided)

    def take(self, blocks: list[Block]) -> None:
        """Notes the states of the live tokens that the head reads: all, or each first one."""
        for block in blocks:
            if self._reads_all:
                cells = _cells(block, self._mask.shape[1])
                self._states.index_copy_(0, cells, block.hidden.to(self._states.dtype))
                continue
            rows, starts = _live_starts(block)
            if not self.is_read_at_the_end:
                is_first = block.position[starts] == 0
                rows, starts = rows[is_first], starts[is_first]
            first = block.hidden.index_select(0, starts)
            self._states.index_copy_(0, rows, first.to(self._states.dtype))

    def output(self, blocks: list[Block]) -> RunOutput:
        """Logits and counts.

        Args:
            blocks: What is live in the end.
        """
        live = torch.zeros_like(self._mask)
        for block in blocks if self._reads_all else ():
            live.view(-1)[_cells(block, live.shape[1])] = True
        states = self._states.view(len(self.initial_length), -1, self._states.shape[1])
        answerable = is_answerable(self._inputs, self._method, live)
        return RunOutput(
            logits=head_logits(self._encoder, states, answerable),
            attention_length=torch.tensor(self._entered).T,
            ffn_length=torch.tensor(self._left).T,
            layers=tuple(self._records),
            query_length=torch.tensor(self._asked).T,
        )


def _note(counts: list[int], blocks: list[Block]) -> None:
    """Writes how many tokens each sequence has; plain lists, as an array costs more than it holds."""
    for block in blocks:
        for sequence, length in zip(block.layout.sequences, block.layout.lengths, strict=True):
            counts[sequence] = length


def _cells(block: Block, width: int) -> Int[Tensor, " packed"]:
    """Place of each token in the flat padded batch."""
    layout, device = block.layout, block.hidden.device
    rows = torch.tensor(layout.sequences, device=device, dtype=torch.long)
    lengths = torch.tensor(layout.lengths, device=device)
    rows = rows.repeat_interleave(lengths, output_size=len(block))
    return rows * width + block.position


def _live_starts(block: Block) -> tuple[Int[Tensor, " live"], Int[Tensor, " live"]]:
    """Batch row and first token of each sequence that has a token."""
    layout, device = block.layout, block.hidden.device
    live = [i for i, length in enumerate(layout.lengths) if length > 0]
    rows = torch.tensor([layout.sequences[i] for i in live], device=device, dtype=torch.long)
    starts = torch.tensor([layout.starts[i] for i in live], device=device, dtype=torch.long)
    return rows, starts


def _finish(weights: LayerWeights, block: Block, results: list[Attended]) -> Block:
    """Output projection and FFN on the tokens that stay."""
    context = join([result.context for result in results])
    if len(context) == len(block) and block.layout.is_in_order:
        hidden = weights.finish(context, block.hidden)
        return replace(block, hidden=hidden, carry=_carry(results))
    kept = _rows(block, results)
    hidden = weights.finish(context, block.hidden.index_select(0, kept))
    return _stayed(block, hidden, kept, results)


def _stayed(
    block: Block, hidden: Tensor, kept: Int[Tensor, " kept"], results: list[Attended]
) -> Block:
    """The block of the tokens in these rows, with their new states."""
    return Block(
        hidden=hidden,
        position=block.position.index_select(0, kept),
        protected=block.protected.index_select(0, kept),
        special=block.special.index_select(0, kept),
        carry=_carry(results),
        layout=block.layout.after([result.lengths for result in results]),
    )


def _rows(block: Block, results: list[Attended]) -> Int[Tensor, " kept"]:
    """Rows of the block's tokens that are finished, group after group."""
    return join([g.rows_of(r.kept) for g, r in zip(block.layout.groups, results, strict=True)])


def _carry(results: list[Attended]) -> Tensor | None:
    carries = [result.carry for result in results if result.carry is not None]
    return join(carries) if carries else None


def _finish_first(weights: LayerWeights, bias: PositionBias | None, block: Block) -> Block:
    """The whole layer for the first token of each sequence alone."""
    layout = block.layout
    starts = torch.tensor(layout.starts[:-1], device=block.hidden.device)
    first = block.hidden.index_select(0, starts)
    query, projected = weights.project_first(starts, block.hidden, block.position)
    context = torch.empty_like(first)
    for group in layout.groups:
        asked = attend_from_first(query, projected, block, group, weights.num_heads, bias)
        context.index_copy_(0, group.member, asked.to(context.dtype))
    return Block(
        hidden=weights.finish(context, first),
        position=block.position.index_select(0, starts),
        protected=block.protected.index_select(0, starts),
        special=block.special.index_select(0, starts),
        carry=None,
        layout=replace(layout, lengths=[1] * len(first)),
    )


def _empty_record(mask: Bool[Tensor, "batch seq"], dtype: torch.dtype) -> LayerRecord:
    nowhere = torch.zeros_like(mask)
    blank = nowhere.to(torch.promote_types(dtype, torch.float32))
    return LayerRecord(nowhere, blank, nowhere.clone(), blank.clone())


def _record_selection(
    record: LayerRecord, block: Block, entry: LayerEntry, selection: Decision
) -> None:
    """Writes which tokens of a block came to the layer, and by what they were selected."""
    assert selection.score is not None
    cell = torch.tensor(block.layout.sequences, device=block.hidden.device)[entry.sequence]
    record.live[cell, block.position] = True
    record.score[cell, block.position] = selection.score.to(record.score.dtype)


def _record(record: LayerRecord, block: Block, results: list[Attended], rule: Rule) -> None:
    """Writes scores and masks of a block's tokens into the coordinates of the padded batch."""
    is_selected = rule.layer_index in rule.method.entry_layers
    sequences = torch.tensor(block.layout.sequences, device=block.hidden.device)
    for group, result in zip(block.layout.groups, results, strict=True):
        assert result.score is not None
        assert result.attention is not None
        assert result.retained is not None
        cell = sequences[group.member][group.sequence], group.take(block.position)
        record.live[cell] = True
        if not is_selected:
            record.score[cell] = result.score
        record.attention[cell] = result.attention
        record.retained[cell] = result.retained
