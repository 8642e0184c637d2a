"""What the head reads, and its logits: the first token's state, or every token's, as answers or their mean."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ltp_core.encoder.model import Encoder
from ltp_core.pruning.base import PruningMethod
from ltp_core.runners.base import Inputs


def is_answerable(
    inputs: Inputs, method: PruningMethod, live: Bool[Tensor, "batch seq"]
) -> Bool[Tensor, "batch seq"]:
    """Positions that a span head may name, and whose mean a pooled head reads.

    All real tokens where the method restores pruned ones, else what is live in the end. The first
    token, which stands for "no answer", always may be named.

    Args:
        inputs: The batch.
        method: Whose setting `pruned_answers` decides.
        live: Tokens that no layer has pruned.
    """
    if method.config.pruned_answers == "restored":
        return inputs.attention_mask
    answerable = live.clone()
    answerable[:, 0] = True
    return answerable


def head_logits(
    encoder: Encoder,
    states: Float[Tensor, "batch read hidden"],
    answerable: Bool[Tensor, "batch seq"],
    counted: Float[Tensor, "batch seq"] | None = None,
) -> Float[Tensor, "batch ..."]:
    """The head's logits: `batch label`, or `batch seq label` of a span head.

    Args:
        encoder: Whose head.
        states: Last computed states of what the head reads.
        answerable: Positions that a span head may name, the others get -inf; and those whose mean a
            pooled head reads.
        counted: Weight of each in that mean; None: all alike.
    """
    config = encoder.config
    finished = encoder.encoder.final_norm(states)
    if config.head == "span":
        return encoder.head(finished).masked_fill(~answerable[..., None], -torch.inf)
    if config.pooling == "first":
        return encoder.head(finished[:, 0])
    weight = (answerable if counted is None else counted).to(finished.dtype)
    total = (finished * weight[..., None]).sum(dim=1)
    return encoder.head(total / weight.sum(dim=1, keepdim=True))
