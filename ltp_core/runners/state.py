"""What a method sees of a padded batch: its live tokens, flat."""

from __future__ import annotations

from jaxtyping import Bool, Float, Int
from torch import Tensor

from ltp_core.pruning.base import LayerState, PruningMethod
from ltp_core.pruning.importance import self_attention_share
from ltp_core.runners.base import Inputs


def padded_state(
    layer_index: int,
    method: PruningMethod,
    inputs: Inputs,
    *,
    probs: Float[Tensor, "batch head seq seq"],
    score: Float[Tensor, "batch seq"],
    live: Bool[Tensor, "batch seq"],
    carry: Float[Tensor, " live"] | None,
    position: Int[Tensor, "batch seq"] | None = None,
    protected: Bool[Tensor, "batch seq"] | None = None,
) -> LayerState:
    """The state of a layer after its attention; `seq` is as wide as the batch is there.

    Args:
        layer_index: Zero-based.
        method: Whose `signals` say what it looks at.
        inputs: The batch at the input.
        probs: Attention probabilities.
        score: Importance score, in multiples of uniform attention; 0 where not live.
        live: Tokens that entered the layer.
        carry: What the method handed over at the previous layer.
        position: Of each token in its original sequence; None where no token has moved.
        protected: Tokens that no method may prune; None where no token has moved.
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
        is_never_empty=inputs.protects_first,
    )
