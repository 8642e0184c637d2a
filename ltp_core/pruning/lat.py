"""Length-Adaptive Transformer: one length per layer for the whole data set (Kim and Cho, ACL 2021).

Training makes one set of weights good at many length configurations: LengthDrop draws random ones,
LayerDrop leaves out whole layers, and sub-models learn from the full model (`training.objective`).
A search then picks the configuration for a budget (`training.search`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int

from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod
from ltp_core.pruning.ranking import ranks
from ltp_core.strict import require_between

MIN_LENGTH = 2
"""Shortest length that LengthDrop and the search choose, as in the authors' code."""

INITIAL_QUANTILE = 0.99
"""Length of the training rows from which LengthDrop starts (l_0)."""

Lengths = tuple[int, ...]
"""Tokens that leave each layer at most, the first layer first; never rising."""


@dataclass(frozen=True, kw_only=True)
class LATConfig(MethodConfig):
    """Settings of LAT's training.

    Attributes:
        length_drop: Greatest share of the tokens that one layer drops in training. The authors take
            0.2, the LTP paper 0.25 to 0.4, both for 12 layers; with 6 layers, 0.4 reaches as far
            as 0.25 does with 11.
        layer_drop: Probability that a training pass leaves a layer out.
        num_random: Random sub-models per step, beside the full and the smallest one.
        sub_model_loss: Divergence of a sub-model from the full model: `reverse`, the authors' code,
            is KL(sub-model || full model), `forward` is KL(full model || sub-model).
        lengths: A configuration set by hand, one length per layer; empty prunes nothing until the
            search finds one.
    """

    length_drop: float = 0.4
    layer_drop: float = 0.2
    num_random: int = 2
    sub_model_loss: Literal["reverse", "forward"] = "reverse"
    lengths: Lengths = ()

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_between(self, 0, 1, "length_drop", "layer_drop")
        require_between(self, 0, math.inf, "num_random")


class LengthAdaptive(PruningMethod):
    """LAT: a sequence of n tokens keeps the min(n, l_i) best ones of layer i.

    The first token counts and is kept; ties are broken by position. Without lengths nothing is
    pruned: that is the adaptive model before a configuration is chosen.

    Differs from the authors' code: scores count live queries only, and sequences shorter than a
    length stay whole instead of being padded to it.

    Attributes:
        lengths: The configuration, one length per layer, or empty.
        initial_length: l_0, from which LengthDrop and the search start.
        dropped_layers: Layers that are left out; in training only.
    """

    name = "lat"
    objective = "sandwich"
    choice = "lengths"
    config_type = LATConfig
    config: LATConfig

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        assert isinstance(config, LATConfig)
        super().__init__(config, num_layers)
        self.lengths = _checked(config.lengths, num_layers)
        self.initial_length = 128
        self.dropped_layers: frozenset[int] = frozenset()

    @classmethod
    def neutral(cls, num_layers: int) -> LengthAdaptive:
        """No lengths."""
        return cls(LATConfig(), num_layers)

    def prepare_(self, length: Int[np.ndarray, " examples"]) -> None:
        """Sets l_0 to the 99th percentile of the training rows' lengths."""
        self.initial_length = math.ceil(np.quantile(length, INITIAL_QUANTILE))

    def retain(self, state: LayerState) -> Decision:
        """The layer's length of each sequence by rank."""
        if not self.lengths:
            return Decision(torch.ones_like(state.protected))
        rank = ranks(state.score, state.sequence, state.protected)
        return Decision(rank < self.lengths[state.layer_index])

    def runs_layer(self, layer_index: int) -> bool:
        """False for layers that LayerDrop leaves out."""
        return layer_index not in self.dropped_layers

    def with_lengths(
        self, lengths: Sequence[int], dropped_layers: Collection[int] = ()
    ) -> LengthAdaptive:
        """A copy with another configuration; this method stays as it is.

        Raises:
            ValueError: Not one positive length per layer, or a length that rises.
        """
        copy = type(self)(self.config, self.num_layers)
        copy.lengths = _checked(lengths, self.num_layers)
        copy.initial_length = self.initial_length
        copy.dropped_layers = frozenset(dropped_layers)
        return copy

    def scaled(self, factor: float) -> LengthAdaptive | None:
        """The share of l_0 that each length keeps, to the power of `factor`.

        At 0.5 a layer that kept a quarter of l_0 keeps half. Cheap, since nothing is searched or
        trained; a search for the same budget finds better configurations. None without lengths.
        """
        if not self.lengths:
            return None
        if factor == 0:
            return self.with_lengths(())
        whole = self.initial_length
        return self.with_lengths(
            [max(1, round(whole * (n / whole) ** factor)) for n in self.lengths]
        )

    def sub_models(self, random: np.random.Generator) -> list[LengthAdaptive]:
        """The sandwich of one training step: full, smallest and random configurations.

        Each has layers left out of its own; such a layer drops no token.
        """
        skipped = [self._skipped(random) for _ in range(self.config.num_random + 2)]
        full, smallest, *others = skipped
        return [
            self.with_lengths((), full),
            self.with_lengths(self._smallest(smallest), smallest),
            *(self.with_lengths(self._draw(random, layers), layers) for layers in others),
        ]

    def _skipped(self, random: np.random.Generator) -> frozenset[int]:
        is_skipped = random.random(self.num_layers) < self.config.layer_drop
        return frozenset(np.flatnonzero(is_skipped).tolist())

    def _smallest(self, skipped: Collection[int]) -> Lengths:
        """Every layer drops as much as it may."""
        lengths, length = [], self.initial_length
        for layer in range(self.num_layers):
            length = length if layer in skipped else self._shortest_after(length)
            lengths.append(length)
        return tuple(lengths)

    def _draw(self, random: np.random.Generator, skipped: Collection[int]) -> Lengths:
        """LengthDrop: l_i is uniform among the whole numbers from ceil((1 - p) l_{i-1}) to l_{i-1}."""
        lengths, length = [], self.initial_length
        for layer in range(self.num_layers):
            if layer not in skipped:
                length = int(random.integers(self._shortest_after(length), length, endpoint=True))
            lengths.append(length)
        return tuple(lengths)

    def _shortest_after(self, length: int) -> int:
        shortest = math.ceil(length * (1 - self.config.length_drop) - 1e-9)
        return min(length, max(MIN_LENGTH, shortest))

    def state_json(self) -> dict[str, Any]:
        """Adds the configuration and l_0."""
        own = {"lengths": list(self.lengths), "initial_length": self.initial_length}
        return {**super().state_json(), **own}

    @classmethod
    def from_state_json(cls, state: dict[str, Any]) -> PruningMethod:
        """Rebuilds the method with its configuration."""
        by_hand = tuple(state["config"].get("lengths", ()))  # JSON knows no tuples
        method = super().from_state_json(
            {**state, "config": {**state["config"], "lengths": by_hand}}
        )
        assert isinstance(method, LengthAdaptive)
        method.initial_length = int(state["initial_length"])
        return method.with_lengths(state["lengths"])


def _checked(lengths: Sequence[int], num_layers: int) -> Lengths:
    """The lengths, if a model of so many layers can have them."""
    chosen = tuple(lengths)
    is_whole = all(type(n) is int and n > 0 for n in chosen)
    if not is_whole or list(chosen) != sorted(chosen, reverse=True):
        raise ValueError(f"lengths {list(chosen)}: whole numbers from 1 on that never rise")
    if chosen and len(chosen) != num_layers:
        raise ValueError(f"{len(chosen)} lengths for {num_layers} layers")
    return chosen
