"""A variant's figures from the times of all: its speed, and its ratios to the others. Torch-free."""

from __future__ import annotations

import numpy as np

from ltp_core.bench.measure import spread
from ltp_core.bench.variants import (
    BASELINE,
    CEILING,
    CONTROL,
    METHOD,
    SHUFFLED,
    Variant,
    own_control,
)

_RATIOS = (
    ("relative_to_sorted", BASELINE),
    ("relative_throughput", SHUFFLED),
    ("speedup", CONTROL),
)


def figures(
    variant: Variant,
    name: str,
    taken: dict[str, list[float]],
    flops: dict[str, list[float]],
    sequences: int,
) -> dict[str, float]:
    """A variant's speed, and its ratios to baseline and controls where these took part.

    Args:
        variant: What it is.
        name: Its name in the results.
        taken: Seconds of each round, by name.
        flops: What was computed in each round, padding included, by name.
        sequences: Sequences of a round.
    """
    own, own_flops = np.array(taken[name]), np.array(flops[name])
    found = {
        **spread("sequences_per_s", sequences / own),
        "flops_per_sequence": float(own_flops.mean() / sequences),
        "flops_per_s": float(np.median(own_flops / own)),
    }
    for ratio, other in _RATIOS:
        if other in taken:
            promised = float(np.median(np.array(flops[other]) / own_flops))
            measured = spread(ratio, np.array(taken[other]) / own)
            found |= {**measured, f"theoretical_{ratio}": promised}
    control = own_control(variant, taken)
    if control is not None:
        realised = np.array(taken[control]) / own / (np.array(flops[control]) / own_flops)
        found |= spread("realised_share", realised)
    if name == METHOD and {CONTROL, *CEILING} <= set(taken):
        whole, pruned = (np.array(taken[each]) for each in CEILING)
        ceiling = whole / pruned
        found |= spread("ceiling_speedup", ceiling)
        found |= spread("ceiling_share", np.array(taken[CONTROL]) / own / ceiling)
    return found
