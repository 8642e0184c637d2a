"""A checkpoint over a set of encoded inputs, batch by batch, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Int
from tokenizers import Encoding

from ltp_core.encoder.tokenizer import separator_id
from ltp_core.flops import relative_flops
from ltp_core.runners.base import Inputs, RunOutput, make_inputs
from ltp_core.token_categories import KindCounter
from ltp_core.tokenize import Batch, Encoded, collate, sorted_batches

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What a pass over a data set gave.

    Attributes:
        task: Task whose metrics were computed.
        split: Split of it.
        metrics: Fractions, the headline first.
        relative_flops: By accounting, sums over the data set before division.
        mean_retained: Per layer, tokens that go on as a fraction of all tokens of the data set.
        examples: One row per example, columns of the store's `examples` table.
        layers: One row per example and layer, columns of the store's `layers` table.
        dataset: Source, rows and SHA-256 of the data.
    """

    task: str
    split: str
    metrics: dict[str, float]
    relative_flops: dict[str, float]
    mean_retained: list[float]
    examples: pd.DataFrame
    layers: pd.DataFrame
    dataset: dict[str, Any]

    @property
    def rows(self) -> int:
        """Number of examples."""
        return len(self.examples)

    @property
    def summary(self) -> dict[str, Any]:
        """What a manifest says of it."""
        return {
            "rows": self.rows,
            "metrics": self.metrics,
            "relative_flops": self.relative_flops,
            "mean_retained": self.mean_retained,
        }


def model_inputs(model: PrunedModel, batch: Batch) -> Inputs:
    """A collated batch with the tokens marked that the model's method protects."""
    config = model.method.config
    return make_inputs(
        batch.input_ids,
        batch.token_type_ids,
        batch.attention_mask,
        protect_first=config.protect_first,
        protect_separators=config.protect_separators,
        separator_id=separator_id(model.tokenizer),
        protected=batch.question if config.protect_question else None,
    )


@dataclass(frozen=True, kw_only=True)
class Passes:
    """What all inputs gave, in their order.

    Attributes:
        logits: Of each input, `label`; for a span head `seq label` without padding.
        length: Tokens of each input.
        attention_length: Tokens that entered each layer's attention.
        ffn_length: Tokens that stayed after each layer.
        reads_states: The method decides by the tokens' states after attention.
    """

    logits: list[np.ndarray]
    length: Int[np.ndarray, " inputs"]
    attention_length: Int[np.ndarray, "inputs layers"]
    ffn_length: Int[np.ndarray, "inputs layers"]
    reads_states: bool = False

    @property
    def mean_retained(self) -> list[float]:
        """Per layer, tokens that go on as a fraction of all tokens."""
        return [float(x) for x in self.ffn_length.sum(axis=0) / self.length.sum()]

    def relative_flops(self, model: PrunedModel) -> dict[str, float]:
        """Fraction of the unpruned, unpadded FLOPs by accounting."""
        config = model.encoder.config
        return relative_flops(
            self.length,
            self.attention_length,
            self.ffn_length,
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
            reads_states=self.reads_states,
        )

    def layers_frame(self, split: str, row: Int[np.ndarray, " inputs"]) -> pd.DataFrame:
        """Columns of the store's `layers` table."""
        num_layers = self.attention_length.shape[1]
        return pd.DataFrame(
            {
                "split": split,
                "row": np.repeat(row, num_layers),
                "layer": np.tile(np.arange(num_layers), len(row)),
                "attention_length": self.attention_length.ravel(),
                "ffn_length": self.ffn_length.ravel(),
            }
        )


Describe = Callable[[int], tuple[Encoding, tuple[str, ...]]]
"""Gives an input's tokens and the texts that their offsets refer to."""


def run_passes(
    model: PrunedModel,
    encoded: Encoded,
    method: PruningMethod,
    *,
    batch_size: int = 64,
    counter: KindCounter | None = None,
    describe: Describe | None = None,
) -> Passes:
    """Runs all inputs with the packed runner, the longest first.

    Args:
        model: Loaded checkpoint.
        encoded: The inputs.
        method: What prunes.
        batch_size: Inputs per pass; no result depends on it.
        counter: Is given every decision; needs `describe`.
        describe: Tokens and texts of an input.
    """
    config = model.encoder.config
    logits: list[np.ndarray] = [np.empty(0)] * len(encoded)
    lengths = np.empty((2, len(encoded), config.num_layers), dtype=np.int64)
    device = model.device
    for index in sorted_batches(encoded.length, batch_size):
        inputs = model_inputs(model, collate(encoded, index, None, config.pad_id)).to(device)
        output: RunOutput = model.packed(inputs, method, record=counter is not None)
        if counter is not None and describe is not None:
            _count(counter, [describe(int(i)) for i in index], method, output)
        found = output.logits.float().cpu().numpy()
        for i, values in zip(index, found, strict=True):
            logits[i] = values[: encoded.length[i]] if values.ndim == 2 else values
        lengths[0, index] = output.attention_length.numpy()
        lengths[1, index] = output.ffn_length.numpy()
    return Passes(
        logits=logits,
        length=encoded.length,
        attention_length=lengths[0],
        ffn_length=lengths[1],
        reads_states=method.reads_states,
    )


def _count(
    counter: KindCounter,
    described: Sequence[tuple[Encoding, tuple[str, ...]]],
    method: PruningMethod,
    output: RunOutput,
) -> None:
    """Hands a batch over to the counter, with what `Encoded` does not keep of its tokens."""
    ran = [layer for layer in range(method.num_layers) if method.runs_layer(layer)]
    layers = {
        layer: (record.live.cpu().numpy(), record.retained.cpu().numpy())
        for layer, record in zip(ran, output.layers, strict=True)
    }
    encodings, texts = zip(*described, strict=True)
    counter.add(encodings, texts, layers)
