"""The sub-commands, one file each; `COMMANDS` is the one list. A new one is a file and a line."""

from ltp_core.commands import (
    bench,
    checkpoints,
    doctor,
    evaluate,
    lengths,
    presets,
    runs,
    sweep,
    trace,
    train,
)
from ltp_core.commands.base import Command

COMMANDS: tuple[Command, ...] = (
    trace.COMMAND,
    train.COMMAND,
    sweep.COMMAND,
    evaluate.COMMAND,
    bench.COMMAND,
    lengths.COMMAND,
    checkpoints.COMMAND,
    runs.COMMAND,
    presets.COMMAND,
    doctor.COMMAND,
)

__all__ = ["COMMANDS"]
