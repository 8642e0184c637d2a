"""MPNet: RoBERTa's positions and head, no token types, and a bias by relative position.

The bias is T5's: the distance between query and key falls into one of 32 buckets, 16 for each
direction, exact up to 7 and logarithmic up to 128, and each bucket has a learned number for each
head. All layers share it. Distances are those of the original sequence, so that a token means the
same wherever its neighbours went.

Source: Song et al., MPNet, 2020; buckets as in Raffel et al., T5, 2020, section 2.1.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Int
from torch import Tensor, nn

from ltp_core.encoder.model import EncoderConfig, Family, LayerStack, PositionBias, Positions
from ltp_core.encoder.roberta import ROBERTA

NUM_BUCKETS = 32
MAX_DISTANCE = 128
"""From this distance on, all are alike."""


def bucket(distance: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
    """Bucket of a distance, the key's position minus the query's.

    Example:
        >>> bucket(torch.tensor([0, -1, 1, -7, -8, -500, 500])).tolist()
        [0, 1, 17, 7, 8, 15, 31]
    """
    half = NUM_BUCKETS // 2
    exact = half // 2
    size = distance.abs()
    steps = (size.float() / exact).log() / math.log(MAX_DISTANCE / exact) * (half - exact)
    far = (exact + steps.nan_to_num(neginf=0.0).long()).clamp(max=half - 1)
    return (distance > 0) * half + torch.where(size < exact, size, far)


class RelativeStack(LayerStack):
    """Layers that share a bias by relative position."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.relative_attention_bias = nn.Embedding(NUM_BUCKETS, config.num_heads)

    def positions(self) -> list[Positions]:
        """One bias for all layers: computed once, then looked up for the tokens that are left."""
        weight = self.relative_attention_bias.weight
        distance = torch.arange(-MAX_DISTANCE, MAX_DISTANCE + 1, device=weight.device)
        return [Positions(bias=PositionBias(weight[bucket(distance)].t()))] * len(self.layer)


MPNET = Family(
    name="mpnet",
    model_types=("mpnet",),
    class_prefix="MPNet",
    special_tokens={**ROBERTA.special_tokens, "unk_token": "[UNK]"},
    default_pad_id=1,
    has_token_types=False,
    counts_from_padding=True,
    renames=(
        ("attention.attn.q.", "attention.self.query."),
        ("attention.attn.k.", "attention.self.key."),
        ("attention.attn.v.", "attention.self.value."),
        ("attention.attn.o.", "attention.output.dense."),
        ("attention.LayerNorm.", "attention.output.LayerNorm."),
    ),
    adapted=r"encoder\.layer\.\d+\..*\.(q|k|v|o|dense)",
    # transformers has these built in, whatever the configuration says.
    required={"pad_token_id": 1, "relative_attention_num_buckets": NUM_BUCKETS},
    stack=RelativeStack,
)
