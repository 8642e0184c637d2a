"""Ways to run a batch that a benchmark compares, and their names. Torch-free.

A variant is an engine, with pruning or without, in a precision, over sorted or shuffled batches, with
a whole or a short last layer. `VARIANTS` has every combination that some engine can run; its name is
put together from these parts (`onnx_pruned_int8_sorted`) and is what files and the command line call
it. A new engine is an entry of `ENGINES` and a function in `ltp_core.bench.engines`.
"""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Literal

from ltp_core.environment import cpp_compiler
from ltp_core.native_build import multiplies_bfloat16, multiplies_int8, native_state

Padding = Literal["none", "input", "survivors", "attention"]
LastLayer = Literal["all", "first"]
Precision = Literal["settings", "bfloat16", "int8"]

LAST_LAYERS: tuple[LastLayer, ...] = ("all", "first")

BASELINE = "hugging_face_sorted"
"""What `relative_to_sorted` is relative to: what a user has today without any of this."""

SHUFFLED = "hugging_face"
"""What `relative_throughput` is relative to, as in Figure 6."""

CONTROL = "packed_unpruned"
"""What `speedup` is relative to: padding is gone, nothing is pruned."""

METHOD = "packed"
"""The checkpoint as it is meant to run."""

CEILING = ("products_unpruned", "products")
"""Their ratio is the speedup that the matrix products alone allow."""

DEFAULT = (METHOD, CONTROL, "repadded", "masked", SHUFFLED, BASELINE)
"""Take part unless others are named."""


DEFAULT_ON_GPU = (METHOD, CONTROL, BASELINE, "compiled_sorted")
"""The same there: pruned and unpruned without padding, transformers, and transformers compiled."""


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A program that runs the network.

    Attributes:
        title: Name on screen.
        meaning: What it is, in a few words.
        modes: Whether it prunes: False nothing, True the checkpoint's method.
        precisions: Types of weights and matrix products that it is measured in.
        quantised: How it comes to int8, in a few words.
        orders: Whether its batches are sorted by length, in the precision of the settings; in others
            they are sorted wherever that is possible.
        padding: Padding that is computed on, without pruning and with it.
        last_layers: What its last layer can be told to finish.
        is_model: It answers; otherwise it only does the matrix products of one that would.
        packages: What must be installed.
        requirements: File that pins these packages, where `requirements.txt` does not.
    """

    title: str
    meaning: str
    modes: tuple[bool, ...] = (False,)
    precisions: tuple[Precision, ...] = ("settings",)
    quantised: str = ""
    orders: tuple[bool, ...] = (False,)
    padding: tuple[Padding, Padding] = ("input", "input")
    last_layers: tuple[LastLayer, ...] = ("all",)
    is_model: bool = True
    packages: tuple[str, ...] = ()
    requirements: str = "requirements.txt"


ENGINES = {
    "packed": Engine(
        title="packed",
        meaning="packed runner, no padding",
        modes=(True, False),
        precisions=("settings", "bfloat16"),
        padding=("none", "none"),
        last_layers=("all", "first"),
    ),
    "repadded": Engine(
        title="re-padded",
        meaning="tokens removed, then padded to the batch's longest survivor (the paper's CPU way)",
        modes=(True,),
        padding=("survivors", "survivors"),
    ),
    "masked": Engine(
        title="masked",
        meaning="masked runner: pruned tokens are computed anyway",
        modes=(True,),
    ),
    "hugging_face": Engine(
        title="Hugging Face",
        meaning="transformers with its default attention (SDPA), nothing pruned, padded per batch",
        precisions=("settings", "bfloat16"),
        orders=(False, True),
    ),
    "hugging_face_eager": Engine(
        title="Hugging Face, eager",
        meaning="transformers with eager attention, nothing pruned, padded per batch, batches shuffled",
    ),
    "onnx": Engine(
        title="ONNX Runtime",
        meaning="the exported file in ONNX Runtime",
        modes=(False, True),
        precisions=("settings", "int8"),
        quantised="dynamically quantised",
        orders=(False, True),
        padding=("input", "attention"),
        packages=("onnxruntime", "onnx"),
    ),
    "openvino": Engine(
        title="OpenVINO",
        meaning="the exported file in OpenVINO",
        modes=(False, True),
        precisions=("settings", "bfloat16", "int8"),
        quantised="maps quantised statically, scales from training rows",
        orders=(True,),
        padding=("input", "attention"),
        packages=("openvino", "onnx", "onnxruntime"),
        requirements="requirements-openvino.txt",
    ),
    "compiled": Engine(
        title="torch.compile",
        meaning="transformers compiled by torch.compile, nothing pruned, padded per batch",
        precisions=("settings", "bfloat16"),
        orders=(True,),
    ),
    "native": Engine(
        title="native",
        meaning="the packed runner's pass in native code, where that has method and weights (else packed)",
        modes=(True, False),
        precisions=("settings", "bfloat16", "int8"),
        quantised="maps quantised, activations token by token as they come",
        padding=("none", "none"),
        last_layers=("first",),
    ),
    "products": Engine(
        title="matrix products alone",
        meaning="nothing but the matrix products that the packed runner executes: a ceiling for it",
        modes=(True, False),
        padding=("none", "none"),
        is_model=False,
    ),
}


_MODES = {True: "pruned tokens removed", False: "nothing pruned"}
_ORDERS = {True: "batches sorted by length", False: "batches shuffled"}
_PRECISIONS = {"settings": "", "bfloat16": "in bfloat16", "int8": "in int8"}


@dataclass(frozen=True, kw_only=True)
class Variant:
    """One way to run a batch.

    Attributes:
        engine: Name of the engine.
        is_pruned: The checkpoint's method is at work.
        precision: Type of weights and matrix products: as set for the benchmark, or its own.
        is_sorted: Its batches are sorted by length; otherwise they are shuffled.
        last_layer: Tokens that the last layer finishes: all that stay, or only the first, which is
            all that the head reads.
    """

    engine: str
    is_pruned: bool
    precision: Precision = "settings"
    is_sorted: bool = False
    last_layer: LastLayer = "all"

    @property
    def name(self) -> str:
        """Name on the command line and in files."""
        return "_".join([self.engine, *self._marks])

    @property
    def title(self) -> str:
        """Name on screen."""
        marks = ("short last layer" if mark == "first" else mark for mark in self._marks)
        return ", ".join([ENGINES[self.engine].title, *marks])

    @property
    def _marks(self) -> list[str]:
        """What tells it from the engine's plainest variant."""
        engine = ENGINES[self.engine]
        marks = []
        if self.is_pruned != engine.modes[0]:
            marks.append("pruned" if self.is_pruned else "unpruned")
        if self.precision != "settings":
            marks.append(self.precision)
        if self.last_layer == "first" and len(_last_layers(self)) > 1:
            marks.append("first")
        if self.is_sorted:
            marks.append("sorted")
        return marks

    @property
    def meaning(self) -> str:
        """What it is, in a phrase."""
        parts = [
            ENGINES[self.engine].meaning,
            _MODES[self.is_pruned] if len(ENGINES[self.engine].modes) > 1 else "",
            _PRECISIONS[self.precision],
            ENGINES[self.engine].quantised if self.precision == "int8" else "",
            "" if self.last_layer == "all" else "the last layer finishes only the first token",
            _ORDERS[self.is_sorted] if True in ENGINES[self.engine].orders else "",
        ]
        return ", ".join(filter(None, parts))

    @property
    def padding(self) -> Padding:
        """Padding that is computed on.

        None, up to the longest input of the batch, up to its longest survivor in each layer, or up to
        that in the products of attention only.
        """
        return ENGINES[self.engine].padding[self.is_pruned]

    @property
    def is_model(self) -> bool:
        """It answers."""
        return ENGINES[self.engine].is_model


def _last_layers(variant: Variant) -> tuple[LastLayer, ...]:
    """What the last layer may finish in such a variant.

    Exported files, and the packed runner in a precision of its own, take the short one where they
    can.
    """
    if variant.padding == "attention":
        return ("first",)
    choice = ENGINES[variant.engine].last_layers
    return choice if variant.precision == "settings" else choice[-1:]


def _combinations() -> Iterator[Variant]:
    for name, engine in ENGINES.items():
        for precision in engine.precisions:
            for short, is_pruned in itertools.product(LAST_LAYERS, engine.modes):
                for is_sorted in engine.orders if precision == "settings" else engine.orders[-1:]:
                    variant = Variant(
                        engine=name,
                        is_pruned=is_pruned,
                        precision=precision,
                        is_sorted=is_sorted,
                        last_layer=short,
                    )
                    if short in _last_layers(variant):
                        yield variant


VARIANTS: dict[str, Variant] = {variant.name: variant for variant in _combinations()}


def own_control(variant: Variant, taking_part: Collection[str]) -> str | None:
    """Whom the realised share is measured against: the same engine with nothing pruned.

    Precision and order of the batches are the same too; the last layer is, where there is a choice. A
    ratio between two engines would say more about these than about pruning.

    Args:
        variant: What is pruned.
        taking_part: Names of the variants that were measured.
    """
    if not variant.is_pruned:
        return None
    for last_layer in (variant.last_layer, "all"):
        control = replace(variant, is_pruned=False, last_layer=last_layer)
        if control.name in taking_part and control in VARIANTS.values():
            return control.name
    return None


def missing(variant: Variant) -> str | None:
    """What the variant needs and this machine lacks, in a sentence; None where nothing is."""
    engine = ENGINES[variant.engine]
    for name in engine.packages:
        if importlib.util.find_spec(name) is None:
            return f"needs the package {name}: run `pip install -r {engine.requirements}`"
    if variant.engine == "compiled" and not cpp_compiler():
        return "needs a C++ compiler, as g++: install one, or name it in CXX"
    if variant.engine == "native":
        return _missing_native(variant)
    return None


def _missing_native(variant: Variant) -> str | None:
    if not (state := native_state()).is_used:
        return f"needs native code: {state.detail}"
    if variant.precision == "bfloat16" and not multiplies_bfloat16():
        return "needs a processor with AVX-512 in bfloat16 and no AMX: take packed_bfloat16"
    if variant.precision == "int8" and not multiplies_int8():
        return "needs a processor with AVX-512 VNNI"
    return None


def can_run(variant: Variant, device: str, dtype: str) -> bool:
    """Whether it is measured there.

    Args:
        variant: Which.
        device: Kind of device, as `cpu`.
        dtype: Type of the weights, as `float32`; exported files and native code have no other, and
            run on the CPU.
    """
    is_everywhere = not ENGINES[variant.engine].packages and variant.engine != "native"
    return is_everywhere or (device, dtype) == ("cpu", "float32")


def available_variants() -> tuple[str, ...]:
    """Those that can run here: their packages are installed."""
    return tuple(name for name, variant in VARIANTS.items() if missing(variant) is None)
