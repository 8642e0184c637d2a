"""Engines that run a benchmark's variants: from a checkpoint to a function that runs one batch.

`BUILDERS` has one function for each entry of `ltp_core.bench.variants.ENGINES`.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ltp_core.bench.products import MatrixProducts
from ltp_core.bench.variants import METHOD, VARIANTS, LastLayer, Variant, can_run
from ltp_core.bench.workload import Batches, LayerLengths, without_pruning
from ltp_core.checkpoint import PrunedModel
from ltp_core.encoder import int8
from ltp_core.encoder.saving import save_encoder
from ltp_core.export import onnx_session, running_encoder
from ltp_core.inference import model_inputs
from ltp_core.pruning import Unpruned
from ltp_core.pruning.base import PruningMethod
from ltp_core.records import UserError
from ltp_core.runners import Inputs, PackedRunner, fastest_runner, run_masked, run_repadded
from ltp_core.tasks.loading import load_rows
from ltp_core.tokenize import Encoded, encode, sorted_batches

Pass = Callable[[Inputs], Tensor]
"""Runs a padded batch and gives its logits."""

Builder = Callable[[PrunedModel, Variant], Pass | MatrixProducts]

SURVEY_BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A variant of a checkpoint, ready to run.

    Attributes:
        name: Name in the results.
        title: Name on screen.
        meaning: What it is, in a phrase.
        variant: How it runs.
        model: Whose weights and tokenizer it has.
        run: Runs one batch.
    """

    name: str
    title: str
    meaning: str
    variant: Variant
    model: PrunedModel
    run: Pass | MatrixProducts

    @property
    def method(self) -> PruningMethod:
        """The method that decides what is computed, or none where nothing is pruned."""
        return (
            self.model.method if self.variant.is_pruned else Unpruned.control_of(self.model.method)
        )

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
                self.run(model_inputs(self.model, encoded, index))

    def logits(self, encoded: Encoded, index: np.ndarray) -> Tensor:
        """Answers of one batch.

        Raises:
            TypeError: It does not answer.
        """
        if isinstance(self.run, MatrixProducts):
            raise TypeError(f"{self.name} has no answers")
        return self.run(model_inputs(self.model, encoded, index))

    @property
    def survey(self) -> Survey:
        """What has to be found out about its tokens: equal for variants that remove the same."""
        is_removed = self.variant.is_pruned and self.variant.padding != "input"
        return Survey(self.model.name, is_removed, self.variant.last_layer)


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
    """The named variants of this checkpoint, and other checkpoints in the packed runner.

    Raises:
        UserError: One of them is not measured on this device or from weights of this type.
    """
    weight = next(model.encoder.parameters())
    place = weight.device.type, str(weight.dtype).removeprefix("torch.")
    if not all(can_run(VARIANTS[name], *place) for name in names):
        raise UserError(
            "Exported files and native code are measured on the CPU and from float32 weights only."
        )
    # Variants that differ in the order of their batches only share what was built.
    passes: dict[Variant, Pass | MatrixProducts] = {}
    in_floating_point = floating(model)
    entries = []
    for name in names:
        variant = VARIANTS[name]
        built = dataclasses.replace(variant, is_sorted=False)
        if built not in passes:
            # A precision of its own is that of the weights in floating point.
            source = model if variant.precision == "settings" else in_floating_point
            passes[built] = BUILDERS[variant.engine](source, variant)
        entries.append(
            Entry(
                name=name,
                title=variant.title,
                meaning=variant.meaning,
                variant=variant,
                model=model,
                run=passes[built],
            )
        )
    packed = VARIANTS[METHOD]
    others = [
        Entry(
            name=other.name,
            title=other.name,
            meaning=f"another checkpoint, method {other.method.name}: packed runner",
            variant=packed,
            model=other,
            run=BUILDERS[packed.engine](other, packed),
        )
        for other in against
    ]
    return entries + others


def floating(model: PrunedModel) -> PrunedModel:
    """The model with its weights in floating point, where it runs in INT8."""
    encoder = int8.floating(model.encoder)
    if encoder is model.encoder:
        return model
    return dataclasses.replace(model, encoder=encoder, packed=PackedRunner(encoder))


def in_static_int8(model: PrunedModel) -> PrunedModel:
    """A copy with the layers' maps in INT8, the inputs' scales from training rows of its task.

    Raises:
        UserError: It has no task, or there are no training rows of it at hand.
    """
    from ltp_core.training.prepare import SCALE_ROWS, measured_scales

    if model.task is None:
        raise UserError(f"{model.name} has no task whose training rows give it INT8 scales.")
    rows = load_rows(model.task, "train", limit=SCALE_ROWS)
    encoded = encode(model.tokenizer, rows.texts, model.max_length)
    encoder = copy.deepcopy(model.encoder)
    int8.quantize_(encoder, measured_scales(model, encoded, seed=0))
    return dataclasses.replace(model, encoder=encoder)


def cast(model: PrunedModel, dtype: torch.dtype) -> PrunedModel:
    """The model in another floating-point type; thresholds and scores stay in float32."""
    if dtype == next(model.encoder.parameters()).dtype:
        return model
    encoder = model.encoder.to(dtype)
    return dataclasses.replace(model, encoder=encoder, packed=PackedRunner(encoder))


def count_tokens(model: PrunedModel, survey: Survey, encoded: Encoded) -> LayerLengths:
    """Tokens that are computed of these sequences in each layer, without padding."""
    method = model.method if survey.is_pruned else Unpruned.control_of(model.method)
    if not survey.is_pruned and survey.last_layer == "all":
        runs = [method.runs_layer(i) for i in range(method.num_layers)]
        return without_pruning(encoded.length, runs)
    shape = (len(encoded), method.num_layers)
    attention, query, ffn = (np.zeros(shape, np.int64) for _ in range(3))
    counted = LayerLengths(attention, query, ffn, decision=method.decision_cost)
    for index in sorted_batches(encoded.length, SURVEY_BATCH):
        inputs = model_inputs(model, encoded, index)
        output = model.packed(inputs, method, last_layer=survey.last_layer)
        asked = output.attention_length if output.query_length is None else output.query_length
        counted.attention[index] = output.attention_length.numpy()
        counted.query[index] = asked.numpy()
        counted.ffn[index] = output.ffn_length.numpy()
    return counted


def _packed(model: PrunedModel, variant: Variant) -> Pass:
    method = model.method if variant.is_pruned else Unpruned.control_of(model.method)
    runner = PackedRunner(model.encoder, dtype=_dtype(variant))
    return lambda inputs: runner(inputs, method, last_layer=variant.last_layer).logits


def _native(model: PrunedModel, variant: Variant) -> Pass:
    method = model.method if variant.is_pruned else Unpruned.control_of(model.method)
    runner = fastest_runner(model.encoder, _dtype(variant))
    return lambda inputs: runner(inputs, method, last_layer=variant.last_layer).logits


def _dtype(variant: Variant) -> torch.dtype | None:
    """Type of the layers' weights; None: that of the model."""
    return {"bfloat16": torch.bfloat16, "int8": torch.int8}.get(variant.precision)


def _products(model: PrunedModel, variant: Variant) -> MatrixProducts:
    del variant  # it is told the lengths, which say what is pruned
    return MatrixProducts(model.encoder)


def _repadded(model: PrunedModel, variant: Variant) -> Pass:
    del variant

    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        return run_repadded(model.encoder, inputs, model.method, computes_blanks=True).logits

    return run


def _masked(model: PrunedModel, variant: Variant) -> Pass:
    del variant

    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        return run_masked(model.encoder, inputs, model.method).logits

    return run


def transformers_model(model: PrunedModel, variant: Variant) -> nn.Module:
    """The same weights in transformers' own model, in the variant's precision."""
    from transformers import AutoModelForSequenceClassification

    is_coarse = variant.precision == "bfloat16"
    with tempfile.TemporaryDirectory() as folder:
        save_encoder(running_encoder(model), Path(folder), label_names=model.label_names)
        peer: nn.Module = AutoModelForSequenceClassification.from_pretrained(
            folder,
            attn_implementation="eager" if variant.engine == "hugging_face_eager" else "sdpa",
            dtype=torch.bfloat16 if is_coarse else next(model.encoder.parameters()).dtype,
        )
    return peer.eval().to(model.device)


def _hugging_face(model: PrunedModel, variant: Variant) -> Pass:
    peer: Callable[..., Any] = transformers_model(model, variant)
    if variant.engine == "compiled":
        # One compilation serves all shapes; batches of one and of many are two.
        peer = torch.compile(peer, dynamic=True)
    has_token_types = model.encoder.config.type_vocab_size > 1

    @torch.inference_mode()
    def run(inputs: Inputs) -> Tensor:
        extra = {"token_type_ids": inputs.token_type_ids} if has_token_types else {}
        mask = inputs.attention_mask.long()
        logits: Tensor = peer(input_ids=inputs.input_ids, attention_mask=mask, **extra).logits
        return logits

    return run


def _onnx(model: PrunedModel, variant: Variant) -> Pass:
    return onnx_session(
        model,
        pruned=variant.is_pruned,
        int8=variant.precision == "int8",
        threads=torch.get_num_threads(),
    ).run


def _openvino(model: PrunedModel, variant: Variant) -> Pass:
    from ltp_core.bench.openvino import OpenVinoSession

    return OpenVinoSession(
        in_static_int8(model) if variant.precision == "int8" else model,
        pruned=variant.is_pruned,
        precision="bf16" if variant.precision == "bfloat16" else "f32",
        threads=torch.get_num_threads(),
    ).run


BUILDERS: dict[str, Builder] = {
    "packed": _packed,
    "native": _native,
    "repadded": _repadded,
    "masked": _masked,
    "hugging_face": _hugging_face,
    "hugging_face_eager": _hugging_face,
    "onnx": _onnx,
    "openvino": _openvino,
    "compiled": _hugging_face,
    "products": _products,
}
