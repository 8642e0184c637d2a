"""No pruning: the control that every method is measured against."""

from __future__ import annotations

from collections.abc import Collection

import torch

from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod


class Unpruned(PruningMethod):
    """Every token stays to the end."""

    name = "unpruned"
    signals = frozenset()

    def __init__(
        self, config: MethodConfig, num_layers: int, left_out: Collection[int] = ()
    ) -> None:
        super().__init__(config, num_layers)
        self._left_out = frozenset(left_out)

    @classmethod
    def neutral(cls, num_layers: int) -> Unpruned:
        """Itself."""
        return cls(MethodConfig(), num_layers)

    @classmethod
    def control_of(cls, method: PruningMethod) -> Unpruned:
        """Pruning switched off: the same tokens protected, and the same layers run.

        Layers that a method leaves out were not trained with the others: they stay out.
        """
        layers = range(method.num_layers)
        left_out = [layer for layer in layers if not method.runs_layer(layer)]
        return cls(method.config, method.num_layers, left_out)

    def runs_layer(self, layer_index: int) -> bool:
        """True, unless it is the control of a method that leaves the layer out."""
        return layer_index not in self._left_out

    def retain(self, state: LayerState) -> Decision:
        """Everything goes on."""
        return Decision(torch.ones_like(state.protected))
