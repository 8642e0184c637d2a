"""Sentences and number formats: every text of the screen that depends on a result.

Layers are counted from 1 here, fractions become percent.
"""

from __future__ import annotations

import math

from ltp_core.records import ScoreKind

WITH_PRUNING = "With pruning"
AS_TRAINED = "As trained"
SAME_WEIGHTS = "Same weights, unpruned"
DENSE = "Dense counterpart"
UNIT = "times uniform attention"
SCORE_UNITS: dict[ScoreKind, str] = {
    "attention": UNIT,
    "factored": "times the mean score",
    "probability": "probability",
}
"""What scores are counted in."""
SCORE_UNIT_HELP = (
    "The score of a token is the attention it receives, averaged over heads and summed over the "
    "live tokens. Attention spread evenly over the live tokens would give every token 1.00. LTP-S multiplies it by a "
    "learned factor, and its unit is the mean over the ordinary tokens."
)
PROBABILITY_HELP = (
    "Before two layers a small network, the policy, gives each token a probability of going on from its state; "
    "with one half or more it does. Elsewhere nothing is decided."
)


def number(value: float) -> str:
    """Two decimals, more for small values, so that a score never reads as 0 unless it is."""
    if value == 0 or not math.isfinite(value):
        return f"{value:.2f}"
    decimals = 2 if abs(value) >= 0.1 else min(6, 1 - math.floor(math.log10(abs(value))))
    return f"{value:.{decimals}f}"


def apart(a: float, b: float) -> tuple[str, str]:
    """Both numbers with as many decimals as it takes to tell them apart."""
    for decimals in range(2, 7):
        texts = f"{a:.{decimals}f}", f"{b:.{decimals}f}"
        if texts[0] != texts[1] or a == b:
            break
    return (number(a), number(b)) if min(a, b) < 0.1 and number(a) != number(b) else texts


def duration(seconds: float, decimals: int = 0) -> str:
    """`42 s`, `17 min`, `3.2 h`; the decimals are those of minutes."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.{decimals}f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def percent(fraction: float, decimals: int = 1) -> str:
    """A fraction as percent, with the space that the unit wants."""
    return f"{100 * fraction:.{decimals}f} %"


def points(difference: float) -> str:
    """A difference of fractions in signed percentage points; no sign where it rounds to 0."""
    value = round(100 * difference, 1)
    return f"{value:+.1f} points".replace("-", "−") if value else "0.0 points"


def margin(fraction: float) -> str:
    """A signed distance in percent, with as many decimals as keep it from reading as 0."""
    decimals = 1 if abs(fraction) >= 0.0005 else 2 if abs(fraction) >= 0.00005 else 4
    return f"{100 * fraction:+.{decimals}f} %".replace("-", "−")


def counted(count: int, noun: str) -> str:
    """`1 token`, `2 tokens`, `1,000 tokens`."""
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
