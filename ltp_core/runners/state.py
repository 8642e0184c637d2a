"""What a method sees of a padded batch: its live tokens, flat."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ltp_core.pruning.base import Decision, LayerEntry, LayerState, PruningMethod
from ltp_core.pruning.importance import self_attention_share
from ltp_core.runners.base import Inputs, LayerRecord


def padded_entry(
    layer_index: int,
    inputs: Inputs,
    *,
    hidden: Float[Tensor, "batch seq hidden"],
    live: Bool[Tensor, "batch seq"],
    position: Int[Tensor, "batch seq"] | None = None,
    protected: Bool[Tensor, "batch seq"] | None = None,
) -> LayerEntry:
    """What comes to a layer; `seq` is as wide as the batch is there.

    Args:
        layer_index: Zero-based.
        inputs: The batch at the input.
        hidden: States.
        live: Tokens that come.
        position: Of each token in its original sequence; None where no token has moved.
        protected: Tokens that no method may prune; None where no token has moved.
    """
    sequence, place = live.nonzero(as_tuple=True)
    return LayerEntry(
        layer_index=layer_index,
        hidden=hidden[live],
        sequence=sequence,
        position=place if position is None else position[live],
        protected=(inputs.protected if protected is None else protected)[live],
        batch=len(live),
        is_never_empty=inputs.protects_first,
    )


def padded_state(
    layer_index: int,
    method: PruningMethod,
    inputs: Inputs,
    *,
    probs: Float[Tensor, "batch head seq seq"],
    score: Float[Tensor, "batch seq"],
    live: Bool[Tensor, "batch seq"],
    attended: Float[Tensor, "batch seq hidden"] | None,
    carry: Float[Tensor, " live"] | None,
    position: Int[Tensor, "batch seq"] | None = None,
    protected: Bool[Tensor, "batch seq"] | None = None,
    special: Bool[Tensor, "batch seq"] | None = None,
) -> LayerState:
    """The state of a layer after its attention; `seq` is as wide as the batch is there.

    Args:
        layer_index: Zero-based.
        method: Whose `signals` say what it looks at.
        inputs: The batch at the input.
        probs: Attention probabilities.
        score: Importance score, in multiples of uniform attention; 0 where not live.
        live: Tokens that entered the layer.
        attended: States after the attention's residual and layer norm; None where no method looks.
        carry: What the method handed over at the previous layer.
        position: Of each token in its original sequence; None where no token has moved.
        protected: Tokens that no method may prune; None where no token has moved.
        special: Tokens that the tokenizer added; None where no token has moved.
    """
    sequence, place = live.nonzero(as_tuple=True)
    return LayerState(
        layer_index=layer_index,
        score=score[live],
        sequence=sequence,
        position=place if position is None else position[live],
        protected=(inputs.protected if protected is None else protected)[live],
        live_length=live.sum(dim=1),
        initial_length=inputs.length,
        diagonal=self_attention_share(probs)[live] if "diagonal" in method.signals else None,
        carry=carry,
        special=(inputs.special if special is None else special)[live]
        if "special" in method.signals
        else None,
        attended=attended[live] if method.reads_states and attended is not None else None,
        is_never_empty=inputs.protects_first,
    )


def padded_record(
    live: Bool[Tensor, "batch seq"],
    score: Float[Tensor, "batch seq"],
    decision: Decision,
    retained: Bool[Tensor, "batch seq"],
) -> LayerRecord:
    """Scores and masks of a layer in the coordinates of its batch.

    Args:
        live: Tokens that entered the layer.
        score: Importance scores.
        decision: The method's, about the live tokens, with the score that it compared.
        retained: Tokens that go on.
    """
    attention = score.detach().masked_fill(~live, 0.0)
    compared = attention
    if decision.score is not None:
        compared = torch.zeros_like(attention)
        compared[live] = decision.score.detach()
    return LayerRecord(live, compared, retained, attention)


def selected_record(
    record: LayerRecord, live: Bool[Tensor, "batch seq"], selection: Decision
) -> LayerRecord:
    """The record of a layer before which tokens were selected: of all that came, by what.

    Args:
        record: Of the tokens that entered it.
        live: Tokens that came.
        selection: About these.
    """
    assert selection.score is not None
    score = torch.zeros_like(record.score)
    score[live] = selection.score.detach().to(score.dtype)
    return LayerRecord(live, score, record.retained, record.attention)
