"""What `cpp/encoder.cpp` is told, field by field, and weights as it wants them: in panels."""

from __future__ import annotations

import ctypes

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

Pointer, Int32, Int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64


class MapFields(ctypes.Structure):
    """A linear map."""

    _fields_ = (("panels", Pointer), ("bias", Pointer), ("inner", Int64), ("outer", Int64))


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
        ("is_bfloat16", Int32),
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


def in_panels(
    weight: Float[Tensor, "outer inner"], dtype: torch.dtype, width: int
) -> Float[Tensor, "panel depth column"]:
    """Weights in panels of some outputs, the inputs one after another in each.

    Outputs beyond the last are zeros. In bfloat16 two inputs stand together, so that a column is a
    pair, and an odd number of inputs has one more, of zeros.

    Args:
        weight: A linear map's.
        dtype: float32 or bfloat16.
        width: Outputs of a panel.
    """
    outer, inner = weight.shape
    pair = 2 if dtype == torch.bfloat16 else 1
    padded = functional.pad(weight.detach().to(dtype), (0, -inner % pair, 0, -outer % width))
    split = padded.view(-1, width, padded.shape[1] // pair, pair)
    return split.transpose(1, 2).reshape(len(split), -1, width * pair)
