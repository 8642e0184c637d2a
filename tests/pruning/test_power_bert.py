"""PoWER-BERT: soft and hard decisions against the loops, configuration, cost and training."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.config import MethodSettings, TrainConfig, parent_config
from ltp_core.pruning import load_method
from ltp_core.pruning.base import LayerState
from ltp_core.pruning.power_bert import PowerBert, PowerBertConfig
from ltp_core.runners.masked import run_soft
from ltp_core.tasks.loading import load_rows
from ltp_core.tokenize import encode
from ltp_core.training.losses import Pass, Student
from ltp_core.training.search import length_cost
from tests import reference, reference_soft, strategies, tiny
from tests.running import both_runners, run, token_ids
from tests.strategies import NUM_LAYERS, Case
from tests.trainings import Workplace

LONGEST = 14
"""Tokens of the longest input of `strategies.cases`."""


def power_bert(lengths: tuple[int, ...] = (), longest: int = LONGEST) -> PowerBert:
    """PoWER-BERT with this configuration, float64."""
    method = PowerBert(PowerBertConfig(lengths=lengths), len(lengths) or NUM_LAYERS)
    method.prepare_(np.array([longest]))
    return method.double()


def drawn(seed: int) -> PowerBert:
    """Random retention."""
    method = power_bert()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        method.retention.copy_(torch.rand(method.retention.shape, generator=generator))
    return method


def weights_of(case: Case) -> reference.Weights:
    """The case's weights for the loops."""
    return reference.Weights(case.encoder.state_dict(), tiny.reference_config(case.encoder.config))


# --- decisions --------------------------------------------------------------------------------------


def test_a_layer_by_hand() -> None:
    """What a token pays to itself does not count: the second token loses to the third."""
    state = LayerState(
        layer_index=0,
        score=torch.tensor([0.2, 1.5, 1.2, 1.1, 0.4, 1.6]),
        diagonal=torch.tensor([0.1, 0.9, 0.1, 0.1, 0.1, 0.2]),
        sequence=torch.tensor([0, 0, 0, 0, 1, 1]),
        position=torch.tensor([0, 1, 2, 3, 0, 1]),
        protected=torch.tensor([True, False, False, False, True, False]),
        live_length=torch.tensor([4, 2]),
        initial_length=torch.tensor([4, 2]),
    )
    assert [True, False, True, True, True, True] == (
        power_bert((3, 2, 2)).retain(state).retained.tolist()
    )


lengths = st.lists(st.integers(1, LONGEST), min_size=NUM_LAYERS, max_size=NUM_LAYERS).map(
    lambda found: tuple(sorted(found, reverse=True))
)


@both_runners
@given(case=strategies.cases, chosen=lengths)
def test_hard_runs_equal_the_loops(runner: str, case: Case, chosen: tuple[int, ...]) -> None:
    """Logits and kept sets of top-k on the column sums without the diagonal."""
    output = run(runner, case.encoder, case.inputs, power_bert(chosen))
    for row, length in enumerate(case.lengths):
        expected = reference.run_hard(
            weights_of(case),
            *token_ids(case.inputs, row),
            lambda layer, score: reference.top_k(score, chosen[layer]),
            without_diagonal=True,
        )
        np.testing.assert_allclose(output.logits[row].numpy(), expected.logits, atol=1e-9)
        for layer, record in zip(expected.layers, output.layers, strict=True):
            assert layer.kept == record.retained[row].nonzero().flatten().tolist()
        assert [min(length, n) for n in chosen] == output.ffn_length[row].tolist()


@given(case=strategies.cases, seed=st.integers(0, 100))
def test_the_soft_stage_equals_the_loops(case: Case, seed: int) -> None:
    """The output of the token of rank k times r_l[k]; rank 0 and padding have 1 and 0."""
    method = drawn(seed)
    with torch.no_grad():
        output = run_soft(case.encoder, case.inputs, method, temperature=0.1, form="output")  # type: ignore[arg-type]
    by_rank = [[1.0, *row] for row in method.retention.tolist()]
    for row, length in enumerate(case.lengths):
        expected = reference_soft.run_by_rank(
            weights_of(case), *token_ids(case.inputs, row), by_rank
        )
        np.testing.assert_allclose(output.logits[row].numpy(), expected.logits, atol=1e-8)
        found = [[layer.weight[i] for i in range(length)] for layer in expected.layers]
        np.testing.assert_allclose(output.weights[1:, row, :length].numpy(), found, atol=1e-9)
        assert not bool(output.weights[:, row, length:].any())


# --- configuration ----------------------------------------------------------------------------------


def test_the_configuration_is_the_mass_by_hand() -> None:
    """1 + 0.9 + 0.8 + 0.5 is 3; the next layer's 4 is cut to that; a layer of nothing keeps one."""
    method = power_bert(longest=4)
    with torch.no_grad():
        method.retention.copy_(torch.tensor([[0.9, 0.8, 0.5], [1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    assert pytest.approx([3.2, 3.2, 1.0]) == method.mass.tolist()
    assert (3, 3, 1) == method.lengths


def test_everything_retained_prunes_no_longer_input_either() -> None:
    """Inputs longer than every training row stay whole where nothing was learned to go."""
    method = power_bert((5, 3, 2), longest=5)
    found = run("packed", tiny.encoder(), tiny.inputs((9, 5), 1), method)
    assert [[9, 3, 2], [5, 3, 2]] == found.ffn_length.tolist()


def test_retention_stays_between_0_and_1() -> None:
    """Whatever an optimizer step did."""
    method = power_bert(longest=4)
    with torch.no_grad():
        method.retention.copy_(torch.tensor([[1.2, -0.3, 0.5]] * 3))
    method.settle_()
    assert [[1.0, 0.0, 0.5]] * 3 == method.retention.tolist()


def test_scaled_by_hand() -> None:
    """Of 16 ranks: a half in the exponent makes 4 of 16 to 8."""
    method = power_bert((16, 4, 1), longest=16)
    for factor, expected in ((0.5, (16, 8, 4)), (1.0, (16, 4, 1)), (2.0, (16, 1, 1))):
        assert expected == method.scaled(factor).lengths
    assert (16, 16, 16) == method.scaled(0.0).lengths


def test_the_state_keeps_every_bit() -> None:
    """Learned retention goes through JSON text; a state of other size is refused."""
    method = drawn(3).float()
    state = json.loads(json.dumps(method.state_json()))
    loaded = load_method(state)
    assert isinstance(loaded, PowerBert)
    assert torch.equal(method.retention, loaded.retention)
    with pytest.raises(ValueError, match="retention of shape"):
        load_method({**state, "retention": state["retention"][:2]})


def test_a_configuration_needs_one_length_per_layer() -> None:
    """Two lengths do not fit three layers."""
    with pytest.raises(ValueError, match="2 lengths for 3 layers"):
        PowerBert(PowerBertConfig(lengths=(4, 2)), 3)


# --- cost -------------------------------------------------------------------------------------------


def soft_pass(method: PowerBert, lengths: tuple[int, ...] = (11, 3, 6)) -> Pass:
    """The training pass."""
    out: Pass = Student(tiny.encoder(), method)(tiny.inputs(lengths, 7), 0.1, "output")
    return out


def test_the_regularizer_by_hand() -> None:
    """Layer l counts l times; rank 0 is not learned and does not count."""
    method = power_bert(longest=4)
    with torch.no_grad():
        method.retention.copy_(torch.tensor([[1.0, 0.5, 0.0], [0.2, 0.0, 0.0], [0.1, 0.1, 0.0]]))
    assert pytest.approx(1.5 + 2 * 0.2 + 3 * 0.2) == float(method.regularizer().detach())
    found = soft_pass(method, (4, 2)).regularizer
    assert found is not None
    assert pytest.approx(2.5) == float(found.detach())


def test_the_expected_cost_is_that_of_the_hard_stage() -> None:
    """The soft stage counts what the hard stage runs on rows as long as those of the training."""
    method = drawn(1)
    method.training_lengths = torch.tensor([11.0, 3.0, 6.0])
    with torch.no_grad():
        soft = soft_pass(method, (4, 4))  # whatever the batch
        hard: Pass = Student(tiny.encoder(), method)(tiny.inputs((11, 3, 6), 7), None)
    assert pytest.approx(float(hard.relative_flops), rel=1e-6) == float(soft.relative_flops)
    assert pytest.approx(float(hard.mean_retained), rel=1e-6) == float(soft.mean_retained)


def test_the_budget_presses_on_every_rank_alike() -> None:
    """Ranks that few inputs have are pressed as hard, and from the start, where nothing goes yet."""
    for method in (drawn(5), power_bert()):
        (gradient,) = torch.autograd.grad(soft_pass(method).relative_flops, method.retention)
        assert bool((gradient > 0).all())
        assert bool((gradient == gradient[:, :1]).all())


# --- training ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(trained_workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace; every test trains what it needs from one finetuned model."""
    return trained_workplace.copy(tmp_path_factory.mktemp("power_bert"))


def config_of(place: Workplace, **soft: Any) -> TrainConfig:
    """All stages; retention learns fast enough for eighteen steps."""
    return place.config(
        method=MethodSettings(name="power_bert"),
        soft={"regularization_weight": 0.0, "threshold_learning_rate": 0.04, **soft},
    )


def test_lambda_and_budget_both_prune(place: Workplace) -> None:
    """The soft stage learns a configuration, and the hard stage keeps it."""
    for soft in ({"regularization_weight": 0.01}, {"target_relative_flops": 0.5, "epochs": 4.0}):
        folder = place.train(config_of(place, **soft))
        method = load_checkpoint(str(folder)).method
        assert isinstance(method, PowerBert)
        assert bool(((method.retention >= 0) & (method.retention <= 1)).all())
        assert sorted(method.lengths, reverse=True) == list(method.lengths)
        found = store.read_manifest(folder).summary["validation"]["relative_flops"]["paper"]
        assert 0.25 < found < 0.95
        history = store.read_table(folder, "history")
        soft_rows = history[history["stage"] == "soft"]
        assert soft_rows["relative_flops"].iloc[-1] < 0.99
        assert pytest.approx(1.0) == soft_rows["relative_flops"].iloc[0]
        assert bool(history["loss"].notna().all())


def test_a_budget_is_met(place: Workplace) -> None:
    """The configuration costs on the training rows what was asked for, or a little less."""
    folder = place.train(config_of(place, target_relative_flops=0.6, epochs=6.0))
    soft = store.read_table(folder, "history").query("stage == 'soft'")["relative_flops"]
    assert 0.48 < soft.iloc[-1] <= 0.62
    rows = load_rows("sst2", "train", data_dir=place.folder / "data")
    model = load_checkpoint(str(folder))
    n = encode(model.tokenizer, rows.texts, 32).length
    assert isinstance(model.method, PowerBert)
    cost = length_cost(n, hidden=16, intermediate=24)(model.method.lengths)
    assert 0.48 < cost <= 0.62


def test_a_killed_training_keeps_its_retention(place: Workplace, tmp_path: Path) -> None:
    """Interrupted in the soft and in the hard stage: the same retention and history."""
    config = config_of(place, regularization_weight=0.01)
    expected = place.train(config)
    beside = place.copy(tmp_path, (parent_config(config) or config).name)
    for stage, step in (("soft", 10), ("hard", 7)):
        beside.train_until_interrupted(config, stage, step, snapshot_every=4)
    folder = beside.train(config)
    learned = [
        json.loads((path / "pruning.json").read_text())["method"]["retention"]
        for path in (expected, folder)
    ]
    np.testing.assert_allclose(*learned, atol=1e-6)
    frames = (store.read_table(path, "history") for path in (expected, folder))
    pd.testing.assert_frame_equal(*frames, atol=1e-6)


def test_bfloat16_and_all_weights(place: Workplace) -> None:
    """Retention stays float32 and moves under autocast."""
    config = dataclasses.replace(
        config_of(place, regularization_weight=0.01),
        mixed_precision="bf16",
        adapter=place.config("full").adapter,
    )
    folder = place.train(config)
    method = load_checkpoint(str(folder)).method
    assert isinstance(method, PowerBert)
    assert torch.float32 == method.retention.dtype
    assert float(method.retention.min()) < 0.9
