"""Masked runner: the shape stays, pruned tokens are masked. The reference, and the soft stage.

`run_masked` prunes hard; `run_soft` is the soft stage, where every token stays with a weight.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ltp_core.encoder.model import Encoder
from ltp_core.pruning.base import (
    MethodConfig,
    PruningMethod,
    Signal,
    SoftMaskForm,
    decide,
)
from ltp_core.pruning.importance import importance_score, self_attention_share
from ltp_core.runners.base import Inputs, LayerRecord, RunOutput
from ltp_core.runners.head import head_logits, is_answerable
from ltp_core.runners.state import padded_state

Observer = Callable[[int, Tensor, Tensor], None]
"""Called after each layer with its index, attention probabilities and output."""


def run_masked(
    encoder: Encoder,
    inputs: Inputs,
    method: PruningMethod,
    *,
    record: bool = False,
    observer: Observer | None = None,
) -> RunOutput:
    """One pass in which pruned tokens are no key, no query and no part of a score any more.

    Their rows are still computed (this runner saves nothing) but never read again. The head reads
    a token's last state as a live token: if layer l drops it, that is layer l's input. A layer that
    the method leaves out has no record and lengths of 0.

    Args:
        encoder: Model to run.
        inputs: Padded batch.
        method: Decides after each layer's attention.
        record: Keep the scores and masks of every layer.
        observer: Called after each layer with its index, attention probabilities and output.
    """
    live = inputs.attention_mask
    carry: Tensor | None = None
    records: list[LayerRecord] = []
    entered: list[Tensor] = []
    left: list[Tensor] = []
    hidden = encoder.embed(inputs.input_ids, inputs.token_type_ids)
    width = hidden.shape[1] if encoder.config.reads_every_token else 1
    states = hidden[:, :width]
    for index, layer in enumerate(encoder.layers):
        if not method.runs_layer(index):
            entered.append(torch.zeros_like(inputs.length))
            left.append(torch.zeros_like(inputs.length))
            continue
        probs = layer.attention_probs(hidden, live)
        score = importance_score(probs, live)
        state = padded_state(
            index, method, inputs, probs=probs, score=score, live=live, carry=carry
        )
        decision = decide(method, state)
        retained = torch.zeros_like(live)
        retained[live] = decision.retained
        carry = None if decision.carry is None else decision.carry[decision.retained]
        hidden = layer.finish(layer.context(probs, hidden), hidden)
        states = torch.where(retained[:, :width, None], hidden[:, :width], states)
        if observer is not None:
            observer(index, probs, hidden)
        if record:
            records.append(LayerRecord(live, score.masked_fill(~live, 0.0), retained))
        entered.append(live.sum(dim=1))
        left.append(retained.sum(dim=1))
        live = retained
    attention_length, ffn_length = (torch.stack(x, dim=1).cpu() for x in (entered, left))
    logits = head_logits(encoder, states, is_answerable(inputs, method, live))
    return RunOutput(logits, attention_length, ffn_length, tuple(records))


@runtime_checkable
class SoftMethod(Protocol):
    """A method that can fade tokens instead of removing them."""

    config: MethodConfig
    signals: frozenset[Signal]

    def soft_mask(
        self,
        score: Tensor,
        protected: Tensor,
        layer_index: int,
        temperature: float,
        **signals: Tensor,
    ) -> Tensor:
        """Weight of each token in [0, 1].

        A method with `diagonal` among its signals gets that, and `live`, by name.
        """
        ...


@dataclass(frozen=True)
class SoftOutput:
    """A soft pass.

    Attributes:
        logits: Head output, as in `RunOutput`.
        weights: Weight of each token at the input (1) and after each layer; padding 0.
    """

    logits: Float[Tensor, "batch ..."]
    weights: Float[Tensor, "states batch seq"]


def run_soft(
    encoder: Encoder,
    inputs: Inputs,
    method: SoftMethod,
    *,
    temperature: float,
    form: SoftMaskForm = "softmax",
) -> SoftOutput:
    """The soft stage: nothing is pruned yet, so thresholds receive gradients (section 3.3).

    With `form="softmax"` a token's weight w is the product of its soft masks so far. Keys enter the
    softmax as `w exp(logit)`, renormalised; queries count in the score with weight w. For
    temperature → 0 that is exactly removal.

    With `form="output"`, the paper's Eqs. 10-11, the layer's output is multiplied by the layer's
    own mask, nothing is cumulative and attention is not weighted; `weights` are the masks.

    A span head reads a mixture of each token's states: with the share w its state as a live token
    so far, with the rest what was mixed before. For temperature → 0 that is the hard runners' last
    computed state. Where pruned tokens are no answer, log w is added to a token's logits.

    Differs from the paper: the cumulative form is ours; see `form="output"` for the paper's.
    """
    mask = inputs.attention_mask
    weight = mask.float()
    weights = [weight]
    hidden = encoder.embed(inputs.input_ids, inputs.token_type_ids)
    mixed, share = hidden, weight
    for index, layer in enumerate(encoder.layers):
        cumulative = form == "softmax"
        log_weight = _safe_log(weight) if cumulative else None
        probs = layer.attention_probs(hidden, mask, log_weight)
        score = importance_score(probs, query_weight=weight if cumulative else mask.float())
        signals = _soft_signals(method, probs, mask)
        fade = method.soft_mask(score, inputs.protected, index, temperature, **signals) * mask
        hidden = layer.finish(layer.context(probs, hidden), hidden)
        share = share * fade
        if encoder.config.reads_every_token:
            mixed = mixed + share[..., None] * (hidden - mixed)
        if not cumulative:
            hidden = hidden * fade[..., None].to(hidden.dtype)
        weight = weight * fade if cumulative else fade
        weights.append(weight)
    if not encoder.config.reads_every_token:
        return SoftOutput(encoder.head(hidden[:, 0]), torch.stack(weights))
    logits = head_logits(encoder, mixed, mask)
    if method.config.pruned_answers == "excluded":
        logits[:, 1:] += _safe_log(share)[:, 1:, None]
    return SoftOutput(logits, torch.stack(weights))


def _soft_signals(
    method: SoftMethod, probs: Float[Tensor, "batch head seq seq"], mask: Bool[Tensor, "batch seq"]
) -> dict[str, Tensor]:
    if "diagonal" not in method.signals:
        return {}
    return {"live": mask, "diagonal": self_attention_share(probs)}


def _safe_log(weight: Float[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
    """log(weight) with a floor that keeps the gradient finite; e^-60 is removal in float32."""
    return weight.clamp_min(torch.finfo(torch.float32).tiny ** 0.7).log()
