"""`presets`: the configurations that come with the package."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ltp_core.cli.base import Command, Output, columns
from ltp_core.config import load_config, preset_names, to_dict, to_toml


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "preset", metavar="NAME", nargs="?", help="print this one, every default filled in"
    )
    parser.add_argument("overrides", metavar="KEY=VALUE", nargs="*", help="setting to change")


def run(arguments: Namespace) -> Output:
    """Lists the presets, or prints one as a TOML file."""
    if arguments.preset:
        config = load_config(arguments.preset, arguments.overrides)
        return Output(document=to_dict(config), text=to_toml(config).rstrip())
    configs = {name: load_config(name) for name in preset_names()}
    document = [
        {"name": name, "task": config.task, "method": config.method.name, "run": config.name}
        for name, config in configs.items()
    ]
    rows = [tuple(entry.values()) for entry in document]
    return Output(document=document, text=columns(("preset", "task", "method", "run"), rows))


COMMAND = Command(
    name="presets",
    summary="list the presets, or print one with every default",
    examples=("", "sst2_ltp seed=1 > mine.toml"),
    add_arguments=add_arguments,
    run=run,
)
