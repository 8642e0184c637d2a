"""`lengths`: how long the inputs of a data set are, and how far evaluation is from training."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.cli.base import Command, Output, add_data, columns, factor, percent, positive
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.cli.lengths_input import Counted
    from ltp_core.lengths.report import Side
    from ltp_core.lengths.sets import LengthSet
    from ltp_core.lengths.statistics import DivergenceRule

TOKEN_BINS = "token"


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a task; a CSV, TSV, JSON lines or Parquet file; a folder of such files, one or more a "
        "split; or hub:OWNER/NAME[:CONFIGURATION]",
    )
    parser.add_argument(
        "--eval-file", type=Path, metavar="FILE", help="evaluation inputs (default: SOURCE's own)"
    )
    parser.add_argument("--eval-split", metavar="SPLIT", help="evaluation split of SOURCE")
    parser.add_argument(
        "--columns",
        type=_names,
        metavar="A[,B]",
        help="one or two columns of the own data that hold the texts; quote a name with a comma",
    )
    parser.add_argument(
        "--splits", type=_names, metavar="A,B,…", help="splits of the own data (default: all)"
    )
    parser.add_argument(
        "--checkpoint", help="whose tokenizer counts (default: the default base model's)"
    )
    _add_rule(parser)
    parser.add_argument(
        "--store",
        action="store_true",
        help="keep the counts in the store; a task on its own is counted anew",
    )
    add_data(parser)


def _add_rule(parser: ArgumentParser) -> None:
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


def _names(text: str) -> tuple[str, ...]:
    from ltp_core.lengths.sources import split_names

    try:
        return split_names(text)
    except ValueError as error:
        raise ArgumentTypeError(f"{text!r} is no list of names ({error})") from error


def _bins(text: str) -> int | str:
    return text if text == TOKEN_BINS else positive(text)


def run(arguments: Namespace) -> Output:
    """Reads stored counts or counts, and compares training with evaluation."""
    from ltp_core.cli import lengths_input
    from ltp_core.lengths import report
    from ltp_core.lengths.shift import compare

    counted = [lengths_input.count(arguments)]
    if arguments.eval_file is not None:
        counted.append(lengths_input.count_own(arguments, arguments.eval_file))
    if arguments.store:
        for one in counted:
            _keep(one)
    train, evaluation = _sides(arguments, [one.counts for one in counted])
    shift = None
    if evaluation is not None:
        rule = _rule(arguments, train.counts)
        shift = compare(train.lengths.counts, evaluation.lengths.counts, rule)
    document = report.document(train, evaluation, shift)
    return Output(document=document, text=_card(document))


def _keep(counted: Counted) -> None:
    from ltp_core.files import atomic_write
    from ltp_core.lengths.sets import set_path
    from ltp_core.store import default_store

    if counted.is_new:
        content = counted.counts.to_json().encode()
        atomic_write(set_path(default_store(), counted.counts.key), content)


def _sides(arguments: Namespace, counted: list[LengthSet]) -> tuple[Side, Side | None]:
    """What stands for training, and what it is compared with, if there is anything."""
    from ltp_core.lengths.report import Side, evaluation_split, training_split

    train, evaluation = counted[0], counted[-1]
    wished = arguments.eval_split
    if wished is not None and wished not in evaluation.splits:
        raise UserError(
            f"{evaluation.name} has no split {wished!r}; it has {', '.join(evaluation.splits)}."
        )
    usual = evaluation_split(train) if evaluation is train else training_split(evaluation)
    split = wished or usual
    second = None if split is None else Side(counts=evaluation, split=split)
    return Side(counts=train, split=training_split(train)), second


def _rule(arguments: Namespace, train: LengthSet) -> DivergenceRule:
    from ltp_core.lengths.report import default_rule
    from ltp_core.lengths.statistics import DivergenceRule

    bins = arguments.bins or default_rule(train).bins
    return DivergenceRule(
        bins=None if bins == TOKEN_BINS else bins,
        from_zero=arguments.from_zero,
        epsilon=arguments.epsilon,
    )


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
