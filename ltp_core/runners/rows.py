"""Maps that work token by token, on some tokens of a padded batch alone."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from ltp_core.encoder.model import EncoderLayer

ROWS = 64
"""Of what the number of computed rows is a multiple, so that products come in few shapes.

Under autocast oneDNN generates code for every new shape, 1 to 20 ms each, and forgets the oldest of
1,024. And freed memory is used again by tensors of the same size only: training MPNet with sizes of its
own in every step grew from 5 to 18 GB.
"""


def on_tokens(
    function: Callable[..., Tensor],
    chosen: Bool[Tensor, "batch seq"],
    *states: Float[Tensor, "batch seq hidden"],
) -> Float[Tensor, "batch seq outer"]:
    """What a map gives for the chosen tokens, with gradients; 0 for the others.

    Args:
        function: From rows of `states` to rows, each by itself.
        chosen: Tokens to compute.
        states: One or more, of the same tokens.
    """
    cells = chosen.flatten().nonzero()[:, 0]
    # Rounded up with the first cell again, whose products are cut off.
    padded = functional.pad(cells, (0, -len(cells) % ROWS))
    rows = function(*(each.flatten(0, 1).index_select(0, padded) for each in states))
    blank = rows.new_zeros(chosen.numel(), rows.shape[1])
    return blank.index_copy(0, cells, rows[: len(cells)]).view(*chosen.shape, -1)


def project_tokens(
    layer: EncoderLayer,
    chosen: Bool[Tensor, "batch seq"],
    hidden: Float[Tensor, "batch seq hidden"],
) -> tuple[Tensor, ...]:
    """Query (scaled), key and value of the chosen tokens; 0 for the others."""
    projected = on_tokens(lambda rows: torch.cat(layer.project(rows), dim=-1), chosen, hidden)
    return projected.chunk(3, dim=-1)
