"""LTP-S: learned token pruning with a learned factor on the score, bounded so that attention still counts.

Attention received tells words apart only from the middle layers on: in the first two its standard
deviation is a quarter of its mean. A linear map of the token's state says there what attention does
not say yet.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ltp_core.pruning.base import (
    LayerState,
    MethodConfig,
    ScoreMean,
    ThresholdConfig,
    ThresholdMethod,
    ThresholdRule,
    tensor_json,
    tensor_of_json,
)

BOUND = 2.0
"""The factor lies between exp(-2) and exp(2)."""


@dataclass(frozen=True, kw_only=True)
class LTPSConfig(ThresholdConfig):
    """Settings of LTP-S.

    Attributes:
        initial_threshold: Common threshold at the start, in multiples of the mean score.
    """

    score_mean: ScoreMean = "ordinary"
    initial_threshold: float = 0.02


class ScoredTokenPruning(ThresholdMethod):
    r"""Thresholds on attention received times a learned factor of the token's state.

    $$s_i = a_i \exp(2 \tanh(u_l^\top h_i / \sqrt{d}))$$

    divided by its mean over the ordinary tokens; `h_i` is the state after the layer's attention, which
    would enter the FFN, and `u_l = 0` at the start, where this is LTP. It costs d MACs a token and
    layer, and tokens that go need their attention output too; both are counted.

    Not in the paper.
    """

    name = "ltp_s"
    config_type = LTPSConfig
    config: LTPSConfig
    direction: Tensor | None

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        assert isinstance(config, LTPSConfig)
        super().__init__(config, num_layers)
        self.signals = self.signals | {"attended"}
        self.shape_thresholds_(config.initial_threshold)
        self.register_parameter("direction", None)

    @classmethod
    def neutral(cls, num_layers: int) -> ScoredTokenPruning:
        """Thresholds of 0: every live token receives some attention."""
        method = cls(LTPSConfig(), num_layers)
        assert isinstance(method, ScoredTokenPruning)
        return method.with_thresholds([0.0] * num_layers)

    def fit_width_(self, hidden_size: int) -> None:
        """Gives each layer its direction `u_l`, 0 at the start, once the encoder's width is known."""
        self.direction = nn.Parameter(torch.zeros(self.num_layers, hidden_size))

    def factor(self, state: LayerState) -> Float[Tensor, " live"]:
        """What the score is multiplied by; 1 before anything is learned."""
        if self.direction is None:
            return torch.ones_like(state.score)
        assert state.attended is not None
        attended = state.attended.to(state.score.dtype)
        direction = self.direction[state.layer_index].to(state.score.dtype)
        # A sum and no matrix product: autocast would do that in half precision.
        projected = (attended * direction).sum(dim=1) / attended.shape[1] ** 0.5
        return torch.exp(BOUND * torch.tanh(projected))

    def score(self, state: LayerState) -> Float[Tensor, " live"]:
        """Attention received times the factor, in the unit of `score_mean`."""
        return self.in_unit(state.score * self.factor(state), state)

    def rule(self) -> ThresholdRule:
        """Thresholds, unit and the directions of the factor."""
        direction = None if self.direction is None else self.direction.detach()
        return replace(super().rule(), direction=direction)

    def with_thresholds(self, thresholds: list[float]) -> ScoredTokenPruning:
        """A copy with other thresholds that shares the directions."""
        copy = super().with_thresholds(thresholds)
        assert isinstance(copy, ScoredTokenPruning)
        copy.direction = self.direction
        return copy

    def state_json(self) -> dict[str, Any]:
        """Adds the directions."""
        direction = None if self.direction is None else tensor_json(self.direction)
        return {**super().state_json(), "direction": direction}

    @classmethod
    def from_state_json(cls, state: dict[str, Any]) -> ScoredTokenPruning:
        """Rebuilds the method with bit-equal decisions."""
        method = super().from_state_json(state)
        assert isinstance(method, ScoredTokenPruning)
        if state["direction"] is not None:
            method.direction = nn.Parameter(tensor_of_json(state["direction"]))
        return method
