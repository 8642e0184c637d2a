"""Calibration of tiny models: the measure by hand, the budget kept, the command and its errors."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from ltp_core import store
from ltp_core.calibration.calibrate import agreement, calibrate, divergence, measure_on
from ltp_core.checkpoint import ProblemType, PrunedModel, load_checkpoint
from ltp_core.checkpoint_places import (
    PRUNING_FILE,
    holds_weights,
    list_checkpoints,
    sharing_runs,
    weights_folder,
)
from ltp_core.config import MethodSettings, SelectConfig, TrainConfig, dense_config, to_toml
from ltp_core.evaluate import evaluate_checkpoint
from ltp_core.pruning import Unpruned
from ltp_core.pruning.calibrated import CalibratedConfig, CalibratedThreshold
from ltp_core.records import UserError
from ltp_core.sweep.plan import is_stored
from ltp_core.tokenize import Encoded, encode
from ltp_core.trace import trace_text
from ltp_core.training import train as training
from tests import tiny, trainings
from tests.checkpoints import PAIRS, REVIEWS, REVIEWS_DENSE
from tests.commands import Ran, run
from tests.trainings import KINDS, Workplace, sentence

RANDOM = np.random.default_rng(0)
TEXTS = [(sentence(RANDOM, tiny.WORDS),) for _ in range(300)]


def encoded_of(model: PrunedModel, rows: int = 60) -> Encoded:
    """Some texts as the model sees them."""
    return encode(model.tokenizer, TEXTS[:rows], model.max_length)


# --- the measure ----------------------------------------------------------------------------------------


def test_divergence_and_agreement_by_hand() -> None:
    """KL(unpruned || pruned) of the softmax; equal logits up to a shift do not differ."""
    unpruned = torch.tensor([[0.0, math.log(3.0)], [1.0, 1.0]])
    pruned = torch.tensor([[0.0, 0.0], [5.0, 5.0]])
    first = 0.25 * math.log(0.25 / 0.5) + 0.75 * math.log(0.75 / 0.5)
    assert pytest.approx(first / 2) == divergence(unpruned, pruned)
    assert 0.5 == agreement(unpruned, pruned)
    values = torch.tensor([[1.0], [2.0]])
    assert 2.5 == divergence(values, torch.tensor([[2.0], [4.0]]), "regression")
    assert agreement(values, values, "regression") is None


def test_independent_labels_are_compared_one_by_one() -> None:
    """The sum over labels of the divergence of "holds" and "does not"; equal only where all are."""
    unpruned, pruned = torch.tensor([[0.0, math.log(3.0)]]), torch.tensor([[0.0, 0.0]])
    second = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    multi: ProblemType = "multi_label_classification"
    assert pytest.approx(second) == divergence(unpruned, pruned, multi)
    assert agreement(unpruned, pruned, multi) == 1.0
    assert agreement(unpruned, -1 - pruned, multi) == 0.0


def test_the_measure_is_that_of_single_texts(tiny_store: Path) -> None:
    """FLOPs, divergence and agreement of a set are those of its texts traced one by one."""
    model = load_checkpoint(REVIEWS_DENSE)
    method = CalibratedThreshold(CalibratedConfig(), 3)
    thresholds = (0.5, 0.75, 1.0)
    found = measure_on(model, method, encoded_of(model, 12))(thresholds)
    pruned = dataclasses.replace(model, method=method.with_thresholds(list(thresholds)))
    traces = [trace_text(pruned, text) for (text,) in TEXTS[:12]]
    logits = torch.tensor([trace.logits for trace in traces])
    unpruned = torch.tensor([trace.unpruned.logits for trace in traces if trace.unpruned])
    assert pytest.approx(divergence(unpruned, logits), abs=1e-6) == found.divergence
    assert agreement(unpruned, logits) == found.agreement
    assert 0 < found.relative_flops["executed"] < found.relative_flops["paper"] < 1


# --- choosing -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("target", "rows"), [(0.4, 300), (0.7, 40)])
def test_the_budget_is_met(tiny_store: Path, target: float, rows: int) -> None:
    """At the budget or a little below, no worse than anything else that costs the same."""
    model = load_checkpoint(REVIEWS_DENSE)
    encoded = encoded_of(model, rows)
    seen: list[int] = []
    found = calibrate(model, encoded, target, max_configurations=40, report=seen.append)
    assert target - 0.03 < found.chosen.cost <= target
    assert found.tried == len(seen) <= 40
    assert (rows < 256) == (found.tried == len(found.candidates))
    again = measure_on(model, found.method, encoded)(found.chosen.thresholds)
    assert found.chosen == again
    similar = [c for c in found.candidates if target - 0.005 <= c.cost <= target]
    assert all(found.chosen.divergence <= c.divergence for c in similar)
    assert [found.method.threshold(i) for i in range(3)] == pytest.approx(found.chosen.thresholds)
    frame = found.frame()
    assert 1 == frame["is_chosen"].sum()
    assert list(range(len(frame))) == frame["candidate"].tolist()


def test_a_pruned_checkpoint_is_compared_with_its_own_weights(tiny_store: Path) -> None:
    """LTP's thresholds are put aside; calibrated to 1 there is nothing that changes."""
    model = load_checkpoint(REVIEWS)
    found = calibrate(model, encoded_of(model), 1.0, max_configurations=30)
    assert found.chosen.divergence < 1e-3
    assert 0.995 <= found.chosen.cost <= 1
    assert isinstance(model.method.threshold(0), float)


def test_protection_follows_the_settings(tiny_store: Path) -> None:
    """With separators protected, less can be pruned; either way is kept to, or the better taken."""
    model = load_checkpoint(REVIEWS_DENSE)
    tried = {}
    for key, settings in {
        "neither": CalibratedConfig(tries_separators=False),
        "always": CalibratedConfig(protect_separators=True),
        "better": CalibratedConfig(),
    }.items():
        found = calibrate(model, encoded_of(model), 0.6, settings=settings, max_configurations=20)
        tried[key] = {c.protects_separators for c in found.candidates}
        chosen = found.chosen.protects_separators
        assert chosen == found.method.config.protect_separators
    assert {"neither": {False}, "always": {True}, "better": {False, True}} == tried
    protecting = CalibratedThreshold(CalibratedConfig(protect_separators=True), 3)
    pruned = dataclasses.replace(model, method=protecting.with_thresholds([1e6] * 3))
    assert [2, 2, 2] == list(trace_text(pruned, "good bad slow film").lengths[1:])


def test_what_cannot_be_calibrated_is_said(tiny_store: Path) -> None:
    """A budget below the floor, no text, layers that never run."""
    from ltp_core.pruning.shallow import Shallow, ShallowConfig

    model = load_checkpoint(REVIEWS_DENSE)
    with pytest.raises(UserError, match="out of reach: with everything pruned"):
        calibrate(model, encoded_of(model), 0.05)
    with pytest.raises(UserError, match="no text"):
        calibrate(model, encoded_of(model).take(np.array([], dtype=np.int64)), 0.5)
    shallow = dataclasses.replace(model, method=Shallow(ShallowConfig(layers=1), 3))
    with pytest.raises(UserError, match="leaves out whole layers"):
        calibrate(shallow, encoded_of(model), 0.5)


# --- as a run -------------------------------------------------------------------------------------------


def calibrated(place: Workplace, kind: str, task: str = "sst2") -> TrainConfig:
    """A calibrated run on top of the dense counterpart of the usual stages."""
    select = SelectConfig(target_relative_flops=0.5, rows=30, max_configurations=25)
    method = MethodSettings(name="calibrated")
    return place.config(kind, method=method, select=select, task=task)


@pytest.fixture
def place(
    trained_workplace: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Workplace:
    """A workplace with the dense counterparts; its store is the one that the program writes to."""
    copy = trained_workplace.copy(tmp_path)
    monkeypatch.setenv("LTP_STORE", str(copy.store))
    return copy


@pytest.mark.parametrize("kind", KINDS)
def test_a_calibrated_run_has_its_parents_weights(place: Workplace, kind: str) -> None:
    """Nothing is trained; thresholds, candidates and records are the run's own."""
    config = calibrated(place, kind)
    folder = place.train(config)
    dense = dense_config(config)
    assert dense is not None
    parent = store.run_folder(place.store, dense.name)
    manifest = store.read_manifest(folder)
    assert (dense.name, dense.name) == (manifest.parent, manifest.dense)
    assert config.select is not None
    assert manifest.config["select"] == dataclasses.asdict(config.select)
    mine, dense_model = (load_checkpoint(str(path)) for path in (folder, parent))
    for own, other in zip(
        mine.encoder.state_dict().values(), dense_model.encoder.state_dict().values(), strict=True
    ):
        assert torch.equal(own, other)
    candidates = store.read_table(folder, "candidates")
    (chosen,) = candidates[candidates["is_chosen"]].to_dict("records")
    thresholds = [chosen[f"threshold_{i}"] for i in (1, 2, 3)]
    assert pytest.approx(thresholds) == [mine.method.threshold(i) for i in range(3)]
    assert weights_folder(folder) == parent
    assert not list(folder.rglob("*.safetensors"))
    assert 0.45 < chosen["relative_flops"] <= 0.5
    assert not (folder / "history.parquet").exists()
    assert all(entry.problem is None for entry in store.list_runs([place.store]))
    validation = manifest.summary["validation"]
    assert 0.3 < validation["relative_flops"]["paper"] < 0.7
    same = evaluate_checkpoint(
        mine, data_dir=place.folder / "data", method=Unpruned.neutral(3), batch_size=1
    )
    assert same.metrics == store.read_manifest(parent).summary["validation"]["metrics"]


def test_shared_weights_are_looked_for_in_stores_alone(place: Workplace) -> None:
    """Without the run that holds them there is one sentence, and a path is no name."""
    folder = place.train(calibrated(place, "lora"))
    pruning = json.loads((folder / PRUNING_FILE).read_text())
    holder = weights_folder(folder)
    weights = holder / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes() + b" ")
    with pytest.raises(UserError, match=f"{holder.name}, which has other weights by now"):
        load_checkpoint(str(folder))
    assert holds_weights(folder), "nothing is read for a list"
    shutil.rmtree(holder / "adapter")
    with pytest.raises(UserError, match=f"{holder.name}, which is in no store with its weights"):
        load_checkpoint(str(folder))
    assert not holds_weights(folder)
    paths = ({"run": path, "sha256": ""} for path in ("../elsewhere", "..", ".", "", "/"))
    for wrong in ("../elsewhere", {"run": 3}, *paths):
        store.write_json(folder / PRUNING_FILE, {**pruning, "weights": wrong})
        with pytest.raises(UserError, match="'weights' does not name a run"):
            load_checkpoint(str(folder))
        assert not holds_weights(folder)


def test_a_run_whose_shared_weights_are_gone_is_made_again(place: Workplace) -> None:
    """It is no checkpoint without them; its holder comes first, then the run itself."""
    config = calibrated(place, "lora")
    folder = place.train(config)
    holder = weights_folder(folder)
    expected = load_checkpoint(folder.name).weights_sha256
    shutil.rmtree(holder / "adapter")
    names = {holder.name, folder.name}
    assert not names & {info.name for info in list_checkpoints()}
    assert not any(is_stored(name, place.store, with_weights=True) for name in names)
    assert folder == place.train(config), "its records are complete"
    assert not holds_weights(folder)
    assert folder == place.train(config, needs_weights=True)
    assert names <= {info.name for info in list_checkpoints()}
    assert expected == load_checkpoint(folder.name).weights_sha256


def test_who_depends_on_weights_is_named_before_they_go(
    place: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train --force` of the holder says it in a line; of any other run, nothing."""
    config = calibrated(place, "lora")
    folder, dense = place.train(config), dense_config(config)
    assert dense is not None
    monkeypatch.setattr(training, "train", lambda config, **_: place.store / "runs" / config.name)
    for number, (each, others) in enumerate(((dense, [folder.name]), (config, []))):
        preset = tmp_path / f"{number}.toml"
        preset.write_text(to_toml(each), encoding="utf-8")
        assert others == sharing_runs(store.run_folder(place.store, each.name))
        forced, plain = run("train", str(preset), "--force"), run("train", str(preset))
        assert (0, 0) == (forced.status, plain.status), forced.stderr
        expected = [f"are also those of {name}: unless they come out the same" for name in others]
        lines = [line for line in forced.stderr.splitlines() if "are also those of" in line]
        assert len(expected) == len(lines)
        assert all(words in line for words, line in zip(expected, lines, strict=True))
        assert "are also those of" not in plain.stderr


def test_a_calibrated_run_needs_a_budget(tmp_path: Path) -> None:
    """Without `select` it would be an unpruned run under another name; SpAtten has nothing to select."""
    place = Workplace.make(tmp_path)
    config = calibrated(place, "lora")
    with pytest.raises(UserError, match=r"'calibrated': trains nothing.*\[select\]"):
        place.train(dataclasses.replace(config, select=None))
    with pytest.raises(UserError, match="select: spatten has nothing to choose; it is for ltp, "):
        place.train(
            dataclasses.replace(
                place.config(method=MethodSettings(name="spatten")), select=config.select
            )
        )
    assert not list(place.store.glob("runs/*/manifest.json"))


# --- the command ----------------------------------------------------------------------------------------


@pytest.fixture
def own_store(tiny_store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that may be written to, with texts beside it."""
    folder = tmp_path / "store"
    shutil.copytree(tiny_store_folder, folder)
    monkeypatch.setenv("LTP_STORE", str(folder))
    lines = "".join(f"{text}\n" for (text,) in TEXTS)
    (tmp_path / "texts.txt").write_text(lines, encoding="utf-8")
    pairs = [{"sentence1": a, "sentence2": b} for (a,), (b,) in itertools.pairwise(TEXTS)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(json.dumps(pair) for pair in pairs))
    return folder


def command(checkpoint: str, path: Path, *more: str, target: str = "0.5") -> Ran:
    """`calibrate` with few texts and trials."""
    few = ["--rows", "30", "--max-configurations", "16", "--target-relative-flops", target]
    return run("calibrate", checkpoint, "--data", str(path), *few, *more)


def test_the_command_leaves_a_checkpoint(own_store: Path, tmp_path: Path) -> None:
    """A run in the store that can be traced, with what was found; the same call finds it again."""
    ran = command(REVIEWS_DENSE, tmp_path / "texts.txt", "--json")
    assert 0 == ran.status, ran.stderr
    found = json.loads(ran.stdout)
    assert found["checkpoint"].startswith("rotten_tomatoes-calibrated-")
    assert {
        "source": "texts.txt",
        "columns": [],
        "rows": 30,
        "total_rows": 300,
        "left_out_rows": 0,
    } == {key: value for key, value in found["data"].items() if key != "sha256"}
    assert 0 == found["cut_rows"]
    assert 0.45 < found["relative_flops"]["paper"] <= 0.5
    assert 0 < found["divergence"]
    assert 0 <= found["agreement"] <= 1
    folder = Path(found["folder"])
    manifest = store.read_manifest(folder)
    assert (REVIEWS_DENSE, REVIEWS_DENSE) == (manifest.parent, manifest.dense)
    assert found["thresholds"] == manifest.summary["calibration"]["thresholds"]
    assert str(tmp_path) not in (folder / "manifest.json").read_text()
    model = load_checkpoint(found["checkpoint"])
    assert found["thresholds"] == [model.method.threshold(i) for i in range(3)]
    assert all(entry.problem is None for entry in store.list_runs([own_store]))
    assert found["checkpoint"] in run("runs").stdout
    again = command(REVIEWS_DENSE, tmp_path / "texts.txt", "--json")
    assert found == json.loads(again.stdout)
    other = command(REVIEWS_DENSE, tmp_path / "texts.txt", "--json", target="0.6")
    assert found["checkpoint"] != json.loads(other.stdout)["checkpoint"]


def test_what_is_cut_or_left_out_is_said(own_store: Path, tmp_path: Path) -> None:
    """Texts that the model does not take whole, and lines without a text: in the document and the text."""
    lines = [*(text for (text,) in TEXTS[:40]), "", " ", "word " * 2_000]
    (tmp_path / "long.txt").write_text("\n".join(lines), encoding="utf-8")
    path = str(tmp_path / "long.txt")
    few = ["--rows", "100", "--max-configurations", "8", "--target-relative-flops", "0.5"]
    found = json.loads(run("calibrate", REVIEWS_DENSE, "--data", path, *few, "--json").stdout)
    assert (2, 1) == (found["data"]["left_out_rows"], found["cut_rows"])
    card = run("calibrate", REVIEWS_DENSE, "--data", path, *few).stdout
    assert "2 rows or lines of the file have no text" in card
    assert "1 texts are longer than the model takes" in card


def test_other_weights_in_the_same_place_give_another_run(own_store: Path, tmp_path: Path) -> None:
    """A model that was finetuned again in its folder is not answered with the old thresholds."""
    source = tiny.save_hugging_face("bert", tmp_path / "mine")
    names = []
    for _ in range(2):
        weights = load_file(source / "model.safetensors")
        weights["classifier.bias"] += 0.5
        save_file(weights, source / "model.safetensors", metadata={"format": "pt"})
        ran = command(str(source), tmp_path / "texts.txt", "--json")
        assert 0 == ran.status, ran.stderr
        names.append(json.loads(ran.stdout)["checkpoint"])
    assert names[0] != names[1]


def test_the_card_says_what_to_do_next(own_store: Path, tmp_path: Path) -> None:
    """Numbers before and after, and a call that works."""
    ran = command(REVIEWS, tmp_path / "texts.txt")
    assert 0 == ran.status, ran.stderr
    assert "before 100.0 %, now 4" in ran.stdout or "now 50.0 %" in ran.stdout
    name = ran.stdout.split("Use it: trace ")[1].split()[0]
    assert 0 == run("trace", name, "a good film").status


def test_pairs_take_two_columns(own_store: Path, tmp_path: Path) -> None:
    """The task's own columns by default."""
    found = json.loads(command(PAIRS, tmp_path / "pairs.jsonl", "--json").stdout)
    assert ["sentence1", "sentence2"] == found["data"]["columns"]
    swapped = ["--column", "sentence2", "--column", "sentence1"]
    other = json.loads(command(PAIRS, tmp_path / "pairs.jsonl", "--json", *swapped).stdout)
    assert ["sentence2", "sentence1"] == other["data"]["columns"]
    assert 2 == command(PAIRS, tmp_path / "texts.txt").status


@pytest.mark.parametrize("num_labels", [1, 3])
def test_any_hugging_face_folder_can_be_calibrated(
    own_store: Path, tmp_path: Path, num_labels: int
) -> None:
    """Classifier or regression, into a folder of its own; existing folders are left alone."""
    source = tiny.save_hugging_face("roberta", tmp_path / "mine", num_labels=num_labels)
    output = tmp_path / "calibrated"
    more = ["--output", str(output), "--json"]
    ran = command(str(source), tmp_path / "texts.txt", *more)
    assert 0 == ran.status, ran.stderr
    found = json.loads(ran.stdout)
    assert (found["agreement"] is None) == (num_labels == 1)
    before, after = (load_checkpoint(str(path)) for path in (source, output))
    assert before.label_names == after.label_names
    trace = trace_text(after, TEXTS[0][0])
    assert trace.unpruned is not None
    assert pytest.approx(trace_text(before, TEXTS[0][0]).logits, abs=1e-6) == trace.unpruned.logits
    assert store.read_manifest(output).name == "calibrated"
    # No path of this machine goes along: the folder's name says what was calibrated.
    assert "mine" == store.read_manifest(output).base["name"]
    assert str(tmp_path) not in (output / "pruning.json").read_text()
    refused = command(str(source), tmp_path / "texts.txt", *more)
    assert (2, True) == (refused.status, "is there already" in refused.stderr)
    assert 0 == command(str(output), tmp_path / "texts.txt", "--json", target="0.7").status


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression"])
def test_what_the_outputs_are_stays(own_store: Path, tmp_path: Path, problem: str) -> None:
    """Independent labels stay so, and several values stay values."""
    source = tiny.save_hugging_face("bert", tmp_path / "mine", num_labels=3)
    edited = json.loads((source / "config.json").read_text()) | {"problem_type": problem}
    (source / "config.json").write_text(json.dumps(edited))
    found = json.loads(command(str(source), tmp_path / "texts.txt", "--json").stdout)
    before, after = (load_checkpoint(str(path)) for path in (source, found["folder"]))
    assert problem == before.problem_type == after.problem_type
    assert (found["agreement"] is None) == (problem == "regression")
    saved = json.loads((Path(found["folder"]) / "model" / "config.json").read_text())
    assert problem == saved["problem_type"]


def test_a_calibrated_model_without_a_task_is_evaluated_and_measured(
    own_store: Path, tmp_path: Path
) -> None:
    """On the task that is named, as the model that it came from; unnamed, it says what to do."""
    source = tiny.save_hugging_face("bert", tmp_path / "mine", num_labels=2)
    data = tmp_path / "data"
    trainings.save_data(data, "sst2", train=10, validation=12)
    name = json.loads(command(str(source), tmp_path / "texts.txt", "--json").stdout)["checkpoint"]
    assert name.startswith("custom-calibrated-")
    refused = run("evaluate", name, "--data-dir", str(data))
    assert (2, True) == (refused.status, "give one with --task" in refused.stderr)
    ran = run("evaluate", name, "--task", "sst2", "--data-dir", str(data), "--records", "--json")
    assert 0 == ran.status, ran.stderr
    assert 12 == json.loads(ran.stdout)["rows"]
    records = store.read_manifest(own_store / "runs" / json.loads(ran.stdout)["records"])
    assert name == records.parent
    few = ["--limit", "8", "--batch-sizes", "4", "--repeats", "1", "--seconds", "0.1"]
    few += ["--lengths", "32", "--variants", "packed,packed_unpruned"]
    ran = run("bench", name, "--task", "sst2", "--data-dir", str(data), *few, "--json")
    assert 0 == ran.status, ran.stderr
    assert {"packed", "packed_unpruned"} == {
        line["contender"] for line in json.loads(ran.stdout)["results"]
    }


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "none.txt", "--target-relative-flops", "0.5"], "There is no file 'none.txt'"),
        (["--data", "texts.txt", "--target-relative-flops", "1.5"], "no fraction above 0"),
        (["--data", "texts.txt", "--target-relative-flops", "0"], "no fraction above 0"),
        (["--data", "texts.txt", "--target-relative-flops", "nan"], "no number"),
        (["--data", "texts.txt", "--target-relative-flops", "0.01"], "out of reach"),
        (["--data", "texts.txt"], "--target-relative-flops"),
        (["--target-relative-flops", "0.5"], "--data"),
        (["--data", "texts.txt", "--target-relative-flops", "0.5", "--column", "x"], "no columns"),
        (
            ["--data", "texts.txt", "--target-relative-flops", "0.5", "--rows", "0"],
            "no whole number",
        ),
        (["--data", "pairs.jsonl", "--target-relative-flops", "0.5"], "choose one with --column"),
    ],
)
def test_bad_input_is_one_sentence(
    own_store: Path, tmp_path: Path, arguments: list[str], words: str, monkeypatch: Any
) -> None:
    """Exit status 2, and no run is left behind."""
    monkeypatch.chdir(tmp_path)
    before = sorted((own_store / "runs").iterdir())
    ran = run("calibrate", REVIEWS_DENSE, *arguments)
    assert 2 == ran.status
    assert words in ran.stderr
    assert "Traceback" not in ran.stderr
    assert before == sorted((own_store / "runs").iterdir())


def test_costs_are_those_of_the_calibrated_method(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A source whose method reads states does not make the calibrated run's costs count them."""
    copy = tmp_path / "store"
    shutil.copytree(tiny_store, copy)
    monkeypatch.setenv("LTP_STORE", str(copy))
    pruning = copy / "runs" / REVIEWS / "pruning.json"
    raw = json.loads(pruning.read_text())
    raw["base"] |= {"reads_states": True, "hidden_size": 32}
    pruning.write_text(json.dumps(raw))
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(f"a good movie {'very ' * (i % 5)}long" for i in range(12)))
    out = tmp_path / "out"
    arguments = ("--data", str(texts), "--target-relative-flops", "0.9", "--output", str(out))
    ran = run("calibrate", REVIEWS, *arguments)
    assert 0 == ran.status, ran.stderr
    assert 32 == store.read_manifest(out).base["hidden_size"]
    assert "reads_states" not in store.read_manifest(out).base
