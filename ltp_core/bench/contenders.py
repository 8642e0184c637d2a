"""Builders of the contenders: from a checkpoint to a function that runs one batch.

`BUILDERS` has one function for each entry of the catalogue.
"""

from __future__ import annotations

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ltp_core.bench.catalogue import CONTENDERS, Contender
from ltp_core.bench.onnx_peer import OnnxPass
from ltp_core.bench.repadded import run_repadded
from ltp_core.bench.workload import Batches, LayerLengths, with_blanks, without_pruning
from ltp_core.checkpoint import PrunedModel
from ltp_core.data.batching import Encoded, collate, sorted_batches
from ltp_core.encoder.loading import save_encoder
from ltp_core.evaluate import model_inputs
from ltp_core.pruning import Unpruned
from ltp_core.pruning.base import PruningMethod
from ltp_core.runners import Inputs, PackedRunner, run_masked

Pass = Callable[[Inputs], Tensor]
"""Runs a padded batch and gives its logits."""

Builder = Callable[[PrunedModel], Pass]

SURVEY_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A contender at the start.

    Attributes:
        name: Name in the results.
        contender: What it is.
        model: Whose weights and tokenizer it has.
        run: Runs one batch.
    """

    name: str
    contender: Contender
    model: PrunedModel
    run: Pass

    @property
    def method(self) -> PruningMethod:
        """The method that decides what is computed, or none where nothing is pruned."""
        return self.model.method if self.contender.is_pruned else unpruned(self.model)

    def run_batches(self, encoded: Encoded, batches: Batches) -> None:
        """Runs all batches, from token ids to logits."""
        for index in batches:
            self.logits(encoded, index)

    def logits(self, encoded: Encoded, index: np.ndarray) -> Tensor:
        """Collates and runs one batch."""
        return self.run(batch_inputs(self.model, encoded, index))

    def computed_lengths(self, survivors: LayerLengths, full: np.ndarray, batches: Batches) -> Any:
        """Lengths that it computes on, padding and pruned tokens included where it does.

        Args:
            survivors: What the model's method leaves of these sequences.
            full: Tokens of each sequence at the input.
            batches: Its batches.
        """
        is_removed = self.contender.is_pruned and self.contender.blanks != "input"
        runs = [self.method.runs_layer(i) for i in range(self.method.num_layers)]
        lengths = survivors if is_removed else without_pruning(full, runs)
        return with_blanks(lengths, batches, self.contender.blanks)


def enter(model: PrunedModel, names: Sequence[str], against: Sequence[PrunedModel]) -> list[Entry]:
    """All contenders: the named ones with this checkpoint, and other checkpoints packed."""
    # Contenders that differ in the order of their batches only share one builder.
    passes = {builder: builder(model) for builder in {BUILDERS[name] for name in names}}
    own = [
        Entry(name=name, contender=CONTENDERS[name], model=model, run=passes[BUILDERS[name]])
        for name in names
    ]
    others = [
        Entry(name=other.name, contender=_other(other), model=other, run=_packed(other))
        for other in against
    ]
    return own + others


def _other(model: PrunedModel) -> Contender:
    return dataclasses.replace(
        CONTENDERS["packed"],
        name=model.name,
        title=model.name,
        meaning=f"another checkpoint, method {model.method.name}: packed runner",
    )


def cast(model: PrunedModel, dtype: torch.dtype) -> PrunedModel:
    """The model in another floating-point type; thresholds and scores stay in float32."""
    if dtype == next(model.encoder.parameters()).dtype:
        return model
    encoder = model.encoder.to(dtype)
    return dataclasses.replace(model, encoder=encoder, packed=PackedRunner(encoder))


def unpruned(model: PrunedModel) -> Unpruned:
    """No pruning, with the same layers and protected tokens."""
    return Unpruned.control_of(model.method)


def device_of(model: PrunedModel) -> torch.device:
    """Where the model's weights are."""
    return next(model.encoder.parameters()).device


def batch_inputs(model: PrunedModel, encoded: Encoded, index: np.ndarray) -> Inputs:
    """The sequences at `index`, padded to the longest of them, on the model's device."""
    batch = collate(encoded, index, None, model.encoder.config.pad_id)
    return model_inputs(model, batch).to(device_of(model))


def survivors_of(model: PrunedModel, encoded: Encoded) -> LayerLengths:
    """What the model's method leaves of these sequences, by layer; no batch changes it."""
    shape = (len(encoded), model.method.num_layers)
    lengths = LayerLengths(np.zeros(shape, np.int64), np.zeros(shape, np.int64))
    for index in sorted_batches(encoded.length, SURVEY_BATCH):
        output = model.packed(batch_inputs(model, encoded, index), model.method)
        lengths.attention[index] = output.attention_length.numpy()
        lengths.ffn[index] = output.ffn_length.numpy()
    return lengths


def _packed(model: PrunedModel) -> Pass:
    return lambda inputs: model.packed(inputs, model.method).logits


def _packed_unpruned(model: PrunedModel) -> Pass:
    method = unpruned(model)
    return lambda inputs: model.packed(inputs, method).logits


def _repadded(model: PrunedModel) -> Pass:
    return lambda inputs: run_repadded(model.encoder, inputs, model.method).logits


def _masked(model: PrunedModel) -> Pass:
    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        return run_masked(model.encoder, inputs, model.method).logits

    return run


def _peer(model: PrunedModel, attention: str) -> Any:
    """The same weights in transformers' own model."""
    from transformers import AutoModelForSequenceClassification

    dtype = next(model.encoder.parameters()).dtype
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(model.encoder, Path(folder), label_names=model.label_names)
        peer = AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation=attention, dtype=dtype
        )
    return peer.eval().to(device_of(model))


def _has_token_types(model: PrunedModel) -> bool:
    return model.encoder.config.family == "bert"


def _hugging_face(model: PrunedModel, *, attention: str) -> Pass:
    peer = _peer(model, attention)
    has_token_types = _has_token_types(model)

    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        extra = {"token_type_ids": inputs.token_type_ids} if has_token_types else {}
        mask = inputs.attention_mask.long()
        logits: Tensor = peer(input_ids=inputs.input_ids, attention_mask=mask, **extra).logits
        return logits

    return run


def _onnx(model: PrunedModel, *, is_quantised: bool) -> Pass:
    return OnnxPass(
        _peer(model, "sdpa"), has_token_types=_has_token_types(model), is_quantised=is_quantised
    )


_sdpa = functools.partial(_hugging_face, attention="sdpa")
_eager = functools.partial(_hugging_face, attention="eager")
_onnx_float = functools.partial(_onnx, is_quantised=False)
_onnx_int8 = functools.partial(_onnx, is_quantised=True)

BUILDERS: dict[str, Builder] = {
    "packed": _packed,
    "packed_unpruned": _packed_unpruned,
    "repadded": _repadded,
    "masked": _masked,
    "hugging_face": _sdpa,
    "hugging_face_sorted": _sdpa,
    "hugging_face_eager": _eager,
    "onnx": _onnx_float,
    "onnx_sorted": _onnx_float,
    "onnx_int8_sorted": _onnx_int8,
}
