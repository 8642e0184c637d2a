"""`train`: from a preset, or a file of one's own, to a finished run in the store."""

from __future__ import annotations

import json
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING

from ltp_core.cli import events
from ltp_core.cli.base import Command, Output, add_data, columns, factor, percent
from ltp_core.config import TrainConfig, load_config
from ltp_core.records import RunManifest, UserError

if TYPE_CHECKING:
    from ltp_core.tasks.own_data import OwnTask

OWN_PRESET = "own_ltp_s"
"""Settings that own data is trained with unless others are named: one model for every budget."""
LENGTH_ROWS = 2_000
"""Training texts whose lengths are shown before the training."""
MAX_SHOWN_CLASSES = 12


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "preset",
        metavar="PRESET",
        nargs="?",
        help=f"name of a preset, or a .toml file (with --data by default {OWN_PRESET})",
    )
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
    parser.add_argument(
        "--minutes",
        type=minutes,
        metavar="N",
        help="as many epochs, and not more than the settings ask for, as take about N minutes here: a few "
        "steps are measured first; the epochs are shown, and are a part of the run's name",
    )
    own = parser.add_argument_group("own data")
    own.add_argument(
        "--data",
        metavar="FILE",
        help="labelled CSV, TSV, JSON lines or Parquet, a folder with such files train, validation and "
        "test, or hub:OWNER/NAME[:CONFIGURATION]",
    )
    own.add_argument("--text", metavar="COLUMN", help="column of the text")
    own.add_argument("--text-pair", metavar="COLUMN", help="column of the second text of a pair")
    own.add_argument("--label", metavar="COLUMN", help="column of the label")
    own.add_argument(
        "--kind",
        choices=("classification", "regression", "multi_label"),
        help="what the label is (default: guessed, and shown)",
    )
    own.add_argument(
        "--dry-run", action="store_true", help="show the data and the run's name, and train nothing"
    )


def minutes(text: str) -> float:
    """A number above 0, for argparse."""
    if not (value := factor(text)) > 0:
        raise ArgumentTypeError(f"{text!r} is no number above 0")
    return value


def run(arguments: Namespace) -> Output:
    """Trains what the store does not hold yet; a killed training goes on where it was."""
    from ltp_core.config import lineage, stages_of
    from ltp_core.tasks.own_data import own_task

    tell = events.reporter(arguments)
    tell("phase", {"phase": "data"})
    config = _config(arguments)
    own = own_task(config.task)
    if own is not None:
        print(about_data(own), *_lengths(config), sep="\n", file=sys.stderr)
    if arguments.minutes is not None:
        tell("phase", {"phase": "measuring"})
        config = _within(config, arguments)
    print(f"Run {config.name}", file=sys.stderr)
    plan = [
        {
            "run": each.name,
            "stages": {name: asdict(stage) for name, stage in stages_of(each).items()},
        }
        for each in lineage(config)
    ]
    tell("plan", {"task": config.task, "runs": plan, "epochs": _epochs(config)})
    if arguments.dry_run:
        document = {"name": config.name, "task": config.task, "own_data": own and asdict(own)}
        return Output(document=document, text=f"{config.name}: nothing is trained")
    if arguments.force:
        _name_dependents(config.name)

    from ltp_core.store import read_manifest
    from ltp_core.training.train import train

    folder = train(
        config,
        data_dir=arguments.data_dir,
        force=arguments.force,
        show_progress=True,
        report=tell,
    )
    manifest = read_manifest(folder)
    document = {"name": manifest.name, "folder": str(folder), "summary": manifest.summary}
    return Output(document=document, text=_card(manifest, str(folder)))


def _config(arguments: Namespace) -> TrainConfig:
    """The run; what the options say of own data goes into the table `data`."""
    preset, overrides = arguments.preset, list(arguments.overrides)
    if preset is not None and "=" in preset and not preset.endswith(".toml"):
        preset, overrides = None, [preset, *overrides]
    options = {
        "file": arguments.data,
        "text": arguments.text,
        "label": arguments.label,
        "text_pair": arguments.text_pair,
        "kind": arguments.kind,
    }
    given = {key: value for key, value in options.items() if value is not None}
    if given and arguments.data is None:
        option = next(iter(given)).replace("_", "-")
        raise UserError(f"--{option} says how a file is read: name the file with --data.")
    if arguments.data is not None:
        for key in ("text", "label"):
            if key not in given:
                raise UserError(
                    f"--data {arguments.data}: name the column of the {key} with --{key}."
                )
    elif preset is None:
        raise UserError(
            "Name a preset, as `presets` lists them, or a file of your own with --data."
        )
    return load_config(
        preset or OWN_PRESET,
        [*overrides, *(f"data.{key}={json.dumps(value)}" for key, value in given.items())],
    )


def _within(config: TrainConfig, arguments: Namespace) -> TrainConfig:
    """With as many epochs as fit into `--minutes`; says what was measured."""
    from ltp_core.training.estimate import estimate, within

    expected = estimate(config, arguments.data_dir)
    changed = within(config, 60 * arguments.minutes, expected)
    epochs = " ".join(_epochs(changed))
    print(
        f"All epochs would take about {expected.total_s / 60:.1f} minutes here; {arguments.minutes:g} are "
        f"given: {epochs}. After a stop the same command goes on if these stand there instead of "
        "--minutes.",
        file=sys.stderr,
    )
    return changed


def _epochs(config: TrainConfig) -> list[str]:
    """The epochs of every stage as they are typed."""
    stages = {"finetune": config.finetune, **config.later_stages}
    return [f"{name}.epochs={stage.epochs:g}" for name, stage in stages.items()]


def about_data(task: OwnTask) -> str:
    """What was made of a user's data: kind, splits, classes, and every row that is left out."""
    *texts, label = map(repr, task.columns)
    why = f", guessed from {task.guess}" if task.guess else ""
    shown = task.label_names[:MAX_SHOWN_CLASSES]
    header = ["split", "rows", *shown, *["more"] * (len(task.label_names) > len(shown))]
    rows = []
    for split, total in task.rows.items():
        counts = task.classes.get(split, ())
        rest = sum(counts[len(shown) :])
        cells = [*counts[: len(shown)], *[rest] * (len(counts) > len(shown))]
        rows.append([split, f"{total:,}", *(percent(n / total, 0) for n in cells)])
    lines = [
        f"Task {task.name} from {task.source}: texts in {' and '.join(texts)}, labels in {label}",
        f"{task.kind.replace('_', ' ').capitalize()}{why}",
        "",
        columns(header, rows),
        "",
    ]
    for reason, left_out in task.left_out.items():
        more = ", …" if left_out.count > len(left_out.first) else ""
        lines.append(
            f"left out: {left_out.count:,} with {reason} ({'; '.join(left_out.first)}{more})"
        )
    return "\n".join(lines)


def _lengths(config: TrainConfig) -> list[str]:
    """Lengths of some training texts in tokens, beside the longest that is taken."""
    from ltp_core.checkpoint_tokenizer import load_tokenizer_of
    from ltp_core.tasks.loading import load_rows
    from ltp_core.tokenize import length_facts

    tokenizer, _ = load_tokenizer_of(config.base)
    texts = load_rows(config.task, "train", limit=LENGTH_ROWS).texts
    found = length_facts(tokenizer, texts, config.data.max_length)
    lines = [
        f"tokens of {len(texts):,} training texts: median {found.median}, 95 % up to {found.most}, "
        f"longest {found.longest}"
    ]
    if found.cut_share:
        lines.append(
            f"{percent(found.cut_share)} are longer than data.max_length = {config.data.max_length}: only "
            f"their beginning counts; data.max_length={found.most} takes 95 % whole"
        )
    return lines


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
    rows = []
    for split, result in manifest.summary.items():
        if isinstance(result, dict) and "metrics" in result:
            name, value = next(iter(result["metrics"].items()))
            flops = percent(result["relative_flops"]["paper"])
            rows.append((split, name, percent(value), flops))
    table = columns(("split", "metric", "value", "relative FLOPs"), rows)
    return f"{manifest.name}\n{folder}\n\n{table}"


COMMAND = Command(
    name="train",
    summary="train a preset, or go on with a training that was stopped",
    examples=(
        "sst2_ltp seed=1 soft.epochs=2 --data-dir DATA",
        "--data reviews.csv --text review --label stars",
    ),
    add_arguments=add_arguments,
    run=run,
)
