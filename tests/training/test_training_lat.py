"""LAT through training and search: the sandwich's loss, resuming, and a configuration for a budget."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from scipy import special, stats

from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.checkpoint_places import weights_folder
from ltp_core.config import HardConfig, MethodSettings, SelectConfig, TrainConfig, parent_config
from ltp_core.pruning.lat import LATConfig, LengthAdaptive
from ltp_core.records import UserError
from ltp_core.runners.masked import run_masked
from ltp_core.training import choose_lengths
from ltp_core.training.losses import Student, task_loss
from ltp_core.training.objective import Moment, TrainingBatch, sandwich_loss, sub_model_divergence
from ltp_core.training.search import best_within, pareto_front
from tests import tiny
from tests.trainings import Workplace, save_data

SEARCH: dict[str, Any] = {"rows": 500, "max_configurations": 45}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace with enough held-out rows to tell configurations apart."""
    workplace = Workplace.make(tmp_path_factory.mktemp("lat"))
    save_data(workplace.folder / "data", "sst2", train=80)
    return workplace


def adaptive(place: Workplace, **settings: Any) -> TrainConfig:
    """LAT, trained hard."""
    config = place.config(method=MethodSettings(name="lat", settings=settings))
    return dataclasses.replace(config, soft=None)


def chosen(place: Workplace, target: float) -> TrainConfig:
    """The configuration of that model for a budget."""
    select = SelectConfig(target_relative_flops=target, **SEARCH)
    return dataclasses.replace(adaptive(place), select=select)


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter, wherever it is."""
    return load_file(weights_folder(folder) / "adapter" / "adapter_model.safetensors")


def lengths_of(folder: Path) -> tuple[int, ...]:
    """The configuration that a run prunes with."""
    method = load_checkpoint(str(folder)).method
    assert isinstance(method, LengthAdaptive)
    return method.lengths


# --- the loss ---------------------------------------------------------------------------------------

SUB = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 3.0]])
FULL = torch.tensor([[1.0, 1.5, -0.5], [0.2, -2.0, 1.0]])


def test_divergence_of_a_sub_model_is_scipys() -> None:
    """`reverse` weighs by the sub-model, as in the authors' code, `forward` by the full model."""
    sub, full = (special.softmax(x.double().numpy(), axis=1) for x in (SUB, FULL))
    expected = {
        "reverse": stats.entropy(sub, full, axis=1),
        "forward": stats.entropy(full, sub, axis=1),
    }
    for kind, values in expected.items():
        assert pytest.approx(values.mean(), rel=1e-5) == float(
            sub_model_divergence(SUB, FULL, kind)
        )
    assert pytest.approx(2.5) == float(
        sub_model_divergence(torch.tensor([[1.0], [4.0]]), torch.tensor([[3.0], [3.0]]), "reverse")
    )


def test_the_sandwich_is_the_mean_of_its_passes() -> None:
    """Full model on the labels, the others on what it says; drawn from seed and step alone."""
    method = LengthAdaptive(LATConfig(layer_drop=0.3, sub_model_loss="forward"), 3)
    method.prepare_(np.array([11]))
    student = Student(tiny.float32_encoder(1), method)
    inputs, labels = tiny.inputs((11, 4, 7), 2), torch.tensor([0, 2, 1])
    moment = Moment(seed=5, step=8, progress=0.5, temperature=None)
    found = sandwich_loss(
        student, method, TrainingBatch(inputs, labels, None), HardConfig(), moment
    )
    subs = method.sub_models(np.random.default_rng((5, 8)))
    full, *others = (run_masked(student.encoder, inputs, sub).logits for sub in subs)
    divergences = sum(sub_model_divergence(logits, full, "forward") for logits in others)
    expected = (task_loss(full, labels) + divergences) / 4
    torch.testing.assert_close(found.total, expected)
    torch.testing.assert_close(found.prediction.task, task_loss(full, labels))
    assert 0.2 < float(found.out.relative_flops) < 1


def test_sub_models_do_not_pull_the_full_model() -> None:
    """In-place distillation goes one way: without labels to learn, the full model's head rests."""
    method = LengthAdaptive(LATConfig(layer_drop=0.0, length_drop=0.0), 3)
    student = Student(tiny.float32_encoder(1), method)
    batch = TrainingBatch(tiny.inputs((9, 4), 2), torch.tensor([0, 1]), None)
    moment = Moment(seed=0, step=0, progress=0.0, temperature=None)
    loss = sandwich_loss(student, method, batch, HardConfig(), moment)
    loss.penalty.backward()  # type: ignore[no-untyped-call] # every sub-model is the full one: their divergence has its minimum
    assert pytest.approx(0.0, abs=1e-6) == float(loss.penalty.detach())
    for parameter in student.parameters():
        assert parameter.grad is not None
        assert float(parameter.grad.abs().max()) < 1e-5


# --- training ---------------------------------------------------------------------------------------


def test_an_adaptive_run_keeps_everything(place: Workplace) -> None:
    """Its operating point is full length; the history shows what the sandwich costs."""
    folder = place.train(adaptive(place))
    assert {"paper": 1.0, "executed": 1.0} == (
        store.read_manifest(folder).summary["validation"]["relative_flops"]
    )
    assert () == lengths_of(folder)
    history = store.read_table(folder, "history")
    assert bool(history["relative_flops"].between(0.2, 0.99).all())
    mixed = 0.5 * history["task_loss"] + 0.5 * history["distillation_loss"]
    np.testing.assert_allclose(history["loss"], mixed / 4 + history["regularizer"], rtol=1e-5)
    assert bool((history["regularizer"] > 0).all())
    model = load_checkpoint(str(folder))
    assert isinstance(model.method, LengthAdaptive)
    assert 15 <= model.method.initial_length <= 22


def test_a_killed_training_draws_the_same_sub_models(place: Workplace, tmp_path: Path) -> None:
    """Interrupted twice, between snapshots: the same weights and history as untroubled."""
    config = adaptive(place)
    expected = place.train(config)
    beside = place.copy(tmp_path, (parent_config(config) or config).name)
    for step in (14, 33):
        beside.train_until_interrupted(config, "hard", step, snapshot_every=4)
    folder = beside.train(config)
    for name, tensor in weights_of(expected).items():
        torch.testing.assert_close(weights_of(folder)[name], tensor, rtol=0, atol=1e-6)
    before, after = (store.read_table(path, "history") for path in (expected, folder))
    pd.testing.assert_frame_equal(before, after, atol=1e-6)


@pytest.mark.parametrize(("task", "kind"), [("stsb", "lora"), ("mrpc", "full")])
def test_other_tasks_and_mixed_precision(place: Workplace, task: str, kind: str) -> None:
    """Regression and pairs, all weights, bfloat16: the same step; then a budget."""
    save_data(place.folder / "data", task, train=32)
    config = dataclasses.replace(
        adaptive(place, num_random=1, layer_drop=0.0),
        task=task,
        mixed_precision="bf16",
        adapter=dataclasses.replace(place.config(kind).adapter),
        select=SelectConfig(target_relative_flops=0.6, max_configurations=32),
    )
    folder = place.train(config)
    assert store.read_manifest(folder).summary["heldout"]["relative_flops"]["paper"] <= 0.6 + 1e-6
    parent = store.run_folder(place.store, (parent_config(config) or config).name)
    assert bool(store.read_table(parent, "history")["loss"].notna().all())


# --- search -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [0.5, 0.8])
def test_a_budget_is_kept_on_the_rows_it_was_chosen_on(place: Workplace, target: float) -> None:
    """Weights are the parent's; every held-out row was searched on, so its records are the choice's."""
    config = chosen(place, target)
    folder = place.train(config)
    parent = store.run_folder(place.store, adaptive(place).name)
    manifest = store.read_manifest(folder)
    assert parent.name == manifest.parent
    assert all(torch.equal(t, weights_of(folder)[n]) for n, t in weights_of(parent).items())
    heldout = manifest.summary["heldout"]
    assert 0.25 < heldout["relative_flops"]["paper"] <= target
    tried = store.read_table(folder, "candidates")
    (best,) = tried[tried["is_chosen"]].to_dict("records")
    assert lengths_of(folder) == tuple(best[f"length_{i}"] for i in (1, 2, 3))
    assert pytest.approx(heldout["relative_flops"]["paper"]) == best["relative_flops"]
    assert pytest.approx(heldout["metrics"]["accuracy"]) == best["metric"]
    allowed = tried[tried["relative_flops"] <= target]
    assert best["metric"] == allowed["metric"].max()
    equals = allowed[allowed["metric"] == best["metric"]]
    assert best["loss"] == equals["loss"].min()
    assert len(tried) == len(tried[["length_1", "length_2", "length_3"]].drop_duplicates()) <= 45


def test_one_search_serves_every_budget(place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run for another budget tried is taken from its records, and the choice is the same."""
    place.train(chosen(place, 0.8))
    expected = store.read_table(place.train(chosen(place, 0.7), force=True), "candidates")
    with monkeypatch.context() as patch:
        patch.setattr(choose_lengths, "search_lengths", lambda *_, **__: pytest.fail("it searched"))
        shared = store.read_table(place.train(chosen(place, 0.65)), "candidates")
        other_seed = dataclasses.replace(chosen(place, 0.7), seed=1)
        with pytest.raises(pytest.fail.Exception, match="it searched"):
            place.train(other_seed)
    columns = [c for c in expected if c != "is_chosen"]
    pd.testing.assert_frame_equal(expected[columns], shared[columns], check_exact=True)
    monkeypatch.setattr(choose_lengths, "earlier_search", lambda *_: None)
    own = store.read_table(place.train(chosen(place, 0.65), force=True), "candidates")
    pd.testing.assert_frame_equal(own, shared, check_exact=True)


def test_the_search_measures_what_evaluation_does(place: Workplace) -> None:
    """The same rows and seed give the same candidates; the front is one."""
    from ltp_core.tasks.loading import load_rows

    model = load_checkpoint(str(place.train(adaptive(place))))
    rows = load_rows("sst2", "heldout", data_dir=place.folder / "data")
    first, second = (
        choose_lengths.search_lengths(model, rows, seed=3, max_configurations=40) for _ in range(2)
    )
    assert first == second
    front = pareto_front(first)
    assert sorted(c.relative_flops for c in front) == [c.relative_flops for c in front]
    assert sorted(c.quality for c in front) == [c.quality for c in front]
    assert front[-1] == best_within(first, 1.0)


def test_a_budget_that_nothing_reaches_is_said(place: Workplace) -> None:
    """One sentence with what the cheapest configuration needs."""
    with pytest.raises(
        UserError, match=r"target_relative_flops = 0.05: the cheapest .* needs 0\.\d+"
    ):
        place.train(chosen(place, 0.05))
