"""How long texts take with a checkpoint, as a stored benchmark measured it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ltp_core import environment
from ltp_core.analysis.intervals import Estimate
from ltp_core.analysis.pays.accuracy import SHALLOW, ShallowControl
from ltp_core.analysis.pays.cost import Cost, Lengths
from ltp_core.analysis.runs import number
from ltp_core.bench.noise import is_too_noisy
from ltp_core.bench.results import BenchEntry, list_benches
from ltp_core.bench.variants import BASELINE, CONTROL, METHOD, SHUFFLED, VARIANTS, own_control
from ltp_core.records import UserError

ONNX = "onnx_pruned_sorted"
MILLION = 1_000_000
HOUR_S = 3600
USUAL_BATCH_SIZE = 32


@dataclass(frozen=True, kw_only=True)
class Speed:
    """One way to run the texts, as measured.

    Attributes:
        variant: Its name in the benchmark: one of `VARIANTS`, or a run.
        title: The same for people.
        texts_per_s: Median; on other lengths scaled by counted FLOPs.
        saved: Share of the time of the same engine with nothing pruned that pruning saves, with the
            quartiles over the rounds; None where nothing is pruned, or it was not measured.
        is_noisy: The rounds are too far apart to say it.
    """

    variant: str
    title: str
    texts_per_s: float
    saved: Estimate | None
    is_noisy: bool = False

    @property
    def million_s(self) -> float:
        """Seconds for a million texts."""
        return MILLION / self.texts_per_s

    def cost(self, price_per_hour: float) -> float:
        """What a million texts cost on a machine at this price an hour, in its currency."""
        return self.million_s / HOUR_S * price_per_hour


@dataclass(frozen=True, kw_only=True)
class Timing:
    """What a benchmark says of the texts.

    Attributes:
        bench: Its name.
        machine: Processor or accelerator.
        is_here: It was measured on a processor like this machine's.
        batch_size: Sequences a pass.
        mean_length: Tokens of the sequences that ran, mean.
        is_scaled: The texts have other lengths than these, and the times are scaled by counted FLOPs.
        speeds: By variant.
    """

    bench: str
    machine: str
    is_here: bool
    batch_size: int
    mean_length: float
    is_scaled: bool
    speeds: dict[str, Speed]


def benches_of(
    run: str, lengths: Lengths | None = None, entries: Sequence[BenchEntry] | None = None
) -> list[BenchEntry]:
    """Benchmarks of throughput with this run and its control, the best evidence first.

    Those of this machine come before others, then those that ran these lengths, then the newest.

    Args:
        run: Name of the run.
        lengths: What is asked about.
        entries: What `list_benches` gives; None reads the stores.
    """
    found = [
        entry
        for entry in (list_benches() if entries is None else entries)
        if entry.document is not None
        and entry.document["what"] == "throughput"
        and entry.document.get("checkpoint") == run
        and {METHOD, CONTROL} <= {line["contender"] for line in entry.document["results"]}
    ]

    def rank(entry: BenchEntry) -> tuple[bool, bool]:
        document = entry.document or {}
        return not is_here(document), lengths is None or not _ran(document, lengths)

    return sorted(found, key=rank)


def _ran(document: Mapping[str, Any], lengths: Lengths) -> bool:
    """Whether a benchmark took its texts from the rows that have these lengths."""
    settings = document["settings"]
    rows_of = document.get("task"), settings.get("split")
    is_as_in_data = any(line.get("length") is None for line in document["results"])
    return is_as_in_data and rows_of == (lengths.task, lengths.split)


def is_here(document: Mapping[str, Any]) -> bool:
    """Whether a benchmark was measured on a processor like this machine's."""
    card = document["environment"]
    return not card.get("accelerator") and card.get("processor") == environment.processor()


def batch_sizes(entry: BenchEntry) -> list[int]:
    """Sequences a pass that a benchmark measured, ascending."""
    assert entry.document is not None
    return sorted({line["batch_size"] for line in entry.document["results"]})


def choose_bench(
    run: str,
    lengths: Lengths,
    entries: Sequence[BenchEntry],
    bench: str | None,
    missing: list[str],
) -> BenchEntry | None:
    """The benchmark of this name, or the best evidence."""
    found = benches_of(run, lengths, entries)
    if bench is not None:
        names = [entry.name for entry in found]
        if bench not in names:
            raise UserError(
                f"{bench} is no benchmark of {run} with its control; there is "
                f"{', '.join(names) or 'none'}."
            )
        return found[names.index(bench)]
    if not found:
        missing.append(
            f"No time was measured: `python -m ltp_core bench {run} --quick` does, in about a minute."
        )
    return found[0] if found else None


def timing_of(
    entry: BenchEntry,
    lengths: Lengths,
    cost: Cost,
    batch_size: int | None,
    shallow: ShallowControl | None,
    missing: list[str],
) -> Timing | None:
    """What a benchmark says of these lengths; None, and `missing` says why, where it says nothing.

    Raises:
        UserError: It has no such batch size.
    """
    sizes = batch_sizes(entry)
    if batch_size is None:
        batch_size = USUAL_BATCH_SIZE if USUAL_BATCH_SIZE in sizes else sizes[-1]
    elif batch_size not in sizes:
        raise UserError(
            f"{entry.name} has no batch size {batch_size}, but {', '.join(map(str, sizes))}."
        )
    document = entry.document
    assert document is not None
    at_size = [line for line in document["results"] if line["batch_size"] == batch_size]
    # The lengths of the data where they were measured, else the nearest.
    length = min(
        (line.get("length") for line in at_size),
        key=lambda n: (n is not None, abs((n or 0) - cost.tokens)),
    )
    # Anybody may have written the file: what has no speed is no measurement.
    lines = {
        line["contender"]: line
        for line in at_size
        if line.get("length") == length and line["sequences_per_s"] > 0
    }
    if not {METHOD, CONTROL} <= set(lines):
        missing.append(f"{entry.name} lacks pruning or its control at batch {batch_size}.")
        return None
    is_scaled = length is not None or not _ran(document, lengths)
    mean_length = number(lines[METHOD].get("mean_length"))
    factors = _scaling(lines, cost) if is_scaled else {True: 1.0, False: 1.0}
    if factors is None:
        missing.append(
            f"{entry.name} ran texts of {mean_length:.0f} tokens, and the FLOPs of these cannot be counted: "
            "nothing is said of their time."
        )
        return None
    if is_scaled:
        missing.append(
            f"The times were measured on texts of {mean_length:.0f} tokens in the mean and are scaled to "
            f"{cost.tokens:.0f} by counted FLOPs, which is no measurement."
        )
    speeds = {
        name: speed
        for name, line in lines.items()
        if (speed := _speed(name, line, lines, document, factors)) is not None
    }
    order = [*dict.fromkeys((METHOD, CONTROL, BASELINE, SHUFFLED, *VARIANTS, *speeds))]
    speeds = {name: speeds[name] for name in order if name in speeds}
    _say_what_was_not_timed(document, speeds, shallow, missing)
    card = document["environment"]
    return Timing(
        bench=entry.name,
        machine=str(card.get("accelerator") or card.get("processor") or "an unknown processor"),
        is_here=is_here(document),
        batch_size=batch_size,
        mean_length=mean_length,
        is_scaled=is_scaled,
        speeds=speeds,
    )


def _scaling(lines: Mapping[str, Any], cost: Cost) -> dict[bool, float] | None:
    """By whether it prunes, FLOPs of a text that was timed over those of one of these texts."""
    share = cost.relative_flops["executed"]
    timed = {
        is_pruned: _flops(lines[name]) for is_pruned, name in ((True, METHOD), (False, CONTROL))
    }
    wanted = cost.unpruned_flops
    if wanted is None or math.isnan(share) or not all(x > 0 for x in timed.values()):
        return None
    return {True: timed[True] / (wanted * share), False: timed[False] / wanted}


def _flops(line: Mapping[str, Any]) -> float:
    return number(line.get("flops_per_sequence"))


def _speed(
    name: str,
    line: Mapping[str, Any],
    lines: Mapping[str, Any],
    document: Mapping[str, Any],
    factors: Mapping[bool, float],
) -> Speed | None:
    """A line of the results; None for what is no way to get answers."""
    variant = VARIANTS.get(name)
    said = document["contenders"].get(name)
    card = said if isinstance(said, Mapping) else {}
    if variant is None:
        if card.get("method") != SHALLOW:
            return None
    elif not variant.is_model or variant.engine in ("masked", "repadded"):
        return None
    is_pruned = variant is not None and variant.is_pruned
    saved, is_noisy = None, False
    control = own_control(variant, lines) if variant is not None else None
    if control is not None and control == (card.get("control") or CONTROL):
        saved, is_noisy = _saved(line, lines[control], factors)
    return Speed(
        variant=name,
        title=variant.title if variant else str(card.get("title") or name),
        texts_per_s=float(line["sequences_per_s"]) * factors[is_pruned],
        saved=saved,
        is_noisy=is_noisy,
    )


def _saved(
    line: Mapping[str, Any], control: Mapping[str, Any], factors: Mapping[bool, float]
) -> tuple[Estimate | None, bool]:
    """Share of the control's time that pruning saves, and whether that is too noisy to say.

    Within each round the speedup is the promised one times the realised share of it.
    """
    if "realised_share" not in line:
        return None, False
    if is_too_noisy(line, "realised_share"):
        return None, True
    shares = [float(line[f"realised_share{quartile}"]) for quartile in ("", "_q1", "_q3")]
    if not all(x > 0 for x in (*shares, _flops(control), _flops(line))):
        return None, False
    promised = _flops(control) / _flops(line) * factors[True] / factors[False]
    value, low, high = (1 - 1 / (promised * share) for share in shares)
    return Estimate(value=value, low=low, high=high), False


def _say_what_was_not_timed(
    document: Mapping[str, Any],
    speeds: Mapping[str, Speed],
    shallow: ShallowControl | None,
    missing: list[str],
) -> None:
    warning = document["noise"].get("warning")
    if warning:
        missing.append(f"The benchmark warns: {warning}.")
    if ONNX not in speeds:
        missing.append("ONNX Runtime took no part in the benchmark.")
    if shallow is not None and shallow.run not in speeds:
        missing.append(
            "The shallower model took no part in the benchmark, so its time is not known."
        )
    if not {BASELINE, SHUFFLED} & set(speeds):
        missing.append("Hugging Face took no part in the benchmark.")
