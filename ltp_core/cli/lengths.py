"""`lengths`: how long the inputs of a data set are, and how far evaluation is from training."""

from __future__ import annotations

import contextlib
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.cli import events
from ltp_core.cli.base import Command, Output, add_data, columns, factor, percent, positive
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.lengths.counts import LengthSet
    from ltp_core.lengths.sources import Report

TOKEN_BINS = "token"


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a task; a CSV, TSV, JSON lines or Parquet file; a text or CSV file with a length in tokens a "
        "line; a folder of such files, one or more a split; or hub:OWNER/NAME[:CONFIGURATION]",
    )
    parser.add_argument(
        "--eval-file", type=Path, metavar="FILE", help="evaluation inputs (default: SOURCE's own)"
    )
    parser.add_argument("--eval-split", metavar="SPLIT", help="evaluation split of SOURCE")
    parser.add_argument(
        "--columns",
        type=names,
        metavar="A[,B]",
        help="one or two columns of the own data that hold the texts; quote a name with a comma",
    )
    parser.add_argument(
        "--splits", type=names, metavar="A,B,…", help="splits of the own data (default: all)"
    )
    parser.add_argument(
        "--checkpoint", help="whose tokenizer counts (default: the default base model's)"
    )
    parser.add_argument(
        "--store",
        action="store_true",
        help="keep the counts in the store; a task on its own is counted anew",
    )
    add_data(parser)
    group = parser.add_argument_group("divergence")
    group.add_argument(
        "--bins",
        type=_bins,
        metavar="N|token",
        help="equal bins, or one a token (default: 20 for rte, mrpc, stsb, else 50)",
    )
    group.add_argument(
        "--from-zero", action="store_true", help="bins begin at 0, not at the shortest input"
    )
    group.add_argument(
        "--epsilon",
        type=factor,
        metavar="E",
        help="add E to the probability of every bin (default: leave out bins that one side lacks)",
    )


def names(text: str) -> tuple[str, ...]:
    """Names separated by commas, for argparse; one that holds a comma stands in quotation marks."""
    from ltp_core.lengths.sources import split_names

    try:
        return split_names(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no list of names ({error})") from error


def _bins(text: str) -> int | str:
    return text if text == TOKEN_BINS else positive(text)


def run(arguments: Namespace) -> Output:
    """Reads stored counts or counts, and compares training with evaluation."""
    from ltp_core.files import atomic_write
    from ltp_core.lengths.counts import set_path
    from ltp_core.lengths.shift import (
        DivergenceRule,
        Side,
        compare,
        default_rule,
        document,
        evaluation_split,
        training_split,
    )
    from ltp_core.store import default_store

    counted = [_count(arguments)]
    if arguments.eval_file is not None:
        counted.append(_count_own(arguments, arguments.eval_file))
    for counts, is_new in counted if arguments.store else ():
        if is_new:
            atomic_write(set_path(default_store(), counts.key), counts.to_json().encode())

    # What stands for training, and what it is compared with, if there is anything.
    train, evaluation = counted[0][0], counted[-1][0]
    split = arguments.eval_split
    if split is not None and split not in evaluation.splits:
        raise UserError(
            f"{evaluation.name} has no split {split!r}; it has {', '.join(evaluation.splits)}."
        )
    if split is None:
        is_own = evaluation is train
        split = evaluation_split(train) if is_own else training_split(evaluation)
    first = Side(counts=train, split=training_split(train))
    second = None if split is None else Side(counts=evaluation, split=split)
    shift = None
    if second is None:
        for name, usual in (("bins", None), ("from_zero", False), ("epsilon", None)):
            if getattr(arguments, name) != usual:
                raise UserError(
                    f"--{name.replace('_', '-')} is about a divergence, and {train.name} has one split: name "
                    "--eval-file too, or leave it out."
                )
    else:
        bins = arguments.bins or default_rule(train).bins
        rule = DivergenceRule(
            bins=None if bins == TOKEN_BINS else bins,
            from_zero=arguments.from_zero,
            epsilon=arguments.epsilon,
        )
        shift = compare(first.lengths.counts, second.lengths.counts, rule)
    found = document(first, second, shift)
    return Output(document=found, text=_card(found))


# ---- counting ----


def _count(arguments: Namespace) -> tuple[LengthSet, bool]:
    """Counts of the source, and whether they were counted just now and not stored already."""
    from ltp_core import checkpoint_tokenizer, store
    from ltp_core.lengths import sources
    from ltp_core.tasks import hub
    from ltp_core.tasks.catalogue import find_task, known_task
    from ltp_core.tasks.files import SUFFIXES

    name = arguments.source
    if known_task(name) is not None:
        if arguments.splits or (arguments.columns and arguments.eval_file is None):
            option = "splits" if arguments.splits else "columns"
            raise UserError(f"--{option} is for own data: {name} is a task, leave it out.")
        is_recount = arguments.store and arguments.eval_file is None
        facts = checkpoint_tokenizer.tokenizer_facts(arguments.checkpoint)
        stored = None if is_recount else sources.find_task_set(store.stores(), name, facts)
        if stored:
            return stored, False
        tokenizer, facts = checkpoint_tokenizer.load_tokenizer_of(arguments.checkpoint)
        counts = sources.count_task(
            name,
            tokenizer,
            facts,
            data_dir=arguments.data_dir,
            report=_report(arguments),
        )
        return counts, True
    if arguments.data_dir is not None:
        raise UserError(
            f"--data-dir says where the tasks' files are, and {name[:200]!r} is no task: leave it out."
        )
    if name.startswith(hub.HUB):
        return _count_hub(arguments, name.removeprefix(hub.HUB)), True
    path = None
    with contextlib.suppress(OSError, ValueError, RuntimeError):  # no path at all
        path = Path(name).expanduser()
        path = path if name.strip() and path.exists() else None
    if path is not None:
        if path.is_file() and arguments.splits:
            raise UserError(f"--splits is for a folder: {path.name} is one file, leave it out.")
        return _count_own(arguments, path)
    if Path(name).suffix.lower() not in SUFFIXES and "/" not in name:
        find_task(name)  # says which task is near
    raise UserError(f"There is no file or folder {name[:200]!r}: correct its path.")


def _count_own(arguments: Namespace, path: Path) -> tuple[LengthSet, bool]:
    """Counts of a file or folder, and whether they are new."""
    return count_own(
        path,
        columns=arguments.columns,
        splits=arguments.splits,
        checkpoint=arguments.checkpoint,
        report=_report(arguments),
    )


def count_own(
    path: Path,
    *,
    columns: tuple[str, ...] | None,
    splits: tuple[str, ...] | None,
    checkpoint: str | None,
    report: Report,
) -> tuple[LengthSet, bool]:
    """Counts of a file or folder, and whether they are new: the same content is counted once.

    Args:
        path: The file or folder.
        columns: One or two columns of texts; None takes the only one, or the lengths of a file that
            states them.
        splits: Splits of a folder; None takes all.
        checkpoint: Whose tokenizer counts.
        report: Called as counting goes on.

    Raises:
        UserError: A file cannot be read, or the columns are not clear.
    """
    from ltp_core import checkpoint_tokenizer, store
    from ltp_core.lengths import sources
    from ltp_core.tasks.files import look

    files = sources.own_files(path, splits)
    if not columns and path.is_file() and (stated := sources.stated_lengths(path)) is not None:
        facts = checkpoint_tokenizer.tokenizer_facts(checkpoint)
        return sources.stated_set(path.name, stated, facts), True
    if columns:
        chosen = _one_or_two(columns)
    else:
        # Without a choice it is the only column that holds texts.
        file = next(iter(files.values()))[0]
        chosen = look(file).text_columns
        if len(chosen) != 1:
            raise UserError(
                f"{file.name} has several columns of text ({', '.join(chosen)}): choose one or two "
                "with --columns."
            )
    facts = checkpoint_tokenizer.tokenizer_facts(checkpoint)
    content = sources.content_hash(files, chosen)
    if found := sources.find_own_set(store.stores(), content, facts):
        return found, False
    tokenizer, facts = checkpoint_tokenizer.load_tokenizer_of(checkpoint)
    return sources.count_files(path.name, files, chosen, tokenizer, facts, report=report), True


def _one_or_two(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > 2:
        raise UserError(f"An input has one or two texts, not {len(names)}: name fewer --columns.")
    return names


def _count_hub(arguments: Namespace, name: str) -> LengthSet:
    from ltp_core import checkpoint_tokenizer
    from ltp_core.lengths import sources
    from ltp_core.tasks import hub

    hub.check(name)
    if not arguments.columns:
        raise UserError(f"Name the columns of {name} that hold the texts with --columns.")
    tokenizer, facts = checkpoint_tokenizer.load_tokenizer_of(arguments.checkpoint)
    return sources.count_hub(
        name,
        arguments.splits or ("train", "validation"),
        _one_or_two(arguments.columns),
        tokenizer,
        facts,
        report=_report(arguments),
    )


def _report(arguments: Namespace) -> Report:
    tell = events.reporter(arguments)
    return lambda split, rows, fraction: tell(
        "progress", {"split": split, "rows": rows, "fraction": fraction}
    )


# ---- text ----


def _card(document: dict[str, Any]) -> str:
    sides = [side for side in (document["train"], document["evaluation"]) if side]
    lines = [
        f"{document['train']['data']}, tokens of {document['tokenizer']['name']}, special tokens included",
        "",
        columns(_HEADER, [_cells(side) for side in sides]),
    ]
    if document["shift"]:
        lines += ["", *_shift_lines(document["shift"])]
    if document["paper"]:
        lines += ["", _paper_line(document["paper"])]
    return "\n".join(lines)


_HEADER = ("", "rows", "shortest", "Q1", "Q2", "Q3", "99 %", "longest", "source")


def _cells(side: dict[str, Any]) -> tuple[str, ...]:
    found, published = side["lengths"], side["published_rows"]
    rows = f"{found['rows']:,}" + (
        f" of {published:,}" if published not in (None, found["rows"]) else ""
    )
    numbers = (f"{found[key]:g}" for key in ("least", "q1", "q2", "q3", "p99", "greatest"))
    return (f"{side['data']}/{side['split']}", rows, *numbers, side["source"])


def _shift_lines(shift: dict[str, Any]) -> list[str]:
    from ltp_core.lengths.shift import MEASURES

    rows = []
    for name, (title, unit) in zip(MEASURES, _TITLES, strict=True):
        value, floor = shift["measures"][name], shift["floors"][name]
        chance = f"{floor['median']:.4f}, at most {floor['high']:.4f} in 19 of 20"
        rows.append((title, f"{value:.4f} {unit}", chance))
    return [
        columns(("", "measured", "by chance alone"), rows),
        "",
        f"{percent(shift['share_longer_than_p99'])} of evaluation is longer than 99 % of training.",
        f"{_rule_text(shift)}",
    ]


_TITLES = (
    ("KL(train ‖ evaluation)", "nats"),
    ("KL(evaluation ‖ train)", "nats"),
    ("Jensen–Shannon", "nats"),
    ("Wasserstein", "tokens"),
)


def _rule_text(shift: dict[str, Any]) -> str:
    epsilon = shift["rule"]["epsilon"]
    left_out = [percent(shift[f"{side}_left_out"], 2) for side in ("train", "evaluation")]
    smoothing = (
        f"bins that one side lacks are left out ({left_out[0]} of training, {left_out[1]} of evaluation)"
        if epsilon is None
        else f"{epsilon:g} is added to the probability of each"
    )
    return (
        f"{shift['num_bins']} bins from {shift['low']:g} to {shift['high']:g} tokens; {smoothing}."
    )


def _paper_line(paper: dict[str, Any]) -> str:
    train, evaluation = ("/".join(map(str, paper[side])) for side in ("train", "evaluation"))
    return (
        f"paper, Table 2, {paper['label']}: train {train}, evaluation {evaluation}, KL "
        f"{paper['kl']:.4f} (RoBERTa's tokens)"
    )


COMMAND = Command(
    name="lengths",
    summary="lengths of training and evaluation inputs, and their divergence",
    examples=("sst2", "mine.csv --columns text --eval-file new.csv --store --json"),
    add_arguments=add_arguments,
    run=run,
)
