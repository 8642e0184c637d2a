"""`export`: a checkpoint as a file that other programs open."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from ltp_core.cli.base import Command, Output, add_budget, add_checkpoint, load_model
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_checkpoint(parser)
    add_budget(parser)
    parser.add_argument(
        "--format",
        choices=("onnx", "hf", "folder"),
        required=True,
        help="onnx: one file, tokens really removed inside; hf: a folder for transformers, unpruned; "
        "folder: all that every command here needs on another machine",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="file or folder to write (default: the checkpoint's name, here)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite what is there")
    parser.add_argument(
        "--adapter",
        action="store_true",
        help="folder: the adapter alone, which needs its base model there",
    )
    onnx = parser.add_argument_group("onnx")
    onnx.add_argument("--unpruned", action="store_true", help="the same weights, nothing pruned")
    onnx.add_argument(
        "--single", action="store_true", help="for one text at a time: a little faster"
    )
    onnx.add_argument("--int8", action="store_true", help="weights of matrix products in int8")


def run(arguments: Namespace) -> Output:
    """Writes the file or folder."""
    given = [name for name in ("unpruned", "single", "int8") if getattr(arguments, name)]
    if given and arguments.format != "onnx":
        raise UserError(f"--{given[0]} goes with --format onnx only.")
    if arguments.adapter and arguments.format != "folder":
        raise UserError("--adapter goes with --format folder only.")
    if arguments.single and arguments.unpruned:
        raise UserError("--single goes with a pruned model only: leave out one of the two.")
    model = load_model(arguments)
    path = _output(arguments, model)
    if path.exists() and not arguments.force:
        raise UserError(f"{path} is there already: name another with --output, or add --force.")
    inputs = _write(arguments, model, path)
    files = [path] if path.is_file() else path.rglob("*")
    size = sum(file.stat().st_size for file in files if file.is_file())
    is_pruned = arguments.format != "hf" and not arguments.unpruned
    document = {
        "checkpoint": model.name,
        "format": arguments.format,
        "path": str(path),
        "bytes": size,
        "pruned": is_pruned,
        "inputs": inputs,
    }
    what = "tokens are removed inside" if is_pruned else "nothing is pruned"
    text = f"{path}: {size / 1e6:.1f} MB, {what}"
    if model.questions is not None and arguments.format == "hf":
        text += (
            "\nIts null threshold and stride are in task_specific_params of config.json; transformers "
            "does not apply the threshold by itself."
        )
    if arguments.int8 or (model.input_scales and arguments.format == "onnx"):
        text += (
            "\nOn x86 processors without VNNI open it with the session option session.x64quantprecision "
            "= 1: ONNX Runtime cuts off its sums of int8 products there otherwise."
        )
    return Output(document=document, text=text)


def _output(arguments: Namespace, model: PrunedModel) -> Path:
    if arguments.output is not None:
        output: Path = arguments.output
        return output
    if arguments.format != "onnx":
        return Path(f"{model.name}-{arguments.format}")
    unpruned, single, int8 = arguments.unpruned, arguments.single, arguments.int8
    return Path(f"{model.name}{'-unpruned' * unpruned}{'-single' * single}{'-int8' * int8}.onnx")


def _write(arguments: Namespace, model: PrunedModel, path: Path) -> list[str]:
    """Writes, and gives the names of the inputs."""
    from ltp_core.export import export_hugging_face, export_onnx, input_names

    if arguments.format == "folder":
        from ltp_core.checkpoint_places import checkpoint_folder
        from ltp_core.export.folder import export_folder

        source = checkpoint_folder(arguments.checkpoint)
        export_folder(model, source, path, is_adapter=arguments.adapter)
        return input_names(model)
    if arguments.format == "hf":
        export_hugging_face(model, path)
        return input_names(model)
    export_onnx(
        model,
        path,
        pruned=not arguments.unpruned,
        int8=arguments.int8,
        is_single=arguments.single,
    )

    from ltp_core.export.layers import INPUTS

    return list(INPUTS)


COMMAND = Command(
    name="export",
    summary="write a checkpoint for ONNX Runtime, for transformers, or for another machine",
    examples=("rotten_tomatoes-ltp --format onnx", "sst2-ltp --format folder --output my-model"),
    add_arguments=add_arguments,
    run=run,
)
