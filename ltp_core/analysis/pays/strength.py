"""How strongly a checkpoint prunes: as trained, or as a budget wants it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from ltp_core.analysis.runs import CHOSEN_ON, REPORTED_ON, Row, rows
from ltp_core.analysis.tradeoff import curve_of
from ltp_core.budget import factor_for
from ltp_core.flops import ACCOUNTINGS

SPLITS = (REPORTED_ON, CHOSEN_ON)
SAME_BUDGET = 0.005
"""Relative FLOPs within which a stored run of the same weights stands for a budget."""


@dataclass(frozen=True)
class Strength:
    """The stored run that prunes so much, if there is one, and what a curve says by split."""

    run: str | None
    curve: dict[str, dict[str, float]]


def strength_of(
    row: Row,
    table: pd.DataFrame,
    budget: float | None,
    max_loss: float | None,
    missing: list[str],
) -> Strength:
    """As trained, or at a budget: then a stored run of the same weights stands for it where one is."""
    if budget is None and max_loss is None:
        return Strength(row.run, {})
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
        return Strength(nearest, {})
    stored = ", ".join(f"{100 * cost:.0f} %" for cost in sorted(costs.values()))
    missing.append(
        f"Every example was recorded at {stored} of the FLOPs only: at this budget the accuracy is read "
        "off a measured curve, without an interval, and no time can be said."
    )
    return Strength(None, curve)


def _name(value: Any) -> str | None:
    """A name in a table, where an absent one may be a missing value."""
    return value if isinstance(value, str) else None
