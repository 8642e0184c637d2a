"""What a pruning method is: it looks at the live tokens of a layer and says which go on.

A method sees live tokens only, flat, without padding: `live` is the axis of all live tokens of the
sequences at hand, `batch` the axis of those sequences. All runners call the same `retain` after a
layer's attention, and the same `select` before it, so a method is written once. A sequence's decision
never depends on its batch mates.
"""

from __future__ import annotations

import base64
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ltp_core.flops import DecisionCost
from ltp_core.pruning.importance import relative_to_mean
from ltp_core.records import ScoreKind


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
        special: Tokens that the tokenizer added, the first one and separators; by signal too.
        attended: State of each live token after the attention's residual and the norm behind it,
            which would enter the FFN; in pre-LN layers the sum before the FFN's norm. By signal too.
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
    special: Bool[Tensor, " live"] | None = None
    attended: Float[Tensor, "live hidden"] | None = None
    is_never_empty: bool = False


@dataclass(frozen=True)
class LayerEntry:
    """What a method may look at when it selects before a layer: the tokens that come to it.

    Attributes:
        layer_index: Zero-based.
        hidden: State of each token, which would enter the layer.
        sequence: Which sequence each token belongs to, ascending.
        position: Position of each token in its original sequence, ascending per sequence.
        protected: Tokens that stay whatever the method says.
        batch: Number of sequences.
        is_never_empty: Every sequence has a protected token.
    """

    layer_index: int
    hidden: Float[Tensor, "live hidden"]
    sequence: Int[Tensor, " live"]
    position: Int[Tensor, " live"]
    protected: Bool[Tensor, " live"]
    batch: int
    is_never_empty: bool = False


@dataclass(frozen=True)
class Decision:
    """Which live tokens go on, and a value per live token handed to the next layer.

    `score` is what was compared, where that is not the layer's importance score as it came; not a
    number where nothing was.
    """

    retained: Bool[Tensor, " live"]
    carry: Float[Tensor, " live"] | None = None
    score: Float[Tensor, " live"] | None = None


PrunedAnswers = Literal["restored", "excluded"]


@dataclass(frozen=True, kw_only=True)
class MethodConfig:
    """Settings that every method has.

    Attributes:
        protect_first: The first token ([CLS], `<s>`), which the head reads, is never pruned.
        protect_separators: Separator tokens are never pruned.
        protect_question: In question answering, the question's tokens are never pruned.
        pruned_answers: What a head that reads every token makes of a pruned one. "restored": it reads
            the token's last computed state, the input of the layer that dropped it. "excluded": the
            token cannot be start or end of an answer, and is no part of a mean.
    """

    protect_first: bool = True
    protect_separators: bool = False
    protect_question: bool = False
    pruned_answers: PrunedAnswers = "restored"


Signal = Literal["score", "diagonal", "special", "attended"]

Choice = Literal["lengths", "thresholds", "scale"]
"""What can be chosen for a budget after training: lengths by LAT's search, thresholds by
calibration, or one scale on trained thresholds."""

Objective = Literal["single", "sandwich", "reinforce"]
"""What a training step minimises: the loss of one pass, the mean over several sub-models, or that of
policies that are rewarded."""

SoftMaskForm = Literal["softmax", "output"]
"""Where the soft stage's weights act: on keys inside the softmax, or on each layer's output."""


ScoreMean = Literal["live", "ordinary"]
"""Over which tokens of a sequence the score has mean 1."""


@dataclass(frozen=True, kw_only=True)
class ThresholdRule:
    """A method that compares scores with thresholds, in numbers: what compiled code is told.

    Attributes:
        thresholds: One a layer.
        score_mean: The unit of the score that is compared.
        direction: `u_l` of the factor `exp(2 tanh(u_l h / sqrt(d)))` on the score, where `h` is the
            token's state after attention; None: there is no factor.
    """

    thresholds: Float[Tensor, " layer"]
    score_mean: ScoreMean
    direction: Float[Tensor, "layer hidden"] | None = None


class PruningMethod(nn.Module):
    """Base of all methods: one file each, listed in `METHODS`.

    Attributes:
        name: What files and commands call it.
        config_type: Its settings.
        is_learned: It has parameters that the soft stage trains.
        signals: What it looks at after attention. A method that looks at nothing retains everything
            there, and runners then compute no scores.
        entry_layers: Layers, from 0, before which it selects tokens by their states; never the first.
        entry_width: Inner width of the network that it selects by.
        soft_form: Form of the soft stage that the method needs; None leaves it to the settings.
        objective: What its training steps minimise.
        choice: What a `select` table chooses for a budget after training; None where nothing is.
        always_named: Settings that are part of a run's name at their default too, as the names of
            stored runs have it.
    """

    name: ClassVar[str]
    config_type: ClassVar[type[MethodConfig]] = MethodConfig
    is_learned: ClassVar[bool] = False
    signals: frozenset[Signal] = frozenset({"score"})
    entry_layers: tuple[int, ...] = ()
    entry_width: int = 0
    soft_form: ClassVar[SoftMaskForm | None] = None
    objective: ClassVar[Objective] = "single"
    choice: ClassVar[Choice | None] = None
    always_named: ClassVar[frozenset[str]] = frozenset()

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

    def select(self, entry: LayerEntry) -> Decision:
        """Decides which of the tokens that come to a layer of `entry_layers` enter it."""
        raise NotImplementedError

    def runs_layer(self, layer_index: int) -> bool:
        """False where the whole layer is left out: its output is its input, at no cost."""
        del layer_index
        return True

    def fit_width_(self, hidden_size: int) -> None:
        """Learns the encoder's width once, before anything is trained."""
        del hidden_size

    @property
    def reads_states(self) -> bool:
        """It decides from the tokens' states after attention, so those of all live tokens are needed.

        Without it a token that goes costs neither attention output nor output projection.
        """
        return "attended" in self.signals

    @property
    def score_kind(self) -> ScoreKind:
        """What its scores are."""
        if self.entry_layers:
            return "probability"
        return "factored" if self.reads_states else "attention"

    @property
    def prunes(self) -> bool:
        """Whether it can drop a token at all."""
        return bool(self.signals) or bool(self.entry_layers)

    @property
    def decision_cost(self) -> DecisionCost:
        """What it computes to decide, for counting FLOPs."""
        return DecisionCost(
            reads_states=self.reads_states,
            entry_layers=self.entry_layers,
            entry_width=self.entry_width,
        )

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

    def rule(self) -> ThresholdRule | None:
        """All that decides, as numbers; None where a method is more than a threshold on its score.

        What a native pass runs by: such a method, and one that looks at nothing; for any other the
        packed runner asks `retain`.
        """
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


def tensor_json(tensor: Tensor) -> dict[str, Any]:
    """Shape, and the numbers as little-endian float32 in base64: text of four thirds of their size."""
    array = tensor.detach().float().cpu().numpy().astype("<f4")
    return {"shape": list(array.shape), "float32": base64.b64encode(array.tobytes()).decode()}


def tensor_of_json(packed: dict[str, Any]) -> Tensor:
    """The tensor again, to the last bit of a float32."""
    array = np.frombuffer(base64.b64decode(packed["float32"], validate=True), dtype="<f4")
    return torch.from_numpy(array.reshape(packed["shape"]).astype(np.float32))


def decide(method: PruningMethod, state: LayerState) -> Decision:
    """The method's decision with what always holds: protected tokens stay, no sequence empties.

    A sequence of which nothing would be left keeps the token with the highest score, the first of
    equals. That can happen only where the sequence has no protected token.
    """
    decision = method.retain(state)
    retained = decision.retained | state.protected
    if not state.is_never_empty:
        batch = state.live_length.shape[0]
        retained = retained | _best_of_emptied(retained, state.score, state.sequence, batch)
    return Decision(retained, decision.carry, decision.score)


def select(method: PruningMethod, entry: LayerEntry) -> Decision:
    """The method's selection before a layer, with what always holds (`decide`)."""
    selection = method.select(entry)
    assert selection.score is not None
    retained = selection.retained | entry.protected
    if not entry.is_never_empty:
        score = selection.score
        retained = retained | _best_of_emptied(retained, score, entry.sequence, entry.batch)
    return Decision(retained, score=selection.score)


def _best_of_emptied(
    retained: Bool[Tensor, " live"],
    score: Float[Tensor, " live"],
    sequence: Int[Tensor, " live"],
    batch: int,
) -> Bool[Tensor, " live"]:
    """The best token of each sequence that retains none, as a mask."""
    best = score.new_full((batch,), -torch.inf)
    best.scatter_reduce_(0, sequence, score.detach(), "amax")
    is_alive = torch.zeros(batch, dtype=torch.bool, device=sequence.device)
    is_alive[sequence[retained]] = True
    candidates = ((score == best[sequence]) & ~is_alive[sequence]).nonzero()[:, 0]
    first = sequence.new_full((batch,), len(sequence))
    first.scatter_reduce_(0, sequence[candidates], candidates, "amin")
    chosen = torch.zeros_like(retained)
    chosen[first[first < len(sequence)]] = True
    return chosen


MEMORY = 0.8
"""Share of the past in the sums that a budget is held against: about the last 5 steps. A longer
memory makes the scale swing about its goal."""

LARGEST_STEP = 0.07
"""Most that the logarithm of the scale changes in a step."""

LOG_SCALES = (float(np.log(0.02)), float(np.log(4.0)))
"""Bounds of the scale's logarithm: from next to nothing pruned to all but the outliers."""


@dataclass(frozen=True, kw_only=True)
class ThresholdConfig(MethodConfig):
    """Settings of every method that compares a score with a threshold.

    Attributes:
        score_mean: "live": the score has mean 1 over all live tokens, as importance scores come.
            "ordinary": over the live tokens that are neither protected nor special. The first token
            and separators draw many times the mean; with them in it every word falls below a
            threshold once few words are left, and the sentence empties.
    """

    score_mean: ScoreMean = "live"


class ThresholdMethod(PruningMethod):
    """Prunes a token whose score does not exceed its layer's threshold (Eq. 8).

    Attributes:
        thresholds: What scores are compared with, absolute, one a layer.
        delta: Where the thresholds have a learned shape, `threshold_l = exp(log_scale + delta_l)`
            with the deltas' mean 0; None where they have none.
    """

    choice: ClassVar[Choice | None] = "scale"
    config: ThresholdConfig
    thresholds: Tensor
    delta: nn.Parameter | None
    log_scale: Tensor
    spent_flops: Tensor

    def __init__(self, config: MethodConfig, num_layers: int) -> None:
        super().__init__(config, num_layers)
        self.register_parameter("delta", None)
        if self.config.score_mean == "ordinary":
            self.signals = self.signals | {"special"}

    def score(self, state: LayerState) -> Float[Tensor, " live"]:
        """What is compared with the threshold: the importance score, in the unit of `score_mean`."""
        return self.in_unit(state.score, state)

    def in_unit(self, score: Float[Tensor, " live"], state: LayerState) -> Float[Tensor, " live"]:
        """A score divided by its mean over the ordinary tokens, where `score_mean` says so."""
        if self.config.score_mean == "live":
            return score
        assert state.special is not None
        ordinary = (~state.protected & ~state.special).to(score.dtype)
        return relative_to_mean(score, ordinary, state.sequence, state.live_length.shape[0])

    def retain(self, state: LayerState) -> Decision:
        """`score > threshold`, elementwise: nothing to sort."""
        score = self.score(state)
        retained = score > self.thresholds[state.layer_index].to(score.dtype)
        return Decision(retained, score=None if score is state.score else score)

    def rule(self) -> ThresholdRule:
        """Its thresholds and the unit of its score."""
        return ThresholdRule(thresholds=self.thresholds.detach(), score_mean=self.config.score_mean)

    def shape_thresholds_(self, start: float) -> None:
        """Gives the thresholds a common scale and a shape to learn, equal at the start."""
        self.register_buffer("thresholds", torch.full((self.num_layers,), float(start)))
        self.register_buffer("log_scale", torch.tensor(float(start)).log())
        self.register_buffer("spent_flops", torch.zeros(2))
        self.delta = nn.Parameter(torch.zeros(self.num_layers))

    def shaped(self, log_scale: Float[Tensor, ""]) -> Float[Tensor, " layer"]:
        """Thresholds at a scale; gradients reach the shape: `exp(log_scale + delta_l - mean delta)`."""
        assert self.delta is not None
        return torch.exp(log_scale + self.delta - self.delta.mean())

    def threshold(self, layer_index: int) -> float:
        """The layer's absolute threshold, in multiples of uniform attention."""
        return float(self.thresholds[layer_index].detach())

    def scaled(self, factor: float) -> ThresholdMethod:
        """All thresholds multiplied by `factor`."""
        return self.with_thresholds((self.thresholds.detach().cpu().double() * factor).tolist())

    @torch.no_grad()
    def settle_(self) -> None:
        """Keeps the thresholds at or above 0, where a score cannot fall; follows scale and shape."""
        if self.delta is not None:
            self.delta.sub_(self.delta.mean())
            self.thresholds.copy_(self.shaped(self.log_scale))
        self.thresholds.clamp_(min=0.0)

    @torch.no_grad()
    def scale_(self, factor: float) -> None:
        """Multiplies all thresholds in place."""
        self.thresholds.mul_(factor)
        if self.delta is not None:
            self.log_scale.add_(float(np.log(factor)))

    @torch.no_grad()
    def steer_(self, macs: float, whole_macs: float, goal: float, gain: float) -> None:
        """Moves the scale towards a FLOPs budget.

        What is compared with the budget are sums over the last batches, since short inputs keep a
        greater share than long ones and batches are sorted by length.

        Args:
            macs: MACs of this step's pass.
            whole_macs: What they would be with nothing pruned.
            goal: Relative FLOPs that are aimed at now.
            gain: Change of the scale's logarithm per unit of excess and step.
        """
        self.spent_flops.mul_(MEMORY).add_(self.spent_flops.new_tensor([macs, whole_macs]))
        excess = float(self.spent_flops[0] / self.spent_flops[1]) - goal
        self.log_scale += max(-LARGEST_STEP, min(LARGEST_STEP, gain * excess))
        self.log_scale.clamp_(*LOG_SCALES)

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
