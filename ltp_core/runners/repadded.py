"""Re-padded runner: pruned tokens leave, the rest is padded again to the batch's longest survivor.

Ordinary batched operations with gradients. The hard stage trains with it and computes no pruned
row's output projection and FFN; with `computes_blanks` it is the paper's way on the CPU (section 4.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ltp_core.encoder.model import Encoder, EncoderLayer, Positions
from ltp_core.pruning.base import Decision, PruningMethod, decide, select
from ltp_core.pruning.importance import importance_score
from ltp_core.runners.base import Inputs, LayerRecord, RunOutput
from ltp_core.runners.head import head_logits, is_answerable
from ltp_core.runners.rows import on_tokens, project_tokens
from ltp_core.runners.state import padded_entry, padded_record, padded_state, selected_record

WIDTHS = 8
"""Of what the width of a batch is a multiple in lower precision, in tokens: few shapes (`rows.ROWS`)."""


@dataclass(frozen=True)
class Padded:
    """Live tokens at the front of each row, blanks behind them.

    Attributes:
        hidden: State of each token.
        live: True for tokens, False for blanks.
        position: Position in the original sequence; that of a blank is no live token's.
        protected: Tokens that no method may prune.
        special: Tokens that the tokenizer added.
        carry: What the method handed over, by live token.
    """

    hidden: Float[Tensor, "batch seq hidden"]
    live: Bool[Tensor, "batch seq"]
    position: Int[Tensor, "batch seq"]
    protected: Bool[Tensor, "batch seq"]
    special: Bool[Tensor, "batch seq"]
    carry: Float[Tensor, " live"] | None


def run_repadded(
    encoder: Encoder,
    inputs: Inputs,
    method: PruningMethod,
    *,
    record: bool = False,
    computes_blanks: bool = False,
) -> RunOutput:
    """One pass; answers, kept tokens and gradients are those of `run_masked`.

    Args:
        encoder: Model to run.
        inputs: Padded batch.
        method: Decides after each layer's attention.
        record: Keep the scores and masks of every layer.
        computes_blanks: Blanks go through output projection and FFN as tokens do, and what leaves
            gathers no values.
    """
    mask = inputs.attention_mask
    entered, left, records = [], [], []
    batch = Padded(
        hidden=encoder.embed(inputs.input_ids, inputs.token_type_ids),
        live=mask,
        position=torch.arange(mask.shape[1], device=mask.device).expand(mask.shape),
        protected=inputs.protected,
        special=inputs.special,
        carry=None,
    )
    positions = encoder.encoder.positions()
    states = batch.hidden if encoder.config.reads_every_token else batch.hidden[:, :1]
    for index, layer in enumerate(encoder.layers):
        if not method.runs_layer(index):
            entered.append(torch.zeros_like(inputs.length))
            left.append(torch.zeros_like(inputs.length))
            continue
        came, selection = batch, None
        if index in method.entry_layers:
            batch, selection = _selected(index, method, batch, inputs)
        entered.append(batch.live.sum(dim=1))
        after, found = _run_layer(
            index, layer, positions[index], method, batch, inputs, computes_blanks
        )
        if record:
            placed = _in_place(inputs, batch, found)
            if selection is not None:
                live = torch.zeros_like(mask).scatter(1, came.position, came.live)
                placed = selected_record(placed, live, selection)
            records.append(placed)
        batch = after
        left.append(batch.live.sum(dim=1))
        states = _read(states, batch)
    attention_length, ffn_length = (torch.stack(each, dim=1).cpu() for each in (entered, left))
    live = torch.zeros_like(mask).scatter(1, batch.position, batch.live)
    logits = head_logits(encoder, states, is_answerable(inputs, method, live))
    return RunOutput(logits, attention_length, ffn_length, tuple(records))


def _selected(
    index: int, method: PruningMethod, batch: Padded, inputs: Inputs
) -> tuple[Padded, Decision]:
    """The tokens that enter a layer, moved to the front, and the selection among those that came."""
    entry = padded_entry(
        index,
        inputs,
        hidden=batch.hidden,
        live=batch.live,
        position=batch.position,
        protected=batch.protected,
    )
    selection = select(method, entry)
    retained = torch.zeros_like(batch.live)
    retained[batch.live] = selection.retained
    front, stays = _front(retained)
    hidden = batch.hidden.gather(1, front[:, :, None].expand(-1, -1, batch.hidden.shape[2]))
    carry = None if batch.carry is None else batch.carry[selection.retained]
    return _moved(batch, hidden, front, stays, carry), selection


def _front(
    retained: Bool[Tensor, "batch seq"],
) -> tuple[Int[Tensor, "batch kept"], Bool[Tensor, "batch kept"]]:
    """Places of what is retained, moved to the front in order, and which of them are no blanks."""
    longest = int(retained.sum(dim=1).max())
    if torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda"):
        longest += -longest % WIDTHS
    width = min(longest, retained.shape[1])
    front = (~retained).to(torch.int8).argsort(dim=1, stable=True)[:, :width]
    return front, retained.gather(1, front)


def _moved(
    batch: Padded,
    hidden: Float[Tensor, "batch kept hidden"],
    front: Int[Tensor, "batch kept"],
    stays: Bool[Tensor, "batch kept"],
    carry: Float[Tensor, " live"] | None,
) -> Padded:
    """The batch of the tokens in `front`, with these states."""
    return Padded(
        hidden=hidden,
        live=stays,
        position=batch.position.gather(1, front),
        protected=batch.protected.gather(1, front),
        special=batch.special.gather(1, front),
        carry=carry,
    )


def _run_layer(
    index: int,
    layer: EncoderLayer,
    positions: Positions,
    method: PruningMethod,
    batch: Padded,
    inputs: Inputs,
    computes_blanks: bool,
) -> tuple[Padded, LayerRecord]:
    """A layer whose output has only the retained tokens, moved to the front; scores, who stays."""
    live = batch.live
    query, key, value = (
        layer.project(batch.hidden)
        if computes_blanks
        else project_tokens(layer, live, batch.hidden)
    )
    probs = layer.attention_probs(query, key, live, None, positions, batch.position)
    score = importance_score(probs, live)
    # Tokens that go have an attention output only for a method that reads it, or as blanks have.
    attended = None
    if method.reads_states:
        context = layer.context(probs, value)
        attended = (
            layer.attend(context, batch.hidden)
            if computes_blanks
            else on_tokens(layer.attend, live, context, batch.hidden)
        )
    state = padded_state(
        index,
        method,
        inputs,
        probs=probs,
        score=score,
        live=live,
        attended=attended,
        position=batch.position,
        protected=batch.protected,
        special=batch.special,
        carry=batch.carry,
    )
    decision = decide(method, state)
    retained = torch.zeros_like(live)
    retained[live] = decision.retained
    front, stays = _front(retained)
    hidden = (
        _finish_all(layer, probs, value, batch.hidden, attended, front)
        if computes_blanks
        else _finish_live(layer, probs, value, batch.hidden, attended, front, retained)
    )
    carry = None if decision.carry is None else decision.carry[decision.retained]
    after = _moved(batch, hidden, front, stays, carry)
    return after, padded_record(live, score, decision, retained)


def _finish_all(
    layer: EncoderLayer,
    probs: Float[Tensor, "batch head seq seq"],
    value: Float[Tensor, "batch seq hidden"],
    hidden: Float[Tensor, "batch seq hidden"],
    attended: Float[Tensor, "batch seq hidden"] | None,
    front: Int[Tensor, "batch kept"],
) -> Float[Tensor, "batch kept hidden"]:
    """Everything that is left to do, of the places in `front`, tokens and blanks alike."""
    kept = front[:, :, None].expand(-1, -1, hidden.shape[2])
    if attended is not None:
        return layer.feed_forward(attended.gather(1, kept))
    queries = front[:, None, :, None].expand(-1, probs.shape[1], -1, probs.shape[3])
    context = layer.context(probs.gather(2, queries), value)
    return layer.feed_forward(layer.attend(context, hidden.gather(1, kept)))


def _finish_live(
    layer: EncoderLayer,
    probs: Float[Tensor, "batch head seq seq"],
    value: Float[Tensor, "batch seq hidden"],
    hidden: Float[Tensor, "batch seq hidden"],
    attended: Float[Tensor, "batch seq hidden"] | None,
    front: Int[Tensor, "batch kept"],
    retained: Bool[Tensor, "batch seq"],
) -> Float[Tensor, "batch kept hidden"]:
    """Everything that is left to do, of the tokens that stay, which `front` names; blanks are 0."""
    if attended is not None:
        finished = on_tokens(layer.feed_forward, retained, attended)
    else:
        context = layer.context(probs, value)
        finished = on_tokens(
            lambda *rows: layer.feed_forward(layer.attend(*rows)), retained, context, hidden
        )
    return finished.gather(1, front[:, :, None].expand(-1, -1, hidden.shape[2]))


def _read(
    states: Float[Tensor, "batch read hidden"], batch: Padded
) -> Float[Tensor, "batch read hidden"]:
    """The last state of each token that the head reads, with those that are live now renewed."""
    if states.shape[1] == 1:
        is_live = batch.live[:, :1] & (batch.position[:, :1] == 0)
        return torch.where(is_live[..., None], batch.hidden[:, :1], states)
    place = batch.position[..., None].expand_as(batch.hidden)
    hidden = batch.hidden.to(states.dtype)
    return states.scatter(
        1, place, torch.where(batch.live[..., None], hidden, states.gather(1, place))
    )


def _in_place(inputs: Inputs, batch: Padded, record: LayerRecord) -> LayerRecord:
    """A layer's record in the coordinates of the padded input batch."""
    nowhere = torch.zeros_like(inputs.attention_mask)
    blank = record.score.new_zeros(nowhere.shape)
    return LayerRecord(
        nowhere.scatter(1, batch.position, record.live),
        blank.scatter(1, batch.position, record.score),
        nowhere.scatter(1, batch.position, record.retained),
        blank.scatter(1, batch.position, record.attention),
    )
