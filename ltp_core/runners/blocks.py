"""Blocks of packed tokens: made from a padded batch, cut down by a layer, merged when small."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ltp_core.encoder.model import Encoder
from ltp_core.runners.base import Inputs
from ltp_core.runners.layout import Layout, Limits


@dataclass(frozen=True, kw_only=True)
class Block:
    """Live tokens of some sequences, which go through a layer together.

    Attributes:
        hidden: State of each token.
        position: Its position in the original sequence.
        protected: True where no method may prune it.
        special: True where the tokenizer added it.
        carry: What the method handed over from the previous layer.
        layout: Where each sequence lies.
    """

    hidden: Float[Tensor, "packed hidden"]
    position: Int[Tensor, " packed"]
    protected: Bool[Tensor, " packed"]
    special: Bool[Tensor, " packed"]
    carry: Float[Tensor, " packed"] | None
    layout: Layout

    def __len__(self) -> int:
        """Number of tokens."""
        return self.layout.starts[-1]


def pack(
    encoder: Encoder, inputs: Inputs, lengths: list[int], limits: Limits, dtype: torch.dtype
) -> list[Block]:
    """Embeds the real tokens of a batch, the longest sequence first.

    Args:
        encoder: Whose embeddings.
        inputs: Padded batch.
        lengths: Real tokens of each row.
        limits: Size of a block.
        dtype: Type of the states.
    """
    rows = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    cells, position = _cells(inputs.attention_mask, rows)
    places = encoder.embeddings.position_ids(inputs.input_ids)
    ids, types, places, protected, special = (
        values.reshape(-1).index_select(0, cells)
        for values in (
            inputs.input_ids,
            inputs.token_type_ids,
            places,
            inputs.protected,
            inputs.special,
        )
    )
    blocks = []
    begin = 0
    for span in _spans([lengths[row] for row in rows], limits.block_tokens):
        layout = Layout(
            sequences=rows[span],
            lengths=[lengths[row] for row in rows[span]],
            num_heads=encoder.config.num_heads,
            limits=limits,
            device=cells.device,
        )
        own = slice(begin, begin + layout.starts[-1])
        begin = own.stop
        blocks.append(
            Block(
                hidden=encoder.embeddings(ids[own], types[own], places[own]).to(dtype),
                position=position[own],
                protected=protected[own],
                special=special[own],
                carry=None,
                layout=layout,
            )
        )
    return blocks


def _cells(
    mask: Bool[Tensor, "batch seq"], rows: list[int]
) -> tuple[Int[Tensor, " packed"], Int[Tensor, " packed"]]:
    """Place of each real token in the flat batch, its rows in this order, and its position."""
    if len(rows) == 1:
        position = mask[0].nonzero().view(-1)
        return position, position
    order = torch.tensor(rows, device=mask.device)
    row, position = mask[order].nonzero().unbind(1)
    return order[row] * mask.shape[1] + position, position


def _spans(sizes: list[int], limit: int) -> list[slice]:
    """Consecutive runs of sizes that add up to at most `limit` each, or hold one size."""
    spans, begin, total = [], 0, 0
    for index, size in enumerate(sizes):
        if index > begin and total + size > limit:
            spans.append(slice(begin, index))
            begin, total = index, 0
        total += size
    return [*spans, slice(begin, len(sizes))]


def merge(blocks: list[Block]) -> list[Block]:
    """Joins neighbours that pruning has made small."""
    limit = blocks[0].layout.limits.block_tokens
    spans = _spans([len(block) for block in blocks], limit)
    return [_joined(blocks[span]) for span in spans]


def _joined(blocks: list[Block]) -> Block:
    if len(blocks) == 1:
        return blocks[0]
    layouts = [block.layout for block in blocks]
    carries = [block.carry for block in blocks if block.carry is not None]
    return Block(
        hidden=torch.cat([block.hidden for block in blocks]),
        position=torch.cat([block.position for block in blocks]),
        protected=torch.cat([block.protected for block in blocks]),
        special=torch.cat([block.special for block in blocks]),
        carry=torch.cat(carries) if carries else None,
        layout=replace(
            layouts[0],
            sequences=[i for layout in layouts for i in layout.sequences],
            lengths=[n for layout in layouts for n in layout.lengths],
        ),
    )


def join(parts: list[Tensor]) -> Tensor:
    """All parts one after another; no copy of a single one."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)
