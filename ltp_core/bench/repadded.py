"""Pruned tokens removed, the rest padded again to the batch's longest survivor, layer by layer.

How the paper measures on the CPU (section 4.5), as a control: it stays within ordinary batched
operations, but a batch is only as short as its longest sequence. Same answers as the other runners.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ltp_core.encoder.model import Encoder, EncoderLayer
from ltp_core.pruning.base import LayerState, PruningMethod, decide
from ltp_core.pruning.importance import importance_score, self_attention_share
from ltp_core.runners.base import Inputs, RunOutput


@dataclass(frozen=True)
class Padded:
    """Live tokens at the front of each row, blanks behind them.

    Attributes:
        hidden: State of each token.
        live: True for tokens, False for blanks.
        position: Position in the original sequence.
        protected: Tokens that no method may prune.
        carry: What the method handed over, by live token.
    """

    hidden: Float[Tensor, "batch seq hidden"]
    live: Bool[Tensor, "batch seq"]
    position: Int[Tensor, "batch seq"]
    protected: Bool[Tensor, "batch seq"]
    carry: Float[Tensor, " live"] | None


@torch.inference_mode()
def run_repadded(encoder: Encoder, inputs: Inputs, method: PruningMethod) -> RunOutput:
    """One pass; logits and kept tokens are those of `run_masked`."""
    mask = inputs.attention_mask
    entered, left = [], []
    batch = Padded(
        hidden=encoder.embed(inputs.input_ids, inputs.token_type_ids),
        live=mask,
        position=torch.arange(mask.shape[1], device=mask.device).expand(mask.shape),
        protected=inputs.protected,
        carry=None,
    )
    first = batch.hidden[:, 0]
    for index, layer in enumerate(encoder.layers):
        if not method.runs_layer(index):
            entered.append(torch.zeros_like(inputs.length))
            left.append(torch.zeros_like(inputs.length))
            continue
        entered.append(batch.live.sum(dim=1))
        batch = _run_layer(index, layer, method, batch, inputs)
        left.append(batch.live.sum(dim=1))
        is_live = batch.position[:, :1] == 0
        first = torch.where(is_live, batch.hidden[:, 0], first)
    attention_length, ffn_length = (torch.stack(each, dim=1).cpu() for each in (entered, left))
    return RunOutput(encoder.head(first), attention_length, ffn_length)


def _run_layer(
    index: int, layer: EncoderLayer, method: PruningMethod, batch: Padded, inputs: Inputs
) -> Padded:
    """A layer whose output has only the retained tokens, moved to the front."""
    live = batch.live
    probs = layer.attention_probs(batch.hidden, live)
    state = LayerState(
        layer_index=index,
        score=importance_score(probs, live)[live],
        sequence=live.nonzero()[:, 0],
        position=batch.position[live],
        protected=batch.protected[live],
        live_length=live.sum(dim=1),
        initial_length=inputs.length,
        diagonal=self_attention_share(probs)[live] if "diagonal" in method.signals else None,
        carry=batch.carry,
        is_never_empty=inputs.protects_first,
    )
    decision = decide(method, state)
    retained = torch.zeros_like(live)
    retained[live] = decision.retained
    width = int(retained.sum(dim=1).max())
    front = (~retained).to(torch.int8).argsort(dim=1, stable=True)[:, :width]
    kept_probs = probs.gather(
        2, front[:, None, :, None].expand(-1, probs.shape[1], -1, probs.shape[3])
    )
    value = layer.split_heads(layer.attention.self.value(batch.hidden))
    context = (kept_probs.to(value.dtype) @ value).transpose(1, 2).flatten(2)
    kept = front[:, :, None].expand(-1, -1, batch.hidden.shape[2])
    return Padded(
        hidden=layer.finish(context, batch.hidden.gather(1, kept)),
        live=retained.gather(1, front),
        position=batch.position.gather(1, front),
        protected=batch.protected.gather(1, front),
        carry=None if decision.carry is None else decision.carry[decision.retained],
    )
