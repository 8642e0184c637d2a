"""The shallow control: the first k layers of the same model, every token kept."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod
from ltp_core.strict import require, require_above_zero


@dataclass(frozen=True, kw_only=True)
class ShallowConfig(MethodConfig):
    """Settings of the shallow control.

    Attributes:
        layers: First layers that run; the rest is left out.
    """

    layers: int = 3

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "layers")


class Shallow(PruningMethod):
    """Leaves out whole layers instead of tokens: what any pruning method has to beat.

    Its relative FLOPs are `layers / L` for every input, relative to the full model.
    """

    name = "shallow"
    config_type = ShallowConfig
    always_named = frozenset({"layers"})
    signals = frozenset()
    config: ShallowConfig

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        assert isinstance(config, ShallowConfig)
        layers = config.layers
        require(layers <= num_layers, f"layers = {layers}: the encoder has only {num_layers}")
        super().__init__(config, num_layers)

    @classmethod
    def neutral(cls, num_layers: int) -> Shallow:
        """All layers."""
        return cls(ShallowConfig(layers=num_layers), num_layers)

    def runs_layer(self, layer_index: int) -> bool:
        """True for the first layers."""
        return layer_index < self.config.layers

    def retain(self, state: LayerState) -> Decision:
        """Everything goes on."""
        return Decision(torch.ones_like(state.protected))
