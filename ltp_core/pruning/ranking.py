"""Ranks of live tokens within their sequences: what the top-k methods share."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def ranks(
    score: Float[Tensor, " live"],
    sequence: Int[Tensor, " live"],
    protected: Bool[Tensor, " live"],
) -> Int[Tensor, " live"]:
    """Rank of each live token within its sequence by falling score, 0 is the highest.

    Protected tokens come first, ties are broken by position. `ranks(...) < k[sequence]` is the
    top k of every sequence; a rank depends on its own sequence alone.

    Args:
        score: Importance of each token.
        sequence: Which sequence each token belongs to, ascending.
        protected: Tokens that rank before all others.

    Example:
        >>> score = torch.tensor([0.1, 0.5, 0.9, 0.2, 0.7])
        >>> sequence = torch.tensor([0, 0, 0, 1, 1])
        >>> ranks(score, sequence, torch.tensor([True, False, False, False, False])).tolist()
        [0, 2, 1, 1, 0]
    """
    # Stable sorts from the least to the most significant key; equal scores stay in order.
    by_score = score.argsort(descending=True, stable=True)
    group = 2 * sequence + (~protected).long()
    order = by_score[group[by_score].argsort(stable=True)]
    counts = sequence.bincount()
    starts = counts.cumsum(0) - counts
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    return place - starts[sequence]
