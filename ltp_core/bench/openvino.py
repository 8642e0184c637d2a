"""An exported checkpoint in OpenVINO, which reads the ONNX file unchanged; an optional peer."""

from __future__ import annotations

import importlib
from typing import Any, Literal

import torch
from jaxtyping import Float
from onnx import ModelProto
from torch import Tensor

from ltp_core.checkpoint import PrunedModel
from ltp_core.export import onnx_model
from ltp_core.export.session import session_inputs
from ltp_core.runners import Inputs

Precision = Literal["f32", "bf16"]


class OpenVinoSession:
    """Runs padded batches in OpenVINO on the processor.

    Args:
        model: Loaded checkpoint.
        pruned: With tokens really removed; else the same weights, unpruned, on padded batches.
        precision: Type that the products are computed in, but for INT8 maps; OpenVINO would take
            bfloat16 unasked.
        threads: Processor threads.

    Raises:
        UserError: The method cannot be exported.
    """

    def __init__(
        self, model: PrunedModel, *, pruned: bool, precision: Precision, threads: int
    ) -> None:
        options = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads}
        self._any_batch = _compiled(onnx_model(model, pruned=pruned), options)
        self._one = self._any_batch
        if pruned:  # a file of its own serves one sequence at a time with fewer operations
            single = onnx_model(model, pruned=True, is_single=True)
            self._one = _compiled(single, options)

    def run(self, inputs: Inputs) -> Float[Tensor, "batch label"]:
        """Logits of a batch."""
        session = self._one if len(inputs.input_ids) == 1 else self._any_batch
        return torch.from_numpy(session(session_inputs(inputs))["logits"].copy())


def _compiled(model: ModelProto, options: dict[str, Any]) -> Any:
    core = importlib.import_module("openvino").Core()
    return core.compile_model(
        core.read_model(model.SerializeToString()),
        "CPU",
        {**options, "PERFORMANCE_HINT": "LATENCY"},
    )
