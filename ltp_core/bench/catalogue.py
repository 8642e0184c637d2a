"""Who takes part in a benchmark: names, meanings, and what each computes on. Torch-free.

`ltp_core.bench.contenders` has a function for each that builds it. A new contender is an entry here
and a function there.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Literal

Blanks = Literal["none", "input", "survivors", "attention"]
LastLayer = Literal["all", "first"]
Precision = Literal["settings", "int8", "bfloat16"]

BASELINE = "hugging_face"
"""What `relative_throughput` is relative to, as in Figure 6."""

CONTROL = "packed_unpruned"
"""What `speedup` is relative to: padding is gone, nothing is pruned."""


METHOD = "packed"
"""The checkpoint as it is meant to run."""

CEILING = ("products_unpruned", "products")
"""Their ratio is the speedup that the matrix products alone allow."""


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One way to run a batch.

    Attributes:
        name: Name on the command line and in files.
        title: Name on screen.
        meaning: What it is, in a sentence.
        blanks: Padding that is computed on: none, up to the longest input of the batch, up to its
            longest survivor in each layer, or up to that in the products of attention only.
        is_pruned: The checkpoint's method is at work.
        last_layer: Tokens that the last layer finishes: all that stay, or only the first, which is
            all that the head reads.
        is_model: It answers; otherwise it only does the matrix products of one that would.
        is_sorted: Its batches are sorted by length; otherwise they are shuffled.
        precision: Type of weights and matrix products: as set for the benchmark, or its own.
        control: Who does the same with nothing pruned, in the same precision; None where there is
            nobody.
        is_default: Takes part unless other contenders are named.
        packages: What must be installed.
    """

    name: str
    title: str
    meaning: str
    blanks: Blanks
    is_pruned: bool = False
    last_layer: LastLayer = "all"
    is_model: bool = True
    is_sorted: bool = False
    precision: Precision = "settings"
    control: str | None = CONTROL
    is_default: bool = True
    packages: tuple[str, ...] = ()


_ONNX = ("onnxruntime", "onnx")

_ALL = (
    Contender(
        name=METHOD,
        title="packed",
        meaning="packed runner, tokens really removed",
        blanks="none",
        is_pruned=True,
    ),
    Contender(
        name=CONTROL,
        title="packed, unpruned",
        meaning="packed runner, nothing pruned: padding removed only (control)",
        blanks="none",
    ),
    Contender(
        name="packed_first",
        title="packed, short last layer",
        meaning="packed runner whose last layer computes only the token that the head reads",
        blanks="none",
        is_pruned=True,
        last_layer="first",
        control="packed_unpruned_first",
        is_default=False,
    ),
    Contender(
        name="packed_unpruned_first",
        title="packed, unpruned, short last layer",
        meaning="the same with nothing pruned (its control)",
        blanks="none",
        last_layer="first",
        is_default=False,
    ),
    Contender(
        name="packed_bfloat16",
        title="packed, bfloat16",
        meaning="packed runner in bfloat16, scores in float32, whose last layer computes only the token "
        "that the head reads",
        blanks="none",
        is_pruned=True,
        last_layer="first",
        precision="bfloat16",
        control="packed_unpruned_bfloat16",
        is_default=False,
    ),
    Contender(
        name="packed_unpruned_bfloat16",
        title="packed, unpruned, bfloat16",
        meaning="the same with nothing pruned (its control)",
        blanks="none",
        last_layer="first",
        precision="bfloat16",
        control=None,
        is_default=False,
    ),
    Contender(
        name="repadded",
        title="re-padded",
        meaning="tokens removed, then padded to the batch's longest survivor (the paper's CPU way)",
        blanks="survivors",
        is_pruned=True,
    ),
    Contender(
        name="masked",
        title="masked",
        meaning="masked runner: pruned tokens are computed anyway",
        blanks="input",
        is_pruned=True,
    ),
    Contender(
        name=BASELINE,
        title="Hugging Face",
        meaning="Hugging Face, unpruned, default attention (SDPA), shuffled, padded per batch",
        blanks="input",
    ),
    Contender(
        name="hugging_face_sorted",
        title="Hugging Face, sorted",
        meaning="the same with batches sorted by length",
        blanks="input",
        is_sorted=True,
    ),
    Contender(
        name="hugging_face_eager",
        title="Hugging Face, eager",
        meaning="Hugging Face, unpruned, eager attention, shuffled",
        blanks="input",
        is_default=False,
    ),
    Contender(
        name="hugging_face_bfloat16_sorted",
        title="Hugging Face, bfloat16, sorted",
        meaning="Hugging Face, unpruned, SDPA, in bfloat16, batches sorted by length",
        blanks="input",
        is_sorted=True,
        precision="bfloat16",
        control=None,
        is_default=False,
    ),
    Contender(
        name="onnx",
        title="ONNX Runtime",
        meaning="ONNX Runtime, unpruned, float32, shuffled",
        blanks="input",
        is_default=False,
        packages=_ONNX,
    ),
    Contender(
        name="onnx_sorted",
        title="ONNX Runtime, sorted",
        meaning="ONNX Runtime, unpruned, float32, batches sorted by length",
        blanks="input",
        is_sorted=True,
        is_default=False,
        packages=_ONNX,
    ),
    Contender(
        name="onnx_int8_sorted",
        title="ONNX Runtime int8, sorted",
        meaning="ONNX Runtime, unpruned, dynamically quantised to int8, batches sorted by length",
        blanks="input",
        is_sorted=True,
        precision="int8",
        control=None,
        is_default=False,
        packages=_ONNX,
    ),
    Contender(
        name="onnx_pruned",
        title="ONNX file, pruned",
        meaning="the exported file in ONNX Runtime, tokens really removed in it, float32, shuffled",
        blanks="attention",
        is_pruned=True,
        last_layer="first",
        control="onnx",
        is_default=False,
        packages=_ONNX,
    ),
    Contender(
        name="onnx_pruned_sorted",
        title="ONNX file, pruned, sorted",
        meaning="the same with batches sorted by length",
        blanks="attention",
        is_pruned=True,
        last_layer="first",
        is_sorted=True,
        control="onnx_sorted",
        is_default=False,
        packages=_ONNX,
    ),
    Contender(
        name="onnx_pruned_int8_sorted",
        title="ONNX file, pruned, int8, sorted",
        meaning="the same file dynamically quantised to int8 by ONNX Runtime, batches sorted",
        blanks="attention",
        is_pruned=True,
        last_layer="first",
        is_sorted=True,
        precision="int8",
        control="onnx_int8_sorted",
        is_default=False,
        packages=_ONNX,
    ),
    Contender(
        name="products",
        title="matrix products alone",
        meaning="nothing but the matrix products that the packed runner executes: a ceiling for it",
        blanks="none",
        is_pruned=True,
        is_model=False,
        is_default=False,
    ),
    Contender(
        name="products_unpruned",
        title="matrix products alone, unpruned",
        meaning="the same with nothing pruned",
        blanks="none",
        is_model=False,
        is_default=False,
    ),
)

CONTENDERS: dict[str, Contender] = {contender.name: contender for contender in _ALL}


def missing_package(contender: Contender) -> str | None:
    """A package that the contender needs and that is not installed; None where all are."""
    absent = (name for name in contender.packages if importlib.util.find_spec(name) is None)
    return next(absent, None)


def can_run(contender: Contender, device: str, dtype: str) -> bool:
    """Whether it is measured there.

    Args:
        contender: Who.
        device: Kind of device, as `cpu`.
        dtype: Type of the weights, as `float32`; ONNX Runtime takes nothing else, and only the CPU.
    """
    return contender.packages != _ONNX or (device, dtype) == ("cpu", "float32")


def default_contenders() -> tuple[str, ...]:
    """Those that take part unless others are named."""
    return tuple(contender.name for contender in _ALL if contender.is_default)


def available_contenders() -> tuple[str, ...]:
    """Those whose packages are installed."""
    return tuple(c.name for c in _ALL if missing_package(c) is None)
