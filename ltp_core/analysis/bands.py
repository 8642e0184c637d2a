"""Accuracy and cost by length: examples in bands between quantiles of their lengths (Table 3)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int, Num

from ltp_core.analysis.example_records import ExampleRecords
from ltp_core.analysis.intervals import Estimate, bootstrap_estimate, ratio_estimate, share_estimate
from ltp_core.flops import ACCOUNTINGS
from ltp_core.metrics import paired_interval
from ltp_core.tasks.catalogue import find_task

TABLE_3 = (0.5, 0.75)
"""Quantiles between the paper's bands ~Q2, Q2~Q3 and Q3~."""

QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, kw_only=True)
class Band:
    """Lengths above `low` and up to `high`, in tokens; open ends are infinite.

    Attributes:
        name: As in the paper: `~Q2`, `Q2~Q3`, `Q3~`.
    """

    name: str
    low: float
    high: float


@dataclass(frozen=True, kw_only=True)
class BandResult:
    """One run on the examples of one band.

    Attributes:
        count: Examples in the band.
        metric: What `metric_name` names, a fraction; None where the band is empty.
        relative_flops: By accounting, sums before division; empty where the band is, or where the
            model's size is not known.
        retained: Tokens that stay after a layer as a fraction of all, mean over layers; None where
            the band is empty.
    """

    band: Band
    count: int
    metric: Estimate | None
    relative_flops: dict[str, Estimate]
    retained: Estimate | None


def length_bands(
    length: Num[np.ndarray, " examples"], quantiles: Sequence[float] = TABLE_3
) -> tuple[Band, ...]:
    """Bands between quantiles of the lengths, linearly interpolated; a length on an edge is below it.

    Bands may be empty, where many examples have the same length: inputs cut at the maximum, say.

    Args:
        length: Tokens of each example of the evaluation set.
        quantiles: Ascending, between 0 and 1.

    Raises:
        ValueError: There is no example, or the quantiles are none.

    Example:
        >>> [f"{b.name} {b.high}" for b in length_bands(np.array([4, 8, 12, 16, 20]))]
        ['~Q2 12.0', 'Q2~Q3 16.0', 'Q3~ inf']
    """
    if not len(length):
        raise ValueError("bands need at least one length")
    ends = [0.0, *quantiles, 1.0]
    if len(ends) < 3 or not all(a < b for a, b in itertools.pairwise(ends)):
        raise ValueError(f"quantiles ascend between 0 and 1, which {tuple(quantiles)} do not")
    quartiles = dict(zip(QUARTILES, ("Q1", "Q2", "Q3"), strict=True))
    names = [quartiles.get(quantile, f"P{100 * quantile:g}") for quantile in quantiles]
    return _between(np.quantile(length, quantiles).tolist(), names)


def bands_at(edges: Sequence[int]) -> tuple[Band, ...]:
    """Bands between lengths in tokens; a length that is an edge is below it.

    Raises:
        ValueError: There is no edge, or they do not ascend from 1 on.
    """
    if not edges or not all(a < b for a, b in itertools.pairwise([0, *edges])):
        raise ValueError(f"edges ascend from 1 on, which {tuple(edges)} do not")
    return _between([float(edge) for edge in edges], [str(edge) for edge in edges])


def _between(edges: Sequence[float], names: Sequence[str]) -> tuple[Band, ...]:
    """The bands that these edges divide all lengths into."""
    ends = itertools.pairwise([("", -math.inf), *zip(names, edges, strict=True), ("", math.inf)])
    return tuple(Band(name=f"{a}~{b}", low=low, high=high) for (a, low), (b, high) in ends)


def band_index(
    length: Num[np.ndarray, " examples"], bands: Sequence[Band]
) -> Int[np.ndarray, " examples"]:
    """Number of each example's band, from 0."""
    inner = np.array([band.high for band in bands[:-1]], dtype=np.float64)
    return np.searchsorted(inner, length, side="left").astype(np.int64)


def by_band(
    records: ExampleRecords,
    bands: Sequence[Band],
    length: Int[np.ndarray, " examples"] | None = None,
) -> list[BandResult]:
    """Metric and cost of a run in each band, with 95 % intervals over examples.

    Accuracy has Wilson's interval, other metrics a bootstrap's; relative FLOPs have that of a ratio
    of sums.

    Args:
        records: The run.
        bands: Where it is divided.
        length: Length that decides on each example's band; None takes what the run read of it, which
            is less where the input was cut.
    """
    index = band_index(records.length if length is None else length, bands)
    results = []
    for number, band in enumerate(bands):
        part = records.take(np.flatnonzero(index == number))
        if not len(part):
            results.append(
                BandResult(band=band, count=0, metric=None, relative_flops={}, retained=None)
            )
            continue
        whole = part.unpruned_flops()
        counted = {} if whole is None else {name: part.flops(name) for name in ACCOUNTINGS}
        results.append(
            BandResult(
                band=band,
                count=len(part),
                metric=_metric_estimate(part),
                relative_flops={
                    name: ratio_estimate(flops, whole)
                    for name, flops in counted.items()
                    if whole is not None and flops is not None
                },
                retained=ratio_estimate(part.ffn_length.sum(axis=1), part.num_layers * part.length),
            )
        )
    return results


def band_cost(
    records: ExampleRecords, band: int = 0, quantiles: Sequence[float] = TABLE_3
) -> float:
    """Relative FLOPs on a band, the shortest by default, the paper's accounting; NaN where not known."""
    result = by_band(records, length_bands(records.length, quantiles))[band]
    estimate = result.relative_flops.get("paper")
    return math.nan if estimate is None else estimate.value


def metric_name(task: str) -> str:
    """Metric that bands are compared by: accuracy, as in Table 3; of values the headline.

    F1 is left out where it is part of the headline: it depends on how frequent a class is, and that
    differs between short and long inputs.
    """
    names = list(find_task(task).score(np.array([0, 1]), np.array([0, 1])))
    return "accuracy" if "accuracy" in names else names[0]


def _metric_estimate(records: ExampleRecords) -> Estimate:
    """That metric over all examples given, of which there is one at least."""
    if records.is_correct is not None:
        return share_estimate(int(np.count_nonzero(records.is_correct)), len(records))

    def metric(index: Int[np.ndarray, " drawn"]) -> float:
        values = find_task(records.task).score(records.prediction[index], records.label[index])
        return next(iter(values.values()))

    return bootstrap_estimate(metric, len(records))


def differences(
    a: ExampleRecords,
    b: ExampleRecords,
    bands: Sequence[Band],
    length: Int[np.ndarray, " examples"] | None = None,
) -> list[Estimate | None]:
    """Metric of a minus that of b by band, paired over the examples that both have.

    The interval of a difference of accuracies is the normal one of the paired differences, that of
    other metrics a paired bootstrap's. None where the band has no common example.

    Args:
        a: A run.
        b: Another run of the same task.
        bands: Where they are divided.
        length: Length of the examples of a, as for `by_band`.

    Raises:
        ValueError: The runs are of different tasks, or their labels differ.
    """
    if a.task != b.task:
        raise ValueError(f"{a.name} is of {a.task}, {b.name} of {b.task}")
    _, in_a, in_b = np.intersect1d(a.row, b.row, return_indices=True)
    index = band_index((a.length if length is None else length)[in_a], bands)
    a, b = a.take(in_a), b.take(in_b)
    if not np.array_equal(a.label, b.label):
        raise ValueError(f"{a.name} and {b.name} were evaluated on different data")
    return [_difference(a, b, np.flatnonzero(index == n)) for n in range(len(bands))]


def _difference(
    a: ExampleRecords, b: ExampleRecords, chosen: Int[np.ndarray, " chosen"]
) -> Estimate | None:
    if not len(chosen):
        return None
    a, b = a.take(chosen), b.take(chosen)
    if a.is_correct is not None and b.is_correct is not None:
        paired = a.is_correct.astype(np.int64) - b.is_correct.astype(np.int64)
        return ratio_estimate(paired, np.ones(len(paired)))
    value, low, high = paired_interval(
        find_task(a.task).metric, a.label, a.prediction, b.prediction, num_resamples=1000
    )
    return Estimate(value=value, low=low, high=high)


def match_operating_points(
    points: Mapping[str, Mapping[str, float]], target: float | None = None
) -> dict[str, str]:
    """One run of each method, so that all need about equal FLOPs, as in Table 3.

    Args:
        points: By method, relative FLOPs on the shortest band by run.
        target: Take what is nearest to this; None makes the spread between the methods least. Of
            equal choices the first by name is taken.

    Returns:
        Name of the run by method; methods without a run are left out.

    Example:
        >>> match_operating_points({"ltp": {"a": 0.5, "b": 0.7}, "lat": {"c": 0.4, "d": 0.68}})
        {'ltp': 'b', 'lat': 'd'}
    """
    given = {method: dict(sorted(runs.items())) for method, runs in points.items() if runs}
    if target is None:
        # The middle of the narrowest range that holds a run of each method; the first of equals.
        ranges = []
        for low in (value for runs in given.values() for value in runs.values()):
            above = [[value for value in runs.values() if value >= low] for runs in given.values()]
            if all(above):
                ranges.append((low, max(map(min, above))))
        low, high = min(ranges, key=lambda r: (round(r[1] - r[0], 12), r), default=(0.0, 0.0))
        target = (low + high) / 2
    return {
        method: min(runs, key=lambda name: round(abs(runs[name] - target), 12))
        for method, runs in given.items()
    }


PAPER_TABLE_3: dict[str, dict[str, dict[str, tuple[float, float]]]] = {
    "qnli": {
        "ltp": {"~Q2": (0.9121, 0.5589), "Q2~Q3": (0.9002, 0.5560), "Q3~": (0.9181, 0.5602)},
        "lat": {"~Q2": (0.9087, 0.5621), "Q2~Q3": (0.8612, 0.4655), "Q3~": (0.7537, 0.3589)},
    },
    "qqp": {
        "ltp": {"~Q2": (0.8942, 0.5518), "Q2~Q3": (0.8951, 0.5629), "Q3~": (0.9137, 0.5801)},
        "lat": {"~Q2": (0.8920, 0.5517), "Q2~Q3": (0.8727, 0.4661), "Q3~": (0.8217, 0.3414)},
    },
}
"""Accuracy and relative FLOPs of RoBERTa-base by task, method and band, as printed in Table 3."""
