"""`bench`: measured speed of a checkpoint, beside its controls and peers."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from ltp_core.bench.catalogue import CONTENDERS, available_contenders, default_contenders
from ltp_core.bench.settings import (
    RETAIN_RATIOS,
    SCALING_LENGTHS,
    TOPK_LENGTHS,
    BenchSettings,
    DType,
    What,
)
from ltp_core.commands.base import (
    Command,
    Output,
    add_data,
    add_device,
    add_subset,
    columns,
    factor,
    percent,
    positive,
    positives,
    usable_device,
)
from ltp_core.commands.events import Report, reporter
from ltp_core.records import UserError

DATA_LENGTHS = "data"

SCALING_CONTENDERS = ("packed", "packed_unpruned", "hugging_face")


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
        choices=("throughput", "scaling", "topk"),
        default="throughput",
        help="throughput by batch size and length (default), time against length, or top-k "
        "selection against a threshold",
    )
    _add_contenders(parser)
    add_subset(parser, rows=256)
    add_data(parser)
    add_device(parser)
    _add_extent(parser)
    parser.add_argument(
        "--no-store", action="store_true", help="do not keep the result in the store"
    )


def _add_contenders(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--contenders",
        type=_names,
        metavar="NAME,NAME",
        help=f"who takes part, or all; of {', '.join(CONTENDERS)}",
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
        "--batch-sizes", type=positives, metavar="N,N", help="default: 1,8,32; for topk 32"
    )
    parser.add_argument(
        "--lengths",
        type=_lengths,
        metavar="N,N",
        help=f"tokens of every sequence; {DATA_LENGTHS} for those of the data (default: "
        f"{DATA_LENGTHS}; for scaling {_listed(SCALING_LENGTHS)}; for topk {_listed(TOPK_LENGTHS)})",
    )
    parser.add_argument(
        "--retain-ratios",
        type=_ratios,
        default=list(RETAIN_RATIOS),
        metavar="X,X",
        help=f"fractions that topk keeps (default: {_listed(RETAIN_RATIOS)})",
    )
    parser.add_argument(
        "--repeats", type=positive, default=5, metavar="N", help="rounds (default: 5)"
    )
    parser.add_argument(
        "--seconds",
        type=factor,
        metavar="S",
        help="time for measuring; fewer sequences a round where it is short (default: no limit)",
    )
    parser.add_argument("--threads", type=positive, metavar="N", help="processor threads")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), default="float32", help="of weights"
    )


def _names(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _lengths(text: str) -> list[int | None]:
    parts = [part.strip() for part in text.split(",")]
    return [None if part == DATA_LENGTHS else positive(part) for part in parts]


def _ratios(text: str) -> list[float]:
    return [factor(part.strip()) for part in text.split(",")]


def _listed(values: tuple[Any, ...]) -> str:
    return ",".join(map(str, values))


def run(arguments: Namespace) -> Output:
    """Measures, alternating between the contenders."""
    device = usable_device(arguments.device)

    from ltp_core.store import default_store

    keep = None if arguments.no_store else default_store()
    report = reporter(arguments)
    if arguments.what == "topk":
        from ltp_core.bench.topk import bench_topk

        document = bench_topk(_settings(arguments, device, None, ()), store=keep, report=report)
        return Output(document=document, text=_topk_card(document))
    document = _bench(arguments, device, keep, report)
    return Output(document=document, text=_card(document))


def _bench(arguments: Namespace, device: str, keep: Path | None, report: Report) -> dict[str, Any]:
    if arguments.checkpoint is None:
        raise UserError("Name the checkpoint to measure; `checkpoints` lists what there is.")

    from ltp_core.bench.throughput import bench
    from ltp_core.checkpoint import load_checkpoint

    model = load_checkpoint(arguments.checkpoint, device=device)
    against = [load_checkpoint(name, device=device) for name in arguments.against]
    names = tuple(other.name for other in against)
    return bench(
        _settings(arguments, device, model.name, names),
        model,
        against=against,
        data_dir=arguments.data_dir,
        store=keep,
        report=report,
    )


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
        contenders=_contenders(arguments),
        repeats=arguments.repeats,
        seconds=arguments.seconds,
        device=device,
        dtype=dtype,
        threads=arguments.threads,
    )


def _extent(arguments: Namespace) -> tuple[tuple[int | None, ...], tuple[int, ...]]:
    """Lengths and batch sizes, with the defaults of what is measured."""
    lengths: tuple[int | None, ...] = {
        "scaling": SCALING_LENGTHS,
        "topk": TOPK_LENGTHS,
    }.get(arguments.what, (None,))
    sizes = {"scaling": (8,), "topk": (32,)}.get(arguments.what, (1, 8, 32))
    return tuple(arguments.lengths or lengths), tuple(arguments.batch_sizes or sizes)


def _contenders(arguments: Namespace) -> tuple[str, ...]:
    if arguments.contenders == ["all"]:
        return available_contenders()
    default = SCALING_CONTENDERS if arguments.what == "scaling" else default_contenders()
    return tuple(arguments.contenders or default)


_HEADER = (
    "batch",
    "length",
    "contender",
    "rounds",
    "sequences/s (quartiles)",
    "to Hugging Face",
    "to packed, unpruned",
    "by FLOPs",
    "realised",
)


def _card(document: dict[str, Any]) -> str:
    lines = [
        f"{document['checkpoint']} on {document['task']}/{document['settings']['split']}",
        *_machine(document),
        "",
        columns(
            _HEADER,
            [_row(line, document) for line in document["results"]],
        ),
        "",
        *(f"{who['title']}: {who['meaning']}" for who in document["contenders"].values()),
        *_ceilings(document),
        *_answers(document),
    ]
    return "\n".join(lines + _notes(document))


def _ceilings(document: dict[str, Any]) -> list[str]:
    """What the matrix products alone allow, where they took part."""
    return [
        f"batch {line['batch_size']}: the same matrix products alone become "
        f"{_times(line['ceiling_speedup'])} as fast; {percent(line['ceiling_share'], 0)} of that is "
        "realised"
        for line in document["results"]
        if "ceiling_speedup" in line
    ]


def _answers(document: dict[str, Any]) -> list[str]:
    """What coarser numbers do to the answers."""
    return [
        f"batch {line['batch_size']}, {document['contenders'][line['contender']]['title']}: "
        f"{percent(line['equal_predictions'])} of {line['sequences']} predictions are those of "
        f"float32; metric {percent(line['metric'])}, there {percent(line['reference_metric'])}"
        for line in document["results"]
        if "equal_predictions" in line
    ]


def _machine(document: dict[str, Any]) -> list[str]:
    machine, noise = document["environment"], document["noise"]
    processor = machine.get("accelerator") or machine["processor"]
    rate = noise["matmul_flops_per_s"] / 1e9
    return [
        f"{processor}, {machine['threads']} threads, {machine['device']}, "
        f"{document['settings']['dtype']}; matrix products reach {rate:,.0f} GFLOP/s; identical work "
        f"varied by {percent(noise['identical_work_spread'])}"
    ]


def _row(line: dict[str, Any], document: dict[str, Any]) -> tuple[str, ...]:
    speed = f"{line['sequences_per_s']:.0f}"
    quartiles = f"{line['sequences_per_s_q1']:.0f}–{line['sequences_per_s_q3']:.0f}"
    length = str(line["length"]) if line["length"] else f"data, {line['mean_length']:.0f}"
    return (
        str(line["batch_size"]),
        length,
        document["contenders"][line["contender"]]["title"],
        f"{line['rounds']} × {line['sequences']}",
        f"{speed} ({quartiles})",
        _times(line.get("relative_throughput")),
        _times(line.get("speedup")),
        _times(line.get("theoretical_speedup")),
        percent(line.get("realised_share"), 0),
    )


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"


def _topk_card(document: dict[str, Any]) -> str:
    rows = [
        (
            str(line["length"]),
            percent(line["retain_ratio"], 0),
            document["contenders"][line["contender"]]["title"],
            f"{line['time_us']:.1f} ({line['time_us_q1']:.1f}–{line['time_us_q3']:.1f})",
            _times(line["slowdown"]),
        )
        for line in document["results"]
    ]
    header = ("length", "kept", "selection", "µs (quartiles)", "to threshold")
    sizes = ", ".join(map(str, document["settings"]["batch_sizes"]))
    title = f"Selecting tokens, batch {sizes}"
    table = columns(header, rows)
    return "\n".join([title, *_machine(document), "", table, *_notes(document)])


def _notes(document: dict[str, Any]) -> list[str]:
    notes = []
    if document["skipped"]:
        notes.append(f"The time limit left out {len(document['skipped'])} measurements.")
    if document["noise"]["warning"]:
        notes.append(f"Noisy machine: {document['noise']['warning']}.")
    if document["name"]:
        notes.append(f"Kept in the store as {document['name']}.")
    return ["", *notes] if notes else []


COMMAND = Command(
    name="bench",
    summary="measure speed against unpruned controls and peers",
    examples=("rotten_tomatoes-ltp", "sst2-ltp --batch-sizes 1,32 --lengths 32,128 --seconds 120"),
    add_arguments=add_arguments,
    run=run,
)
