"""Checkpoints for other programs: ONNX with the pruning inside, or Hugging Face's layout without.

`onnx` and `onnxruntime` are imported when they are needed only.
"""

from __future__ import annotations

import copy
import dataclasses
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from ltp_core.encoder.model import Encoder
from ltp_core.encoder.saving import save_encoder
from ltp_core.encoder.tokenizer import separator_id
from ltp_core.files import atomic_write
from ltp_core.pruning.base import PruningMethod, ThresholdMethod
from ltp_core.pruning.tr_bert import TokenReduction
from ltp_core.records import UserError

if TYPE_CHECKING:
    from onnx import ModelProto
    from transformers import PreTrainedTokenizerFast

    from ltp_core.checkpoint import PrunedModel
    from ltp_core.export.session import OnnxSession

MAX_BYTES = 2 * 2**30
"""What one ONNX file can hold."""


def export_onnx(
    model: PrunedModel,
    path: Path,
    *,
    pruned: bool = True,
    int8: bool = False,
    is_single: bool = False,
    finishes_first: bool = True,
) -> None:
    """Writes a checkpoint as one ONNX file, from token ids to logits.

    Args:
        model: Loaded checkpoint.
        path: File to write.
        pruned: With its thresholds, tokens really removed; else the same weights, unpruned.
        int8: Weights of matrix products in int8. On x86 without VNNI ONNX Runtime computes them right
            with the session option `session.x64quantprecision = 1` only.
        is_single: Pruned, for one sequence at a time: fewer operations.
        finishes_first: Pruned: the last layer finishes the first token only.

    Raises:
        UserError: The method cannot be exported, a package is missing, or the model is too large.
    """
    proto = onnx_model(
        model, pruned=pruned, int8=int8, is_single=is_single, finishes_first=finishes_first
    )
    atomic_write(path, proto.SerializeToString())


def onnx_model(
    model: PrunedModel,
    *,
    pruned: bool,
    int8: bool = False,
    is_single: bool = False,
    finishes_first: bool = True,
) -> ModelProto:
    """The ONNX model that `export_onnx` writes; arguments and errors as there."""
    _require("onnx")
    from ltp_core.export.padded import padded_model
    from ltp_core.export.removal import pruned_model

    if int8 and model.input_scales:
        raise UserError(f"{model.name} was trained in INT8 and is exported so: leave --int8 out.")
    properties = _properties(model, pruned=pruned)
    _check_size(model)
    if pruned:
        _check_method(model)
        proto = pruned_model(
            model.encoder,
            model.method,
            properties,
            separator_id=separator_id(model.tokenizer),
            is_single=is_single,
            finishes_first=finishes_first,
        )
    else:
        proto = padded_model(running_encoder(model), properties)
    if not int8:
        return proto
    _require("onnxruntime")
    from ltp_core.export.session import quantised

    return quantised(proto)


def onnx_session(model: PrunedModel, *, pruned: bool, int8: bool, threads: int) -> OnnxSession:
    """A checkpoint in ONNX Runtime on the processor, for measuring and checking.

    Args:
        model: Loaded checkpoint.
        pruned: With tokens really removed; else the same weights, unpruned, on padded batches.
        int8: Weights of matrix products in int8.
        threads: Processor threads.

    Raises:
        UserError: As `export_onnx`.
    """
    any_batch = onnx_model(model, pruned=pruned, int8=int8)
    one = onnx_model(model, pruned=True, int8=int8, is_single=True) if pruned else None
    _require("onnxruntime")
    from ltp_core.export.session import OnnxSession

    return OnnxSession(any_batch, one, threads=threads)


def export_hugging_face(model: PrunedModel, folder: Path) -> None:
    """Writes encoder, head and tokenizer for transformers' Auto classes; it runs unpruned there.

    How a checkpoint answers questions is in `task_specific_params` of `config.json`, as
    `doc_stride` and `null_threshold` (null: every question is answered); transformers' own
    question answering does not read the threshold.

    Raises:
        UserError: The checkpoint runs in INT8, which such a folder cannot say.
    """
    if model.input_scales:
        raise UserError(
            f"{model.name} runs in INT8, which transformers would not: take --format onnx or folder."
        )
    save_encoder(
        running_encoder(model),
        folder,
        label_names=model.label_names,
        task_specific_params=_question_params(model),
        is_multi_label=model.is_multi_label,
    )
    hugging_face_tokenizer(model, model.encoder.config.max_length).save_pretrained(folder)


def hugging_face_tokenizer(model: PrunedModel, max_length: int) -> PreTrainedTokenizerFast:
    """The checkpoint's tokenizer as transformers' own, which cuts at `max_length` tokens if asked to."""
    from transformers import PreTrainedTokenizerFast

    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=model.tokenizer,
        model_max_length=max_length,
        model_input_names=input_names(model),
        **_special_tokens(model),
    )


def _question_params(model: PrunedModel) -> dict[str, Any] | None:
    if model.questions is None:
        return None
    settings = model.questions.to_dict()
    return {
        "question-answering": {
            "doc_stride": settings["stride"],
            "null_threshold": settings["null_threshold"],
        }
    }


def running_encoder(model: PrunedModel) -> Encoder:
    """The encoder, without the layers that the method leaves out: nobody trained those along."""
    runs = [i for i in range(model.method.num_layers) if model.method.runs_layer(i)]
    if len(runs) == model.method.num_layers:
        return model.encoder
    encoder = copy.deepcopy(model.encoder)
    encoder.config = dataclasses.replace(encoder.config, num_layers=len(runs))
    encoder.encoder.layer = nn.ModuleList(encoder.encoder.layer[i] for i in runs)
    return encoder


def _special_tokens(model: PrunedModel) -> dict[str, str]:
    """The family's special tokens that the tokenizer has."""
    known = model.encoder.config.family.special_tokens
    has = model.tokenizer.token_to_id
    return {key: token for key, token in known.items() if has(token) is not None}


def input_names(model: PrunedModel) -> list[str]:
    """Inputs that the model takes in transformers."""
    has_types = model.encoder.config.type_vocab_size > 1
    return ["input_ids", *["token_type_ids"] * has_types, "attention_mask"]


def _properties(model: PrunedModel, *, pruned: bool) -> dict[str, str]:
    """What a reader of the file should know, as text."""
    method: PruningMethod = model.method
    thresholds = [method.threshold(i) for i in range(method.num_layers)]
    values: dict[str, Any] = {
        "checkpoint": model.name,
        "task": model.task,
        "labels": list(model.label_names),
        "max_length": model.max_length,
        "method": method.name if pruned else "unpruned",
        "thresholds": thresholds if pruned else None,
    }
    return {key: json.dumps(value) for key, value in values.items()}


def _check_method(model: PrunedModel) -> None:
    if model.questions is not None:
        raise UserError(
            f"{model.name} answers questions, whose head cannot be exported to ONNX yet: take "
            "--format hf."
        )
    method = model.method
    if method.prunes and not isinstance(method, ThresholdMethod | TokenReduction):
        raise UserError(
            f"{model.name} prunes by {method.name}, which has no thresholds: only methods with "
            "thresholds or policies go into an ONNX file. Export it unpruned, or with --format hf."
        )
    if not method.config.protect_first:
        raise UserError(
            f"{model.name} may prune the first token, which the head reads: that does not go into an "
            "ONNX file."
        )


def _check_size(model: PrunedModel) -> None:
    size = 4 * sum(parameter.numel() for parameter in model.encoder.parameters())
    if size >= MAX_BYTES:
        raise UserError(
            f"{model.name} has {size / 2**30:.1f} GiB of weights; one ONNX file holds 2 GiB."
        )


def _require(package: str) -> None:
    try:
        importlib.import_module(package)
    except ImportError as error:
        raise UserError(f"ONNX needs the package {package}: pip install {package}.") from error
