"""How long one sequence takes on this machine, pruned and unpruned; module level is torch-free."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import streamlit as st

from app.ltp_ui.shared import live
from app.ltp_ui.shared.live import Question
from ltp_core.records import WhatIf

WARM_UP = 2
"""Pairs of passes that are not counted: the first ones allocate and choose kernels."""

FEWEST, MOST = 5, 15
BUDGET_S = 0.6
MAX_KNOWN = 256
WIDEST = 1.5
"""Quotient of the quartiles from which on the ratio says nothing."""


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Forward passes of one sequence on this machine, packed runner.

    Attributes:
        pruned_ms: With the pruning that is shown; what is kept or dropped by hand is left out.
        unpruned_ms: Same weights, nothing pruned; each taken right after its pruned pass.
    """

    pruned_ms: tuple[float, ...]
    unpruned_ms: tuple[float, ...]

    @property
    def speedups(self) -> tuple[float, float, float]:
        """First quartile, median and third quartile of unpruned to pruned time, pass by pass."""
        ratios = np.array(self.unpruned_ms) / np.array(self.pruned_ms)
        low, median, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        return float(low), float(median), float(high)

    @property
    def is_noisy(self) -> bool:
        """The passes differ too much among themselves for a ratio to mean something."""
        low, _, high = self.speedups
        return high > WIDEST * low

    @property
    def medians_ms(self) -> tuple[float, float]:
        """Median of the pruned and of the unpruned passes."""
        return statistics.median(self.pruned_ms), statistics.median(self.unpruned_ms)


def known(question: Question, what_if: WhatIf) -> Latency | None:
    """What `measure` has measured already."""
    return _measured().get(_key(question, what_if))


def forget(question: Question, what_if: WhatIf) -> None:
    """Lets `measure` measure again."""
    _measured().pop(_key(question, what_if), None)


def measure(question: Question, what_if: WhatIf) -> Iterator[int]:
    """Times pruned and unpruned passes in turn, within about `BUDGET_S`; `known` has them at the end.

    Yields:
        The number of pairs taken, after each, so that the caller can do or stop for something else.
    """
    from ltp_core.pruning import Unpruned

    model, inputs = live.load(question.checkpoint), live.inputs(question)
    method = live.changed_method(model.method, what_if)
    unpruned = Unpruned.control_of(model.method)

    taken: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    for pair in range(1 - WARM_UP, MOST + 1):
        for times, each in zip(taken, (method, unpruned), strict=True):
            begin = time.perf_counter()
            model.packed(inputs, each)
            if pair > 0:
                times.append(1_000 * (time.perf_counter() - begin))
        yield max(0, pair)
        if pair >= FEWEST and time.perf_counter() - started > BUDGET_S:
            break
    if len(_measured()) >= MAX_KNOWN:
        _measured().clear()
    pruned_ms, unpruned_ms = map(tuple, taken)
    _measured()[_key(question, what_if)] = Latency(pruned_ms=pruned_ms, unpruned_ms=unpruned_ms)


def _key(question: Question, what_if: WhatIf) -> tuple[Any, ...]:
    return question, what_if.thresholds, what_if.scale


@st.cache_resource(show_spinner=False)
def _measured() -> dict[tuple[Any, ...], Latency]:
    return {}
