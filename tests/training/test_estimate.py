"""What a training says while it runs, and how long it will take, before it runs."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from ltp_core import store
from ltp_core.config import dense_config, lineage, stages_of
from ltp_core.records import UserError
from ltp_core.training import loop
from ltp_core.training.estimate import Estimate, StageTime, estimate, within
from ltp_core.training.resume import read_position
from ltp_core.training.watch import Watch
from tests.trainings import Workplace

Events = list[tuple[str, dict[str, Any]]]


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """Data and a base model, nothing trained."""
    return Workplace.make(tmp_path)


@pytest.mark.unchecked
def test_a_training_says_how_far_it_is(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each run begins, tells its stages with all steps, its evaluation, and that it is finished."""
    monkeypatch.setattr("ltp_core.training.watch.LEAST_S", 0.0)
    events: Events = []
    config = place.config()
    place.train(config, report=lambda event, fields: events.append((event, fields)))
    for each in lineage(config):
        own = [(event, fields) for event, fields in events if fields["run"] == each.name]
        assert ["begin", "finished"] == [own[0][0], own[-1][0]]
        told = [fields for event, fields in own if event == "stage"]
        assert list(stages_of(each)) == [fields["stage"] for fields in told]
        steps = [fields["step"] for event, fields in own if event == "step"]
        assert sum(fields["steps"] for fields in told) >= len(steps) > 0
        evaluated = [fields for event, fields in own if event == "evaluate"]
        assert evaluated[-1]["done"] == evaluated[-1]["passes"]
    row = next(fields for event, fields in events if event == "step")
    assert {"loss", "relative_flops", "mean_retained", "threshold_1"} <= set(row)


def test_steps_are_told_ever_more_seldom() -> None:
    """A watched training leaves few events, however long it takes; one that nobody watches none."""
    assert not Watch("run").is_due()
    watch = Watch("run", lambda event, fields: None)
    clock = iter([0.5, 1.5, 2.0, 3_000.0, 3_005.0, 3_011.0])
    watch._began = watch._last = 0.0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ltp_core.training.watch.time.monotonic", lambda: next(clock))
        assert [False, True, False, True, False, True] == [watch.is_due() for _ in range(6)]


@pytest.mark.unchecked
def test_a_slow_training_is_kept_by_the_clock_too(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was done some seconds ago is not lost, however many steps lie between two snapshots."""
    monkeypatch.setattr(loop, "SNAPSHOT_S", 0.0)
    config = dataclasses.replace(place.config(), soft=None, hard=None)
    place.train_until_interrupted(config, "finetune", 12, snapshot_every=1_000)
    position = read_position(store.run_folder(place.store, config.name))
    assert position is not None
    # A snapshot that costs more than a 20th of the time between two waits a little.
    assert 0 < position.step <= 12


@pytest.mark.unchecked
def test_a_few_steps_are_measured_and_nothing_is_kept(place: Workplace) -> None:
    """Every stage of the run and its parent has its steps; the store stays empty."""
    config = place.config()
    found = estimate(config, place.folder / "data")
    steps = {(each.run, each.stage): each.steps for each in found.stages}
    parent = lineage(config)[0].name
    assert {(parent, "finetune"): 18, (config.name, "soft"): 18, (config.name, "hard"): 18} == steps
    assert all(each.step_s > 0 for each in found.stages)
    assert found.total_s > found.training_s > 0
    assert not place.store.exists()


def test_epochs_fit_the_time(place: Workplace) -> None:
    """Every stage gives up the same share, so a run and its dense counterpart keep the same epochs."""
    config = place.config()
    stages = tuple(
        StageTime(run="x", stage=name, steps=100, step_s=1.0) for name in ("finetune", "soft")
    )
    expected = Estimate(stages=stages, other_s=20.0)
    assert config == within(config, 1_000.0, expected)
    shorter = within(config, (20.0 + 100.0) / 0.9, expected)
    assert shorter.soft is not None
    assert shorter.hard is not None
    epochs = [shorter.finetune.epochs, shorter.soft.epochs, shorter.hard.epochs]
    assert [1.0, 1.0, 1.0] == epochs
    assert shorter.name != config.name
    dense = dense_config(shorter)
    assert dense is not None
    assert lineage(dense)[0] == lineage(shorter)[0]
    with pytest.raises(UserError, match="too few"):
        within(config, 20.0, expected)
