"""Token importance: how much attention each token receives (paper section 3.2)."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def importance_score(
    attention_probs: Float[Tensor, "batch head seq seq"],
    live: Bool[Tensor, "batch seq"] | None = None,
    query_weight: Float[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "batch seq"]:
    r"""Attention that each token receives, as a multiple of uniform attention (n times Eq. 7).

    $$s^{(l)}(x_i) = \frac{1}{N_h} \sum_{h=1}^{N_h} \sum_{j\ \mathrm{live}} A^{(h,l)}(x_j, x_i)$$

    with the query `x_j` first. Only live tokens count as queries, so a sentence scores the same
    alone as in a padded batch, and the scores of its live tokens have mean 1 at every length and
    layer. Thresholds and temperatures are in this unit.

    Differs from the paper: Eq. 7 divides by n; the authors' code divides by the padded width (128).

    Args:
        attention_probs: Softmax output of one layer before dropout, queries on axis 2, keys on
            axis 3. Columns of tokens that are not live are zero.
        live: True where the token is neither padding nor pruned by an earlier layer; None means
            that every token is live.
        query_weight: Weight of each query, 0 to 1, used by the soft stage instead of `live`.

    Returns:
        The score of each token in float32 or wider; 0 where `live` is False.

    Example:
        >>> uniform = torch.full((1, 2, 4, 4), 0.25)
        >>> importance_score(uniform, torch.ones(1, 4, dtype=torch.bool))
        tensor([[1., 1., 1., 1.]])

    Source: Kim et al., Learned Token Pruning for Transformers, KDD 2022, section 3.2.
    """
    dtype = torch.promote_types(attention_probs.dtype, torch.float32)
    mean_over_heads = attention_probs.mean(dim=1, dtype=dtype)
    if query_weight is None and live is None:
        return mean_over_heads.sum(dim=1)
    weight = live if query_weight is None else query_weight
    assert weight is not None
    # A sum, not a matrix product: autocast would do that in half precision.
    return (weight.to(dtype)[:, :, None] * mean_over_heads).sum(dim=1)


def self_attention_share(
    attention_probs: Float[Tensor, "batch head seq seq"],
) -> Float[Tensor, "batch seq"]:
    """Attention that each token pays to itself, mean over heads, in float32 or wider.

    The part of the importance score that PoWER-BERT leaves out.
    """
    dtype = torch.promote_types(attention_probs.dtype, torch.float32)
    return attention_probs.diagonal(dim1=2, dim2=3).mean(dim=1, dtype=dtype)


def relative_to_mean(
    score: Float[Tensor, " live"],
    counts: Float[Tensor, " live"],
    sequence: Int[Tensor, " live"],
    num_sequences: int,
) -> Float[Tensor, " live"]:
    r"""A score divided by its mean over some tokens of the sequence.

    $$s_i = a_i \cdot \frac{\sum_j c_j}{\sum_j c_j a_j}$$

    so that the mean over the tokens with `c_j = 1` is exactly 1: the greatest of them never falls
    below a threshold under 1, however much attention the others draw.

    Args:
        score: Score of each token, flat, sequences one after another.
        counts: 1 for the tokens that the mean is taken over, 0 for others.
        sequence: Which sequence each token belongs to.
        num_sequences: How many there are.

    Returns:
        The relative scores; in a sequence that has no such token the scores as they came.

    Example:
        >>> score = torch.tensor([3.0, 0.5, 0.5, 1.0])
        >>> words = torch.tensor([0.0, 1.0, 1.0, 0.0])
        >>> relative_to_mean(score, words, torch.zeros(4, dtype=torch.long), 1)
        tensor([6., 1., 1., 2.])
    """
    total = score.new_zeros(num_sequences).index_add(0, sequence, counts * score)
    number = score.new_zeros(num_sequences).index_add(0, sequence, counts)
    factor = number / total.clamp_min(torch.finfo(score.dtype).tiny)
    factor = torch.where(number > 0, factor, 1.0)
    return score * factor.index_select(0, sequence)
