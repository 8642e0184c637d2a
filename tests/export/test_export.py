"""Exported models are the packed runner's equals, and other programs open them."""

from __future__ import annotations

import dataclasses
import functools
import importlib
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ltp_core.checkpoint import PrunedModel, load_checkpoint
from ltp_core.export import export_hugging_face, export_onnx, onnx_model, onnx_session
from ltp_core.export.session import OnnxSession
from ltp_core.pruning import METHODS
from ltp_core.pruning.base import PruningMethod, ThresholdMethod
from ltp_core.pruning.ltp import LearnedTokenPruning, LTPConfig
from ltp_core.pruning.shallow import Shallow, ShallowConfig
from ltp_core.pruning.tr_bert import TokenReduction, TRBertConfig
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import QuestionSettings, UserError
from ltp_core.runners.base import Inputs, RunOutput, make_inputs
from ltp_core.runners.packed import PackedRunner
from tests import tiny
from tests.checkpoints import REVIEWS
from tests.commands import run
from tests.running import is_far_from, ltp

THRESHOLDS = (0.6, 0.8, 0.9)
NUM_LAYERS = len(THRESHOLDS)
TOLERANCE = 1e-4
every_family = pytest.mark.parametrize("family", tiny.VARIANTS)

lengths = st.lists(st.integers(1, 37), min_size=1, max_size=5)
"""Lengths of a batch; the tiny encoders have 40 positions."""


def pruned(family: str = "bert", method: PruningMethod | None = None, seed: int = 3) -> PrunedModel:
    """A tiny random checkpoint in float32 that was never stored."""
    encoder = tiny.copy_of(tiny.encoder(family, seed)).float()
    return PrunedModel(
        name=f"tiny-{family}",
        task=None,
        method=(ltp(THRESHOLDS) if method is None else method).float().requires_grad_(False),
        encoder=encoder,
        packed=PackedRunner(encoder),
        tokenizer=tiny.tokenizer(family),
        label_names=("a", "b", "c"),
        max_length=32,
        dense=None,
        base="tiny",
    )


@functools.cache
def session(family: str, *, is_pruned: bool) -> tuple[PrunedModel, OnnxSession]:
    """A checkpoint and its session."""
    model = pruned(family)
    return model, onnx_session(model, pruned=is_pruned, int8=False, threads=1)


def packed(model: PrunedModel, inputs: Inputs) -> RunOutput:
    """What the packed runner makes of it."""
    return model.packed(inputs, model.method, record=True)


def num_survived(output: RunOutput, num_layers: int) -> list[list[int]]:
    """By how many of the first layers each token was retained."""
    counts = torch.zeros_like(output.layers[0].retained, dtype=torch.long)
    for layer in output.layers[:num_layers]:
        counts += layer.retained
    rows: list[list[int]] = counts.tolist()
    return rows


# --- equality with the packed runner --------------------------------------------------------------


@every_family
@given(
    lengths=lengths,
    seed=st.integers(0, 10_000),
    extra_padding=st.sampled_from([0, 1, 3]),
)
def test_pruned_onnx_equals_the_packed_runner(
    family: str, lengths: list[int], seed: int, extra_padding: int
) -> None:
    """Same logits and kept sets over random lengths, alone and in padded batches."""
    model, onnx_model = session(family, is_pruned=True)
    inputs = tiny.inputs(lengths, seed, family=family, extra_padding=extra_padding)
    expected = packed(model, inputs)
    assume(is_far_from(expected, THRESHOLDS, TOLERANCE))
    actual = onnx_model.run(inputs)
    torch.testing.assert_close(actual, expected.logits, rtol=0, atol=TOLERANCE)
    # The last layer decides nothing if it finishes the first token only.
    deciding = NUM_LAYERS - (not model.encoder.config.reads_every_token)
    survived = num_survived(expected, deciding)
    assert survived == onnx_model.num_survived(inputs).tolist()


@pytest.mark.parametrize("lengths", [(20,), (20, 7, 12)])
def test_a_mean_may_leave_pruned_tokens_out(lengths: tuple[int, ...]) -> None:
    """With `pruned_answers = "excluded"` a pooled head reads what is left, in ONNX too."""
    config = LTPConfig(pruned_answers="excluded")
    method = LearnedTokenPruning(config, NUM_LAYERS).with_thresholds(list(THRESHOLDS))
    model, inputs = pruned("modernbert-mean", method), tiny.inputs(lengths, 6)
    opened = onnx_session(model, pruned=True, int8=False, threads=1)
    expected = packed(model, inputs)
    assert is_far_from(expected, THRESHOLDS, TOLERANCE)
    torch.testing.assert_close(opened.run(inputs), expected.logits, rtol=0, atol=TOLERANCE)
    restored = packed(pruned("modernbert-mean"), inputs).logits
    assert not torch.allclose(restored, expected.logits, atol=1e-2)


@functools.cache
def relative_session(name: str, mean: str) -> tuple[PrunedModel, OnnxSession]:
    """A checkpoint whose score is relative to ordinary tokens, or has a learned factor, or both."""
    kind = METHODS[name]
    method = kind(kind.config_type(score_mean=mean), NUM_LAYERS)
    method.fit_width_(tiny.SIZES["hidden_size"])
    for key, parameter in method.named_parameters():
        if key == "direction":
            parameter.data.normal_(std=2.0, generator=torch.Generator().manual_seed(5))
    assert isinstance(method, ThresholdMethod)
    model = pruned(method=method.with_thresholds(list(RELATIVE)))
    return model, onnx_session(model, pruned=True, int8=False, threads=1)


RELATIVE = (0.7, 0.9, 1.1)


@pytest.mark.parametrize(
    ("name", "mean"), [("ltp", "ordinary"), ("ltp_s", "ordinary"), ("ltp_s", "live")]
)
@given(lengths=lengths, seed=st.integers(0, 10_000), extra_padding=st.sampled_from([0, 3]))
def test_relative_and_learned_scores_in_onnx(
    name: str, mean: str, lengths: list[int], seed: int, extra_padding: int
) -> None:
    """Same logits and kept sets as the packed runner, alone and in padded batches."""
    model, onnx_model = relative_session(name, mean)
    inputs = tiny.inputs(lengths, seed, extra_padding=extra_padding)
    expected = packed(model, inputs)
    assume(is_far_from(expected, RELATIVE, TOLERANCE))
    torch.testing.assert_close(onnx_model.run(inputs), expected.logits, rtol=0, atol=TOLERANCE)
    survived = num_survived(expected, NUM_LAYERS - 1)
    assert survived == onnx_model.num_survived(inputs).tolist()


@functools.cache
def reducing_session() -> tuple[PrunedModel, OnnxSession]:
    """A checkpoint whose policies select before its last two layers."""
    method = TokenReduction(TRBertConfig(layers=(1, 2)), NUM_LAYERS)
    method.fit_width_(tiny.SIZES["hidden_size"])
    generator = torch.Generator().manual_seed(5)
    for parameter in method.parameters():
        parameter.data.normal_(generator=generator)
    model = pruned(method=method)
    return model, onnx_session(model, pruned=True, int8=False, threads=1)


@given(lengths=lengths, seed=st.integers(0, 10_000), extra_padding=st.sampled_from([0, 3]))
def test_policies_in_onnx(lengths: list[int], seed: int, extra_padding: int) -> None:
    """Same logits and kept sets as the packed runner, alone and in padded batches."""
    model, onnx_model = reducing_session()
    inputs = tiny.inputs(lengths, seed, extra_padding=extra_padding)
    expected = packed(model, inputs)
    assume(is_far_from(expected, (math.inf, 0.5, 0.5), TOLERANCE))
    torch.testing.assert_close(onnx_model.run(inputs), expected.logits, rtol=0, atol=TOLERANCE)
    survived = num_survived(expected, NUM_LAYERS - 1)
    assert survived == onnx_model.num_survived(inputs).tolist()


@every_family
@given(lengths=lengths, seed=st.integers(0, 10_000))
def test_unpruned_onnx_equals_the_encoder(family: str, lengths: list[int], seed: int) -> None:
    """The peer without pruning gives the unpruned logits."""
    model, onnx_model = session(family, is_pruned=False)
    inputs = tiny.inputs(lengths, seed, family=family)
    expected = model.packed(inputs, Unpruned.neutral(NUM_LAYERS)).logits
    torch.testing.assert_close(onnx_model.run(inputs), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("is_single", [False, True])
@given(length=st.integers(1, 37), seed=st.integers(0, 10_000))
@settings(max_examples=20)
def test_the_last_layer_may_be_finished_whole(is_single: bool, length: int, seed: int) -> None:
    """Then the last layer decides too, and `num_survived` counts it."""
    model, opened = finishing_all(is_single)
    inputs = tiny.inputs([length], seed)
    expected = packed(model, inputs)
    assume(is_far_from(expected, THRESHOLDS, TOLERANCE))
    logits, survived = opened.run(["logits", "num_survived"], feed(inputs))
    np.testing.assert_allclose(logits, expected.logits, atol=TOLERANCE)
    assert num_survived(expected, NUM_LAYERS) == survived.tolist()


@functools.cache
def finishing_all(is_single: bool) -> tuple[PrunedModel, Any]:
    """A checkpoint, and its session with a whole last layer."""
    model = pruned()
    proto = onnx_model(model, pruned=True, is_single=is_single, finishes_first=False)
    return model, onnxruntime.InferenceSession(proto.SerializeToString())


def feed(inputs: Inputs) -> dict[str, Any]:
    """A padded batch under the exported model's names."""
    return {
        "input_ids": inputs.input_ids.numpy(),
        "attention_mask": inputs.attention_mask.long().numpy(),
        "token_type_ids": inputs.token_type_ids.numpy(),
    }


@pytest.mark.parametrize("lengths", [(20,), (20, 7, 12)])
def test_protected_separators_stay(lengths: tuple[int, ...]) -> None:
    """Separators are protected inside the file where the method protects them."""
    config = LTPConfig(final_threshold=1e3, protect_separators=True)
    model = pruned(method=LearnedTokenPruning(config, NUM_LAYERS))
    raw = tiny.inputs(lengths, 5)
    separator = model.tokenizer.token_to_id("[SEP]")
    ids = raw.input_ids.clone()
    ids[:, 4] = separator
    inputs = make_inputs(
        ids, raw.token_type_ids, raw.attention_mask, separator_id=separator, protect_separators=True
    )
    opened = onnx_session(model, pruned=True, int8=False, threads=1)
    expected = packed(model, inputs)
    assert num_survived(expected, NUM_LAYERS - 1) == opened.num_survived(inputs).tolist()
    torch.testing.assert_close(opened.run(inputs), expected.logits, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "method", [Shallow(ShallowConfig(layers=2), NUM_LAYERS), Unpruned.neutral(NUM_LAYERS)]
)
@pytest.mark.parametrize("lengths", [(9,), (9, 4)])
def test_methods_that_remove_no_token(method: PruningMethod, lengths: tuple[int, ...]) -> None:
    """Left-out layers are left out, and a method without thresholds removes nothing."""
    model = pruned(method=method)
    inputs = tiny.inputs(lengths, 2)
    opened = onnx_session(model, pruned=True, int8=False, threads=1)
    expected = model.packed(inputs, method).logits
    torch.testing.assert_close(opened.run(inputs), expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("is_single", [False, True])
def test_tokens_are_really_removed(is_single: bool) -> None:
    """Every layer's FFN sees the survivors and nobody else."""
    model, inputs = pruned(), tiny.inputs((20,), 4)
    proto = onnx_model(model, pruned=True, is_single=is_single, finishes_first=False)
    inner = [node.output[0] for node in proto.graph.node if node.op_type == "Gelu"]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in inner)
    values = onnxruntime.InferenceSession(proto.SerializeToString()).run(inner, feed(inputs))
    expected = packed(model, inputs).ffn_length[0].tolist()
    assert expected[-1] < expected[0] < 20
    assert expected == [len(value) for value in values]


# --- files -----------------------------------------------------------------------------------------


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    """Method, thresholds and labels stand in the file, which loads from disk."""
    model, path = pruned(), tmp_path / "model.onnx"
    export_onnx(model, path)
    written = onnx.load(path)
    properties = {prop.key: json.loads(prop.value) for prop in written.metadata_props}
    assert "ltp" == properties["method"]
    assert pytest.approx(THRESHOLDS) == properties["thresholds"]
    assert ["a", "b", "c"] == properties["labels"]
    inputs = tiny.inputs((9, 4), 2)
    (logits,) = onnxruntime.InferenceSession(path).run(["logits"], feed(inputs))
    np.testing.assert_allclose(logits, packed(model, inputs).logits, atol=TOLERANCE)


def test_a_model_for_one_sequence_refuses_a_batch() -> None:
    """It would mix the sequences up; its input's shape says that it takes one."""
    proto = onnx_model(pruned(), pruned=True, is_single=True)
    opened = onnxruntime.InferenceSession(proto.SerializeToString())
    with pytest.raises(Exception, match="input_ids"):
        opened.run(["logits"], feed(tiny.inputs((4, 4), 1)))


@pytest.mark.parametrize("is_pruned", [False, True])
def test_int8_is_near_and_smaller(is_pruned: bool) -> None:
    """Weights of matrix products take a quarter; logits stay near."""
    model, inputs = pruned(method=Unpruned.neutral(NUM_LAYERS)), tiny.inputs((20, 7), 4)
    whole = onnx_session(model, pruned=is_pruned, int8=False, threads=1).run(inputs)
    small = onnx_session(model, pruned=is_pruned, int8=True, threads=1).run(inputs)
    torch.testing.assert_close(small, whole, rtol=0, atol=0.5)
    assert not torch.equal(small, whole)


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_transformers_opens_the_folder(
    architecture: str, hugging_face_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """Auto classes give the unpruned logits and the same token ids."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model = load_checkpoint(str(hugging_face_folder(architecture)))
    model = dataclasses.replace(model, method=ltp(THRESHOLDS).float())
    export_hugging_face(model, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    peer = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    encoded = tokenizer(["the film is great", "dull"], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = peer(**encoded).logits
    inputs = make_inputs(
        encoded["input_ids"],
        encoded.get("token_type_ids", torch.zeros_like(encoded["input_ids"])),
        encoded["attention_mask"].bool(),
    )
    expected = model.packed(inputs, Unpruned.neutral(NUM_LAYERS)).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    assert (
        model.tokenizer.encode("the film is great").ids == tokenizer("the film is great").input_ids
    )
    assert tokenizer.pad_token is not None


@pytest.mark.parametrize("family", ["bert", "modernbert"])
def test_layers_that_never_ran_are_left_out(family: str, tmp_path: Path) -> None:
    """A shallow checkpoint is a shallow model elsewhere too: the same answers without pruning."""
    from transformers import AutoModelForSequenceClassification

    model = pruned(family, Shallow(ShallowConfig(layers=2), NUM_LAYERS))
    inputs = tiny.inputs((9, 4), 5)
    expected = packed(model, inputs).logits
    export_hugging_face(model, tmp_path)
    peer = AutoModelForSequenceClassification.from_pretrained(tmp_path).eval()
    assert 2 == peer.config.num_hidden_layers
    types = {"token_type_ids": inputs.token_type_ids} if family == "bert" else {}
    with torch.no_grad():
        logits = peer(inputs.input_ids, attention_mask=inputs.attention_mask.long(), **types).logits
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    unpruned = onnx_session(model, pruned=False, int8=False, threads=1)
    torch.testing.assert_close(unpruned.run(inputs), expected, rtol=0, atol=TOLERANCE)


def test_how_questions_are_answered_goes_along(tmp_path: Path) -> None:
    """Stride and null threshold are in the configuration, which transformers opens."""
    from transformers import AutoConfig, AutoModelForQuestionAnswering

    encoder = tiny.copy_of(tiny.span_encoder("bert", 3)).float()
    settings = QuestionSettings(stride=6, null_threshold=-1.5)
    model = dataclasses.replace(
        pruned(),
        task="squad_v2",
        encoder=encoder,
        packed=PackedRunner(encoder),
        label_names=("start", "end"),
        questions=settings,
    )
    export_hugging_face(model, tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    told = config.task_specific_params["question-answering"]
    assert {"doc_stride": 6, "null_threshold": -1.5} == told
    assert AutoModelForQuestionAnswering.from_pretrained(tmp_path).qa_outputs.out_features == 2
    open_ended = dataclasses.replace(model, questions=QuestionSettings(stride=6))
    export_hugging_face(open_ended, tmp_path / "open")
    told = AutoConfig.from_pretrained(tmp_path / "open").task_specific_params
    assert {"question-answering": {"doc_stride": 6, "null_threshold": None}} == told


# --- what cannot be exported -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["spatten", "lat", "power_bert"])
def test_methods_without_thresholds_are_refused(name: str) -> None:
    """Top-k selection does not go into a file; the sentence says what does."""
    kind = METHODS[name]
    with pytest.raises(UserError, match="no thresholds"):
        onnx_model(pruned(method=kind(kind.config_type(), NUM_LAYERS)), pruned=True)


def test_an_unprotected_first_token_is_refused() -> None:
    """The head reads the first token's last live state, which the graph does not keep."""
    method = LearnedTokenPruning(LTPConfig(protect_first=False), NUM_LAYERS)
    with pytest.raises(UserError, match="first token"):
        onnx_model(pruned(method=method), pruned=True)


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_an_absent_package_is_named(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its packages, export says which one to install."""
    known = importlib.import_module

    def refuse(name: str, *rest: Any) -> Any:
        if name == package:
            raise ImportError(name)
        return known(name, *rest)

    monkeypatch.setattr(importlib, "import_module", refuse)
    with pytest.raises(UserError, match=f"pip install {package}"):
        onnx_session(pruned(), pruned=True, int8=False, threads=1)


def test_a_model_that_one_file_cannot_hold_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond 2 GiB the format needs several files."""
    monkeypatch.setattr("ltp_core.export.MAX_BYTES", 1000)
    with pytest.raises(UserError, match="2 GiB"):
        onnx_model(pruned(), pruned=True)


# --- the command -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (("--format", "onnx"), f"{REVIEWS}.onnx"),
        (("--format", "onnx", "--single", "--int8"), f"{REVIEWS}-single-int8.onnx"),
        (("--format", "onnx", "--unpruned"), f"{REVIEWS}-unpruned.onnx"),
        (("--format", "hf"), f"{REVIEWS}-hf"),
    ],
)
@pytest.mark.usefixtures("tiny_store")
def test_export_writes_what_it_says(
    options: tuple[str, ...], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The document names the file, its size and its inputs; a second call does not overwrite."""
    monkeypatch.chdir(tmp_path)
    ran = run("export", REVIEWS, *options, "--json")
    assert 0 == ran.status, ran.stderr
    document = json.loads(ran.stdout)
    assert name == document["path"]
    assert document["bytes"] > 1000
    assert "input_ids" in document["inputs"]
    assert (tmp_path / name).exists()
    again = run("export", REVIEWS, *options)
    assert 2 == again.status
    assert "--force" in again.stderr
    forced = run("export", REVIEWS, *options, "--force")
    assert 0 == forced.status
    assert ("session.x64quantprecision" in forced.stdout) == ("--int8" in options)


@pytest.mark.parametrize(
    "options",
    [
        ("--format", "hf", "--int8"),
        ("--format", "hf", "--single"),
        ("--format", "hf", "--unpruned"),
        ("--format", "onnx", "--unpruned", "--single"),
        ("--format", "tflite"),
        (),
    ],
)
@pytest.mark.usefixtures("tiny_store")
def test_export_refuses_what_does_not_go_together(options: tuple[str, ...]) -> None:
    """Wrong options end with status 2 and a sentence, before anything is loaded."""
    ran = run("export", REVIEWS, *options)
    assert 2 == ran.status
    assert "" == ran.stdout
    assert ran.stderr
