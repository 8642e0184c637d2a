"""What pruning changes about the headline metric, and what a shallower model of the same cost has."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ltp_core.analysis.example_records import evaluated_splits
from ltp_core.analysis.intervals import Estimate
from ltp_core.analysis.pays.cost import Cost
from ltp_core.analysis.pays.strength import SPLITS, Strength
from ltp_core.analysis.runs import REPORTED_ON, Row, number
from ltp_core.analysis.tradeoff import paired_difference
from ltp_core.records import RunManifest
from ltp_core.store import StoreError

SHALLOW = "shallow"


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


def changes_of(
    row: Row, table: pd.DataFrame, strength: Strength, missing: list[str]
) -> dict[str, Change]:
    """By split, validation first; `missing` takes a sentence where there is no dense counterpart."""
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


def shallow_control(
    row: Row, table: pd.DataFrame, cost: Cost, missing: list[str]
) -> ShallowControl | None:
    """The shallower model nearest in cost that may be compared; without one `missing` says so."""
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
