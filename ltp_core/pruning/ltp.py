"""Learned Token Pruning: one threshold per layer, learned with the weights (Kim et al., KDD 2022).

Soft stage: a token's presence fades with `sigmoid((score - threshold) / temperature)`, so that the
thresholds receive gradients. Hard stage and inference: `score > threshold`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from ltp_core.pruning.base import MethodConfig, ThresholdConfig, ThresholdMethod, linear_thresholds


@dataclass(frozen=True, kw_only=True)
class LTPConfig(ThresholdConfig):
    """Settings of LTP.

    Attributes:
        final_threshold: Initial threshold of the last layer, in multiples of uniform attention;
            the paper's 0.01 is 1.28 in this unit.
        shape: "line": thresholds start on a straight line, and each learns by itself in the soft
            stage (the paper). "learned": they start equal, as a common scale times a shape with mean
            1; a hard stage with `mask_gradient` steers the scale to the budget and learns the shape
            at equal cost. `final_threshold` is the scale at the start.
    """

    final_threshold: float = 0.64
    shape: Literal["line", "learned"] = "line"


class LearnedTokenPruning(ThresholdMethod):
    """LTP: the thresholds are parameters, stored absolute.

    Differs from the paper: the first token is protected (the authors' code protects none) and the
    thresholds are in multiples of uniform attention.
    """

    name = "ltp"
    config_type = LTPConfig
    is_learned = True
    always_named = frozenset({"final_threshold"})

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        assert isinstance(config, LTPConfig)
        super().__init__(config, num_layers)
        if config.shape == "learned":
            self.shape_thresholds_(config.final_threshold)
        else:
            self.thresholds = nn.Parameter(linear_thresholds(config.final_threshold, num_layers))

    @classmethod
    def neutral(cls, num_layers: int) -> LearnedTokenPruning:
        """Thresholds of 0: every live token receives some attention."""
        return cls(LTPConfig(final_threshold=0.0), num_layers)

    def soft_mask(
        self,
        score: Float[Tensor, "batch seq"],
        protected: Bool[Tensor, "batch seq"],
        layer_index: int,
        temperature: float,
    ) -> Float[Tensor, "batch seq"]:
        """`sigmoid((score - threshold) / temperature)` (Eq. 9); 1 for protected tokens."""
        mask = torch.sigmoid((score - self.thresholds[layer_index]) / temperature)
        return mask.masked_fill(protected, 1.0)
