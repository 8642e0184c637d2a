"""The matrix products of a packed pass and nothing else: a ceiling for any program around them.

No embedding, softmax, normalisation, activation, selection or gathering. At small batches a product
with half the rows takes more than half the time; how much more is the machine's doing, not a
runner's, and stands here.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from ltp_core.bench.workload import LayerLengths
from ltp_core.encoder.model import Encoder, EncoderLayer
from ltp_core.runners.linear import LinearMap

LENGTH_SPREAD = 0.25
"""Longest minus shortest sequence of attention products done at once, as a fraction of the longest."""

MOST_AT_ONCE = 16


class MatrixProducts:
    """Products in the shapes that given lengths ask for, on numbers that mean nothing.

    Args:
        encoder: Whose weights and sizes.
    """

    def __init__(self, encoder: Encoder) -> None:
        config = encoder.config
        self._num_heads, self._head_size = config.num_heads, config.head_size
        self._layers = [_linear_maps(layer) for layer in encoder.layers]
        self._like = encoder.embeddings.word_embeddings.weight
        self._rows = self._numbers(0, config.hidden_size)
        self._inner = self._numbers(0, config.intermediate_size)

    @torch.inference_mode()
    def __call__(self, lengths: LayerLengths) -> None:
        """All products of a batch.

        Args:
            lengths: Of its sequences, without padding.
        """
        self._reserve(int(lengths.attention.max(axis=1).sum()))
        for index, (projection, output, intermediate, back) in enumerate(self._layers):
            entering, staying = lengths.attention[:, index], lengths.ffn[:, index]
            answered = lengths.output[:, index]
            if not entering.any():
                continue
            kept = int(staying.sum())
            projected = projection(self._rows[: int(entering.sum())])
            for group in _groups(entering):
                self._attend(projected, entering[group], answered[group])
            output(self._rows[: int(answered.sum())])
            intermediate(self._rows[:kept])
            back(self._inner[:kept])

    def _attend(
        self,
        projected: Tensor,
        entering: Int[np.ndarray, " group"],
        answered: Int[np.ndarray, " group"],
    ) -> None:
        count, width, kept = len(entering), int(entering.max()), int(answered.max())
        shape = (count, self._num_heads, width, self._head_size)
        size = count * self._num_heads * width * self._head_size
        flat = projected.view(-1)
        query, key, value = (_cut(flat, size * i, size).view(shape) for i in range(3))
        logits = query @ key.transpose(-1, -2)
        torch.matmul(logits[:, :, :kept], value)

    def _reserve(self, rows: int) -> None:
        if rows > len(self._rows):
            self._rows = self._numbers(rows, self._rows.shape[1])
            self._inner = self._numbers(rows, self._inner.shape[1])

    def _numbers(self, rows: int, width: int) -> Tensor:
        # Neither zeros nor denormals, which some processors take another time for.
        return torch.full((rows, width), 0.01, dtype=self._like.dtype, device=self._like.device)


def _linear_maps(layer: EncoderLayer) -> tuple[LinearMap, LinearMap, LinearMap, LinearMap]:
    """Query, key and value in one, as the packed runner has them; output; up; down."""
    dense = (layer.attention.output.dense, layer.intermediate.dense, layer.output.dense)
    output, up, down = (LinearMap(each.weight, each.bias) for each in dense)
    return LinearMap(*layer.scaled_projection()), output, up, down


def _cut(flat: Tensor, start: int, size: int) -> Tensor:
    """`size` numbers from about `start`; padding may ask for more than there are."""
    if start + size <= len(flat):
        return flat[start : start + size]
    return flat[:size] if size <= len(flat) else flat.repeat(-(-size // len(flat)))[:size]


def _groups(length: Int[np.ndarray, " sequences"]) -> Iterator[Int[np.ndarray, " group"]]:
    """Sequences of about equal length, longest first; those of no length are left out."""
    order = np.argsort(-length, kind="stable")
    order = order[length[order] > 0]
    begin = 0
    for end in range(1, len(order) + 1):
        is_full = end - begin == MOST_AT_ONCE
        longest = length[order[begin]]
        if end == len(order) or is_full or length[order[end]] < (1 - LENGTH_SPREAD) * longest:
            yield order[begin:end]
            begin = end
