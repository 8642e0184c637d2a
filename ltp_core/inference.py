"""A checkpoint over a set of encoded inputs, batch by batch: the one loop over data without training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from ltp_core.encoder.tokenizer import separator_id
from ltp_core.flops import NO_COST, DecisionCost, relative_bops, relative_flops
from ltp_core.runners.base import Inputs, RunOutput, make_inputs
from ltp_core.tasks.task import predictions_from
from ltp_core.tokenize import Encoded, collate, sorted_batches

if TYPE_CHECKING:
    import pandas as pd

    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod

InputBatch = tuple[Int[np.ndarray, " batch"], Inputs]
"""Positions in a set of inputs, and these inputs, padded."""

OnBatch = Callable[[Int[np.ndarray, " batch"], RunOutput], None]
"""Is given the positions of a batch and what its pass gave, every decision recorded."""


def model_inputs(
    model: PrunedModel, encoded: Encoded, index: Sequence[int] | Int[np.ndarray, " batch"]
) -> Inputs:
    """The inputs at `index`, padded to the longest, on the model's device.

    Marked are the tokens that the model's method protects.
    """
    batch = collate(encoded, index, None, model.encoder.config.pad_id)
    inputs = marked_inputs(
        model, batch.input_ids, batch.token_type_ids, batch.attention_mask, batch.question
    )
    return inputs.to(model.device)


def marked_inputs(
    model: PrunedModel,
    input_ids: Int[Tensor, "batch seq"],
    token_type_ids: Int[Tensor, "batch seq"],
    attention_mask: Bool[Tensor, "batch seq"],
    question: Bool[Tensor, "batch seq"] | None = None,
) -> Inputs:
    """A right-padded batch in which the tokens that the model's method protects are marked.

    Args:
        model: Loaded checkpoint.
        input_ids: Vocabulary ids.
        token_type_ids: Segment of each token.
        attention_mask: True for real tokens.
        question: True for the tokens of a question; None where none is asked.
    """
    config = model.method.config
    return make_inputs(
        input_ids,
        token_type_ids,
        attention_mask,
        protect_first=config.protect_first,
        protect_separators=config.protect_separators,
        separator_id=separator_id(model.tokenizer),
        protected=question if config.protect_question else None,
    )


def input_batches(
    model: PrunedModel, encoded: Encoded, batch_size: int = 64
) -> Iterator[InputBatch]:
    """All inputs in padded batches, the longest first; keep them to run the same ones repeatedly."""
    for index in sorted_batches(encoded.length, batch_size):
        yield index, model_inputs(model, encoded, index)


@dataclass(frozen=True, kw_only=True)
class Predictions:
    """What all inputs gave, in their order.

    Attributes:
        logits: Of each input, `label`; for a span head `seq label` without padding.
        length: Tokens of each input.
        attention_length: Tokens that entered each layer's attention.
        ffn_length: Tokens that stayed after each layer.
        decision: What the method computed to decide.
    """

    logits: list[np.ndarray]
    length: Int[np.ndarray, " inputs"]
    attention_length: Int[np.ndarray, "inputs layers"]
    ffn_length: Int[np.ndarray, "inputs layers"]
    decision: DecisionCost = NO_COST

    @property
    def answers(self) -> Shaped[np.ndarray, " inputs"]:
        """Class index of each input, or the value itself where there is one output."""
        return predictions_from(np.stack(self.logits))

    @property
    def mean_retained(self) -> list[float]:
        """Per layer, tokens that go on as a fraction of all tokens."""
        return [float(x) for x in self.ffn_length.sum(axis=0) / self.length.sum()]

    def relative_flops(self, model: PrunedModel) -> dict[str, float]:
        """Fraction of the unpruned, unpadded FLOPs by accounting, sums before division."""
        config = model.encoder.config
        return relative_flops(
            self.length,
            self.attention_length,
            self.ffn_length,
            **config.sizes,
            decision=self.decision,
        )

    def relative_bops(self, model: PrunedModel) -> float | None:
        """Fraction of the unpruned FP16 model's bit operations; None where no map is in INT8."""
        if model.input_scales is None:
            return None
        config = model.encoder.config
        return relative_bops(
            self.length,
            self.attention_length,
            self.ffn_length,
            **config.sizes,
            decision=self.decision,
        )

    def layers_frame(
        self,
        split: str,
        row: Int[np.ndarray, " inputs"],
        window: Int[np.ndarray, " inputs"] | None,
    ) -> pd.DataFrame:
        """Columns of the store's `layers` table; `window` only where a row has several inputs."""
        import pandas as pd

        num_layers = self.attention_length.shape[1]
        frame = pd.DataFrame(
            {
                "split": split,
                "row": np.repeat(row, num_layers),
                "layer": np.tile(np.arange(num_layers), len(row)),
                "attention_length": self.attention_length.ravel(),
                "ffn_length": self.ffn_length.ravel(),
            }
        )
        return frame if window is None else frame.assign(window=np.repeat(window, num_layers))


def predict(
    model: PrunedModel,
    encoded: Encoded,
    method: PruningMethod | None = None,
    *,
    batches: Iterable[InputBatch] | None = None,
    on_batch: OnBatch | None = None,
) -> Predictions:
    """Runs all inputs with the packed runner.

    Args:
        model: Loaded checkpoint.
        encoded: The inputs.
        method: What prunes; None takes the checkpoint's own method.
        batches: The inputs as `input_batches` gives them, where they are at hand already.
        on_batch: Looks at each batch; without it no decision is recorded.
    """
    method = model.method if method is None else method
    num_layers = model.encoder.config.num_layers
    logits: list[np.ndarray] = [np.empty(0)] * len(encoded)
    attention_length = np.empty((len(encoded), num_layers), dtype=np.int64)
    ffn_length = np.empty_like(attention_length)
    for index, inputs in input_batches(model, encoded) if batches is None else batches:
        output = model.packed(inputs, method, record=on_batch is not None)
        if on_batch is not None:
            on_batch(index, output)
        # NumPy has no bfloat16; float64 stays what it is.
        found = output.logits.to(torch.promote_types(output.logits.dtype, torch.float32))
        for i, values in zip(index, found.cpu().numpy(), strict=True):
            logits[i] = values[: encoded.length[i]] if values.ndim == 2 else values
        attention_length[index] = output.attention_length.numpy()
        ffn_length[index] = output.ffn_length.numpy()
    return Predictions(
        logits=logits,
        length=encoded.length,
        attention_length=attention_length,
        ffn_length=ffn_length,
        decision=method.decision_cost,
    )
