"""TR-BERT: before two layers a small network looks at each token's state and says whether it goes on.

Source: Ye, Lin, Huang, Sun: TR-BERT: Dynamic Token Reduction for Accelerating BERT Inference, NAACL 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.pruning.base import (
    Decision,
    LayerEntry,
    LayerState,
    MethodConfig,
    Objective,
    PruningMethod,
    tensor_json,
    tensor_of_json,
)
from ltp_core.strict import require, require_above_zero, require_between

BOUND = 0.5
"""Probability from which on a token goes on."""


@dataclass(frozen=True, kw_only=True)
class TRBertConfig(MethodConfig):
    """Settings of TR-BERT.

    Attributes:
        layers: Layers, from 0, before which a policy selects; empty takes 1 and half of them.
        length_weight: α: what the reward takes off for tokens that go on, as a mean over the policies
            of their share of the input.
        samples: Selections that are drawn of each training row, K.
        policy_learning_rate: Peak rate of the policies in the hard stage, where the weights learn too.
    """

    layers: tuple[int, ...] = ()
    length_weight: float = 1.0
    samples: int = 8
    policy_learning_rate: float = 1e-3

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "policy_learning_rate")
        require_between(self, 0, float("inf"), "length_weight")
        require(
            self.samples >= 2, f"samples = {self.samples}: at least 2, whose mean is compared with"
        )
        require(
            all(a < b for a, b in zip((0, *self.layers), self.layers, strict=False)),
            f"layers = {list(self.layers)}: must rise, and none is the first layer, 0",
        )


class Policy(nn.Module):
    """One reduction: d -> 32, GELU, -> 1."""

    WIDTH = 32

    def __init__(self, hidden_size: int) -> None:
        super().__init__()
        self.inner = nn.Linear(hidden_size, self.WIDTH)
        self.outer = nn.Linear(self.WIDTH, 1)

    def forward(self, hidden: Float[Tensor, "live hidden"]) -> Float[Tensor, " live"]:
        """Logit of going on, one a token; in the policy's own precision, under autocast too."""
        with torch.autocast(hidden.device.type, enabled=False):
            inner = functional.gelu(self.inner(hidden.to(self.inner.weight.dtype)))
            logit: Tensor = self.outer(inner)[:, 0]
        return logit


class TokenReduction(PruningMethod):
    r"""Keeps the tokens that a policy gives a probability of at least one half, before two layers.

    $$p_i = \sigma(w^\top \mathrm{gelu}(W h_i + b) + c)$$

    with `h_i` the state that would enter the layer. Nothing is decided after attention, so no scores
    are computed; the layer before ran its FFN for all.

    Differs from the source: each token is compared with one half, whatever its batch mates keep. (The
    authors' code keeps as many tokens of every row as that row keeps which keeps most.)
    """

    name = "tr_bert"
    config_type = TRBertConfig
    objective: ClassVar[Objective] = "reinforce"
    signals = frozenset()
    entry_width = Policy.WIDTH
    config: TRBertConfig

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        assert isinstance(config, TRBertConfig)
        super().__init__(config, num_layers)
        require(
            all(layer < num_layers for layer in config.layers),
            f"method.layers = {list(config.layers)}: the encoder has {num_layers}, counted from 0",
        )
        halves = (layer for layer in sorted({1, num_layers // 2}) if 0 < layer < num_layers)
        self.entry_layers = config.layers or tuple(halves)
        self.policies = nn.ModuleDict()

    @classmethod
    def neutral(cls, num_layers: int) -> TokenReduction:
        """Without policies everything goes on."""
        return cls(TRBertConfig(), num_layers)

    def fit_width_(self, hidden_size: int) -> None:
        """Makes the policies, once the encoder's width is known."""
        for layer in self.entry_layers:
            self.policies[str(layer)] = Policy(hidden_size)

    def logit(
        self, layer_index: int, hidden: Float[Tensor, "live hidden"]
    ) -> Float[Tensor, " live"]:
        """Of going into a layer of `entry_layers`."""
        logit: Tensor = self.policies[str(layer_index)](hidden)
        return logit

    def select(self, entry: LayerEntry) -> Decision:
        """Those whose probability is at least one half."""
        if not self.policies:
            everything = torch.ones_like(entry.protected)
            return Decision(everything, score=everything.to(entry.hidden.dtype))
        probability = torch.sigmoid(self.logit(entry.layer_index, entry.hidden))
        return Decision(probability >= BOUND, score=probability)

    def retain(self, state: LayerState) -> Decision:
        """Everything; no score is compared."""
        return Decision(
            torch.ones_like(state.protected), score=torch.full_like(state.score, torch.nan)
        )

    def threshold(self, layer_index: int) -> float | None:
        """One half where a policy selects."""
        return BOUND if layer_index in self.entry_layers else None

    def state_json(self) -> dict[str, Any]:
        """Adds the policies."""
        weights = {key: tensor_json(value) for key, value in self.policies.state_dict().items()}
        return {**super().state_json(), "policies": weights}

    @classmethod
    def from_state_json(cls, state: dict[str, Any]) -> TokenReduction:
        """Rebuilds the method with bit-equal decisions."""
        layers = tuple(state["config"].get("layers", ()))  # JSON knows no tuples
        method = super().from_state_json({**state, "config": {**state["config"], "layers": layers}})
        assert isinstance(method, TokenReduction)
        weights = {key: tensor_of_json(value) for key, value in state["policies"].items()}
        if weights:
            method.fit_width_(weights[f"{method.entry_layers[0]}.inner.weight"].shape[1])
            method.policies.load_state_dict(weights)
        return method
