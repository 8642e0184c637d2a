"""Training end to end on tiny models: records, thresholds, budget, and nothing lost when it is killed."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from accelerate import Accelerator
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from ltp_core import store, token_categories
from ltp_core.checkpoint import load_checkpoint
from ltp_core.config import (
    DataConfig,
    HardConfig,
    MethodSettings,
    SoftConfig,
    StageConfig,
    TrainConfig,
    dense_config,
    from_dict,
    parent_config,
    to_toml,
)
from ltp_core.flops import relative_flops
from ltp_core.metrics import compute_metrics
from ltp_core.pruning import LearnedTokenPruning
from ltp_core.records import RunManifest, UserError
from ltp_core.training import loop, losses, results
from ltp_core.training import train as training
from ltp_core.training.resume import (
    SNAPSHOT_FILE,
    Journal,
    Position,
    read_position,
    restore_snapshot,
    save_snapshot,
)
from ltp_core.training.select import check_budget
from tests import tiny
from tests.commands import run
from tests.trainings import KINDS, Workplace, save_data

TABLES = ("history", "examples", "layers", "traces", "token_kinds")

unchecked = pytest.mark.unchecked
"""Trainings like those of `test_the_hard_stage_goes_to_its_budget` and the other methods."""


@pytest.fixture(scope="module")
def place(trained_workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace whose store holds an LTP run and its dense counterpart, as adapter and in full."""
    return trained_workplace.copy(tmp_path_factory.mktemp("trainings"))


@pytest.fixture
def beside(place: Workplace, tmp_path: Path) -> Workplace:
    """The same with a store of its own, which holds the finetuned models only."""
    parents = (parent_config(place.config(kind)) for kind in KINDS)
    return place.copy(tmp_path, *(parent.name for parent in parents if parent))


def folder_of(place: Workplace, config: TrainConfig) -> Path:
    """The run's folder."""
    return store.run_folder(place.store, config.name)


def manifest_of(place: Workplace, config: TrainConfig) -> RunManifest:
    """The run's manifest."""
    return store.read_manifest(folder_of(place, config))


def history_of(folder: Path) -> pd.DataFrame:
    """The run's history."""
    return store.read_table(folder, "history")


def thresholds_in(frame: pd.DataFrame) -> np.ndarray:
    """One line a logged step, one column a layer."""
    return frame[[c for c in frame if c.startswith("threshold_")]].to_numpy()


def thresholds_of(folder: Path) -> list[float]:
    """The thresholds that the run ended with."""
    raw = json.loads((folder / "pruning.json").read_text())
    found: list[float] = raw["method"]["thresholds"]
    return found


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that the run saved as tensors."""
    return load_file(next(folder.glob("*/*.safetensors")))


# --- what a run leaves ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_writes_every_record(place: Workplace, kind: str) -> None:
    """Configuration, tables, weights, pruning state; the manifest last; nothing else."""
    folder = folder_of(place, place.config(kind))
    weights = {
        "lora": {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"},
        "full": {"model/config.json", "model/model.safetensors", "model/tokenizer.json"},
    }[kind]
    expected = {"config.json", "pruning.json", *(f"{table}.parquet" for table in TABLES), *weights}
    manifest = store.read_manifest(folder)
    assert expected == {entry.name for entry in manifest.files}
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert expected | {"manifest.json"} == found
    written = {name: (folder / name).stat().st_mtime_ns for name in found}
    assert "manifest.json" == max(written, key=lambda name: written[name])
    assert all(not store.read_table(folder, table).empty for table in TABLES)
    assert all(entry.problem is None for entry in store.list_runs([place.store]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_manifest_says_where_the_run_comes_from(place: Workplace, kind: str) -> None:
    """Configuration, parent, dense counterpart, base and data: every name leads to the thing."""
    config = place.config(kind)
    manifest = manifest_of(place, config)
    assert config == from_dict(manifest.config)
    assert (config.name, config.fingerprint) == (manifest.name, manifest.fingerprint)
    parent, dense = parent_config(config), dense_config(config)
    assert parent is not None
    assert dense is not None
    assert (parent.name, dense.name) == (manifest.parent, manifest.dense)
    for name, kin in ((parent.name, None), (dense.name, parent.name)):
        found = store.read_manifest(store.find_run(name, [place.store]))
        assert (name, "unpruned", None, kin) == (
            found.name,
            found.method,
            found.dense,
            found.parent,
        )
    assert ["heldout", "train", "validation"] == sorted(manifest.dataset)
    assert {"cpu"} == {manifest.hardware["device"]}
    assert manifest.base["sha256"]
    assert manifest.duration_s > 0
    assert str(place.folder) not in json.dumps(manifest.dataset)


@pytest.mark.parametrize("kind", KINDS)
def test_the_summary_is_that_of_the_records(place: Workplace, kind: str) -> None:
    """Metrics and relative FLOPs follow from the stored examples and layers, and LTP prunes."""
    config = place.config(kind)
    folder = folder_of(place, config)
    summary = store.read_manifest(folder).summary
    examples, layers = (store.read_table(folder, name) for name in ("examples", "layers"))
    for split, found in summary.items():
        rows = examples[examples["split"] == split]
        assert len(rows) == found["rows"]
        predictions, labels = rows["prediction"].to_numpy(), rows["label"].to_numpy()
        assert compute_metrics("accuracy", predictions, labels) == found["metrics"]
        lengths = layers[layers["split"] == split]
        sizes = [lengths[c].to_numpy().reshape(-1, 3) for c in ("attention_length", "ffn_length")]
        relative = relative_flops(rows["length"].to_numpy(), *sizes, hidden=16, intermediate=24)
        assert pytest.approx(relative) == found["relative_flops"]
        assert 0.2 < relative["executed"] < relative["paper"] < 1
    dense = dense_config(config)
    assert dense is not None
    for found in manifest_of(place, dense).summary.values():
        assert {"paper": 1.0, "executed": 1.0} == found["relative_flops"]


def test_stored_traces_agree_with_the_layers(place: Workplace) -> None:
    """Scores of live tokens have mean 1; the retained ones are the lengths of the layers' table."""
    folder = folder_of(place, place.config())
    keys = ["split", "row", "layer"]
    by_layer = store.read_table(folder, "traces").groupby(keys)
    layers = store.read_table(folder, "layers").set_index(keys).sort_index()
    np.testing.assert_allclose(by_layer["score"].mean(), 1.0, atol=1e-5)
    assert layers["attention_length"].tolist() == by_layer.size().tolist()
    assert layers["ffn_length"].tolist() == by_layer["retained"].sum().tolist()


def test_no_record_holds_a_text(place: Workplace) -> None:
    """Tables hold numbers and the names of splits and stages."""
    folder = folder_of(place, place.config())
    for table in TABLES:
        frame = store.read_table(folder, table)
        texts = frame.select_dtypes(exclude=["number", "bool"])
        assert set(texts) <= {"split", "stage", "grouping", "kind"}
        if table == "token_kinds":
            assert set(frame["kind"]) == {*token_categories.KINDS, *token_categories.BANDS}


def test_the_loaded_run_says_what_its_records_say(place: Workplace) -> None:
    """Loading the run again gives the stored logits."""
    from ltp_core.evaluate import evaluate_checkpoint

    for kind in KINDS:
        folder = folder_of(place, place.config(kind))
        found = evaluate_checkpoint(
            load_checkpoint(str(folder)), data_dir=place.folder / "data", batch_size=1
        )
        stored = store.read_table(folder, "examples")
        stored = stored[stored["split"] == "validation"]
        for column in ("logit_0", "logit_1"):
            assert pytest.approx(stored[column].tolist(), abs=1e-5) == (
                found.examples[column].tolist()
            )


def test_a_complete_run_is_not_trained_again(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same configuration gives back the folder that is there."""
    config = place.config()
    monkeypatch.setattr(training, "prepare", lambda *_, **__: pytest.fail("it was trained again"))
    assert folder_of(place, config) == place.train(config)


# --- the loop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_history_is_the_loss_by_its_formula(place: Workplace, kind: str) -> None:
    """Loss = (1 - s) task + s distillation + regulariser, which is λ times the mean mask."""
    history = history_of(folder_of(place, place.config(kind)))
    assert ["soft", "soft", "hard", "hard"] == history["stage"].tolist()
    assert [0, 10, 0, 10] == history["step"].tolist()
    mixed = 0.5 * history["task_loss"] + 0.5 * history["distillation_loss"]
    np.testing.assert_allclose(history["loss"], mixed + history["regularizer"], rtol=1e-5)
    soft = history["stage"] == "soft"
    np.testing.assert_allclose(
        history["regularizer"], np.where(soft, 0.1 * history["mean_retained"], 0), rtol=1e-5
    )
    assert soft.tolist() == history["temperature"].notna().tolist()
    assert bool(history["relative_flops"].between(0.2, 0.99).all())


def test_soft_thresholds_move_and_hard_ones_stay(place: Workplace) -> None:
    """Without a budget the hard stage leaves every bit of the learned thresholds."""
    for kind in KINDS:
        folder = folder_of(place, place.config(kind))
        history = history_of(folder)
        soft, hard = (thresholds_in(history[history["stage"] == s]) for s in ("soft", "hard"))
        assert bool((soft[0] != soft[1]).all())
        assert bool((hard == hard[0]).all())
        assert hard[0].tolist() == thresholds_of(folder)
        assert [0.3, 0.6, 0.9] != pytest.approx(thresholds_of(folder), abs=1e-4)


def test_the_dense_counterpart_is_trained_as_long(place: Workplace) -> None:
    """Same stages, steps, rates and distillation; nothing pruned."""
    config = place.config()
    dense = dense_config(config)
    assert dense is not None
    pruned, unpruned = (history_of(folder_of(place, c)) for c in (config, dense))
    for column in ("stage", "step", "epoch", "learning_rate"):
        assert pruned[column].tolist() == unpruned[column].tolist()
    assert bool(unpruned["distillation_loss"].notna().all())
    assert {1.0} == set(unpruned["relative_flops"])
    assert np.isnan(thresholds_in(unpruned)).all()


def recorded_groups(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Collects the parameter groups of every optimizer that is made from now on."""
    groups: list[dict[str, Any]] = []

    class Recorded(torch.optim.AdamW):
        def __init__(self, params: list[dict[str, Any]], **options: Any) -> None:
            super().__init__(params, **options)
            groups.extend({**g, "initial_rate": g["lr"]} for g in self.param_groups)

    monkeypatch.setattr(loop, "AdamW", Recorded)
    return groups


@unchecked
def test_what_a_stage_optimises(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One group of the soft stage holds the thresholds alone; matrices alone decay.

    No stage leaves its optimizer behind: Accelerate unscales the gradients of all that it knows, and
    would scale some twice.
    """
    groups, known = recorded_groups(monkeypatch), []
    clip = Accelerator.clip_grad_norm_

    def watched(self: Accelerator, *args: Any, **more: Any) -> Any:
        known.append(len(self._optimizers))
        return clip(self, *args, **more)

    monkeypatch.setattr(Accelerator, "clip_grad_norm_", watched)
    config = place.config(soft={"threshold_learning_rate": 0.123, "weight_decay": 0.2})
    place.train(config)
    (own,) = (g for g in groups if [(3,)] == [tuple(p.shape) for p in g["params"]])
    assert (0.123, 0.0) == (own["initial_rate"], own["weight_decay"])
    decaying = [g for g in groups if g["weight_decay"] > 0]
    assert {0.01, 0.2} == {group["weight_decay"] for group in decaying}
    assert all(p.dim() == 2 for group in decaying for p in group["params"])
    assert {1} == set(known)


@unchecked
def test_thresholds_step_under_mixed_precision(place: Workplace) -> None:
    """In bfloat16 autocast thresholds stay float32, receive gradients and rise to a budget."""
    config = place.config(
        "full",
        soft={
            "target_relative_flops": 0.2,
            "threshold_learning_rate": 0.01,
            "budget_ramp": 0.0,
        },
        mixed_precision="bf16",
    )
    folder = place.train(config)
    history = history_of(folder)
    assert bool(history["loss"].notna().all())
    assert [0, 10] == history[history["stage"] == "soft"]["step"].tolist()
    assert bool((np.array(thresholds_of(folder)) > np.array([0.3, 0.6, 0.9]) + 0.01).all())


@unchecked
def test_thresholds_settle_after_every_step(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a step does to them, the method brings them back into their range."""

    def settle(method: LearnedTokenPruning) -> None:
        with torch.no_grad():
            method.thresholds.fill_(0.25)

    monkeypatch.setattr(LearnedTokenPruning, "settle_", settle)
    folder = place.train(place.config(soft={"threshold_learning_rate": 0.3}))
    assert [0.25, 0.25, 0.25] == thresholds_of(folder)
    assert bool((thresholds_in(history_of(folder))[1:] == 0.25).all())


@pytest.mark.parametrize(("start", "target"), [(0.5, 0.4), (4.0, 0.75)])
def test_the_hard_stage_goes_to_its_budget(place: Workplace, start: float, target: float) -> None:
    """From above and from below, by one multiplier on all thresholds."""
    config = place.config(
        hard={"target_relative_flops": target, "budget_gain": 0.6, "epochs": 8.0},
        method=MethodSettings(name="ltp", settings={"final_threshold": start}),
    )
    folder = place.train(dataclasses.replace(config, soft=None))
    history = history_of(folder)
    distance = (history["relative_flops"] - target).abs()
    assert distance.iloc[-3:].mean() < 0.5 * distance.iloc[0]
    thresholds = thresholds_in(history)
    np.testing.assert_allclose(
        thresholds / thresholds[:, -1:], [[1 / 3, 2 / 3, 1]] * len(history), rtol=1e-5
    )
    assert (thresholds[-1, -1] > start) == (start == 0.5)


@pytest.mark.parametrize(("task", "method"), [("stsb", "ltp"), ("mrpc", "manual")])
def test_other_tasks_and_methods_train(place: Workplace, task: str, method: str) -> None:
    """Regression, pairs, a method that learns nothing: the same loop."""
    save_data(place.folder / "data", task)
    config = dataclasses.replace(
        place.config(), task=task, soft=None, method=MethodSettings(name=method)
    )
    folder = place.train(config)
    found = store.read_manifest(folder)
    headline = {"stsb": "pearson_spearman", "mrpc": "accuracy_f1"}[task]
    assert headline == next(iter(found.summary["validation"]["metrics"]))
    assert found.summary["validation"]["relative_flops"]["paper"] < 1
    history = history_of(folder)
    assert {"hard"} == set(history["stage"])
    assert bool(history["distillation_loss"].notna().all())
    assert found.dense is not None


@unchecked
def test_every_epoch_sees_every_row_once_in_another_order(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """36 training rows in batches of 4 are nine steps an epoch."""
    seen: list[list[int]] = []
    inputs = loop.TrainingSet.inputs

    def counted(self: loop.TrainingSet, index: np.ndarray) -> Any:
        seen.append(index.tolist())
        return inputs(self, index)

    monkeypatch.setattr(loop.TrainingSet, "inputs", counted)
    config = dataclasses.replace(place.config(), soft=None, seed=1)
    place.train(parent_config(config) or config)
    assert 18 == len(seen)
    epochs = [sum(seen[i : i + 9], []) for i in (0, 9)]  # noqa: RUF017  # eighteen short lists
    assert [list(range(36))] * 2 == [sorted(epoch) for epoch in epochs]
    assert sorted(map(sorted, seen[:9])) != sorted(map(sorted, seen[9:]))


@unchecked
def test_training_learns(tmp_path: Path) -> None:
    """What can be told apart is told apart, in training and on unseen rows."""
    save_data(tmp_path / "data", "sst2")
    still = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    place = Workplace(tmp_path, tiny.save_hugging_face("bert", tmp_path / "base", **still))
    config = dataclasses.replace(
        place.config("full"),
        soft=None,
        hard=None,
        method=MethodSettings(),
        finetune=StageConfig(epochs=12.0, batch_size=6, learning_rate=0.003),
    )
    folder = place.train(config)
    loss = history_of(folder)["task_loss"]
    assert loss.iloc[-3:].mean() < 0.5 * loss.iloc[:3].mean()
    assert store.read_manifest(folder).summary["validation"]["metrics"]["accuracy"] > 0.7


# --- killed, resumed, twice at once ----------------------------------------------------------------


def assert_same_run(expected: Path, actual: Path) -> None:
    """Same weights, thresholds, history and records."""
    left, right = weights_of(expected), weights_of(actual)
    assert list(left) == list(right)
    for name, tensor in left.items():
        torch.testing.assert_close(right[name], tensor, rtol=0, atol=1e-6)
    assert pytest.approx(thresholds_of(expected), abs=1e-6) == thresholds_of(actual)
    for table in TABLES:
        frames = (store.read_table(folder, table) for folder in (expected, actual))
        pd.testing.assert_frame_equal(*frames, atol=1e-6)


def steps_taken(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Stage and number of each step that is trained from now on."""
    steps: list[tuple[str, int]] = []
    log = Journal.log

    def counted(self: Journal, stage: str, step: int, *rest: Any) -> None:
        steps.append((stage, step))
        log(self, stage, step, *rest)

    monkeypatch.setattr(Journal, "log", counted)
    return steps


@unchecked
def test_a_killed_training_goes_on_to_the_same_result(
    place: Workplace, beside: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL in the soft stage, Ctrl-C in the hard one; then the run is that of an untroubled one."""
    # The base is part of the configuration, so both workplaces share one.
    config = place.config()
    folder = folder_of(beside, config)
    beside.train_until_killed(config, "soft", 12)
    assert [0, 10] == history_of(folder)["step"].tolist()
    assert config.name not in [entry.name for entry in store.list_runs([beside.store])]
    with pytest.raises(UserError, match="not complete: finish it with the same train command"):
        store.find_run(config.name, [beside.store])
    beside.train_until_interrupted(config, "hard", 14, snapshot_every=4)
    assert ["soft", "soft", "hard", "hard"] == history_of(folder)["stage"].tolist()
    steps = steps_taken(monkeypatch)
    assert folder == beside.train(config)
    assert [("hard", step) for step in range(12, 18)] == steps
    assert_same_run(folder_of(place, config), folder)


@unchecked
def test_an_interrupted_full_training_goes_on(place: Workplace, beside: Workplace) -> None:
    """Interrupted in each stage; with all weights trained the result is the same too."""
    config = place.config("full")
    shutil.rmtree(beside.store)
    for stage, step in (("finetune", 13), ("soft", 6), ("hard", 1)):
        beside.train_until_interrupted(config, stage, step, snapshot_every=4)
    assert_same_run(folder_of(place, config), beside.train(config))


@unchecked
def test_a_loss_that_is_no_number_stops_the_training(
    place: Workplace, beside: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence, before any weight sees it; from the last snapshot the same command goes on."""
    config, steps = place.config(), steps_taken(monkeypatch)
    with monkeypatch.context() as patch:
        task_loss = losses.task_loss

        def lose(*arguments: Any) -> torch.Tensor:
            return task_loss(*arguments) * (math.nan if [("hard", 13)] == steps[-1:] else 1)

        patch.setattr(losses, "task_loss", lose)
        with pytest.raises(UserError, match="The loss is nan in step 14 of the hard stage: "):
            beside.train(config, snapshot_every=4)
    steps.clear()
    assert_same_run(folder_of(place, config), beside.train(config))
    assert [("hard", step) for step in range(12, 18)] == steps


def test_a_rate_that_is_too_high_is_said(
    place: Workplace, beside: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command line fails with status 2 and the setting to change, whatever broke first."""
    monkeypatch.setenv("LTP_STORE", str(beside.store))
    preset = beside.folder / "wild.toml"
    preset.write_text(to_toml(place.config("full", soft={"learning_rate": 1e30})))
    ran = run("train", str(preset), "--data-dir", str(beside.folder / "data"))
    assert (2, "") == (ran.status, ran.stdout)
    assert "of the soft stage: lower soft.learning_rate" in ran.stderr.splitlines()[-1]


def test_a_snapshot_holds_the_scale_of_the_loss(tmp_path: Path) -> None:
    """In float16 training it is found step by step; a resumed run goes on with it."""
    student = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(student.parameters())
    scaler, other = (torch.amp.GradScaler("cpu", init_scale=scale) for scale in (64.0, 2.0))
    here = Position(stage="soft", step=1, duration_s=1.0)
    save_snapshot(tmp_path, student, optimizer, here, scaler)
    restore_snapshot(tmp_path, student, optimizer, other)
    assert scaler.state_dict() == other.state_dict()
    restore_snapshot(tmp_path, student, optimizer)


@unchecked
def test_a_full_disk_at_the_end_costs_no_training(
    place: Workplace, beside: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights that cannot be written are said; with room again, no step is repeated."""
    config = place.config()

    def full_disk(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    beside.train(parent_config(config) or config)
    with monkeypatch.context() as patch:
        patch.setattr(results, "save_adapter", full_disk)
        with pytest.raises(store.StoreError, match=r"No space left.*same command again"):
            beside.train(config)
    steps = steps_taken(monkeypatch)
    assert_same_run(folder_of(place, config), beside.train(config))
    assert not steps


@unchecked
def test_a_second_training_of_a_run_fails_at_once(
    place: Workplace, beside: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says which process trains; the first one is not disturbed."""
    config, log = place.config(), Journal.log
    seen: list[str] = []

    def train_again(self: Journal, stage: str, step: int, *rest: Any) -> None:
        if (stage, step) == ("soft", 7):
            began = time.perf_counter()
            with pytest.raises(UserError) as error:
                beside.train(config)
            assert time.perf_counter() - began < 5
            seen.append(str(error.value))
        log(self, stage, step, *rest)

    monkeypatch.setattr(Journal, "log", train_again)
    folder = beside.train(config)
    name = config.name
    assert [
        f"The run {name} is being trained by process {os.getpid()}: wait for it or stop it."
    ] == (seen)
    assert_same_run(folder_of(place, config), folder)


def test_who_waited_for_the_other_trains_nothing(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that was completed between looking and locking is taken as it is."""
    config, complete = place.config(), training._complete
    looked: list[str] = []

    def blind_once(name: str, *place: Any) -> Path | None:
        looked.append(name)
        return None if [name] == looked else complete(name, *place)

    monkeypatch.setattr(training, "_complete", blind_once)
    steps = steps_taken(monkeypatch)
    assert folder_of(place, config) == place.train(config)
    assert not steps
    assert 2 == looked.count(config.name)


@unchecked
def test_force_trains_again(beside: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the old run, which goes when the new one is complete; what else lay there goes, too."""
    config = dataclasses.replace(beside.config(), soft=None)
    folder = beside.train(config)
    (folder / "stray").mkdir()
    (folder / "stray" / "file").write_text("x")
    weights, steps = weights_of(folder), steps_taken(monkeypatch)
    assert folder == beside.train(config, force=True)
    assert [("hard", step) for step in range(18)] == steps
    assert not (folder / "stray").exists()
    assert all(torch.equal(tensor, weights_of(folder)[name]) for name, tensor in weights.items())
    assert not (beside.store / "replacements").exists()
    assert not store.is_being_trained(folder)
    assert [] == [path.name for path in folder.iterdir() if path.name.startswith(".")]


def files_of(folder: Path) -> dict[str, bytes]:
    """Every file by its name."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@unchecked
def test_what_stops_a_second_training_leaves_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absent data, an absent base, Ctrl-C, a full disk at the end; then it goes on to the same end."""
    beside = Workplace.make(tmp_path)  # with a base of its own, since it goes
    config = dataclasses.replace(beside.config(), soft=None)
    folder = beside.train(config)
    before = files_of(folder)
    for needed in (beside.folder / "data", beside.base):
        hidden = needed.with_name("hidden")
        needed.rename(hidden)
        with pytest.raises(UserError):
            beside.train(config, force=True)
        hidden.rename(needed)
        assert before == files_of(folder)
    beside.train_until_interrupted(config, "hard", 13, force=True, snapshot_every=4)
    assert before == files_of(folder)
    assert [folder] == [entry.folder for entry in store.list_runs([beside.store])][:1]
    steps = steps_taken(monkeypatch)
    with monkeypatch.context() as patch:
        patch.setattr(store, "replace_folder", lambda *_: pytest.fail("killed before the swap"))
        with pytest.raises(pytest.fail.Exception):
            beside.train(config, force=True)
    assert [("hard", step) for step in range(12, 18)] == steps
    assert before == files_of(folder)
    assert folder == beside.train(config, force=True)
    same = [name for name, content in files_of(folder).items() if before[name] == content]
    assert "adapter/adapter_model.safetensors" in same


@unchecked
def test_what_a_training_began_with_must_be_there_when_it_goes_on(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Other weights of the base: a half-trained run begins again, a complete one is refused."""
    workplace = Workplace.make(tmp_path)
    config = dataclasses.replace(
        workplace.config("full"), soft=None, hard=None, method=MethodSettings()
    )
    workplace.train_until_interrupted(config, "finetune", 13, snapshot_every=4)
    weights = load_file(tmp_path / "base" / "model.safetensors")
    changed = {name: 1.5 * tensor for name, tensor in weights.items()}
    save_file(changed, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    folder = workplace.train(config)
    assert "begins again, since the base model changed" in capfd.readouterr().err
    assert 0 == history_of(folder)["step"].iloc[0]
    assert not (folder / training.ORIGIN_FILE).exists()
    assert folder == workplace.train(config)
    save_file(weights, tmp_path / "base" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="trained on other weights than those in"):
        workplace.train(config)


def edited_snapshot(
    folder: Path, tensors: dict[str, torch.Tensor] | None = None, **changes: Any
) -> None:
    """Changes tensors or the position of a snapshot."""
    path = folder / SNAPSHOT_FILE
    with safe_open(path, framework="pt") as file:
        position = json.loads(file.metadata()["position"]) | changes
    save_file(tensors or load_file(path), path, metadata={"position": json.dumps(position)})


def snapshot(folder: Path) -> tuple[torch.nn.Module, torch.optim.AdamW]:
    """Saves one of a layer that made a step; the layer and its optimizer."""
    student = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(student.parameters())
    student(torch.ones(2)).sum().backward()
    optimizer.step()
    save_snapshot(folder, student, optimizer, Position(stage="soft", step=1, duration_s=1.0))
    return student, optimizer


@pytest.mark.parametrize("changes", [{"step": -3}, {"step": 0.5}, {"duration_s": math.nan}])
def test_an_impossible_position_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    """Nor is one that is cut off or empty."""
    snapshot(tmp_path)
    path = tmp_path / SNAPSHOT_FILE
    assert 1 == (read_position(tmp_path) or pytest.fail("it is whole")).step
    edited_snapshot(tmp_path, **changes)
    assert read_position(tmp_path) is None
    for content in (path.read_bytes()[:100], b""):
        path.write_bytes(content)
        assert read_position(tmp_path) is None


@unchecked
def test_a_damaged_snapshot_costs_time_and_nothing_else(
    place: Workplace, beside: Workplace, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is said, the run begins again, and it ends the same."""
    config = place.config()
    beside.train_until_interrupted(config, "hard", 2)
    path = folder_of(beside, config) / SNAPSHOT_FILE
    path.write_bytes(path.read_bytes()[:3000])
    assert_same_run(folder_of(place, config), beside.train(config))
    assert "is damaged" in capfd.readouterr().err


@pytest.mark.parametrize("damage", ["nan", "shape", "key", "moment"])
def test_a_snapshot_of_something_else_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    """Numbers that are none, other shapes, absent tensors; nothing is changed."""
    student, optimizer = snapshot(tmp_path)
    tensors = load_file(tmp_path / SNAPSHOT_FILE)
    name = "parameter/weight"
    if damage == "nan":
        tensors[name] = tensors[name] * math.nan
    elif damage == "shape":
        tensors[name] = tensors[name].flatten()
    else:
        del tensors[name if damage == "key" else "optimizer/0/exp_avg"]
    edited_snapshot(tmp_path, tensors)
    before = student.weight.tolist()
    with pytest.raises(UserError, match=r"snapshot.*delete"):
        restore_snapshot(tmp_path, student, optimizer)
    assert before == student.weight.tolist()


@unchecked
def test_a_step_behind_the_last_one_is_refused(beside: Workplace) -> None:
    """By the name of the snapshot."""
    config = dataclasses.replace(beside.config(), soft=None)
    beside.train_until_interrupted(config, "hard", 2, snapshot_every=1)
    edited_snapshot(folder_of(beside, config), step=10_000)
    with pytest.raises(UserError, match=r"snapshot.*delete"):
        beside.train(config)


# --- refused before anything is trained -----------------------------------------------------------


def with_data(**settings: Any) -> Callable[[TrainConfig], TrainConfig]:
    """Changes settings of the data."""
    data = DataConfig(**{"max_length": 32, **settings})
    return lambda config: dataclasses.replace(config, data=data)


def with_method(**settings: Any) -> Callable[[TrainConfig], TrainConfig]:
    """Another method."""
    name = settings.pop("name", "ltp")
    method = MethodSettings(name=name, settings=settings)
    return lambda config: dataclasses.replace(config, method=method)


def changed(**changes: Any) -> Callable[[TrainConfig], TrainConfig]:
    """Other settings."""
    return lambda config: dataclasses.replace(config, **changes)


BUDGET = HardConfig(epochs=1.0, batch_size=4, target_relative_flops=0.5)
SOFT_BUDGET = SoftConfig(epochs=1.0, batch_size=4, target_relative_flops=0.5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (changed(task="sst3"), "did you mean 'sst2'"),
        (with_method(name="ltq"), "method.name = 'ltq': must be one of unpruned, ltp"),
        (with_method(final_treshold=1.0), "did you mean 'final_threshold'"),
        (with_method(final_threshold="high"), "method.final_threshold = 'high': must be a number"),
        (with_data(max_length=41), "data.max_length = 41: .* takes at most 40 tokens"),
        (with_data(max_length=2), "max_length 2 leaves no room"),
        (with_data(max_train_length=2), "no training row is that short"),
        (with_data(train_task="squad"), "data.train_task: .* asks no questions about a text"),
        (with_data(heldout_by="article"), "data.heldout_by: .* asks no questions about a text"),
        (changed(task="rte"), "rte/train is neither"),
        (changed(base="nobody/no-such-model"), "nobody/no-such-model"),
        (changed(mixed_precision="fp16"), "mixed_precision = 'fp16': this cpu has none"),
        (
            lambda c: dataclasses.replace(with_method(name="spatten")(c), hard=BUDGET),
            "hard.target_relative_flops: spatten has nothing there that could follow",
        ),
        (
            lambda c: dataclasses.replace(with_method(name="spatten")(c), soft=SOFT_BUDGET),
            "soft.target_relative_flops: spatten learns nothing there .* set it to none[.]$",
        ),
        (
            lambda c: dataclasses.replace(with_method(name="manual")(c), soft=SOFT_BUDGET),
            "soft.target_relative_flops: manual learns nothing .*; or set hard.target_relative_flops",
        ),
    ],
)
def test_what_cannot_be_trained_is_refused_first(
    place: Workplace,
    change: Callable[[TrainConfig], TrainConfig],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One sentence before the first step, of the parent too; no run is left behind."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(place.folder))
    steps = steps_taken(monkeypatch)
    runs = {p for p in place.store.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=words) as error:
        place.train(change(place.config()))
    assert "\n" not in str(error.value)
    assert not steps
    assert runs == {p for p in place.store.rglob("*") if p.is_file()}


def test_a_soft_budget_is_for_what_learns_or_follows_later(place: Workplace) -> None:
    """Learned thresholds follow it alone; those set by hand are to have one in the hard stage too."""
    config = dataclasses.replace(place.config(), soft=SOFT_BUDGET)
    check_budget(config)
    check_budget(dataclasses.replace(with_method(name="manual")(config), hard=BUDGET))


@unchecked
def test_rows_can_be_limited_by_number_and_by_length(place: Workplace) -> None:
    """The manifest counts what was learned from; evaluation takes all rows."""
    config = with_data(train_rows=20, max_train_length=12)(place.config())
    found = store.read_manifest(place.train(dataclasses.replace(config, soft=None)))
    assert 0 < found.dataset["train"]["rows"] < 20
    assert 12 == found.dataset["validation"]["rows"]


def test_a_roberta_trains_too(tmp_path: Path) -> None:
    """The other family, as an adapter, all stages."""
    place = Workplace.make(tmp_path, architecture="roberta")
    found = store.read_manifest(place.train(place.config()))
    assert 0.2 < found.summary["validation"]["relative_flops"]["paper"] < 1


# --- several processes --------------------------------------------------------------------------------


def budgeted(place: Workplace) -> TrainConfig:
    """LTP whose hard stage holds a budget."""
    return place.config(hard={"target_relative_flops": 0.4, "budget_gain": 0.5})


def adaptive(place: Workplace) -> TrainConfig:
    """LAT that often leaves layers out."""
    settings = {"layer_drop": 0.7, "num_random": 0}
    config = place.config(method=MethodSettings(name="lat", settings=settings))
    return dataclasses.replace(config, soft=None)


@pytest.fixture(scope="module")
def together(place: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A store that two processes filled, launched as for two GPUs; one launch for all tests."""
    configs = budgeted(place), adaptive(place)
    parent = parent_config(configs[0])
    assert parent is not None
    workplace = place.copy(tmp_path_factory.mktemp("together"), parent.name)
    workplace.launch(*configs, num_processes=2)
    return workplace


@pytest.mark.slow
def test_two_processes_train_one_run(place: Workplace, together: Workplace) -> None:
    """Half the steps, one set of records, no quarrel over the lock."""
    folder = folder_of(together, budgeted(place))
    assert [("soft", 0), ("hard", 0)] == list(
        history_of(folder)[["stage", "step"]].itertuples(index=False, name=None)
    )
    assert all(entry.problem is None for entry in store.list_runs([together.store]))
    assert 0.2 < store.read_manifest(folder).summary["validation"]["relative_flops"]["paper"] < 0.8


@pytest.mark.slow
def test_two_processes_train_a_sandwich(place: Workplace, together: Workplace) -> None:
    """With layers often left out in every pass, each process still finds all its gradients."""
    assert "lat" == manifest_of(together, adaptive(place)).method
