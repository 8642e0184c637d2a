"""`predict`: every row of a file with its label and probabilities."""

from __future__ import annotations

import contextlib
import io
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ltp_core.cli import events
from ltp_core.cli.base import (
    Command,
    Output,
    add_budget,
    add_checkpoint,
    add_device,
    add_engine,
    check_engine,
    load_model,
    positive,
    usable_device,
    warn_of_emulation,
)
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.predicting.predict import Counts, Engine, Report

STANDARD = "-"
"""Standard input, or output."""


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_checkpoint(parser)
    add_budget(parser)
    parser.add_argument(
        "file",
        metavar="FILE",
        help="CSV, TSV, JSON lines, Parquet, .txt with a text a line; - reads standard input: JSON "
        "lines with --text, else a text a line",
    )
    parser.add_argument(
        "--text",
        metavar="COLUMN",
        help="column of the text (default: the only one that holds texts)",
    )
    parser.add_argument("--text-pair", metavar="COLUMN", help="column of the second text of a pair")
    parser.add_argument(
        "--out",
        default=STANDARD,
        metavar="OUT",
        help="file to write: .csv, .tsv, .jsonl or .parquet (default: JSON lines to standard output)",
    )
    parser.add_argument("--force", action="store_true", help="overwrite the file")
    parser.add_argument(
        "--prefix",
        default="predicted_",
        metavar="TEXT",
        help="beginning of the names of the new columns (default: predicted_)",
    )
    parser.add_argument(
        "--runner",
        choices=("packed", "onnx", "masked"),
        default="packed",
        help="remove pruned tokens, do so in ONNX Runtime, or only mask them (default: packed)",
    )
    parser.add_argument(
        "--dtype",
        choices=("float32", "bfloat16", "float16", "int8"),
        default="float32",
        help="of the layers' weights: packed takes all of them, int8 where `doctor` names it; onnx float32 "
        "and int8, masked float32",
    )
    parser.add_argument(
        "--batch-size", type=positive, default=32, metavar="N", help="texts a pass (default: 32)"
    )
    parser.add_argument(
        "--chunk-rows",
        type=positive,
        default=4096,
        metavar="N",
        help="rows that are sorted by length, and saved, together (default: 4096)",
    )
    add_device(parser)
    add_engine(parser)


def run(arguments: Namespace) -> Output:
    """Predicts; a run that was killed goes on behind its last finished chunk."""
    to_stream = arguments.out == STANDARD
    _check(arguments, to_stream)
    is_local = arguments.engine == "local"
    device = usable_device(arguments.device if is_local else "cpu")

    from ltp_core.predicting.predict import predict_file, predict_stream, stream_lines, stream_rows
    from ltp_core.predicting.scoring import Scorer

    model = load_model(arguments, device)
    scorer = Scorer(
        model,
        runner=arguments.runner,
        dtype=arguments.dtype,
        batch_size=arguments.batch_size,
    )
    warn_of_emulation({arguments.dtype}, device)
    source = None if arguments.file == STANDARD else Path(arguments.file).expanduser()
    columns = _columns(arguments, source, model)
    with (
        contextlib.nullcontext() if is_local else _on_cluster(arguments, model) as engine,
        _Progress(events.reporter(arguments)) as report,
    ):
        options: dict[str, Any] = {
            "engine": engine,
            "prefix": arguments.prefix,
            "chunk_rows": arguments.chunk_rows,
            "report": report,
        }
        if not to_stream and source is not None:
            settings = {"runner": arguments.runner, "dtype": arguments.dtype}
            counts = predict_file(
                scorer,
                source,
                columns,
                Path(arguments.out).expanduser(),
                settings=settings,
                notice=lambda sentence: print(sentence, file=sys.stderr),
                **options,
            )
        else:
            from ltp_core.predicting.join import read_source
            from ltp_core.tasks.files import place_of

            rows = (
                stream_rows(stream_lines(sys.stdin.buffer), columns)
                if source is None
                else read_source(source)
            )
            place = "Standard input, line" if source is None else place_of(source)
            assert sys.__stdout__ is not None
            # JSON lines are UTF-8, whatever the locale says.
            if isinstance(sys.__stdout__, io.TextIOWrapper):
                sys.__stdout__.reconfigure(encoding="utf-8")
            # While a command runs, `sys.stdout` leads to stderr: libraries print what is no row.
            counts = predict_stream(scorer, rows, columns, sys.__stdout__, place=place, **options)
    document = {"checkpoint": model.name, "out": arguments.out, **asdict(counts)}
    text = _card(model, arguments.out, counts)
    if to_stream:
        print(text, file=sys.stderr)
    return Output(document=document, text="" if to_stream else text)


@contextlib.contextmanager
def _on_cluster(arguments: Namespace, model: PrunedModel) -> Iterator[Engine]:
    from ltp_core.cluster.connection import OBJECT_STORE_BYTES, connected
    from ltp_core.cluster.predicting import cluster_engine

    weights_bytes = sum(p.numel() * p.element_size() for p in model.encoder.parameters())
    with connected(
        arguments.address, object_store_bytes=OBJECT_STORE_BYTES + 2 * weights_bytes
    ) as cluster:
        yield cluster_engine(
            cluster,
            model,
            runner=arguments.runner,
            dtype=arguments.dtype,
            batch_size=arguments.batch_size,
            device=arguments.device,
        )


def _check(arguments: Namespace, to_stream: bool) -> None:
    check_engine(arguments)
    if to_stream and (arguments.json or arguments.events):
        raise UserError(
            "Without --out the rows go to standard output: give --out, or leave --json out."
        )
    if arguments.text_pair and not arguments.text:
        raise UserError("--text-pair names the second text: name the first one with --text.")
    if arguments.file == STANDARD:
        if not to_stream:
            raise UserError(
                "What comes from standard input goes to standard output: leave --out out, and redirect it."
            )
        return
    if not Path(arguments.file).expanduser().is_file():
        raise UserError(f"There is no file {arguments.file[:200]!r}: correct its path.")
    if not to_stream and Path(arguments.out).expanduser().exists() and not arguments.force:
        raise UserError(f"{arguments.out} is there already: name another, or add --force.")


def _columns(arguments: Namespace, source: Path | None, model: PrunedModel) -> tuple[str, ...]:
    from ltp_core.tasks.catalogue import known_task
    from ltp_core.tasks.own_texts import choose_columns

    task = known_task(model.task)
    given = tuple(name for name in (arguments.text, arguments.text_pair) if name)
    if task is not None and given and task.is_pair != (len(given) == 2):
        raise UserError(
            f"{model.name} takes {'two texts: name' if task.is_pair else 'one text: leave out'} "
            "--text-pair."
        )
    if source is None:
        if task is not None and task.is_pair and not given:
            raise UserError(f"{model.name} takes two texts: name --text and --text-pair.")
        return given
    return choose_columns(
        source,
        given,
        task.text_columns if task else (),
        task.is_pair if task else None,
        option="--text and --text-pair" if task and task.is_pair else "--text",
    )


class _Progress:
    """A bar on stderr with rows, rows a second and the time that is left; events for a program."""

    def __init__(self, tell: events.Report) -> None:
        self._tell = tell

    def __enter__(self) -> Report:
        from tqdm import tqdm

        self._bar = tqdm(
            total=1.0,
            bar_format="{percentage:3.0f} % {bar} {postfix}",
            postfix="reading",
            file=sys.stderr,
        )
        self._began: tuple[float, int, float] | None = None
        self._start = time.perf_counter()
        return self._report

    def __exit__(self, *error: object) -> None:
        self._bar.close()

    def _report(self, rows: int, fraction: float | None) -> None:
        now = time.perf_counter()
        # An earlier run may have done the first rows: the rate is counted from the first report on.
        since, rows_then, fraction_then = self._began or (self._start, 0, 0.0)
        self._began = self._began or (now, rows, fraction or 0.0)
        seconds, done = now - since, (fraction or 0.0) - fraction_then
        rate = (rows - rows_then) / seconds
        left_s = (1 - (fraction or 0.0)) * seconds / done if done > 0 else None
        left = "" if left_s is None else f", {self._bar.format_interval(left_s)} left"
        self._bar.n = fraction or 0.0
        self._bar.set_postfix_str(f"{rows:,} rows, {rate:,.0f} rows/s{left}")
        self._tell(
            "progress",
            {"rows": rows, "fraction": fraction, "rows_per_s": rate, "left_s": left_s},
        )


def _card(model: PrunedModel, out: str, counts: Counts) -> str:
    done = counts.rows - counts.resumed
    where = "standard output" if out == STANDARD else out
    lines = [
        f"{counts.rows:,} rows by {model.name} to {where}: {done:,} in {counts.duration_s:.1f} s"
        + (f", {counts.resumed:,} by an earlier run" if counts.resumed else "")
    ]
    if counts.without_text:
        first = ", ".join(map(str, counts.first_without_text))
        more = ", …" if counts.without_text > len(counts.first_without_text) else ""
        lines.append(f"{counts.without_text:,} rows have no text and no label: {first}{more}")
    if counts.cut:
        lines.append(
            f"{counts.cut:,} texts are longer than {model.max_length} tokens: only their beginning counts"
        )
    return "\n".join(lines)


COMMAND = Command(
    name="predict",
    summary="label every row of a file",
    examples=(
        "sst2-ltp reviews.csv --text review --out scored.csv",
        "sst2-ltp texts.txt --out scored.jsonl --runner onnx",
    ),
    add_arguments=add_arguments,
    run=run,
)
