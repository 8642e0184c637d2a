"""`train`: from a preset to a finished run in the store."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import Any

from ltp_core.cli.base import Command, Output, add_data, columns, percent
from ltp_core.config import load_config
from ltp_core.records import RunManifest


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("preset", metavar="PRESET", help="name of a preset, or a .toml file")
    parser.add_argument(
        "overrides",
        metavar="KEY=VALUE",
        nargs="*",
        help="setting to change, as soft.epochs=2; the value none removes it",
    )
    parser.add_argument(
        "--force", action="store_true", help="train again although the run is complete"
    )
    add_data(parser)


def run(arguments: Namespace) -> Output:
    """Trains what the store does not hold yet; a killed training goes on where it was."""
    config = load_config(arguments.preset, arguments.overrides)
    print(f"Run {config.name}", file=sys.stderr)
    if arguments.force:
        _name_dependents(config.name)

    from ltp_core.store import read_manifest
    from ltp_core.training.train import train

    folder = train(config, data_dir=arguments.data_dir, force=arguments.force, show_progress=True)
    manifest = read_manifest(folder)
    document = {"name": manifest.name, "folder": str(folder), "summary": manifest.summary}
    return Output(document=document, text=_card(manifest, str(folder)))


def _name_dependents(name: str) -> None:
    """Says on stderr which runs cannot be loaded any more if these weights come out otherwise."""
    from ltp_core.checkpoint_places import sharing_runs
    from ltp_core.store import default_store, run_folder

    if names := sharing_runs(run_folder(default_store(), name)):
        print(
            f"The weights of this run are also those of {', '.join(names)}: unless they come "
            "out the same, train them again with --force, too.",
            file=sys.stderr,
        )


def _card(manifest: RunManifest, folder: str) -> str:
    rows = [
        (split, *_headline(result), percent(result["relative_flops"]["paper"]))
        for split, result in manifest.summary.items()
        if isinstance(result, dict) and "metrics" in result
    ]
    table = columns(("split", "metric", "value", "relative FLOPs"), rows)
    return f"{manifest.name}\n{folder}\n\n{table}"


def _headline(result: dict[str, Any]) -> tuple[str, str]:
    name, value = next(iter(result["metrics"].items()))
    return name, percent(value)


COMMAND = Command(
    name="train",
    summary="train a preset, or go on with a training that was stopped",
    examples=("sst2_ltp", "sst2_ltp seed=1 soft.epochs=2 --data-dir DATA"),
    add_arguments=add_arguments,
    run=run,
)
