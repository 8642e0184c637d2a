"""ONNX Runtime sessions: of a file, or of a checkpoint without one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from jaxtyping import Float
from onnx import ModelProto, load, save_model
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.quant_utils import add_pre_process_metadata
from torch import Tensor

from ltp_core.export.layers import INPUTS
from ltp_core.runners.base import Inputs

QUIET = 3
"""Log errors only: the optimiser warns of what it leaves alone."""

EXACT_SUMS = ("session.x64quantprecision", "1")
"""On x86 without VNNI ONNX Runtime's int8 products are cut off at 16 bits, unless they are asked to be exact."""


class OnnxSession:
    """Runs padded batches in ONNX Runtime on the processor.

    Args:
        any_batch: Model for batches.
        one: Model for one sequence at a time, where that is another one.
        threads: Processor threads.
    """

    def __init__(self, any_batch: ModelProto, one: ModelProto | None, *, threads: int) -> None:
        self._any_batch = _open(any_batch, threads)
        self._one = self._any_batch if one is None else _open(one, threads)

    def run(self, inputs: Inputs) -> Float[Tensor, "batch label"]:
        """Logits of a batch."""
        (logits,) = self._session(inputs).run(["logits"], session_inputs(inputs))
        return torch.from_numpy(logits)

    def num_survived(self, inputs: Inputs) -> Tensor:
        """By how many layers each token was retained, `batch seq`; pruned models only."""
        (counts,) = self._session(inputs).run(["num_survived"], session_inputs(inputs))
        return torch.from_numpy(counts)

    def _session(self, inputs: Inputs) -> Any:
        return self._one if len(inputs.input_ids) == 1 else self._any_batch


def session_inputs(inputs: Inputs) -> dict[str, Any]:
    """A batch by the names that exported models give their inputs."""
    tensors = (inputs.input_ids, inputs.attention_mask.long(), inputs.token_type_ids)
    return {name: tensor.cpu().numpy() for name, tensor in zip(INPUTS, tensors, strict=True)}


def _open(model: ModelProto, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = QUIET
    options.add_session_config_entry(*EXACT_SUMS)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )


def quantised(model: ModelProto) -> ModelProto:
    """Weights of matrix products in int8; activations are quantised as they come."""
    add_pre_process_metadata(model)  # else it asks for a step that this graph does not need
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float32.onnx"), Path(folder, "int8.onnx")
        save_model(model, source)
        quantize_dynamic(source, target, weight_type=QuantType.QInt8)
        return load(target)
