"""What texts cost with a checkpoint: tokens and FLOPs, counted from its records by length."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Num

from ltp_core.analysis.example_records import ExampleRecords, read_examples
from ltp_core.analysis.pays.strength import Strength
from ltp_core.analysis.runs import CHOSEN_ON, REPORTED_ON, Row, number
from ltp_core.flops import ACCOUNTINGS, FLOPS_PER_MAC, NO_COST, layer_macs
from ltp_core.lengths.counts import LengthCounts, share_longer
from ltp_core.records import RunManifest, UserError
from ltp_core.store import StoreError
from ltp_core.tasks.catalogue import known_task

Vector = Num[np.ndarray, " _"]

NUM_BANDS = 10
"""Bands of length in which the share of the FLOPs is taken from a checkpoint's records."""


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


def records_of(folder: Path, split: str) -> ExampleRecords | None:
    """A run's record of every example of a split; None where it keeps none."""
    try:
        return read_examples(folder, split)
    except StoreError:
        return None


def own_rows(records: ExampleRecords) -> Lengths:
    """The lengths of the rows themselves that a run was evaluated on."""
    return Lengths(
        name=f"{records.task}/{records.split}",
        counts=LengthCounts.of(records.length),
        task=records.task,
        split=records.split,
    )


def cost_of(
    row: Row,
    lengths: Lengths,
    strength: Strength,
    records: ExampleRecords | None,
    missing: list[str],
) -> Cost:
    """Tokens and FLOPs of these lengths.

    Args:
        row: The checkpoint, of `runs_table`.
        lengths: Of the texts.
        strength: How strongly it prunes.
        records: Of the run that stands for that strength; without them no tokens are known.
        missing: Takes a sentence for whatever is not known.

    Raises:
        UserError: The checkpoint reads windows, and the lengths are not those of its own rows.
    """
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
    whole = records or records_of(row.folder, REPORTED_ON)
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
        n, n, accounting="paper", query_length=None, decision=NO_COST, **records.size.sizes
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
