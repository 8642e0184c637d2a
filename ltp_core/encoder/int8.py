"""INT8: static, uniform, symmetric quantisation of a layer's six linear maps (the paper, section 4.6).

A weight row is `s_w q_w` and an input `s_x q_x`, with whole numbers q of eight bits. `s_w` follows from
the row, whose largest number is 127 steps; `s_x` is one number for each map, chosen once on training rows. Embeddings, softmax,
layer norm, GELU, scores, thresholds, attention's own products and the head stay in floating point.

Here whole numbers are computed in floating point, with gradients (Jacob et al., CVPR 2018). The
packed runner computes the same in whole numbers (`runners.linear`).
"""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.encoder.adapter import TARGETS
from ltp_core.encoder.errors import ModelError
from ltp_core.encoder.model import Encoder

LOWEST, HIGHEST = -128, 127
"""Of the whole numbers."""

CLIPS = [0.2 + 0.02 * i for i in range(41)]
"""Shares of the largest input that are tried as the largest whole number's value."""


class Quantized:
    """What `quantize_` puts in front of a map's class: the same parameters, another product."""

    input_scale: float

    def forward(self, rows: Float[Tensor, "... inner"]) -> Float[Tensor, "... outer"]:
        """The product of the nearest whole numbers, scaled."""
        assert isinstance(self, nn.Module)
        weight, bias = _whole_map(self)
        return quantized_product(rows, weight, bias, self.input_scale)


@functools.cache
def _quantized(kind: Any) -> Any:
    return type(f"Quantized{kind.__name__}", (Quantized, kind), {})


def _whole_map(module: nn.Module) -> tuple[Tensor, Tensor | None]:
    """Weight and bias of a map, the low-rank addition in the weight."""
    if isinstance(module, nn.Linear):
        return module.weight, module.bias
    adapted: Any = module  # PEFT's, which is imported where adapters are trained only
    (name,), base = adapted.active_adapters, adapted.get_base_layer()
    return base.weight + adapted.get_delta_weight(name), base.bias


def quantize_(encoder: Encoder, input_scales: Mapping[str, float]) -> None:
    """Makes the maps of the layers INT8 ones; parameters and their names stay.

    Args:
        encoder: Changed in place; with adapters or without.
        input_scales: Value of one step of each map's input, by the map's name.

    Raises:
        ModelError: The scales are not those of this encoder's maps, or not above zero.
    """
    found = dict(_maps(encoder))
    if set(found) != set(input_scales):
        odd = sorted(set(found) ^ set(input_scales))[0]
        raise ModelError(f"The INT8 scales do not fit the encoder: {odd}.")
    for name, module in found.items():
        scale = input_scales[name]
        if not 0 < scale < float("inf"):
            raise ModelError(f"The INT8 scale of {name} is {scale}, which is not above zero.")
        # Nothing is renamed, so weights and adapters save and load as before.
        module.__class__ = _quantized(type(module))  # type: ignore[arg-type]  # a class has a hash
        module.input_scale = scale  # type: ignore[assignment]  # no parameter, a plain number


def floating(encoder: Encoder) -> Encoder:
    """A copy with the same weights, its maps in floating point; the encoder itself if they are so."""
    if input_scales(encoder) is None:
        return encoder
    copied = copy.deepcopy(encoder)
    for _, module in _maps(copied):
        module.__class__ = type(module).__bases__[1]
        del module.input_scale
    return copied


def input_scales(encoder: Encoder) -> dict[str, float] | None:
    """The scales that `quantize_` was given; None for an encoder in floating point."""
    scales = {
        name: module.input_scale for name, module in _maps(encoder) if isinstance(module, Quantized)
    }
    return scales or None


def _maps(encoder: Encoder) -> Iterable[tuple[str, nn.Module]]:
    """The linear maps of the layers by name, or the adapters that hold them."""
    for name, module in encoder.named_modules():
        if re.fullmatch(TARGETS, name):
            yield name, module


def quantized_product(
    rows: Float[Tensor, "... inner"],
    weight: Float[Tensor, "outer inner"],
    bias: Float[Tensor, " outer"] | None,
    input_scale: float,
) -> Float[Tensor, "... outer"]:
    """`s_x s_w (q_x q_w^T) + b`; the gradient passes each rounding as if it were not there.

    Under autocast the product is computed in half the width: whole numbers up to 128 are exact there.
    """
    scales = weight_scales(weight.detach().float())
    product = functional.linear(
        to_integers(rows.float(), 1 / input_scale), to_integers(weight.float(), 1 / scales[:, None])
    )
    scaled = product * (scales * input_scale)
    return scaled if bias is None else scaled + bias


def weight_scales(weight: Float[Tensor, "outer inner"]) -> Float[Tensor, " outer"]:
    """Value of one step in each row: the row's largest number is 127 steps."""
    smallest = torch.finfo(weight.dtype).tiny * HIGHEST
    return weight.abs().amax(dim=1).clamp_min(smallest) / HIGHEST


def to_integers(values: Float[Tensor, "..."], steps: float | Tensor) -> Float[Tensor, "..."]:
    """The nearest whole numbers of `values * steps` that have eight bits, as floating-point numbers."""
    scaled = (values * steps).clamp(LOWEST, HIGHEST)
    return scaled + (scaled.round() - scaled).detach()


class InputRecorder:
    """Collects what enters each map of an encoder in floating point while it is run.

    Args:
        encoder: Its passes inside the `with` block are looked at; none may hold padding.
    """

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._seen: dict[str, list[Tensor]] = {}
        self._handles: list[torch.utils.hooks.RemovableHandle] = []

    def __enter__(self) -> InputRecorder:
        for name, module in _maps(self._encoder):
            seen = self._seen.setdefault(name, [])
            self._handles.append(
                module.register_forward_pre_hook(
                    lambda _, inputs, seen=seen: seen.append(inputs[0].detach().float().flatten())
                )
            )
        return self

    def __exit__(self, *reason: object) -> None:
        for handle in self._handles:
            handle.remove()

    def scales(self) -> dict[str, float]:
        """The value of a step that is nearest to the inputs in the mean square, by map."""
        return {name: _best_scale(torch.cat(seen)) for name, seen in self._seen.items()}


def _best_scale(values: Float[Tensor, " value"]) -> float:
    """Cutting the largest inputs makes all others finer: the share to cut at is tried out."""
    largest = values.abs().max().clamp_min(1e-6)
    steps = [(clip * largest / HIGHEST).item() for clip in CLIPS]
    errors = [(to_integers(values, 1 / s) * s - values).square().mean().item() for s in steps]
    return steps[errors.index(min(errors))]
