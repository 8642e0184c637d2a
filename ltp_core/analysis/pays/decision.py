"""Everything that the store says about whether pruning pays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from ltp_core import store
from ltp_core.analysis.pays.accuracy import (
    SHALLOW,
    Change,
    ShallowControl,
    changes_of,
    shallow_control,
)
from ltp_core.analysis.pays.cost import Cost, Lengths, cost_of, own_rows, records_of
from ltp_core.analysis.pays.strength import strength_of
from ltp_core.analysis.pays.timing import Timing, choose_bench, timing_of
from ltp_core.analysis.runs import REPORTED_ON, UNPRUNED, Row, runs_table
from ltp_core.bench.results import BenchEntry, list_benches
from ltp_core.records import UserError


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
    strength = strength_of(row, table, budget, max_loss, missing)
    split = REPORTED_ON if REPORTED_ON in row.splits else row.splits[0]
    records = records_of(table["folder"][strength.run], split) if strength.run else None
    if strength.run and records is None:
        missing.append(f"{strength.run} keeps no record of every example: no interval, no lengths.")
    if lengths is None:
        known = records or records_of(row.folder, split)
        if known is None:
            raise UserError(f"{run} keeps no lengths of its rows: give lengths of your own.")
        lengths = own_rows(known)
    cost = cost_of(row, lengths, strength, records, missing)
    changes = changes_of(row, table, strength, missing)
    if lengths.task != row.task:
        missing.append(
            f"Accuracy is that of the rows of {row.task}: what it is on these texts, only their labels "
            "would say."
        )
    shallow = shallow_control(row, table, cost, missing)
    entries = list_benches() if benches is None else benches
    timing = None
    if strength.run is not None:
        entry = choose_bench(strength.run, lengths, entries, bench, missing)
        if entry is not None:
            timing = timing_of(entry, lengths, cost, batch_size, shallow, missing)
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
