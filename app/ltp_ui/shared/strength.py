"""How strongly a checkpoint prunes that was trained for any budget: by a budget, or by what may be lost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import streamlit as st

from app.ltp_ui.shared import state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.wording import percent
from ltp_core.budget import factor_for, factor_for_flops

BUDGET = "_budget"
"""What follows the key of a strength where the slider sets a budget instead."""
TO_BUDGET, ONE_POINT = "to a budget", "at most 1 point lost"
MAX_LOSS = 0.01
WIDTH = 360


@dataclass(frozen=True, kw_only=True)
class Strength:
    """How much is pruned, and how the command line is told.

    Attributes:
        factor: What the learned strength is multiplied by.
        budget: Share of the unpruned FLOPs that was asked for; None as trained.
        max_loss: What may be lost of the metric instead.
    """

    factor: float = 1.0
    budget: float | None = None
    max_loss: float | None = None

    @property
    def arguments(self) -> list[str]:
        """The same for a command."""
        if self.max_loss is not None:
            return ["--max-loss", f"{self.max_loss:g}"]
        return [] if self.budget is None else ["--budget", f"{self.budget:g}"]


def percent_for(curve: pd.DataFrame, factor: float) -> int:
    """Where the budget slider stands for a strength: whole percents of the unpruned FLOPs."""
    cost = 100 * curve["relative_flops_paper"]
    if factor >= curve["factor"].max():
        return math.ceil(float(cost.min()))
    return min(100, round(float(np.interp(factor, curve["factor"], cost))))


def choose_budget(curve: pd.DataFrame, key: str, default: float = math.inf) -> Strength:
    """The strength that spends a chosen share of the FLOPs.

    Args:
        curve: What `elastic_curve` gives.
        key: Session key and parameter of the URL.
        default: Strength where the slider stands at first; the strongest unless given.
    """
    cost = 100 * curve["relative_flops_paper"]
    strongest = float(curve["factor"].max())
    least = percent_for(curve, strongest)
    state.follow_link(key)
    if st.session_state.get(key, 100) < least:  # another checkpoint goes down to another budget
        del st.session_state[key]
    chosen = st.slider(
        "Budget, % of the FLOPs",
        least,
        100,
        percent_for(curve, default),
        1,
        key=key,
        bind="query-params",
        format="%d %%",
        help="One training serves every budget: this sets the strength of pruning that spends so much "
        "on held-out rows. A single sentence may cost more or less.",
    )
    # At its end the slider stands for the strongest pruning, as a rule that of the training.
    budget = min(chosen, float(cost.max())) / 100
    factor = strongest if chosen == least else factor_for_flops(curve, budget)
    metric = np.interp(factor, curve["factor"], curve["metric"])
    st.caption(plain(f"Held-out rows: {percent(metric)} at this budget."))
    return Strength(factor=round(factor, 4), budget=None if factor == 1 else budget)


def choose(curve: pd.DataFrame, folder: Path, dense: str | None, key: str) -> Strength:
    """A budget, or at most one point lost on held-out rows.

    Args:
        curve: What `elastic_curve` gives.
        folder: The run.
        dense: Name of its dense counterpart's run, which the loss is measured against.
        key: Beginning of the session keys and of the parameters of the URL.

    Raises:
        UserError: No strength loses so little.
    """
    with st.container(width=WIDTH):
        return _choose(curve, folder, dense, key)


def _choose(curve: pd.DataFrame, folder: Path, dense: str | None, key: str) -> Strength:
    by = f"{key}_by"
    state.follow_link(by)
    how = st.segmented_control(
        "Prune",
        [TO_BUDGET, ONE_POINT],
        default=TO_BUDGET,
        required=True,
        key=by,
        bind="query-params",
        help="One training serves every budget. A point is one of the headline metric, lost against "
        "the dense counterpart on held-out rows.",
    )
    if how != ONE_POINT:
        return choose_budget(curve, f"{key}{BUDGET}")
    factor = factor_for(folder, max_loss=MAX_LOSS, dense=dense)
    cost = np.interp(factor, curve["factor"], curve["relative_flops_paper"])
    st.caption(plain(f"Held-out rows: {percent(float(cost))} of the FLOPs."))
    return Strength(factor=factor, max_loss=MAX_LOSS)
