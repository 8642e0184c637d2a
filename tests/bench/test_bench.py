"""Benchmarks: variants give one answer, what is counted is what runs, limits and stops lose nothing.

No time is asserted here.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from ltp_core import store
from ltp_core.bench import engines, measure, results, throughput, variants
from ltp_core.bench.engines import BUILDERS, count_tokens, enter
from ltp_core.bench.figures import figures
from ltp_core.bench.measure import Noise, spread, take_turns, using_threads
from ltp_core.bench.predicting import CONTENDERS, bench_predict
from ltp_core.bench.products import MatrixProducts
from ltp_core.bench.results import list_benches
from ltp_core.bench.settings import BenchSettings
from ltp_core.bench.texts import sequences_of
from ltp_core.bench.throughput import bench
from ltp_core.bench.topk import SELECTIONS
from ltp_core.bench.training import bench_training
from ltp_core.bench.variants import (
    DEFAULT,
    DEFAULT_ON_GPU,
    ENGINES,
    VARIANTS,
    Variant,
    available_variants,
    own_control,
)
from ltp_core.bench.workload import (
    LayerLengths,
    attention_padding_flops,
    batches_of,
    flops_of,
    with_lengths,
    with_padding,
)
from ltp_core.checkpoint import PrunedModel, load_checkpoint
from ltp_core.cli import bench as bench_command
from ltp_core.cli.bench_cards import predict_card, training_card
from ltp_core.encoder import int8
from ltp_core.pruning import METHODS
from ltp_core.records import UserError
from ltp_core.runners import PackedRunner
from ltp_core.tables import read_table
from ltp_core.tasks.own_data import OwnSource, register
from ltp_core.tokenize import Encoded, encode
from tests import commands, tiny
from tests.checkpoints import REVIEWS, REVIEWS_DENSE
from tests.running import ltp, run
from tests.source_trees import ROOT
from tests.strategies import NUM_LAYERS

TEXTS = [
    ("a good movie",),
    ("the film is long and slow but the ending was great",),
    ("bad",),
    ("this story of a journey is charming , warm and never boring",),
    ("very funny scenes",),
]


@pytest.fixture
def model(tiny_store: Path) -> PrunedModel:
    """A tiny checkpoint that prunes."""
    return load_checkpoint(REVIEWS)


@pytest.fixture
def encoded(model: PrunedModel) -> Encoded:
    """A few texts of different lengths."""
    return encode(model.tokenizer, TEXTS, model.max_length)


def small(**changes: Any) -> BenchSettings:
    """A benchmark that is over at once."""
    fields: dict[str, Any] = {
        "checkpoint": REVIEWS,
        "limit": 6,
        "batch_sizes": (2,),
        "repeats": 2,
        "variants": ("packed", "packed_unpruned", "masked", "hugging_face"),
    }
    return BenchSettings(**{**fields, **changes})


# --- one answer -------------------------------------------------------------------------------------


def answers(model: PrunedModel, encoded: Encoded, names: list[str]) -> dict[str, torch.Tensor]:
    """Logits of all sequences in one batch, by variant."""
    index = np.arange(len(encoded))
    return {e.name: e.logits(encoded, index) for e in enter(model, names, [])}


def answering() -> list[str]:
    """Installed variants that give logits."""
    return [
        name
        for name in available_variants()
        if VARIANTS[name].is_model and VARIANTS[name].engine != "compiled"
    ]


def is_float32(name: str) -> bool:
    """It computes in the type of the model, which is float32 here."""
    return VARIANTS[name].precision == "settings"


def test_every_variant_can_be_built() -> None:
    """The catalogue has a builder for each, and the default ones need nothing that is not required."""
    assert set(ENGINES) == set(BUILDERS)
    assert {variant.engine for variant in VARIANTS.values()} == set(ENGINES)
    assert set(DEFAULT) <= set(available_variants())


@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [("cpu", "float32", DEFAULT), ("cuda:0", "bfloat16", DEFAULT_ON_GPU)],
)
def test_what_takes_part_unless_it_is_named(
    device: str, dtype: str, expected: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a GPU the peers of one, transformers compiled among them if a compiler is there."""
    asked = argparse.Namespace(variants=None, what="throughput")
    monkeypatch.setattr(variants, "cpp_compiler", lambda: "/usr/bin/g++")
    assert expected == bench_command._variants(asked, device, dtype)
    monkeypatch.setattr(variants, "cpp_compiler", lambda: None)
    assert "compiled_sorted" not in bench_command._variants(asked, device, dtype)


def test_stored_names_are_still_names() -> None:
    """Results that were stored under these names are read as what they are."""
    stored = """
    packed packed_unpruned packed_first packed_unpruned_first packed_bfloat16
    packed_unpruned_bfloat16 repadded masked hugging_face hugging_face_sorted hugging_face_eager
    hugging_face_bfloat16_sorted onnx onnx_sorted onnx_int8_sorted onnx_pruned onnx_pruned_sorted
    onnx_pruned_int8_sorted products products_unpruned
    """
    assert set(stored.split()) <= set(VARIANTS)
    for entry in list_benches([ROOT / "data_cache" / "sample"]):
        assert entry.document is not None
        others = set(entry.document["settings"]["against"])
        known = SELECTIONS if entry.document["what"] == "topk" else VARIANTS
        assert set(entry.document["contenders"]) - others <= set(known)
    assert VARIANTS["onnx_pruned_int8_sorted"] == Variant(
        engine="onnx", is_pruned=True, precision="int8", is_sorted=True, last_layer="first"
    )
    assert "packed, unpruned, bfloat16" == VARIANTS["packed_unpruned_bfloat16"].title


def test_unpruned_variants_agree(model: PrunedModel, encoded: Encoded) -> None:
    """Peers and controls compute the same function: the same weights, nothing pruned."""
    names = [n for n in answering() if not VARIANTS[n].is_pruned and is_float32(n)]
    found = answers(model, encoded, names)
    for logits in found.values():
        torch.testing.assert_close(logits, found["packed_unpruned"], rtol=0, atol=1e-4)


def test_pruned_variants_agree(model: PrunedModel, encoded: Encoded) -> None:
    """Removed, masked, or removed and padded again: the same answer, which is not the unpruned one."""
    names = [n for n in answering() if VARIANTS[n].is_pruned and is_float32(n)]
    found = answers(model, encoded, names)
    for logits in found.values():
        torch.testing.assert_close(logits, found["packed"], rtol=0, atol=1e-4)
    unpruned = answers(model, encoded, ["packed_unpruned"])["packed_unpruned"]
    assert not torch.allclose(found["packed"], unpruned, atol=1e-3)


@pytest.mark.skipif(importlib.util.find_spec("openvino") is None, reason="an optional peer")
def test_openvino_gives_the_same_predictions(model: PrunedModel, encoded: Encoded) -> None:
    """In float32 to rounding (above); in bfloat16 and int8 the classes of clear cases, in any batch."""
    names = [name for name in VARIANTS if name.startswith("openvino")]
    assert 6 == len(names)
    for pruned in (True, False):
        same = [name for name in names if VARIANTS[name].is_pruned == pruned]
        found = answers(model, encoded, [*same, "packed" if pruned else "packed_unpruned"])
        *coarse, exact = found.values()
        is_clear = (exact[:, 0] - exact[:, 1]).abs() > 0.2
        for logits in coarse:
            assert torch.equal(logits.argmax(1)[is_clear], exact.argmax(1)[is_clear])
    alone = enter(model, ["openvino_pruned_sorted"], [])[0].logits(encoded, np.array([1]))
    torch.testing.assert_close(alone[0], answers(model, encoded, ["packed"])["packed"][1])


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script_method`:DeprecationWarning")
def test_torch_compile_gives_the_same_logits(model: PrunedModel, encoded: Encoded) -> None:
    """Where there is a compiler; slow, since it compiles."""
    if "compiled_sorted" not in available_variants():
        pytest.skip("no C++ compiler")
    found = answers(model, encoded, ["compiled_sorted", "packed_unpruned"])
    torch.testing.assert_close(
        found["compiled_sorted"], found["packed_unpruned"], rtol=0, atol=1e-4
    )


def test_torch_compile_without_a_compiler_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is loaded."""
    monkeypatch.setattr(variants, "cpp_compiler", lambda: None)
    assert "compiled_sorted" not in available_variants()
    with pytest.raises(UserError, match="needs a C"):
        small(variants=("compiled_sorted",))


# --- what is counted --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["repadded", "masked", "hugging_face_eager"])
@pytest.mark.parametrize("index", [[1], [0, 1], [0, 1, 2, 3]])
def test_flops_are_those_of_the_pass(
    name: str, index: list[int], model: PrunedModel, encoded: Encoded
) -> None:
    """PyTorch counts what the formula says, padding included.

    The packed runner's own tests hold its formula.
    """
    entry = enter(model, [name], [])[0]
    rows = encoded.take(np.array(index))
    batches = [np.arange(len(rows))]
    counted = count_tokens(model, entry.survey, rows)
    lengths = with_padding(counted, batches, entry.variant.padding)
    with FlopCounterMode(display=False) as counter:
        entry.logits(rows, batches[0])
    expected = flops_of(lengths, hidden=16, intermediate=24)
    assert expected == counter.get_total_flops() - len(rows) * _head_flops(model)


def test_a_shallow_checkpoint_runs_its_layers_only(model: PrunedModel, encoded: Encoded) -> None:
    """Left-out layers cost nothing, pruned or not, and nothing in another program either."""
    method = METHODS["shallow"](METHODS["shallow"].config_type(layers=2), NUM_LAYERS)
    shallow = dataclasses.replace(model, method=method)
    runs = {
        entry.name: count_tokens(shallow, entry.survey, encoded).attention.any(axis=0).sum()
        for entry in enter(shallow, ["packed", "packed_unpruned", "masked", "hugging_face"], [])
    }
    assert {"packed": 2, "packed_unpruned": 2, "masked": 2, "hugging_face": 2} == runs


def test_a_short_last_layer_computes_one_token(model: PrunedModel, encoded: Encoded) -> None:
    """The token that the head reads: the same answers for fewer FLOPs, with and without pruning."""
    names = ["packed", "packed_first", "packed_unpruned", "packed_unpruned_first"]
    flops = []
    for entry in enter(model, names, []):
        counted = count_tokens(model, entry.survey, encoded)
        flops.append(flops_of(counted, hidden=16, intermediate=24))
        if entry.variant.last_layer == "first":
            assert {1} == set(counted.ffn[:, -1].tolist())
    assert flops[1] < flops[0] < flops[3] < flops[2]


@pytest.mark.parametrize("lengths", [(9,), (3, 9, 8, 1), (4,) * 20])
@pytest.mark.parametrize("thresholds", [(0.0,) * 3, (0.6, 0.8, 1.0), (1e3,) * 3])
def test_products_are_those_of_the_pass(
    lengths: tuple[int, ...], thresholds: tuple[float, ...]
) -> None:
    """The ceiling does the executed FLOPs: exactly for one sequence, padded at most a little else."""
    encoder = tiny.encoder()
    output = run("packed", encoder, tiny.inputs(lengths), ltp(thresholds))
    entering, staying = output.attention_length.numpy(), output.ffn_length.numpy()
    counted = LayerLengths(entering, entering, staying)
    expected = flops_of(counted, hidden=16, intermediate=24)
    with FlopCounterMode(display=False) as counter:
        MatrixProducts(encoder)(counted)
    if len(lengths) == 1:
        assert expected == counter.get_total_flops()
    padded = 2 * 2 * 16 * float((entering**2).sum()) / 0.75**2  # two products of attention
    assert expected <= counter.get_total_flops() <= expected + padded


def test_products_take_part_without_answers(model: PrunedModel, encoded: Encoded) -> None:
    """They are measured like the others, and asked for an answer they refuse."""
    names = ("packed", "packed_unpruned", "products", "products_unpruned")
    found = bench(small(variants=names, lengths=(None, 8)), model)
    assert 2 * 4 == len(found["results"])
    promised = {x["contender"]: x["theoretical_speedup"] for x in found["results"][:4]}
    assert promised["packed"] == promised["products"]
    with pytest.raises(TypeError, match="has no answers"):
        enter(model, ["products"], [])[0].logits(encoded, np.array([0]))


def _head_flops(model: PrunedModel) -> int:
    linear = (m for n, m in model.encoder.named_modules() if not n.startswith("encoder."))
    return sum(2 * m.weight.numel() for m in linear if isinstance(m, torch.nn.Linear))


def test_blanks_by_hand() -> None:
    """Up to the longest of the batch, layer by layer."""
    entering, staying = np.array([[8, 3], [5, 4], [6, 1]]), np.array([[3, 2], [4, 4], [1, 1]])
    lengths = LayerLengths(entering, entering, staying)
    batches = [np.array([0, 1]), np.array([2])]
    padded = with_padding(lengths, batches, "survivors")
    assert [[8, 4], [8, 4], [6, 1]] == padded.attention.tolist()
    assert padded.query.tolist() == padded.attention.tolist()
    assert [[4, 4], [4, 4], [1, 1]] == padded.ffn.tolist()
    assert with_padding(lengths, batches, "none") is lengths


def test_blanks_of_attention_by_hand() -> None:
    """All queries against all keys of the longest survivor; a sequence alone has no padding."""
    entering, staying = np.array([[4], [2], [3]]), np.array([[1], [2], [2]])
    lengths = LayerLengths(entering, entering, staying)
    flops = attention_padding_flops(lengths, [np.array([0, 1]), np.array([2])], hidden=5)
    # Two products of two sequences of four, less what the packed runner does of them.
    assert 2 * 5 * (2 * 2 * 4 * 4 - (4 + 1) * 4 - (2 + 2) * 2) == flops
    assert with_padding(lengths, [np.arange(3)], "attention") is lengths


# --- the sequences ----------------------------------------------------------------------------------


@given(length=st.integers(3, 32), count=st.integers(1, 9), seed=st.integers(0, 9))
def test_fixed_length_is_real_text(length: int, count: int, seed: int) -> None:
    """Exactly that long, special tokens at both ends only, tokens of the texts in between."""
    tokenizer = tiny.tokenizer()
    real = encode(tokenizer, TEXTS, 32)
    made = with_lengths(real, np.full(count, length), seed=seed)
    words = {i for ids in real.input_ids for i in ids[1:-1]}
    assert [length] * count == made.length.tolist() == [len(ids) for ids in made.input_ids]
    for ids in made.input_ids:
        assert (ids[0], ids[-1]) == (real.input_ids[0][0], real.input_ids[0][-1])
        assert set(ids[1:-1]) <= words


def test_texts_without_a_token_make_no_sequence() -> None:
    """Nothing to repeat."""
    with pytest.raises(ValueError, match="no token but special"):
        with_lengths(encode(tiny.tokenizer(), [("",)], 32), np.array([8, 8]))


@pytest.mark.parametrize("name", ["packed", "hugging_face_sorted"])
def test_batches_hold_every_sequence_once(name: str) -> None:
    """Shuffled batches differ from round to round, sorted ones do not."""
    length = np.array([5, 9, 3, 7, 4, 8, 6])
    first, second = (batches_of(VARIANTS[name], length, 3, seed=seed) for seed in (0, 1))
    for batches in (first, second):
        assert list(range(7)) == sorted(np.concatenate(batches).tolist())
        assert [3, 3, 1] == [len(batch) for batch in batches]
    is_same = np.concatenate(first).tolist() == np.concatenate(second).tolist()
    assert is_same == VARIANTS[name].is_sorted


# --- the document -----------------------------------------------------------------------------------


def test_document(model: PrunedModel, tmp_path: Path) -> None:
    """Every variant at every batch size and length, with its ratios to both controls."""
    chosen = small(batch_sizes=(1, 2), lengths=(None, 8))
    found = bench(chosen, model, store=tmp_path)
    places = {(line["batch_size"], line["length"]) for line in found["results"]}
    assert places == {(1, None), (2, None), (1, 8), (2, 8)}
    assert len(found["results"]) == 4 * 4
    for line in found["results"]:
        assert line["sequences_per_s_q1"] <= line["sequences_per_s"] <= line["sequences_per_s_q3"]
        assert 2 == line["rounds"]
        if line["contender"] == "packed_unpruned":
            assert 1.0 == line["speedup"] == line["theoretical_speedup"]
            assert "realised_share" not in line
        if line["contender"] == "hugging_face":
            assert 1.0 == line["relative_throughput"] == line["theoretical_relative_throughput"]
        if line["length"] == 8:
            assert 8 == line["mean_length"]
    assert "processor" in found["environment"]
    assert found["noise"]["repeats"] >= measure.FEWEST_PROBES
    assert [] == found["skipped"]


def test_promises_are_the_relative_flops(model: PrunedModel) -> None:
    """Without padding, the promised speedup is one over the relative FLOPs of the same rows."""
    from ltp_core.evaluate import evaluate_checkpoint

    found = bench(small(limit=6), model)
    packed = next(line for line in found["results"] if line["contender"] == "packed")
    evaluation = evaluate_checkpoint(model, limit=6)
    relative = evaluation.relative_flops["executed"]
    assert packed["theoretical_speedup"] == pytest.approx(1 / relative)
    assert packed["sequences"] == evaluation.rows


def test_ratios_are_taken_within_rounds() -> None:
    """A machine that slows down in the second round changes no ratio."""
    taken = {"packed": [1.0, 10.0], "packed_unpruned": [2.0, 20.0], "hugging_face": [4.0, 40.0]}
    flops = {"packed": [1.0, 1.0], "packed_unpruned": [4.0, 4.0], "hugging_face": [8.0, 8.0]}
    found = figures(VARIANTS["packed"], "packed", taken, flops, 6)
    assert {2.0} == {found[key] for key in ("speedup", "speedup_q1", "speedup_q3")}
    assert (4.0, 8.0) == (found["relative_throughput"], found["theoretical_relative_throughput"])
    assert 0.5 == found["realised_share"]
    assert "ceiling_speedup" not in found
    products = {"products": [1.0, 10.0], "products_unpruned": [2.5, 25.0]}
    found = figures(VARIANTS["packed"], "packed", taken | products, flops, 6)
    assert (2.5, 0.8) == (found["ceiling_speedup"], found["ceiling_share"])


@pytest.mark.parametrize(
    ("name", "taking_part", "control"),
    [
        ("packed", ("packed_unpruned",), "packed_unpruned"),
        ("packed_first", ("packed_unpruned", "packed_unpruned_first"), "packed_unpruned_first"),
        ("packed_first", ("packed_unpruned",), "packed_unpruned"),
        ("onnx_pruned_sorted", ("onnx_sorted", "packed_unpruned"), "onnx_sorted"),
        ("onnx_pruned_int8_sorted", ("onnx_int8_sorted",), "onnx_int8_sorted"),
        ("onnx_pruned_int8_sorted", ("packed_unpruned",), None),
        ("onnx_int8_sorted", ("packed_unpruned",), None),
        ("packed_bfloat16", ("packed_unpruned",), None),
        ("packed_unpruned", ("packed_unpruned",), None),
        ("repadded", ("packed_unpruned",), None),
        ("masked", ("hugging_face", "packed_unpruned"), None),
        ("onnx_pruned_sorted", ("onnx", "packed_unpruned"), None),
        ("packed", (), None),
    ],
)
def test_own_control(name: str, taking_part: tuple[str, ...], control: str | None) -> None:
    """The same engine with nothing pruned, in the same numbers and the same order."""
    assert control == own_control(VARIANTS[name], taking_part)


@pytest.mark.parametrize(
    ("settings_", "names"),
    [
        (
            {
                "variants": (
                    "packed",
                    "onnx_sorted",
                    "onnx_int8_sorted",
                    "onnx_pruned_int8_sorted",
                )
            },
            {"onnx_int8_sorted", "onnx_pruned_int8_sorted"},
        ),
        (
            {"variants": ("packed_bfloat16", "hugging_face_bfloat16_sorted", "packed")},
            {"packed_bfloat16", "hugging_face_bfloat16_sorted"},
        ),
        ({"dtype": "bfloat16", "variants": ("packed", "masked")}, {"packed", "masked"}),
    ],
)
def test_coarse_numbers_are_compared_with_float32(
    settings_: dict[str, Any], names: set[str], model: PrunedModel
) -> None:
    """What runs in int8 or bfloat16 says how many of its predictions are those of float32."""
    found = bench(small(lengths=(None, 8), **settings_), model)
    lines = [line for line in found["results"] if "equal_predictions" in line]
    assert names == {line["contender"] for line in lines}
    for line in lines:
        assert line["length"] is None
        assert 0.5 <= line["equal_predictions"] <= 1
        assert abs(line["metric"] - line["reference_metric"]) <= 1 - line["equal_predictions"]
        assert found["contenders"][line["contender"]]["metric"] is None


def test_int8_is_compared_with_its_weights_in_floating_point(model: PrunedModel) -> None:
    """All that computes in whole numbers or bfloat16; the checkpoint itself keeps its run's metric."""
    encoder = tiny.copy_of(model.encoder)
    # Steps so wide that whole numbers say next to nothing, and answer otherwise.
    int8.quantize_(encoder, {name: 50.0 for name, _ in int8._maps(encoder)})
    whole = dataclasses.replace(model, encoder=encoder, packed=PackedRunner(encoder))
    names = ("packed", "packed_unpruned", "packed_bfloat16", "onnx_int8_sorted")
    found = bench(small(variants=names, limit=16), whole)
    shares = {line["contender"]: line["equal_predictions"] for line in found["results"]}
    assert set(names) == set(shares)
    assert shares["packed"] < 0.9 < shares["packed_bfloat16"]
    assert {"name": "accuracy", "value": 0.9} == found["contenders"]["packed"]["metric"]


@pytest.mark.parametrize("is_emulated", [False, True])
def test_emulated_bfloat16_is_said(
    is_emulated: bool, tiny_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence where the processor only emulates what is asked for, whole or in one variant."""
    monkeypatch.setattr("ltp_core.cli.base.emulates_bfloat16", lambda: is_emulated)
    size = ("--batch-sizes", "4", "--repeats", "1", "--limit", "4", "--no-store", "--json")
    for option in (("--dtype", "bfloat16"), ("--variants", "packed,packed_bfloat16"), ()):
        said = commands.run("bench", REVIEWS, *size, *option).stderr
        assert (is_emulated and bool(option)) == ("three times as long as float32" in said)


def test_without_the_controls_there_are_no_ratios(model: PrunedModel) -> None:
    """A ratio to something that did not run would be a guess."""
    line = bench(small(variants=("packed",)), model)["results"][0]
    assert not [key for key in line if "speedup" in key or "relative" in key or "share" in key]


def test_other_checkpoints_take_part(model: PrunedModel) -> None:
    """Under their own name, with their own method, packed."""
    dense = load_checkpoint(REVIEWS_DENSE)
    found = bench(small(against=(dense.name,)), model, against=[dense])
    assert "unpruned" == found["contenders"][REVIEWS_DENSE]["method"]
    assert {"name": "accuracy", "value": 0.9} == found["contenders"][REVIEWS_DENSE]["metric"]
    assert found["contenders"]["hugging_face"]["metric"] is None
    line = next(line for line in found["results"] if line["contender"] == REVIEWS_DENSE)
    assert 1.0 == line["theoretical_speedup"]


def test_events_tell_the_progress(model: PrunedModel) -> None:
    """The plan, every turn, and the figures as soon as they are known."""
    events: list[tuple[str, dict[str, Any]]] = []
    bench(small(batch_sizes=(1, 2)), model, report=lambda *event: events.append(event))
    kinds = [kind for kind, _ in events]
    assert ["plan", *["turn"] * 8, "point", *["turn"] * 8, "point"] == kinds
    assert 16 == events[0][1]["turns"] == events[-1][1]["done"]
    assert list(range(1, 17)) == [fields["done"] for kind, fields in events if kind == "turn"]
    assert all(fields["sequences_per_s"] > 0 for kind, fields in events if kind == "turn")


def test_nothing_private_and_no_text_is_kept(model: PrunedModel, tmp_path: Path) -> None:
    """Figures only: no token, no folder of this machine."""
    found = bench(small(), model, store=tmp_path)
    text = json.dumps(found)
    assert str(tmp_path) not in text
    assert str(Path.home()) not in text
    assert "input_ids" not in text


def test_another_type(model: PrunedModel) -> None:
    """The same variants in another type of number."""
    found = bench(small(dtype="bfloat16"), model)
    assert 4 == len(found["results"])
    assert "bfloat16" == found["settings"]["dtype"]


def test_training_steps(model: PrunedModel, tmp_path: Path) -> None:
    """A step of every stage beside plain finetuning; the model and the store stay as they are."""
    before = {name: weight.clone() for name, weight in model.encoder.state_dict().items()}
    chosen = small(what="training", lengths=(4, 9), repeats=2)
    found = bench_training(chosen, model)
    assert [4, 4, 4, 9, 9, 9] == [line["length"] for line in found["results"]]
    assert ["finetune", "soft", "hard"] == [line["contender"] for line in found["results"][:3]]
    assert all(line["step_s"] > 0 and 2 == line["rounds"] for line in found["results"])
    assert 1.0 == found["results"][0]["relative_time"]
    for name, weight in model.encoder.state_dict().items():
        assert torch.equal(weight, before[name])
        assert not weight.requires_grad
    assert "stage" in training_card(found)
    with pytest.raises(UserError, match="give numbers of tokens"):
        small(what="training")
    with pytest.raises(UserError, match="float16: a step needs a loss scale"):
        bench_training(small(what="training", lengths=(4,), dtype="float16"), model)
    with pytest.raises(UserError, match="reads at most 40 tokens, not 41"):
        bench_training(small(what="training", lengths=(41,)), model)


def test_a_file_beside_the_pipeline(tiny_store: Path, model: PrunedModel) -> None:
    """Every contender scores every row in every round."""
    arguments = ("--task", "rotten_tomatoes", "--limit", "12", "--batch-sizes", "4", "--json")
    ran = commands.run("bench", REVIEWS, "--what", "predict", "--repeats", "2", *arguments)
    assert 0 == ran.status, ran.stderr
    found = json.loads(ran.stdout)
    assert (12, list(CONTENDERS)) == (found["rows"], [x["contender"] for x in found["results"]])
    assert all(line["rows_per_s"] > 0 and 2 == line["rounds"] for line in found["results"])
    assert 1.0 == found["results"][0]["relative_throughput"]
    assert 1.0 == found["results"][1]["relative_to_sorted"]
    assert "to the pipeline" in predict_card(found)
    with pytest.raises(UserError, match="float32"):
        bench_predict(small(what="predict", dtype="bfloat16"), model)


# --- limits, stops, noise ---------------------------------------------------------------------------


def test_a_time_limit_is_kept(model: PrunedModel) -> None:
    """The first place is measured with one round of a batch, the others are named."""
    found = bench(small(seconds=1e-9, batch_sizes=(1, 2, 4)), model)
    assert {1} == {line["batch_size"] for line in found["results"]}
    assert {(1, 1)} == {(line["rounds"], line["sequences"]) for line in found["results"]}
    assert [2, 4] == [place["batch_size"] for place in found["skipped"]]


def test_an_ample_limit_changes_nothing(model: PrunedModel) -> None:
    """All sequences, all rounds."""
    found = bench(small(seconds=1e6), model)
    assert {(2, 6)} == {(line["rounds"], line["sequences"]) for line in found["results"]}


@pytest.mark.parametrize(
    ("affordable", "expected"), [(0.1, 1), (1.5, 1), (3.0, 3), (10.0, 4), (40.0, 8)]
)
def test_short_time_costs_rounds_before_batches(affordable: float, expected: int) -> None:
    """Down to four batches a round, so that shuffling still means something."""
    assert expected == throughput._num_batches(affordable, repeats=5)


class _Stop(Exception):
    pass


def _stop_after(points: int, turns: list[str]) -> Callable[[str, dict[str, Any]], None]:
    """A report that stops the benchmark when that many places are done."""
    seen = []

    def report(event: str, fields: dict[str, Any]) -> None:
        if event == "turn":
            turns.append(fields["contender"])
        if event == "point":
            seen.append(event)
            if len(seen) == points:
                raise _Stop

    return report


def test_a_stopped_benchmark_goes_on(model: PrunedModel, tmp_path: Path) -> None:
    """What was measured is kept, and only the rest is run."""
    chosen = small(batch_sizes=(1, 2, 4))
    with pytest.raises(_Stop):
        bench(chosen, model, store=tmp_path, report=_stop_after(2, []))
    (folder,) = (tmp_path / "benches").iterdir()
    assert results.list_benches([tmp_path]) == []
    saved = json.loads((folder / results.PARTIAL).read_text())["done"]
    turns: list[str] = []
    found = bench(chosen, model, store=tmp_path, report=_stop_after(9, turns))
    assert 2 * 4 == len(turns)
    assert folder.name == found["name"]
    assert [line for piece in saved for line in piece["results"]] == found["results"][:8]
    assert {"bench.json", "rounds.parquet"} == {p.name for p in folder.iterdir()}


def test_another_benchmark_starts_anew(model: PrunedModel, tmp_path: Path) -> None:
    """Other settings do not go on with what was stopped."""
    with pytest.raises(_Stop):
        bench(small(batch_sizes=(1, 2)), model, store=tmp_path, report=_stop_after(1, []))
    bench(small(batch_sizes=(1, 4)), model, store=tmp_path)
    assert 2 == len(list((tmp_path / "benches").iterdir()))
    assert 1 == len(results.list_benches([tmp_path]))


def test_turns_rotate() -> None:
    """Every variant once a round, each round beginning with another."""
    order: list[str] = []
    seconds = take_turns(
        {name: lambda number, name=name: order.append(f"{name}{number}") for name in "abc"},  # type: ignore[misc]
        3,
        torch.device("cpu"),
        until=None,
        on_turn=lambda name, taken: None,
        between=lambda: order.append("|"),
    )
    assert "| a0 b0 c0 | b1 c1 a1 | c2 a2 b2" == " ".join(order)
    assert {"a": 3, "b": 3, "c": 3} == {name: len(times) for name, times in seconds.items()}


def test_threads_are_given_back() -> None:
    """A benchmark does not change the process that it runs in."""
    before = torch.get_num_threads()
    with using_threads(before + 1):
        assert before + 1 == torch.get_num_threads()
    with using_threads(None):
        assert before == torch.get_num_threads()
    assert before == torch.get_num_threads()


@pytest.mark.parametrize(
    ("varied", "load", "word"),
    [(0.02, 0.1, None), (0.3, 0.1, "30 %"), (0.02, 0.9, "0.90 per core")],
)
def test_noise_is_said(varied: float, load: float, word: str | None) -> None:
    """A restless machine gets a sentence, a quiet one none."""
    noise = Noise(
        identical_work_spread=varied, repeats=9, load_average=load, matmul_flops_per_s=1e9
    )
    assert (word is None) == (noise.warning is None)
    assert word is None or word in str(noise.warning)


def test_spread_by_hand() -> None:
    """Median and quartiles."""
    assert {"x": 3.0, "x_q1": 2.0, "x_q3": 4.0} == spread("x", [5, 1, 3, 2, 4])


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"variants": ("fast",)}, "there is no 'fast'"),
        ({"variants": ("packed", "packed")}, "each may be named once"),
        ({"variants": ()}, "name at least one"),
        ({"batch_sizes": (0,)}, "must be above 0"),
        ({"lengths": (2,)}, "at least 3"),
        ({"seconds": 0.0}, "must be above 0"),
        ({"what": "topk", "lengths": (None,)}, "give numbers of tokens"),
        ({"what": "topk", "lengths": (8,), "retain_ratios": (1.5,)}, "at most 1"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, Any], sentence: str) -> None:
    """With what is wrong."""
    with pytest.raises(UserError, match=sentence):
        small(**changes)


def test_an_absent_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is not installed is no variant."""
    absent = dataclasses.replace(ENGINES["onnx"], packages=("no_such_package",))
    monkeypatch.setitem(ENGINES, "onnx", absent)
    with pytest.raises(UserError, match=r"no_such_package: run `pip install -r requirements\.txt`"):
        small(variants=("onnx",))


def test_what_does_not_fit_is_refused(model: PrunedModel) -> None:
    """Sequences longer than the model reads, and a checkpoint against itself."""
    with pytest.raises(UserError, match="reads at most 40 tokens, not 41"):
        bench(small(lengths=(41,)), model)
    with pytest.raises(UserError, match="named twice"):
        bench(small(), model, against=[model])


def test_texts_stand_in_where_the_data_is_absent(
    model: PrunedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Real words as long as the run's own inputs; a task that is named is never replaced."""
    nameless = dataclasses.replace(model, task=None)
    found = bench(small(dtype="bfloat16", variants=("packed",)), nameless)
    assert found["task"] is None
    assert "not at hand" in found["texts"]
    (line,) = found["results"]
    assert "equal_predictions" in line
    assert "metric" not in line
    monkeypatch.setattr(store, "_DATA_CACHE", ROOT / "data_cache")
    shipped = dataclasses.replace(nameless, name="imdb-ltp-eb998117ef")
    examples = read_table(store.find_run(shipped.name), "examples").query("split == 'validation'")
    whole = sequences_of(small(limit=len(examples)), [shipped], None)
    expected = np.clip(examples["length"].astype(int), 3, model.max_length)
    assert sorted(expected) == sorted(whole.encoded[shipped.name].length)
    foreign = dataclasses.replace(nameless, name="some-folder")
    assert 6 == len(sequences_of(small(), [foreign], None).encoded["some-folder"])
    for name in ("HF_DATASETS_CACHE", "HF_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("LTP_DATA_DIR", raising=False)
    glue = dataclasses.replace(model, task="sst2")
    assert "not at hand" in sequences_of(small(), [glue], None).source
    with pytest.raises(UserError, match="not in the Hugging Face cache"):
        sequences_of(small(task="sst2"), [glue], None)


def test_own_data_is_at_hand(
    model: PrunedModel, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A checkpoint of a user's own task is measured on that task's rows."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    rows = [{"review": f"a good movie {i}", "stars": i % 2} for i in range(60)]
    data = tmp_path / "mine.jsonl"
    data.write_text("\n".join(map(json.dumps, rows)))
    task = register(OwnSource(data=data, text="review", label="stars"))
    found = sequences_of(small(), [dataclasses.replace(model, task=task.name)], None)
    assert task.name == found.task
    assert found.labels is not None
    assert "not at hand" not in found.source


def test_lengths_are_of_the_run_of_that_name(
    model: PrunedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder whose name begins a run's name does not take that run's lengths."""
    monkeypatch.setattr(store, "_DATA_CACHE", ROOT / "data_cache")
    foreign = dataclasses.replace(model, task=None, name="imdb-ltp-eb")
    assert "as long as" not in sequences_of(small(), [foreign], None).source


def test_builders_are_shared(model: PrunedModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer is loaded once, however many orders of batches it takes part in."""
    calls: list[PrunedModel] = []

    def build(given: PrunedModel, variant: Variant) -> Any:
        del variant
        calls.append(given)
        return lambda inputs: inputs

    monkeypatch.setattr(engines, "BUILDERS", dict.fromkeys(BUILDERS, build))
    enter(model, ["hugging_face", "hugging_face_sorted"], [])
    assert [model] == calls
