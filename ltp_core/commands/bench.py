"""`bench`: measured throughput of a checkpoint, beside its controls."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from ltp_core.commands.base import (
    Command,
    Output,
    add_checkpoint,
    add_data,
    add_device,
    add_subset,
    columns,
    percent,
    positive,
    positives,
    usable_device,
)


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_checkpoint(parser)
    add_subset(parser, rows=256)
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
    return Output(document=document, text=_card(document))


def _card(document: dict[str, Any]) -> str:
    workload, machine = document["workload"], document["environment"]
    lines = [
        f"{document['checkpoint']} on {workload['task']}/{workload['split']}: {workload['rows']} "
        f"rows of {workload['mean_length']:.1f} tokens on average",
        f"relative FLOPs {percent(workload['relative_flops']['paper'])} (paper's accounting), "
        f"{percent(workload['relative_flops']['executed'])} (executed)",
        f"{machine['processor']}, {machine['threads']} threads, {machine['device']}",
        "",
        columns(
            ("batch", "contender", "sequences/s (quartiles)", "to hugging_face"), _rows(document)
        ),
        "",
        *(f"{name}: {meaning}" for name, meaning in document["contenders"].items()),
    ]
    return "\n".join(lines)


def _rows(document: dict[str, Any]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for result in document["results"]:
        for name, speed in result["contenders"].items():
            rate, ratio = speed["sequences_per_s"], speed["ratio_to_hugging_face"]
            spread = f"{rate['median']:.0f} ({rate['q1']:.0f}–{rate['q3']:.0f})"
            times = f"{ratio['median']:.2f}×" if ratio else "–"
            rows.append((str(result["batch_size"]), name, spread, times))
    return rows


COMMAND = Command(
    name="bench",
    summary="measure sequences per second against unpruned controls",
    examples=("rotten_tomatoes-ltp", "sst2-ltp --batch-sizes 1,32 --repeats 9 --json"),
    add_arguments=add_arguments,
    run=run,
)
