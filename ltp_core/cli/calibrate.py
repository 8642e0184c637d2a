"""`calibrate`: thresholds for a model of one's own and a FLOPs budget; nothing is trained."""

from __future__ import annotations

import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.cli import events
from ltp_core.cli.base import (
    Command,
    Output,
    add_checkpoint,
    add_device,
    factor,
    percent,
    positive,
    usable_device,
)
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.calibration.calibrate import Calibration
    from ltp_core.calibration.calibrated_run import Request
    from ltp_core.checkpoint import PrunedModel


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_checkpoint(parser)
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        metavar="FILE",
        help="texts like those that the model will see, without labels: .txt with a text a line, or "
        "CSV, JSON lines, Parquet",
    )
    parser.add_argument(
        "--target-relative-flops",
        type=budget,
        required=True,
        metavar="X",
        help="budget as a fraction of the unpruned FLOPs, paper's accounting, such as 0.6",
    )
    parser.add_argument(
        "--column",
        action="append",
        default=[],
        metavar="C",
        help="column of the texts; twice for pairs (default: the task's, or the only text column)",
    )
    parser.add_argument(
        "--rows", type=positive, default=300, metavar="N", help="texts drawn (default: 300)"
    )
    parser.add_argument(
        "--max-configurations",
        type=positive,
        default=200,
        metavar="N",
        help="thresholds tried at most (default: 200)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="new folder for the checkpoint (default: a run in the store)",
    )
    add_device(parser)


def budget(text: str) -> float:
    """A number above 0 and up to 1, for argparse."""
    value = factor(text)
    if not 0 < value <= 1:
        raise ArgumentTypeError(f"{text!r} is no fraction above 0 and up to 1")
    return value


def run(arguments: Namespace) -> Output:
    """Calibrates and saves; the same call again shows what is saved."""
    device = usable_device(arguments.device)

    from ltp_core import store
    from ltp_core.calibration import calibrated_run
    from ltp_core.checkpoint import load_checkpoint

    model = load_checkpoint(arguments.checkpoint, device=device)
    if model.questions is not None:
        raise UserError(f"{model.name} answers questions; only classifiers can be calibrated yet.")
    request = _request(arguments, model)
    folder = calibrated_run.destination(request, arguments.output)
    if (folder / store.MANIFEST).exists():
        manifest = store.read_manifest(folder)
    else:
        began = time.perf_counter()
        found = _calibrate(arguments, request)
        duration_s = time.perf_counter() - began
        manifest = calibrated_run.save(request, found, folder, duration_s=duration_s)
    is_run = arguments.output is None
    document = {
        "checkpoint": manifest.name,
        "folder": str(folder),
        "calibrated_from": model.name,
        "data": request.data,
        **manifest.summary["calibration"],
        "duration_s": manifest.duration_s,
    }
    return Output(document=document, text=_card(document, manifest.name if is_run else str(folder)))


def _request(arguments: Namespace, model: PrunedModel) -> Request:
    from ltp_core.calibration.calibrated_run import Request
    from ltp_core.checkpoint_places import checkpoint_folder
    from ltp_core.config import SelectConfig
    from ltp_core.tasks.catalogue import known_task
    from ltp_core.tasks.own_texts import sample_texts

    task = known_task(model.task)
    texts = sample_texts(
        arguments.data,
        arguments.column,
        expected=task.text_columns if task else (),
        is_pair=task.is_pair if task else None,
        rows=arguments.rows,
    )
    return Request(
        model=model,
        source=checkpoint_folder(arguments.checkpoint),
        texts=texts,
        file_name=arguments.data.name,
        select=SelectConfig(
            target_relative_flops=arguments.target_relative_flops,
            rows=arguments.rows,
            max_configurations=arguments.max_configurations,
        ),
    )


def _calibrate(arguments: Namespace, request: Request) -> Calibration:
    from tqdm import tqdm

    from ltp_core.calibration.calibrate import calibrate
    from ltp_core.tokenize import encode

    tell, most = events.reporter(arguments), request.select.max_configurations
    with tqdm(total=most, desc="thresholds", mininterval=1) as bar:

        def report(tried: int) -> None:
            bar.update()
            tell("progress", {"tried": tried, "max_configurations": most})

        return calibrate(
            request.model,
            encode(request.model.tokenizer, request.texts.texts, request.model.max_length),
            request.select.target_relative_flops,
            max_configurations=most,
            report=report,
        )


def _card(document: dict[str, Any], name: str) -> str:
    flops, data = document["relative_flops"], document["data"]
    change = (
        f"predictions         {percent(document['agreement'])} as unpruned, mean KL divergence "
        f"{document['divergence']:.4f}"
        if document["agreement"] is not None
        else f"predictions         mean squared change {document['divergence']:.4g}"
    )
    lines = [
        f"{document['calibrated_from']}, calibrated on {data['rows']} of {data['total_rows']} texts "
        f"of {data['source']}: {document['tried']} thresholds tried in {document['duration_s']:.0f} s",
        *_lost_lines(document),
        "",
        f"relative FLOPs      before 100.0 %, now {percent(flops['paper'])} (paper's accounting), "
        f"{percent(flops['executed'])} (executed)",
        change,
        f"thresholds          {', '.join(f'{x:.3f}' for x in document['thresholds'])}"
        + (", separators always kept" if document["protects_separators"] else ""),
        "",
        "Measured on the texts that it was chosen on; `evaluate` measures it on labelled ones.",
        f"Saved in {document['folder']}. Use it: trace {name} TEXT",
    ]
    return "\n".join(lines)


def _lost_lines(document: dict[str, Any]) -> list[str]:
    """What was left out of the file and cut off its texts; nothing where all was used."""
    left_out, cut = document["data"].get("left_out_rows", 0), document.get("cut_rows", 0)
    lines = []
    if left_out:
        lines.append(f"{left_out:,} rows or lines of the file have no text and are left out")
    if cut:
        lines.append(f"{cut:,} texts are longer than the model takes: only their beginning counts")
    return lines


COMMAND = Command(
    name="calibrate",
    summary="choose thresholds for a finetuned model and a FLOPs budget, without training",
    examples=(
        "MODEL_FOLDER --data texts.txt --target-relative-flops 0.6",
        "MODEL_FOLDER --data pairs.csv --column left --column right --target-relative-flops 0.5",
    ),
    add_arguments=add_arguments,
    run=run,
)
