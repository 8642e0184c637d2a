"""`tradeoff`: stored operating points of every method, and the cheapest that is good enough."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.cli.base import Command, Output, columns, factor, percent, signed
from ltp_core.records import UserError, nearest

if TYPE_CHECKING:
    from ltp_core.analysis.runs import Row


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("task", metavar="TASK", nargs="?", help="only this task (default: all)")
    parser.add_argument(
        "--drop",
        type=factor,
        default=1.0,
        metavar="POINTS",
        help="how many points below its dense counterpart a point may be on held-out rows "
        "(default: 1, as in the paper's Table 1)",
    )


def run(arguments: Namespace) -> Output:
    """Reads the runs' records; nothing is computed anew."""
    from ltp_core.analysis.runs import points_table, rows, runs_table, smallest_within

    runs = runs_table()
    points = points_table(runs)
    known = set(points["task"])
    if known and arguments.task not in {None, *known}:
        raise UserError(
            f"No run of {arguments.task!r} that prunes is stored{nearest(arguments.task, known)}"
        )
    if arguments.task is not None:
        points = points[points["task"] == arguments.task]
    if points.empty:
        raise UserError("No run that prunes is stored yet: `sweep sst2` trains some.")
    is_smallest = smallest_within(points, drop=arguments.drop / 100)
    folders = dict(zip(runs["run"], runs["folder"], strict=True))
    experiments = [
        _heading(rows(group)[0])
        | {
            "points": [
                _row(point, folders) | {"is_smallest_within": bool(is_smallest[point.Index])}
                for point in rows(group)
            ]
        }
        for _, group in points.groupby(["task", "comparable"])
    ]
    document = {"allowed_drop_points": arguments.drop, "experiments": experiments}
    return Output(document=document, text=_card(document))


def _heading(point: Row) -> dict[str, Any]:
    return {
        "task": point.task,
        "training_rows": point.training_rows,
        "max_train_length": point.max_train_length or None,
        "base": point.base,
        "adapter": point.adapter,
        "is_int8": bool(point.is_int8),
    }


def _row(point: Row, folders: dict[str, Path]) -> dict[str, Any]:
    from ltp_core.analysis.runs import ACCOUNTINGS, CHOSEN_ON, REPORTED_ON
    from ltp_core.analysis.tradeoff import mean_difference

    differences = {s: mean_difference(point, folders, s) for s in (REPORTED_ON, CHOSEN_ON)}
    return {
        "method": point.method,
        "runs": list(point.runs),
        "seeds": list(point.seeds),
        "converged": bool(point.converged),
        "metric": point.metric_name,
        "value": point.metric_validation,
        "relative_flops": {name: getattr(point, f"{name}_{REPORTED_ON}") for name in ACCOUNTINGS},
        "relative_bops": getattr(point, f"bops_{REPORTED_ON}"),
        "differences": {s: each and asdict(each) for s, each in differences.items()},
    }


def _card(document: dict[str, Any]) -> str:
    parts = [_table(experiment) for experiment in document["experiments"]]
    note = (
        f"* the cheapest of its method at most {document['allowed_drop_points']:g} points below its dense "
        "counterpart on held-out training rows\nDifferences in points, with the 95 % interval of a "
        "paired bootstrap over examples; FLOPs relative to the unpruned model without padding, bit "
        "operations (BOPs) to that model in FP16"
    )
    return "\n\n".join([*parts, note])


def _table(experiment: dict[str, Any]) -> str:
    header = ["", "run", "seeds", "FLOPs, paper", "executed", "validation", "to dense", "held-out"]
    rows = [_cells(point) for point in experiment["points"]]
    if experiment["is_int8"]:
        header.insert(5, "BOPs")
        for cells, point in zip(rows, experiment["points"], strict=True):
            cells.insert(5, percent(point["relative_bops"]))
    return f"{_title(experiment)}\n\n{columns(header, rows)}"


def _title(experiment: dict[str, Any]) -> str:
    rows, longest = experiment["training_rows"], experiment["max_train_length"]
    parts = [experiment["task"], *([f"{rows:,} training rows"] if rows else [])]
    parts += [f"of at most {longest} tokens"] if longest else []
    parts += [experiment["base"], experiment["adapter"]]
    return ", ".join([*parts, *(["INT8"] if experiment["is_int8"] else [])])


def _cells(point: dict[str, Any]) -> list[str]:
    flops = point["relative_flops"]
    return [
        "*" if point["is_smallest_within"] else "",
        point["runs"][0] + ("" if point["converged"] else " (did not converge)"),
        ",".join(map(str, point["seeds"])),
        percent(flops["paper"]),
        percent(flops["executed"]),
        percent(point["value"]),
        *(signed(point["differences"][split], 2) for split in ("validation", "heldout")),
    ]


COMMAND = Command(
    name="tradeoff",
    summary="accuracy and FLOPs of the stored runs by method, beside their dense counterparts",
    examples=("sst2", "--drop 2 --json"),
    add_arguments=add_arguments,
    run=run,
)
