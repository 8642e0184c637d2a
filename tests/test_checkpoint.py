"""Checkpoints: what is saved runs the same again, elsewhere too; what is broken is said in a sentence."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltp_core import store
from ltp_core.checkpoint import PrunedModel, load_checkpoint, save_pruning
from ltp_core.checkpoint_places import (
    PRUNING_FILE,
    CheckpointError,
    checkpoint_folder,
    content_stamp,
    list_checkpoints,
    weights_file,
    weights_sha256,
)
from ltp_core.encoder.adapter import inject, save_adapter
from ltp_core.encoder.bases import DEFAULT_BASE, KNOWN_BASES, MPNET_BASE, find_base, sha256
from ltp_core.encoder.errors import ModelError
from ltp_core.encoder.loading import load_encoder
from ltp_core.pruning import METHODS, LearnedTokenPruning, PruningMethod
from ltp_core.records import Trace, UserError
from ltp_core.trace import trace_text
from tests import checkpoints, runs, tiny
from tests.running import ltp

TEXT = "The film is long, slow and boring but the ending was great"
THRESHOLDS = (0.1 + 0.2, 2 / 3, 0.87654321)
LTP = "sst2-ltp-00000000aa"


def float32_ltp() -> LearnedTokenPruning:
    """Thresholds that no short decimal number says."""
    return ltp(THRESHOLDS).float()


def save_adapter_run(
    folder: Path, base: Path, method: PruningMethod | None = None, *, base_name: str | None = None
) -> Path:
    """A complete run that is an adapter on a base folder."""
    encoder = load_encoder(base, num_labels=2)
    inject(encoder, rank=2, alpha=5.0)
    tiny.randomise(torch.nn.ParameterList(p for p in encoder.parameters() if p.requires_grad), 3)
    save_adapter(encoder, folder / "adapter", rank=2, alpha=5.0, base=str(base))
    save_pruning(
        folder,
        method or float32_ltp(),
        task="sst2",
        label_names=("negative", "positive"),
        max_length=32,
        base={"name": base_name or str(base), "sha256": sha256(base / "model.safetensors")},
        dense="sst2-unpruned-00000000aa",
    )
    store.finish_run(folder, runs.manifest(folder.name))
    return folder


@pytest.fixture
def adapter_run(tmp_path: Path) -> Path:
    """A BERT adapter whose base a test may change."""
    base = tiny.save_hugging_face("bert", tmp_path / "base")
    return save_adapter_run(store.run_folder(tmp_path / "store", LTP), base)


def traced(folder: Path, **options: Any) -> Trace:
    """The trace of a fixed text."""
    return trace_text(load_checkpoint(str(folder)), TEXT, **options)


# --- the same again -------------------------------------------------------------------------------


def test_an_adapter_run_is_loaded_with_everything(adapter_run: Path) -> None:
    """Name, task, labels, length, counterpart and base come back; nothing is left to be trained."""
    model = load_checkpoint(str(adapter_run))
    assert (LTP, "sst2", ("negative", "positive"), 32) == (
        model.name,
        model.task,
        model.label_names,
        model.max_length,
    )
    assert "sst2-unpruned-00000000aa" == model.dense
    assert str(adapter_run.parents[2] / "base") == model.base
    assert not model.encoder.training
    parameters = [*model.encoder.parameters(), *model.method.parameters()]
    assert not any(p.requires_grad for p in parameters)


def test_loading_again_decides_bit_by_bit_the_same(adapter_run: Path) -> None:
    """Thresholds keep every bit through JSON, and two loads give one trace."""
    first = traced(adapter_run)
    expected = float32_ltp().thresholds.double().tolist()
    assert expected == [layer.threshold for layer in first.layers]
    assert first == traced(adapter_run)
    assert 1 < first.lengths[-1] < first.lengths[0]


@pytest.mark.parametrize("name", METHODS)
def test_every_method_comes_back(name: str, tmp_path: Path) -> None:
    """A checkpoint of any method loads with that method's state."""
    method = METHODS[name].neutral(3)
    base = tiny.save_hugging_face("bert", tmp_path / "base")
    loaded = load_checkpoint(str(save_adapter_run(tmp_path / LTP, base, method))).method
    assert method.state_json() == loaded.state_json()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own
@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_peft_gives_the_checkpoints_unpruned_logits(architecture: str, tmp_path: Path) -> None:
    """An adapter run on Hugging Face's base through PEFT says what we say with pruning off."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base = tiny.save_hugging_face(architecture, tmp_path / "base")
    folder = save_adapter_run(tmp_path / LTP, base)
    found = traced(folder)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=2, ignore_mismatched_sizes=True
    )
    opened = PeftModel.from_pretrained(model, str(folder / "adapter")).eval()
    assert found.unpruned is not None
    assert pytest.approx(found.unpruned.logits, abs=1e-4) == logits(opened, found)
    assert pytest.approx(found.logits, abs=1e-3) != found.unpruned.logits


def test_a_full_run_opens_in_transformers(tiny_store: Path) -> None:
    """`from_pretrained` of the run's model folder gives the unpruned logits."""
    from transformers import AutoModelForSequenceClassification

    found = traced(store.run_folder(tiny_store, checkpoints.REVIEWS))
    folder = store.run_folder(tiny_store, checkpoints.REVIEWS) / "model"
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert found.unpruned is not None
    assert pytest.approx(found.unpruned.logits, abs=1e-5) == logits(model, found)


def logits(model: Any, trace: Trace) -> list[float]:
    """What a model of transformers says about the trace's tokens."""
    with torch.no_grad():
        output = model(input_ids=torch.tensor([trace.token_ids]))
    return [float(x) for x in output.logits[0]]


# --- Hugging Face folders --------------------------------------------------------------------------


def test_a_foreign_folder_runs_unpruned(tmp_path: Path) -> None:
    """A model folder that we did not write prunes nothing and has its own labels."""
    names = {0: "bad", 1: "fine", 2: "good"}
    folder = tiny.save_hugging_face("roberta", tmp_path / "mine", id2label=names)
    model = load_checkpoint(str(folder))
    assert ("mine", None, "unpruned", ("bad", "fine", "good")) == (
        model.name,
        model.task,
        model.method.name,
        model.label_names,
    )
    found = trace_text(model, TEXT)
    assert {"paper": 1.0, "executed": 1.0} == found.relative_flops
    assert found.label in model.label_names
    assert {len(found.tokens)} == set(found.lengths)


def test_a_foreign_regression_has_no_labels(tmp_path: Path) -> None:
    """One output is a value: no probabilities, no label."""
    folder = tiny.save_hugging_face("bert", tmp_path / "mine", num_labels=1)
    found = traced(folder)
    assert (1, None, None) == (len(found.logits), found.probabilities, found.label)


def test_a_folder_without_a_head_is_refused(tmp_path: Path) -> None:
    """A bare encoder would answer with a random head; the error says what to do instead."""
    import transformers

    folder = tiny.save_hugging_face("bert", tmp_path / "mine")
    transformers.AutoModel.from_pretrained(folder).save_pretrained(folder)
    assert_refused(folder, "no head that classifies or answers questions")


def drop_tensors(folder: Path, beginning: str, file_name: str) -> None:
    """Takes the tensors whose names begin so out of a model folder, and stores the rest in that file."""
    kept = {
        key: value
        for key, value in load_file(folder / "model.safetensors").items()
        if not key.startswith(beginning)
    }
    (folder / "model.safetensors").unlink()
    if file_name == "model.safetensors":
        save_file(kept, folder / file_name, metadata={"format": "pt"})
    else:
        torch.save(kept, folder / file_name)


@pytest.mark.parametrize("file_name", ["model.safetensors", "pytorch_model.bin"])
@pytest.mark.parametrize(
    ("beginning", "words"),
    [
        ("classifier.", "lack 2 tensors, first classifier"),
        ("bert.encoder.layer.1.", "lack 16 tensors, first encoder.layer.1"),
    ],
)
def test_absent_weights_are_refused(
    beginning: str, words: str, file_name: str, tmp_path: Path
) -> None:
    """Whatever the configuration says and whoever reads the file, nobody is answered by random numbers."""
    folder = tiny.save_hugging_face("bert", tmp_path / "mine")
    drop_tensors(folder, beginning, file_name)
    assert_refused(folder, words)


def test_a_run_of_records_alone_says_so(adapter_run: Path) -> None:
    """Most shipped runs have no weights; they are not mistaken for a model of an unknown kind."""
    (adapter_run / PRUNING_FILE).unlink()
    assert_refused(adapter_run, "was stored without its weights")


def test_names_of_labels_come_in_the_order_of_the_outputs(tmp_path: Path) -> None:
    """Ten and more labels are ordered as numbers, whatever the order in the file."""
    names = {i: f"class {i}" for i in reversed(range(12))}
    folder = tiny.save_hugging_face("bert", tmp_path / "mine", num_labels=12, id2label=names)
    assert tuple(f"class {i}" for i in range(12)) == load_checkpoint(str(folder)).label_names


# --- what cannot be loaded -------------------------------------------------------------------------


def assert_refused(folder: Path, words: str) -> None:
    """Loading fails with one line that has these words in it."""
    with pytest.raises(UserError, match=words) as error:
        load_checkpoint(str(folder))
    assert "\n" not in str(error.value)


def edit(folder: Path, **changes: Any) -> None:
    """Changes fields of pruning.json; `...` removes one."""
    raw = json.loads((folder / PRUNING_FILE).read_text()) | changes
    kept = {key: value for key, value in raw.items() if value is not ...}
    (folder / PRUNING_FILE).write_text(json.dumps(kept))


def edit_method(folder: Path, **changes: Any) -> None:
    """Changes fields of the method's state."""
    state = json.loads((folder / PRUNING_FILE).read_text())["method"]
    edit(folder, method={**state, **changes})


def test_a_wrong_field_is_refused_or_harmless(adapter_run: Path) -> None:
    """Whatever a field of pruning.json holds, the model loads or one sentence says why not."""
    whole = (adapter_run / PRUNING_FILE).read_text()
    harmless = [("task", "x"), ("max_length", 3.5), ("dense", "x"), ("dense", None)]
    loaded = []
    for key in ("task", "method", "label_names", "max_length", "base", "dense"):
        for value in (..., [], {}, 3.5, "x", None):
            (adapter_run / PRUNING_FILE).write_text(whole)
            edit(adapter_run, **{key: value})
            try:
                assert isinstance(load_checkpoint(str(adapter_run)), PrunedModel)
            except UserError as error:
                assert "\n" not in str(error)  # noqa: PT017  # both ways out are right
            else:
                loaded.append((key, value))
    assert harmless == loaded


def test_a_wrong_method_state_is_refused(adapter_run: Path) -> None:
    """An unknown method or an impossible state names the file."""
    whole = (adapter_run / PRUNING_FILE).read_text()
    wrong: tuple[dict[str, Any], ...] = (
        {"name": "ltq"},
        {"name": None},
        {"config": None},
        {"config": 3},
        {"num_layers": "three"},
        {"num_layers": -1},
        {"num_layers": 10**15},
        {"thresholds": None},
        {"thresholds": [0.5]},
        {"thresholds": ["low", "middle", "high"]},
        {"thresholds": [0.5, [0.6], 0.7]},
        {"thresholds": [0.5, float("nan"), 0.7]},
        {"thresholds": [0.5, 0.6, float("inf")]},
    )
    for changes in wrong:
        (adapter_run / PRUNING_FILE).write_text(whole)
        edit_method(adapter_run, **changes)
        assert_refused(adapter_run, r"pruning\.json|prunes")


def test_a_broken_pruning_file_is_refused(adapter_run: Path) -> None:
    """What is no JSON object is an error that names the file."""
    for content in (b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000):
        (adapter_run / PRUNING_FILE).write_bytes(content)
        assert_refused(adapter_run, r"pruning\.json")


def test_thresholds_of_another_depth_are_refused(adapter_run: Path) -> None:
    """Four thresholds do not fit three layers."""
    edit(adapter_run, method=ltp((0.1, 0.2, 0.3, 0.4)).state_json())
    assert_refused(adapter_run, "prunes 4 layers, but its encoder has 3")


def test_labels_that_do_not_fit_the_head_are_refused(tiny_store: Path, tmp_path: Path) -> None:
    """Three names for two outputs."""
    folder = checkpoints.save_run(tmp_path, checkpoints.REVIEWS)
    edit(folder, label_names=["a", "b", "c"])
    assert_refused(folder, "names 3 labels, but its head has 2 outputs")


def test_a_run_without_its_adapter_is_refused(adapter_run: Path) -> None:
    """The sentence names the file that is missing."""
    (adapter_run / "adapter" / "adapter_model.safetensors").unlink()
    assert_refused(adapter_run, r"lacks adapter_model\.safetensors")
    (adapter_run / "adapter" / "adapter_config.json").unlink()
    (adapter_run / "adapter").rmdir()
    assert_refused(adapter_run, r"lacks adapter_config\.json")


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    """A vocabulary larger than the embedding would read beyond its end."""
    folder = tiny.save_hugging_face("bert", tmp_path / "mine")
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["model"]["vocab"] |= {"surplus": tiny.VOCAB_SIZE}
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    assert_refused(folder, "do not belong together")
    (folder / "tokenizer.json").write_text("{")
    assert_refused(folder, "no tokenizer that can be read")


def test_a_folder_that_is_no_model_is_refused(tmp_path: Path) -> None:
    """An empty folder, and one of another architecture."""
    assert_refused(tmp_path, r"config\.json")
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    assert_refused(tmp_path, "'gpt2' is not supported")
    (tmp_path / "config.json").write_text('{"model_type": ["bert"]}')
    assert_refused(tmp_path, "is not supported")


def test_strange_label_names_are_refused(tmp_path: Path) -> None:
    """`id2label` maps the numbers from 0 on."""
    folder = tiny.save_hugging_face("bert", tmp_path)
    raw = json.loads((folder / "config.json").read_text())
    for names in (["a"], {"x": "a", "y": "b", "z": "c"}, {"0": "a", "2": "b"}, 3, "abc"):
        (folder / "config.json").write_text(json.dumps({**raw, "id2label": names}))
        assert_refused(folder, "id2label")


@pytest.mark.parametrize(
    "name", ["", " ", "a\0b", "x" * 5000, "\udcff", "~nobody-here/x", "../..", "/", "no"]
)
def test_an_impossible_name_is_refused(name: str, tiny_store: Path) -> None:
    """Whatever is asked for, the answer is a sentence."""
    with pytest.raises(UserError) as error:
        load_checkpoint(name)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 700


def test_a_run_is_found_by_a_beginning_of_its_name(tiny_store: Path) -> None:
    """A unique beginning is enough."""
    assert checkpoints.PAIRS == load_checkpoint(checkpoints.PAIRS[:-3]).name


# --- the base ---------------------------------------------------------------------------------------


def test_an_adapter_wants_the_base_it_was_trained_on(adapter_run: Path) -> None:
    """Other weights in the base's folder would give other answers without a word."""
    path = adapter_run.parents[2] / "base" / "model.safetensors"
    changed = {key: value + 0.001 for key, value in load_file(path).items()}
    save_file(changed, path, metadata={"format": "pt"})
    assert_refused(adapter_run, "trained on other weights .*SHA-256")


def test_an_absent_base_says_what_to_do(adapter_run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, offline."""
    monkeypatch.delenv("LTP_ALLOW_DOWNLOADS", raising=False)
    edit(adapter_run, base={"name": "nobody/no-such-model", "sha256": None})
    began = time.perf_counter()
    assert_refused(adapter_run, "nobody/no-such-model.*LTP_ALLOW_DOWNLOADS=1")
    assert time.perf_counter() - began < 1


@pytest.fixture
def cached_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that the cache gives for the default base and some model; no package has one."""
    hub = tmp_path / "hub"
    for name in (DEFAULT_BASE, "some/model"):
        (hub / f"models--{name.replace('/', '--')}").mkdir(parents=True)
    monkeypatch.setenv("HF_HUB_CACHE", str(hub))
    folder = tiny.save_hugging_face("bert", tmp_path / "cached")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda *_, **__: str(folder))
    know_default_base(monkeypatch, packaged=lambda: None)
    return folder


def know_default_base(monkeypatch: pytest.MonkeyPatch, **facts: Any) -> None:
    """Changes what is known of the default base."""
    known = dataclasses.replace(KNOWN_BASES[DEFAULT_BASE], **facts)
    monkeypatch.setitem(KNOWN_BASES, DEFAULT_BASE, known)


def test_the_default_base_is_used_only_with_its_hash(
    cached_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its name it must be the very file; the sentence gives both hashes."""
    run = save_adapter_run(tmp_path / LTP, cached_base, base_name=DEFAULT_BASE)
    digest = sha256(cached_base / "model.safetensors")
    assert_refused(run, f"{digest[:12]}….*53aa51172d14")
    know_default_base(monkeypatch, sha256=digest)
    assert DEFAULT_BASE == load_checkpoint(str(run)).base


def test_a_default_base_given_as_a_folder_needs_no_hash(cached_base: Path) -> None:
    """A local copy, in another precision for instance, is taken by its path."""
    assert cached_base == find_base(str(cached_base))


def test_a_cache_without_weights_is_passed_over(
    cached_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where only the tokenizer was ever fetched, the packaged base is used instead."""
    assert cached_base == find_base("some/model")
    (cached_base / "model.safetensors").unlink()
    packaged = tiny.save_hugging_face("bert", cached_base.parent / "packaged")
    digest = sha256(packaged / "model.safetensors")
    know_default_base(monkeypatch, packaged=lambda: packaged, sha256=digest)
    assert packaged == find_base(DEFAULT_BASE)
    with pytest.raises(UserError, match="some/model"):
        find_base("some/model")


def test_hashes_are_kept_until_something_changes(adapter_run: Path) -> None:
    """A file is read again when its time or size is another; a loaded model never changes."""
    file = weights_file(adapter_run)
    assert file is not None
    digest = weights_sha256(adapter_run)
    assert sha256(file) == digest
    assert digest is weights_sha256(adapter_run)
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(file, ns=(0, 0))
    assert sha256(file) == weights_sha256(adapter_run) != digest
    file.write_bytes(content)
    model = load_checkpoint(str(adapter_run))
    assert model.weights_sha256 is model.weights_sha256


# --- the list -----------------------------------------------------------------------------------------


def mine(found: list[Any]) -> list[Any]:
    """Without what the committed store has."""
    return [info for info in found if info.folder.parents[1] == store.default_store()]


def test_checkpoints_are_listed_with_their_sizes(tiny_store: Path) -> None:
    """By name, with the bytes of the weights on disk."""
    found = mine(list_checkpoints())
    names = [checkpoints.PAIRS, checkpoints.REVIEWS, checkpoints.REVIEWS_DENSE]
    assert names == [info.name for info in found]
    for info in found:
        files = list((info.folder / "model").iterdir())
        assert sum(path.stat().st_size for path in files) == info.bytes
    assert ["mrpc", "ltp", DEFAULT_BASE] == [found[0].task, found[0].method, found[0].base]


def test_what_cannot_be_loaded_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs without a manifest or without weights are no checkpoints."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    running = checkpoints.save_run(tmp_path, "mrpc-ltp-0000000001")
    (running / "manifest.json").unlink()
    bare = runs.finished_run(store.run_folder(tmp_path, "mrpc-ltp-0000000002"))
    broken = checkpoints.save_run(tmp_path, "mrpc-ltp-0000000003")
    (broken / "manifest.json").write_text("{")
    assert not mine(list_checkpoints())
    with pytest.raises(UserError):
        load_checkpoint(str(bare))
    with pytest.raises(UserError, match="not complete"):
        load_checkpoint(running.name)


def test_a_short_name_means_the_default_base(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on another base is meant where it is the only one, or where its name is given."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    monkeypatch.setattr(store, "_DATA_CACHE", tmp_path / "none")
    folder = checkpoints.save_run(tmp_path, "mrpc-ltp-0000000001")
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["base"]["name"] = MPNET_BASE
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert folder == checkpoint_folder("mrpc-ltp")
    usual = checkpoints.save_run(tmp_path, "mrpc-ltp-0000000002")
    assert usual == checkpoint_folder("mrpc-ltp")
    assert folder == checkpoint_folder("mrpc-ltp-0000000001")


def test_errors_of_checkpoints_are_user_errors() -> None:
    """The command line turns them into one sentence and exit status 2."""
    assert issubclass(CheckpointError, UserError)
    assert issubclass(ModelError, UserError)


def test_the_content_stamp_sees_every_file_and_no_other_run(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights replaced by others of the same size count; what happens to another run does not."""
    own = tmp_path / "store"
    shutil.copytree(tiny_store, own)
    monkeypatch.setenv(store.STORE_VARIABLE, str(own))
    monkeypatch.setattr(store, "list_runs", None)  # nothing may list all runs
    names = [folder.name for folder in sorted((own / "runs").iterdir())]
    stamps = {name: content_stamp(name) for name in names}
    assert len({*stamps.values()}) == len(names)
    for name in names:
        for path in sorted(p for p in (own / "runs" / name).rglob("*") if p.is_file()):
            if path.relative_to(own / "runs" / name).parts[0] in {"adapter", "model"}:
                content = path.read_bytes()
                path.write_bytes(bytes(len(content)))
                os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
                assert content_stamp(name) != stamps[name], path
                stamps[name] = content_stamp(name)
        assert {other: content_stamp(other) for other in names} == stamps
