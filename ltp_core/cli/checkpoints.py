"""`checkpoints`: what can be traced, evaluated and measured."""

from __future__ import annotations

import dataclasses
from argparse import ArgumentParser, Namespace

from ltp_core.cli.base import Command, Output, columns


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--task", help="only those of this task")
    parser.add_argument("--method", help="only those of this method")


def run(arguments: Namespace) -> Output:
    """Lists the checkpoints of all stores."""
    from ltp_core.checkpoint_places import list_checkpoints

    document = [
        {key: value for key, value in dataclasses.asdict(info).items() if key != "folder"}
        for info in list_checkpoints()
        if arguments.task in (None, info.task) and arguments.method in (None, info.method)
    ]
    rows = [(c["name"], c["task"], c["method"], f"{c['bytes'] / 1e6:.2f} MB") for c in document]
    table = columns(("checkpoint", "task", "method", "weights"), rows)
    return Output(document=document, text=table if rows else "No checkpoint: train a preset.")


COMMAND = Command(
    name="checkpoints",
    summary="list the checkpoints",
    examples=("", "--task sst2 --json"),
    add_arguments=add_arguments,
    run=run,
)
