"""The encoder's parts as nodes of an ONNX graph."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from ltp_core.encoder.int8 import Quantized, to_integers, weight_scales
from ltp_core.encoder.model import DenseResidual, Encoder, EncoderLayer
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
        self.biases = encoder.encoder.position_biases()
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
        place = add("Gather", _array(tables.position_embeddings.weight), position_ids)
        embedded = self._norm(add("Add", total, place), tables.LayerNorm)
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
        bias, add = self.biases[layer_index], self.graph.add
        if bias is None:
            return None
        if id(bias) not in self._tables:
            self._tables[id(bias)] = self.graph.constant(_array(bias.by_distance))
        distance = add("Sub", add("Unsqueeze", key, [-2]), add("Unsqueeze", query, [-1]))
        cell = add("Add", add("Clip", distance, -bias.reach, bias.reach), bias.reach)
        return add("Gather", self._tables[id(bias)], cell, axis=1)

    def projection(self, layer: EncoderLayer, hidden: Name) -> Name:
        """Query (scaled), key and value side by side."""
        return self._linear(hidden, *fused_projection(layer), _scale(layer.attention.self.query))

    def query(self, layer: EncoderLayer, hidden: Name) -> Name:
        """The query (scaled) alone."""
        weight, bias = fused_projection(layer)
        width = self.config.hidden_size
        scale = _scale(layer.attention.self.query)
        return self._linear(hidden, weight[:width], bias[:width], scale)

    def key_value(self, layer: EncoderLayer, hidden: Name) -> Name:
        """Key and value side by side."""
        weight, bias = fused_projection(layer)
        width = self.config.hidden_size
        scale = _scale(layer.attention.self.key)
        return self._linear(hidden, weight[width:], bias[width:], scale)

    def attend(self, layer: EncoderLayer, context: Name, residual: Name) -> Name:
        """Output projection, residual and layer norm (`EncoderLayer.attend`)."""
        return self._residual(layer.attention.output, context, residual)

    def feed_forward(self, layer: EncoderLayer, attended: Name) -> Name:
        """The FFN with its residual and layer norm (`EncoderLayer.feed_forward`)."""
        dense = layer.intermediate.dense
        mapped = self._linear(attended, dense.weight, dense.bias, _scale(dense))
        inner = self.graph.add("Gelu", mapped)
        return self._residual(layer.output, inner, attended)

    def policy(self, policy: Policy, hidden: Name) -> Name:
        """Logit of going on, `live 1` (`Policy`)."""
        inner = self.graph.add("Gelu", self._linear(hidden, policy.inner.weight, policy.inner.bias))
        return self._linear(inner, policy.outer.weight, policy.outer.bias)

    def head(self, first: Name) -> Name:
        """Logits from the first token's final state, `batch hidden`."""
        encoder, add = self.encoder, self.graph.add
        has_pooler = self.config.family.has_pooler
        dense = encoder.pooler.dense if has_pooler else encoder.classifier.dense
        out = encoder.classifier if has_pooler else encoder.classifier.out_proj
        activation = self.config.family.head_activation.capitalize()
        inner = add(activation, self._linear(first, dense.weight, dense.bias))  # type: ignore[union-attr,arg-type]
        return self._linear(inner, out.weight, out.bias)  # type: ignore[union-attr,arg-type]

    def _residual(self, module: DenseResidual, inputs: Name, residual: Name) -> Name:
        dense = module.dense
        mapped = self._linear(inputs, dense.weight, dense.bias, _scale(dense))
        return self._norm(self.graph.add("Add", mapped, residual), module.LayerNorm)

    def _linear(
        self, inputs: Name, weight: Tensor, bias: Tensor, input_scale: float | None = None
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
            factor = add(
                "DequantizeLinear", integers.t().contiguous().numpy(), _array(steps), axis=1
            )
        return add("Add", add("MatMul", inputs, factor), _array(bias))

    def _norm(self, inputs: Name, norm: nn.LayerNorm) -> Name:
        weight, bias = _array(norm.weight), _array(norm.bias)
        return self.graph.add("LayerNormalization", inputs, weight, bias, epsilon=norm.eps)


def _scale(module: nn.Linear) -> float | None:
    """Value of one step of a map's input, where it runs in INT8."""
    return module.input_scale if isinstance(module, Quantized) else None


def fused_projection(layer: EncoderLayer) -> tuple[Tensor, Tensor]:
    """Weight and bias of query (with the softmax scale), key and value in one map."""
    source = layer.attention.self
    scale = 1 / math.sqrt(layer.head_size)
    weight = torch.cat([source.query.weight * scale, source.key.weight, source.value.weight])
    bias = torch.cat([source.query.bias * scale, source.key.bias, source.value.bias])
    return weight.detach(), bias.detach()


def _array(tensor: Tensor) -> np.ndarray:
    array: np.ndarray = tensor.detach().float().cpu().contiguous().numpy()
    return array
