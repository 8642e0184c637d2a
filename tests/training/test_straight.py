"""Training of thresholds and score while tokens are pruned: one budget, every budget, a choice after it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.config import HardConfig, MethodSettings, SelectConfig, TrainConfig, dense_config
from ltp_core.pruning.ltp_s import ScoredTokenPruning
from ltp_core.records import UserError
from ltp_core.training.objective import along_equal_cost_
from tests.trainings import STAGE, Workplace

SHAPED = {"score_mean": "ordinary", "shape": "learned", "final_threshold": 0.02}


@pytest.fixture(scope="module")
def place(trained_workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace; every test trains what it needs from one finetuned model."""
    return trained_workplace.copy(tmp_path_factory.mktemp("straight"))


def config_of(place: Workplace, name: str = "ltp_s", **hard: Any) -> TrainConfig:
    """A method whose thresholds learn in the hard stage, elastic unless said."""
    stage = {
        **STAGE,
        "epochs": 3.0,
        "distillation_weight": 0.5,
        "target_relative_flops": 0.4,
        "mask_gradient": 0.15,
        "elastic": True,
        **hard,
    }
    settings = SHAPED if name == "ltp" else {}
    method = MethodSettings(name=name, settings=settings)
    return replace(place.config(method=method), soft=None, hard=HardConfig(**stage))


@pytest.mark.parametrize(("name", "elastic"), [("ltp_s", True), ("ltp", True), ("ltp_s", False)])
def test_thresholds_rise_and_learn_a_shape(place: Workplace, name: str, elastic: bool) -> None:
    """From next to nothing on, together at first, and what is learned comes back from disk."""
    folder = place.train(config_of(place, name, elastic=elastic))
    history = store.read_table(folder, "history")
    first, last = (history.iloc[i] for i in (0, -1))
    assert last["threshold_1"] > first["threshold_1"] > 0
    method = load_checkpoint(str(folder)).method
    thresholds = [method.threshold(i) for i in range(3)]
    assert len({round(t / thresholds[0], 3) for t in thresholds}) > 1  # type: ignore[operator]
    assert bool(history["relative_flops"].between(0, 1.02).all())
    if isinstance(method, ScoredTokenPruning):
        assert method.direction is not None
        assert method.direction.abs().max() > 0
    assert store.read_manifest(folder).base.get("reads_states", False) == (name == "ltp_s")


@pytest.mark.unchecked
def test_equal_thresholds_stay_equal(place: Workplace) -> None:
    """With a rate of 0 the shape is not learned."""
    folder = place.train(config_of(place, "ltp", shape_learning_rate=0.0))
    method = load_checkpoint(str(folder)).method
    assert len({method.threshold(i) for i in range(3)}) == 1


@pytest.mark.unchecked
def test_a_budget_is_chosen_afterwards(place: Workplace) -> None:
    """It shares the weights, spends at most the budget on the held-out rows, and lists its tries."""
    trained = config_of(place)
    chosen = replace(trained, select=SelectConfig(target_relative_flops=0.97, rows=4))
    folder = place.train(chosen)
    assert not (folder / "adapter").exists()
    assert store.read_manifest(folder).parent == trained.name
    tried = store.read_table(folder, "candidates")
    best = tried[tried["is_chosen"]].iloc[0]
    assert best["relative_flops"] <= 0.97
    cheaper = tried[(tried["relative_flops"] <= 0.97) & (tried["factor"] < best["factor"])]
    assert cheaper.empty
    whole = load_checkpoint(str(place.store / "runs" / trained.name)).method
    part = load_checkpoint(str(folder)).method
    assert part.threshold(0) == pytest.approx(whole.threshold(0) * best["factor"], rel=1e-5)
    with pytest.raises(UserError, match="goes down to"):
        place.train(replace(trained, select=SelectConfig(target_relative_flops=0.01, rows=4)))


@pytest.mark.unchecked
def test_a_killed_training_goes_on_to_the_same_result(place: Workplace, tmp_path: Path) -> None:
    """Scale, shape, directions and the budget's memory are part of the snapshot."""
    config = config_of(place)
    whole = place.train(config)
    name = replace(config, hard=None, method=MethodSettings()).name
    other = place.copy(tmp_path / "other", name)
    other.train_until_interrupted(config, "hard", 17, snapshot_every=4)
    again = other.train(config, snapshot_every=4)
    ours, theirs = (load_checkpoint(str(f)).method.state_json() for f in (again, whole))
    assert ours == theirs


def test_the_dense_counterpart_takes_the_same_steps(place: Workplace) -> None:
    """Same epochs and distillation, and nothing of what only pruning has."""
    dense = dense_config(config_of(place))
    assert dense is not None
    assert dense.hard == HardConfig(**{**STAGE, "epochs": 3.0, "distillation_weight": 0.5})


def test_the_shape_learns_at_equal_cost() -> None:
    """What is left of its gradient is orthogonal to the gradient of the cost."""
    delta = nn.Parameter(torch.zeros(4))
    delta.grad = torch.tensor([1.0, -2.0, 0.5, 3.0])
    cost = torch.tensor([0.2, 0.4, 0.1, 0.1])
    along_equal_cost_(delta, cost)
    assert float(delta.grad @ cost) == pytest.approx(0.0, abs=1e-6)
    assert delta.grad.tolist() != [1.0, -2.0, 0.5, 3.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": MethodSettings(name="ltp")}, "mask_gradient"),
        ({"method": MethodSettings(name="spatten")}, "mask_gradient"),
        ({"hard": HardConfig(**STAGE)}, "learn in a hard stage"),
    ],
)
def test_settings_that_nothing_would_follow_are_refused(
    place: Workplace, changes: dict[str, Any], message: str
) -> None:
    """Masks' gradients without a shape, and a shape without masks' gradients."""
    with pytest.raises(UserError, match=message):
        place.train(replace(config_of(place), **changes))
