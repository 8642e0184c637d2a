"""No pruning: the control that every method is measured against."""

from __future__ import annotations

import torch

from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod


class Unpruned(PruningMethod):
    """Every token stays to the end."""

    name = "unpruned"
    signals = frozenset()

    @classmethod
    def neutral(cls, num_layers: int) -> Unpruned:
        """Itself."""
        return cls(MethodConfig(), num_layers)

    def retain(self, state: LayerState) -> Decision:
        """Everything goes on."""
        return Decision(torch.ones_like(state.protected))
