"""Packed runner: tokens really removed, sequences concatenated without blanks.

Live tokens of all sequences lie one after another; `cu_seqlens` says where each sequence begins
(also called unpadded, padding-free or varlen). Attention runs over groups of sequences of about
equal length that fit into the cache; everything else runs on all live tokens at once. Rows that a
layer drops skip its context, output projection and FFN. Inference only.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ltp_core.encoder.model import Encoder, EncoderLayer
from ltp_core.pruning.base import LayerState, PruningMethod, decide
from ltp_core.pruning.importance import importance_score, self_attention_share
from ltp_core.runners.base import Inputs, LayerRecord, RunOutput

MAX_GROUP_BYTES = 16 * 2**20
"""Attention probabilities held at once; about what a core's cache keeps."""

MAX_LENGTH_SPREAD = 0.25
"""Longest minus shortest sequence of a group, as a fraction of the longest."""


@dataclass(frozen=True)
class Packed:
    """Live tokens without blanks, sequences in order of falling length.

    Attributes:
        hidden: State of each token.
        position: Its position in the original sequence.
        protected: True where no method may prune it.
        carry: What the method handed over from the previous layer.
        rows: The batch row of each sequence.
        lengths: Live tokens of each sequence.
    """

    hidden: Float[Tensor, "packed hidden"]
    position: Int[Tensor, " packed"]
    protected: Bool[Tensor, " packed"]
    carry: Float[Tensor, " packed"] | None
    rows: list[int]
    lengths: list[int]

    @property
    def cu_seqlens(self) -> list[int]:
        """Start of each sequence, and the end of the last."""
        starts = [0]
        for length in self.lengths:
            starts.append(starts[-1] + length)
        return starts


@dataclass(frozen=True)
class GroupResult:
    """What attention and the method's decision leave of one group of sequences.

    Attributes:
        score: Importance score of the group's tokens.
        retained: Which of them go on.
        context: Attention output of those.
        carry: The method's carry, for all of the group's tokens.
    """

    score: Float[Tensor, " live"]
    retained: Bool[Tensor, " live"]
    context: Float[Tensor, "kept hidden"]
    carry: Float[Tensor, " live"] | None


class PackedRunner:
    """A snapshot of an encoder's weights laid out for inference.

    Query, key and value are one product, with the softmax scale folded into the query.
    """

    def __init__(self, encoder: Encoder) -> None:
        self.encoder = encoder
        self._projections = [_fuse_projections(layer) for layer in encoder.layers]

    @torch.inference_mode()
    def __call__(self, inputs: Inputs, method: PruningMethod, *, record: bool = False) -> RunOutput:
        """One pass on live tokens only; equal to `run_masked` of the same arguments.

        Args:
            inputs: Padded batch; padding is dropped at once.
            method: Decides after each layer's attention.
            record: Keep the scores and masks of every layer.

        Raises:
            RuntimeError: The encoder is in training mode.
        """
        if self.encoder.training:
            raise RuntimeError("the packed runner is for inference; call encoder.eval() first")
        initial = inputs.length.tolist()
        packed = _pack(self.encoder, inputs, initial)
        protects_first = inputs.protects_first
        first = torch.empty_like(packed.hidden[: len(initial)])
        _update_first(first, packed)
        entered = torch.zeros(len(initial), len(self.encoder.layers), dtype=torch.long)
        left = torch.zeros_like(entered)
        records: list[LayerRecord] = []
        for index, layer in enumerate(self.encoder.layers):
            if not method.runs_layer(index):
                continue
            entering = packed
            results = self._attend(index, packed, method, initial, is_never_empty=protects_first)
            packed = _finish(layer, packed, results)
            if not protects_first:
                _update_first(first, packed)
            entered[entering.rows, index] = torch.tensor(entering.lengths)
            left[packed.rows, index] = torch.tensor(packed.lengths)
            if record:
                records.append(_unpack(entering, results, inputs.attention_mask))
        if protects_first:
            _update_first(first, packed)
        return RunOutput(self.encoder.head(first), entered, left, tuple(records))

    def _attend(
        self,
        index: int,
        packed: Packed,
        method: PruningMethod,
        initial: list[int],
        *,
        is_never_empty: bool,
    ) -> list[GroupResult]:
        weight, bias = self._projections[index]
        qkv = functional.linear(packed.hidden, weight, bias)
        starts = packed.cu_seqlens
        num_heads = self.encoder.config.num_heads
        results = []
        for begin, end in _groups(packed.lengths, num_heads):
            rows = slice(starts[begin], starts[end])
            lengths = packed.lengths[begin:end]
            probs, value, live = _attention(qkv[rows], lengths, num_heads)
            score = importance_score(probs, live)
            flat = score.flatten() if live is None else score[live]
            state = LayerState(
                layer_index=index,
                score=flat,
                sequence=_sequence_index(lengths, flat.device),
                position=packed.position[rows],
                protected=packed.protected[rows],
                live_length=torch.tensor(lengths, device=flat.device),
                initial_length=torch.tensor(
                    [initial[row] for row in packed.rows[begin:end]], device=flat.device
                ),
                carry=None if packed.carry is None else packed.carry[rows],
                diagonal=_diagonal(method, probs, live),
                is_never_empty=is_never_empty,
            )
            decision = decide(method, state)
            context = _context(probs, value, _as_rows(decision.retained, live, probs))
            results.append(GroupResult(flat, decision.retained, context, decision.carry))
        return results


def run_packed(
    encoder: Encoder, inputs: Inputs, method: PruningMethod, *, record: bool = False
) -> RunOutput:
    """`PackedRunner` for a single call."""
    return PackedRunner(encoder)(inputs, method, record=record)


def _fuse_projections(layer: EncoderLayer) -> tuple[Tensor, Tensor]:
    """Weight `3*hidden hidden` and bias of query (scaled), key and value."""
    source = layer.attention.self
    scale = 1 / math.sqrt(layer.head_size)
    weight = torch.cat([source.query.weight * scale, source.key.weight, source.value.weight])
    bias = torch.cat([source.query.bias * scale, source.key.bias, source.value.bias])
    return weight.detach(), bias.detach()


def _pack(encoder: Encoder, inputs: Inputs, lengths: list[int]) -> Packed:
    """Embeds the real tokens, longest sequence first."""
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    order = torch.tensor(rows, device=inputs.input_ids.device)
    mask = inputs.attention_mask[order]
    places = encoder.embeddings.position_ids(inputs.input_ids)[order][mask]
    hidden = encoder.embeddings(
        inputs.input_ids[order][mask], inputs.token_type_ids[order][mask], places
    )
    return Packed(
        hidden=hidden,
        position=mask.nonzero()[:, 1],
        protected=inputs.protected[order][mask],
        carry=None,
        rows=rows,
        lengths=[lengths[row] for row in rows],
    )


def _groups(lengths: list[int], num_heads: int) -> list[tuple[int, int]]:
    """Consecutive sequences of about equal length whose attention fits into the cache."""
    groups = []
    begin = 0
    for end in range(1, len(lengths) + 1):
        longest = lengths[begin]
        is_full = (end - begin + 1) * num_heads * longest**2 * 4 > MAX_GROUP_BYTES
        if end == len(lengths) or is_full or lengths[end] < (1 - MAX_LENGTH_SPREAD) * longest:
            groups.append((begin, end))
            begin = end
    return groups


def _sequence_index(lengths: list[int], device: torch.device) -> Int[Tensor, " live"]:
    if len(lengths) == 1:
        return torch.zeros(lengths[0], dtype=torch.long, device=device)
    counts = torch.tensor(lengths, device=device)
    return torch.repeat_interleave(counts, output_size=sum(lengths))


def _attention(
    qkv: Float[Tensor, "live three_hidden"], lengths: list[int], num_heads: int
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Attention probabilities and values of a group, and which cells are real (None: all)."""
    live = None
    width = max(lengths)
    if min(lengths) == width:
        padded = qkv.view(len(lengths), width, -1)
    else:
        counts = torch.tensor(lengths, device=qkv.device)
        live = torch.arange(width, device=qkv.device) < counts[:, None]
        padded = qkv.new_zeros(len(lengths), width, qkv.shape[1])
        padded[live] = qkv
    split = padded.view(len(lengths), width, 3, num_heads, -1)
    query, key, value = split.permute(2, 0, 3, 1, 4)
    logits = query @ key.transpose(-1, -2)
    if live is not None:
        logits = logits.masked_fill(~live[:, None, None, :], -torch.inf)
    dtype = torch.promote_types(logits.dtype, torch.float32)
    return torch.softmax(logits, dim=-1, dtype=dtype), value, live


def _diagonal(
    method: PruningMethod,
    probs: Float[Tensor, "batch head seq seq"],
    live: Bool[Tensor, "batch seq"] | None,
) -> Float[Tensor, " live"] | None:
    if "diagonal" not in method.signals:
        return None
    share = self_attention_share(probs)
    return share.flatten() if live is None else share[live]


def _as_rows(
    flat: Bool[Tensor, " live"], live: Bool[Tensor, "batch seq"] | None, probs: Tensor
) -> Bool[Tensor, "batch seq"]:
    """Puts a flat mask back into the group's shape."""
    if live is None:
        return flat.view(probs.shape[0], probs.shape[-1])
    rows = torch.zeros_like(live)
    rows[live] = flat
    return rows


def _context(
    probs: Float[Tensor, "batch head seq seq"],
    value: Float[Tensor, "batch head seq head_size"],
    retained: Bool[Tensor, "batch seq"],
) -> Float[Tensor, "kept hidden"]:
    """Attention output of the retained queries only."""
    counts = retained.sum(dim=1)
    width = int(counts.max())
    if width == retained.shape[1]:
        return (probs.to(value.dtype) @ value).transpose(1, 2).flatten(2)[retained]
    if len(retained) == 1:
        kept = probs[:, :, retained[0].nonzero()[:, 0]]
        return (kept.to(value.dtype) @ value)[0].transpose(0, 1).flatten(1)
    first = (~retained).to(torch.int8).argsort(dim=1, stable=True)[:, :width]
    kept = probs.gather(2, first[:, None, :, None].expand(-1, probs.shape[1], -1, probs.shape[3]))
    context = (kept.to(value.dtype) @ value).transpose(1, 2).flatten(2)
    return context[torch.arange(width, device=counts.device) < counts[:, None]]


def _finish(layer: EncoderLayer, packed: Packed, results: list[GroupResult]) -> Packed:
    """Output projection and FFN on the retained tokens; sequences sorted by their new length."""
    retained = _join([result.retained for result in results])
    kept = retained.nonzero()[:, 0]
    hidden = layer.finish(_join([result.context for result in results]), packed.hidden[kept])
    sequence = _sequence_index(packed.lengths, kept.device)[kept]
    lengths = torch.bincount(sequence, minlength=len(packed.lengths)).tolist()
    carries = [result.carry for result in results if result.carry is not None]
    carry = _join(carries)[kept] if carries else None
    after = Packed(
        hidden, packed.position[kept], packed.protected[kept], carry, packed.rows, lengths
    )
    return after if lengths == sorted(lengths, reverse=True) else _sort(after)


def _update_first(first: Float[Tensor, "batch hidden"], packed: Packed) -> None:
    """Takes over the first token's state of every sequence where that token is live."""
    starts = torch.tensor(packed.cu_seqlens[:-1], device=first.device)
    rows = torch.tensor(packed.rows, device=first.device)
    is_live = packed.position[starts] == 0
    first[rows[is_live]] = packed.hidden[starts[is_live]]


def _join(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _sort(packed: Packed) -> Packed:
    """Reorders the sequences by falling length."""
    starts = packed.cu_seqlens
    order = sorted(range(len(packed.lengths)), key=lambda i: -packed.lengths[i])
    index = torch.cat([torch.arange(starts[i], starts[i + 1]) for i in order])
    index = index.to(packed.hidden.device)
    return Packed(
        hidden=packed.hidden[index],
        position=packed.position[index],
        protected=packed.protected[index],
        carry=None if packed.carry is None else packed.carry[index],
        rows=[packed.rows[i] for i in order],
        lengths=[packed.lengths[i] for i in order],
    )


def _unpack(
    packed: Packed, results: list[GroupResult], attention_mask: Bool[Tensor, "batch seq"]
) -> LayerRecord:
    """A layer's scores and masks in the coordinates of the padded batch."""
    row = torch.tensor(packed.rows, device=packed.hidden.device)
    cell = (row[_sequence_index(packed.lengths, row.device)], packed.position)
    live = torch.zeros_like(attention_mask)
    live[cell] = True
    retained = torch.zeros_like(attention_mask)
    retained[cell] = _join([result.retained for result in results])
    scores = _join([result.score for result in results])
    score = torch.zeros(attention_mask.shape, dtype=scores.dtype, device=row.device)
    score[cell] = scores
    return LayerRecord(live, score, retained)
