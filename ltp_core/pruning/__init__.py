"""Pruning methods, one file each; `METHODS` is the one list that everything else reads."""

from __future__ import annotations

from typing import Any

from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod, ThresholdMethod
from ltp_core.pruning.calibrated import CalibratedThreshold
from ltp_core.pruning.importance import importance_score
from ltp_core.pruning.lat import LATConfig, LengthAdaptive
from ltp_core.pruning.ltp import LearnedTokenPruning, LTPConfig
from ltp_core.pruning.ltp_s import ScoredTokenPruning
from ltp_core.pruning.manual import ManualConfig, ManualThreshold
from ltp_core.pruning.power_bert import PowerBert, PowerBertConfig
from ltp_core.pruning.shallow import Shallow
from ltp_core.pruning.spatten import SpAtten
from ltp_core.pruning.unpruned import Unpruned

METHODS: dict[str, type[PruningMethod]] = {
    method.name: method
    for method in (
        Unpruned,
        LearnedTokenPruning,
        ScoredTokenPruning,
        ManualThreshold,
        CalibratedThreshold,
        SpAtten,
        LengthAdaptive,
        PowerBert,
        Shallow,
    )
}


def load_method(state: dict[str, Any]) -> PruningMethod:
    """Rebuilds a method from `PruningMethod.state_json`.

    Raises:
        KeyError: The state names no known method, or lacks a field.
    """
    return METHODS[state["name"]].from_state_json(state)


__all__ = [
    "METHODS",
    "CalibratedThreshold",
    "Decision",
    "LATConfig",
    "LTPConfig",
    "LayerState",
    "LearnedTokenPruning",
    "LengthAdaptive",
    "ManualConfig",
    "ManualThreshold",
    "MethodConfig",
    "PowerBert",
    "PowerBertConfig",
    "PruningMethod",
    "ScoredTokenPruning",
    "Shallow",
    "SpAtten",
    "ThresholdMethod",
    "Unpruned",
    "importance_score",
    "load_method",
]
