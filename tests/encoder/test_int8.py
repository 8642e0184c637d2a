"""INT8 maps: whole numbers are exact, every runner computes the same, and training goes through them."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from ltp_core import store
from ltp_core.checkpoint import CheckpointError, PrunedModel, load_checkpoint
from ltp_core.checkpoint_places import PRUNING_FILE, checkpoint_folder
from ltp_core.config import HardConfig, MethodSettings, SelectConfig, TrainConfig, dense_config
from ltp_core.encoder.errors import ModelError
from ltp_core.encoder.int8 import (
    InputRecorder,
    floating,
    input_scales,
    quantize_,
    quantized_product,
    to_integers,
    weight_scales,
)
from ltp_core.encoder.model import Encoder
from ltp_core.export import export_hugging_face, export_onnx, onnx_session
from ltp_core.export.folder import export_folder
from ltp_core.records import UserError
from ltp_core.runners import linear
from ltp_core.runners.engine import has_onednn_int8
from ltp_core.runners.linear import Int8Map
from ltp_core.runners.masked import run_masked
from ltp_core.runners.packed import PackedRunner
from ltp_core.trace import predict_text
from tests import tiny
from tests.export.test_export import pruned
from tests.pruning.test_method_contract import every_variant, make
from tests.running import is_far_from, ltp, run
from tests.trainings import STAGE, Workplace

THRESHOLDS = (0.6, 0.8, 0.9)


def quantized(family: str = "bert") -> Encoder:
    """A tiny random encoder in INT8, its scales measured on one batch."""
    encoder = tiny.copy_of(tiny.encoder(family)).float()
    with InputRecorder(encoder) as recorder, torch.no_grad():
        for length in (3, 9, 17):
            run_masked(encoder, tiny.inputs([length], family=family), ltp((0.0,) * 3).float())
    quantize_(encoder, recorder.scales())
    return encoder


# --- the arithmetic -------------------------------------------------------------------------------


def test_a_product_by_hand() -> None:
    """Steps of 0.5 and of 1/127 of the largest weight; what is too large is cut at 127 steps."""
    weight, bias = torch.tensor([[1.27, -0.634]]), torch.tensor([10.0])
    product = quantized_product(torch.tensor([[1.1, 1000.0]]), weight, bias, 0.5)
    # q_w = (127, -63) at a step of 0.01; q_x = (2, 127).
    assert 10 + 0.005 * (127 * 2 - 63 * 127) == pytest.approx(product.item(), abs=1e-4)


@pytest.mark.skipif(not has_onednn_int8(), reason="this processor has no exact products of bytes")
@pytest.mark.parametrize("inner", [64, 1536])
def test_whole_numbers_are_exact(inner: int) -> None:
    """The packed map gives the very sums, at the largest numbers too."""
    random = np.random.default_rng(inner)
    weight = random.integers(-127, 128, (8, inner))
    weight[:, 0], weight[0] = 127, 127
    rows = random.integers(-128, 128, (5, inner))
    rows[0], rows[1] = 127, -128
    made = Int8Map(torch.tensor(weight).float(), torch.zeros(8), 1.0)
    expected = rows @ weight.T
    found = made(torch.tensor(rows).float())
    assert np.abs(found.numpy() - expected).max() <= np.abs(expected).max() * 2**-23


def test_rounding_lets_the_gradient_through() -> None:
    """As if it were not there, and none where an input is cut."""
    values = torch.tensor([0.26, -3.4, 200.0], requires_grad=True)
    to_integers(values, 2.0).sum().backward()
    assert [2.0, 2.0, 0.0] == values.grad.tolist()  # type: ignore[union-attr]


def test_a_row_of_zeros_stays_zero() -> None:
    """Its step is above zero, so nothing is divided by zero."""
    weight = torch.zeros(2, 4)
    assert bool((weight_scales(weight) > 0).all())
    assert [[0.0, 0.0]] == quantized_product(torch.ones(1, 4), weight, torch.zeros(2), 1.0).tolist()


def test_scales_cut_rare_large_inputs() -> None:
    """One input in a million that is far out does not make all others coarse."""
    values = 0.2 * torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    values[0] = 8.0
    assert 8.0 * 0.19 / 127 < _measured(values) < 8.0 * 0.6 / 127


def _measured(values: Tensor) -> float:
    encoder = tiny.float32_encoder()
    name = "encoder.layer.0.intermediate.dense"
    module = encoder.get_submodule(name)
    with InputRecorder(encoder) as recorder:
        module(values.view(-1, 16))
        for other, part in encoder.named_modules():
            if isinstance(part, nn.Linear) and other.startswith("encoder.") and other != name:
                part(torch.ones(1, part.in_features))
    return recorder.scales()[name]


# --- the runners ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("is_whole", [True, False])
def test_runners_agree(family: str, is_whole: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Masked, packed and re-padded: the same tokens, logits within an eighth of a step's effect."""
    monkeypatch.setattr(linear, "has_onednn_int8", lambda: is_whole and has_onednn_int8())
    encoder, inputs = quantized(family), tiny.inputs([17, 9, 3, 1], family=family)
    method = ltp(THRESHOLDS).float()
    expected = run("masked", encoder, inputs, method)
    assert is_far_from(expected, THRESHOLDS, 1e-4), "choose another seed"
    for runner in ("packed", "repadded"):
        found = run(runner, encoder, inputs, method)
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-3)
        assert expected.ffn_length.tolist() == found.ffn_length.tolist()


@every_variant
def test_every_method_prunes_alike(name: str) -> None:
    """A method sees INT8's scores and states as it sees others."""
    encoder, inputs, method = quantized(), tiny.inputs([17, 9, 3, 1]), make(name).float()
    expected, found = (run(runner, encoder, inputs, method) for runner in ("masked", "packed"))
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-3)
    assert expected.ffn_length.tolist() == found.ffn_length.tolist()


def test_batch_mates_do_not_matter() -> None:
    """Scales are static: alone, batched and padded give one answer."""
    encoder, method = quantized(), ltp(THRESHOLDS).float()
    inputs = tiny.inputs([17, 9, 3], extra_padding=4)
    together = run("packed", encoder, inputs, method).logits
    alone = [run("packed", encoder, tiny.row(inputs, i), method).logits for i in range(3)]
    torch.testing.assert_close(torch.cat(alone), together, rtol=0, atol=1e-3)


def test_int8_is_near_and_not_equal() -> None:
    """Rounding changes the logits a little: the maps do run in INT8."""
    encoder = quantized()
    inputs, method = tiny.inputs([17, 9, 3]), ltp((0.0,) * 3).float()
    exact = run("masked", tiny.float32_encoder(), inputs, method).logits
    for runner in ("masked", "packed"):
        difference = (run(runner, encoder, inputs, method).logits - exact).abs().max()
        assert 1e-4 < difference < 0.3 * exact.abs().max()


def test_the_weights_stay_what_they_were() -> None:
    """So a benchmark can measure them in other precisions too."""
    inputs, method = tiny.inputs([17, 9, 3]), ltp((0.0,) * 3).float()
    exact = run("packed", tiny.float32_encoder(), inputs, method).logits
    encoder = quantized()
    assert torch.equal(exact, run("packed", floating(encoder), inputs, method).logits)
    assert input_scales(encoder)


@pytest.mark.parametrize("change", ["absent", "foreign", "zero"])
def test_scales_must_fit(change: str) -> None:
    """A map without a scale, a scale without a map, or one of zero is refused by name."""
    encoder = tiny.float32_encoder()
    scales = dict(input_scales(quantized()) or {})
    if change == "absent":
        del scales["encoder.layer.1.output.dense"]
    scales |= {"foreign": {"encoder.layer.9.output.dense": 1.0}, "zero": {}}.get(change, {})
    scales |= {"encoder.layer.1.output.dense": 0.0} if change == "zero" else {}
    with pytest.raises(ModelError, match=r"encoder.layer.\d.output.dense"):
        quantize_(encoder, scales)


# --- export ---------------------------------------------------------------------------------------


def checkpoint(family: str = "bert") -> PrunedModel:
    """A tiny pruned checkpoint in INT8."""
    encoder = quantized(family)
    return dataclasses.replace(pruned(family), encoder=encoder, packed=PackedRunner(encoder))


@pytest.mark.parametrize("is_pruned", [True, False])
def test_onnx_computes_the_same(is_pruned: bool) -> None:
    """Static pairs of quantising nodes, which ONNX Runtime replaces by products of whole numbers."""
    model = checkpoint()
    method = model.method if is_pruned else ltp((0.0,) * 3).float()
    session = onnx_session(model, pruned=is_pruned, int8=False, threads=1)
    inputs = tiny.inputs([17, 9, 3, 1])
    expected = model.packed(inputs, method).logits.numpy()
    np.testing.assert_allclose(session.run(inputs).numpy(), expected, atol=1e-2)


def test_what_cannot_say_int8_refuses_it(tmp_path: Path) -> None:
    """A transformers folder would run in floating point; dynamic INT8 on top would round twice."""
    model = checkpoint()
    with pytest.raises(UserError, match="INT8"):
        export_hugging_face(model, tmp_path / "hf")
    with pytest.raises(UserError, match="leave --int8 out"):
        export_onnx(model, tmp_path / "x.onnx", pruned=True, int8=True)


# --- training -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(trained_workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A workplace; every test trains what it needs from one finetuned model."""
    return trained_workplace.copy(tmp_path_factory.mktemp("int8"))


def config_of(place: Workplace, name: str, kind: str = "lora", **hard: Any) -> TrainConfig:
    """A hard stage in INT8."""
    stage = {**STAGE, "distillation_weight": 0.5, "int8": True, **hard}
    method = MethodSettings(name=name, settings={})
    return replace(place.config(kind, method=method), soft=None, hard=HardConfig(**stage))


@pytest.mark.parametrize("kind", ["lora", "full"])
def test_the_checkpoint_says_what_training_said(place: Workplace, kind: str) -> None:
    """A stored INT8 run loads in INT8, and its folder moves."""
    folder = place.train(config_of(place, "manual", kind))
    model = load_checkpoint(str(folder))
    assert model.input_scales is not None
    assert {"query", "key", "value", "dense"} == {n.rpartition(".")[2] for n in model.input_scales}
    said = predict_text(model, "good film").logits
    moved = place.folder / f"moved-{kind}"
    export_folder(model, folder, moved)
    assert said == predict_text(load_checkpoint(str(moved)), "good film").logits


def test_a_short_name_means_the_floating_point_run(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that match; INT8 alone is found by it."""
    in_int8 = place.train(config_of(place, "spatten"))
    monkeypatch.setattr(store, "stores", lambda: [place.store])
    assert in_int8.name == checkpoint_folder("sst2-spatten").name
    floating_point = place.train(config_of(place, "spatten", int8=False))
    assert floating_point.name == checkpoint_folder("sst2-spatten").name


def test_an_elastic_int8_run_serves_budgets(place: Workplace) -> None:
    """Its curve is INT8's, a chosen budget shares its weights and scales."""
    elastic = {"target_relative_flops": 0.4, "mask_gradient": 0.15, "elastic": True}
    config = config_of(place, "ltp_s", **elastic)
    parent = load_checkpoint(str(place.train(config)))
    child = place.train(replace(config, select=SelectConfig(target_relative_flops=0.95, rows=8)))
    chosen = load_checkpoint(str(child))
    assert parent.input_scales == chosen.input_scales
    assert len(store.read_table(place.store / "runs" / config.name, "curve"))


def test_the_dense_counterpart_is_in_floating_point(place: Workplace) -> None:
    """Of an INT8 model without pruning too, so that every loss is told against the same model."""
    for name in ("unpruned", "ltp"):
        dense = dense_config(config_of(place, name))
        assert dense is not None
        assert dense.hard is not None
        assert ("unpruned", False) == (dense.method.name, dense.hard.int8)
        assert dense_config(dense) is None


@pytest.mark.parametrize(
    "damage", [{"input_scales": {}}, {"bits": 4}, {"input_scales": {"x": 1.0}}, 8, None]
)
def test_damaged_int8_settings_are_refused(place: Workplace, damage: object) -> None:
    """What is not understood is no INT8 checkpoint."""
    folder = place.train(config_of(place, "manual"))
    path = folder / PRUNING_FILE
    original = path.read_bytes()
    path.write_text(json.dumps(json.loads(original) | {"int8": damage}))
    try:
        with pytest.raises((CheckpointError, ModelError)):
            load_checkpoint(str(folder))
    finally:
        path.write_bytes(original)
