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
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ltp_core.bench.catalogue import CONTENDERS, Contender, LastLayer, can_run
from ltp_core.bench.products import MatrixProducts
from ltp_core.bench.workload import Batches, LayerLengths, without_pruning
from ltp_core.checkpoint import PrunedModel
from ltp_core.encoder.saving import save_encoder
from ltp_core.export import onnx_session, running_encoder
from ltp_core.inference import model_inputs
from ltp_core.pruning import Unpruned
from ltp_core.pruning.base import PruningMethod
from ltp_core.records import UserError
from ltp_core.runners import Inputs, PackedRunner, run_masked, run_repadded
from ltp_core.tokenize import Encoded, collate, sorted_batches

Pass = Callable[[Inputs], Tensor]
"""Runs a padded batch and gives its logits."""

Builder = Callable[[PrunedModel], Pass | MatrixProducts]

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
    run: Pass | MatrixProducts

    @property
    def method(self) -> PruningMethod:
        """The method that decides what is computed, or none where nothing is pruned."""
        return self.model.method if self.contender.is_pruned else unpruned(self.model)

    def run_batches(self, encoded: Encoded, batches: Batches, counted: LayerLengths) -> None:
        """Runs all batches, from token ids to logits.

        Args:
            encoded: The sequences.
            batches: Positions in them.
            counted: What `count_tokens` says of them.
        """
        for index in batches:
            if isinstance(self.run, MatrixProducts):
                self.run(counted.take(index))
            else:
                self.run(batch_inputs(self.model, encoded, index))

    def logits(self, encoded: Encoded, index: np.ndarray) -> Tensor:
        """Answers of one batch.

        Raises:
            TypeError: The contender does not answer.
        """
        if isinstance(self.run, MatrixProducts):
            raise TypeError(f"{self.name} has no answers")
        return self.run(batch_inputs(self.model, encoded, index))

    @property
    def survey(self) -> Survey:
        """What has to be found out about its tokens: equal for contenders that remove the same."""
        is_removed = self.contender.is_pruned and self.contender.blanks != "input"
        return Survey(self.model.name, is_removed, self.contender.last_layer)


class Survey(NamedTuple):
    """Which tokens of whose pass are counted.

    Attributes:
        model: Name of the checkpoint.
        is_pruned: Its method is at work.
        last_layer: What the last layer finishes.
    """

    model: str
    is_pruned: bool
    last_layer: LastLayer


def enter(model: PrunedModel, names: Sequence[str], against: Sequence[PrunedModel]) -> list[Entry]:
    """All contenders: the named ones with this checkpoint, and other checkpoints packed.

    Raises:
        UserError: One of them is not measured on this device or from weights of this type.
    """
    weight = next(model.encoder.parameters())
    place = weight.device.type, str(weight.dtype).removeprefix("torch.")
    if not all(can_run(CONTENDERS[name], *place) for name in names):
        raise UserError("ONNX Runtime is measured on the CPU and from float32 weights only.")
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


def count_tokens(model: PrunedModel, survey: Survey, encoded: Encoded) -> LayerLengths:
    """Tokens that are computed of these sequences in each layer, without padding."""
    method = model.method if survey.is_pruned else unpruned(model)
    if not survey.is_pruned and survey.last_layer == "all":
        runs = [method.runs_layer(i) for i in range(method.num_layers)]
        return without_pruning(encoded.length, runs)
    shape = (len(encoded), method.num_layers)
    attention, query, ffn = (np.zeros(shape, np.int64) for _ in range(3))
    counted = LayerLengths(attention, query, ffn, reads_states=method.reads_states)
    for index in sorted_batches(encoded.length, SURVEY_BATCH):
        inputs = batch_inputs(model, encoded, index)
        output = model.packed(inputs, method, last_layer=survey.last_layer)
        asked = output.attention_length if output.query_length is None else output.query_length
        counted.attention[index] = output.attention_length.numpy()
        counted.query[index] = asked.numpy()
        counted.ffn[index] = output.ffn_length.numpy()
    return counted


def _packed(model: PrunedModel, *, is_pruned: bool = True, last_layer: LastLayer = "all") -> Pass:
    method = model.method if is_pruned else unpruned(model)
    return lambda inputs: model.packed(inputs, method, last_layer=last_layer).logits


def _packed_bfloat16(model: PrunedModel, *, is_pruned: bool = True) -> Pass:
    packed = PackedRunner(model.encoder, dtype=torch.bfloat16)
    coarse = dataclasses.replace(model, packed=packed)
    return _packed(coarse, is_pruned=is_pruned, last_layer="first")


def _products(model: PrunedModel) -> MatrixProducts:
    return MatrixProducts(model.encoder)


def _repadded(model: PrunedModel) -> Pass:
    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        return run_repadded(model.encoder, inputs, model.method, computes_blanks=True).logits

    return run


def _masked(model: PrunedModel) -> Pass:
    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        return run_masked(model.encoder, inputs, model.method).logits

    return run


def _peer(model: PrunedModel, attention: str, dtype: torch.dtype | None) -> Any:
    """The same weights in transformers' own model."""
    from transformers import AutoModelForSequenceClassification

    dtype = dtype or next(model.encoder.parameters()).dtype
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(running_encoder(model), Path(folder), label_names=model.label_names)
        peer = AutoModelForSequenceClassification.from_pretrained(
            folder, attn_implementation=attention, dtype=dtype
        )
    return peer.eval().to(device_of(model))


def _has_token_types(model: PrunedModel) -> bool:
    return model.encoder.config.family == "bert"


def _hugging_face(
    model: PrunedModel, *, attention: str = "sdpa", dtype: torch.dtype | None = None
) -> Pass:
    peer = _peer(model, attention, dtype)
    has_token_types = _has_token_types(model)

    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        extra = {"token_type_ids": inputs.token_type_ids} if has_token_types else {}
        mask = inputs.attention_mask.long()
        logits: Tensor = peer(input_ids=inputs.input_ids, attention_mask=mask, **extra).logits
        return logits

    return run


def _onnx(model: PrunedModel, *, is_pruned: bool = False, is_quantised: bool = False) -> Pass:
    threads = torch.get_num_threads()
    return onnx_session(model, pruned=is_pruned, int8=is_quantised, threads=threads).run


_onnx_pruned = functools.partial(_onnx, is_pruned=True)

BUILDERS: dict[str, Builder] = {
    "packed": _packed,
    "packed_unpruned": functools.partial(_packed, is_pruned=False),
    "packed_first": functools.partial(_packed, last_layer="first"),
    "packed_unpruned_first": functools.partial(_packed, is_pruned=False, last_layer="first"),
    "packed_bfloat16": _packed_bfloat16,
    "packed_unpruned_bfloat16": functools.partial(_packed_bfloat16, is_pruned=False),
    "products": _products,
    "products_unpruned": _products,
    "repadded": _repadded,
    "masked": _masked,
    "hugging_face": _hugging_face,
    "hugging_face_sorted": _hugging_face,
    "hugging_face_eager": functools.partial(_hugging_face, attention="eager"),
    "hugging_face_bfloat16_sorted": functools.partial(_hugging_face, dtype=torch.bfloat16),
    "onnx": _onnx,
    "onnx_sorted": _onnx,
    "onnx_int8_sorted": functools.partial(_onnx, is_quantised=True),
    "onnx_pruned": _onnx_pruned,
    "onnx_pruned_sorted": _onnx_pruned,
    "onnx_pruned_int8_sorted": functools.partial(_onnx, is_pruned=True, is_quantised=True),
}
