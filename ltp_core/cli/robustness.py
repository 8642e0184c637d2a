"""`robustness`: Table 3 of stored runs, chosen to need about equal FLOPs on the shortest inputs."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from typing import TYPE_CHECKING, Any

from ltp_core.cli.base import Command, Output, columns, factor, percent, positive, separated, signed
from ltp_core.records import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

    from ltp_core.analysis.example_records import ExampleRecords
    from ltp_core.analysis.intervals import Estimate
    from ltp_core.analysis.robustness import Comparison


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("task", metavar="TASK", help="task that the runs were evaluated on")
    parser.add_argument("--split", default="validation", help="split (default: validation)")
    parser.add_argument(
        "--runs",
        metavar="A,B,…",
        help="names of runs; without it one of each method, of about equal FLOPs",
    )
    parser.add_argument(
        "--quantiles",
        type=quantiles,
        default=(0.5, 0.75),
        metavar="X,Y,…",
        help="quantiles of the lengths between the bands (default: 0.5,0.75, as in the paper)",
    )
    parser.add_argument(
        "--max-train-length",
        type=positive,
        metavar="N",
        help="choose among runs that were trained on rows of at most N tokens (default: the least "
        "that there is)",
    )
    parser.add_argument(
        "--target",
        type=factor,
        metavar="X",
        help="choose the runs nearest to these relative FLOPs on the shortest band",
    )


def quantiles(text: str) -> tuple[float, ...]:
    """Ascending numbers between 0 and 1, separated by commas, for argparse."""
    values = separated(factor)(text)
    if values != sorted(set(values)) or not all(0 < value < 1 for value in values):
        raise ArgumentTypeError(f"{text!r} are no ascending numbers between 0 and 1")
    return tuple(values)


def run(arguments: Namespace) -> Output:
    """Reads the runs' records and compares them band by band."""
    from ltp_core.analysis.bands import band_cost
    from ltp_core.analysis.robustness import compare, comparison_frame
    from ltp_core.analysis.runs import matched

    runs = _candidates(arguments)
    runs, records = _readable(runs, arguments)
    if arguments.runs:
        settings = list(dict.fromkeys(runs["setting"]))
    else:
        costs = {
            setting: band_cost(group[0], quantiles=arguments.quantiles)
            for setting, group in records.items()
        }
        settings = matched(runs, costs, arguments.target)
    chosen = {records[setting][0].name: records[setting] for setting in settings}
    comparison = compare(chosen, arguments.quantiles)
    rows = comparison_frame(comparison).astype(object)
    gaps = _gaps(comparison)
    document = {
        "task": comparison.task,
        "split": comparison.split,
        "metric": comparison.metric_name,
        "bands": rows.where(rows.notna(), None).to_dict(orient="records"),
        "differences": gaps,
    }
    return Output(document=document, text=_card(comparison, gaps))


def _candidates(arguments: Namespace) -> pd.DataFrame:
    """Runs that may be compared, seeds of a setting in their order.

    Raises:
        UserError: There is none, or one that was asked for is not there.
    """
    import pandas as pd

    from ltp_core.analysis.runs import runs_table

    runs: pd.DataFrame = runs_table()
    is_evaluated = pd.Series([arguments.split in splits for splits in runs["splits"]], dtype=bool)
    runs = runs[(runs["task"] == arguments.task) & runs["has_records"] & is_evaluated]
    if runs.empty:
        raise UserError(
            f"No run holds records of {arguments.task}/{arguments.split}: train one, or "
            "`evaluate CHECKPOINT --records`."
        )
    if arguments.runs:
        names = [name.strip() for name in arguments.runs.split(",")]
        for name in names:
            if name not in set(runs["run"]):
                raise UserError(
                    f"There is no run {name!r} with such records{nearest(name, runs['run'])}"
                )
        named: pd.DataFrame = runs.set_index("run", drop=False).loc[list(dict.fromkeys(names))]
        return named
    limits = runs["max_train_length"]
    wanted = arguments.max_train_length or min(limits[limits > 0], default=0)
    chosen: pd.DataFrame = runs[limits == wanted]
    if chosen.empty:
        raise UserError(f"No run of {arguments.task} was trained on at most {wanted} tokens.")
    return chosen


def _readable(
    runs: pd.DataFrame, arguments: Namespace
) -> tuple[pd.DataFrame, dict[str, list[ExampleRecords]]]:
    """Runs whose records can be read, and those by setting and seed; of the others the reason is printed.

    Raises:
        UserError: One cannot be read that was asked for by name.
    """
    from ltp_core.analysis.example_records import read_examples

    found: dict[str, ExampleRecords] = {}
    for name, folder in zip(runs["run"], runs["folder"], strict=True):
        try:
            found[name] = read_examples(folder, arguments.split)
        except UserError as error:
            if arguments.runs:
                raise
            print(f"Left out: {error}", file=sys.stderr)
    runs = runs[runs["run"].isin(found)]
    by_seed = runs.sort_values("seed", kind="stable").groupby("setting")["run"]
    return runs, {str(key): [found[name] for name in names] for key, names in by_seed}


def _gaps(comparison: Comparison) -> list[dict[str, Any]]:
    """The first point minus each other one, by band."""
    first, *others = comparison.records
    try:
        return [
            {
                "a": first,
                "b": other,
                "by_band": [
                    None if gap is None else {"value": gap.value, "low": gap.low, "high": gap.high}
                    for gap in comparison.difference(first, other)
                ],
            }
            for other in others
        ]
    except ValueError as error:
        raise UserError(f"{error}: choose runs of the same data.") from error


def _card(comparison: Comparison, gaps: list[dict[str, Any]]) -> str:
    header = ["", *(band.name for band in comparison.bands)]
    rows = [["examples", *map(str, comparison.counts)]]
    for name, cells in comparison.cells.items():
        rows.append([name, *(_with_bounds(cell.metric) for cell in cells)])
        flops = [cell.relative_flops.get("paper") for cell in cells]
        rows.append(["  relative FLOPs", *(percent(x.value if x else None) for x in flops)])
    for gap in gaps:
        shown = [signed(each) for each in gap["by_band"]]
        rows.append([f"{gap['a'].split('-')[1]} − {gap['b'].split('-')[1]}", *shown])
    return (
        f"{comparison.task}/{comparison.split}, {comparison.metric_name} with 95 % intervals over "
        f"examples; relative FLOPs in the paper's accounting\n\n{columns(header, rows)}"
    )


def _with_bounds(estimate: Estimate | None) -> str:
    if estimate is None:
        return "–"
    return f"{percent(estimate.value)} [{100 * estimate.low:.1f}, {100 * estimate.high:.1f}]"


COMMAND = Command(
    name="robustness",
    summary="metric and cost of stored runs by length, as in the paper's Table 3",
    examples=("sst2", "qqp --quantiles 0.25,0.5,0.75 --json"),
    add_arguments=add_arguments,
    run=run,
)
