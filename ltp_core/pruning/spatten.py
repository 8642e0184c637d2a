"""SpAtten's cascade token pruning: a falling number of tokens, the best by top-k (HPCA 2021).

The variant that LTP is compared with: the first layers keep everything, then the share of tokens
that stay falls linearly to a final one. Heads are not pruned.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod
from ltp_core.pruning.ranking import ranks
from ltp_core.strict import require_between

LOWEST_RATIO = 0.01
"""What a layer keeps at least, as a share of the initial length, before rounding."""


@dataclass(frozen=True, kw_only=True)
class SpAttenConfig(MethodConfig):
    """Settings of SpAtten.

    Attributes:
        final_ratio: Share of the initial tokens that the last layer keeps; the paper takes values
            from 1 down to -1, where a negative one means that all but one are gone earlier.
        keep_layers: First layers that keep every token; None takes the paper's number.
        cumulative: Ranks by the score summed over the layers so far, as the original does, instead
            of by the layer's own.
    """

    final_ratio: float = 0.3
    keep_layers: int | None = None
    cumulative: bool = False

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_between(self, -1, 1, "final_ratio")
        require_between(self, 0, math.inf, "keep_layers")


class SpAtten(PruningMethod):
    """Top-k by importance, k falling linearly over the layers, the same share for every input.

    Differs from the original: the score is the layer's own unless `cumulative` is set; no head is
    pruned. Differs from the authors of LTP, who ran this variant: at least one token stays (there,
    none may) and the first one is protected and counted.

    Source: Wang et al., SpAtten, HPCA 2021; Kim et al., KDD 2022, appendix A.1.
    """

    name = "spatten"
    config_type = SpAttenConfig
    config: SpAttenConfig

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        assert isinstance(config, SpAttenConfig)
        super().__init__(config, num_layers)
        kept = config.keep_layers
        self.keep_layers = paper_keep_layers(num_layers) if kept is None else kept

    @classmethod
    def neutral(cls, num_layers: int) -> SpAtten:
        """A final ratio of 1."""
        return cls(SpAttenConfig(final_ratio=1.0), num_layers)

    def ratio(self, layer_index: int) -> float:
        """Share of the initial tokens that the layer lets go on.

        1 in the first m layers, then `1 + (final_ratio - 1) (i - m + 1) / (L - m)` with i from 0,
        never below `LOWEST_RATIO`; the last layer has `final_ratio`.
        """
        step = layer_index - self.keep_layers + 1
        if step <= 0:
            return 1.0
        share = step / (self.num_layers - self.keep_layers)
        return max(LOWEST_RATIO, 1 - share + share * self.config.final_ratio)

    def retain(self, state: LayerState) -> Decision:
        """The top k of each sequence; protected tokens come first and count."""
        score = state.score
        if self.config.cumulative and state.carry is not None:
            score = score + state.carry
        carry = score if self.config.cumulative else None
        ratio = self.ratio(state.layer_index)
        if ratio == 1:
            return Decision(torch.ones_like(state.protected), carry)
        kept = num_kept(state.initial_length, ratio)
        rank = ranks(score, state.sequence, state.protected)
        return Decision(rank < kept[state.sequence], carry)

    def scaled(self, factor: float) -> SpAtten:
        """The final ratio's distance to 1 multiplied by `factor`, down to the paper's -1."""
        final_ratio = max(-1.0, 1 - factor + factor * self.config.final_ratio)
        return SpAtten(replace(self.config, final_ratio=final_ratio), self.num_layers)


def paper_keep_layers(num_layers: int) -> int:
    """Layers that keep every token in the paper's experiments: `max(3, ceil(0.15 L))`."""
    return max(3, math.ceil(0.15 * num_layers))


def num_kept(length: Int[Tensor, " batch"], ratio: float) -> Float[Tensor, " batch"]:
    """`round(length * ratio)`, halves to the even number, at least 1."""
    is_apple = length.device.type == "mps"  # has no float64
    exact = length.to(torch.float32 if is_apple else torch.float64)
    return (exact * ratio).round().clamp_min(1)
