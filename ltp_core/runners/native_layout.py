"""What `cpp/encoder.cpp` is told, field by field, and weights as it wants them: in panels."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float, Int8, Num
from torch import Tensor
from torch.nn import functional

from ltp_core.encoder.int8 import to_integers, weight_scales

Pointer, Int32, Int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class MapFields(ctypes.Structure):
    """A linear map."""

    _fields_ = (
        *((name, Pointer) for name in ("panels", "bias", "steps", "totals", "weights")),
        *((name, Int64) for name in ("inner", "outer")),
    )


class NormFields(ctypes.Structure):
    """A layer norm."""

    _fields_ = (("weight", Pointer), ("bias", Pointer))


class LayerFields(ctypes.Structure):
    """A layer's weights, and what decides in it."""

    _fields_ = (
        *((name, MapFields) for name in ("query", "key_value", "output", "inner", "outer")),
        *((name, NormFields) for name in ("attended", "finished")),
        ("direction", Pointer),
        ("threshold", ctypes.c_float),
        ("index", Int32),
    )


class ModelFields(ctypes.Structure):
    """Shape of the encoder, and its layers that run."""

    _fields_ = (
        ("layers", ctypes.POINTER(LayerFields)),
        *((name, Int64) for name in ("num_layers", "hidden", "heads", "intermediate")),
        ("eps", ctypes.c_float),
        ("type", Int32),
        ("by_distance", Pointer),
        ("reach", Int64),
    )


class RuleFields(ctypes.Structure):
    """What is decided, and how much is finished."""

    _fields_ = tuple(
        (name, Int32)
        for name in (
            *("scores", "prunes", "is_ordinary", "is_never_empty"),
            *("finishes_first", "asks_first_alone"),
        )
    )


class BatchFields(ctypes.Structure):
    """A batch's tokens, and where the results go."""

    _fields_ = (
        ("num_sequences", Int64),
        ("num_tokens", Int64),
        *(
            (name, Pointer)
            for name in (
                *("lengths", "hidden", "position", "is_protected", "is_special", "read_at"),
                *("states", "remaining", "entered", "asked", "left"),
                *("score", "attention", "live", "retained"),
            )
        ),
        ("threads", Int32),
    )


TYPES = (torch.float32, torch.bfloat16, torch.int8)
"""Of weights, by the number that stands for each."""

TOGETHER = {torch.float32: 1, torch.bfloat16: 2, torch.int8: 4}
"""Inputs that the processor multiplies at once."""


def in_panels(weight: Num[Tensor, "outer inner"], width: int) -> Num[Tensor, "panel depth column"]:
    """Weights in panels of some outputs, the inputs one after another in each.

    Outputs beyond the last are zeros. In bfloat16 two inputs stand together and in int8 four, so that
    a column is a pair or four; where inputs are missing for that, there are zeros.

    Args:
        weight: A linear map's, of one of the `TYPES`.
        width: Outputs of a panel.
    """
    outer, inner = weight.shape
    together = TOGETHER[weight.dtype]
    padded = functional.pad(weight, (0, -inner % together, 0, -outer % width))
    split = padded.view(-1, width, padded.shape[1] // together, together)
    return split.transpose(1, 2).reshape(len(split), -1, width * together)


def in_steps(
    weight: Float[Tensor, "outer inner"],
) -> tuple[Int8[Tensor, "outer inner"], Float[Tensor, " outer"], Float[Tensor, " outer"]]:
    """A map's weights in int8, the value of one step of each output, and its weights' sum."""
    steps = weight_scales(weight)
    whole = to_integers(weight, 1 / steps[:, None]).to(torch.int8)
    return whole, steps, whole.sum(dim=1) * steps
