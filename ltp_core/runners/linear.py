"""A layer's linear maps laid out for inference."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ltp_core.encoder.model import DenseResidual, EncoderLayer

PACKING_ROWS = 256
"""Rows of the input that the packed weights are laid out for; they serve any number.

MKL picks one of two layouts by it. On two cores of a Xeon, 128 to 320 gave the layout that is the
fastest for every number of rows up to 1,000; from 384 on it gave one that takes half as long again
for 20 to 200 rows and a quarter longer for 300.
"""


class LinearMap:
    """`x W^T + b`, with the weights packed beforehand where that is faster.

    In float32 on processors with Intel's MKL, packing saves a third of the time for up to 20 rows, a
    tenth to a fifth for up to 300, and nothing from about 500 on. It doubles the weights' memory.
    """

    def __init__(self, weight: Float[Tensor, "outer inner"], bias: Float[Tensor, " outer"]) -> None:
        self.weight = weight.detach().contiguous()
        self.bias = bias.detach()
        self._packed = _pack(self.weight)

    def __call__(self, rows: Float[Tensor, "row inner"]) -> Float[Tensor, "row outer"]:
        """The product for each row."""
        if self._packed is None:
            return functional.linear(rows, self.weight, self.bias)
        product: Tensor = torch.ops.mkl._mkl_linear.default(
            rows, self._packed, self.weight, self.bias, rows.shape[0]
        )
        return product


def _pack(weight: Float[Tensor, "outer inner"]) -> Tensor | None:
    """The weights in MKL's own layout; None where PyTorch does not offer it.

    The operator is what `torch.compile` uses for frozen weights, and no public interface.
    """
    is_plain = weight.device.type == "cpu" and weight.dtype == torch.float32
    if not (is_plain and _has_packing()):
        return None
    packed: Tensor = torch.ops.mkl._mkl_reorder_linear_weight.default(weight, PACKING_ROWS)
    return packed


def _has_packing() -> bool:
    has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return has_mkl and hasattr(torch.ops.mkl, "_mkl_linear")


class ResidualMap:
    """Linear map, residual connection and layer norm (Eqs. 2 and 4)."""

    def __init__(self, module: DenseResidual) -> None:
        norm = module.LayerNorm
        self._linear = LinearMap(module.dense.weight, module.dense.bias)
        self._shape = list(norm.normalized_shape)
        self._weight, self._bias, self._eps = norm.weight.detach(), norm.bias.detach(), norm.eps

    def __call__(
        self, rows: Float[Tensor, "row inner"], residual: Float[Tensor, "row hidden"]
    ) -> Float[Tensor, "row hidden"]:
        """`LN(W rows + b + residual)`."""
        summed = self._linear(rows).add_(residual)
        return torch.layer_norm(summed, self._shape, self._weight, self._bias, self._eps)


class LayerWeights:
    """The maps of one layer; query, key and value in one, the softmax scale in the query.

    Attributes:
        num_heads: Attention heads.
        projection: From hidden states to query, key and value.
    """

    def __init__(self, layer: EncoderLayer) -> None:
        source = layer.attention.self
        scale = 1 / math.sqrt(layer.head_size)
        parts = (source.query, source.key, source.value)
        scales = (scale, 1.0, 1.0)
        self.num_heads = layer.num_heads
        self.projection = LinearMap(
            torch.cat([p.weight * s for p, s in zip(parts, scales, strict=True)]),
            torch.cat([p.bias * s for p, s in zip(parts, scales, strict=True)]),
        )
        self._attention_output = ResidualMap(layer.attention.output)
        self._intermediate = LinearMap(
            layer.intermediate.dense.weight, layer.intermediate.dense.bias
        )
        self._output = ResidualMap(layer.output)

    @cached_property
    def query(self) -> LinearMap:
        """The query alone, for a layer in which only some rows ask."""
        return self._rows(slice(0, self._width))

    @cached_property
    def key_value(self) -> LinearMap:
        """Key and value."""
        return self._rows(slice(self._width, None))

    @property
    def _width(self) -> int:
        return self.projection.weight.shape[1]

    def _rows(self, rows: slice) -> LinearMap:
        return LinearMap(self.projection.weight[rows], self.projection.bias[rows])

    def finish(
        self, context: Float[Tensor, "kept hidden"], residual: Float[Tensor, "kept hidden"]
    ) -> Float[Tensor, "kept hidden"]:
        """Output projection, residual, FFN: everything after attention, token by token."""
        attended = self._attention_output(context, residual)
        return self._output(functional.gelu(self._intermediate(attended)), attended)
