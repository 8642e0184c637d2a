"""`bench`: measured throughput of a checkpoint, beside its controls."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace

from ltp_core.commands.base import (
    Command,
    Output,
    add_checkpoint,
    add_data,
    add_device,
    add_subset,
    positive,
    positives,
    usable_device,
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_checkpoint(parser)
    add_subset(parser, rows=512)
    add_data(parser)
    add_device(parser)
    parser.add_argument(
        "--batch-sizes", type=positives, default=[1, 8, 32], metavar="N,N", help="default: 1,8,32"
    )
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="rounds (default: 5)"
    )


def run(arguments: Namespace) -> Output:
    """Measures, alternating between the contenders."""
    device = usable_device(arguments.device)

    from ltp_core.bench import bench
    from ltp_core.checkpoint import load_checkpoint

    document = bench(
        load_checkpoint(arguments.checkpoint, device=device),
        task=arguments.task,
        split=arguments.split,
        batch_sizes=arguments.batch_sizes,
        repeats=arguments.repeats,
        limit=arguments.limit,
        data_dir=arguments.data_dir,
        progress=True,
    )
    return Output(document=document, text=json.dumps(document, indent=2, ensure_ascii=False))


COMMAND = Command(
    name="bench",
    summary="measure sequences per second against unpruned controls",
    examples=("rotten_tomatoes-ltp", "sst2-ltp --batch-sizes 1,32 --repeats 9 --json"),
    add_arguments=add_arguments,
    run=run,
)
