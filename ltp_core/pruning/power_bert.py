"""PoWER-BERT: learned retention by rank, then one length per layer (Goyal et al., ICML 2020).

Soft stage: the token of rank k of layer l is multiplied by a learned r_l[k]. Hard stage and
inference: each layer keeps as many tokens as its r_l sum up to.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod
from ltp_core.pruning.ranking import ranks

NUM_RANKS = 128
"""Ranks before the training rows are known."""

NUM_QUANTILES = 256
"""Quantiles that stand for the lengths of the training rows."""


@dataclass(frozen=True, kw_only=True)
class PowerBertConfig(MethodConfig):
    """Settings of PoWER-BERT.

    Attributes:
        lengths: A configuration to start from, one length per layer; empty retains everything.
    """

    lengths: tuple[int, ...] = ()


class PowerBert(PruningMethod):
    """PoWER-BERT: a sequence of n tokens keeps the min(n, k_l) best ones of layer l.

    The score leaves out the attention that a token pays to itself. The token of rank 0, which is
    the first token where that is protected, always stays; ranks are those of `ranking.ranks`.

    Differs from the paper: tokens are dropped before the output projection, and in the soft stage
    multiplied behind the FFN, not in front of it; the first token is protected in the soft stage
    too; only live queries count.

    Attributes:
        retention: r_l[k] for the ranks k from 1 to that of the longest training row, in [0, 1].
        training_lengths: Quantiles of the training rows' lengths; for the budget, so not stored.
    """

    name = "power_bert"
    config_type = PowerBertConfig
    is_learned = True
    soft_form = "output"
    signals = frozenset({"score", "diagonal"})

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        assert isinstance(config, PowerBertConfig)
        super().__init__(config, num_layers)
        self.retention = nn.Parameter(_retaining(config.lengths, num_layers, NUM_RANKS))
        self.training_lengths: Tensor
        self.register_buffer("training_lengths", torch.full((1,), float(NUM_RANKS)))

    @classmethod
    def neutral(cls, num_layers: int) -> PowerBert:
        """Everything is retained."""
        return cls(PowerBertConfig(), num_layers)

    def prepare_(self, length: Int[np.ndarray, " examples"]) -> None:
        """As many ranks as the longest training row has tokens; quantiles of all of them."""
        assert isinstance(self.config, PowerBertConfig)
        start = _retaining(self.config.lengths, self.num_layers, int(length.max()))
        self.retention = nn.Parameter(start)
        shares = (np.arange(NUM_QUANTILES) + 0.5) / NUM_QUANTILES
        self.training_lengths = torch.from_numpy(np.quantile(length, shares)).float()

    @property
    def mass(self) -> Float[Tensor, " layer"]:
        """Tokens that each layer retains, with fractions; never rising."""
        return 1 + torch.cummin(self.retention.sum(dim=1), dim=0).values

    @property
    def lengths(self) -> tuple[int, ...]:
        """The configuration: k_l is the mass without its fraction."""
        return tuple(int(mass) for mass in self.mass.tolist())

    def retain(self, state: LayerState) -> Decision:
        """The layer's length of each sequence by rank.

        A layer that retains every rank of the training rows prunes longer inputs neither.
        """
        length = self.lengths[state.layer_index]
        if length > self.retention.shape[1]:
            return Decision(torch.ones_like(state.protected))
        assert state.diagonal is not None
        received = state.score - state.diagonal
        return Decision(ranks(received, state.sequence, state.protected) < length)

    def soft_mask(
        self,
        score: Float[Tensor, "batch seq"],
        protected: Bool[Tensor, "batch seq"],
        layer_index: int,
        temperature: float,
        *,
        live: Bool[Tensor, "batch seq"],
        diagonal: Float[Tensor, "batch seq"],
    ) -> Float[Tensor, "batch seq"]:
        """r_l[k] of each token by its rank k; 1 for rank 0 and protected tokens."""
        del temperature
        rank = ranks((score - diagonal)[live], live.nonzero()[:, 0], protected[live])
        own = self.retention[layer_index].to(score.dtype)
        by_rank = torch.cat([own.new_ones(1), own])
        mask = torch.zeros_like(score)
        mask[live] = by_rank[rank.clamp(max=len(own))]
        return mask.masked_fill(protected, 1.0)

    def expected_lengths(
        self, weights: Float[Tensor, "states batch seq"]
    ) -> Float[Tensor, "sequences states"]:
        """min(n, k_l) over the training rows: what the hard stage would keep now.

        The configuration is one for all rows, so a batch of short or long ones says nothing of its
        cost. Gradients are those of n times the layer's mean retention, which press on every rank of
        every layer alike.
        """
        length = self.training_lengths.to(weights.dtype)[:, None]
        pressure = length * self.retention.mean(dim=1).to(weights.dtype)
        kept = torch.minimum(length, length.new_tensor(self.lengths))
        return torch.cat([length, pressure + (kept - pressure).detach()], dim=1)

    def regularizer(self) -> Float[Tensor, ""]:
        """sum_l l ||r_l||_1, layers counted from 1: later layers are pressed harder."""
        layer = torch.arange(1, self.num_layers + 1, device=self.retention.device)
        return (layer * self.retention.sum(dim=1)).sum()

    @torch.no_grad()
    def settle_(self) -> None:
        """Keeps the retention within [0, 1]."""
        self.retention.clamp_(0.0, 1.0)

    def with_lengths(self, lengths: Sequence[int]) -> PowerBert:
        """A copy with another configuration; this method stays as it is.

        Raises:
            ValueError: Not one length per layer.
        """
        num_ranks = self.retention.shape[1] + 1
        return self._with_retention(_retaining(lengths, self.num_layers, num_ranks))

    def _with_retention(self, retention: Float[Tensor, "layer rank"]) -> PowerBert:
        copy = type(self)(self.config, self.num_layers)
        copy.retention = nn.Parameter(retention.to(self.retention))
        return copy

    def scaled(self, factor: float) -> PowerBert:
        """The share of the ranks that each layer keeps, to the power of `factor`."""
        whole = self.retention.shape[1] + 1
        return self.with_lengths(
            [max(1, round(whole * (n / whole) ** factor)) for n in self.lengths]
        )

    def state_json(self) -> dict[str, Any]:
        """Adds the retention; JSON keeps every bit of a float32."""
        return {**super().state_json(), "retention": self.retention.detach().double().tolist()}

    @classmethod
    def from_state_json(cls, state: dict[str, Any]) -> PruningMethod:
        """Rebuilds the method with its retention."""
        start = tuple(state["config"].get("lengths", ()))  # JSON knows no tuples
        method = super().from_state_json({**state, "config": {**state["config"], "lengths": start}})
        assert isinstance(method, PowerBert)
        retention = torch.tensor(state["retention"], dtype=torch.float64)
        if retention.ndim != 2 or len(retention) != method.num_layers:
            raise ValueError(f"retention of shape {tuple(retention.shape)}")
        return method._with_retention(retention)


def _retaining(
    lengths: Sequence[int], num_layers: int, num_ranks: int
) -> Float[Tensor, "layer rank"]:
    """Retention of exactly these lengths; empty retains everything."""
    chosen = torch.tensor(list(lengths) or [num_ranks] * num_layers)
    if len(chosen) != num_layers:
        raise ValueError(f"{len(chosen)} lengths for {num_layers} layers")
    return (torch.arange(1, num_ranks) < chosen[:, None]).float()
