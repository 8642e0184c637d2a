"""A layer's linear maps laid out for inference."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ltp_core.encoder.model import DenseResidual, EncoderLayer
from ltp_core.runners.engine import Engine, fastest_engine

PACKING_ROWS = 256
"""Rows of the input that MKL's packed weights are laid out for; they serve any number.

MKL picks one of two layouts by it. On two cores of a Xeon, 128 to 320 gave the layout that is the
fastest for every number of rows up to 1,000; from 384 on it gave one that takes half as long again
for 20 to 200 rows and a quarter longer for 300.
"""

STEPS = {
    torch.bfloat16: ((128, 16), (512, 32), (math.inf, 64)),
    torch.float32: ((64, 4), (256, 16), (512, 32), (math.inf, 64)),
}
"""By type, up to how many rows oneDNN's input is rounded up to a multiple of what.

In float32 a row costs more, and a new number of rows less.
"""


class LinearMap:
    """`x W^T + b`, with the weights packed beforehand where that is faster.

    In float32 on Intel's processors, MKL's packing saves a third of the time for up to 20 rows, a
    tenth to a fifth for up to 300, and nothing from about 500 on; on AMD's, oneDNN's saves a third to
    a half. In bfloat16 on processors that multiply it, oneDNN's packed weights save a third to a half.
    Packing doubles the weights' memory.

    Args:
        weight: The map.
        bias: Added to each row.
        dtype: Type to compute in; None takes the weight's.
    """

    def __init__(
        self,
        weight: Float[Tensor, "outer inner"],
        bias: Float[Tensor, " outer"],
        dtype: torch.dtype | None = None,
    ) -> None:
        dtype = dtype or weight.dtype
        self.weight = weight.detach().to(dtype).contiguous()
        self.bias = bias.detach().to(dtype)
        self.engine = fastest_engine(self.weight)
        self._packed = _pack(self.weight, self.engine)

    def rounded(self, rows: Float[Tensor, "row inner"]) -> Float[Tensor, "rounded inner"]:
        """The rows, and some more where that saves work; the contents of those are undefined."""
        return _rounded(rows) if self.engine == "onednn" else rows

    def __call__(self, rows: Float[Tensor, "row inner"]) -> Float[Tensor, "row outer"]:
        """The product for each row."""
        if self.engine == "onednn":
            return self._pointwise(rows, "none")
        if self.engine == "mkl":
            product: Tensor = torch.ops.mkl._mkl_linear.default(
                rows, self._packed, self.weight, self.bias, rows.shape[0]
            )
            return product
        return functional.linear(rows, self.weight, self.bias)

    def gelu(self, rows: Float[Tensor, "row inner"]) -> Float[Tensor, "row outer"]:
        """GELU of the product."""
        if self.engine == "onednn":
            return self._pointwise(rows, "gelu")
        return functional.gelu(self(rows))

    def add(
        self, rows: Float[Tensor, "row inner"], residual: Float[Tensor, "row outer"]
    ) -> Float[Tensor, "row outer"]:
        """The product plus something else."""
        if self.engine == "onednn":
            count = len(rows)
            summed: Tensor = torch.ops.mkldnn._linear_pointwise.binary(
                _rounded(rows), _rounded(residual), self._packed, self.bias, "add"
            )
            return summed[:count]
        return self(rows).add_(residual)

    def _pointwise(self, rows: Tensor, function: str) -> Tensor:
        product: Tensor = torch.ops.mkldnn._linear_pointwise.default(
            _rounded(rows), self._packed, self.bias, function, [], "none"
        )
        return product[: len(rows)]


def _pack(weight: Float[Tensor, "outer inner"], engine: Engine) -> Tensor | None:
    """The weights in the library's layout."""
    if engine == "plain":
        return None
    packed: Tensor = (
        torch.ops.mkl._mkl_reorder_linear_weight.default(weight, PACKING_ROWS)
        if engine == "mkl"
        else torch.ops.mkldnn._reorder_linear_weight.default(weight)
    )
    return packed


def _rounded(rows: Float[Tensor, "row inner"]) -> Float[Tensor, "rounded inner"]:
    """The rows and some more, whatever these hold: their products are never looked at.

    oneDNN generates code for every number of rows that it meets, which takes 1 to 20 ms a shape, and
    forgets the oldest of 1,024; so it meets a few numbers only. Where the storage goes on behind the
    rows, as behind rows that were cut off an earlier product, nothing is copied.
    """
    count, width = rows.shape
    step = next(step for limit, step in STEPS[rows.dtype] if count <= limit)
    wanted = -(-count // step) * step
    if wanted == count:
        return rows
    size = rows.untyped_storage().size() // rows.element_size()
    if rows.is_contiguous() and rows.storage_offset() + wanted * width <= size:
        return rows.as_strided((wanted, width), (width, 1))
    return functional.pad(rows, (0, 0, 0, wanted - count))


class ResidualMap:
    """Linear map, residual connection and layer norm (Eqs. 2 and 4)."""

    def __init__(self, module: DenseResidual, dtype: torch.dtype | None = None) -> None:
        norm, dtype = module.LayerNorm, dtype or module.dense.weight.dtype
        self._linear = LinearMap(module.dense.weight, module.dense.bias, dtype)
        self._shape, self._eps = list(norm.normalized_shape), norm.eps
        self._weight, self._bias = norm.weight.detach().to(dtype), norm.bias.detach().to(dtype)

    def __call__(
        self, rows: Float[Tensor, "row inner"], residual: Float[Tensor, "row hidden"]
    ) -> Float[Tensor, "row hidden"]:
        """`LN(W rows + b + residual)`."""
        summed = self._linear.add(rows, residual)
        return torch.layer_norm(summed, self._shape, self._weight, self._bias, self._eps)


class LayerWeights:
    """The maps of one layer; query, key and value in one, the softmax scale in the query.

    Attributes:
        num_heads: Attention heads.
        dtype: Type of weights, states and matrix products, scores and probabilities excepted.
        projection: From hidden states to query, key and value.
    """

    def __init__(self, layer: EncoderLayer, dtype: torch.dtype | None = None) -> None:
        source = layer.attention.self
        scale = 1 / math.sqrt(layer.head_size)
        parts = (source.query, source.key, source.value)
        scales = (scale, 1.0, 1.0)
        self.num_heads = layer.num_heads
        self.projection = LinearMap(
            torch.cat([p.weight * s for p, s in zip(parts, scales, strict=True)]),
            torch.cat([p.bias * s for p, s in zip(parts, scales, strict=True)]),
            dtype,
        )
        self.dtype = self.projection.weight.dtype
        self._attention_output = ResidualMap(layer.attention.output, dtype)
        dense = layer.intermediate.dense
        self._intermediate = LinearMap(dense.weight, dense.bias, dtype)
        self._output = ResidualMap(layer.output, dtype)

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

    def attend(
        self, context: Float[Tensor, "kept hidden"], residual: Float[Tensor, "kept hidden"]
    ) -> Float[Tensor, "rounded hidden"]:
        """Output projection, residual and layer norm (Eq. 2); contents of rows beyond are undefined."""
        rounded = self.projection.rounded
        return self._attention_output(rounded(context.to(self.dtype)), rounded(residual))

    def feed_forward(
        self, attended: Float[Tensor, "rounded hidden"]
    ) -> Float[Tensor, "rounded hidden"]:
        """The FFN with its residual and layer norm (Eqs. 3-4)."""
        return self._output(self._intermediate.gelu(attended), attended)

    def finish(
        self, context: Float[Tensor, "kept hidden"], residual: Float[Tensor, "kept hidden"]
    ) -> Float[Tensor, "kept hidden"]:
        """Output projection, residual, FFN: everything after attention, token by token."""
        return self.feed_forward(self.attend(context, residual))[: len(residual)]
