"""A checkpoint as one directory: every command takes it where nothing else of ours is."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.export.folder import CARD
from ltp_core.predicting.scoring import Scorer
from tests import tiny
from tests.checkpoints import QUESTIONS, REVIEWS, save_questions
from tests.commands import run
from tests.trainings import Workplace

TEXTS = [(" ".join(tiny.WORDS[i : i + 1 + i % 9]),) for i in range(12)]


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], Path]:
    """Moves a folder to another machine, whose store is empty."""

    def move(folder: Path) -> Path:
        monkeypatch.setenv("LTP_STORE", str(tmp_path / "another store"))
        target = tmp_path / "another machine" / "my model"
        shutil.copytree(folder, target)
        shutil.rmtree(folder)
        return target

    return move


def test_it_moves(tiny_store: Path, tmp_path: Path, elsewhere: Callable[[Path], Path]) -> None:
    """Logits, thresholds, labels and records come along; commands run there."""
    before = load_checkpoint(REVIEWS)
    logits = Scorer(before)(TEXTS).logits
    out = tmp_path / "out"
    ran = run("export", REVIEWS, "--format", "folder", "--output", str(out), "--json")
    assert 0 == ran.status, ran.stderr
    assert json.loads(ran.stdout)["pruned"]
    moved = elsewhere(out)
    after = load_checkpoint(str(moved))
    assert after.method.state_json() == before.method.state_json()
    for name in ("task", "label_names", "max_length", "dense", "is_multi_label"):
        assert getattr(after, name) == getattr(before, name)
    np.testing.assert_allclose(logits, Scorer(after)(TEXTS).logits, atol=1e-6)
    assert 0 == run("trace", str(moved), "a great movie").status
    (tmp_path / "in.csv").write_text("text\na great movie\n")
    arguments = (
        "predict",
        str(moved),
        str(tmp_path / "in.csv"),
        "--out",
        str(tmp_path / "out.csv"),
    )
    assert 0 == run(*arguments).status
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(text for (text,) in TEXTS))
    calibrated = run(
        "calibrate", str(moved), "--data", str(texts), "--target-relative-flops", "0.9"
    )
    assert 0 == calibrated.status, calibrated.stderr
    again = ("export", str(moved), "--format", "folder", "--output", str(tmp_path / "again"))
    assert 0 == run(*again).status


def test_the_adapter_alone_needs_its_base_only(
    trained_workplace: Workplace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    elsewhere: Callable[[Path], Path],
) -> None:
    """Without the base's weights in it the folder says what the run says, bit by bit."""
    monkeypatch.setenv("LTP_STORE", str(trained_workplace.store))
    name, out = trained_workplace.config("lora").name, tmp_path / "out"
    before = load_checkpoint(name)
    logits = Scorer(before)(TEXTS).logits
    ran = run("export", name, "--format", "folder", "--adapter", "--output", str(out), "--json")
    assert 0 == ran.status, ran.stderr
    written = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    adapter = {"adapter/adapter_config.json", "adapter/adapter_model.safetensors"}
    assert written == adapter | {CARD, "pruning.json", "config.json", store.MANIFEST}
    card = (out / CARD).read_text()
    assert "an adapter of the base model" in card
    assert str(trained_workplace.folder) not in card
    after = load_checkpoint(str(elsewhere(out)))
    assert after.method.state_json() == before.method.state_json()
    assert np.array_equal(logits, Scorer(after)(TEXTS).logits)


def test_the_card_has_measured_figures_only(tiny_store: Path, tmp_path: Path) -> None:
    """Figures of the run and of its dense counterpart, labels, thresholds; no path of this machine."""
    out = tmp_path / "out"
    run("export", REVIEWS, "--format", "folder", "--output", str(out))
    card = (out / CARD).read_text()
    for words in (
        "negative, positive",
        "32 tokens",
        "validation",
        "0.9000 | 0.9000",
        "0.500",
        REVIEWS,
    ):
        assert words in card
    assert "nan" not in card
    assert str(tmp_path) not in card
    assert str(tiny_store) not in card


def test_a_folder_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Independent labels stay independent, nothing is said to have been measured."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    foreign = tiny.save_hugging_face(
        "bert", tmp_path / "theirs", problem_type="multi_label_classification"
    )
    out = tmp_path / "out"
    assert 0 == run("export", str(foreign), "--format", "folder", "--output", str(out)).status
    before, after = load_checkpoint(str(foreign)), load_checkpoint(str(out))
    assert (True, None) == (after.is_multi_label, after.task)
    assert before.label_names == after.label_names
    np.testing.assert_allclose(Scorer(before)(TEXTS).logits, Scorer(after)(TEXTS).logits, atol=1e-6)
    assert "Nothing:" in (out / CARD).read_text()
    assert str(tmp_path) not in (out / "pruning.json").read_text()


def test_questions_go_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """How questions are answered is a part of the folder."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    save_questions(tmp_path / "store")
    out = tmp_path / "out"
    assert 0 == run("export", QUESTIONS, "--format", "folder", "--output", str(out)).status
    assert load_checkpoint(QUESTIONS).questions == load_checkpoint(str(out)).questions


def test_what_is_there_is_replaced_whole(tiny_store: Path, tmp_path: Path) -> None:
    """An earlier export alone, if it is asked for; no temporary folder is left either."""
    out = tmp_path / "out"
    arguments = ("export", REVIEWS, "--format", "folder", "--output", str(out))
    assert 0 == run(*arguments).status
    (out / "mine.txt").write_text("mine")
    assert 2 == run(*arguments).status
    assert (out / "mine.txt").exists()
    assert 0 == run(*arguments, "--force").status
    assert not (out / "mine.txt").exists()
    assert [out] == list(tmp_path.iterdir())
    refused = run(*arguments, "--force", "--adapter")
    assert 2 == refused.status
    assert "no adapter" in refused.stderr
    assert (out / CARD).exists()
    assert 2 == run("export", REVIEWS, "--format", "onnx", "--adapter").status


def test_nothing_but_an_export_is_replaced(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither a file, nor what holds the checkpoint or the working directory; all stays as it was."""
    copy = tmp_path / "store"
    shutil.copytree(tiny_store, copy)
    monkeypatch.setenv("LTP_STORE", str(copy))
    (tmp_path / "file").write_text("mine")
    (tmp_path / "documents").mkdir()
    (tmp_path / "documents" / "mine.txt").write_text("mine")
    (tmp_path / "here" / "inside").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here" / "inside")
    before = sorted(tmp_path.rglob("*"))
    for output, word in (
        (tmp_path / "file", "is a file"),
        (tmp_path / "documents", "something else"),
        (copy / "runs" / REVIEWS, "the checkpoint itself"),
        (copy, "something else"),
        (tmp_path / "here" / "inside", "the working directory"),
        (tmp_path / "here", "something else"),
    ):
        ran = run("export", REVIEWS, "--format", "folder", "--output", str(output), "--force")
        assert 2 == ran.status
        assert word in ran.stderr
        assert before == sorted(tmp_path.rglob("*"))


def test_a_budget_has_no_records(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Figures of another strength do not go along; the curve of the trained one does."""
    copy = tmp_path / "store"
    shutil.copytree(tiny_store, copy)
    monkeypatch.setenv("LTP_STORE", str(copy))
    curve = pd.DataFrame(
        {
            "split": "heldout",
            "factor": [0.0, 1.0],
            "rows": 10,
            "metric": [0.9, 0.8],
            "relative_flops_paper": [1.0, 0.5],
            "relative_flops_executed": [1.0, 0.5],
        }
    )
    store.write_table(copy / "runs" / REVIEWS, "curve", curve)
    arguments = ("export", REVIEWS, "--format", "folder", "--output")
    assert 0 == run(*arguments, str(tmp_path / "half"), "--budget", "0.75").status
    assert "Nothing:" in (tmp_path / "half" / CARD).read_text()
    assert not (tmp_path / "half" / store.MANIFEST).exists()
    assert 0 == run(*arguments, str(tmp_path / "whole")).status
    assert "0.9000" in (tmp_path / "whole" / CARD).read_text()
    half = load_checkpoint(str(tmp_path / "half")).method.state_json()
    assert load_checkpoint(str(tmp_path / "whole"), budget=0.75).method.state_json() == half
