"""What a pruning method is: it looks at the live tokens of a layer and says which go on.

A method sees live tokens only, flat, without padding: `live` is the axis of all live tokens of the
sequences at hand, `batch` the axis of those sequences. All runners call the same `retain`, so a
method is written once. A sequence's decision never depends on its batch mates.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


@dataclass(frozen=True)
class LayerState:
    """What a method may look at when it decides after a layer's attention.

    Attributes:
        layer_index: Zero-based.
        score: Importance score of each live token, mean 1 per sequence.
        sequence: Which sequence each live token belongs to, ascending.
        position: Position of each live token in its original sequence, ascending per sequence.
        protected: Live tokens that stay whatever the method says.
        live_length: Live tokens of each sequence at the layer's entry.
        initial_length: Tokens of each sequence at the input.
        diagonal: Attention that each live token pays to itself, mean over heads; only for methods
            that list it in their `signals`.
        carry: What the method returned at the previous layer, for the tokens still live.
        is_never_empty: Every sequence has a protected token.
    """

    layer_index: int
    score: Float[Tensor, " live"]
    sequence: Int[Tensor, " live"]
    position: Int[Tensor, " live"]
    protected: Bool[Tensor, " live"]
    live_length: Int[Tensor, " batch"]
    initial_length: Int[Tensor, " batch"]
    diagonal: Float[Tensor, " live"] | None = None
    carry: Float[Tensor, " live"] | None = None
    is_never_empty: bool = False


@dataclass(frozen=True)
class Decision:
    """Which live tokens go on, and a value per live token handed to the next layer."""

    retained: Bool[Tensor, " live"]
    carry: Float[Tensor, " live"] | None = None


PrunedAnswers = Literal["restored", "excluded"]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Settings that every method has.

    Attributes:
        protect_first: The first token ([CLS], `<s>`), which the head reads, is never pruned.
        protect_separators: Separator tokens are never pruned.
        protect_question: In question answering, the question's tokens are never pruned.
        pruned_answers: What a span head makes of a pruned token. "restored": it reads the token's
            last computed state, the input of the layer that dropped it. "excluded": the token
            cannot be start or end of an answer.
    """

    protect_first: bool = True
    protect_separators: bool = False
    protect_question: bool = False
    pruned_answers: PrunedAnswers = "restored"


Signal = Literal["score", "diagonal"]

SoftMaskForm = Literal["softmax", "output"]
"""Where the soft stage's weights act: on keys inside the softmax, or on each layer's output."""


class PruningMethod(nn.Module):
    """Base of all methods: one file each, listed in `METHODS`.

    Attributes:
        name: What files and commands call it.
        config_type: Its settings.
        is_learned: It has parameters that the soft stage trains.
        signals: What it looks at. A method that looks at nothing prunes nothing, and runners then
            compute no scores.
        soft_form: Form of the soft stage that the method needs; None leaves it to the settings.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[MethodConfig]] = MethodConfig
    is_learned: ClassVar[bool] = False
    signals: frozenset[Signal] = frozenset({"score"})
    soft_form: ClassVar[SoftMaskForm | None] = None

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        super().__init__()
        self.config = config
        self.num_layers = num_layers

    @classmethod
    def neutral(cls, num_layers: int) -> PruningMethod:
        """An instance that prunes nothing."""
        raise NotImplementedError

    def prepare_(self, length: Int[np.ndarray, " examples"]) -> None:
        """Looks at the lengths of the training rows once, before the first stage."""
        del length

    def retain(self, state: LayerState) -> Decision:
        """Decides which live tokens go on to the next layer."""
        raise NotImplementedError

    def runs_layer(self, layer_index: int) -> bool:
        """False where the whole layer is left out: its output is its input, at no cost."""
        del layer_index
        return True

    def scaled(self, factor: float) -> PruningMethod | None:
        """The same method pruning more (`factor` above 1) or less, nothing retrained.

        At 0 it prunes nothing, at 1 it is itself. None where a method has no such knob.
        """
        del factor
        return None

    def expected_lengths(
        self, weights: Float[Tensor, "states batch seq"]
    ) -> Float[Tensor, "sequences states"]:
        """Tokens of sequences at the input and after each layer, as the soft stage counts its cost."""
        return weights.sum(dim=2).T

    def regularizer(self) -> Float[Tensor, ""] | None:
        """What the soft stage's λ multiplies; None takes the mean weight of real tokens (Eq. 12)."""
        return None

    @torch.no_grad()
    def settle_(self) -> None:
        """Brings learned parameters back into their range after an optimizer step."""

    def threshold(self, layer_index: int) -> float | None:
        """The layer's threshold in the unit of the score; None where the method has none."""
        del layer_index
        return None

    def state_json(self) -> dict[str, Any]:
        """Name, settings and what was learned, as JSON values; read by `pruning.load_method`."""
        return {"name": self.name, "num_layers": self.num_layers, "config": asdict(self.config)}

    @classmethod
    def from_state_json(cls, state: dict[str, Any]) -> PruningMethod:
        """Rebuilds the method with bit-equal decisions."""
        known = {f.name for f in fields(cls.config_type)}
        config = {key: value for key, value in state["config"].items() if key in known}
        return cls(cls.config_type(**config), int(state["num_layers"]))


def decide(method: PruningMethod, state: LayerState) -> Decision:
    """The method's decision with what always holds: protected tokens stay, no sequence empties.

    A sequence of which nothing would be left keeps the token with the highest score, the first of
    equals. That can happen only where the sequence has no protected token.
    """
    decision = method.retain(state)
    retained = decision.retained | state.protected
    if not state.is_never_empty:
        retained = retained | _best_of_emptied(retained, state)
    return Decision(retained, decision.carry)


def _best_of_emptied(retained: Bool[Tensor, " live"], state: LayerState) -> Bool[Tensor, " live"]:
    """The best token of each sequence that retains none, as a mask."""
    batch, sequence = state.live_length.shape[0], state.sequence
    best = state.score.new_full((batch,), -torch.inf)
    best.scatter_reduce_(0, sequence, state.score.detach(), "amax")
    is_alive = torch.zeros(batch, dtype=torch.bool, device=sequence.device)
    is_alive[sequence[retained]] = True
    candidates = ((state.score == best[sequence]) & ~is_alive[sequence]).nonzero()[:, 0]
    first = sequence.new_full((batch,), len(sequence))
    first.scatter_reduce_(0, sequence[candidates], candidates, "amin")
    chosen = torch.zeros_like(retained)
    chosen[first[first < len(sequence)]] = True
    return chosen


class ThresholdMethod(PruningMethod):
    """Prunes a token whose score does not exceed its layer's threshold (Eq. 8)."""

    thresholds: Tensor

    def retain(self, state: LayerState) -> Decision:
        """`score > threshold`, elementwise: nothing to sort."""
        return Decision(state.score > self.thresholds[state.layer_index].to(state.score.dtype))

    def threshold(self, layer_index: int) -> float:
        """The layer's absolute threshold, in multiples of uniform attention."""
        return float(self.thresholds[layer_index].detach())

    def scaled(self, factor: float) -> ThresholdMethod:
        """All thresholds multiplied by `factor`."""
        return self.with_thresholds((self.thresholds.detach().cpu().double() * factor).tolist())

    @torch.no_grad()
    def settle_(self) -> None:
        """Keeps the thresholds at or above 0, where a score cannot fall."""
        self.thresholds.clamp_(min=0.0)

    @torch.no_grad()
    def scale_(self, factor: float) -> None:
        """Multiplies all thresholds in place."""
        self.thresholds.mul_(factor)

    def with_thresholds(self, thresholds: list[float]) -> ThresholdMethod:
        """A copy with other thresholds; this method stays as it is.

        Raises:
            ValueError: Not one threshold per layer.
        """
        if len(thresholds) != self.num_layers:
            raise ValueError(f"{len(thresholds)} thresholds for {self.num_layers} layers")
        copy = type(self)(self.config, self.num_layers)
        with torch.no_grad():
            copy.thresholds.copy_(torch.tensor(thresholds, dtype=torch.float64))
        return copy

    def state_json(self) -> dict[str, Any]:
        """Adds the absolute thresholds; JSON keeps every bit of a float32."""
        return {
            **super().state_json(),
            "thresholds": self.thresholds.detach().cpu().double().tolist(),
        }

    @classmethod
    def from_state_json(cls, state: dict[str, Any]) -> PruningMethod:
        """Rebuilds the method with the stored absolute thresholds."""
        method = super().from_state_json(state)
        assert isinstance(method, ThresholdMethod)
        return method.with_thresholds(state["thresholds"])


def linear_thresholds(final_threshold: float, num_layers: int) -> Float[Tensor, " layer"]:
    """Linearly rising: layer l of L, counted from 1, has `final_threshold * l / L` (section 4.4).

    Differs from the paper: the authors' code counts from 0, so their first layer never prunes.
    """
    return final_threshold * torch.arange(1, num_layers + 1) / num_layers
