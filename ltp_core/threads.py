"""Processor threads that fit the machine: chosen before torch is imported.

PyTorch takes all cores and lets the threads of one operation wait for each other at full speed. Where
something else runs too, a thread that has lost its core holds up all others, hundreds of times a pass:
with one busy core of two, a pass takes tens of times as long. So threads are taken only for cores that
are free, and a thread that waits goes to sleep after some microseconds. On a quiet machine neither
costs anything that can be measured.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from ltp_core.environment import available_cores
from ltp_core.records import UserError

VARIABLE = "LTP_THREADS"

CHOSEN = "LTP_CHOSEN_THREADS"
"""Marks what was chosen here, so that a command started from the app chooses for itself."""

WAITING = {"GOMP_SPINCOUNT": "10000", "KMP_BLOCKTIME": "0"}
"""How long a thread waits before it sleeps, for the OpenMP of GNU (in turns) and of LLVM (in ms).

On two quiet cores 10,000 turns cost nothing; sleeping at once (`OMP_WAIT_POLICY=PASSIVE`) costs 35 %.
"""

GIVEN = "OMP_NUM_THREADS says so"
"""Reason of a number that a person gave and nothing here chose."""

LOOKS, LOOK_S = 5, 0.002


@dataclass(frozen=True, kw_only=True)
class Threads:
    """What was chosen.

    Attributes:
        number: Processor threads.
        reason: Why so many, for people.
    """

    number: int
    reason: str


def fit_threads() -> Threads:
    """Chooses the number of threads and sets it for torch, imported or not.

    Raises:
        UserError: `LTP_THREADS` is no number from 1 to the cores of the machine.
    """
    chosen = choose_threads()
    for name, value in WAITING.items():
        os.environ.setdefault(name, value)
    # A number that a person gave stays unmarked, so that it holds for every later command as well.
    if chosen.reason != GIVEN:
        os.environ["OMP_NUM_THREADS"] = os.environ[CHOSEN] = str(chosen.number)
    if "torch" in sys.modules:
        import torch

        torch.set_num_threads(chosen.number)
    return chosen


def choose_threads() -> Threads:
    """`LTP_THREADS` or `OMP_NUM_THREADS` where given, else a thread for each free core.

    Raises:
        UserError: `LTP_THREADS` is no number from 1 to the cores of the machine.
    """
    cores = available_cores()
    most = max(cores, os.cpu_count() or cores)
    if given := os.environ.get(VARIABLE, ""):
        if (number := _number(given, most)) is None:
            raise UserError(
                f"{VARIABLE} is {given[:40]!r}: give a number of threads from 1 to the {most} cores of this "
                "machine."
            )
        return Threads(number=number, reason=f"{VARIABLE} says so")
    given = os.environ.get("OMP_NUM_THREADS", "")
    if (said := _number(given, most)) is not None and os.environ.get(CHOSEN) != given:
        return Threads(number=said, reason=GIVEN)
    others = min(cores, round(busy_cores() * cores / (os.cpu_count() or cores)))
    number = max(1, cores - others)
    if not others:
        return Threads(number=number, reason=f"all {cores} cores are free")
    return Threads(number=number, reason=f"{others} of {cores} cores are busy with something else")


def _number(given: str, most: int) -> int | None:
    """A number of threads up to the cores of the machine; None for anything else."""
    is_number = given.isascii() and given.isdecimal() and len(given) < 7
    return int(given) if is_number and 0 < int(given) <= most else None


def busy_cores() -> float:
    """Cores of the machine that something else keeps busy at this moment.

    Linux says how many threads run or wait for a core, this one included; the median of a few looks
    is taken. Elsewhere the load average of the last minute stands in, where there is one.
    """
    try:
        looks = []
        for _ in range(LOOKS):
            looks.append(_running_threads())
            time.sleep(LOOK_S)
        return max(0.0, statistics.median(looks) - 1)
    except (OSError, ValueError, StopIteration):
        return os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0


def _running_threads() -> int:
    lines = Path("/proc/stat").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith("procs_running")).split()[1])
