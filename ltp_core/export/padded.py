"""The unpruned encoder as an ONNX graph on padded batches: the peer to measure against."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, TensorProto

from ltp_core.encoder.model import Encoder
from ltp_core.export.graph import Axes, Graph, Name
from ltp_core.export.layers import INPUTS, EncoderNodes


def padded_model(encoder: Encoder, properties: dict[str, str]) -> ModelProto:
    """Nothing pruned, nothing packed.

    Inputs are `layers.INPUTS`, int64 `batch seq`; the output is `logits`, float32 `batch label`.

    Args:
        encoder: Whose weights.
        properties: What readers of the file should know.
    """
    graph = Graph()
    axes: Axes = ["batch", "seq"]
    ids, mask, types = (graph.input(name, axes) for name in INPUTS)
    nodes, add = EncoderNodes(graph, encoder), graph.add
    hidden = nodes.embed(ids, types, nodes.position_ids(ids))
    is_real = add("Unsqueeze", add("Cast", mask, to=TensorProto.BOOL), [1, 2])
    blank = add("Where", is_real, 0.0, -np.inf)
    position = add("Range", 0, add("Gather", add("Shape", ids), 1), 1)
    for index, layer in enumerate(encoder.layers):
        query, key, value = _split(nodes, index, nodes.normed(layer, hidden), position)
        logits = add("Add", add("MatMul", query, key), blank)
        if (bias := nodes.bias(index, position, position)) is not None:
            logits = add("Add", logits, bias)
        probs = add("Softmax", logits, axis=-1)
        context = add("Transpose", add("MatMul", probs, value), perm=[0, 2, 1, 3])
        hidden = nodes.feed_forward(
            layer, nodes.attend(layer, add("Reshape", context, [0, 0, -1]), hidden)
        )
    if encoder.config.pooling == "mean":
        read = nodes.mean_of(hidden, add("Cast", mask, to=TensorProto.BOOL))
    else:
        read = nodes.final_norm(add("Gather", hidden, 0, axis=1))
    logits = nodes.head(read)
    graph.output(logits, "logits", ["batch", encoder.config.num_labels], TensorProto.FLOAT)
    return graph.model(properties)


def _split(nodes: EncoderNodes, index: int, normed: Name, position: Name) -> list[Name]:
    """Query and value as `batch head seq head_size`, the key as `batch head head_size seq`."""
    add, config = nodes.graph.add, nodes.config
    projected = nodes.projection(index, normed, position)
    parts = nodes.graph.add_many("Split", 3, projected, axis=-1, num_outputs=3)
    shape = [0, 0, config.num_heads, config.head_size]
    orders = ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
    return [
        add("Transpose", add("Reshape", part, shape), perm=order)
        for part, order in zip(parts, orders, strict=True)
    ]
