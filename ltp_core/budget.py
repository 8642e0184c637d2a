"""From a budget to the strength of pruning that spends it, by the curve stored with a checkpoint.

A checkpoint that was trained for any budget prunes more or less by one factor on all its thresholds.
Its table `curve` says what several factors cost and are worth on held-out training rows, so a user
asks for relative FLOPs, or for the points that may be lost, and never for a factor.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from ltp_core import store
from ltp_core.records import UserError

CHOSEN_ON = "heldout"
"""The split whose curve a budget is looked up in: never the one that results are reported on."""

FACTORS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
"""Strengths that are measured after a training for any budget; 1 spends the least it was trained for."""


def budget_curve(folder: Path) -> pd.DataFrame | None:
    """The held-out points of a run's curve, weakest pruning first; None where it has none.

    Columns are those of the table `curve`.
    """
    if not (folder / "curve.parquet").exists():
        return None
    frame = store.read_table(folder, "curve")
    frame = frame[frame["split"] == CHOSEN_ON].sort_values("factor", ignore_index=True)
    return frame if len(frame) >= 2 else None


def elastic_curve(folder: Path) -> pd.DataFrame | None:
    """The same of a run that was trained for any budget; None for every other one.

    A curve can be measured of any run, but only such a training has seen the strengths between.
    """
    try:
        stage = store.read_manifest(folder).config.get("hard")
    except store.StoreError:  # a model folder, which is no run
        return None
    is_elastic = isinstance(stage, dict) and stage.get("elastic") is True
    return budget_curve(folder) if is_elastic else None


def factor_for_flops(curve: pd.DataFrame, relative_flops: float) -> float:
    """The strength at which the held-out rows cost that share of the unpruned FLOPs.

    Between two measured points it is a straight line; the paper's accounting.

    Raises:
        UserError: The curve does not go there.

    Example:
        >>> curve = pd.DataFrame({"factor": [0.0, 1.0], "relative_flops_paper": [1.0, 0.5]})
        >>> factor_for_flops(curve, 0.75)
        0.5
    """
    cost = curve["relative_flops_paper"].to_numpy(np.float64)
    # Costs fall as the factor rises; noise of one row in the other direction is levelled.
    cost = np.minimum.accumulate(cost)
    if not cost[-1] <= relative_flops <= 1.05:
        raise UserError(
            f"A budget of {relative_flops:g} is out of reach: the checkpoint goes from {cost[0]:.2f} "
            f"of the unpruned FLOPs down to {cost[-1]:.2f}."
        )
    return float(np.interp(relative_flops, cost[::-1], curve["factor"].to_numpy(np.float64)[::-1]))


def factor_for_loss(curve: pd.DataFrame, max_loss: float, reference: float | None = None) -> float:
    """The strongest measured pruning up to which the held-out metric falls by at most `max_loss`.

    Args:
        curve: What `budget_curve` gives.
        max_loss: Of the headline metric, a fraction: 0.01 is a point.
        reference: The metric that it is measured against, as the dense counterpart's; None takes
            that of the same weights with nothing pruned.

    Raises:
        UserError: Already the weakest pruning loses more, there is nothing to measure it against, or
            the loss is below 0.
    """
    metric = curve["metric"].to_numpy(np.float64)
    if not max_loss >= 0:
        raise UserError(f"A loss of {max_loss:g} cannot be allowed: name a number from 0 on.")
    if reference is None:
        if curve["factor"].iloc[0] != 0:
            raise UserError(
                "The curve has no point with nothing pruned, and no dense counterpart is stored: "
                "measure strength 0 too."
            )
        reference = metric[0]
    within = metric >= reference - max_loss - 1e-9
    if not within[0]:
        raise UserError(
            f"No strength of pruning loses at most {max_loss:g}: with nothing pruned the checkpoint "
            f"has {metric[0]:.3f} where its dense counterpart has {reference:.3f}."
        )
    last = len(within) if within.all() else int(within.argmin())
    return float(curve["factor"].iloc[last - 1])


def factor_for(
    folder: Path,
    *,
    relative_flops: float | None = None,
    max_loss: float | None = None,
    dense: str | None = None,
) -> float:
    """The strength of a checkpoint that spends a budget, or that loses no more than is allowed.

    Args:
        folder: The run, which holds the curve.
        relative_flops: What may be spent, as a fraction of the unpruned FLOPs; or
        max_loss: how much of the headline metric may be lost against the dense counterpart, or
            where that is not stored against the same weights unpruned.
        dense: Name of the dense counterpart's run.

    Raises:
        UserError: There is no curve, both or neither are given, or the curve does not go there.
    """
    if (relative_flops is None) == (max_loss is None):
        raise UserError("Give a budget or the loss that is allowed: one of the two.")
    curve = budget_curve(folder)
    if curve is None:
        raise UserError(
            f"{folder.name} has no curve of {CHOSEN_ON} rows that says what which strength costs: "
            f"measure one with `evaluate {folder.name} --split {CHOSEN_ON} --scales "
            "0,0.25,0.5,0.75,1 --save`."
        )
    if relative_flops is not None:
        return factor_for_flops(curve, relative_flops)
    assert max_loss is not None
    return factor_for_loss(curve, max_loss, None if dense is None else _dense_metric(dense))


def _dense_metric(name: str) -> float | None:
    """Headline metric of a run on the rows that budgets are chosen on; None where it is not stored."""
    try:
        summary = store.read_manifest(store.find_run(name)).summary[CHOSEN_ON]
        return float(next(iter(summary["metrics"].values())))
    except (UserError, KeyError, TypeError, ValueError, AttributeError, StopIteration):
        return None
