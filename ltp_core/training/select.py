"""A choice that follows training: what a method picks on held-out training rows for a budget.

`train` comes here for a configuration with a `select` table. Weights are the parent's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltp_core.calibration.calibrate import calibrate
from ltp_core.checkpoint import PrunedModel
from ltp_core.config import UNTRAINED, DataConfig, SelectConfig, TrainConfig
from ltp_core.inference import predict
from ltp_core.pruning import METHODS, PruningMethod
from ltp_core.pruning.base import ThresholdMethod
from ltp_core.pruning.calibrated import CalibratedConfig
from ltp_core.records import UserError
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.loading import load_rows
from ltp_core.tasks.task import Rows
from ltp_core.tokenize import Encoded, encode
from ltp_core.training.choose_lengths import choose_lengths
from ltp_core.training.prepare import make_method
from ltp_core.training.search import candidates_table


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What was chosen.

    Attributes:
        method: The chosen configuration.
        candidates: Everything that was tried, columns of the store's `candidates` table.
    """

    method: PruningMethod
    candidates: pd.DataFrame


def check_config(config: TrainConfig) -> None:
    """Refuses an unknown task, and settings that nothing of the task or the method would follow.

    Raises:
        UserError: There is one.
    """
    find_task(config.task)
    _check_data(config)
    _check_selectable(config)
    check_budget(config)


def _check_selectable(config: TrainConfig) -> None:
    """Refuses a `select` table where there is nothing to choose, and its absence where it is needed."""
    name, task = config.method.name, find_task(config.task)
    if config.select is not None and (task.asks_questions or task.is_multi_label):
        raise UserError(f"select: for {config.task} there is no choice after training yet.")
    if config.select is not None and METHODS[name].choice is None:
        able = ", ".join(key for key, method in METHODS.items() if method.choice)
        raise UserError(f"select: {name} has nothing to choose; it is for {able}.")
    if config.select is None and name in UNTRAINED:
        raise UserError(f"method.name = {name!r}: trains nothing, so it needs a table [select].")


def _check_data(config: TrainConfig) -> None:
    """Refuses settings of questions for a task that asks none."""
    if find_task(config.task).asks_questions:
        return
    for name in ("stride", "train_task", "unanswerable_share", "heldout_by"):
        if getattr(config.data, name) != getattr(DataConfig(), name):
            raise UserError(
                f"data.{name}: {config.task} asks no questions about a text; set it to none."
            )


def check_budget(config: TrainConfig) -> None:
    """Refuses a FLOPs budget that nothing would follow.

    In the soft stage follows what is learned there, in the hard stage thresholds do. Thresholds that are
    not learned rest in the soft stage; a budget there is let pass beside one of the hard stage, which
    they follow, so that a sweep can give both to all threshold methods.

    Raises:
        UserError: A stage has one.
    """
    method = METHODS[config.method.name]
    has_thresholds = issubclass(method, ThresholdMethod) and method.name not in UNTRAINED
    soft, hard = (
        getattr(stage, "target_relative_flops", None) for stage in (config.soft, config.hard)
    )
    _check_mask_gradient(config)
    _check_policy(config)
    if hard is not None and not has_thresholds:
        raise UserError(
            f"hard.target_relative_flops: {method.name} has nothing there that could follow a budget; "
            "set it to none."
        )
    if soft is None or method.is_learned or (has_thresholds and hard is not None):
        return
    other_way = "; or set hard.target_relative_flops, which its thresholds follow" * has_thresholds
    raise UserError(
        f"soft.target_relative_flops: {method.name} learns nothing there that could follow a budget; "
        f"set it to none{other_way}."
    )


def _check_mask_gradient(config: TrainConfig) -> None:
    """Thresholds with a shape learn in a hard stage with `mask_gradient`, and nothing else does there."""
    has_gradient = config.hard is not None and config.hard.mask_gradient is not None
    has_shape = False
    if issubclass(METHODS[config.method.name], ThresholdMethod):
        method = make_method(config, num_layers=1)
        has_shape = isinstance(method, ThresholdMethod) and method.delta is not None
    if has_gradient and not has_shape:
        raise UserError(
            f"hard.mask_gradient: {config.method.name} has no shape of thresholds to learn; set it to none, "
            "or for ltp method.shape to 'learned'."
        )
    if has_shape and (config.soft is not None or not has_gradient):
        raise UserError(
            f"{config.method.name}: its thresholds learn in a hard stage alone: leave [soft] out and set "
            "hard.mask_gradient."
        )


def _check_policy(config: TrainConfig) -> None:
    """Policies learn by reward in a stage of their own, and nothing else does there."""
    has_policies = METHODS[config.method.name].objective == "reinforce"
    if config.policy is not None and not has_policies:
        raise UserError(
            f"policy: {config.method.name} has no policies to learn; leave [policy] out."
        )
    if has_policies and (config.policy is None or config.soft is not None):
        raise UserError(
            f"{config.method.name}: its policies learn in a table [policy]: set it, and leave [soft] out."
        )


def _scale_to_budget(
    config: TrainConfig, select: SelectConfig, model: PrunedModel, rows: Rows, encoded: Encoded
) -> Selection:
    """Trained thresholds: one multiplier on them, by bisection, spends the budget on these rows."""
    tried: list[dict[str, Any]] = []

    def cost(factor: float) -> float:
        scaled = model.method.scaled(factor)
        assert scaled is not None
        passed = predict(model, encoded, scaled)
        found = passed.relative_flops(model)["paper"]
        metric = next(iter(find_task(config.task).score(passed.answers, rows.labels).values()))
        tried.append({"factor": factor, "relative_flops": found, "metric": metric})
        return found

    low, high = 0.0, 1.0
    if cost(high) > select.target_relative_flops:
        raise UserError(
            f"select.target_relative_flops = {select.target_relative_flops}: the trained model goes down to "
            f"{tried[-1]['relative_flops']:.3f} only."
        )
    while len(tried) < min(select.max_configurations, SCALES_TRIED):
        middle = (low + high) / 2
        low, high = (middle, high) if cost(middle) > select.target_relative_flops else (low, middle)
    chosen = model.method.scaled(high)
    assert chosen is not None
    frame = pd.DataFrame(tried).sort_values("factor", ignore_index=True)
    frame = frame.assign(candidate=frame.index, is_chosen=frame["factor"] == high)
    return Selection(method=chosen, candidates=frame)


SCALES_TRIED = 14
"""Bisections of the scale: enough for a thousandth of the FLOPs."""


def select_method(
    config: TrainConfig,
    model: PrunedModel,
    method: PruningMethod,
    data_dir: Path | None,
    stores: Sequence[Path],
) -> Selection:
    """Chooses on held-out training rows.

    Args:
        config: A run with a `select` table.
        model: The parent.
        method: The method as configured.
        data_dir: Folder of Parquet files for GLUE tasks.
        stores: Where earlier runs may be that carried out the same search.

    Raises:
        UserError: The budget cannot be reached.
    """
    rows = heldout_rows(config, model, data_dir)
    choice = METHODS[config.method.name].choice
    assert choice is not None
    select = config.select
    assert select is not None
    if choice == "lengths":
        # LAT: the parent is the adaptive model, the search is evolutionary.
        chosen, tried = choose_lengths(model, rows, config, stores)
        return Selection(method=chosen, candidates=candidates_table(tried, chosen.lengths))
    encoded = encode(model.tokenizer, rows.texts, model.max_length)
    if choice == "thresholds":
        # The parent is the dense model, labels are not looked at.
        assert isinstance(method.config, CalibratedConfig)
        found = calibrate(
            model,
            encoded,
            select.target_relative_flops,
            settings=method.config,
            max_configurations=select.max_configurations,
        )
        return Selection(method=found.method, candidates=found.frame())
    return _scale_to_budget(config, select, model, rows, encoded)


def heldout_rows(config: TrainConfig, model: PrunedModel, data_dir: Path | None) -> Rows:
    """Held-out training rows; like those that are trained on, none beyond `data.max_train_length`."""
    assert config.select is not None
    limit, longest = config.select.rows, config.data.max_train_length
    rows = load_rows(
        config.task,
        "heldout",
        data_dir=data_dir,
        limit=limit if longest is None else None,
        seed=config.seed,
    )
    if longest is None:
        return rows
    length = encode(model.tokenizer, rows.texts, config.data.max_length).length
    short = np.flatnonzero(length <= longest)
    if not len(short):
        raise UserError(f"data.max_train_length = {longest}: no held-out row is that short.")
    chosen = np.random.default_rng(config.seed).permutation(short)[:limit]
    return rows.take(np.sort(chosen))
