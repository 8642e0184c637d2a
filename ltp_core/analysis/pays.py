"""Whether pruning pays: a checkpoint on some lengths and on a machine, put together from the store.

Accuracy is what the runs' records say, FLOPs are counted, and a time is always one that was measured.
What the store lacks for a fuller answer is named. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Num

from ltp_core import environment, store
from ltp_core.analysis.example_records import ExampleRecords, evaluated_splits, read_examples
from ltp_core.analysis.intervals import Estimate
from ltp_core.analysis.runs import CHOSEN_ON, REPORTED_ON, UNPRUNED, Row, number, rows, runs_table
from ltp_core.analysis.tradeoff import curve_of, paired_difference
from ltp_core.bench.noise import TOO_NOISY, is_too_noisy
from ltp_core.bench.results import BenchEntry, list_benches
from ltp_core.bench.variants import BASELINE, CONTROL, METHOD, SHUFFLED, VARIANTS, own_control
from ltp_core.budget import factor_for
from ltp_core.flops import ACCOUNTINGS, FLOPS_PER_MAC, layer_macs
from ltp_core.lengths.counts import LengthCounts, share_longer
from ltp_core.records import RunManifest, UserError
from ltp_core.store import StoreError
from ltp_core.tasks.catalogue import known_task

Vector = Num[np.ndarray, " _"]

ONNX = "onnx_pruned_sorted"
SHALLOW = "shallow"
SPLITS = (REPORTED_ON, CHOSEN_ON)
MILLION = 1_000_000
HOUR_S = 3600
USUAL_BATCH_SIZE = 32
NUM_BANDS = 10
"""Bands of length in which the share of the FLOPs is taken from a checkpoint's records."""
SAME_BUDGET = 0.005
"""Relative FLOPs within which a stored run of the same weights stands for a budget."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What texts of some lengths cost with a checkpoint.

    Attributes:
        texts: How many there are.
        tokens: Tokens of a text, mean; what is longer than the checkpoint reads is cut.
        tokens_left: The same after a layer, mean over the layers; None where no records say it.
        relative_flops: By accounting, of the same texts unpruned and without padding.
        unpruned_flops: Of a text, mean, unpruned; None where the model's size is not known.
        share_cut: Fraction of the texts that are longer than the checkpoint reads.
        share_beyond: Fraction that is longer than every text that the checkpoint was evaluated on.
    """

    texts: int
    tokens: float
    tokens_left: float | None
    relative_flops: dict[str, float]
    unpruned_flops: float | None
    share_cut: float
    share_beyond: float


@dataclass(frozen=True, kw_only=True)
class Change:
    """The headline metric on a split, and how it differs from the dense counterpart's.

    Attributes:
        metric: Its name.
        value: A fraction.
        rows: Evaluated examples.
        difference: To the dense counterpart, with the 95 % interval of a paired bootstrap; without
            bounds (NaN) where only a curve says it, None where nothing does.
    """

    metric: str
    value: float
    rows: int
    difference: Estimate | None


@dataclass(frozen=True, kw_only=True)
class ShallowControl:
    """The finetuned model of the first k layers that is nearest in cost.

    Attributes:
        run: Its name.
        layers: How many run.
        num_layers: Of how many.
        relative_flops: Paper's accounting; of a layer count it is `layers / num_layers`.
        changes: By split, its difference to the same dense counterpart as the checkpoint's.
    """

    run: str
    layers: int
    num_layers: int
    relative_flops: float
    changes: dict[str, Change]


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


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Everything that the store says about whether pruning pays.

    Attributes:
        checkpoint: Name of the run.
        records: Name of the run whose records stand for it: at a budget another one of the same
            weights; None where a curve alone says what the budget is worth.
        task: Its task.
        method: Its pruning method.
        lengths: What the lengths are called.
        cost: What they cost.
        changes: By split, validation first.
        shallow: The second control; None where none is stored that may be compared.
        timing: None where no benchmark fits.
        missing: What is missing to say more, in sentences.
    """

    checkpoint: str
    records: str | None
    task: str
    method: str
    lengths: str
    cost: Cost
    changes: dict[str, Change]
    shallow: ShallowControl | None
    timing: Timing | None
    missing: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Lengths of texts that a decision is about.

    Attributes:
        name: What they are called, as `sst2/validation`.
        counts: Texts by length in tokens, uncut.
        task: Task that they are rows of; None for own texts.
        split: Split of it.
    """

    name: str
    counts: LengthCounts
    task: str | None = None
    split: str | None = None


def decide(
    run: str,
    lengths: Lengths | None = None,
    *,
    bench: str | None = None,
    batch_size: int | None = None,
    budget: float | None = None,
    max_loss: float | None = None,
    runs: pd.DataFrame | None = None,
    benches: Sequence[BenchEntry] | None = None,
) -> Decision:
    """What a checkpoint saves and costs on these lengths.

    Args:
        run: Name of a run.
        lengths: Of the texts; None takes the rows that it was evaluated on.
        bench: Name of a benchmark of it; None takes the newest of this machine, else of any.
        batch_size: One that was measured; None takes 32, else the largest.
        budget: Prune as much as spends this share of the unpruned FLOPs (`budget.factor_for`).
        max_loss: Prune as much as loses this much of the headline metric on held-out rows.
        runs: What `runs_table` gives; None reads the stores.
        benches: What `list_benches` gives; None reads the stores.

    Raises:
        UserError: There is no such run or benchmark, the run prunes nothing or was not evaluated, or
            it cannot be asked for a budget.
    """
    table = (runs_table() if runs is None else runs).set_index("run", drop=False)
    if run not in table.index:
        store.find_run(run)  # says what is near where there is none
        raise UserError(f"{run} was not evaluated, so nothing can be said: evaluate it first.")
    row: Row = table.loc[run]
    if row.method in (UNPRUNED, SHALLOW):
        raise UserError(f"{run} removes no token: name a checkpoint that does.")
    missing: list[str] = []
    strength = _strength(row, table, budget, max_loss, missing)
    split = REPORTED_ON if REPORTED_ON in row.splits else row.splits[0]
    records = _records(table["folder"][strength.run], split) if strength.run else None
    if strength.run and records is None:
        missing.append(f"{strength.run} keeps no record of every example: no interval, no lengths.")
    if lengths is None:
        known = records or _records(row.folder, split)
        if known is None:
            raise UserError(f"{run} keeps no lengths of its rows: give lengths of your own.")
        lengths = _own_rows(known)
    cost = _cost(row, lengths, strength, records, missing)
    changes = _changes(row, table, strength, missing)
    if lengths.task != row.task:
        missing.append(
            f"Accuracy is that of the rows of {row.task}: what it is on these texts, only their labels "
            "would say."
        )
    shallow = _shallow(row, table, cost, missing)
    entries = list_benches() if benches is None else benches
    timing = None
    if strength.run is not None:
        entry = _choose(strength.run, lengths, entries, bench, missing)
        if entry is not None:
            timing = _timing(entry, lengths, cost, batch_size, shallow, missing)
    return Decision(
        checkpoint=run,
        records=strength.run if records is not None else None,
        task=row.task,
        method=row.method,
        lengths=lengths.name,
        cost=cost,
        changes=changes,
        shallow=shallow,
        timing=timing,
        missing=tuple(missing),
    )


# ---- at which strength ----


@dataclass(frozen=True)
class _Strength:
    """The stored run that prunes so much, if there is one, and what a curve says by split."""

    run: str | None
    curve: dict[str, dict[str, float]]


def _strength(
    row: Row,
    table: pd.DataFrame,
    budget: float | None,
    max_loss: float | None,
    missing: list[str],
) -> _Strength:
    """As trained, or at a budget: then a stored run of the same weights stands for it where one is."""
    if budget is None and max_loss is None:
        return _Strength(row.run, {})
    factor = factor_for(
        row.folder, relative_flops=budget, max_loss=max_loss, dense=_name(row.dense)
    )
    curve = {}
    for split in SPLITS:
        frame = curve_of(row.folder, split)
        if len(frame):
            curve[split] = {
                name: float(np.interp(factor, frame["factor"], frame[name]))
                for name in ("metric", *(f"relative_flops_{a}" for a in ACCOUNTINGS))
            } | {"rows": float(frame["rows"].iloc[0])}
    wanted = curve[CHOSEN_ON]["relative_flops_paper"]
    others = table[table["parent"] == row.run]
    chosen = [r.run for r in rows(others) if r.config is not None and r.config.select is not None]
    costs = {name: float(table[f"paper_{CHOSEN_ON}"][name]) for name in (row.run, *chosen)}
    nearest = min(costs, key=lambda name: (math.isnan(costs[name]), abs(costs[name] - wanted)))
    if abs(costs[nearest] - wanted) <= SAME_BUDGET:
        return _Strength(nearest, {})
    stored = ", ".join(f"{100 * cost:.0f} %" for cost in sorted(costs.values()))
    missing.append(
        f"Every example was recorded at {stored} of the FLOPs only: at this budget the accuracy is read "
        "off a measured curve, without an interval, and no time can be said."
    )
    return _Strength(None, curve)


def _name(value: Any) -> str | None:
    """A name in a table, where an absent one may be a missing value."""
    return value if isinstance(value, str) else None


# ---- cost ----


def _records(folder: Path, split: str) -> ExampleRecords | None:
    try:
        return read_examples(folder, split)
    except StoreError:
        return None


def _own_rows(records: ExampleRecords) -> Lengths:
    return Lengths(
        name=f"{records.task}/{records.split}",
        counts=LengthCounts.of(records.length),
        task=records.task,
        split=records.split,
    )


def _cost(
    row: Row,
    lengths: Lengths,
    strength: _Strength,
    records: ExampleRecords | None,
    missing: list[str],
) -> Cost:
    task = known_task(row.task)
    has_windows = task is not None and task.asks_questions
    if has_windows and lengths.task != row.task:
        raise UserError(
            f"{row.run} reads long contexts in windows, so lengths of other texts say nothing of its "
            "cost: take its own rows."
        )
    counts, longest = lengths.counts, None if has_windows else _max_length(row.manifest)
    read = LengthCounts(length=counts.length, count=counts.count)
    if longest is not None:
        read = LengthCounts(length=np.minimum(counts.length, longest), count=counts.count)
    whole = records or _records(row.folder, REPORTED_ON)
    point = strength.curve.get(REPORTED_ON) or strength.curve.get(CHOSEN_ON)
    if point is None:  # as trained
        point = {
            f"relative_flops_{a}": number(getattr(row, f"{a}_{REPORTED_ON}")) for a in ACCOUNTINGS
        }
    cost = Cost(
        texts=counts.rows,
        tokens=float(np.average(read.length, weights=read.count)),
        tokens_left=None,
        relative_flops={a: point[f"relative_flops_{a}"] for a in ACCOUNTINGS},
        unpruned_flops=None if whole is None else _unpruned_flops(whole, read),
        share_cut=0.0 if longest is None else share_longer(counts, longest),
        share_beyond=0.0 if whole is None else share_longer(read, whole.length.max()),
    )
    if whole is not None and cost.share_beyond:
        missing.append(
            f"{100 * cost.share_beyond:.1f} % of the texts are longer than every row that the checkpoint "
            f"was evaluated on ({whole.length.max()} tokens): for these the share of its longest rows is "
            "taken."
        )
    if cost.share_cut:
        missing.append(
            f"{100 * cost.share_cut:.1f} % of the texts are longer than the {longest} tokens that it "
            "reads: the rest of these is cut off."
        )
    if records is None:
        return cost
    shares = by_length(records, read)
    tokens_left = shares.pop("retained") * cost.tokens
    return replace(cost, tokens_left=tokens_left, relative_flops=shares or cost.relative_flops)


def _max_length(manifest: RunManifest) -> int | None:
    """Longest input of the checkpoint in tokens, as its configuration says."""
    data = manifest.config.get("data")
    found = data.get("max_length") if isinstance(data, Mapping) else None
    return found if type(found) is int and found > 0 else None


def _unpruned_flops(records: ExampleRecords, counts: LengthCounts) -> float | None:
    """Of a text, mean; for questions that of the records themselves, which have windows."""
    own = records.unpruned_flops()
    if own is None or records.windows is not None:
        return None if own is None else float(own.mean())
    return float(np.average(_flops_of(records, counts), weights=counts.count))


def _flops_of(records: ExampleRecords, counts: LengthCounts) -> Float[np.ndarray, " distinct"]:
    """FLOPs of a text of each length in the records' model, unpruned."""
    assert records.size is not None
    n = np.asarray(counts.length, dtype=np.float64)
    macs = layer_macs(
        n,
        n,
        hidden=records.size.hidden,
        intermediate=records.size.intermediate,
        ffn_maps=records.size.ffn_maps,
        accounting="paper",
    )
    return np.asarray(FLOPS_PER_MAC * records.num_layers * macs)


def by_length(records: ExampleRecords, counts: LengthCounts) -> dict[str, float]:
    """Shares that a checkpoint spends and keeps on other lengths than those of its records.

    The records are divided into bands of about equally many rows; a text costs the share that the rows
    of its band did, sums before division. On the lengths of the records themselves these are their own
    shares.

    Args:
        records: Of the checkpoint.
        counts: The lengths, cut as the checkpoint cuts them.

    Returns:
        Relative FLOPs by accounting, where the model's size is known, and `retained`: tokens after a
        layer as a fraction of all, mean over layers.
    """
    edges = np.unique(np.quantile(records.length, np.linspace(0, 1, NUM_BANDS + 1)[1:-1]))
    # Of an empty band nothing is known: its upper edge goes. Windows of questions are inputs of their
    # own, so these are one band.
    edges = edges[np.unique(np.searchsorted(edges, records.length))[:-1]]
    edges = edges[:0] if records.windows is not None else edges
    band, wanted = (np.searchsorted(edges, x) for x in (records.length, counts.length))

    def share(part: Vector, whole: Vector, weight: Vector) -> float:
        by_band = np.bincount(band, part) / np.bincount(band, whole)
        return float(np.average(by_band[wanted], weights=weight * counts.count))

    kept = records.ffn_length.sum(axis=1)
    found = {"retained": share(kept, records.num_layers * records.length, counts.length)}
    if (whole := records.unpruned_flops()) is not None:
        for accounting in ACCOUNTINGS:
            part = records.flops(accounting)
            assert part is not None
            found[accounting] = share(part, whole, _flops_of(records, counts))
    return found


# ---- accuracy ----


def _changes(
    row: Row, table: pd.DataFrame, strength: _Strength, missing: list[str]
) -> dict[str, Change]:
    dense = table["folder"].get(row.dense)
    if dense is None:
        missing.append(
            "No dense counterpart is stored, finetuned on the same rows without pruning, so a change of "
            "accuracy has nothing to be measured against."
        )
    if strength.run is not None:
        folder = table["folder"][strength.run]
        return _measured(row.task, folder, table["manifest"][strength.run], dense)
    found = {}
    for split, point in strength.curve.items():
        reference = number(table[f"metric_{split}"].get(row.dense))
        gap = point["metric"] - reference
        bounds = Estimate(value=gap, low=math.nan, high=math.nan)
        found[split] = Change(
            metric=str(row.metric_name),
            value=point["metric"],
            rows=int(point["rows"]),
            difference=None if math.isnan(gap) else bounds,
        )
    return found


def _measured(
    task: str, folder: Path, manifest: RunManifest, dense: Path | None
) -> dict[str, Change]:
    found = {}
    splits = evaluated_splits(manifest)
    for split in sorted(splits, key=lambda s: SPLITS.index(s) if s in SPLITS else len(SPLITS)):
        result = manifest.summary[split]
        rows_of = number(result.get("rows"))
        if not (isinstance(result["metrics"], dict) and result["metrics"] and rows_of > 0):
            continue
        name, value = next(iter(result["metrics"].items()))
        difference = None
        if dense is not None:
            try:
                difference = paired_difference(task, folder, dense, split)
            except StoreError:  # kept no records, or of other rows
                difference = None
        found[split] = Change(
            metric=name, value=number(value), rows=int(rows_of), difference=difference
        )
    return found


def _shallow(
    row: Row, table: pd.DataFrame, cost: Cost, missing: list[str]
) -> ShallowControl | None:
    """The shallower model nearest in cost that may be compared."""
    ours = cost.relative_flops["paper"]
    fit = table[(table["comparable"] == row.comparable) & (table["method"] == SHALLOW)]
    fit = fit[fit[f"paper_{REPORTED_ON}"].notna() & fit["config"].notna()]
    layers = fit["manifest"].map(lambda each: each.summary[REPORTED_ON].get("mean_retained"))
    fit = fit.assign(layers=layers)[layers.map(lambda found: isinstance(found, list)).astype(bool)]
    if fit.empty or math.isnan(ours):
        missing.append(
            "No shallower model of this task, base, training rows and adapter is stored, so the second "
            "control is missing."
        )
        return None
    gap = (fit[f"paper_{REPORTED_ON}"] - ours).abs().round(9)
    seeds = (fit["seed"] - row.seed).abs()
    name = min(fit["run"], key=lambda n: (gap[n], seeds[n], n))
    manifest = table["manifest"][name]
    share = float(fit[f"paper_{REPORTED_ON}"][name])
    num_layers = len(fit["layers"][name])
    dense = table["folder"].get(row.dense)
    return ShallowControl(
        run=name,
        layers=round(share * num_layers),
        num_layers=num_layers,
        relative_flops=share,
        changes=_measured(row.task, table["folder"][name], manifest, dense),
    )


# ---- time ----


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


def _choose(
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


def _timing(
    entry: BenchEntry,
    lengths: Lengths,
    cost: Cost,
    batch_size: int | None,
    shallow: ShallowControl | None,
    missing: list[str],
) -> Timing | None:
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
    order = list(VARIANTS)
    speeds = dict(sorted(speeds.items(), key=lambda item: _place(item[0], order)))
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


def _place(name: str, order: Sequence[str]) -> int:
    first = (METHOD, CONTROL, BASELINE, SHUFFLED)
    if name in first:
        return first.index(name)
    return len(first) + (order.index(name) if name in order else len(order))


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


# ---- in a sentence ----


def sentence(decision: Decision, method_title: str) -> str:
    """The answer, with what is not known left out.

    Args:
        decision: What was found.
        method_title: Name of the method for people.
    """
    spared = 1 - decision.cost.relative_flops["paper"]
    parts = [f"On the lengths of {decision.lengths}, {method_title} {_spares(spared, 'FLOPs')}"]
    timing = decision.timing
    if timing is None:
        parts[0] += "; what that is worth in time was not measured"
    else:
        where = "this machine" if timing.is_here else timing.machine
        own = timing.speeds[METHOD]
        place = f"at batch {timing.batch_size} on {where}"
        if own.saved is not None:
            parts[0] += f" and {_spares(own.saved.value, 'time', verb=False)} {place}"
        else:
            why = TOO_NOISY if own.is_noisy else "not known"
            parts[0] += f"; how much of the time {place} is {why}"
        onnx = timing.speeds.get(ONNX)
        if onnx is not None and onnx.saved is not None:
            parts[0] += f" ({_percent(onnx.saved.value)} in ONNX)"
    change = decision.changes.get(REPORTED_ON)
    if change is not None and change.difference is not None:
        parts.append(f"{change.metric.replace('_', ' ')} changes by {points(change.difference)}")
    if decision.shallow is not None:
        control = decision.shallow
        other = control.changes.get(REPORTED_ON)
        if other is not None and other.difference is not None:
            parts.append(
                f"a model of {control.layers} of {control.num_layers} layers, the nearest in cost "
                f"({_percent(control.relative_flops)} of the FLOPs), would be at "
                f"{points(other.difference)}"
            )
    return "; ".join(parts) + "."


def _spares(share: float, what: str, *, verb: bool = True) -> str:
    """`saves 54 % of the FLOPs`, or what it takes more."""
    if math.isnan(share):
        return f"saves an unknown share of the {what}"
    if share < 0:
        return f"takes {_percent(-share)} more {what}"
    return f"{'saves ' if verb else ''}{_percent(share)} of the {what}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-", "−")


def points(gap: Estimate) -> str:
    """A difference of fractions in points, with its interval where it has one."""
    value, low, high = (f"{100 * x:+.1f}".replace("-", "−") for x in (gap.value, gap.low, gap.high))
    return f"{value} points" + ("" if math.isnan(gap.low) else f" [{low}, {high}]")
