"""Operating points by length, as in the paper's Table 3: metric and cost by band, means over seeds.

Torch-free.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from ltp_core.analysis.bands import (
    TABLE_3,
    Band,
    BandResult,
    bands_at,
    by_band,
    differences,
    length_bands,
    metric_name,
)
from ltp_core.analysis.example_records import ExampleRecords
from ltp_core.analysis.intervals import Estimate, mean_estimate
from ltp_core.flops import ACCOUNTINGS
from ltp_core.records import UserError


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A point in a band: means over its seeds, and of the bounds of their intervals.

    Attributes:
        count: Examples in the band.
        metric: What `bands.metric_name` names; None where the band is empty.
        relative_flops: By accounting; empty where unknown.
        retained: Tokens that stay after a layer, as a fraction; None where the band is empty.
        metric_sd: Standard deviation of the metric over seeds (n − 1); None for a single seed.
        by_seed: Metric of each run.
    """

    count: int
    metric: Estimate | None
    relative_flops: dict[str, Estimate]
    retained: Estimate | None
    metric_sd: float | None
    by_seed: tuple[float, ...]


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Operating points by band.

    Attributes:
        task: Their task.
        split: What they were evaluated on.
        metric_name: What is compared besides cost.
        bands: From short to long.
        records: Runs of each point, by its name.
        cells: By name of the point, one a band.
        lengths: Length of each row; the longest that any of the runs read of it.
    """

    task: str
    split: str
    metric_name: str
    bands: tuple[Band, ...]
    records: dict[str, list[ExampleRecords]]
    cells: dict[str, list[Cell]]
    lengths: pd.Series

    @property
    def counts(self) -> list[int]:
        """Rows in each band, over all points."""
        return [
            int(((self.lengths > band.low) & (self.lengths <= band.high)).sum())
            for band in self.bands
        ]

    def difference(self, a: str, b: str) -> list[Estimate | None]:
        """Metric of one point minus that of another by band, paired over examples and seeds.

        Means over the pairs of runs in the order of their seeds, as many as both have.

        Raises:
            ValueError: They were evaluated on different data.
        """
        ours, theirs = self.records[a], self.records[b]
        pairs = list(zip(ours, theirs, strict=False))
        found = [differences(x, y, self.bands, _lengths_of(x, self.lengths)) for x, y in pairs]
        return [mean_estimate(each) for each in zip(*found, strict=True)]


def compare(
    records: Mapping[str, Sequence[ExampleRecords]],
    quantiles: Sequence[float] = TABLE_3,
    edges: Sequence[int] = (),
) -> Comparison:
    """Every point in every band.

    The bands are those of the inputs as the run that cut them least read them.

    Args:
        records: Runs of each point by its name, all of one task and split.
        quantiles: Between the bands, ascending, between 0 and 1.
        edges: Between the bands instead, in tokens.

    Raises:
        UserError: There is nothing to compare, or the runs are of different tasks or splits.
        ValueError: The quantiles or the edges do not ascend.
    """
    runs = [run for group in records.values() for run in group]
    kinds = {(run.task, run.split) for run in runs}
    if len(kinds) != 1:
        raise UserError("Choose at least one run, and only runs of one task and split.")
    of_all = pd.concat([pd.Series(run.length, index=run.row) for run in runs])
    lengths = of_all.groupby(level=0).max()
    length = lengths.to_numpy(dtype=np.int64)
    bands = bands_at(edges) if edges else length_bands(length, quantiles)
    cells = {
        name: [
            _cell(results)
            for results in zip(
                *(by_band(run, bands, _lengths_of(run, lengths)) for run in group), strict=True
            )
        ]
        for name, group in records.items()
    }
    task, split = kinds.pop()
    return Comparison(
        task=task,
        split=split,
        metric_name=metric_name(task),
        bands=bands,
        records={name: list(group) for name, group in records.items()},
        cells=cells,
        lengths=lengths,
    )


def _lengths_of(run: ExampleRecords, lengths: pd.Series) -> Int[np.ndarray, " examples"]:
    return lengths.reindex(run.row).to_numpy(dtype=np.int64)


def _cell(results: Sequence[BandResult]) -> Cell:
    """Of what each seed's run came to in a band."""
    metrics = [result.metric for result in results]
    values = tuple(metric.value for metric in metrics if metric is not None)
    flops = {
        accounting: mean_estimate([result.relative_flops.get(accounting) for result in results])
        for accounting in ACCOUNTINGS
    }
    return Cell(
        count=max(result.count for result in results),
        metric=mean_estimate(metrics),
        relative_flops={name: mean for name, mean in flops.items() if mean is not None},
        retained=mean_estimate([result.retained for result in results]),
        metric_sd=statistics.stdev(values) if len(values) > 1 else None,
        by_seed=values,
    )


def comparison_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a point and band, fractions; open ends of bands are missing."""
    return pd.DataFrame(
        [
            {
                "run": name,
                "method": comparison.records[name][0].method,
                "seeds": len(comparison.records[name]),
                "task": comparison.task,
                "split": comparison.split,
                "band": band.name,
                "above": None if np.isinf(band.low) else band.low,
                "up_to": None if np.isinf(band.high) else band.high,
                "examples": cell.count,
                "metric": comparison.metric_name,
                **_columns("value", cell.metric),
                "sd_over_seeds": cell.metric_sd,
                **_columns("relative_flops_paper", cell.relative_flops.get("paper")),
                **_columns("relative_flops_executed", cell.relative_flops.get("executed")),
                **_columns("retained", cell.retained),
            }
            for name, cells in comparison.cells.items()
            for band, cell in zip(comparison.bands, cells, strict=True)
        ]
    )


def _columns(name: str, estimate: Estimate | None) -> dict[str, Any]:
    values = (estimate.value, estimate.low, estimate.high) if estimate else (None, None, None)
    return dict(zip((name, f"{name}_low", f"{name}_high"), values, strict=True))
