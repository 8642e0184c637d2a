"""ONNX Runtime as a peer: the unpruned Hugging Face model, exported, in float32 or int8.

Its packages are optional: nothing here is imported before somebody asks for this contender.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ltp_core.records import UserError
from ltp_core.runners.base import Inputs


class _Logits(nn.Module):
    """Positional inputs and a plain output, as an exporter wants them."""

    def __init__(self, model: nn.Module, names: tuple[str, ...]) -> None:
        super().__init__()
        self.model, self.names = model, names

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.model(**dict(zip(self.names, inputs, strict=True))).logits
        return logits


class OnnxPass:
    """Runs padded batches through ONNX Runtime on the processor.

    Args:
        model: A Hugging Face model for sequence classification, in float32.
        has_token_types: It takes token types.
        is_quantised: Weights of matrix products in int8, activations quantised as they come.

    Raises:
        UserError: The model is not on the processor or not in float32.
    """

    def __init__(self, model: nn.Module, *, has_token_types: bool, is_quantised: bool) -> None:
        weight = next(model.parameters())
        if weight.device.type != "cpu" or weight.dtype != torch.float32:
            raise UserError("ONNX Runtime is measured on the CPU and from float32 weights only.")
        self._names = ("input_ids", "attention_mask", *["token_type_ids"] * has_token_types)
        with tempfile.TemporaryDirectory() as folder:
            path = _export(_Logits(model, self._names).eval(), self._names, Path(folder))
            if is_quantised:
                path = _quantise(path)
            self._session = _session(path)

    def __call__(self, inputs: Inputs) -> Tensor:
        """Logits of a batch."""
        arrays = {
            "input_ids": inputs.input_ids.numpy(),
            "attention_mask": inputs.attention_mask.long().numpy(),
            "token_type_ids": inputs.token_type_ids.numpy(),
        }
        (logits,) = self._session.run(None, {name: arrays[name] for name in self._names})
        return torch.from_numpy(logits)


def _export(model: nn.Module, names: tuple[str, ...], folder: Path) -> Path:
    path = folder / "model.onnx"
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("seq")}
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        torch.onnx.export(
            model,
            # One tensor for two inputs would make them one input of the graph.
            tuple(torch.ones(2, 8, dtype=torch.long) for _ in names),
            path,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes=((axes,) * len(names),),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    return path


def _quantise(path: Path) -> Path:
    quantization = importlib.import_module("onnxruntime.quantization")
    target = path.with_name("int8.onnx")
    quantization.quantize_dynamic(path, target, weight_type=quantization.QuantType.QInt8)
    return target


def _session(path: Path) -> Any:
    """A session on as many threads as PyTorch has."""
    runtime = importlib.import_module("onnxruntime")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
