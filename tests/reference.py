"""Token pruning written as slow, obvious loops: the yardstick that the fast code must equal.

One sequence at a time, NumPy float64, no masks and no padding: a pruned token is simply no longer in
the list of live positions. Only innermost products over the hidden dimension are vectorised. Nothing
of `ltp_core` is used, so agreement means something.

Axis names: n positions of the original sequence, d hidden, H heads, f intermediate, L layers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Vector = np.ndarray
Scores = dict[int, float]
Rule = Callable[[int, Scores], set[int]]
"""(layer index, score of every live position) -> the positions that go on."""


@dataclass(kw_only=True)
class MacCounter:
    """Multiply-accumulates carried out in the encoder layers; embeddings and head are left out."""

    macs: int = 0


Entry = Callable[[int, Mapping[int, Vector], MacCounter], set[int]]
"""(layer index, state of every position that comes, counter) -> the positions that enter."""


@dataclass(frozen=True, kw_only=True)
class LayerResult:
    """What one layer did, by original position.

    Attributes:
        live: Positions that entered the layer, ascending.
        attention: A[head][query, key] for live queries and keys.
        score: Importance of every live position.
        kept: Positions that left the layer, ascending.
        weight: Soft mask w after the layer; 1 or absent where pruning is hard.
        hidden: Output of the layer for every kept position.
        is_cumulative: `weight` holds the masks of the layers before, too.
        scales_output: `hidden` is multiplied by `weight`.
    """

    live: list[int]
    attention: list[dict[tuple[int, int], float]]
    score: Scores
    kept: list[int]
    weight: dict[int, float]
    hidden: dict[int, Vector]
    is_cumulative: bool = False
    scales_output: bool = False


@dataclass(frozen=True, kw_only=True)
class Result:
    """A whole forward pass over one sequence."""

    embedding: dict[int, Vector]
    layers: list[LayerResult] = field(default_factory=list)
    logits: Vector
    macs: int

    @property
    def lengths(self) -> list[tuple[int, int]]:
        """(tokens entering, tokens leaving) of every layer."""
        return [(len(layer.live), len(layer.kept)) for layer in self.layers]


# --- weights ----------------------------------------------------------------------------------


class Weights:
    """A Hugging Face state dict as float64 arrays, with the encoder's prefix made invisible."""

    def __init__(self, state_dict: Mapping[str, Any], config: Any) -> None:
        """Copies the tensors of `...ForSequenceClassification` with this Hugging Face config."""
        self.config = config
        self.counts_from_padding = config.model_type in {
            "roberta",
            "xlm-roberta",
            "camembert",
            "mpnet",
        }
        self._arrays = {
            plain_name(name): np.asarray(tensor.detach().cpu().double().numpy())
            for name, tensor in state_dict.items()
        }

    def __contains__(self, name: str) -> bool:
        return name in self._arrays

    def __getitem__(self, name: str) -> np.ndarray:
        return self._arrays[name]

    def linear(self, name: str, x: Vector, counter: MacCounter | None = None) -> Vector:
        """W x + b."""
        weight = self[f"{name}.weight"]
        if counter is not None:
            counter.macs += weight.size
        product: Vector = weight @ x
        return product + self[f"{name}.bias"] if f"{name}.bias" in self else product

    def layer_norm(self, name: str, x: Vector) -> Vector:
        """Layer normalisation over the hidden dimension; nothing where there is no such norm."""
        if f"{name}.weight" not in self:
            return x
        epsilon = getattr(self.config, "layer_norm_eps", None)
        if epsilon is None:
            epsilon = getattr(self.config, "norm_eps", 1e-12)
        centred = x - x.mean()
        scaled: Vector = centred / math.sqrt((centred**2).mean() + epsilon) * self[f"{name}.weight"]
        return scaled + self[f"{name}.bias"] if f"{name}.bias" in self else scaled


RENAMED = {
    "embeddings_project": "embeddings.project",
    "transformer.layer": "encoder.layer",
    "attention.q_lin": "attention.self.query",
    "attention.k_lin": "attention.self.key",
    "attention.v_lin": "attention.self.value",
    "attention.out_lin": "attention.output.dense",
    "sa_layer_norm": "attention.output.LayerNorm",
    "ffn.lin1": "intermediate.dense",
    "ffn.lin2": "output.dense",
    "output_layer_norm": "output.LayerNorm",
    "pre_classifier": "pooler.dense",
    "attention.attn.q": "attention.self.query",
    "attention.attn.k": "attention.self.key",
    "attention.attn.v": "attention.self.value",
    "attention.attn.o": "attention.output.dense",
    "attention.LayerNorm": "attention.output.LayerNorm",
    "tok_embeddings": "word_embeddings",
    "embeddings.norm": "embeddings.LayerNorm",
    "attn_norm": "attention.norm",
    "attn.Wqkv": "attention.self.Wqkv",
    "attn.Wo": "attention.output.dense",
    "mlp_norm": "intermediate.norm",
    "mlp.Wi": "intermediate.dense",
    "mlp.Wo": "output.dense",
    "encoder.final_norm": "final_norm",
    "head.": "pooler.",
}
"""Other families' names of BERT's parts."""


def plain_name(name: str) -> str:
    """A tensor's name without the family in front, as BERT has it."""
    for prefix in ("bert.", "roberta.", "mpnet.", "distilbert.", "electra.", "model."):
        name = name.removeprefix(prefix)
    if name.startswith("layers."):
        name = f"encoder.layer.{name.removeprefix('layers.')}"
    for theirs, plain in RENAMED.items():
        name = name.replace(theirs, plain)
    return name


def gelu(x: Vector) -> Vector:
    """The exact form: x Phi(x)."""
    return np.array([value * 0.5 * (1.0 + math.erf(value / math.sqrt(2.0))) for value in x])


ACTIVATIONS: dict[str, Callable[[Vector], Vector]] = {
    "gelu": gelu,
    "relu": lambda x: np.maximum(x, 0.0),
    "tanh": np.tanh,
}

HEADS = {"distilbert": "relu", "electra": "gelu", "modernbert": "gelu"}
"""Activation of the head, by `model_type`; else tanh."""


# --- the encoder ------------------------------------------------------------------------------


def position_ids(weights: Weights, input_ids: Sequence[int]) -> list[int]:
    """Row of the position table per token; RoBERTa counts from padding id + 1."""
    if not weights.counts_from_padding:
        return list(range(len(input_ids)))
    pad = weights.config.pad_token_id
    ids, count = [], 0
    for token in input_ids:
        count += token != pad
        ids.append(pad + count if token != pad else pad)
    return ids


def embed(
    weights: Weights, input_ids: Sequence[int], token_type_ids: Sequence[int]
) -> dict[int, Vector]:
    """Normalised sum of word, position and token type embeddings, of those that there are."""
    positions = position_ids(weights, input_ids)
    out = {}
    for i, token in enumerate(input_ids):
        total = weights["embeddings.word_embeddings.weight"][token]
        if "embeddings.position_embeddings.weight" in weights:
            total = total + weights["embeddings.position_embeddings.weight"][positions[i]]
        if "embeddings.token_type_embeddings.weight" in weights:
            total = total + weights["embeddings.token_type_embeddings.weight"][token_type_ids[i]]
        out[i] = weights.layer_norm("embeddings.LayerNorm", total)
        if "embeddings.project.weight" in weights:
            out[i] = weights.linear("embeddings.project", out[i])
    return out


def project(
    weights: Weights, layer: int, part: str, hidden: Mapping[int, Vector], counter: MacCounter
) -> dict[int, np.ndarray]:
    """Query, key or value of every position, split into heads: [H, d / H]."""
    heads = weights.config.num_attention_heads
    name = f"encoder.layer.{layer}.attention.self"
    out = {}
    for i, x in hidden.items():
        normed = weights.layer_norm(f"encoder.layer.{layer}.attention.norm", x)
        if f"{name}.Wqkv.weight" in weights:
            all_three = weights.linear(f"{name}.Wqkv", normed)
            counter.macs += len(x) ** 2
            out[i] = all_three.reshape(3, heads, -1)[("query", "key", "value").index(part)]
            if part != "value":
                out[i] = np.stack([turned(weights, layer, i, head) for head in out[i]])
        else:
            out[i] = weights.linear(f"{name}.{part}", normed, counter).reshape(heads, -1)
    return out


def is_local(weights: Weights, layer: int) -> bool:
    """Whether a layer's queries see a window only."""
    kinds = getattr(weights.config, "layer_types", None)
    return kinds is not None and kinds[layer] == "sliding_attention"


def turned(weights: Weights, layer: int, position: int, head: Vector) -> Vector:
    """Rotary positions: dimensions k and k + d/2 of a head turn by position / theta^(2k/d)."""
    kind = weights.config.layer_types[layer]
    theta = weights.config.rope_parameters[kind]["rope_theta"]
    half = len(head) // 2
    out = np.empty_like(head)
    for k in range(half):
        angle = position / theta ** (2 * k / len(head))
        cos, sin = math.cos(angle), math.sin(angle)
        out[k] = head[k] * cos - head[k + half] * sin
        out[k + half] = head[k + half] * cos + head[k] * sin
    return out


def relative_bias(weights: Weights, head: int, query: int, key: int) -> float:
    """MPNet's bias for two positions, T5's buckets: 16 a direction, 8 of them exact, up to 128."""
    name = "encoder.relative_attention_bias.weight"
    if name not in weights:
        return 0.0
    size = abs(key - query)
    bucket = size
    if size >= 8:
        bucket = min(15, 8 + int(math.log(size / 8) / math.log(128 / 8) * 8))
    return float(weights[name][bucket + (16 if key > query else 0), head])


def attention_probabilities(
    weights: Weights,
    layer: int,
    query: Mapping[int, np.ndarray],
    key: Mapping[int, np.ndarray],
    key_weight: Mapping[int, float],
    head: int,
    counter: MacCounter,
) -> dict[tuple[int, int], float]:
    """Eq. 6 for one head; key i enters the softmax as w_i exp(logit), so w = 1 is the plain one.

    In a local layer keys beyond half a window are left out, though their products are computed.
    """
    probabilities = {}
    for j in query:
        logit = {}
        for i in key:
            size = len(key[i][head])
            logit[i] = float(query[j][head] @ key[i][head]) / math.sqrt(size)
            logit[i] += relative_bias(weights, head, j, i)
            counter.macs += size
            if is_local(weights, layer) and abs(i - j) > weights.config.local_attention // 2:
                logit[i] = -math.inf
        largest = max(logit.values())
        share = {i: key_weight[i] * math.exp(logit[i] - largest) for i in key}
        total = sum(share.values())
        for i in key:
            # A query with faded keys alone in its window has faded itself: nobody reads it.
            probabilities[j, i] = share[i] / total if total else 0.0
    return probabilities


def importance(
    attention: Sequence[Mapping[tuple[int, int], float]],
    positions: Sequence[int],
    query_weight: Mapping[int, float],
) -> Scores:
    """Eq. 7 times n: (1/H) sum_h sum_j w_j A[h, j, i], the sum over the given positions only."""
    score = {}
    for i in positions:
        received = 0.0
        for head in attention:
            for j in positions:
                received += query_weight[j] * head[j, i]
        score[i] = received / len(attention)
    return score


def context_of(
    attention: Sequence[Mapping[tuple[int, int], float]],
    value: Mapping[int, np.ndarray],
    j: int,
    counter: MacCounter,
) -> Vector:
    """What query j reads: the attention-weighted values, heads concatenated."""
    heads = []
    for h, head in enumerate(attention):
        total = np.zeros_like(value[j][h])
        for i in value:
            total = total + head[j, i] * value[i][h]
            counter.macs += len(value[i][h])
        heads.append(total)
    return np.concatenate(heads)


def attention_output(
    weights: Weights, layer: int, context: Vector, x: Vector, counter: MacCounter
) -> Vector:
    """Output projection, residual and LayerNorm: x_MHA of one token (Eq. 3)."""
    name = f"encoder.layer.{layer}.attention.output"
    return weights.layer_norm(
        f"{name}.LayerNorm", weights.linear(f"{name}.dense", context, counter) + x
    )


def feed_forward(weights: Weights, layer: int, x: Vector, counter: MacCounter) -> Vector:
    """x_out of one token (Eqs. 4 and 5); a gated FFN's first map has the gate as its second half."""
    name = f"encoder.layer.{layer}"
    activation = ACTIVATIONS[getattr(weights.config, "hidden_act", "gelu")]
    normed = weights.layer_norm(f"{name}.intermediate.norm", x)
    inner = weights.linear(f"{name}.intermediate.dense", normed, counter)
    width = weights[f"{name}.output.dense.weight"].shape[1]
    inner = activation(inner[:width]) * (inner[width:] if len(inner) > width else 1.0)
    outer = weights.linear(f"{name}.output.dense", inner, counter)
    return weights.layer_norm(f"{name}.output.LayerNorm", outer + x)


def last_states(
    embedding: Mapping[int, Vector], layers: Sequence[LayerResult]
) -> dict[int, Vector]:
    """Every token's last state as a live one; soft masks mix a new state with what was before."""
    states, share = dict(embedding), dict.fromkeys(embedding, 1.0)
    for layer in layers:
        for i in states:
            weight = layer.weight.get(i, 0.0)
            share[i] = weight if layer.is_cumulative else share[i] * weight
            if share[i] > 0.0:
                output = layer.hidden[i] / (weight if layer.scales_output else 1.0)
                states[i] = states[i] + share[i] * (output - states[i])
    return states


def classify(
    weights: Weights, embedding: Mapping[int, Vector], layers: Sequence[LayerResult]
) -> Vector:
    """Logits from the first token, or from the mean of every token's last state.

    BERT's pooler and classifier, or RoBERTa's head.
    """
    if getattr(weights.config, "classifier_pooling", "cls") == "mean":
        last = last_states(embedding, layers)
        normed = [weights.layer_norm("final_norm", x) for x in last.values()]
        read = np.asarray(sum(normed) / len(normed))
    else:
        read = weights.layer_norm("final_norm", layers[-1].hidden[0])
    activation = ACTIVATIONS[HEADS.get(weights.config.model_type, "tanh")]
    if "pooler.dense.weight" in weights and "classifier.weight" in weights:
        pooled = activation(weights.linear("pooler.dense", read))
        return weights.linear("classifier", weights.layer_norm("pooler.norm", pooled))
    return weights.linear(
        "classifier.out_proj", activation(weights.linear("classifier.dense", read))
    )


# --- hard pruning -----------------------------------------------------------------------------


def hard_layer(
    weights: Weights,
    layer: int,
    hidden: Mapping[int, Vector],
    rule: Rule,
    counter: MacCounter,
    accounting: str,
    *,
    without_diagonal: bool = False,
) -> LayerResult:
    """One layer in which tokens leave before the work that only they would need.

    `without_diagonal`: the rule sees scores without the attention that a token pays to itself.
    With `executed`, a dropped token's context and output projection are never computed; with `paper`
    they are, and only its FFN is saved. The answer is the same, the counter is not.
    """
    live = sorted(hidden)
    query, key, value = (
        project(weights, layer, part, hidden, counter) for part in ("query", "key", "value")
    )
    one = dict.fromkeys(live, 1.0)
    attention = [
        attention_probabilities(weights, layer, query, key, one, head, counter)
        for head in range(weights.config.num_attention_heads)
    ]
    score = importance(attention, live, one)
    seen = score
    if without_diagonal:
        seen = {i: score[i] - sum(head[i, i] for head in attention) / len(attention) for i in live}
    kept = sorted(rule(layer, seen) & set(live))
    attended = {}
    for j in live if accounting == "paper" else kept:
        context = context_of(attention, value, j, counter)
        attended[j] = attention_output(weights, layer, context, hidden[j], counter)
    out = {j: feed_forward(weights, layer, attended[j], counter) for j in kept}
    return LayerResult(
        live=live,
        attention=attention,
        score=score,
        kept=kept,
        weight=dict.fromkeys(kept, 1.0),
        hidden=out,
    )


def run_hard(
    weights: Weights,
    input_ids: Sequence[int],
    token_type_ids: Sequence[int],
    rule: Rule,
    *,
    entry: Entry | None = None,
    accounting: str = "executed",
    without_diagonal: bool = False,
) -> Result:
    """The whole network with pruned tokens gone; MACs are those of the given accounting.

    `entry` selects before each layer, by the states that come to it.
    """
    counter = MacCounter()
    embedding = embed(weights, input_ids, token_type_ids)
    layers: list[LayerResult] = []
    hidden = embedding
    for layer in range(weights.config.num_hidden_layers):
        if entry is not None:
            selected = entry(layer, hidden, counter)
            hidden = {i: hidden[i] for i in sorted(hidden) if i in selected}
        result = hard_layer(
            weights, layer, hidden, rule, counter, accounting, without_diagonal=without_diagonal
        )
        layers.append(result)
        hidden = layers[-1].hidden
    logits = classify(weights, embedding, layers)
    return Result(embedding=embedding, layers=layers, logits=logits, macs=counter.macs)


def keep_all(_layer: int, score: Scores) -> set[int]:
    """The rule of an unpruned network."""
    return set(score)


def policy_entry(
    policies: Mapping[int, tuple[np.ndarray, Vector, Vector, float]],
    *,
    protected: Collection[int] = (0,),
) -> Entry:
    """TR-BERT: before some layers a token goes on if sigmoid(w . gelu(W h + b) + c) >= 1/2."""

    def entry(layer: int, hidden: Mapping[int, Vector], counter: MacCounter) -> set[int]:
        if layer not in policies:
            return set(hidden)
        matrix, bias, outer, offset = policies[layer]
        selected = set()
        for i, state in hidden.items():
            logit = offset
            for row, shift, weight in zip(matrix, bias, outer, strict=True):
                z = float(row @ state) + float(shift)
                logit += float(weight) * 0.5 * z * (1 + math.erf(z / math.sqrt(2)))
                counter.macs += len(state) + 1
            if i in protected or 1 / (1 + math.exp(-logit)) >= 0.5:
                selected.add(i)
        return selected

    return entry


def threshold_rule(
    thresholds: Sequence[float],
    *,
    protected: Collection[int] = (0,),
    keep: Collection[int] = (),
    drop: Collection[int] = (),
) -> Rule:
    """Eq. 8: stay if score > threshold. Protection overrules `drop`, which overrules `keep`."""

    def rule(layer: int, score: Scores) -> set[int]:
        kept = set()
        for i, value in score.items():
            if i in protected or (i not in drop and (i in keep or value > thresholds[layer])):
                kept.add(i)
        return kept

    return rule


def top_k(score: Scores, k: int, *, protected: Collection[int] = (0,)) -> set[int]:
    """The k positions of highest rank; all protected ones, if they are more."""
    return set(ranking(score, protected)[: max(k, sum(i in protected for i in score))])


def ranking(score: Scores, protected: Collection[int] = (0,)) -> list[int]:
    """Positions in order: protected ones first, then by falling score, ties by position."""
    return sorted(score, key=lambda i: (i not in protected, -score[i], i))


def spatten_rule(
    length: int,
    num_layers: int,
    *,
    final_ratio: float,
    keep_layers: int,
    cumulative: bool = False,
    protected: Collection[int] = (0,),
) -> Rule:
    """SpAtten as LTP's authors ran it: top-k, k falling from layer `keep_layers` on."""
    totals: Scores = {}

    def rule(layer: int, score: Scores) -> set[int]:
        for i, value in score.items():
            totals[i] = value + (totals.get(i, 0.0) if cumulative else 0.0)
        if layer < keep_layers:
            return set(score)
        share = (layer - keep_layers + 1) / (num_layers - keep_layers)
        ratio = max(0.01, 1 - share + share * final_ratio)
        k = max(1, round(length * ratio))
        return top_k({i: totals[i] for i in score}, k, protected=protected)

    return rule
