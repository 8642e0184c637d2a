"""A small builder of ONNX graphs: a call adds a node and gives the name of its value."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, ValueInfoProto, checker, helper, numpy_helper

OPSET = 20
"""The first version with Gelu."""

IR_VERSION = 10
"""Old enough for runtimes from 2024 on."""

SMALL = 16
"""Constants with fewer numbers are stored once each."""

Name = str
"""What a value of the graph is called."""

Axes = list[str | int]
"""Sizes of a value; a name stands for a size that each run decides."""


class Graph:
    """Nodes and constants in the order in which they were added."""

    def __init__(self) -> None:
        self._nodes: list[NodeProto] = []
        self._constants: dict[Any, TensorProto] = {}
        self._numbers = itertools.count()
        self._inputs: list[ValueInfoProto] = []
        self._outputs: list[ValueInfoProto] = []

    def input(self, name: Name, axes: Axes) -> Name:
        """Declares an input of type int64."""
        self._inputs.append(helper.make_tensor_value_info(name, TensorProto.INT64, axes))
        return name

    def output(self, value: Name, name: Name, axes: Axes, kind: int) -> None:
        """Declares a value as an output of an ONNX type."""
        self._nodes.append(helper.make_node("Identity", [value], [name], name=name))
        self._outputs.append(helper.make_tensor_value_info(name, kind, axes))

    def constant(self, value: Any) -> Name:
        """A constant; Python numbers become int64 or float32."""
        array = np.asarray(value, order="C")
        if not isinstance(value, np.ndarray):
            array = array.astype(np.float32 if array.dtype.kind == "f" else np.int64)
        name = f"constant_{len(self._constants)}"
        key = (array.dtype.str, array.shape, array.tobytes()) if array.size < SMALL else name
        return str(self._constants.setdefault(key, numpy_helper.from_array(array, name)).name)

    def add(self, operator: str, *inputs: Any, **attributes: Any) -> Name:
        """Adds a node with one output; an input that is no name becomes a constant."""
        (value,) = self.add_many(operator, 1, *inputs, **attributes)
        return value

    def add_many(self, operator: str, count: int, /, *inputs: Any, **attributes: Any) -> list[Name]:
        """Adds a node with `count` outputs."""
        name = f"{operator}_{next(self._numbers)}"
        outputs = [f"{name}_{i}" for i in range(count)]
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        self._nodes.append(helper.make_node(operator, names, outputs, name=name, **attributes))
        return outputs

    def filled(self, shape: Name, value: float | np.integer | np.floating) -> Name:
        """A tensor of this shape, the same number everywhere."""
        number = np.asarray([value])
        return self.add("ConstantOfShape", shape, value=numpy_helper.from_array(number))

    def model(self, properties: dict[str, str]) -> ModelProto:
        """The finished model, checked.

        Args:
            properties: What readers should know, as key and text.

        Raises:
            onnx.checker.ValidationError: It is not valid.
        """
        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, "encoder", self._inputs, self._outputs, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="token-pruning-explorer",
        )
        helper.set_model_props(model, properties)
        checker.check_model(model, full_check=True)
        return model
