"""Which library multiplies a layer's linear maps: a rule by type and processor, found by measurement.

24 maps of a MiniLM, GFLOP/s by rows, each library from weights in its own layout, "plain" PyTorch's
`linear`; the two older ones on two cores by the clock, Ice Lake on one core by the least processor time
of up to 60 rounds, twice, since that machine had other work. With AMX oneDNN is as fast as MKL in float32 up
to a few maps and no faster beyond:

    rows                                  8    28    64   128   384  1,024
    AMD EPYC (AVX-512), MKL              44    95   137   159   192    209
    the same, oneDNN                     68   176   316   392   441    471
    Intel Xeon with AMX, MKL              –   190     –     –     –    320
    Intel Xeon (Ice Lake), plain         21    61    95   106   131    145
    the same, MKL                        32    73   121   145   145    151
    the same, oneDNN                     26    59    89   111   132    136
    the same, bfloat16 plain             17    26    29    30    32     33
    the same, bfloat16 oneDNN            12    21    29    30    32     33

Ice Lake has no products in bfloat16: they are emulated, by oneDNN in both rows.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import Any, Literal

import torch
from torch import Tensor

from ltp_core.environment import is_intels
from ltp_core.native_build import is_switched_off

Engine = Literal["plain", "mkl", "onednn"]
"""Who multiplies: PyTorch's own choice, or a library from weights in its own layout."""


def fastest_engine(weight: Tensor) -> Engine:
    """The fastest for weights of this type on this processor.

    MKL takes a slow path on processors that Intel did not make, so there oneDNN has float32 too; where
    there is no MKL, as on ARM, nothing was measured, and PyTorch chooses. The packing operators are no public interface; they are what `torch.compile` uses for frozen weights.
    """
    if weight.device.type != "cpu":
        return "plain"
    if weight.dtype == torch.bfloat16:
        return "onednn" if _has_onednn_bfloat16() else "plain"
    if weight.dtype != torch.float32:
        return "plain"
    if not _has_mkl_packing():
        return "plain"
    return "onednn" if not _is_intels() and _has_onednn() else "mkl"


def attends_without_blanks(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether attention of states of this type runs in `triton_attention` there, else in PyTorch.

    Triton comes with PyTorch for CUDA, and compiles for GPUs from Ampere on; `LTP_NATIVE=0` does
    without.
    """
    if device.type != "cuda" or dtype.itemsize > 4 or is_switched_off():
        return False
    is_there = importlib.util.find_spec("triton") is not None
    return is_there and torch.cuda.get_device_capability(device) >= (8, 0)


_is_intels = functools.cache(is_intels)


def _has_mkl_packing() -> bool:
    has_mkl: bool = torch.backends.mkl.is_available()  # type: ignore[no-untyped-call]
    return has_mkl and hasattr(torch.ops.mkl, "_mkl_linear")


def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(  # type: ignore[no-untyped-call]
        torch.ops.mkldnn, "_reorder_linear_weight"
    )


def _has_onednn_bfloat16() -> bool:
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


@functools.cache
def has_onednn_int8() -> bool:
    """Whether oneDNN's products of whole numbers are exact here.

    Tried with the largest numbers that there are: on a processor without VNNI sums of two products may
    be cut off at 16 bits.
    """
    if not (_has_onednn() and hasattr(torch.ops.onednn, "qlinear_pointwise")):
        return False
    inner, one = 64, torch.ones(1)
    packed = torch.ops.onednn.qlinear_prepack(torch.full((1, inner), 127, dtype=torch.int8), None)
    rows, zero = torch.full((1, inner), 255, dtype=torch.uint8), torch.zeros(1, dtype=torch.int32)
    arguments: Any = (rows, 1.0, 0, packed, one, zero, None, 1.0, 0, torch.float32, "none", [], "")
    product = torch.ops.onednn.qlinear_pointwise.default(*arguments)
    return float(product) == inner * 127 * 255
