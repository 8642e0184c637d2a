"""Pruning methods, one file each; `METHODS` is the one list that everything else reads."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
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
from ltp_core.pruning.tr_bert import TokenReduction, TRBertConfig
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.strict import build, require

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
        TokenReduction,
        Shallow,
    )
}


def method_config(name: str, settings: Mapping[str, Any]) -> MethodConfig:
    """A method's settings from plain values, strict about each.

    Raises:
        ConfigError: The method, or one of its settings, does not exist, or has the wrong type.
    """
    require(name in METHODS, f"method.name = {name!r}: must be one of {', '.join(METHODS)}")
    return build(METHODS[name].config_type, settings, "method.")


def canonical_settings(name: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The one way to write a method's settings, from which runs are named.

    Numbers have the type of their field, so that 1 and 1.0 are one run. What stands at its default is
    left out, except what the method's `always_named` lists, which is added where it is missing.

    Raises:
        ConfigError: The method, or one of its settings, does not exist, or has the wrong type.

    Example:
        >>> canonical_settings("manual", {"final_threshold": 1, "protect_first": True})
        {'final_threshold': 1.0}
    """
    given, default = asdict(method_config(name, settings)), asdict(METHODS[name].config_type())
    named = METHODS[name].always_named
    # By way of JSON tuples become the lists that settings consist of.
    plain = json.loads(json.dumps(given))
    return {key: plain[key] for key in given if given[key] != default[key] or key in named}


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
    "TRBertConfig",
    "ThresholdMethod",
    "TokenReduction",
    "Unpruned",
    "canonical_settings",
    "importance_score",
    "load_method",
    "method_config",
]
