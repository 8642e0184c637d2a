"""Which operating points were trained alike: they share a dense counterpart. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from ltp_core.analysis.tradeoff import Point
from ltp_core.config import TrainConfig, dense_config


def recipe_of(point: Point) -> str:
    """Equal for points with the same dense counterpart, seeds apart, whether it is stored or not."""
    return replace(_dense(point), seed=0).fingerprint


def recipe_titles(points: Sequence[Point]) -> dict[str, str]:
    """What sets the recipes apart, by recipe, in the order of the points: "1.4 epochs".

    Of one recipe alone nothing has to be said: its title is empty.
    """
    configs = {recipe_of(point): _dense(point) for point in points}
    if len(configs) < 2:
        return dict.fromkeys(configs, "")
    facts = [_facts(config) for config in configs.values()]
    differing = [n for n, values in enumerate(zip(*facts, strict=True)) if len(set(values)) > 1]
    titles = [", ".join(each[n] for n in differing) for each in facts]
    if len(set(titles)) < len(titles):
        return {key: f"dense {key}" for key in configs}
    return dict(zip(configs, titles, strict=True))


def _dense(point: Point) -> TrainConfig:
    config = point.runs[0].config
    return dense_config(config) or config


def _facts(dense: TrainConfig) -> tuple[str, ...]:
    """Epochs in all, and the last stage's distillation and learning rate."""
    stages = [stage for stage in (dense.finetune, dense.soft, dense.hard) if stage is not None]
    last = stages[-1]
    return (
        f"{sum(stage.epochs for stage in stages):g} epochs",
        "distilled" if last.distillation_weight > 0 else "not distilled",
        f"learning rate {last.learning_rate:g}",
    )
