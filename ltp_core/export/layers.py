"""The encoder's parts as nodes of an ONNX graph."""

from __future__ import annotations

import numpy as np
import torch
from onnx import TensorProto
from torch import Tensor, nn

from ltp_core.encoder.int8 import Quantized, to_integers, weight_scales
from ltp_core.encoder.model import DenseResidual, Encoder, EncoderLayer, Rotation
from ltp_core.export.graph import Graph, Name
from ltp_core.pruning.tr_bert import Policy
from ltp_core.runners.linear import ZERO

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
"""Inputs of every exported model, as transformers' tokenizers call them."""


class EncoderNodes:
    """Adds embeddings, the maps of each layer and the head of one encoder to a graph.

    All of them work on tokens of any layout, padded (`batch seq hidden`) or packed.
    """

    def __init__(self, graph: Graph, encoder: Encoder) -> None:
        self.graph = graph
        self.encoder = encoder
        self.config = encoder.config
        self.positions = encoder.encoder.positions()
        self._tables: dict[int, Name] = {}

    def position_ids(self, input_ids: Name) -> Name:
        """Position of each token of a padded batch (`Embeddings.position_ids`)."""
        add = self.graph.add
        if not self.config.family.counts_from_padding:
            width = add("Gather", add("Shape", input_ids), 1)
            return add("Expand", add("Range", 0, width, 1), add("Shape", input_ids))
        is_pad = add("Equal", input_ids, self.config.pad_id)
        real = add("Cast", add("Not", is_pad), to=7)
        counted = add("Mul", add("CumSum", real, 1), real)
        return add("Add", counted, self.config.pad_id)

    def embed(self, input_ids: Name, token_type_ids: Name, position_ids: Name) -> Name:
        """Sum of the embeddings, normalised."""
        tables, add = self.encoder.embeddings, self.graph.add
        total = add("Gather", _array(tables.word_embeddings.weight), input_ids)
        if self.config.type_vocab_size:
            kind = add("Gather", _array(tables.token_type_embeddings.weight), token_type_ids)
            total = add("Add", total, kind)
        if self.config.family.embeds_positions:
            place = add("Gather", _array(tables.position_embeddings.weight), position_ids)
            total = add("Add", total, place)
        embedded = self._norm(total, tables.LayerNorm)
        if isinstance(tables.project, nn.Linear):
            embedded = self._linear(embedded, tables.project.weight, tables.project.bias)
        return embedded

    def bias(self, layer_index: int, query: Name, key: Name) -> Name | None:
        """What a layer adds to its logits (`PositionBias`), `head … query key`; None: nothing.

        Args:
            layer_index: Zero-based.
            query: Original positions of the queries, `… query`.
            key: Those of the keys, `… key`.
        """
        bias, add = self.positions[layer_index].bias, self.graph.add
        if bias is None:
            return None
        if id(bias) not in self._tables:
            self._tables[id(bias)] = self.graph.constant(_array(bias.by_distance))
        distance = add("Sub", add("Unsqueeze", key, [-2]), add("Unsqueeze", query, [-1]))
        cell = add("Add", add("Clip", distance, -bias.reach, bias.reach), bias.reach)
        return add("Gather", self._tables[id(bias)], cell, axis=1)

    def normed(self, layer: EncoderLayer, hidden: Name) -> Name:
        """What a layer's projection reads of its input."""
        return self._norm(hidden, layer.attention.norm)

    def projection(self, index: int, normed: Name, position: Name) -> Name:
        """Query (scaled), key and value side by side, of tokens at these original positions."""
        return self._projected(index, normed, position, slice(None))

    def query(self, index: int, normed: Name, position: Name) -> Name:
        """The query (scaled) alone."""
        return self._projected(index, normed, position, slice(0, self.config.hidden_size))

    def key_value(self, index: int, normed: Name, position: Name) -> Name:
        """Key and value side by side."""
        return self._projected(index, normed, position, slice(self.config.hidden_size, None))

    def _projected(self, index: int, normed: Name, position: Name, columns: slice) -> Name:
        layer = self.encoder.layers[index]
        weight, bias = layer.scaled_projection()
        own_bias = None if bias is None else bias[columns]
        scale = _scale(layer.attention.self.reader)
        mapped = self._linear(normed, weight[columns], own_bias, scale)
        rotation = self.positions[index].rotation
        if rotation is None:
            return mapped
        return self._turned(mapped, rotation, position, columns)

    def _turned(self, mapped: Name, rotation: Rotation, position: Name, columns: slice) -> Name:
        """Queries and keys turned with their positions (`Rotation`), values as they are.

        Column c becomes `x_c cos a + x_c' sin a`: c' is its partner in the pair, and the angle is
        negative for the first of a pair, 0 for a value.
        """
        add, width = self.graph.add, self.config.hidden_size
        half = len(rotation.frequency)
        column = np.arange(3 * width)
        is_second = column % (2 * half) >= half
        partner = np.where(is_second, column - half, column + half)
        pair = column % half + np.where(is_second, half, 0)
        angle_of = np.where(column < 2 * width, pair, 2 * half)[columns]  # the last stands still
        partner = partner[columns] - column[columns][0]
        frequency = _array(rotation.frequency)
        turns = np.concatenate([-frequency, frequency, np.zeros(1, np.float32)])
        moment = add("Unsqueeze", add("Cast", position, to=TensorProto.FLOAT), [-1])
        angle = add("Mul", moment, turns)
        cos, sin = (add("Gather", add(name, angle), angle_of, axis=-1) for name in ("Cos", "Sin"))
        other = add("Gather", mapped, partner, axis=-1)
        return add("Add", add("Mul", mapped, cos), add("Mul", other, sin))

    def attend(self, layer: EncoderLayer, context: Name, residual: Name) -> Name:
        """Output projection, residual and norm (`EncoderLayer.attend`)."""
        return self._residual(layer.attention.output, context, residual)

    def feed_forward(self, layer: EncoderLayer, attended: Name) -> Name:
        """The FFN with its residual and norms (`EncoderLayer.feed_forward`)."""
        module, add = layer.intermediate, self.graph.add
        normed = self._norm(attended, module.norm)
        dense = module.dense
        mapped = self._linear(normed, dense.weight, dense.bias, _scale(dense))
        if module.is_gated:
            inner, gate = self.graph.add_many("Split", 2, mapped, axis=-1, num_outputs=2)
            return self._residual(layer.output, add("Mul", add("Gelu", inner), gate), attended)
        return self._residual(layer.output, add("Gelu", mapped), attended)

    def policy(self, policy: Policy, hidden: Name) -> Name:
        """Logit of going on, `live 1` (`Policy`)."""
        inner = self.graph.add("Gelu", self._linear(hidden, policy.inner.weight, policy.inner.bias))
        return self._linear(inner, policy.outer.weight, policy.outer.bias)

    def final_norm(self, states: Name) -> Name:
        """What the head reads of last states (`LayerStack.final_norm`)."""
        return self._norm(states, self.encoder.encoder.final_norm)

    def head(self, read: Name) -> Name:
        """Logits from what the head reads, `batch hidden`, behind the final norm."""
        encoder, add = self.encoder, self.graph.add
        has_pooler = self.config.family.pooler is not None
        dense = encoder.pooler.dense if has_pooler else encoder.classifier.dense
        out = encoder.classifier if has_pooler else encoder.classifier.out_proj
        activation = self.config.family.head_activation.capitalize()
        inner = add(activation, self._linear(read, dense.weight, dense.bias))  # type: ignore[union-attr,arg-type]
        if has_pooler:
            inner = self._norm(inner, encoder.pooler.norm)
        return self._linear(inner, out.weight, out.bias)  # type: ignore[union-attr,arg-type]

    def mean_of(self, states: Name, is_read: Name) -> Name:
        """Mean over the tokens that are read: `batch seq hidden` and a mask of `batch seq`."""
        add = self.graph.add
        weight = add("Unsqueeze", add("Cast", is_read, to=TensorProto.FLOAT), [2])
        total = add("ReduceSum", add("Mul", self.final_norm(states), weight), [1], keepdims=0)
        return add("Div", total, add("ReduceSum", weight, [1], keepdims=0))

    def _residual(self, module: DenseResidual, inputs: Name, residual: Name) -> Name:
        dense = module.dense
        mapped = self._linear(inputs, dense.weight, dense.bias, _scale(dense))
        return self._norm(self.graph.add("Add", mapped, residual), module.LayerNorm)

    def _linear(
        self, inputs: Name, weight: Tensor, bias: Tensor | None, input_scale: float | None = None
    ) -> Name:
        """With a scale in INT8, as pairs of nodes that runtimes replace by products of whole numbers."""
        add = self.graph.add
        factor: Name | np.ndarray = _array(weight.t())
        if input_scale is not None:
            step, zero = np.float32(input_scale), np.uint8(ZERO)
            inputs = add("QuantizeLinear", inputs, np.asarray(step), np.asarray(zero))
            inputs = add("DequantizeLinear", inputs, np.asarray(step), np.asarray(zero))
            steps = weight_scales(weight.detach().float())
            integers = to_integers(weight.detach().float(), 1 / steps[:, None]).to(torch.int8)
            # Zero points are written out: ONNX Runtime moves them where it takes weights as unsigned.
            zeros = np.zeros(len(steps), dtype=np.int8)
            factor = add(
                "DequantizeLinear", integers.t().contiguous().numpy(), _array(steps), zeros, axis=1
            )
        product = add("MatMul", inputs, factor)
        return product if bias is None else add("Add", product, _array(bias))

    def _norm(self, inputs: Name, norm: nn.Module) -> Name:
        """A layer norm; nothing where the module is no norm."""
        if not isinstance(norm, nn.LayerNorm):
            return inputs
        parts = [_array(each) for each in (norm.weight, norm.bias) if each is not None]
        return self.graph.add("LayerNormalization", inputs, *parts, epsilon=norm.eps)


def _scale(module: nn.Linear) -> float | None:
    """Value of one step of a map's input, where it runs in INT8."""
    return module.input_scale if isinstance(module, Quantized) else None


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().float().cpu().contiguous().numpy()
    return array
