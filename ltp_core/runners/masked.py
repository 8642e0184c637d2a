"""Masked runner: the shape stays, pruned tokens are masked. The reference, and the soft stage.

`run_masked` prunes hard; `run_soft` is the soft stage, where every token stays with a weight;
`run_straight_through` prunes hard with gradients for the masks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ltp_core.encoder.model import Encoder
from ltp_core.pruning.base import (
    MethodConfig,
    PruningMethod,
    Signal,
    SoftMaskForm,
    ThresholdMethod,
    decide,
    select,
)
from ltp_core.pruning.importance import importance_score, self_attention_share
from ltp_core.runners.base import Inputs, LayerRecord, RunOutput
from ltp_core.runners.head import head_logits, is_answerable
from ltp_core.runners.rows import on_tokens, project_tokens
from ltp_core.runners.state import padded_entry, padded_record, padded_state, selected_record

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
        method: Decides after each layer's attention, and before it where it selects.
        record: Keep the scores and masks of every layer.
        observer: Called after each layer with its index, attention probabilities and output.
    """
    live = inputs.attention_mask
    carry: Tensor | None = None
    records: list[LayerRecord] = []
    entered: list[Tensor] = []
    left: list[Tensor] = []
    hidden = encoder.embed(inputs.input_ids, inputs.token_type_ids)
    positions, position = encoder.encoder.positions(), _positions(hidden)
    width = hidden.shape[1] if encoder.config.reads_every_token else 1
    states = hidden[:, :width]
    for index, layer in enumerate(encoder.layers):
        if not method.runs_layer(index):
            entered.append(torch.zeros_like(inputs.length))
            left.append(torch.zeros_like(inputs.length))
            continue
        came, selection = live, None
        if index in method.entry_layers:
            selection = select(method, padded_entry(index, inputs, hidden=hidden, live=came))
            live = torch.zeros_like(came)
            live[came] = selection.retained
            carry = None if carry is None else carry[selection.retained]
        query, key, value = layer.project(hidden)
        probs = layer.attention_probs(query, key, live, None, positions[index], position)
        score = importance_score(probs, live)
        attended = layer.attend(layer.context(probs, value), hidden)
        state = padded_state(
            index,
            method,
            inputs,
            probs=probs,
            score=score,
            live=live,
            attended=attended,
            carry=carry,
        )
        decision = decide(method, state)
        retained = torch.zeros_like(live)
        retained[live] = decision.retained
        carry = None if decision.carry is None else decision.carry[decision.retained]
        hidden = layer.feed_forward(attended)
        states = torch.where(retained[:, :width, None], hidden[:, :width], states)
        if observer is not None:
            observer(index, probs, hidden)
        if record:
            found = padded_record(live, score, decision, retained)
            records.append(found if selection is None else selected_record(found, came, selection))
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

    A head that reads every token reads a mixture of each one's states: with the share w its state as
    a live token so far, with the rest what was mixed before. For temperature → 0 that is the hard
    runners' last computed state. Where pruned tokens are no answer, log w is added to a token's logits
    as start and end; in a mean they count with the share w.

    Differs from the paper: the cumulative form is ours; see `form="output"` for the paper's.
    """
    mask = inputs.attention_mask
    weight = mask.float()
    weights = [weight]
    hidden = encoder.embed(inputs.input_ids, inputs.token_type_ids)
    mixed, share = hidden, weight
    positions, position = encoder.encoder.positions(), _positions(hidden)
    for index, layer in enumerate(encoder.layers):
        cumulative = form == "softmax"
        log_weight = _safe_log(weight) if cumulative else None
        query, key, value = layer.project(hidden)
        probs = layer.attention_probs(query, key, mask, log_weight, positions[index], position)
        score = importance_score(probs, query_weight=weight if cumulative else mask.float())
        signals = _soft_signals(method, probs, mask)
        fade = method.soft_mask(score, inputs.protected, index, temperature, **signals) * mask
        hidden = layer.feed_forward(layer.attend(layer.context(probs, value), hidden))
        share = share * fade
        if encoder.config.reads_every_token:
            mixed = mixed + share[..., None] * (hidden - mixed)
        if not cumulative:
            hidden = hidden * fade[..., None].to(hidden.dtype)
        weight = weight * fade if cumulative else fade
        weights.append(weight)
    last = mixed if encoder.config.reads_every_token else hidden[:, :1]
    excludes = method.config.pruned_answers == "excluded"
    counted = mask.float()
    if excludes and encoder.config.head != "span":
        counted = torch.cat([counted[:, :1], share[:, 1:]], dim=1)
    logits = head_logits(encoder, last, mask, counted)
    if excludes and encoder.config.head == "span":
        logits[:, 1:] += _safe_log(share)[:, 1:, None]
    return SoftOutput(logits, torch.stack(weights))


def run_straight_through(
    encoder: Encoder,
    inputs: Inputs,
    method: ThresholdMethod,
    *,
    temperature: float,
    log_scale: Float[Tensor, ""],
) -> StraightOutput:
    r"""A hard pass whose masks have gradients: tokens go as in `run_masked`, thresholds and score learn.

    Forward, the mask of a token is 0 or 1; backward, it is the slope of a sigmoid, so that a token
    that went tells what it would have been worth:

    $$m = 1[s > \theta] + \sigma((s - \theta) / T) - \mathrm{const}(\sigma((s - \theta) / T))$$

    A mask is cumulative and weights the token as a key, inside the softmax. A token that went is still
    a key of the next layer, where its mask of 0 has a slope; from then on nothing depends on it, and
    it is computed no longer.

    Differs from the paper: its hard stage gives thresholds no gradient.

    Args:
        encoder: Model to run.
        inputs: Padded batch.
        method: A method whose thresholds have a shape.
        temperature: T, in the unit of the score.
        log_scale: Of the thresholds in this pass.
    """
    real = inputs.attention_mask
    live, mask, cost_mask = real, real.float(), real.float()
    known = real  # live tokens, and those that the layer before let go
    thresholds = method.shaped(log_scale)
    hard = method.with_thresholds(thresholds.detach().tolist()).to(mask.device)
    kept = [cost_mask.sum(dim=1)]
    hidden = encoder.embed(inputs.input_ids, inputs.token_type_ids)
    mixed = hidden
    positions, position = encoder.encoder.positions(), _positions(hidden)
    for index, layer in enumerate(encoder.layers):
        # Attention to all known tokens, then only to those that are left: e^x m / sum of e^x m.
        query, key, value = project_tokens(layer, known, hidden)
        probs = layer.attention_probs(query, key, known, None, positions[index], position)
        probs = probs * mask[:, None, None, :]
        probs = probs / probs.sum(dim=-1, keepdim=True).clamp_min(torch.finfo(probs.dtype).tiny)
        score = importance_score(probs, live)
        attended = on_tokens(layer.attend, live, layer.context(probs, value), hidden)
        state = padded_state(
            index,
            method,
            inputs,
            probs=probs,
            score=score,
            live=live,
            attended=attended,
            carry=None,
        )
        # The decision as the hard runners take it, and the same as a slope.
        retained = decide(hard, state).retained
        free = ~state.protected
        compared = method.score(state)
        slope = torch.sigmoid((compared - thresholds[index]) / temperature) * free
        cost_slope = torch.sigmoid((compared.detach() - thresholds[index]) / temperature) * free
        mask = mask * _placed(retained + (slope - slope.detach()), live)
        cost_mask = cost_mask * _placed(retained + (cost_slope - cost_slope.detach()), live)
        kept.append(cost_mask.sum(dim=1))
        hidden = on_tokens(layer.feed_forward, live, attended)
        # A head that reads every token reads the last state of each as a live token.
        mixed = mixed + mask[..., None].to(hidden.dtype) * (hidden - mixed)
        known, live = live, live & _placed(retained.float(), live).bool()
    logits = head_logits(encoder, mixed, is_answerable(inputs, method, live))
    return StraightOutput(logits, torch.stack(kept, dim=1))


def _positions(hidden: Float[Tensor, "batch seq hidden"]) -> Int[Tensor, "1 seq"]:
    """Original positions, the same for every sequence: here no token moves."""
    return torch.arange(hidden.shape[1], device=hidden.device)[None]


def _placed(
    values: Float[Tensor, " live"], live: Bool[Tensor, "batch seq"]
) -> Float[Tensor, "batch seq"]:
    """Values of live tokens in the shape of the batch; 0 elsewhere."""
    return values.new_zeros(live.shape).masked_scatter(live, values)


@dataclass(frozen=True)
class StraightOutput:
    """A straight-through pass.

    Attributes:
        logits: Head output, as in `RunOutput`.
        lengths: Tokens at the input and after each layer. Whole numbers, whose gradient reaches the
            thresholds and not the scores: cost is what thresholds are for.
    """

    logits: Float[Tensor, "batch ..."]
    lengths: Float[Tensor, "batch states"]


def _soft_signals(
    method: SoftMethod, probs: Float[Tensor, "batch head seq seq"], mask: Bool[Tensor, "batch seq"]
) -> dict[str, Tensor]:
    if "diagonal" not in method.signals:
        return {}
    return {"live": mask, "diagonal": self_attention_share(probs)}


def _safe_log(weight: Float[Tensor, "batch seq"]) -> Float[Tensor, "batch seq"]:
    """log(weight) with a floor that keeps the gradient finite; e^-60 is removal in float32."""
    return weight.clamp_min(torch.finfo(torch.float32).tiny ** 0.7).log()
