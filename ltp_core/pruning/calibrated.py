"""Calibrated thresholds: chosen for a finetuned model and a FLOPs budget, nothing trained.

Beyond the paper. `ltp_core.calibration.calibrate` chooses them on unlabelled texts.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ltp_core.pruning.base import MethodConfig, ThresholdConfig, ThresholdMethod


@dataclass(frozen=True, kw_only=True)
class CalibratedConfig(ThresholdConfig):
    """Settings of calibrated thresholds.

    Attributes:
        tries_separators: Thresholds are also sought with separator tokens protected, and the better
            outcome is taken. What was never trained without its separators may depend on them.
    """

    tries_separators: bool = True


class CalibratedThreshold(ThresholdMethod):
    """One threshold per layer, 0 until it is calibrated."""

    name = "calibrated"
    choice = "thresholds"
    config_type = CalibratedConfig

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        super().__init__(config, num_layers)
        self.register_buffer("thresholds", torch.zeros(num_layers))

    @classmethod
    def neutral(cls, num_layers: int) -> CalibratedThreshold:
        """Thresholds of 0: every live token receives some attention."""
        return cls(CalibratedConfig(), num_layers)
