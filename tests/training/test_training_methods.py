"""Rivals and controls through the same training: stages, records, reload."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file

from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.cli.main import main
from ltp_core.config import MethodSettings, TrainConfig, parent_config
from ltp_core.trace import received_attention, trace_text
from tests.trainings import Workplace

TEXT = "a good film but slow"


@pytest.fixture(scope="module")
def place(trained_workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace; every test trains what it needs from one finetuned model."""
    return trained_workplace.copy(tmp_path_factory.mktemp("rivals"))


def config_of(place: Workplace, name: str, kind: str = "lora", **settings: Any) -> TrainConfig:
    """The method with soft and hard stage, distilled."""
    return place.config(kind, method=MethodSettings(name=name, settings=settings))


def summary_of(folder: Path) -> dict[str, Any]:
    """What the run measured on its validation rows."""
    found: dict[str, Any] = store.read_manifest(folder).summary["validation"]
    return found


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_shallow_runs_its_first_layers_only(place: Workplace, kind: str) -> None:
    """Two of three layers: two thirds of the FLOPs, no record of the third, the same answer again."""
    folder = place.train(config_of(place, "shallow", kind, layers=2))
    summary = summary_of(folder)
    assert {"paper": pytest.approx(2 / 3), "executed": pytest.approx(2 / 3)} == (
        summary["relative_flops"]
    )
    assert [1.0, 1.0, 0.0] == summary["mean_retained"]
    layers = store.read_table(folder, "layers")
    assert {0} == set(layers[layers["layer"] == 2]["ffn_length"])
    assert {0, 1} == set(store.read_table(folder, "traces")["layer"])
    history = store.read_table(folder, "history")
    assert ["soft", "soft", "hard", "hard"] == history["stage"].tolist()
    np.testing.assert_allclose(history["relative_flops"], 2 / 3, rtol=1e-6)
    assert bool(history["distillation_loss"].notna().all())


def test_shallow_trains_and_stores_what_runs(place: Workplace) -> None:
    """The adapter holds nothing for the layer that is left out, and the others have moved."""
    config = config_of(place, "shallow", layers=2)
    folder = place.train(config)
    parent = store.run_folder(place.store, (parent_config(config) or config).name)
    weights, before = (
        load_file(path / "adapter" / "adapter_model.safetensors") for path in (folder, parent)
    )
    absent = {name for name in before if ".layer.2." in name}
    assert absent
    assert set(before) - set(weights) == absent
    assert all(not bool((weights[name] == before[name]).all()) for name in weights)


@pytest.mark.parametrize("runner", ["masked", "packed"])
def test_a_trace_of_a_shallow_model_says_what_is_left_out(place: Workplace, runner: str) -> None:
    """Every token passes the layer that does not run; it has no score there."""
    model = load_checkpoint(str(place.train(config_of(place, "shallow", layers=2))))
    trace = trace_text(model, TEXT, runner=runner, drop=[3])
    assert [True, True, False] == [layer.runs for layer in trace.layers]
    assert (None,) * len(trace.tokens) == trace.layers[2].score
    assert trace.layers[1].retained == trace.layers[2].retained
    assert 0 < trace.relative_flops["paper"] < 2 / 3
    whole = trace_text(model, TEXT, runner=runner)
    assert pytest.approx(2 / 3) == whole.relative_flops["paper"]
    assert not received_attention(model, whole, 2, TEXT).any()
    score = received_attention(model, whole, 1, TEXT).sum(axis=0)
    assert pytest.approx(whole.layers[1].score, abs=1e-4) == score.tolist()
    assert whole.unpruned is not None
    assert pytest.approx(whole.logits) == whole.unpruned.logits  # the layer stays out
    assert whole == whole.from_json(whole.to_json())


def test_the_commands_take_a_shallow_model(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    """`trace` and `evaluate` on a run with a layer left out."""
    folder = str(place.train(config_of(place, "shallow", layers=2)))
    assert 0 == main(["trace", folder, TEXT])
    assert "layers left out    3" in capsys.readouterr().out
    data = ["--data-dir", str(place.folder / "data")]
    assert 0 == main(["evaluate", folder, "--json", *data])
    found = json.loads(capsys.readouterr().out)
    assert pytest.approx(2 / 3) == found["relative_flops"]["paper"]
    assert summary_of(Path(folder))["metrics"] == found["metrics"]
    assert found["metrics"] == found["same_weights_unpruned_metrics"]


@pytest.mark.parametrize(
    "settings",
    [
        {"keep_layers": 1, "final_ratio": 0.2},
        {"keep_layers": 0, "final_ratio": -0.5, "cumulative": True},
    ],
)
def test_spatten_trains_hard_from_the_start(place: Workplace, settings: dict[str, Any]) -> None:
    """The same cost in every step's figure and in the records; the run comes back as it was."""
    folder = place.train(config_of(place, "spatten", **settings))
    model = load_checkpoint(str(folder))
    assert settings == {key: getattr(model.method.config, key) for key in settings}
    history = store.read_table(folder, "history")
    assert bool(history["temperature"].isna().all())
    assert bool(history["relative_flops"].between(0.2, 0.9).all())
    assert 0.2 < summary_of(folder)["relative_flops"]["paper"] < 0.9
    trace = trace_text(model, TEXT)
    assert trace.lengths[-1] < len(trace.tokens)
    assert all(layer.threshold is None for layer in trace.layers)


def manual_with_budget(place: Workplace) -> TrainConfig:
    """Manual thresholds that the hard stage scales."""
    config = place.config(
        method=MethodSettings(name="manual", settings={"final_threshold": 0.5}),
        hard={"target_relative_flops": 0.4, "budget_gain": 0.6, "epochs": 4.0},
    )
    return dataclasses.replace(config, soft=None)


def thresholds_of(folder: Path) -> list[float]:
    """The thresholds that the run ended with."""
    raw = json.loads((folder / "pruning.json").read_text())
    found: list[float] = raw["method"]["thresholds"]
    return found


@pytest.mark.unchecked
def test_manual_thresholds_follow_the_budget_and_keep_their_shape(place: Workplace) -> None:
    """One multiplier on the line from 0 to the final threshold."""
    folder = place.train(manual_with_budget(place))
    thresholds = thresholds_of(folder)
    assert thresholds[-1] > 0.55
    np.testing.assert_allclose(np.divide(thresholds, thresholds[-1]), [1 / 3, 2 / 3, 1], rtol=1e-6)
    model = load_checkpoint(str(folder))
    assert thresholds == [layer.threshold for layer in trace_text(model, TEXT).layers]


@pytest.mark.unchecked
def test_a_killed_training_keeps_the_thresholds_it_scaled(place: Workplace, tmp_path: Path) -> None:
    """Thresholds that nothing learns are part of the snapshot too."""
    config = manual_with_budget(place)
    expected = place.train(config)
    beside = place.copy(tmp_path, (parent_config(config) or config).name)
    beside.train_until_interrupted(config, "hard", 22, snapshot_every=4)
    assert thresholds_of(expected) == pytest.approx(thresholds_of(beside.train(config)), abs=1e-6)
