"""Attention of one group of packed sequences, the method's decision, and what goes on.

Scores and probabilities of a group are used while they are in the cache, and are gone afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from ltp_core.encoder.model import PositionBias
from ltp_core.pruning.base import LayerState, PruningMethod, decide
from ltp_core.pruning.importance import self_attention_share
from ltp_core.runners.blocks import Block
from ltp_core.runners.layout import Group

SHORT = 128
"""Up to this length a plain sum is the fastest way to a single sequence's scores."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """Who decides in a layer, and for what.

    Attributes:
        method: The pruning method.
        layer_index: Zero-based.
        initial_length: Tokens of each row of the batch at the input.
        is_never_empty: Every sequence has a protected token.
        finishes_first: Only the first token of a sequence is finished, if it stays.
    """

    method: PruningMethod
    layer_index: int
    initial_length: list[int]
    is_never_empty: bool
    finishes_first: bool = False


@dataclass(frozen=True, kw_only=True)
class Attended:
    """What a group leaves.

    Attributes:
        context: Attention output of the tokens in `kept`.
        kept: Which of the group's tokens are finished; None: all.
        lengths: How many of each sequence.
        score: What the method compared for each of the group's tokens, if it was needed.
        attention: Their importance scores.
        diagonal: Attention that each pays to itself, for a method that looks at it.
        retained: Which of them the method lets go on.
        carry: The method's carry of the tokens that are finished.
    """

    context: Float[Tensor, "kept hidden"]
    kept: Int[Tensor, " kept"] | None
    lengths: list[int]
    score: Float[Tensor, " live"] | None = None
    attention: Float[Tensor, " live"] | None = None
    diagonal: Float[Tensor, " live"] | None = None
    retained: Bool[Tensor, " live"] | None = None
    carry: Float[Tensor, " kept"] | None = None


def attend(
    projected: Float[Tensor, "packed three_hidden"],
    block: Block,
    group: Group,
    num_heads: int,
    rule: Rule | None,
    bias: PositionBias | None = None,
) -> Attended:
    """Attention of a group, and the decision about its tokens unless it needs their states.

    Args:
        projected: Query (scaled), key and value of all tokens of the block.
        block: The tokens.
        group: Which of its sequences.
        num_heads: Attention heads.
        rule: Who decides; None keeps everything, and no score is computed.
        bias: What is added to the logits, by original positions.
    """
    if block.layout.limits.has_one_group:
        return _attend_without_blanks(projected, block, group, num_heads, rule, bias)
    query, key, value = _split(projected, group, 3, num_heads)
    added = _added(bias, block, group, query.dtype)
    if rule is None and projected.is_cuda:
        return _whole(_fused(query, key, value, group, num_heads, added), group)
    probs = _probabilities(query, key, group.live, num_heads, added)
    if rule is None:
        return _whole(torch.bmm(probs.to(value.dtype), value), group)
    score = _score(probs, group, num_heads)
    diagonal = _diagonal(probs, group) if "diagonal" in rule.method.signals else None
    if rule.method.reads_states:
        # `decide_from_states` goes on once the whole block has its states.
        whole = _whole(torch.bmm(probs.to(value.dtype), value), group)
        return replace(whole, attention=score, diagonal=diagonal)
    gather = partial(_context, probs, value, group)
    return _decided(score, diagonal, None, block, group, rule, gather)


def _attend_without_blanks(
    projected: Float[Tensor, "packed three_hidden"],
    block: Block,
    group: Group,
    num_heads: int,
    rule: Rule | None,
    bias: PositionBias | None,
) -> Attended:
    """The same in Triton, of all sequences as they lie."""
    from ltp_core.runners import triton_attention

    query, key, value = projected.view(len(block), 3, num_heads, -1).unbind(1)
    sequences = triton_attention.Sequences(
        starts=group.start, lengths=group.live_length, longest=group.width, position=block.position
    )
    context, log_sum = triton_attention.attention_output(
        query, key, value, sequences, sequences, bias
    )
    whole = Attended(context=context, kept=None, lengths=group.lengths)
    if rule is None:
        return whole
    score = triton_attention.importance_score(query, key, log_sum, sequences, bias)
    has_diagonal = "diagonal" in rule.method.signals
    diagonal = triton_attention.self_attention(query, key, log_sum, bias) if has_diagonal else None
    if rule.method.reads_states:
        return replace(whole, attention=score, diagonal=diagonal)
    gather = partial(context.index_select, 0)
    return _decided(score, diagonal, None, block, group, rule, gather)


def decide_from_states(
    result: Attended,
    attended: Float[Tensor, "live hidden"],
    block: Block,
    group: Group,
    rule: Rule,
) -> Attended:
    """The decision about a group's tokens by a method that reads their states.

    The `context` of the result are those states of the tokens that are finished.

    Args:
        result: What `attend` left of the group.
        attended: States of its tokens after the attention's residual and layer norm.
        block: The tokens.
        group: Which of its sequences.
        rule: Who decides.
    """
    assert result.attention is not None
    gather = partial(attended.index_select, 0)
    return _decided(result.attention, result.diagonal, attended, block, group, rule, gather)


def _decided(
    score: Float[Tensor, " live"],
    diagonal: Float[Tensor, " live"] | None,
    attended: Float[Tensor, "live hidden"] | None,
    block: Block,
    group: Group,
    rule: Rule,
    gather: Callable[[Tensor], Tensor],
) -> Attended:
    """Who stays, and what `gather` gives of those that are finished."""
    initial = [rule.initial_length[block.layout.sequences[i]] for i in group.members]
    state = LayerState(
        layer_index=rule.layer_index,
        score=score,
        sequence=group.sequence,
        position=group.take(block.position),
        protected=group.take(block.protected),
        live_length=group.live_length,
        initial_length=torch.tensor(initial, device=score.device),
        diagonal=diagonal,
        carry=None if block.carry is None else group.take(block.carry),
        special=group.take(block.special) if "special" in rule.method.signals else None,
        attended=attended,
        is_never_empty=rule.is_never_empty,
    )
    decision = decide(rule.method, state)
    finished = decision.retained
    if rule.finishes_first:
        finished = finished & (state.position == 0)
    kept = finished.nonzero().view(-1)
    return Attended(
        context=gather(kept),
        kept=kept,
        lengths=_count(kept, group),
        score=score if decision.score is None else decision.score,
        attention=score,
        retained=decision.retained,
        carry=None if decision.carry is None else decision.carry.index_select(0, kept),
    )


def _split(
    projected: Float[Tensor, "packed parts_hidden"], group: Group, num_parts: int, num_heads: int
) -> tuple[Tensor, ...]:
    """Each part as `batch_head seq head_size`: views of one sequence, a padded copy of several."""
    if len(group) == 1:
        parts = _wide(projected[group.span]).view(group.width, num_parts, num_heads, -1)
        return parts.permute(1, 2, 0, 3).unbind(0)
    is_dense = group.span is not None and group.live is None
    padded = group.take(projected) if is_dense else projected.index_select(0, group.padded_rows)
    parts = padded.view(len(group), group.width, num_parts, num_heads, -1)
    return _wide(parts.permute(2, 0, 3, 1, 4)).flatten(1, 2).unbind(0)


def _added(
    bias: PositionBias | None,
    block: Block,
    group: Group,
    dtype: torch.dtype,
    num_queries: int | None = None,
) -> Float[Tensor, "batch head query seq"] | None:
    """What is added to the logits of the group's first queries, all by default; None: nothing."""
    if bias is None:
        return None
    position = block.position.index_select(0, group.padded_rows).view(len(group), group.width)
    return bias(position[:, :num_queries], position).to(dtype)


def _wide(values: Tensor) -> Tensor:
    """In float32 on a processor: there oneDNN would compile the small products of each shape anew."""
    if values.device.type != "cpu" or values.dtype.itemsize >= 4:
        return values
    return values.to(torch.float32, memory_format=torch.contiguous_format)


def _probabilities(
    query: Float[Tensor, "batch_head query head_size"],
    key: Float[Tensor, "batch_head seq head_size"],
    live: Bool[Tensor, "batch seq"] | None,
    num_heads: int,
    added: Float[Tensor, "batch head query seq"] | None = None,
) -> Float[Tensor, "batch_head query seq"]:
    """Softmax over the live keys of the logits with what is added, in float32 or wider."""
    logits = torch.bmm(query, key.transpose(1, 2))
    if added is not None:
        logits.view(len(added), num_heads, *logits.shape[1:]).add_(added)
    if live is not None:
        blank = torch.zeros_like(live, dtype=logits.dtype).masked_fill_(~live, -torch.inf)
        logits.view(len(live), num_heads, -1, live.shape[1]).add_(blank[:, None, None, :])
    return torch.softmax(logits, dim=-1, dtype=torch.promote_types(logits.dtype, torch.float32))


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    group: Group,
    num_heads: int,
    added: Float[Tensor, "batch head seq seq"] | None,
) -> Tensor:
    """Context by the fastest attention that PyTorch has for the device; it gives no scores."""
    shape = (len(group), num_heads, group.width, -1)
    mask = None if group.live is None else group.live[:, None, None, :]
    if added is not None:
        mask = added if mask is None else added.masked_fill(~mask, -torch.inf)
    context = functional.scaled_dot_product_attention(
        query.reshape(shape), key.reshape(shape), value.reshape(shape), attn_mask=mask, scale=1.0
    )
    return context.flatten(0, 1)


def _score(
    probs: Float[Tensor, "batch_head seq seq"], group: Group, num_heads: int
) -> Float[Tensor, " live"]:
    """Importance score of the group's tokens (`pruning.importance` has the definition)."""
    width = group.width
    if len(group) == 1 and width <= SHORT:
        return probs.sum(dim=(0, 1)).mul_(1 / num_heads)
    if len(group) == 1:
        rows = probs.view(-1, width)
        return torch.mv(rows.t(), rows.new_full((len(rows),), 1 / num_heads))
    per_query = probs.view(len(group), num_heads, width, width).sum(dim=1)
    if group.live is None or group.cells is None:
        return per_query.sum(dim=1).mul_(1 / num_heads).view(-1)
    share = group.live.to(probs.dtype) / num_heads
    return (share[:, :, None] * per_query).sum(dim=1).view(-1).index_select(0, group.cells)


def _diagonal(probs: Float[Tensor, "batch_head seq seq"], group: Group) -> Float[Tensor, " live"]:
    share = self_attention_share(probs.view(len(group), -1, group.width, group.width)).view(-1)
    return share if group.cells is None else share.index_select(0, group.cells)


def _context(
    probs: Float[Tensor, "batch_head seq seq"],
    value: Float[Tensor, "batch_head seq head_size"],
    group: Group,
    kept: Int[Tensor, " kept"],
) -> Float[Tensor, "kept hidden"]:
    """Attention output of the kept queries; for a group of several, picked from all queries'."""
    if len(group) > 1:
        cells = kept if group.cells is None else group.cells.index_select(0, kept)
        return _rows(torch.bmm(probs.to(value.dtype), value), group).index_select(0, cells)
    asking = probs if len(kept) == group.width else probs.index_select(1, kept)
    return torch.bmm(asking.to(value.dtype), value).transpose(0, 1).flatten(1)


def _rows(context: Float[Tensor, "batch_head seq head_size"], group: Group) -> Tensor:
    """`cell hidden`: heads side by side again."""
    heads = context.view(len(group), -1, *context.shape[1:])
    return heads.transpose(1, 2).reshape(len(group) * context.shape[1], -1)


def _whole(context: Float[Tensor, "batch_head seq head_size"], group: Group) -> Attended:
    rows = _rows(context, group)
    if group.cells is not None:
        rows = rows.index_select(0, group.cells)
    return Attended(context=rows, kept=None, lengths=group.lengths)


def _count(kept: Int[Tensor, " kept"], group: Group) -> list[int]:
    """How many of the kept tokens each sequence has."""
    if len(group) == 1:
        return [len(kept)]
    counts: list[int] = group.sequence[kept].bincount(minlength=len(group)).tolist()
    return counts


def attend_from_first(
    query: Float[Tensor, "sequence hidden"],
    projected: Float[Tensor, "packed two_hidden"],
    block: Block,
    group: Group,
    num_heads: int,
    bias: PositionBias | None = None,
) -> Float[Tensor, "batch hidden"]:
    """Attention output of the first token of each sequence of a group.

    Args:
        query: Query (scaled) of the first token of each of the block's sequences.
        projected: Key and value of all tokens of the block.
        block: The tokens.
        group: Which of its sequences.
        num_heads: Attention heads.
        bias: What is added to the logits, by original positions.
    """
    query = query.index_select(0, group.member)
    if block.layout.limits.has_one_group:
        return _attend_from_first_without_blanks(query, projected, block, group, num_heads, bias)
    key, value = _split(projected, group, 2, num_heads)
    asking = _wide(query).view(len(group) * num_heads, 1, -1)
    added = _added(bias, block, group, asking.dtype, num_queries=1)
    probs = _probabilities(asking, key, group.live, num_heads, added)
    return torch.bmm(probs.to(value.dtype), value).view(len(group), -1)


def _attend_from_first_without_blanks(
    query: Float[Tensor, "batch hidden"],
    projected: Float[Tensor, "packed two_hidden"],
    block: Block,
    group: Group,
    num_heads: int,
    bias: PositionBias | None,
) -> Float[Tensor, "batch hidden"]:
    """The same in Triton; a sequence of queries is its first token alone."""
    from ltp_core.runners import triton_attention

    key, value = projected.view(len(block), 2, num_heads, -1).unbind(1)
    asking = triton_attention.Sequences(
        starts=torch.arange(len(group), device=group.device),
        lengths=torch.ones_like(group.member),
        longest=1,
        position=block.position.index_select(0, group.start),
    )
    asked = triton_attention.Sequences(
        starts=group.start, lengths=group.live_length, longest=group.width, position=block.position
    )
    asking_query = query.view(len(group), num_heads, -1)
    context, _ = triton_attention.attention_output(asking_query, key, value, asking, asked, bias)
    return context
