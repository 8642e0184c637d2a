"""What a command is, and what commands share. Nothing here imports torch at module level."""

from __future__ import annotations

import argparse
import math
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ltp_core.environment import EMULATED, emulates_bfloat16
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel

T = TypeVar("T")

DEVICE_TYPES = ("cpu", "cuda", "mps", "xpu")


@dataclass(frozen=True, kw_only=True)
class Output:
    """What a command found.

    Attributes:
        document: The JSON document of `--json`.
        text: The same for people, without the final line break.
        status: Exit status; 1 where the command ran and found a failure.
    """

    document: Any
    text: str
    status: int = 0


@dataclass(frozen=True, kw_only=True)
class Command:
    """One sub-command.

    Attributes:
        name: What is typed.
        summary: One line for the list of commands.
        examples: Arguments of two complete calls, shown by `--help`.
        add_arguments: Declares its arguments.
        run: Does the work; heavy imports are inside.
    """

    name: str
    summary: str
    examples: tuple[str, str]
    add_arguments: Callable[[ArgumentParser], None]
    run: Callable[[Namespace], Output]


def add_checkpoint(parser: ArgumentParser) -> None:
    """The checkpoint to load."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        help="name of a run, the unique beginning of one, or a model folder",
    )


def add_budget(parser: ArgumentParser) -> None:
    """How much a checkpoint prunes, for one that was trained for any budget."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--budget",
        type=fraction,
        metavar="X",
        help="prune as much as spends this fraction of the unpruned FLOPs, nothing retrained",
    )
    group.add_argument(
        "--max-loss",
        type=fraction,
        metavar="X",
        help="prune as much as loses this fraction of the metric on held-out rows; 0.01: a point",
    )


def add_device(parser: ArgumentParser) -> None:
    """The device to run on."""
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, … (default: cpu)")


def add_engine(parser: ArgumentParser) -> None:
    """Where the work is done: in this process, or on a cluster."""
    parser.add_argument(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on all cores of this machine, or with --address of a cluster (default: local)",
    )
    parser.add_argument(
        "--address",
        metavar="HOST:PORT",
        help="a Ray cluster that is there, or auto for one on this machine",
    )


def check_engine(arguments: Namespace) -> None:
    """Refuses a cluster's address without the engine.

    Raises:
        UserError: It is given so.
    """
    if arguments.address is not None and arguments.engine != "ray":
        raise UserError("--address is of a Ray cluster: add --engine ray.")


def add_data(parser: ArgumentParser) -> None:
    """Where the data of the GLUE tasks is."""
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="FOLDER",
        help="folder with TASK/SPLIT.parquet for the GLUE tasks (default: LTP_DATA_DIR)",
    )


def add_subset(parser: ArgumentParser, *, rows: int | None = None) -> None:
    """Task, split and number of rows."""
    parser.add_argument("--task", help="task to run on (default: the checkpoint's own)")
    parser.add_argument("--split", default="validation", help="split of it (default: validation)")
    parser.add_argument(
        "--limit",
        type=positive,
        default=rows,
        metavar="N",
        help=f"that many rows, chosen at random (default: {rows or 'all'})",
    )


def positive(text: str) -> int:
    """A whole number from 1 on, for argparse."""
    if not text.isascii() or not text.isdecimal() or len(text) > 9 or int(text) < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def separated(kind: Callable[[str], T]) -> Callable[[str], list[T]]:
    """Values of a kind, separated by commas, for argparse."""
    return lambda text: [kind(part.strip()) for part in text.split(",")]


def factor(text: str) -> float:
    """A finite number from 0 on, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise ArgumentTypeError(f"{text!r} is no number from 0 on")
    return value


def fraction(text: str) -> float:
    """A number between 0 and 1, for argparse."""
    value = factor(text)
    if value > 1:
        raise ArgumentTypeError(f"{text!r} is no fraction between 0 and 1")
    return value


def usable_device(name: str) -> str:
    """The device, if this machine has it.

    Raises:
        UserError: It has not.
    """
    import torch

    try:
        if torch.device(name).type not in DEVICE_TYPES:
            raise ValueError(name)
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, NotImplementedError, ValueError) as error:
        raise UserError(f"The device {name!r} cannot be used here: take --device cpu.") from error
    return name


def load_model(arguments: Namespace, device: str = "cpu") -> PrunedModel:
    """The checkpoint that `add_checkpoint` names, as strong as `add_budget` wants it; imports torch.

    Raises:
        UserError: There is none of that name, it is damaged, or cannot be asked for a budget.
    """
    from ltp_core.checkpoint import load_checkpoint

    return load_checkpoint(
        arguments.checkpoint,
        device=device,
        budget=arguments.budget,
        max_loss=arguments.max_loss,
    )


def warn_of_emulation(precisions: Collection[str], device: str) -> None:
    """Says so on stderr where bfloat16 is asked for and the processor only emulates it.

    Args:
        precisions: What is computed in.
        device: Where.
    """
    if "bfloat16" in precisions and device == "cpu" and emulates_bfloat16():
        print(f"bfloat16: {EMULATED}.", file=sys.stderr)


def percent(fraction: float | None, digits: int = 1) -> str:
    """A fraction for people; a dash for None."""
    return "–" if fraction is None else f"{100 * fraction:.{digits}f} %"


def signed(gap: dict[str, float] | None, digits: int = 1) -> str:
    """A difference of fractions in points with its interval; a dash where it is not known."""
    if gap is None:
        return "–"
    value, low, high = (f"{100 * gap[key]:+.{digits}f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def columns(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Lines of aligned columns, the first line the header."""
    lines = [list(header), *(list(row) for row in rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


class CommandParser(argparse.ArgumentParser):
    """A parser that takes options between positional arguments: `train PRESET --force seed=1`."""

    _is_inside = False

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Namespace | None = None
    ) -> tuple[Namespace, list[str]]:
        """Parses intermixed arguments; what argparse does for that calls this method again."""
        if self._is_inside:
            return super().parse_known_args(args, namespace)
        self._is_inside = True
        try:
            return self.parse_known_intermixed_args(args, namespace)
        finally:
            self._is_inside = False
