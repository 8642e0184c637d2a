"""How long one sequence takes on this machine, pruned and unpruned; module level is torch-free."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import streamlit as st

from app.ltp_ui.shared import live
from app.ltp_ui.shared.live import Question, WhatIf

REPEATS = 7
BUDGET_S = 0.6
MAX_KNOWN = 256


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Medians of one sequence's forward pass on this machine, packed runner.

    Attributes:
        pruned_ms: With the pruning that is shown; what is kept or dropped by hand is left out.
        unpruned_ms: Same weights, nothing pruned.
        repeats: Passes behind each median, taken in turn.
    """

    pruned_ms: float
    unpruned_ms: float
    repeats: int


def known(question: Question, what_if: WhatIf) -> Latency | None:
    """What `measure` has measured already."""
    return _measured().get(_key(question, what_if))


def measure(question: Question, what_if: WhatIf) -> Latency:
    """Times pruned and unpruned passes in turn, within about `BUDGET_S`."""
    key, measured = _key(question, what_if), _measured()
    if key not in measured:
        if len(measured) >= MAX_KNOWN:
            measured.clear()
        measured[key] = _time(question, what_if)
    return measured[key]


def _key(question: Question, what_if: WhatIf) -> tuple[Any, ...]:
    return question, what_if.thresholds, what_if.scale, live.stamp(question.checkpoint)


@st.cache_resource(show_spinner=False)
def _measured() -> dict[tuple[Any, ...], Latency]:
    return {}


def _time(question: Question, what_if: WhatIf) -> Latency:
    from ltp_core.pruning import ThresholdMethod, Unpruned

    model, inputs = live.load(question.checkpoint), live.inputs(question)
    method = live.scaled_method(model.method, what_if.scale)
    if what_if.thresholds is not None and isinstance(method, ThresholdMethod):
        method = method.with_thresholds(list(what_if.thresholds))
    unpruned = Unpruned.control_of(model.method)
    return _in_turn(lambda: model.packed(inputs, method), lambda: model.packed(inputs, unpruned))


def _in_turn(pruned: Callable[[], Any], unpruned: Callable[[], Any]) -> Latency:
    pruned(), unpruned()
    taken: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    while len(taken[0]) < REPEATS and time.perf_counter() - started < BUDGET_S:
        for times, run in zip(taken, (pruned, unpruned), strict=True):
            begin = time.perf_counter()
            run()
            times.append(1_000 * (time.perf_counter() - begin))
    return Latency(
        pruned_ms=statistics.median(taken[0]),
        unpruned_ms=statistics.median(taken[1]),
        repeats=len(taken[0]),
    )
