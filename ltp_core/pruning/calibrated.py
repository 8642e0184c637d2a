"""Calibrated thresholds: chosen for a finetuned model and a FLOPs budget, nothing trained.

Beyond the paper. `ltp_core.calibrate` chooses them on unlabelled texts.
"""

from __future__ import annotations

import torch

from ltp_core.pruning.base import MethodConfig, ThresholdMethod


class CalibratedThreshold(ThresholdMethod):
    """One threshold per layer, 0 until it is calibrated."""

    name = "calibrated"

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        super().__init__(config, num_layers)
        self.register_buffer("thresholds", torch.zeros(num_layers))

    @classmethod
    def neutral(cls, num_layers: int) -> CalibratedThreshold:
        """Thresholds of 0: every live token receives some attention."""
        return cls(MethodConfig(), num_layers)
