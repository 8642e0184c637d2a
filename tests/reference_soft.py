"""The soft stage as loops, and what it costs: Eqs. 9 to 12 and the cumulative form beside them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from tests.reference import (
    LayerResult,
    MacCounter,
    Result,
    Vector,
    Weights,
    attention_output,
    attention_probabilities,
    classify,
    context_of,
    embed,
    feed_forward,
    importance,
    project,
    ranking,
)


def sigmoid(x: float) -> float:
    """The logistic function without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    return math.exp(x) / (1.0 + math.exp(x))


def soft_layer(
    weights: Weights,
    layer: int,
    hidden: Mapping[int, Vector],
    weight: Mapping[int, float],
    gate: Callable[[int, float], float],
    form: str,
) -> LayerResult:
    """One layer of the soft stage; every token goes on, `weight` says how much it counts.

    `attention`: keys weighted by w inside the softmax, the score weighs queries by w, and
    w <- w * gate. `output`: plain attention and score, and the layer's output times its own gate
    (Eqs. 10 and 11), nothing cumulative.
    """
    counter = MacCounter()
    live = sorted(hidden)
    query, key, value = (
        project(weights, layer, part, hidden, counter) for part in ("query", "key", "value")
    )
    entering = weight if form == "attention" else dict.fromkeys(live, 1.0)
    attention = [
        attention_probabilities(weights, layer, query, key, entering, head, counter)
        for head in range(weights.config.num_attention_heads)
    ]
    score = importance(attention, live, entering)
    leaving = {i: entering[i] * gate(i, score[i]) for i in live}
    out = {}
    for j in live:
        context = context_of(attention, value, j, counter)
        attended = attention_output(weights, layer, context, hidden[j], counter)
        out[j] = feed_forward(weights, layer, attended, counter)
        if form == "output":
            out[j] = leaving[j] * out[j]
    return LayerResult(
        live=live,
        attention=attention,
        score=score,
        kept=live,
        weight=leaving,
        hidden=out,
        is_cumulative=form == "attention",
        scales_output=form == "output",
    )


def run_soft(
    weights: Weights,
    input_ids: Sequence[int],
    token_type_ids: Sequence[int],
    thresholds: Sequence[float],
    temperature: float,
    *,
    form: str = "attention",
    protected: Collection[int] = (0,),
) -> Result:
    """The soft stage over one sequence; gate = sigmoid((score - threshold) / T), protected: 1."""
    embedding = embed(weights, input_ids, token_type_ids)
    layers: list[LayerResult] = []
    hidden, weight = embedding, dict.fromkeys(embedding, 1.0)
    for layer, threshold in enumerate(thresholds):

        def gate(i: int, score: float, threshold: float = threshold) -> float:
            return 1.0 if i in protected else sigmoid((score - threshold) / temperature)

        layers.append(soft_layer(weights, layer, hidden, weight, gate, form))
        hidden, weight = layers[-1].hidden, layers[-1].weight
    logits = classify(weights, embedding, layers)
    return Result(embedding=embedding, layers=layers, logits=logits, macs=0)


def regularizer(results: Sequence[Result]) -> float:
    """Mean of w over the real tokens of all sequences and over layers (Eq. 12 per token)."""
    total, count = 0.0, 0
    for result in results:
        for layer in result.layers:
            total += sum(layer.weight.values())
            count += len(layer.weight)
    return total / count


def run_by_rank(
    weights: Weights,
    input_ids: Sequence[int],
    token_type_ids: Sequence[int],
    retention: Sequence[Sequence[float]],
    *,
    protected: Collection[int] = (0,),
) -> Result:
    """PoWER-BERT's soft stage: the output of the token of rank k is multiplied by retention[l][k].

    Ranks by falling score without the diagonal, protected tokens first; those are multiplied by 1.
    """
    embedding = embed(weights, input_ids, token_type_ids)
    layers: list[LayerResult] = []
    hidden = embedding
    for layer, by_rank in enumerate(retention):
        whole = soft_layer(
            weights, layer, hidden, dict.fromkeys(hidden, 1.0), lambda _i, _score: 1.0, "output"
        )
        heads = whole.attention
        received = {i: whole.score[i] - sum(h[i, i] for h in heads) / len(heads) for i in hidden}
        order = ranking(received, protected)
        gate = {i: 1.0 if i in protected else by_rank[k] for k, i in enumerate(order)}
        hidden = {i: gate[i] * x for i, x in whole.hidden.items()}
        layers.append(dataclasses.replace(whole, weight=gate, hidden=hidden))
    logits = classify(weights, embedding, layers)
    return Result(embedding=embedding, layers=layers, logits=logits, macs=0)


# --- cost -------------------------------------------------------------------------------------


def paper_macs(
    entering: float, leaving: float, *, hidden: int, intermediate: int, ffn_maps: int = 2
) -> float:
    """MACs of one layer by the paper's accounting; lengths may be expected, hence real, numbers."""
    projections = 4 * entering * hidden * hidden
    attention = 2 * entering * entering * hidden
    ffn = ffn_maps * leaving * hidden * intermediate
    return projections + attention + ffn


def expected_relative_flops(results: Sequence[Result], config: Any) -> float:
    """Soft cost over the unpruned one; lengths are sums of w, both sums taken over the batch."""
    size = {"hidden": config.hidden_size, "intermediate": config.intermediate_size}
    size["ffn_maps"] = 3 if config.model_type == "modernbert" else 2
    soft, full = 0.0, 0.0
    for result in results:
        length = float(len(result.embedding))
        entering = length
        for layer in result.layers:
            leaving = sum(layer.weight.values())
            soft += paper_macs(entering, leaving, **size)
            full += paper_macs(length, length, **size)
            entering = leaving
    return soft / full
