"""`evaluate`: metrics and cost of a checkpoint, beside its two unpruned controls."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.cli.base import (
    Command,
    Output,
    add_budget,
    add_checkpoint,
    add_data,
    add_device,
    add_subset,
    columns,
    factor,
    percent,
    separated,
    usable_device,
    warn_of_emulation,
)
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.evaluate import Evaluation


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_checkpoint(parser)
    add_budget(parser)
    add_subset(parser)
    add_data(parser)
    add_device(parser)
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "int8"),
        default="float32",
        help="of the layers' weights; scores are in float32; int8 where `doctor` names it (default: float32)",
    )
    parser.add_argument(
        "--scales",
        type=separated(factor),
        metavar="X,Y,…",
        help="evaluate at these strengths too, nothing retrained: 1 as trained, 0 nothing pruned",
    )
    parser.add_argument(
        "--save",
        action="store_true",
        help="keep the figures of --scales with the run; one that came with the project is copied",
    )
    parser.add_argument(
        "--records",
        action="store_true",
        help="keep the records of every example as a run of their own, for the app's pages",
    )


def run(arguments: Namespace) -> Output:
    """Evaluates the checkpoint, its weights unpruned, and its dense counterpart."""
    _check(arguments)
    device = usable_device(arguments.device)
    warn_of_emulation({arguments.dtype}, device)

    from ltp_core.evaluate import evaluate_checkpoint, kind_counter, save_evaluation
    from ltp_core.pruning import Unpruned

    load = partial(_load, device=device, dtype=arguments.dtype)
    model = load(arguments.checkpoint, budget=arguments.budget, max_loss=arguments.max_loss)
    limit = _own_limit(arguments, model) if arguments.save else arguments.limit
    evaluate = partial(
        evaluate_checkpoint,
        task=arguments.task,
        split=arguments.split,
        limit=limit,
        data_dir=arguments.data_dir,
    )
    curve = _curve(arguments, model, evaluate)
    counter = kind_counter(model) if arguments.records else None
    pruned = evaluate(model, counter=counter)
    saved = save_evaluation(model, pruned, counter, limit=limit) if counter else None
    is_pruned = model.method.name != Unpruned.name
    same = evaluate(model, method=Unpruned.control_of(model.method)) if is_pruned else pruned
    dense_model = _dense(model, load)
    dense = evaluate(dense_model) if dense_model else None
    document = _document(model, pruned, same, dense) | {"dtype": arguments.dtype} | curve
    document |= {"records": saved.name} if saved else {}
    return Output(document=document, text=_card(document))


def _check(arguments: Namespace) -> None:
    """Refuses to keep what would not fit the run's other records."""
    if arguments.save and not arguments.scales:
        raise UserError("--save keeps the figures of --scales: name some, as --scales 0.5,1,1.5.")
    if arguments.dtype != "float32" and (arguments.save or arguments.records):
        raise UserError(
            "The store keeps figures of float32 only: leave --dtype out, or what keeps."
        )
    if arguments.scales and (arguments.budget is not None or arguments.max_loss is not None):
        raise UserError("--scales are multiples of the trained strength: leave the budget out.")
    if arguments.save and (arguments.limit or arguments.task):
        raise UserError(
            "--save keeps the rows that the run's own records are of: leave --limit and --task out."
        )


def _folder(arguments: Namespace, model: PrunedModel) -> Path:
    from ltp_core.store import find_run

    given = Path(arguments.checkpoint)
    return given if given.is_dir() else find_run(model.name)


def _own_limit(arguments: Namespace, model: PrunedModel) -> int | None:
    """Rows of the split that the run was evaluated on when it was made; None: all."""
    from ltp_core.store import read_manifest

    data = read_manifest(_folder(arguments, model)).config.get("data")
    limit = data.get(f"{arguments.split}_rows") if isinstance(data, dict) else None
    return limit if isinstance(limit, int) else None


def _load(name: str, *, device: str, dtype: str, **strength: float | None) -> PrunedModel:
    """A checkpoint whose packed runner computes in that type."""
    import torch

    from ltp_core.checkpoint import load_checkpoint
    from ltp_core.runners import fastest_runner

    model = load_checkpoint(name, device=device, **strength)
    if dtype == "float32":
        return model
    return replace(model, packed=fastest_runner(model.encoder, getattr(torch, dtype)))


def _dense(model: PrunedModel, load: Callable[[str], PrunedModel]) -> PrunedModel | None:
    """The dense counterpart, if the store has it."""
    if model.dense is None:
        return None
    try:
        return load(model.dense)
    except UserError as error:
        print(f"Without the dense counterpart: {error}", file=sys.stderr)
        return None


def _document(
    model: PrunedModel, pruned: Evaluation, same: Evaluation, dense: Evaluation | None
) -> dict[str, Any]:
    return {
        "checkpoint": model.name,
        "task": pruned.task,
        "split": pruned.split,
        "rows": pruned.rows,
        "metrics": pruned.metrics,
        "unpruned_metrics": dense.metrics if dense else None,
        "unpruned_checkpoint": model.dense if dense else None,
        "difference": _difference(pruned, dense) if dense else None,
        "same_weights_unpruned_metrics": same.metrics,
        "relative_flops": pruned.relative_flops,
        "mean_retained": pruned.mean_retained,
        "dataset": pruned.dataset,
    }


def _difference(pruned: Evaluation, dense: Evaluation) -> dict[str, float]:
    """Headline metric, pruned minus dense, with the 95 % interval of a paired bootstrap."""
    from ltp_core.metrics import paired_interval
    from ltp_core.tasks.catalogue import find_task

    value, low, high = paired_interval(
        find_task(pruned.task).metric,
        pruned.examples["label"].to_numpy(),
        pruned.examples["prediction"].to_numpy(),
        dense.examples["prediction"].to_numpy(),
    )
    return {"value": value, "low": low, "high": high}


def _curve(
    arguments: Namespace, model: PrunedModel, evaluate: Callable[..., Evaluation]
) -> dict[str, Any]:
    """The part of the document about other strengths; empty if none was asked for."""
    from ltp_core.evaluate import measure_curve, save_curve
    from ltp_core.store import own_run

    if not arguments.scales:
        return {}
    points = measure_curve(model, arguments.scales, evaluate)
    if arguments.save:
        save_curve(own_run(_folder(arguments, model)), points, device=arguments.device)
    return {
        "curve": [
            {
                "factor": point.factor,
                "metrics": point.evaluation.metrics,
                "relative_flops": point.evaluation.relative_flops,
                "mean_retained": point.evaluation.mean_retained,
            }
            for point in points
        ]
    }


def _curve_table(curve: list[dict[str, Any]]) -> str:
    rows = [
        (
            f"× {point['factor']:g}",
            percent(next(iter(point["metrics"].values()))),
            percent(point["relative_flops"]["paper"]),
            percent(point["relative_flops"]["executed"]),
        )
        for point in curve
    ]
    header = ("strength", next(iter(curve[0]["metrics"])), "FLOPs, paper", "FLOPs, executed")
    return columns(header, rows)


def _card(document: dict[str, Any]) -> str:
    dense = document["unpruned_metrics"] or {}
    rows = [
        (name, percent(value), percent(dense.get(name)), percent(same))
        for (name, value), same in zip(
            document["metrics"].items(),
            document["same_weights_unpruned_metrics"].values(),
            strict=True,
        )
    ]
    flops, gap = document["relative_flops"], document["difference"]
    lines = [
        f"{document['checkpoint']} on {document['task']}/{document['split']}, "
        f"{document['rows']} rows, {document['dtype']}",
        "",
        columns(("", "pruned", "dense counterpart", "same weights, unpruned"), rows),
        "",
        f"relative FLOPs  {percent(flops['paper'])} (paper's accounting), "
        f"{percent(flops['executed'])} (executed)",
        f"kept per layer  {', '.join(percent(x, 0) for x in document['mean_retained'])}",
    ]
    if gap:
        lines.append(
            f"pruned − dense  {percent(gap['value'], 2)}, 95 % interval "
            f"{percent(gap['low'], 2)} to {percent(gap['high'], 2)}"
        )
    if "curve" in document:
        lines += ["", "Not retrained:", _curve_table(document["curve"])]
    if "records" in document:
        lines += ["", f"Records of every example: run {document['records']}"]
    return "\n".join(lines)


COMMAND = Command(
    name="evaluate",
    summary="metrics and cost of a checkpoint over a data set",
    examples=(
        "rotten_tomatoes-ltp --split test --limit 500 --records",
        "sst2-ltp --scales 0.5,1,1.5 --json",
    ),
    add_arguments=add_arguments,
    run=run,
)
