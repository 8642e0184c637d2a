"""Manual threshold: linearly rising over the layers, not learned (paper section 4.4).

Pruning is hard in every stage. `hard.target_relative_flops` scales the line to a FLOPs budget while the
weights adapt, so that methods can be compared at equal cost; without it the line stays as it was set.
"""

from __future__ import annotations

from dataclasses import dataclass

from ltp_core.pruning.base import MethodConfig, ThresholdConfig, ThresholdMethod, linear_thresholds


@dataclass(frozen=True, kw_only=True)
class ManualConfig(ThresholdConfig):
    """Settings of the manual threshold.

    Attributes:
        final_threshold: Threshold of the last layer, in multiples of uniform attention.
    """

    final_threshold: float = 0.64


class ManualThreshold(ThresholdMethod):
    """Thresholds set by hand; only the weights adapt."""

    name = "manual"
    config_type = ManualConfig

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        assert isinstance(config, ManualConfig)
        super().__init__(config, num_layers)
        self.register_buffer("thresholds", linear_thresholds(config.final_threshold, num_layers))

    @classmethod
    def neutral(cls, num_layers: int) -> ManualThreshold:
        """Thresholds of 0: every live token receives some attention."""
        return cls(ManualConfig(final_threshold=0.0), num_layers)
