"""A pruned encoder as an ONNX graph in which tokens are really removed.

The graph does what the packed runner does: padding goes at once, live tokens of all sequences lie one
after another, and behind each layer's attention those that do not exceed the threshold are left out,
or before a layer those that a policy does not select.
Lengths are free, and no two runs need the same ones.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
from onnx import ModelProto, TensorProto

from ltp_core.encoder.model import Encoder, EncoderLayer
from ltp_core.export.graph import Axes, Graph, Name
from ltp_core.export.layers import INPUTS, EncoderNodes
from ltp_core.pruning.base import PrunedAnswers, PruningMethod, ThresholdMethod
from ltp_core.pruning.ltp_s import BOUND
from ltp_core.pruning.tr_bert import BOUND as HALF
from ltp_core.pruning.tr_bert import Policy, TokenReduction

ZERO, ONE = np.int64(0), np.int64(1)
TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Rule:
    """Who decides in a layer.

    Attributes:
        method: The pruning method.
        index: Of the layer, from 0.
    """

    method: PruningMethod
    index: int

    @property
    def threshold(self) -> float | None:
        """Of the scores after the layer's attention; None where everything stays."""
        return self.method.threshold(self.index) if self.method.signals else None


@dataclass(frozen=True, kw_only=True)
class Live:
    """Values of the tokens that are still live.

    Attributes:
        hidden: State of each, `live hidden`.
        cell: Place of each in the flat padded batch.
        sequence: Which sequence each belongs to; None where there is only one.
        protected: True where a token is never pruned.
        ordinary: True for tokens that the tokenizer did not add.
    """

    hidden: Name
    cell: Name
    sequence: Name | None
    protected: Name
    ordinary: Name


def pruned_model(
    encoder: Encoder,
    method: PruningMethod,
    properties: dict[str, str],
    *,
    separator_id: int | None = None,
    is_single: bool = False,
    finishes_first: bool = True,
) -> ModelProto:
    """The encoder with a method's thresholds inside.

    Inputs are `layers.INPUTS`, int64 `batch seq`. Outputs are `logits`, float32 `batch label`, and
    `num_survived`, int64 `batch seq`: by how many layers each token was retained.

    Args:
        encoder: Whose weights.
        method: A method with one threshold per layer, one with policies before layers, or one that
            prunes nothing; the first token is protected.
        properties: What readers of the file should know.
        separator_id: Id of the separators; None where the tokenizer has none.
        is_single: For one sequence at a time: fewer operations.
        finishes_first: The last layer finishes only the first token, which is all that the logits
            need; `num_survived` then stops a layer earlier.
    """
    graph = Graph()
    axes: Axes = [1 if is_single else "batch", "seq"]
    ids, mask, types = (graph.input(name, axes) for name in INPUTS)
    kind = _OneSequence if is_single else _Batch
    attention = kind(EncoderNodes(graph, encoder), graph.add("Shape", ids))
    live = attention.enter(ids, mask, types, separator_id, method.config.protect_separators)
    running = [i for i in range(encoder.config.num_layers) if method.runs_layer(i)]
    survived = []
    states = None
    if encoder.config.reads_every_token:
        finishes_first = False
        states = attention.noted(attention.nothing(), live)
    for index in running:
        if index in method.entry_layers:
            live = attention.select(live, Rule(method, index))
        if finishes_first and index == running[-1]:
            read = attention.nodes.final_norm(attention.finish_first(index, live))
            break
        live = attention.run(live, Rule(method, index))
        survived.append(live.cell)
        states = states and attention.noted(states, live)
    else:
        read = (
            attention.nodes.final_norm(attention.first(live))
            if states is None
            else attention.mean(states, live, mask, method.config.pruned_answers)
        )
    labels: Axes = [axes[0], encoder.config.num_labels]
    graph.output(attention.nodes.head(read), "logits", labels, TensorProto.FLOAT)
    graph.output(attention.count(survived), "num_survived", axes, TensorProto.INT64)
    return graph.model(properties)


class _Attention(ABC):
    """What depends on whether there is one sequence or a batch of them."""

    def __init__(self, nodes: EncoderNodes, shape: Name) -> None:
        self.nodes = nodes
        self.graph = nodes.graph
        self.config = nodes.config
        self.layers = nodes.encoder.layers
        self.shape = shape
        self.batch, self.width = (nodes.graph.add("Gather", shape, [axis]) for axis in (0, 1))

    def enter(
        self,
        ids: Name,
        mask: Name,
        types: Name,
        separator_id: int | None,
        protects_separators: bool,
    ) -> Live:
        """The embedded real tokens of a padded batch."""
        add = self.graph.add
        cell = self._where(add("Reshape", mask, [-1]))
        position = self.position(cell)
        token = self._pick(ids, cell)
        first = add("Equal", position, 0)
        special = first
        if separator_id is not None:
            special = add("Or", first, add("Equal", token, separator_id))
        if self.config.family.counts_from_padding:
            position = self._pick(self.nodes.position_ids(ids), cell)
        return Live(
            hidden=self.nodes.embed(token, self._pick(types, cell), position),
            cell=cell,
            sequence=self.sequence(cell),
            protected=special if protects_separators else first,
            ordinary=add("Not", special),
        )

    def nothing(self) -> Name:
        """A state of zeros for every place of the flat padded batch."""
        size = self.graph.add("ReduceProd", self.shape, keepdims=1)
        wide = self.graph.add("Concat", size, [self.config.hidden_size], axis=0)
        return self.graph.filled(wide, np.float32(0))

    def noted(self, states: Name, live: Live) -> Name:
        """The states with those of the live tokens renewed."""
        place = self.graph.add("Unsqueeze", live.cell, [1])
        return self.graph.add("ScatterND", states, place, live.hidden)

    def mean(self, states: Name, live: Live, mask: Name, pruned: PrunedAnswers) -> Name:
        """What a pooled head reads: the mean of last states, `batch hidden`.

        Args:
            states: Last state of each token.
            live: The tokens that are left.
            mask: 1 for real tokens.
            pruned: Whether tokens that were pruned count.
        """
        add = self.graph.add
        is_read = add("Cast", mask, to=TensorProto.BOOL)
        if pruned == "excluded":
            is_read = add("Cast", self.count([live.cell]), to=TensorProto.BOOL)
        shape = add("Concat", self.shape, [self.config.hidden_size], axis=0)
        return self.nodes.mean_of(add("Reshape", states, shape), is_read)

    def count(self, survived: list[Name]) -> Name:
        """How often each place of the padded batch is in these lists."""
        add = self.graph.add
        zeros = self.graph.filled(add("ReduceProd", self.shape, keepdims=1), ZERO)
        for cell in survived:
            ones = self.graph.filled(add("Shape", cell), ONE)
            zeros = add("ScatterElements", zeros, cell, ones, axis=0, reduction="add")
        return add("Reshape", zeros, self.shape)

    def select(self, live: Live, rule: Rule) -> Live:
        """The tokens that a policy lets into a layer."""
        add, method = self.graph.add, rule.method
        assert isinstance(method, TokenReduction)
        policy = method.policies[str(rule.index)]
        assert isinstance(policy, Policy)
        logit = self.nodes.policy(policy, live.hidden)
        is_likely = add("GreaterOrEqual", add("Sigmoid", add("Reshape", logit, [-1])), HALF)
        kept = self._where(add("Or", is_likely, live.protected))
        return self._stayed(live, add("Gather", live.hidden, kept), kept)

    def retain(self, live: Live, score: Name, rule: Rule, attended: Name | None = None) -> Name:
        """Which live tokens stay, in order.

        Args:
            live: The tokens.
            score: Their scores, summed over the heads.
            rule: Who decides.
            attended: Their states after attention, for a method that reads them.
        """
        add, method = self.graph.add, rule.method
        bound = float(rule.threshold or 0.0) * self.config.num_heads
        if isinstance(method, ThresholdMethod):
            if attended is not None:
                score = add("Mul", score, self._factor(attended, method, rule.index))
            if method.config.score_mean == "ordinary":
                score = add("Mul", score, self._unit(live, score))
        return self._where(add("Or", add("Greater", score, bound), live.protected))

    def _factor(self, attended: Name, method: ThresholdMethod, index: int) -> Name:
        """What the score is multiplied by: exp(2 tanh(u h / sqrt(d))), one a live token."""
        add = self.graph.add
        direction = method.get_parameter("direction")[index].detach().float().cpu().numpy()
        column = (direction / np.sqrt(np.float32(len(direction))))[:, None]
        projected = add("Reshape", add("MatMul", attended, column), [-1])
        return add("Exp", add("Mul", BOUND, add("Tanh", projected)))

    def _unit(self, live: Live, score: Name) -> Name:
        """1 / the mean score of the ordinary tokens of a token's sequence, times the heads.

        1 where a sequence has none: the bound is that of a sum over heads.
        """
        add = self.graph.add
        counts = add("Cast", live.ordinary, to=TensorProto.FLOAT)
        number = self.per_sequence(live, counts)
        total = add("Max", self.per_sequence(live, add("Mul", counts, score)), TINY)
        unit = add("Mul", add("Div", number, total), float(self.config.num_heads))
        return add("Where", add("Greater", number, 0.0), unit, 1.0)

    def decide_and_finish(
        self, layer: EncoderLayer, live: Live, context: Name, score: Name, rule: Rule
    ) -> Live:
        """A layer's end for a method that reads the states of all live tokens after attention.

        Args:
            layer: Whose maps.
            live: The tokens that entered.
            context: What each gathered from the values, `live hidden`.
            score: Their scores, summed over the heads.
            rule: Who decides.
        """
        attended = self.nodes.attend(layer, context, live.hidden)
        kept = self.retain(live, score, rule, attended)
        stayed = self.graph.add("Gather", attended, kept)
        return self._stayed(live, self.nodes.feed_forward(layer, stayed), kept)

    def finish(self, layer: EncoderLayer, live: Live, context: Name, kept: Name | None) -> Live:
        """Output projection and FFN of the tokens that stay; None: all."""
        if kept is None:
            return replace(live, hidden=self._finished(layer, context, live.hidden))
        residual = self.graph.add("Gather", live.hidden, kept)
        return self._stayed(live, self._finished(layer, context, residual), kept)

    def _finished(self, layer: EncoderLayer, context: Name, residual: Name) -> Name:
        return self.nodes.feed_forward(layer, self.nodes.attend(layer, context, residual))

    def _stayed(self, live: Live, hidden: Name, kept: Name) -> Live:
        """The tokens that stay, with their new states."""
        add = self.graph.add
        return Live(
            hidden=hidden,
            cell=add("Gather", live.cell, kept),
            sequence=live.sequence and add("Gather", live.sequence, kept),
            protected=add("Gather", live.protected, kept),
            ordinary=add("Gather", live.ordinary, kept),
        )

    def _where(self, condition: Name) -> Name:
        return self.graph.add("Reshape", self.graph.add("NonZero", condition), [-1])

    def _pick(self, padded: Name, cell: Name) -> Name:
        return self.graph.add("Gather", self.graph.add("Reshape", padded, [-1]), cell)

    @abstractmethod
    def position(self, cell: Name) -> Name:
        """Position of each place of the flat padded batch in its sequence."""

    @abstractmethod
    def sequence(self, cell: Name) -> Name | None:
        """Sequence of each place."""

    @abstractmethod
    def per_sequence(self, live: Live, values: Name) -> Name:
        """Sum of the live tokens' values over the sequence that each belongs to."""

    @abstractmethod
    def run(self, live: Live, rule: Rule) -> Live:
        """One layer; without a threshold everything stays."""

    @abstractmethod
    def first(self, live: Live) -> Name:
        """State of the first token of each sequence, `batch hidden`."""

    @abstractmethod
    def finish_first(self, index: int, live: Live) -> Name:
        """One layer for the first token of each sequence alone, `batch hidden`."""


class _OneSequence(_Attention):
    """One sequence: no index besides the token's place."""

    def position(self, cell: Name) -> Name:
        return cell

    def sequence(self, cell: Name) -> None:
        return None

    def per_sequence(self, live: Live, values: Name) -> Name:
        return self.graph.add("ReduceSum", values, [0], keepdims=1)

    def run(self, live: Live, rule: Rule) -> Live:
        add, layer = self.graph.add, self.layers[rule.index]
        normed = self.nodes.normed(layer, live.hidden)
        query, key, value = self._split(self.nodes.projection(rule.index, normed, live.cell), 3)
        bias = self.nodes.bias(rule.index, live.cell, live.cell)
        probs = self._probabilities(query, key, bias)
        score = add("ReduceSum", probs, [0, 1, 2], keepdims=0)
        kept = None
        if rule.threshold is not None and not rule.method.reads_states:
            kept = self.retain(live, score, rule)
            probs = add("Gather", probs, kept, axis=2)
        context = add("Transpose", add("MatMul", probs, value), perm=[0, 2, 1, 3])
        rows = add("Reshape", context, [-1, self.config.hidden_size])
        if rule.method.reads_states:
            return self.decide_and_finish(layer, live, rows, score, rule)
        return self.finish(layer, live, rows, kept)

    def first(self, live: Live) -> Name:
        return self.graph.add("Gather", live.hidden, [0])

    def finish_first(self, index: int, live: Live) -> Name:
        add, config, layer = self.graph.add, self.config, self.layers[index]
        first, place = self.first(live), add("Gather", live.cell, [0])
        normed = self.nodes.normed(layer, live.hidden)
        asked = self.nodes.query(index, add("Gather", normed, [0]), place)
        query = add("Reshape", asked, [1, config.num_heads, 1, config.head_size])
        key, value = self._split(self.nodes.key_value(index, normed, live.cell), 2)
        bias = self.nodes.bias(index, place, live.cell)
        context = add("MatMul", self._probabilities(query, key, bias), value)
        return self._finished(layer, add("Reshape", context, [1, config.hidden_size]), first)

    def _split(self, projected: Name, count: int) -> list[Name]:
        """Each part as `1 head live head_size`."""
        shape = [-1, count, self.config.num_heads, self.config.head_size]
        split = self.graph.add("Reshape", projected, shape)
        heads = self.graph.add("Transpose", split, perm=[1, 2, 0, 3])
        return self.graph.add_many("Split", count, heads, axis=0, num_outputs=count)

    def _probabilities(self, query: Name, key: Name, bias: Name | None) -> Name:
        add = self.graph.add
        logits = add("MatMul", query, add("Transpose", key, perm=[0, 1, 3, 2]))
        if bias is not None:
            logits = add("Add", logits, bias)
        return add("Softmax", logits, axis=-1)


@dataclass(frozen=True, kw_only=True)
class _Places:
    """Where live tokens go in a batch that is padded to its longest survivor.

    Attributes:
        start: First live token of each sequence.
        width: Live tokens of the longest, as a list of one.
        cell: Place of each live token in the flat batch.
        is_live: Which places hold one, `batch width`.
    """

    start: Name
    width: Name
    cell: Name
    is_live: Name


class _Batch(_Attention):
    """A batch: attention is padded to the longest survivor, everything else runs without blanks."""

    def position(self, cell: Name) -> Name:
        return self.graph.add("Mod", cell, self.width)

    def sequence(self, cell: Name) -> Name:
        return self.graph.add("Div", cell, self.width)

    def per_sequence(self, live: Live, values: Name) -> Name:
        nothing = self.graph.filled(self.batch, np.float32(0))
        sums = self.graph.add(
            "ScatterElements", nothing, live.sequence, values, axis=0, reduction="add"
        )
        return self.graph.add("Gather", sums, live.sequence)

    def run(self, live: Live, rule: Rule) -> Live:
        add, layer = self.graph.add, self.layers[rule.index]
        places = self._places(live)
        normed, position = self.nodes.normed(layer, live.hidden), self.position(live.cell)
        projected = self.nodes.projection(rule.index, normed, position)
        query, key, value = self._pad(projected, 3, places)
        bias = self._bias(rule.index, live, places)
        probs = self._probabilities(query, key, places, bias)
        context = add("Transpose", add("MatMul", probs, value), perm=[0, 2, 1, 3])
        rows = add("Reshape", context, [-1, self.config.hidden_size])
        if rule.threshold is None:
            return self.finish(layer, live, add("Gather", rows, places.cell), None)
        score = self._pick(self._column_sums(probs, places), places.cell)
        if rule.method.reads_states:
            own = add("Gather", rows, places.cell)
            return self.decide_and_finish(layer, live, own, score, rule)
        kept = self.retain(live, score, rule)
        stay = add("Gather", rows, add("Gather", places.cell, kept))
        return self.finish(layer, live, stay, kept)

    def first(self, live: Live) -> Name:
        return self.graph.add("Gather", live.hidden, self._places(live).start)

    def finish_first(self, index: int, live: Live) -> Name:
        add, config, layer = self.graph.add, self.config, self.layers[index]
        places = self._places(live)
        first = add("Gather", live.hidden, places.start)
        normed, position = self.nodes.normed(layer, live.hidden), self.position(live.cell)
        asked = self.nodes.query(
            index, add("Gather", normed, places.start), add("Gather", position, places.start)
        )
        query = add("Reshape", asked, [-1, config.num_heads, 1, config.head_size])
        key, value = self._pad(self.nodes.key_value(index, normed, position), 2, places)
        bias = self._bias(index, live, places, num_queries=1)
        context = add("MatMul", self._probabilities(query, key, places, bias), value)
        return self._finished(layer, add("Reshape", context, [-1, config.hidden_size]), first)

    def _places(self, live: Live) -> _Places:
        add, sequence = self.graph.add, live.sequence
        shape = add("Shape", sequence)
        nothing, ones = self.graph.filled(self.batch, ZERO), self.graph.filled(shape, ONE)
        length = add("ScatterElements", nothing, sequence, ones, axis=0, reduction="add")
        start = add("CumSum", length, 0, exclusive=1)
        width = add("ReduceMax", length, keepdims=1)
        rank = add("Sub", self._range(shape), add("Gather", start, sequence))
        return _Places(
            start=start,
            width=width,
            cell=add("Add", add("Mul", sequence, width), rank),
            is_live=add("Less", self._range(width), add("Unsqueeze", length, [1])),
        )

    def _range(self, length: Name) -> Name:
        return self.graph.add("Range", 0, self.graph.add("Squeeze", length, [0]), 1)

    def _pad(self, projected: Name, count: int, places: _Places) -> list[Name]:
        """Each part as `batch head width head_size`; the key as `batch head head_size width`.

        The last two are key and value.
        """
        add, config = self.graph.add, self.config
        size = add(
            "Concat", add("Mul", self.batch, places.width), [count * config.hidden_size], axis=0
        )
        blank = self.graph.filled(size, np.float32(0))
        padded = add("ScatterND", blank, add("Unsqueeze", places.cell, [1]), projected)
        heads = [config.num_heads, config.head_size]
        shape = add("Concat", self.batch, places.width, heads, axis=0)
        orders = [[0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]][-count:]
        parts = self.graph.add_many("Split", count, padded, axis=-1, num_outputs=count)
        return [
            add("Transpose", add("Reshape", part, shape), perm=order)
            for part, order in zip(parts, orders, strict=True)
        ]

    def _bias(
        self, index: int, live: Live, places: _Places, num_queries: int | None = None
    ) -> Name | None:
        """What is added to the logits of each sequence's first queries, all by default."""
        if self.nodes.positions[index].bias is None:
            return None
        add = self.graph.add
        size = add("Mul", self.batch, places.width)
        flat = add(
            "ScatterElements",
            self.graph.filled(size, ZERO),
            places.cell,
            self.position(live.cell),
            axis=0,
        )
        key = add("Reshape", flat, add("Concat", self.batch, places.width, axis=0))
        query = key if num_queries is None else add("Slice", key, [0], [num_queries], [1])
        bias = self.nodes.bias(index, query, key)
        assert bias is not None
        return add("Transpose", bias, perm=[1, 0, 2, 3])

    def _probabilities(self, query: Name, key: Name, places: _Places, bias: Name | None) -> Name:
        add = self.graph.add
        blank = add("Unsqueeze", add("Where", places.is_live, 0.0, -np.inf), [1, 2])
        logits = add("Add", add("MatMul", query, key), blank)
        if bias is not None:
            logits = add("Add", logits, bias)
        return add("Softmax", logits, axis=-1)

    def _column_sums(self, probs: Name, places: _Places) -> Name:
        """Sum over heads and live queries, `batch 1 width`."""
        add = self.graph.add
        per_query = add("ReduceSum", probs, [1], keepdims=0)
        weight = add("Unsqueeze", add("Cast", places.is_live, to=TensorProto.FLOAT), [1])
        return add("MatMul", weight, per_query)
