"""Timing that can be trusted: variants take turns, and the machine's own unrest is measured too.

In each round every variant runs once over the same sequences, in an order that rotates, so that a
machine whose speed drifts slows all of them alike. Ratios are taken within a round. A fixed matrix
product, timed in between, says how much identical work varies.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ltp_core.environment import BUSY_LOAD, load_average

NOISY_SPREAD = 0.10
"""Interquartile range over median of identical work above which a machine is called noisy."""

FEWEST_PROBES = 5
"""Times that identical work is run before anything else."""

Report = Callable[[str, dict[str, Any]], None]
"""Takes the name of an event and its fields."""

Turn = Callable[[int], Any]
"""Runs a variant's work of the round with this number."""


def spread(name: str, values: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Median and quartiles under `name`, `name_q1` and `name_q3`."""
    q1, median, q3 = np.quantile(np.asarray(values, dtype=np.float64), [0.25, 0.5, 0.75])
    return {name: float(median), f"{name}_q1": float(q1), f"{name}_q3": float(q3)}


def seconds_of(work: Callable[[], Any], device: torch.device) -> float:
    """Wall-clock time of a piece of work, until the device has finished it."""
    synchronise(device)
    began = time.perf_counter()
    work()
    synchronise(device)
    return time.perf_counter() - began


def synchronise(device: torch.device) -> None:
    """Waits for the device."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


@contextmanager
def using_threads(number: int | None) -> Iterator[None]:
    """PyTorch on that many threads; None leaves its choice."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def take_turns(
    turns: dict[str, Turn],
    rounds: int,
    device: torch.device,
    *,
    until: float | None,
    on_turn: Callable[[str, float], None],
    between: Callable[[], None],
) -> dict[str, list[float]]:
    """Seconds of every variant in every complete round.

    Args:
        turns: By variant.
        rounds: Rounds at most.
        device: Where they run.
        until: Time of `time.monotonic` after which no further round begins; the first always does.
        on_turn: Told the variant and its seconds after each turn.
        between: Called before each round.
    """
    names = list(turns)
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds):
        if number and until is not None and time.monotonic() > until:
            break
        between()
        first = number % len(names)
        for name in names[first:] + names[:first]:
            taken = seconds_of(lambda name=name, number=number: turns[name](number), device)  # type: ignore[misc]
            seconds[name].append(taken)
            on_turn(name, taken)
    return seconds


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How restless the machine was.

    Attributes:
        identical_work_spread: Interquartile range over median of the same matrix product; a
            fraction.
        repeats: Times that it was run.
        load_average: Of the last minute, per core, at the beginning; None where unknown.
        matmul_flops_per_s: Its rate: what the machine can do at best in this shape.
    """

    identical_work_spread: float
    repeats: int
    load_average: float | None
    matmul_flops_per_s: float

    @property
    def warning(self) -> str | None:
        """Why the figures should not be trusted; None where they may be."""
        if self.identical_work_spread > NOISY_SPREAD:
            return (
                f"identical work varied by {100 * self.identical_work_spread:.0f} % (interquartile "
                "range over median): something else was running, so small differences mean nothing"
            )
        if self.load_average is not None and self.load_average > BUSY_LOAD:
            return (
                f"the load average was {self.load_average:.2f} per core at the beginning: something "
                "else may have been running"
            )
        return None

    def to_json(self) -> dict[str, Any]:
        """Fields and warning."""
        return {
            "identical_work_spread": self.identical_work_spread,
            "repeats": self.repeats,
            "load_average": self.load_average,
            "matmul_flops_per_s": self.matmul_flops_per_s,
            "warning": self.warning,
        }


class Probe:
    """A matrix product in the shape of the encoder's FFN, timed again and again."""

    def __init__(self, hidden: int, intermediate: int, device: torch.device, dtype: torch.dtype):
        rows = 1024 if device.type == "cpu" else 16_384
        generator = torch.Generator().manual_seed(0)
        self._device = device
        self._left = torch.randn(rows, hidden, generator=generator).to(device, dtype)
        self._right = torch.randn(hidden, intermediate, generator=generator).to(device, dtype)
        self._flops = 2 * rows * hidden * intermediate
        self._load_average = load_average()
        self._seconds: list[float] = []
        self._run()
        for _ in range(FEWEST_PROBES):
            self()

    def __call__(self) -> None:
        """Times the product once."""
        self._seconds.append(seconds_of(self._run, self._device))

    @torch.inference_mode()
    def _run(self) -> None:
        torch.mm(self._left, self._right)

    def noise(self) -> Noise:
        """What it has seen so far."""
        taken = spread("s", self._seconds)
        return Noise(
            identical_work_spread=(taken["s_q3"] - taken["s_q1"]) / taken["s"],
            repeats=len(self._seconds),
            load_average=self._load_average,
            matmul_flops_per_s=self._flops / taken["s"],
        )
