"""Searches as tables of the store: one search serves the runs of every budget."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from ltp_core import store
from ltp_core.config import ConfigError, SelectConfig, TrainConfig, from_dict, parent_config
from ltp_core.pruning.lat import Lengths
from ltp_core.records import RunManifest
from ltp_core.training.search import Candidate


def candidates_table(found: Sequence[Candidate], chosen: Lengths) -> pd.DataFrame:
    """A search as the store's `candidates` table."""
    frame = pd.DataFrame(
        {
            "relative_flops": candidate.relative_flops,
            "metric": candidate.metric,
            "loss": candidate.loss,
            "is_chosen": candidate.lengths == chosen,
            **{f"length_{i}": n for i, n in enumerate(candidate.lengths, start=1)},
        }
        for candidate in found
    )
    return frame.assign(candidate=range(len(frame)))


def candidates_from(table: pd.DataFrame) -> list[Candidate]:
    """The search that a `candidates` table holds."""
    names = [f"length_{i}" for i in range(1, 1 + sum("length_" in str(c) for c in table))]
    lengths = table[names].astype(int).itertuples(index=False, name=None)
    figures = (table[name].astype(float) for name in ("relative_flops", "metric", "loss"))
    return [
        Candidate(lengths=tuple(chosen), relative_flops=cost, metric=metric, loss=loss)
        for chosen, cost, metric, loss in zip(lengths, *figures, strict=True)
    ]


def earlier_search(config: TrainConfig, stores: Sequence[Path]) -> list[Candidate] | None:
    """The search of a run that differs in the budget alone; None if there is none.

    Args:
        config: A run with a `select` table.
        stores: Where to look; the parent is in one of them.
    """
    parent = parent_config(config)
    assert parent is not None
    since = store.read_manifest(store.find_run(parent.name, stores)).created_at
    for entry in store.list_runs(stores):
        if entry.problem is None and _is_same_search(entry.manifest, config, since):
            return candidates_from(store.read_table(entry.folder, "candidates"))
    return None


def _is_same_search(manifest: RunManifest | None, config: TrainConfig, since: str) -> bool:
    """Whether the run looked at the parent of this age with the same settings."""
    if manifest is None or manifest.parent is None or manifest.created_at < since:
        return False
    try:
        other = from_dict(manifest.config)
    except ConfigError:  # of another version
        return False
    return other.select is not None and _at_any_budget(other) == _at_any_budget(config)


def _at_any_budget(config: TrainConfig) -> TrainConfig:
    assert config.select is not None
    anywhere = SelectConfig().target_relative_flops
    return replace(config, select=replace(config.select, target_relative_flops=anywhere))
