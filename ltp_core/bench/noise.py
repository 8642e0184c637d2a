"""Which figures of a benchmark say something: enough rounds, close enough to each other. Torch-free."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

FEWEST_ROUNDS = 3
"""Rounds below which quartiles say nothing about a figure."""

NOISY_FIGURE = 0.25
"""Interquartile range over median of a figure above which nothing is concluded from it."""

TOO_NOISY = "too noisy to say"


def is_too_noisy(line: Mapping[str, Any], figure: str) -> bool:
    """Whether nothing should be concluded from a measured figure.

    It is where it comes from fewer than three rounds, or where its quartiles over the rounds are
    further apart than a quarter of its median. A figure that is absent, or whose rounds or quartiles
    are, says nothing either.

    Args:
        line: One of a document's results.
        figure: Name of a figure with quartiles, as `speedup`.
    """
    keys = ("rounds", figure, f"{figure}_q1", f"{figure}_q3")
    values = [line.get(key) for key in keys]
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in values):
        return True
    rounds, median, q1, q3 = map(float, values)  # type: ignore[arg-type]
    return rounds < FEWEST_ROUNDS or not q3 - q1 <= NOISY_FIGURE * median
