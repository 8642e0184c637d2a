"""Stored runs as one table, and their operating points: runs that differ in the seed alone.

Choices are made on held-out training rows (`CHOSEN_ON`), figures are reported on validation
(`REPORTED_ON`). Torch-free.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ltp_core import store
from ltp_core.analysis.bands import match_operating_points
from ltp_core.config import (
    ConfigError,
    HardConfig,
    TrainConfig,
    dense_config,
    from_dict,
    is_int8,
)
from ltp_core.records import RunManifest
from ltp_core.store import RunEntry

CHOSEN_ON, REPORTED_ON = "heldout", "validation"
UNPRUNED = "unpruned"
ALLOWED_DROP = 0.01
"""The paper's Table 1 allows one point less than the baseline."""

ACCOUNTINGS = ("paper", "executed")
QUANTITIES = ("metric", *ACCOUNTINGS, "bops")
"""What a run measures on a split: the headline metric, relative FLOPs by accounting, and relative bit
operations; fractions."""

Row = Any
"""A row of a table, its columns as attributes."""


def rows(table: pd.DataFrame) -> list[Row]:
    """The rows one by one, each with its label as `Index`."""
    return list(table.itertuples())


def runs_table(entries: Sequence[RunEntry] | None = None) -> pd.DataFrame:
    """One row a complete run that was evaluated, by name; what cannot be used is left out.

    Columns, besides `run`, `folder`, `manifest`, `task`, `method`, `seed`, `parent` and `dense`:

    - `metric_SPLIT`, `paper_SPLIT`, `executed_SPLIT`, `rows_SPLIT` for each split in `splits`:
      headline metric, relative FLOPs in both accountings, evaluated examples; NaN where unknown.
    - `metric_name`: of the headline metric.
    - `converged`: False where policies came to all or nothing, which is no choice.
    - `config`: its configuration; None where this version does not know it.
    - `setting`: equal for runs that differ in the seed alone.
    - `bops_SPLIT`: bit operations relative to the unpruned model in FP16, which floating point counts as.
    - `comparable`: equal for runs that may be compared: one task, one base model, one set of training
      rows, one kind of adapter, INT8 or not. `base`, `adapter`, `training_rows`, `takes_all` (those are
      all that there are), `max_train_length` (only rows of at most that many tokens; 0 for any) and
      `is_int8` say which.
    - `experiment`: equal for runs that may be compared but for INT8.
    - `recipe`: equal for runs with the same dense counterpart, seeds apart, stored or not.
    - `is_evaluation`: it holds records of a checkpoint that was trained elsewhere or before.
    - `is_foreign`: nothing is known of how that one was trained.
    - `is_half`: another run of its method was trained on from it, so it is only half trained.
    - `has_records`: every example was kept.
    """
    found = store.list_runs() if entries is None else entries
    found_rows = [
        _row(entry, entry.manifest)
        for entry in found
        if entry.problem is None and entry.manifest is not None
    ]
    evaluated = [row for row in found_rows if row["splits"]]
    table = pd.DataFrame(evaluated, columns=_columns(evaluated))
    table = table.astype(
        {
            "training_rows": object,
            "is_evaluation": bool,
            "is_foreign": bool,
            "is_int8": bool,
            "converged": bool,
        }
    )
    # Of two halves the first has the second's method; what was evaluated once more is no half, nor is
    # a run that prunes and that another one only chose a strength of.
    trained = table[~table["is_evaluation"]]
    only_chose = [config is not None and config.select is not None for config in trained["config"]]
    pairs = list(zip(trained["parent"], trained["method"], strict=True))
    taken = set(pairs)
    continued = {pair for pair, chose in zip(pairs, only_chose, strict=True) if not chose}
    own = zip(table["run"], table["method"], strict=True)
    prunes = table[f"paper_{REPORTED_ON}"] < 1
    is_half = [
        pair in (continued if prune else taken) for pair, prune in zip(own, prunes, strict=True)
    ]
    return table.assign(is_half=is_half).reset_index(drop=True)


_FIXED = (
    "run", "folder", "manifest", "task", "method", "seed", "parent", "dense", "metric_name", "splits",
    "converged", "config", "setting", "comparable", "experiment", "recipe", "base", "adapter", "training_rows", "takes_all",
    "max_train_length", "is_int8", "is_evaluation", "is_foreign", "has_records",
)  # fmt: skip


def _columns(found: Sequence[Mapping[str, Any]]) -> list[str]:
    measured = [
        f"{quantity}_{split}" for split in (REPORTED_ON, CHOSEN_ON) for quantity in QUANTITIES
    ]
    return list(dict.fromkeys([*_FIXED, *measured, *(key for row in found for key in row)]))


def _row(entry: RunEntry, manifest: RunManifest) -> dict[str, Any]:
    results = {
        split: result
        for split, result in manifest.summary.items()
        if isinstance(result, dict) and isinstance(result.get("metrics"), dict)
    }
    training = _training(manifest)
    measured: dict[str, Any] = {}
    for split, result in results.items():
        flops = result.get("relative_flops")
        costs = flops if isinstance(flops, dict) else {}
        measured[f"metric_{split}"] = number(next(iter(result["metrics"].values()), None))
        measured |= {f"{name}_{split}": number(costs.get(name)) for name in ACCOUNTINGS}
        # Floating point counts as the FP16 that bit operations are relative to.
        bops = result.get("relative_bops") if training["is_int8"] else costs.get("paper")
        measured[f"bops_{split}"] = number(bops)
        measured[f"rows_{split}"] = number(result.get("rows"))
    headline: dict[str, Any] = results.get(REPORTED_ON) or next(
        iter(results.values()), {"metrics": {}}
    )
    return {
        "run": entry.name,
        "folder": entry.folder,
        "manifest": manifest,
        "task": manifest.task,
        "method": manifest.method,
        "seed": manifest.seed,
        "parent": manifest.parent,
        "dense": manifest.dense,
        "metric_name": next(iter(headline["metrics"]), None),
        "splits": tuple(results),
        "converged": headline.get("converged") is not False,
        "has_records": all(
            (entry.folder / f"{kind}.parquet").is_file() for kind in ("examples", "layers")
        ),
        **training,
        **measured,
    }


def _training(manifest: RunManifest) -> dict[str, Any]:
    """What a run learned from, and what sets it apart besides its seed."""
    # A saved evaluation has the configuration of the run that was evaluated, and what was evaluated
    # beside it; of a checkpoint that came from elsewhere only task and method.
    raw = {key: value for key, value in manifest.config.items() if key != "evaluation"}
    is_evaluation = "evaluation" in manifest.config
    is_foreign = is_evaluation and raw.keys() <= {"task", "method"}
    try:
        config = from_dict(raw)
    except (ConfigError, TypeError, ValueError, AttributeError):  # of a later version
        config = None
    if is_foreign or config is None:
        setting = comparable = experiment = recipe = json.dumps(
            {key: value for key, value in manifest.config.items() if key != "seed"},
            sort_keys=True,
            default=str,
        )
        config = None
    else:
        plain = replace(config, seed=0)
        setting, recipe = plain.fingerprint, (dense_config(plain) or plain).fingerprint
        shared = TrainConfig(
            task=plain.task, base=plain.base, data=plain.data, adapter=plain.adapter
        )
        experiment = shared.fingerprint
        hard = HardConfig(int8=True) if is_int8(plain) else None
        comparable = replace(shared, hard=hard).fingerprint
    training = manifest.dataset.get("train")
    num_rows = training.get("rows") if isinstance(training, dict) else None
    data = config.data if config else None
    return {
        "config": config,
        "setting": f"{setting} of {manifest.name}" if is_evaluation else setting,
        "comparable": comparable,
        "experiment": experiment,
        "recipe": recipe,
        "base": config.base if config else str(manifest.base.get("name")),
        "adapter": config.adapter.kind if config else "unknown",
        "training_rows": num_rows if isinstance(num_rows, int) else data and data.train_rows,
        "takes_all": bool(data and data.train_rows is None and data.max_train_length is None),
        "max_train_length": (data and data.max_train_length) or 0,
        "is_int8": config is not None and is_int8(config),
        "is_evaluation": is_evaluation,
        "is_foreign": is_foreign,
    }


def number(value: Any) -> float:
    """A number that a manifest gives, which anybody may have written; NaN where it is none."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if is_number and abs(value) < 2**63 else math.nan


# ---- operating points ----


def points_table(runs: pd.DataFrame) -> pd.DataFrame:
    """One row an operating point: runs that differ in the seed alone, by task, method and FLOPs.

    Points prune or run in INT8, and were trained and evaluated on validation. Columns, besides those of the first run:

    - `runs`, `seeds`: of all, by seed; `counterparts` their dense counterparts, None where not stored.
    - `converged`: every one of them did.
    - `metric_SPLIT`, `paper_SPLIT`, `executed_SPLIT`, `bops_SPLIT`, `difference_SPLIT` with `SPLIT` one of the two
      splits: mean over seeds, `…_sd` the standard deviation (n − 1), NaN for one. The difference is to
      the dense counterpart of the same seed.
    """
    # Differences go by pairs of runs, so they are taken before anything is averaged.
    dense = runs.set_index("run")
    differences = {
        f"difference_{split}": runs[f"metric_{split}"]
        - runs["dense"].map(dense[f"metric_{split}"].to_dict()).astype(float)
        for split in (REPORTED_ON, CHOSEN_ON)
    }
    measured = [
        f"{q}_{split}" for split in (REPORTED_ON, CHOSEN_ON) for q in (*QUANTITIES, "difference")
    ]
    is_point = (
        ((runs["method"] != UNPRUNED) | runs["is_int8"])
        & ~runs["is_half"]
        & ~runs["is_evaluation"]
        & runs["config"].notna()
        & runs[[f"{quantity}_{REPORTED_ON}" for quantity in QUANTITIES]].notna().all(axis=1)
    )
    # A column of strings would make NaN of None.
    counterparts = runs["dense"].astype(object).where(runs["dense"].isin(runs["run"]), None)
    table = runs.assign(**differences, counterparts=counterparts)[is_point]
    table = table.sort_values(["seed", "run"], kind="stable")
    groups = table.groupby("setting", sort=False)
    lists = groups.agg(
        runs=("run", tuple),
        seeds=("seed", tuple),
        counterparts=("counterparts", tuple),
        converged=("converged", "all"),
    )
    first = (
        groups.head(1).set_index("setting").drop(columns=["counterparts", "converged", *measured])
    )
    sds = groups[measured].std().add_suffix("_sd")
    points = pd.concat([first, lists, groups[measured].mean(), sds], axis=1).reset_index()
    order = ["task", "comparable", "method", f"paper_{REPORTED_ON}", "run"]
    return points.sort_values(order, ignore_index=True)


def beaten(points: pd.DataFrame, accounting: str = "paper") -> pd.Series:
    """Whether a point is off the Pareto front of its method, on held-out rows.

    Another point of the method that may be compared needs no more FLOPs and is no worse, and differs in
    one of the two.
    """
    cost, metric = points[f"{accounting}_{CHOSEN_ON}"], points[f"metric_{CHOSEN_ON}"]
    found = np.zeros(len(points), dtype=bool)
    for places in points.groupby(["comparable", "method"]).indices.values():
        c, m = cost.to_numpy()[places], metric.to_numpy()[places]
        is_other = (c[:, None] != c) | (m[:, None] != m)
        found[places] = (is_other & (c <= c[:, None]) & (m >= m[:, None])).any(axis=1)
    return pd.Series(found, index=points.index)


def smallest_within(
    points: pd.DataFrame,
    *,
    drop: float = ALLOWED_DROP,
    accounting: str = "paper",
    split: str = CHOSEN_ON,
) -> pd.Series:
    """Whether a point is the cheapest of its method that is good enough, among those comparable.

    Args:
        points: Rows of `points_table`.
        drop: How far below its dense counterpart a point may be, a fraction.
        accounting: What is cheap.
        split: Where both is judged; on any other than held-out rows it is hindsight.
    """
    # A drop of exactly one point must not be lost to rounding.
    good = points[points[f"difference_{split}"] >= -drop - 1e-9]
    cost = good[f"{accounting}_{split}"].dropna()
    cheapest = cost.groupby([good["comparable"], good["method"]]).idxmin()
    return pd.Series(points.index.isin(cheapest), index=points.index)


def dense_table(runs: pd.DataFrame, points: pd.DataFrame, split: str = REPORTED_ON) -> pd.DataFrame:
    """Headline metric of the points' dense counterparts: `recipe`, `mean`, `sd`, `count`, best first."""
    names = {name for group in points["counterparts"] for name in group if name}
    dense = runs[runs["run"].isin(names) & runs[f"metric_{split}"].notna()]
    spread = dense.groupby("recipe")[f"metric_{split}"].agg(["mean", "std", "count"])
    table = spread.rename(columns={"std": "sd"}).reset_index()
    return table.sort_values("mean", ascending=False, kind="stable", ignore_index=True)


def recipe_titles(points: pd.DataFrame) -> dict[str, str]:
    """What sets the recipes of dense counterparts apart, in the order of the points: "1.4 epochs".

    Of one recipe alone nothing has to be said: its title is empty.
    """
    configs = {
        recipe: dense_config(config) or config
        for recipe, config in zip(points["recipe"], points["config"], strict=True)
    }
    if len(configs) < 2:
        return dict.fromkeys(configs, "")
    facts = []
    for config in configs.values():
        stages = [each for each in (config.finetune, config.soft, config.hard) if each is not None]
        facts.append(
            (
                f"{sum(stage.epochs for stage in stages):g} epochs",
                "distilled" if stages[-1].distillation_weight > 0 else "not distilled",
                f"learning rate {stages[-1].learning_rate:g}",
            )
        )
    differing = [n for n, values in enumerate(zip(*facts, strict=True)) if len(set(values)) > 1]
    titles = [", ".join(each[n] for n in differing) for each in facts]
    if len(set(titles)) < len(titles):
        return {key: f"dense {key}" for key in configs}
    return dict(zip(configs, titles, strict=True))


# ---- a fair choice by length ----


def most_compared(runs: pd.DataFrame) -> str:
    """The comparable runs with most methods; of equals with most settings, then the first."""
    pruned = runs[(runs["method"] != UNPRUNED) & ~runs["is_foreign"]]
    groups = (pruned if len(pruned) else runs).groupby("comparable", sort=False)
    counts = groups[["method", "setting"]].nunique()
    return str(max(counts.index, key=lambda key: tuple(counts.loc[key])))


def matched(
    runs: pd.DataFrame, costs: Mapping[str, float], target: float | None = None
) -> list[str]:
    """Settings of one point of each method that prunes, of about equal cost.

    Of comparable runs, and last the dense counterpart of the first of them that has one among those
    given. Left out are half-trained runs and what was evaluated once more.

    Args:
        runs: Rows of `runs_table` to choose from.
        costs: Relative FLOPs by setting; what is absent or NaN cannot be chosen.
        target: Relative FLOPs wanted; None brings the methods close together.
    """
    again = runs["is_evaluation"] & runs["parent"].isin(runs["run"])
    is_fair = (runs["method"] != UNPRUNED) & ~runs["is_half"] & ~again
    cost = runs["setting"].map(costs).astype(float)
    fair = runs.assign(cost=cost)[is_fair & cost.notna()].drop_duplicates("setting")
    settings: list[str] = []
    if len(fair):
        fair = fair[fair["comparable"] == most_compared(fair)]
        # By name of the run, for of equal choices the first by name is taken.
        by_method = {
            m: group.set_index("run")["cost"] for m, group in fair.groupby("method", sort=False)
        }
        chosen = match_operating_points({str(m): dict(c) for m, c in by_method.items()}, target)
        settings = fair.set_index("run").loc[list(chosen.values()), "setting"].tolist()
    for setting in settings:
        counterparts = runs.loc[runs["setting"] == setting, "dense"]
        if len(dense := runs.loc[runs["run"].isin(counterparts), "setting"]):
            return [*settings, dense.iloc[0]]
    return [*settings, *runs.loc[runs["method"] == UNPRUNED, "setting"].iloc[:1]]
