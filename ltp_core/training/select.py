"""A choice that follows training: what a method picks on held-out training rows for a budget.

`train` comes here for a configuration with a `select` table. Weights are the parent's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ltp_core.checkpoint import PrunedModel
from ltp_core.config import UNTRAINED, SelectConfig, TrainConfig
from ltp_core.data.loading import Rows, load_rows
from ltp_core.encoder.loading import downloads_allowed
from ltp_core.pruning import PruningMethod
from ltp_core.records import UserError
from ltp_core.training.choose_lengths import choose_lengths


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen.

    Attributes:
        method: The chosen configuration.
        candidates: Everything that was tried, columns of the store's `candidates` table.
    """

    method: PruningMethod
    candidates: pd.DataFrame


Selector = Callable[[PrunedModel, PruningMethod, Rows, SelectConfig, int], Selection]
"""Takes the parent, the method as configured, held-out rows, budget and size, and the seed."""


def _select_lat(
    model: PrunedModel, method: PruningMethod, rows: Rows, select: SelectConfig, seed: int
) -> Selection:
    """LAT: the parent is the adaptive model, the search is evolutionary."""
    del method
    chosen, found = choose_lengths(model, rows, select, seed=seed)
    frame = pd.DataFrame(
        {
            "relative_flops": candidate.relative_flops,
            "metric": candidate.metric,
            "loss": candidate.loss,
            "is_chosen": candidate.lengths == chosen.lengths,
            **{f"length_{i}": n for i, n in enumerate(candidate.lengths, start=1)},
        }
        for candidate in found
    )
    return Selection(method=chosen, candidates=frame.assign(candidate=range(len(frame))))


SELECTORS: dict[str, Selector] = {"lat": _select_lat}
"""How each method that can choose does it."""


def check_selectable(config: TrainConfig) -> None:
    """Refuses a `select` table where there is nothing to choose, and its absence where it is needed.

    Raises:
        UserError: It does not fit the method.
    """
    name = config.method.name
    if config.select is not None and name not in SELECTORS:
        raise UserError(f"select: {name} has nothing to choose; it is for {', '.join(SELECTORS)}.")
    if config.select is None and name in UNTRAINED:
        raise UserError(f"method.name = {name!r}: trains nothing, so it needs a table [select].")


def select_method(
    config: TrainConfig, model: PrunedModel, method: PruningMethod, data_dir: Path | None
) -> Selection:
    """Chooses on held-out training rows.

    Args:
        config: A run with a `select` table.
        model: The parent.
        method: The method as configured.
        data_dir: Folder of Parquet files for GLUE tasks.

    Raises:
        UserError: The budget cannot be reached.
    """
    assert config.select is not None
    rows = load_rows(
        config.task,
        "heldout",
        data_dir=data_dir,
        limit=config.select.rows,
        seed=config.seed,
        allow_downloads=downloads_allowed(),
    )
    select = SELECTORS[config.method.name]
    return select(model, method, rows, config.select, config.seed)
