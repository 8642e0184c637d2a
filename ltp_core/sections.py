"""The tables of a training configuration: frozen dataclasses that refuse impossible values."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import Any, Literal

from ltp_core.strict import is_plain, require, require_above_zero, require_between


@dataclass(frozen=True, kw_only=True)
class MethodSettings:
    """Which method, and its own settings as plain values; the method's config class checks them."""

    name: str = "unpruned"
    """A name from `METHODS`."""
    settings: dict[str, Any] = field(default_factory=dict)
    """Fields of the method's config class."""

    def __post_init__(self) -> None:
        """Rejects what can be no name of a method, and what JSON cannot say."""
        require_name("method.name", self.name)
        for key, value in self.settings.items():
            require(is_plain(value), f"method.{key} = {value!r}: must be a number, text or a list")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """What is trained on."""

    max_length: int = 128
    """Longest sequence in tokens; longer ones are cut."""
    train_rows: int | None = None
    """Random subset of the training rows; None takes all."""
    max_train_length: int | None = None
    """Only training rows of at most this many tokens (length-robustness experiment)."""
    heldout_rows: int | None = None
    """Random subset of the held-out training rows for the evaluation; None takes all."""
    validation_rows: int | None = None
    """Random subset of the validation rows for the evaluation; None takes all."""
    stride: int = 128
    """Questions: tokens of context that two neighbouring windows share."""
    train_task: str | None = None
    """Questions: learn from the training rows of this task instead, as squad for squad_v2."""
    unanswerable_share: float = 0.0
    """Questions: share of the training rows that get another paragraph of their article."""
    heldout_by: Literal["text", "article"] = "text"
    """What is held out of the training rows: texts, or for questions whole articles, as it should be."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "max_length", "train_rows", "max_train_length")
        require_above_zero(self, "heldout_rows", "validation_rows")
        require_between(self, 0, math.inf, "stride")
        require_between(self, 0, 1, "unanswerable_share")


@dataclass(frozen=True, kw_only=True)
class AdapterConfig:
    """Which weights are trained."""

    kind: Literal["lora", "full"] = "lora"
    """`lora`: low-rank additions to every linear map of the layers, and the head; `full`: all."""
    rank: int = 16
    """Rank of the additions."""
    alpha: float = 32.0
    """The additions are scaled by alpha / rank."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "rank", "alpha")


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What every stage has: its length and its optimizer."""

    epochs: float = 1.0
    """Passes over the training rows; fractions stop early."""
    batch_size: int = 32
    """Sequences per step."""
    learning_rate: float = 5e-4
    """Peak rate of the weights; linear warm-up, linear decay to 0."""
    warmup_fraction: float = 0.06
    """Share of the steps that warm up."""
    weight_decay: float = 0.01
    """AdamW's decay of the weights; thresholds have none."""
    distillation_weight: float = 0.0
    """Share of the loss that is KL(teacher || student); the teacher is the finetuned model."""
    distillation_temperature: float = 2.0
    """Softens both distributions; the KL is multiplied by its square."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(
            self, "epochs", "batch_size", "learning_rate", "distillation_temperature"
        )
        require_between(self, 0, 1, "warmup_fraction", "distillation_weight")
        require_between(self, 0, math.inf, "weight_decay")


@dataclass(frozen=True, kw_only=True)
class PolicyConfig(StageConfig):
    """Policy stage: policies at layers' entries learn by reward, the weights rest."""

    learning_rate: float = 1e-3
    """Peak rate of the policies; linear warm-up, linear decay to 0."""
    imitation: float = 0.5
    """Share of the stage's steps in which one of the samples takes the tokens that matter most to the
    unpruned model, as many as the policy expects to keep."""

    def __post_init__(self) -> None:
        """Rejects impossible values, and what nothing would follow."""
        super().__post_init__()
        require_between(self, 0, 1, "imitation")
        require(
            self.distillation_weight == 0,
            f"policy.distillation_weight = {self.distillation_weight}: must be 0, since the weights rest",
        )


@dataclass(frozen=True, kw_only=True)
class SoftConfig(StageConfig):
    """Soft stage: thresholds and weights learn together (Algorithm 1, step i)."""

    threshold_learning_rate: float = 2.5e-3
    """Rate of the thresholds; the paper's 2e-5 is 2.5e-3 in multiples of uniform attention."""
    temperature: float = 0.128
    """Temperature at the start; the paper's 1e-3 is 0.128 in this unit."""
    final_temperature: float = 0.0128
    """Temperature at the end, reached geometrically."""
    soft_mask: Literal["softmax", "output"] = "softmax"
    """`softmax`: cumulative weights inside attention; `output`: the paper's Eqs. 10-11."""
    regularization_weight: float = 0.0
    """Lambda: multiplies the mean soft mask over real tokens and layers."""
    target_relative_flops: float | None = None
    """Budget in the paper's accounting, instead of lambda."""
    budget_weight: float = 20.0
    """Multiplies the squared excess over the budget."""
    budget_ramp: float = 0.5
    """Share of the stage in which the budget falls linearly from 1 to the target; 0 starts there."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        require_above_zero(self, "temperature", "final_temperature", "target_relative_flops")
        require_between(self, 0, self.temperature, "final_temperature")
        require_between(self, 0, 1, "target_relative_flops", "budget_ramp")
        require_between(
            self, 0, math.inf, "threshold_learning_rate", "regularization_weight", "budget_weight"
        )


@dataclass(frozen=True, kw_only=True)
class HardConfig(StageConfig):
    """Hard stage: tokens are really pruned, the weights adapt (Algorithm 1, steps ii and iii)."""

    target_relative_flops: float | None = None
    """Hold this budget: one common multiplier on the thresholds follows it. None fixes them."""
    budget_gain: float = 0.15
    """How fast the multiplier follows: change of its logarithm per unit of excess and step."""
    mask_gradient: float | None = None
    """Temperature of the masks' gradient, for thresholds with a shape: thresholds and score learn
    while tokens are pruned, nothing is removed in training. None gives masks no gradient."""
    budget_ramp: float = 0.33
    """With `mask_gradient`: share of the stage in which the budget falls linearly from 1."""
    shape_learning_rate: float = 0.01
    """With `mask_gradient`: rate of the thresholds' shape, at equal cost. 0 keeps them equal."""
    score_learning_rate: float = 0.02
    """With `mask_gradient`: rate of a learned factor of the score."""
    elastic: bool = False
    """With `mask_gradient`: every step also runs unpruned and at a scale between, so that one model
    serves every budget down to `target_relative_flops`."""
    int8: bool = False
    """Train with the layers' linear maps in INT8 (section 4.6); the checkpoint runs so."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        super().__post_init__()
        require_above_zero(self, "target_relative_flops")
        require_between(self, 0, 1, "target_relative_flops")
        require_between(
            self, 0, math.inf, "budget_gain", "shape_learning_rate", "score_learning_rate"
        )
        require_above_zero(self, "mask_gradient")
        require_between(self, 0, 1, "budget_ramp")
        require(
            self.mask_gradient is None or self.target_relative_flops is not None,
            "hard.mask_gradient: needs hard.target_relative_flops, the budget that thresholds follow",
        )
        require(
            not self.elastic or self.mask_gradient is not None,
            "hard.elastic: needs hard.mask_gradient",
        )


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """A choice that follows training, made on held-out training rows: LAT's search, calibration."""

    target_relative_flops: float = 0.5
    """Budget in the paper's accounting."""
    rows: int = 500
    """Held-out training rows that the choice looks at."""
    max_configurations: int = 200
    """Candidates tried at most."""

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "target_relative_flops", "rows", "max_configurations")
        require_between(self, 0, 1, "target_relative_flops")


def require_name(key: str, value: str) -> None:
    """Refuses what cannot be part of a folder's name, as tasks and methods are.

    Raises:
        ConfigError: It has other characters than lower-case letters, digits and `_`.
    """
    is_name = re.fullmatch("[a-z0-9_]+", value) is not None
    require(is_name, f"{key} = {value!r}: must consist of lower-case letters, digits and _")
