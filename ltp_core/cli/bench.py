"""`bench`: measured speed of a checkpoint, beside its controls and peers."""

from __future__ import annotations

import math
import sys
import time
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.bench.settings import (
    AT,
    RETAIN_RATIOS,
    SCALING_LENGTHS,
    TOPK_LENGTHS,
    TRAINING_LENGTHS,
    BenchSettings,
    DType,
    What,
)
from ltp_core.bench.variants import (
    BASELINE,
    CONTROL,
    DEFAULT,
    DEFAULT_ON_GPU,
    METHOD,
    VARIANTS,
    available_variants,
    can_run,
)
from ltp_core.cli.base import (
    Command,
    Output,
    add_budget,
    add_data,
    add_device,
    add_subset,
    factor,
    load_model,
    positive,
    separated,
    usable_device,
    warn_of_emulation,
)
from ltp_core.cli.bench_cards import predict_card, throughput_card, topk_card, training_card
from ltp_core.cli.events import Report, reporter
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel

DATA_LENGTHS = "data"

SPLIT, ROWS = "validation", 256

QUICK_S = 40.0
"""Measuring time of a quick benchmark; loading and warming up come on top."""

SAY_EVERY_S = 5.0

SCALING_VARIANTS = (METHOD, CONTROL, BASELINE)


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument(
        "checkpoint",
        metavar="CHECKPOINT",
        nargs="?",
        help="name of a run, the unique beginning of one, or a model folder; none for topk",
    )
    parser.add_argument(
        "--what",
        choices=("throughput", "scaling", "topk", "training", "predict"),
        default="throughput",
        help="throughput by batch size and length (default), time against length, top-k selection "
        "against a threshold, a training step by stage, or predict beside transformers' pipeline over a "
        "file (the last two are never stored)",
    )
    _add_variants(parser)
    add_budget(parser)
    add_subset(parser, rows=ROWS)
    add_data(parser)
    add_device(parser)
    _add_extent(parser)
    parser.add_argument(
        "--no-store", action="store_true", help="do not keep the result in the store"
    )


def _add_variants(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--variants",
        "--contenders",
        type=_names,
        metavar="NAME,NAME",
        help=f"what is compared, or all; of {', '.join(VARIANTS)}",
    )
    parser.add_argument(
        "--against",
        type=_names,
        default=[],
        metavar="RUN,RUN",
        help="other checkpoints to run beside it, each with its own method",
    )


def _add_extent(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--batch-sizes",
        type=separated(positive),
        metavar="N,N",
        help="default: 1,8,32; for topk, training and predict 32",
    )
    parser.add_argument(
        "--lengths",
        type=separated(_length),
        metavar="N,N",
        help=f"tokens of every sequence; {DATA_LENGTHS} for those of the data (default: "
        f"{DATA_LENGTHS}; for scaling {_listed(SCALING_LENGTHS)}; for topk {_listed(TOPK_LENGTHS)}; "
        f"for training {_listed(TRAINING_LENGTHS)})",
    )
    parser.add_argument(
        "--retain-ratios",
        type=separated(factor),
        default=list(RETAIN_RATIOS),
        metavar="X,X",
        help=f"fractions that topk keeps (default: {_listed(RETAIN_RATIOS)})",
    )
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="rounds (default: 5)"
    )
    limit = parser.add_mutually_exclusive_group()
    limit.add_argument(
        "--quick",
        dest="seconds",
        action="store_const",
        const=QUICK_S,
        help=f"measure for {QUICK_S:.0f} s, about a minute with loading (default)",
    )
    limit.add_argument(
        "--full",
        dest="seconds",
        action="store_const",
        const=math.inf,
        help="no time limit: every sequence in every round",
    )
    limit.add_argument(
        "--seconds",
        type=factor,
        metavar="S",
        help="time for measuring; fewer sequences a round where it is short",
    )
    parser.set_defaults(seconds=QUICK_S)
    parser.add_argument("--threads", type=positive, metavar="N", help="processor threads")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of weights"
    )


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _length(text: str) -> int | None:
    return None if text == DATA_LENGTHS else positive(text)


def _listed(values: tuple[Any, ...]) -> str:
    return ",".join(map(str, values))


def run(arguments: Namespace) -> Output:
    """Measures, alternating between the variants."""
    _refuse_unused(arguments)
    device = usable_device(arguments.device)

    from ltp_core.store import default_store

    keep = None if arguments.no_store else default_store()
    report = reporter(arguments) if arguments.events else _say_progress()
    if arguments.what == "topk":
        from ltp_core.bench.topk import bench_topk

        document = bench_topk(_settings(arguments, device, None, ()), store=keep, report=report)
        return Output(document=document, text=topk_card(document))
    if arguments.checkpoint is None:
        wanted = {
            "training": "Name the checkpoint whose sizes are to be trained.",
            "predict": "Name the checkpoint to predict with.",
        }
        usual = "Name the checkpoint to measure; `checkpoints` lists what there is."
        raise UserError(wanted.get(arguments.what, usual))
    if arguments.what == "training":
        from ltp_core.bench.training import bench_training

        model = _load(arguments, device)
        settings = _settings(arguments, device, model.name, ())
        warn_of_emulation({settings.dtype}, device)
        document = bench_training(settings, model, report=report)
        return Output(document=document, text=training_card(document))
    if arguments.what == "predict":
        from ltp_core.bench.predicting import bench_predict

        model = _load(arguments, device)
        settings = _settings(arguments, device, model.name, ())
        document = bench_predict(settings, model, data_dir=arguments.data_dir, report=report)
        return Output(document=document, text=predict_card(document))
    document = _bench(arguments, device, keep, report)
    return Output(document=document, text=throughput_card(document))


_TEXTS = {"task": None, "split": SPLIT, "limit": ROWS, "data_dir": None}
_STRENGTH = {"budget": None, "max_loss": None}
_UNUSED: dict[str, dict[str, Any]] = {
    "topk": {
        "checkpoint": None,
        "variants": None,
        "against": [],
        "dtype": "float32",
        **_TEXTS,
        **_STRENGTH,
    },
    "training": {
        **_STRENGTH,
        "variants": None,
        "against": [],
        "retain_ratios": list(RETAIN_RATIOS),
        "seconds": QUICK_S,
        **_TEXTS,
    },
    "predict": {
        "variants": None,
        "against": [],
        "lengths": None,
        "dtype": "float32",
        "retain_ratios": list(RETAIN_RATIOS),
        "seconds": QUICK_S,
    },
    "throughput": {"retain_ratios": list(RETAIN_RATIOS)},
    "scaling": {"retain_ratios": list(RETAIN_RATIOS)},
}
"""By what is measured, options that say nothing of it, with the values that they have unless given."""


def _refuse_unused(arguments: Namespace) -> None:
    for name, usual in _UNUSED[arguments.what].items():
        if getattr(arguments, name) != usual:
            option = {"checkpoint": "CHECKPOINT", "seconds": "--full or --seconds"}.get(
                name, f"--{name.replace('_', '-')}"
            )
            raise UserError(
                f"{option} says nothing of what `--what {arguments.what}` measures: leave it out."
            )


def _say_progress() -> Report:
    """Tells stderr, terminal or not, what is measured and every few seconds how far it is."""
    began = said = time.monotonic()
    plan: dict[str, Any] = {}

    def report(event: str, fields: dict[str, Any]) -> None:
        nonlocal said
        now = time.monotonic()
        if event == "plan":
            plan.update(fields)
            titles = ", ".join(each["title"] for each in fields["contenders"].values())
            _say(f"Measuring {titles}")
        elif event == "point" or now - said >= SAY_EVERY_S:
            # Rounds that a time limit leaves out count as done when a place is finished.
            plan["done"] = max(plan.get("done", 0), fields.get("done", 0))
            has_turns = "turns" in plan
            counted = f"{plan['done']} of at most {plan['turns']} turns, " if has_turns else ""
            size = fields.get("batch_size")
            _say(f"{counted}{now - began:.0f} s" + (f", batch {size}" if size else ""))
        else:
            return
        said = now

    return report


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _bench(arguments: Namespace, device: str, keep: Path | None, report: Report) -> dict[str, Any]:
    from ltp_core.bench.throughput import bench
    from ltp_core.checkpoint import load_checkpoint
    from ltp_core.checkpoint_places import checkpoint_folder

    wanted = [arguments.checkpoint, *arguments.against]
    for name in wanted:
        checkpoint_folder(name)  # one that does not exist is refused before anything is said
    _say(f"Loading {', '.join(wanted)}")
    model = _load(arguments, device)
    against = [load_checkpoint(name, device=device) for name in arguments.against]
    settings = _settings(arguments, device, model.name, tuple(other.name for other in against))
    precisions = {VARIANTS[name].precision for name in settings.variants}
    warn_of_emulation({settings.dtype, *precisions}, device)
    return bench(
        settings,
        model,
        against=against,
        data_dir=arguments.data_dir,
        store=keep,
        report=report,
    )


def _load(arguments: Namespace, device: str) -> PrunedModel:
    """The checkpoint; at another strength than its own its name says so, since figures are kept by name."""
    budget, max_loss = arguments.budget, arguments.max_loss
    model = load_model(arguments, device)
    if budget is None and max_loss is None:
        return model
    strength = f"budget-{budget:g}" if max_loss is None else f"loss-{max_loss:g}"
    return replace(model, name=f"{model.name}{AT}{strength}")


def _settings(
    arguments: Namespace, device: str, checkpoint: str | None, against: tuple[str, ...]
) -> BenchSettings:
    what: What = arguments.what
    dtype: DType = arguments.dtype
    lengths, batch_sizes = _extent(arguments)
    return BenchSettings(
        what=what,
        checkpoint=checkpoint,
        against=against,
        task=arguments.task,
        split=arguments.split,
        limit=arguments.limit,
        batch_sizes=batch_sizes,
        lengths=lengths,
        retain_ratios=tuple(arguments.retain_ratios),
        variants=_variants(arguments, device, dtype),
        repeats=arguments.repeats,
        seconds=None if math.isinf(arguments.seconds) else arguments.seconds,
        device=device,
        dtype=dtype,
        threads=arguments.threads,
    )


def _extent(arguments: Namespace) -> tuple[tuple[int | None, ...], tuple[int, ...]]:
    """Lengths and batch sizes, with the defaults of what is measured."""
    lengths: tuple[int | None, ...] = {
        "scaling": SCALING_LENGTHS,
        "topk": TOPK_LENGTHS,
        "training": TRAINING_LENGTHS,
    }.get(arguments.what, (None,))
    sizes = {"scaling": (8,), "topk": (32,), "training": (32,), "predict": (32,)}.get(
        arguments.what, (1, 8, 32)
    )
    return tuple(arguments.lengths or lengths), tuple(arguments.batch_sizes or sizes)


def _variants(arguments: Namespace, device: str, dtype: str) -> tuple[str, ...]:
    """The named ones; of all, or of the usual ones, those that can run there."""
    if arguments.variants and arguments.variants != ["all"]:
        return tuple(arguments.variants)
    kind = device.partition(":")[0]
    usual = DEFAULT_ON_GPU if kind == "cuda" else DEFAULT
    wanted = SCALING_VARIANTS if arguments.what == "scaling" else usual
    available = available_variants()
    return tuple(
        name
        for name in (available if arguments.variants else wanted)
        if name in available and can_run(VARIANTS[name], kind, dtype)
    )


COMMAND = Command(
    name="bench",
    summary="measure speed against unpruned controls and peers",
    examples=("rotten_tomatoes-ltp", "sst2-ltp --batch-sizes 1,32 --lengths 32,128 --full"),
    add_arguments=add_arguments,
    run=run,
)
