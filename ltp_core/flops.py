"""Cost of an encoder pass, counted by formula: FLOPs = 2 × MACs (paper section 4.1).

Counted are the matrix products of attention and FFN. Excluded are the embeddings, the head, softmax,
layer normalisation and biases. Lengths are true tokens incl. special ones, never padding. `n_a` tokens
enter the attention of a layer, `n_f` of them stay and enter its FFN.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Num

ACCOUNTINGS = ("paper", "executed")

FLOPS_PER_MAC = 2

Lengths = Any
"""An int, a float, a NumPy array or a torch tensor: the formulas are plain arithmetic."""


@dataclass(frozen=True, kw_only=True)
class DecisionCost:
    """What a pruning method computes to decide, besides attention.

    Attributes:
        reads_states: It decides by a product with each token's state after attention.
        entry_layers: Layers, from 0, before which it looks at the states of all tokens that come.
        entry_width: Inner width w of the network that looks at them there, with one output.
    """

    reads_states: bool = False
    entry_layers: tuple[int, ...] = ()
    entry_width: int = 0

    def to_json(self) -> dict[str, Any]:
        """What differs from a method that computes nothing, as a manifest's `base` keeps it."""
        values = {**asdict(self), "entry_layers": list(self.entry_layers)}
        return {key: value for key, value in values.items() if value}

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> DecisionCost:
        """The cost from a manifest's `base`; what is absent or no number there is not computed."""
        layers, width = raw.get("entry_layers"), raw.get("entry_width")
        reads_states = raw.get("reads_states") is True
        if type(width) is not int or not isinstance(layers, list) or {*map(type, layers)} != {int}:
            return cls(reads_states=reads_states)
        return cls(reads_states=reads_states, entry_layers=tuple(layers), entry_width=width)


NO_COST = DecisionCost()
"""Of a method that decides by attention, or not at all."""


def layer_macs(
    attention_length: Lengths,
    ffn_length: Lengths,
    *,
    hidden: int,
    intermediate: int,
    ffn_maps: int = 2,
    accounting: str,
    query_length: Lengths | None = None,
    decision: DecisionCost = NO_COST,
) -> Lengths:
    """MACs of one layer, in the shape of the lengths.

    `paper`: `4 n_a d² + 2 n_a² d + m n_f d f`, m maps in the FFN, the rule of the authors' code: a
    token that this layer drops costs it the full attention and no FFN.
    `executed`: `3 n_a d² + n_a² d + n_f n_a d + n_f d² + m n_f d f`, what the packed runner does: a
    dropped token needs no attention output either. Local attention counts as it is computed: all
    products, of which those beyond the window are masked.

    Floating-point from the first product on, so small integer types do not overflow; gradients reach
    soft lengths.

    Args:
        attention_length: Tokens that enter the attention (n_a).
        ffn_length: Tokens that enter the FFN (n_f).
        hidden: Width of the hidden states (d).
        intermediate: Inner width of the FFN (f).
        ffn_maps: Linear maps of the FFN, each of d times f: 2, or 3 where it is gated.
        accounting: One of `ACCOUNTINGS`.
        query_length: Tokens whose queries are computed (n_q), where these are not all that enter;
            only `executed` counts them: `2 n_a d² + n_q d² + n_q n_a d + …`.
        decision: What the method computes to decide. If it reads states after attention: `n_q d`
            more in both, and in `executed` an attention output for all that ask, `n_q n_a d + n_q d²`
            in place of `n_f n_a d + n_f d²`. If it looks at those that come to a layer: `d w + w` for
            each that left the layer before; the lengths' last axis then is that of the layers.

    Raises:
        ValueError: The accounting is unknown.

    Example:
        >>> layer_macs(26, 26, hidden=768, intermediate=3072, accounting="paper")
        185063424.0
    """
    n_a, n_f, d = attention_length, ffn_length, float(hidden)
    n_q = n_a if query_length is None else query_length
    # What follows the attention, and what the decision itself takes.
    ffn = n_f * (ffn_maps * d * intermediate)
    if decision.reads_states:
        ffn = ffn + n_q * d
    if accounting == "paper":
        macs = n_a * (4 * d * d) + n_a * (2 * d) * n_a + ffn
    elif accounting == "executed":
        n_o = n_q if decision.reads_states else n_f
        projections = n_a * (2 * d * d) + n_q * (d * d)
        macs = projections + n_q * d * n_a + n_o * d * n_a + n_o * (d * d) + ffn
    else:
        raise ValueError(f"accounting is one of {', '.join(ACCOUNTINGS)}, not {accounting!r}")
    for layer in decision.entry_layers:
        macs[..., layer] += n_f[..., layer - 1] * (decision.entry_width * (d + 1))
    return macs


def total_flops(
    attention_length: Num[np.ndarray, "examples layers"],
    ffn_length: Num[np.ndarray, "examples layers"],
    *,
    accounting: str,
    query_length: Num[np.ndarray, "examples layers"] | None = None,
    decision: DecisionCost = NO_COST,
    **sizes: int,
) -> float:
    """FLOPs of all examples through all layers; arguments as for `layer_macs`.

    Raises:
        ValueError: The accounting is unknown.
    """
    macs = layer_macs(
        np.asarray(attention_length, dtype=np.float64),
        np.asarray(ffn_length, dtype=np.float64),
        accounting=accounting,
        query_length=None if query_length is None else np.asarray(query_length, dtype=np.float64),
        decision=decision,
        **sizes,
    )
    return float(FLOPS_PER_MAC * macs.sum())


def unpruned_flops(length: Num[np.ndarray, " examples"], *, num_layers: int, **sizes: int) -> float:
    """FLOPs of all examples without padding and without pruning; both accountings agree here."""
    n = np.asarray(length, dtype=np.float64)
    macs = layer_macs(n, n, accounting="paper", query_length=None, decision=NO_COST, **sizes)
    return float(FLOPS_PER_MAC * num_layers * macs.sum())


def relative_flops(
    length: Num[np.ndarray, " examples"],
    attention_length: Num[np.ndarray, "examples layers"],
    ffn_length: Num[np.ndarray, "examples layers"],
    *,
    decision: DecisionCost = NO_COST,
    **sizes: int,
) -> dict[str, float]:
    """Fraction of the unpadded unpruned model's FLOPs, by accounting; sums before division.

    The sizes are those of `layer_macs`.

    Returns:
        A fraction 0..1 for each of `ACCOUNTINGS`.

    Raises:
        ValueError: There is no example, or the shapes do not fit.

    Example:
        >>> length, half = np.array([8]), np.array([[8, 4]])
        >>> relative_flops(length, half, np.array([[4, 4]]), hidden=4, intermediate=16)
        {'paper': 0.59375, 'executed': 0.546875}
    """
    if attention_length.shape != ffn_length.shape or len(attention_length) != len(length):
        raise ValueError(
            f"lengths of {len(length)} examples do not fit layer lengths of shape "
            f"{attention_length.shape} and {ffn_length.shape}"
        )
    whole = unpruned_flops(length, num_layers=attention_length.shape[1], **sizes)
    if whole == 0:
        raise ValueError("relative FLOPs need at least one example and one layer")
    return {
        accounting: total_flops(
            attention_length,
            ffn_length,
            accounting=accounting,
            query_length=None,
            decision=decision,
            **sizes,
        )
        / whole
        for accounting in ACCOUNTINGS
    }


INT8_BITS, FLOAT_BITS = 8, 16
"""Of both factors of a product: in an INT8 map, and in all others, which count as the paper's FP16."""


def relative_bops(
    length: Num[np.ndarray, " examples"],
    attention_length: Num[np.ndarray, "examples layers"],
    ffn_length: Num[np.ndarray, "examples layers"],
    *,
    hidden: int,
    intermediate: int,
    ffn_maps: int = 2,
    decision: DecisionCost = NO_COST,
) -> float:
    """Bit operations with the linear maps in INT8, as a fraction of the unpruned model's in FP16.

    Bit operations are MACs times the bits of both factors (the paper's Figure 7), in its accounting of
    MACs: 8 × 8 in the linear maps of a layer, 16 × 16 in attention's own two products and in what a
    method computes to decide.

    Differs from the paper: it counts attention's products in 8 bits too.

    Raises:
        ValueError: There is no example, or the shapes do not fit.

    Example:
        >>> length, whole = np.array([8]), np.array([[8]])
        >>> relative_bops(length, whole, whole, hidden=4, intermediate=16)
        0.4375
    """
    size = {"hidden": hidden, "intermediate": intermediate, "ffn_maps": ffn_maps}
    shared = relative_flops(length, attention_length, ffn_length, decision=decision, **size)
    ffn = float(ffn_maps * hidden * intermediate)
    maps = attention_length * (4.0 * hidden**2) + ffn_length * ffn
    whole = unpruned_flops(length, num_layers=attention_length.shape[1], **size)
    saved = 1 - (INT8_BITS / FLOAT_BITS) ** 2
    return float(shared["paper"] - saved * FLOPS_PER_MAC * maps.sum() / whole)
