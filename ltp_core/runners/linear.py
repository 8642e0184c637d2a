"""A layer's linear maps laid out for inference."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from jaxtyping import Float, Int, Num
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.encoder.int8 import (
    HIGHEST,
    LOWEST,
    Quantized,
    quantized_product,
    to_integers,
    weight_scales,
)
from ltp_core.encoder.model import DenseResidual, EncoderLayer, Intermediate, Rotation
from ltp_core.runners.engine import Engine, fastest_engine, has_onednn_int8

PACKING_ROWS = 256
"""Rows of the input that MKL's packed weights are laid out for; they serve any number.

MKL picks one of two layouts by it. On two cores of a Xeon, 128 to 320 gave the layout that is the
fastest for every number of rows up to 1,000; from 384 on it gave one that takes half as long again
for 20 to 200 rows and a quarter longer for 300.
"""

STEPS = {
    torch.bfloat16: ((128, 16), (512, 32), (math.inf, 64)),
    torch.float32: ((64, 4), (256, 16), (512, 32), (math.inf, 64)),
    torch.uint8: ((64, 4), (256, 16), (512, 32), (math.inf, 64)),
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
        bias: Added to each row; None: nothing.
        dtype: Type to compute in; None takes the weight's.
    """

    def __init__(
        self,
        weight: Float[Tensor, "outer inner"],
        bias: Float[Tensor, " outer"] | None,
        dtype: torch.dtype | None = None,
    ) -> None:
        dtype = dtype or weight.dtype
        bias = weight.new_zeros(len(weight)) if bias is None else bias
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

    def rows(self, chosen: slice) -> LinearMap:
        """The map to some of the outputs."""
        return LinearMap(self.weight[chosen], self.bias[chosen])

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


def _rounded(rows: Num[Tensor, "row inner"]) -> Num[Tensor, "rounded inner"]:
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


ZERO = 128
"""oneDNN's products take inputs from 0 to 255 only: what stands for 0."""


class Int8Map:
    """`s_x s_w (q_x q_w^T) + b` (`encoder.int8`), in whole numbers where oneDNN has them.

    Args:
        weight: The map in floating point.
        bias: Added to each row; None: nothing.
        input_scale: Value of one step of the input.
        output_scale: Value of one step of what reads the GELU; that is then given as bytes.
        dtype: Type of inputs and outputs; None takes the weight's.
    """

    def __init__(
        self,
        weight: Float[Tensor, "outer inner"],
        bias: Float[Tensor, " outer"] | None,
        input_scale: float,
        output_scale: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        bias = weight.new_zeros(len(weight)) if bias is None else bias
        self.weight, self.bias = weight.detach(), bias.detach().float()
        self.dtype = dtype or weight.dtype
        self._scales = (input_scale, output_scale)
        self._is_whole = self.weight.device.type == "cpu" and has_onednn_int8()
        if self._is_whole:
            self._steps = weight_scales(self.weight.float())
            self._zeros = torch.zeros(len(self._steps), dtype=torch.int32)
            integers = to_integers(self.weight.float(), 1 / self._steps[:, None]).to(torch.int8)
            self._packed = torch.ops.onednn.qlinear_prepack(integers, None)

    def rounded(self, rows: Tensor) -> Tensor:
        """The rows, and some more where that saves work; the contents of those are undefined."""
        return _rounded(rows) if self._is_whole else rows

    def __call__(self, rows: Num[Tensor, "row inner"]) -> Float[Tensor, "row outer"]:
        """The product for each row; rows of bytes are those of another map's `gelu`."""
        if not self._is_whole:
            scale = self._scales[0]
            return quantized_product(rows, self.weight, self.bias, scale).to(self.dtype)
        return self._whole(rows, "none")

    def gelu(self, rows: Num[Tensor, "row inner"]) -> Tensor:
        """GELU of the product, as bytes where another map reads it."""
        if not self._is_whole:
            return functional.gelu(self(rows))
        return self._whole(rows, "gelu")

    def add(
        self, rows: Num[Tensor, "row inner"], residual: Float[Tensor, "row outer"]
    ) -> Float[Tensor, "row outer"]:
        """The product plus something else."""
        return self(rows).add_(residual)

    def rows(self, chosen: slice) -> Int8Map:
        """The map to some of the outputs."""
        return Int8Map(self.weight[chosen], self.bias[chosen], self._scales[0], dtype=self.dtype)

    def _whole(self, rows: Tensor, function: str) -> Tensor:
        scale, output_scale = self._scales
        # The GELU of a map that another one reads leaves as that one's whole numbers.
        is_bytes = function == "gelu" and output_scale is not None
        step, zero, dtype = (
            (output_scale, ZERO, torch.uint8) if is_bytes else (1.0, 0, torch.float32)
        )
        product: Tensor = torch.ops.onednn.qlinear_pointwise.default(
            self._bytes(_rounded(rows)),
            scale,
            ZERO,
            self._packed,
            self._steps,
            self._zeros,
            self.bias,
            step,
            zero,
            dtype,
            function,
            [],
            "none" if function == "gelu" else "",
        )
        return product[: len(rows)] if is_bytes else product[: len(rows)].to(self.dtype)

    def _bytes(self, rows: Tensor) -> Tensor:
        if rows.dtype == torch.uint8:
            return rows
        scaled = (rows.float() * (1 / self._scales[0])).clamp_(LOWEST, HIGHEST)
        return scaled.round_().add_(ZERO).to(torch.uint8)


def _map_of(
    module: nn.Linear, dtype: torch.dtype | None, output_scale: float | None = None
) -> LinearMap | Int8Map:
    """A module's map, in INT8 where the encoder has it so."""
    weight, bias = module.weight, module.bias
    if isinstance(module, Quantized):
        return Int8Map(weight, bias, module.input_scale, output_scale, dtype)
    return LinearMap(weight, bias, dtype)


class Norm:
    """A layer norm, or nothing where the module is no norm."""

    def __init__(self, module: nn.Module, dtype: torch.dtype | None = None) -> None:
        self._is_there = isinstance(module, nn.LayerNorm)
        if isinstance(module, nn.LayerNorm):
            dtype = dtype or module.weight.dtype
            self._shape, self._eps = list(module.normalized_shape), module.eps
            self._weight = module.weight.detach().to(dtype)
            self._bias = None if module.bias is None else module.bias.detach().to(dtype)

    def __call__(self, rows: Float[Tensor, "row hidden"]) -> Float[Tensor, "row hidden"]:
        """The rows normalised."""
        if not self._is_there:
            return rows
        return torch.layer_norm(rows, self._shape, self._weight, self._bias, self._eps)


class ResidualMap:
    """Linear map, residual connection and layer norm (Eqs. 2 and 4)."""

    def __init__(self, module: DenseResidual, dtype: torch.dtype | None = None) -> None:
        self._linear = _map_of(module.dense, dtype)
        self._norm = Norm(module.LayerNorm, dtype)

    def __call__(
        self, rows: Num[Tensor, "row inner"], residual: Float[Tensor, "row hidden"]
    ) -> Float[Tensor, "row hidden"]:
        """`LN(W rows + b + residual)`."""
        return self._norm(self._linear.add(rows, residual))


class InnerMap:
    """The FFN up to its inner states: layer norm, linear map, GELU, and the gate where there is one."""

    def __init__(
        self,
        module: Intermediate,
        output_scale: float | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        self._norm = Norm(module.norm, dtype)
        self._is_gated = module.is_gated
        # A product with a gate is no GELU, which alone can leave as whole numbers.
        self._linear = _map_of(module.dense, dtype, None if module.is_gated else output_scale)

    def __call__(self, rows: Float[Tensor, "row hidden"]) -> Num[Tensor, "row inner"]:
        """`gelu(W LN(rows) + b)`; gated, one half of the map is the factor of the other's GELU."""
        normed = self._norm(rows)
        if not self._is_gated:
            return self._linear.gelu(normed)
        inner, gate = self._linear(normed).chunk(2, dim=-1)
        return functional.gelu(inner).mul_(gate)


class LayerWeights:
    """The maps of one layer; query, key and value in one, the softmax scale in the query.

    Attributes:
        num_heads: Attention heads.
        dtype: Type of weights, states and matrix products, scores and probabilities excepted.
        norm: Of the states that the projection reads.
        projection: From normed states to query, key and value.
        rotation: By which queries and keys turn with their positions; None: they stay.
    """

    def __init__(
        self, layer: EncoderLayer, rotation: Rotation | None, dtype: torch.dtype | None = None
    ) -> None:
        self.num_heads = layer.num_heads
        reader = layer.attention.self.reader
        weight, bias = layer.scaled_projection()
        self.norm = Norm(layer.attention.norm, dtype)
        self.dtype = dtype or weight.dtype
        # Query, key and value read the same input, so their inputs' scales are one.
        self.projection = (
            Int8Map(weight, bias, reader.input_scale, dtype=dtype)
            if isinstance(reader, Quantized)
            else LinearMap(weight, bias, dtype)
        )
        self.rotation = rotation
        self._attention_output = ResidualMap(layer.attention.output, dtype)
        read_by = layer.output.dense
        output_scale = read_by.input_scale if isinstance(read_by, Quantized) else None
        self._intermediate = InnerMap(layer.intermediate, output_scale, dtype)
        self._output = ResidualMap(layer.output, dtype)

    def project(
        self, hidden: Float[Tensor, "packed hidden"], position: Int[Tensor, " packed"]
    ) -> Float[Tensor, "packed three_hidden"]:
        """Query (scaled), key and value of tokens at these original positions."""
        projected = self.projection(self.norm(hidden))
        return self._turned(projected, 2 * self._width, position)

    def project_first(
        self,
        first: Int[Tensor, " sequence"],
        hidden: Float[Tensor, "packed hidden"],
        position: Int[Tensor, " packed"],
    ) -> tuple[Float[Tensor, "sequence hidden"], Float[Tensor, "packed two_hidden"]]:
        """Query (scaled) of some tokens, by their rows, and key and value of all."""
        normed, width = self.norm(hidden), self._width
        query = self._query(normed.index_select(0, first))
        return (
            self._turned(query, width, position.index_select(0, first)),
            self._turned(self._key_value(normed), width, position),
        )

    def _turned(
        self,
        projected: Float[Tensor, "row parts"],
        width: int,
        position: Int[Tensor, " row"],
    ) -> Float[Tensor, "row parts"]:
        """The first `width` columns, which are queries and keys, turned in place."""
        if self.rotation is not None:
            projected[:, :width] = self.rotation(projected[:, :width], position)
        return projected

    @cached_property
    def _query(self) -> LinearMap | Int8Map:
        """The query alone, for a layer in which only some rows ask."""
        return self.projection.rows(slice(0, self._width))

    @cached_property
    def _key_value(self) -> LinearMap | Int8Map:
        """Key and value."""
        return self.projection.rows(slice(self._width, None))

    @property
    def _width(self) -> int:
        return self.projection.weight.shape[1]

    def attend(
        self, context: Float[Tensor, "kept hidden"], residual: Float[Tensor, "kept hidden"]
    ) -> Float[Tensor, "rounded hidden"]:
        """Output projection, residual, norm (Eq. 2); contents of rows beyond are undefined."""
        rounded = self.projection.rounded
        return self._attention_output(rounded(context.to(self.dtype)), rounded(residual))

    def feed_forward(
        self, attended: Float[Tensor, "rounded hidden"]
    ) -> Float[Tensor, "rounded hidden"]:
        """The FFN with its residual and norms (Eqs. 3-4)."""
        return self._output(self._intermediate(attended), attended)

    def finish(
        self, context: Float[Tensor, "kept hidden"], residual: Float[Tensor, "kept hidden"]
    ) -> Float[Tensor, "kept hidden"]:
        """Output projection, residual, FFN: everything after attention, token by token."""
        return self.feed_forward(self.attend(context, residual))[: len(residual)]
