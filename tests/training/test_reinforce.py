"""Policies that learn by reward: every term by loops, and a training from end to end."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.config import (
    ConfigError,
    HardConfig,
    MethodSettings,
    PolicyConfig,
    StageConfig,
    TrainConfig,
    dense_config,
    parent_config,
)
from ltp_core.encoder.model import Encoder
from ltp_core.evaluate import evaluate_checkpoint
from ltp_core.pruning.tr_bert import TokenReduction
from ltp_core.records import UserError
from ltp_core.runners.base import Inputs
from ltp_core.training.losses import Student, task_loss, task_losses
from ltp_core.training.objective import Moment, TrainingBatch
from ltp_core.training.reinforce import Sampled, policy_loss, reinforce_loss, saliency
from tests import tiny
from tests.pruning.test_tr_bert import reducing
from tests.running import run
from tests.trainings import STAGE, Workplace

LABELS = torch.tensor([1, 0])


def test_the_loss_by_hand() -> None:
    """Two samples of one row with rewards 1 and 3: (-1 · 0.5 + 1 · 2) / 2; no reward has a gradient."""
    reward = torch.tensor([[1.0], [3.0]], requires_grad=True)
    likelihood = torch.tensor([[0.5], [2.0]], requires_grad=True)
    loss = policy_loss(reward, likelihood)
    assert loss.item() == pytest.approx(0.75)
    loss.backward()
    assert reward.grad is None
    assert likelihood.grad is not None
    assert likelihood.grad.flatten().tolist() == [-0.5, 0.5]


def sampled(inputs: Inputs, worth: torch.Tensor | None = None) -> Sampled:
    """Decisions drawn with a fixed seed for a batch."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, *inputs.input_ids.shape)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float64)
    return Sampled(reducing(), inputs, uniform, worth)


def test_drawn_decisions_equal_the_loops() -> None:
    """A token goes on if its uniform number is below its probability; both terms token by token."""
    inputs = tiny.inputs((9, 6), 1)
    drawing = sampled(inputs)
    output = run("repadded", tiny.encoder(), inputs, drawing)
    for number, layer in enumerate(drawing.entry_layers):
        record = output.layers[layer]
        for row in range(2):
            surprise = []
            for i in record.live[row].nonzero()[:, 0].tolist():
                p = float(record.score[row, i])
                goes_on = float(drawing._uniform[number, row, i]) < p
                if i > 0:
                    surprise.append(-math.log(p if goes_on else 1 - p))
                assert bool(record.retained[row, i]) == (goes_on or i == 0)
            mean = sum(surprise) / len(surprise) if surprise else 0.0
            drawn = drawing.drawn[number]
            assert drawn.likelihood[row].item() == pytest.approx(mean)
            kept = int(record.retained[row].sum()) / int(inputs.length[row])
            assert drawn.kept[row].item() == pytest.approx(kept)


def test_only_the_policies_have_a_gradient() -> None:
    """Also where the pass around them has none."""
    inputs = tiny.inputs((9, 6), 1)
    drawing = sampled(inputs)
    run("repadded", tiny.encoder(), inputs, drawing)
    sum(drawn.likelihood.sum() for drawn in drawing.drawn).backward()  # type: ignore[union-attr]
    assert all(bool((p.grad != 0).any()) for p in drawing.method.parameters())


def test_a_guided_sample_takes_the_most_worthy() -> None:
    """As many as the probabilities add up to; the second sequence is drawn as before."""
    inputs = tiny.inputs((9, 6), 1)
    worth = torch.rand(2, 1, 9, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    guided = run("repadded", tiny.encoder(), inputs, sampled(inputs, worth))
    free = run("repadded", tiny.encoder(), inputs, sampled(inputs))
    record = guided.layers[1]
    count = round(float(record.score[0, :9].sum()))
    ranked = sorted(range(9), key=lambda i: -float(worth[0, 0, i]))
    assert set(record.retained[0].nonzero()[:, 0].tolist()) == {0, *ranked[:count]}
    assert record.retained[1].tolist() == free.layers[1].retained[1].tolist()


def loss_of(encoder: Encoder, hidden: torch.Tensor, late: int, length: int) -> float:
    """The first row's loss from its states at the entry of layer `late`."""
    live = torch.ones(1, length, dtype=torch.bool)
    for layer in encoder.layers[late:]:
        query, key, value = layer.project(hidden)
        probs = layer.attention_probs(query, key, live)
        hidden = layer.feed_forward(layer.attend(layer.context(probs, value), hidden))
    return float(functional.cross_entropy(encoder.head(hidden[:, 0]), LABELS[:1]))


@torch.no_grad()
def test_saliency_is_the_slope_of_the_loss() -> None:
    """By finite differences: each token's late state moves towards the one that it came with."""
    encoder, inputs = tiny.encoder(), tiny.inputs((7, 5), 1)
    found = saliency(encoder, TrainingBatch(inputs, LABELS, None), (1, 2))
    row = tiny.row(inputs, 0)
    states = [encoder.embed(row.input_ids, row.token_type_ids)]
    for layer in encoder.layers:
        query, key, value = layer.project(states[-1])
        probs = layer.attention_probs(query, key, row.attention_mask)
        attended = layer.attend(layer.context(probs, value), states[-1])
        states.append(layer.feed_forward(attended))
    late, small = 2, 1e-6
    for i in range(7):
        moved = [states[late].clone() for _ in range(2)]
        step = small * (states[late] - states[1])[0, i]
        moved[0][0, i] += step
        moved[1][0, i] -= step
        slope = (loss_of(encoder, moved[0], late, 7) - loss_of(encoder, moved[1], late, 7)) / 2
        assert found[0, 0, i].item() == pytest.approx(abs(slope) / small, rel=1e-3, abs=1e-7)
    assert not bool(found[:, 1, 5:].any())


def test_losses_of_the_examples_have_the_task_loss_as_mean() -> None:
    """For classes, values and spans; an answer that is gone adds nothing."""
    generator = torch.Generator().manual_seed(0)
    classes, spans = (
        torch.randn(3, 4, generator=generator),
        torch.randn(3, 6, 2, generator=generator),
    )
    spans[0, 2] = -torch.inf
    cases: list[tuple[Any, Any]] = [
        (classes, torch.tensor([0, 3, 1])),
        (classes[:, :1], torch.tensor([0.5, 2.0, 1.0])),
        (spans, torch.tensor([[2, 3], [0, 0], [1, 5]])),
    ]
    for logits, labels in cases:
        losses = task_losses(logits, labels)
        alone = [float(task_loss(logits[i : i + 1], labels[i : i + 1])) for i in range(3)]
        assert losses.tolist() == pytest.approx(alone, rel=1e-5)
        assert float(task_loss(logits, labels)) == pytest.approx(sum(alone) / 3, rel=1e-5)


def batch() -> TrainingBatch:
    """Two rows."""
    return TrainingBatch(tiny.inputs((9, 6), 1), LABELS, None)


def moment(**changes: Any) -> Moment:
    """The first step of a stage."""
    settings = {"seed": 3, "step": 0, "progress": 0.0, "temperature": None, **changes}
    return Moment(**settings)


def test_the_step_equals_the_loops() -> None:
    """Each sample's reward and likelihood from a pass of its own, with the numbers that it drew."""
    method, encoder = reducing(samples=3, length_weight=0.7), tiny.encoder()
    stage = PolicyConfig(imitation=0.0)
    found = reinforce_loss(Student(encoder, method), method, batch(), stage, moment())
    uniform = torch.from_numpy(np.random.default_rng((3, 0)).random((2, 6, 9), dtype=np.float32))
    rewards, likelihoods = [], []
    for sample in range(3):
        drawing = Sampled(method, batch().inputs, uniform[:, 2 * sample : 2 * sample + 2])
        logits = run("masked", encoder, batch().inputs, drawing).logits
        kept = torch.stack([d.kept for d in drawing.drawn]).mean(0)
        rewards.append(-task_losses(logits, LABELS) - 0.7 * kept)
        likelihoods.append(torch.stack([d.likelihood for d in drawing.drawn]).mean(0))
    expected = policy_loss(torch.stack(rewards), torch.stack(likelihoods))
    assert found.penalty.item() == pytest.approx(expected.item(), rel=1e-5)
    assert not found.prediction.total.requires_grad


def test_the_weights_learn_from_the_first_sample() -> None:
    """In the hard stage the prediction is that sample's, and its gradient reaches the encoder."""
    method = reducing(samples=2)
    encoder = tiny.copy_of(tiny.encoder())
    found = reinforce_loss(Student(encoder, method), method, batch(), HardConfig(), moment())
    uniform = torch.from_numpy(np.random.default_rng((3, 0)).random((2, 4, 9), dtype=np.float32))
    first = Sampled(method, batch().inputs, uniform[:, :2])
    expected = task_loss(run("masked", encoder, batch().inputs, first).logits, LABELS)
    assert found.prediction.task.item() == pytest.approx(expected.item(), rel=1e-5)
    found.total.backward()
    grad = encoder.layers[0].intermediate.dense.weight.grad
    assert grad is not None
    assert bool((grad != 0).any())


# --- from end to end ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace."""
    return Workplace.make(tmp_path_factory.mktemp("tr_bert"))


def config_of(place: Workplace, **settings: Any) -> TrainConfig:
    """TR-BERT with its two stages."""
    method = MethodSettings(name="tr_bert", settings={"samples": 4, **settings})
    return dataclasses.replace(place.config(method=method), policy=PolicyConfig(**STAGE), soft=None)


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """The adapter's."""
    return load_file(folder / "adapter" / "adapter_model.safetensors")


def test_stages_parents_and_records(place: Workplace) -> None:
    """The policy stage leaves the weights alone; the hard one shares its dense counterpart."""
    config = config_of(place)
    alone = dataclasses.replace(config, hard=None)
    folder, whole = place.train(alone), place.train(config)
    parent = parent_config(config)
    assert parent == parent_config(alone)
    assert parent is not None
    parent_folder = store.run_folder(place.store, parent.name)
    learned = tensors(folder)
    assert all(torch.equal(value, learned[key]) for key, value in tensors(parent_folder).items())
    assert any(not torch.equal(value, learned[key]) for key, value in tensors(whole).items())
    ltp = dataclasses.replace(config, policy=None, method=MethodSettings(name="ltp"))
    assert dense_config(config) == dense_config(ltp)
    history = store.read_table(whole, "history")
    assert list(dict.fromkeys(history["stage"])) == ["policy", "hard"]
    manifest = store.read_manifest(whole)
    assert manifest.base["entry_layers"] == [1]
    model = load_checkpoint(str(whole))
    assert isinstance(model.method, TokenReduction)
    result = evaluate_checkpoint(model, data_dir=place.folder / "data")
    assert result.relative_flops == pytest.approx(manifest.summary["validation"]["relative_flops"])


@pytest.mark.parametrize(("weight", "kept"), [(100.0, 0.0), (0.0, None)])
def test_a_policy_that_keeps_nothing_did_not_converge(
    place: Workplace, weight: float, kept: float | None
) -> None:
    """Where only length counts it drops everything, and the record says that it did not converge."""
    stage = PolicyConfig(epochs=12, batch_size=4, learning_rate=0.05, imitation=0.0)
    config = config_of(place, length_weight=weight)
    folder = place.train(dataclasses.replace(config, policy=stage, hard=None))
    for split in ("heldout", "validation"):
        found = store.read_manifest(folder).summary[split]
        assert found["converged"] == any(0.02 < share < 0.98 for share in found["selected"])
        if kept is not None:
            assert found["selected"] == [kept]
            assert not found["converged"]


@pytest.mark.unchecked
def test_a_killed_training_goes_on_to_the_same_result(place: Workplace, tmp_path: Path) -> None:
    """Whatever a step draws follows from the seed and its number."""
    config = config_of(place)
    parent = parent_config(config)
    assert parent is not None
    expected = place.train(config)
    other = place.copy(tmp_path, parent.name)
    other.train_until_interrupted(config, "policy", 13, snapshot_every=5)
    again = other.train(config, snapshot_every=5)
    assert (expected / "pruning.json").read_bytes() == (again / "pruning.json").read_bytes()
    for key, value in tensors(expected).items():
        assert torch.equal(value, tensors(again)[key])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"policy": None}, r"\[policy\]"),
        ({"soft": True}, r"\[soft\]"),
        ({"method": MethodSettings(name="manual")}, "no policies"),
    ],
)
def test_what_nothing_would_follow_is_refused(
    place: Workplace, changes: dict[str, Any], words: str
) -> None:
    """Policies learn in a table of their own, and only they do."""
    if "soft" in changes:
        changes = {"soft": place.config().soft}
    with pytest.raises(UserError, match=words):
        place.train(dataclasses.replace(config_of(place), **changes))


def test_the_policy_stage_has_no_teacher() -> None:
    """Its weights rest, so nothing would learn from one."""
    with pytest.raises(ConfigError, match=r"policy\.distillation_weight"):
        PolicyConfig(distillation_weight=0.5)
    assert StageConfig(distillation_weight=0.5).distillation_weight == 0.5
