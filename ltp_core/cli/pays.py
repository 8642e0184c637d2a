"""`pays`: whether pruning pays for a checkpoint, some lengths and a machine, in one sentence and a table."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.cli.base import (
    Command,
    Output,
    add_budget,
    add_checkpoint,
    columns,
    factor,
    percent,
    positive,
)
from ltp_core.cli.lengths import count_own, names
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.analysis.pays.cost import Lengths
    from ltp_core.analysis.pays.decision import Decision


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_checkpoint(parser)
    add_budget(parser)
    parser.add_argument(
        "--lengths",
        metavar="SOURCE",
        help="TASK or TASK/SPLIT as `lengths` counted it, a file of texts, or one with a number of "
        "tokens a line (default: the rows that the checkpoint was evaluated on)",
    )
    parser.add_argument(
        "--columns", type=names, metavar="A[,B]", help="one or two columns of the file of texts"
    )
    parser.add_argument(
        "--bench", metavar="NAME", help="stored benchmark (default: this machine's, the newest)"
    )
    parser.add_argument(
        "--batch-size", type=positive, metavar="N", help="one that it measured (default: 32)"
    )
    parser.add_argument(
        "--price",
        type=factor,
        metavar="X",
        help="what an hour of the machine costs you, in any currency: adds the cost of a million texts",
    )


def run(arguments: Namespace) -> Output:
    """Reads the store; nothing is computed by a network."""
    from ltp_core.analysis.pays.decision import decide
    from ltp_core.analysis.pays.sentence import sentence
    from ltp_core.checkpoint_places import checkpoint_folder

    name = checkpoint_folder(arguments.checkpoint).name
    decision = decide(
        name,
        _lengths(arguments, name),
        bench=arguments.bench,
        batch_size=arguments.batch_size,
        budget=arguments.budget,
        max_loss=arguments.max_loss,
    )
    said = sentence(decision, name)
    document = {"sentence": said, "price_per_hour": arguments.price, **asdict(decision)}
    return Output(document=document, text=_card(said, decision, arguments.price))


def _lengths(arguments: Namespace, checkpoint: str) -> Lengths | None:
    """The lengths that are asked about; None for the checkpoint's own rows."""
    if arguments.lengths is None:
        if arguments.columns:
            raise UserError("--columns says how a file of texts is read: name it with --lengths.")
        return None
    from ltp_core.analysis.pays.cost import Lengths
    from ltp_core.lengths.sources import FILE_SPLIT, stated_lengths

    path = Path(arguments.lengths).expanduser()
    if not path.is_file():
        return _of_task(arguments, checkpoint)
    if (counts := stated_lengths(path)) is None:
        found, _ = count_own(
            path,
            columns=arguments.columns,
            splits=None,
            checkpoint=checkpoint,
            report=lambda split, rows, fraction: None,
        )
        counts = found.splits[FILE_SPLIT].counts
    elif arguments.columns:
        raise UserError(f"{path.name} holds lengths, not texts: leave --columns out.")
    return Lengths(name=path.name, counts=counts)


def _of_task(arguments: Namespace, checkpoint: str) -> Lengths:
    """Stored counts of a task with the checkpoint's tokenizer."""
    from ltp_core import store
    from ltp_core.analysis.pays.cost import Lengths
    from ltp_core.checkpoint_tokenizer import tokenizer_facts
    from ltp_core.lengths.shift import evaluation_split, training_split
    from ltp_core.lengths.sources import find_task_set
    from ltp_core.tasks.catalogue import find_task

    if arguments.columns:
        raise UserError("--columns says how a file of texts is read: --lengths names none.")
    task, _, split = arguments.lengths.partition("/")
    find_task(task)
    found = find_task_set(store.stores(), task, tokenizer_facts(checkpoint))
    if found is None:
        raise UserError(
            f"The lengths of {task} have not been counted with this tokenizer: run `python -m ltp_core "
            f"lengths {task} --checkpoint {checkpoint} --store`."
        )
    split = split or evaluation_split(found) or training_split(found)
    if split not in found.splits:
        raise UserError(f"{task} has no split {split!r}; it has {', '.join(found.splits)}.")
    return Lengths(
        name=f"{task}/{split}", counts=found.splits[split].counts, task=task, split=split
    )


# ---- text ----


def _card(said: str, decision: Decision, price: float | None) -> str:
    parts = [said, _cost_line(decision), _changes(decision), _speeds(decision, price)]
    parts.append("\n".join(f"- {sentence}" for sentence in decision.missing))
    return "\n\n".join(part for part in parts if part)


def _cost_line(decision: Decision) -> str:
    cost = decision.cost
    after = "" if cost.tokens_left is None else f", {cost.tokens_left:.1f} after a layer (mean)"
    shares = ", ".join(f"{name} {percent(x)}" for name, x in cost.relative_flops.items())
    return f"{cost.texts:,} texts of {cost.tokens:.1f} tokens{after}; FLOPs that are left: {shares}"


def _changes(decision: Decision) -> str:
    from ltp_core.analysis.pays.sentence import points

    who = [(decision.records or decision.checkpoint, decision.changes)]
    who += [(decision.shallow.run, decision.shallow.changes)] if decision.shallow else []
    rows = [
        (name, split, f"{change.rows:,}", change.metric, percent(change.value), gap)
        for name, changes in who
        for split, change in changes.items()
        for gap in [points(change.difference) if change.difference else "–"]
    ]
    return columns(("", "split", "rows", "metric", "value", "to the dense counterpart"), rows)


def _speeds(decision: Decision, price: float | None) -> str:
    timing = decision.timing
    if timing is None:
        return ""
    from ltp_core.bench.noise import TOO_NOISY

    rows: list[list[Any]] = []
    for speed in timing.speeds.values():
        saved = percent(speed.saved.value, 0) if speed.saved else TOO_NOISY * speed.is_noisy
        cells = [speed.title, f"{speed.texts_per_s:,.0f}", f"{speed.million_s / 60:,.1f}", saved]
        rows.append(cells + ([] if price is None else [f"{speed.cost(price):,.3f}"]))
    header = ["", "texts/s", "minutes a million", "time saved"]
    header += [] if price is None else [f"cost at {price:g} an hour"]
    heading = f"{timing.bench}: {timing.machine}, batch {timing.batch_size}"
    return f"{heading}\n{columns(header, rows)}"


COMMAND = Command(
    name="pays",
    summary="whether pruning pays: FLOPs, time, cost and accuracy of a checkpoint on some lengths",
    examples=("rotten_tomatoes-ltp-5011", "sst2-ltp-7d72 --lengths lengths.txt --price 0.4 --json"),
    add_arguments=add_arguments,
    run=run,
)
