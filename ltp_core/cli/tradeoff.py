"""`tradeoff`: stored operating points of every method, and the cheapest that is good enough."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ltp_core.cli.base import Command, Output, columns, factor, percent, signed
from ltp_core.records import UserError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ltp_core.analysis.intervals import Estimate
    from ltp_core.analysis.tradeoff import Experiment, Point, StoredRun


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
    from ltp_core.analysis.tradeoff import operating_points, smallest_within, stored_runs

    found = operating_points(stored_runs())
    if arguments.task is not None:
        found = _of_task(found, arguments.task)
    if not found:
        raise UserError("No run that prunes is stored yet: `sweep sst2` trains some.")
    best = smallest_within(found, drop=arguments.drop / 100)
    chosen = {point.key for point in best.values() if point is not None}
    groups: dict[Experiment, list[dict[str, Any]]] = {}
    for point in found:
        row = _row(point) | {"is_smallest_within": point.key in chosen}
        groups.setdefault(point.experiment, []).append(row)
    document = {
        "allowed_drop_points": arguments.drop,
        "experiments": [_heading(key) | {"points": rows} for key, rows in groups.items()],
    }
    return Output(document=document, text=_card(document))


def _of_task(found: list[Point], task: str) -> list[Point]:
    known = {point.experiment.task for point in found}
    if task not in known:
        raise UserError(f"No run of {task!r} that prunes is stored{nearest(task, known)}")
    return [point for point in found if point.experiment.task == task]


def _heading(experiment: Experiment) -> dict[str, Any]:
    return {
        "task": experiment.task,
        "training_rows": experiment.rows,
        "max_train_length": experiment.max_train_length,
        "base": experiment.base,
        "adapter": experiment.adapter,
    }


def _row(point: Point) -> dict[str, Any]:
    from ltp_core.analysis.tradeoff import CHOSEN_ON, REPORTED_ON

    metric, flops = point.metric(), {a: point.relative_flops(a) for a in ("paper", "executed")}
    return {
        "method": point.method,
        "runs": [each.name for each in point.runs],
        "seeds": [each.config.seed for each in point.runs],
        "metric": point.runs[0].metric_name,
        "value": metric and metric.mean,
        "relative_flops": {name: each and each.mean for name, each in flops.items()},
        "differences": {split: _difference(point, split) for split in (REPORTED_ON, CHOSEN_ON)},
    }


def _difference(point: Point, split: str) -> dict[str, float] | None:
    from ltp_core.analysis.intervals import mean_estimate

    mean = mean_estimate(_paired(a, b, split) for a, b in point.pairs(split))
    return None if mean is None else asdict(mean)


def _paired(a: StoredRun, b: StoredRun, split: str) -> Estimate | None:
    from ltp_core.analysis.intervals import Estimate
    from ltp_core.analysis.tradeoff_axes import paired_difference

    try:
        value, low, high = paired_difference(a, b, split)
    except UserError:
        return None
    return Estimate(value=value, low=low, high=high)


def _card(document: dict[str, Any]) -> str:
    parts = [_table(experiment) for experiment in document["experiments"]]
    note = (
        f"* the cheapest of its method at most {document['allowed_drop_points']:g} points below its dense "
        "counterpart on held-out training rows\nDifferences in points, with the 95 % interval of a "
        "paired bootstrap over examples; FLOPs relative to the unpruned model without padding"
    )
    return "\n\n".join([*parts, note])


def _table(experiment: dict[str, Any]) -> str:
    header = ["", "run", "seeds", "FLOPs, paper", "executed", "validation", "to dense", "held-out"]
    rows = [_cells(point) for point in experiment["points"]]
    return f"{_title(experiment)}\n\n{columns(header, rows)}"


def _title(experiment: dict[str, Any]) -> str:
    rows, longest = experiment["training_rows"], experiment["max_train_length"]
    parts = [experiment["task"], *([f"{rows:,} training rows"] if rows else [])]
    parts += [f"of at most {longest} tokens"] if longest else []
    return ", ".join([*parts, experiment["base"], experiment["adapter"]])


def _cells(point: dict[str, Any]) -> Sequence[str]:
    flops = point["relative_flops"]
    return [
        "*" if point["is_smallest_within"] else "",
        point["runs"][0],
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
