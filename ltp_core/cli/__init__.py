"""The sub-commands, one file each; `COMMANDS` is the one list. A new one is a file and a line."""

from ltp_core.cli import (
    bench,
    calibrate,
    checkpoints,
    doctor,
    evaluate,
    export,
    lengths,
    pays,
    predict,
    presets,
    robustness,
    runs,
    sweep,
    trace,
    tradeoff,
    train,
)
from ltp_core.cli.base import Command

COMMANDS: tuple[Command, ...] = (
    trace.COMMAND,
    train.COMMAND,
    sweep.COMMAND,
    calibrate.COMMAND,
    predict.COMMAND,
    evaluate.COMMAND,
    bench.COMMAND,
    export.COMMAND,
    lengths.COMMAND,
    tradeoff.COMMAND,
    robustness.COMMAND,
    pays.COMMAND,
    checkpoints.COMMAND,
    runs.COMMAND,
    presets.COMMAND,
    doctor.COMMAND,
)

__all__ = ["COMMANDS"]
