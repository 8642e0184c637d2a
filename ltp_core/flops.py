"""Cost of an encoder pass, counted by formula: FLOPs = 2 × MACs (paper section 4.1).

Counted are the matrix products of attention and FFN. Excluded are the embeddings, the head, softmax,
layer normalisation and biases. Lengths are true tokens incl. special ones, never padding. `n_a` tokens
enter the attention of a layer, `n_f` of them stay and enter its FFN.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Num

ACCOUNTINGS = ("paper", "executed")

FLOPS_PER_MAC = 2

Lengths = Any
"""An int, a float, a NumPy array or a torch tensor: the formulas are plain arithmetic."""


def layer_macs(
    attention_length: Lengths,
    ffn_length: Lengths,
    *,
    hidden: int,
    intermediate: int,
    accounting: str,
    query_length: Lengths | None = None,
    reads_states: bool = False,
) -> Lengths:
    """MACs of one layer, in the shape of the lengths.

    `paper`: `4 n_a d² + 2 n_a² d + 2 n_f d f`, the rule of the authors' code: a token that this layer
    drops costs it the full attention and no FFN.
    `executed`: `3 n_a d² + n_a² d + n_f n_a d + n_f d² + 2 n_f d f`, what the packed runner does: a
    dropped token needs no attention output either.

    Floating-point from the first product on, so small integer types do not overflow; gradients reach
    soft lengths.

    Args:
        attention_length: Tokens that enter the attention (n_a).
        ffn_length: Tokens that enter the FFN (n_f).
        hidden: Width of the hidden states (d).
        intermediate: Inner width of the FFN (f).
        accounting: One of `ACCOUNTINGS`.
        query_length: Tokens whose queries are computed (n_q), where these are not all that enter;
            only `executed` counts them: `2 n_a d² + n_q d² + n_q n_a d + …`.
        reads_states: The method decides by a product with each token's state after attention:
            `n_q d` more in both, and in `executed` an attention output for all that ask, `n_q n_a d +
            n_q d²` in place of `n_f n_a d + n_f d²`.

    Raises:
        ValueError: The accounting is unknown.

    Example:
        >>> layer_macs(26, 26, hidden=768, intermediate=3072, accounting="paper")
        185063424.0
    """
    n_a, n_f, d = attention_length, ffn_length, float(hidden)
    n_q = n_a if query_length is None else query_length
    # What follows the attention, and what the decision itself takes.
    ffn = n_f * (2 * d * intermediate)
    if reads_states:
        ffn = ffn + n_q * d
    if accounting == "paper":
        return n_a * (4 * d * d) + n_a * (2 * d) * n_a + ffn
    if accounting == "executed":
        n_o = n_q if reads_states else n_f
        projections = n_a * (2 * d * d) + n_q * (d * d)
        return projections + n_q * d * n_a + n_o * d * n_a + n_o * (d * d) + ffn
    raise ValueError(f"accounting is one of {', '.join(ACCOUNTINGS)}, not {accounting!r}")


def total_flops(
    attention_length: Num[np.ndarray, "examples layers"],
    ffn_length: Num[np.ndarray, "examples layers"],
    *,
    hidden: int,
    intermediate: int,
    accounting: str,
    query_length: Num[np.ndarray, "examples layers"] | None = None,
    reads_states: bool = False,
) -> float:
    """FLOPs of all examples through all layers; arguments as for `layer_macs`.

    Raises:
        ValueError: The accounting is unknown.
    """
    macs = layer_macs(
        np.asarray(attention_length, dtype=np.float64),
        np.asarray(ffn_length, dtype=np.float64),
        hidden=hidden,
        intermediate=intermediate,
        accounting=accounting,
        query_length=None if query_length is None else np.asarray(query_length, dtype=np.float64),
        reads_states=reads_states,
    )
    return float(FLOPS_PER_MAC * macs.sum())


def unpruned_flops(
    length: Num[np.ndarray, " examples"], *, num_layers: int, hidden: int, intermediate: int
) -> float:
    """FLOPs of all examples without padding and without pruning; both accountings agree here."""
    n = np.asarray(length, dtype=np.float64)
    macs = layer_macs(n, n, hidden=hidden, intermediate=intermediate, accounting="paper")
    return float(FLOPS_PER_MAC * num_layers * macs.sum())


def relative_flops(
    length: Num[np.ndarray, " examples"],
    attention_length: Num[np.ndarray, "examples layers"],
    ffn_length: Num[np.ndarray, "examples layers"],
    *,
    hidden: int,
    intermediate: int,
    reads_states: bool = False,
) -> dict[str, float]:
    """Fraction of the unpadded unpruned model's FLOPs, by accounting; sums before division.

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
    num_layers = attention_length.shape[1]
    whole = unpruned_flops(length, num_layers=num_layers, hidden=hidden, intermediate=intermediate)
    if whole == 0:
        raise ValueError("relative FLOPs need at least one example and one layer")
    return {
        accounting: total_flops(
            attention_length,
            ffn_length,
            hidden=hidden,
            intermediate=intermediate,
            accounting=accounting,
            reads_states=reads_states,
        )
        / whole
        for accounting in ACCOUNTINGS
    }
