"""The cheap curve: other strengths of a trained checkpoint, measured and kept with its run."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.evaluate import evaluate_checkpoint, measure_curve, save_curve
from ltp_core.records import UserError
from tests import checkpoints, trainings
from tests.commands import run


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a pruned run for pairs, and data for it."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    checkpoints.save_run(tmp_path, checkpoints.PAIRS)
    checkpoints.save_run(tmp_path, "mrpc-unpruned-0123456789")
    trainings.save_data(tmp_path / "data", "mrpc")
    return tmp_path


def command(place: Path, *options: str, name: str = checkpoints.PAIRS) -> Any:
    """`evaluate` with these options."""
    return run("evaluate", name, "--data-dir", str(place / "data"), *options, "--json")


def test_strengths_run_from_unpruned_to_all_but_nothing(place: Path) -> None:
    """At 0 everything stays, at 1 the run is itself, and FLOPs fall with the strength."""
    ran = command(place, "--scales", "1,0,0.5,9,1")
    document = json.loads(ran.stdout)
    curve = document["curve"]
    assert [0, 0.5, 1, 9] == [point["factor"] for point in curve]
    assert {"paper": 1.0, "executed": 1.0} == curve[0]["relative_flops"]
    assert document["same_weights_unpruned_metrics"] == curve[0]["metrics"]
    assert document["metrics"] == curve[2]["metrics"]
    assert document["relative_flops"] == curve[2]["relative_flops"]
    costs = [point["relative_flops"]["paper"] for point in curve]
    assert costs == sorted(costs, reverse=True)
    assert costs[-1] < costs[0]
    assert not (store.find_run(checkpoints.PAIRS) / "curve.parquet").exists()


def test_without_scales_there_is_no_curve(place: Path) -> None:
    """The document is what it was."""
    assert "curve" not in json.loads(command(place).stdout)


def test_the_text_says_that_nothing_was_retrained(place: Path) -> None:
    """A table under its own heading."""
    ran = run("evaluate", checkpoints.PAIRS, "--data-dir", str(place / "data"), "--scales", "0.5")
    assert (
        "Not retrained:\nstrength  accuracy_f1  FLOPs, paper  FLOPs, executed\n× 0.5" in ran.stdout
    )


def test_a_curve_is_kept_with_its_run(place: Path) -> None:
    """Table, provenance and manifest agree, and the run is as complete as before."""
    before = store.read_manifest(store.find_run(checkpoints.PAIRS))
    ran = command(place, "--scales", "0,1", "--save")
    assert 0 == ran.status, ran.stderr
    folder = store.find_run(checkpoints.PAIRS)
    frame = store.read_table(folder, "curve")
    document = json.loads(ran.stdout)
    assert ["validation"] * 2 == frame["split"].tolist()
    assert [0, 1] == frame["factor"].tolist()
    assert [document["rows"]] * 2 == frame["rows"].tolist()
    expected = [point["metrics"]["accuracy_f1"] for point in document["curve"]]
    assert expected == pytest.approx(frame["metric"].tolist(), abs=1e-6)
    [entry] = [e for e in store.list_runs() if e.name == checkpoints.PAIRS]
    assert entry.problem is None
    assert entry.manifest is not None
    assert "curve.parquet" in [file.name for file in entry.manifest.files]
    measured = entry.manifest.summary.pop("curve")
    assert {"created_at", "git", "hardware"} == set(measured["validation"])
    assert before.summary == entry.manifest.summary
    assert before.created_at == entry.manifest.created_at


def test_a_second_curve_replaces_its_own_split_only(place: Path) -> None:
    """Held-out rows and validation stand side by side."""
    command(place, "--scales", "0,1", "--save")
    command(place, "--scales", "0.5", "--save", "--split", "heldout")
    command(place, "--scales", "2", "--save")
    frame = store.read_table(store.find_run(checkpoints.PAIRS), "curve")
    assert {("heldout", 0.5), ("validation", 2)} == set(zip(frame.split, frame.factor, strict=True))
    summary = store.read_manifest(store.find_run(checkpoints.PAIRS)).summary
    assert {"heldout", "validation"} == set(summary["curve"])


def test_a_folder_outside_the_stores_keeps_its_own_curve(place: Path, tmp_path: Path) -> None:
    """A path means the run in that folder, whatever its name is elsewhere."""
    import shutil

    moved = tmp_path / "elsewhere" / checkpoints.PAIRS
    shutil.copytree(store.find_run(checkpoints.PAIRS), moved)
    assert 0 == command(place, "--scales", "1", "--save", name=str(moved)).status
    assert (moved / "curve.parquet").exists()
    assert not (store.find_run(checkpoints.PAIRS) / "curve.parquet").exists()


def test_a_kept_curve_has_the_rows_of_its_run(place: Path) -> None:
    """A run that was evaluated on a part of the split is drawn beside the same part."""
    folder = store.find_run(checkpoints.PAIRS)
    manifest = store.read_manifest(folder)
    config = {**manifest.config, "data": {"validation_rows": 3}}
    store.finish_run(folder, dataclasses.replace(manifest, config=config))
    ran = command(place, "--scales", "1", "--save", "--records")
    command(place, "--scales", "1", "--save", "--split", "heldout")
    rows = store.read_table(folder, "curve").set_index("split")["rows"]
    assert 3 == rows["validation"] < rows["heldout"]
    records = store.read_manifest(store.find_run(json.loads(ran.stdout)["records"]))
    assert 3 == records.config["evaluation"]["limit"]
    assert 3 == records.summary["validation"]["rows"]


@pytest.fixture
def shipped(place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The run for pairs, as if it had come with the project."""
    cache = tmp_path / "cache"
    folder = cache / "sample" / "runs" / checkpoints.PAIRS
    folder.parent.mkdir(parents=True)
    store.run_folder(place, checkpoints.PAIRS).rename(folder)
    monkeypatch.setattr(store, "_DATA_CACHE", cache)
    return folder


def test_a_shipped_run_is_copied_before_it_is_added_to(place: Path, shipped: Path) -> None:
    """What came with the project stays as it came; the copy has everything and the curve."""
    before = {path: path.read_bytes() for path in shipped.rglob("*") if path.is_file()}
    assert 0 == command(place, "--scales", "1", "--save").status
    assert before == {path: path.read_bytes() for path in shipped.rglob("*") if path.is_file()}
    own = store.find_run(checkpoints.PAIRS)
    assert own == store.run_folder(place, checkpoints.PAIRS)
    assert (own / "curve.parquet").exists()
    assert 0 == command(place, "--scales", "2", "--save").status
    assert [2] == store.read_table(own, "curve")["factor"].tolist()
    assert 0 == command(place, "--scales", "1", "--save", name=str(shipped)).status
    assert [1] == store.read_table(own, "curve")["factor"].tolist()
    assert all(entry.problem is None for entry in store.list_runs())


def test_a_shipped_runs_curve_is_not_kept_with_another_training_of_it(
    place: Path, shipped: Path
) -> None:
    """Same name, other weights: neither run gets the other's figures."""
    own = checkpoints.save_run(place, checkpoints.PAIRS)
    weights = own / "model" / "model.safetensors"
    changed = {name: tensor + 0.01 for name, tensor in load_file(weights).items()}
    save_file(changed, weights, metadata={"format": "pt"})
    store.finish_run(own, store.read_manifest(own))
    ran = command(place, "--scales", "1", "--save", name=str(shipped))
    assert (2, "") == (ran.status, ran.stdout)
    assert "has other weights: set LTP_STORE to another store" in ran.stderr
    assert not (own / "curve.parquet").exists()


def test_a_shipped_run_is_not_copied_over_an_unfinished_one(place: Path, shipped: Path) -> None:
    """What a killed training left goes on being its own."""
    own = checkpoints.save_run(place, checkpoints.PAIRS)
    (own / store.MANIFEST).unlink()
    before = {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}
    ran = command(place, "--scales", "1", "--save", name=str(shipped))
    assert (2, "") == (ran.status, ran.stdout)
    assert "holds a run that is not complete: finish it" in ran.stderr
    assert before == {path: path.read_bytes() for path in own.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--save"], "--save keeps the figures of --scales: name some"),
        (["--save", "--scales", "1", "--limit", "5"], "leave --limit and --task out"),
        (["--scales", "1,x"], "'x' is no number from 0 on"),
        (["--scales", "-1"], "is no number from 0 on"),
        (["--scales", ""], "'' is no number from 0 on"),
    ],
)
def test_bad_options_are_refused(place: Path, options: list[str], message: str) -> None:
    """Usage errors say what to do and cost nothing."""
    refused = command(place, *options)
    assert (2, "") == (refused.status, refused.stdout)
    assert message in refused.stderr


def test_a_method_without_a_knob_is_refused(place: Path) -> None:
    """Nothing can be scaled where nothing is pruned."""
    refused = command(place, "--scales", "1", name="mrpc-unpruned-0123456789")
    assert 2 == refused.status
    assert "prunes by unpruned, which cannot prune more or less" in refused.stderr


def test_a_run_in_use_is_not_touched(place: Path) -> None:
    """Another process that trains it again would lose or double something."""
    model = load_checkpoint(checkpoints.PAIRS)
    folder = store.find_run(checkpoints.PAIRS)

    def evaluate(*arguments: Any, **options: Any) -> Any:
        return evaluate_checkpoint(*arguments, data_dir=place / "data", **options)

    points = measure_curve(model, [1.0], evaluate)
    with store.lock_run(folder), pytest.raises(UserError, match="is being trained"):
        save_curve(folder, points, device="cpu")
    assert not (folder / "curve.parquet").exists()
