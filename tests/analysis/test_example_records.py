"""Per-example records of a stored run as arrays: they are the tables, and broken tables are refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ltp_core import store
from ltp_core.analysis.example_records import ModelSize, evaluated_splits, model_size, read_examples
from ltp_core.flops import ACCOUNTINGS
from ltp_core.store import StoreError
from tests import length_runs, runs

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run with records."""
    return length_runs.save_run(tmp_path, length_runs.LTP)


def test_records_are_the_tables(run: Path) -> None:
    """Every array is its column, whatever the order of the lines in the files."""
    expected = read_examples(run, "validation")
    for kind in ("examples", "layers"):
        shuffled = store.read_table(run, kind).sample(frac=1, random_state=0)
        store.write_table(run, kind, shuffled)
    found = read_examples(run, "validation")
    for name, value in vars(expected).items():
        assert np.array_equal(value, getattr(found, name)), name
    assert (120, 4) == found.ffn_length.shape == found.attention_length.shape
    assert found.row.tolist() == sorted(found.row)
    layers = store.read_table(run, "layers").set_index(["row", "layer"])
    assert layers.loc[(found.row[7], 2), "ffn_length"] == found.ffn_length[7, 2]


def test_flops_of_all_examples_are_those_of_the_summary(run: Path) -> None:
    """Per-example FLOPs sum to the stored relative FLOPs in both accountings."""
    records, manifest = read_examples(run, "validation"), store.read_manifest(run)
    whole = records.unpruned_flops()
    assert whole is not None
    for accounting in ACCOUNTINGS:
        part = records.flops(accounting)
        assert part is not None
        expected = manifest.summary["validation"]["relative_flops"][accounting]
        assert pytest.approx(expected, rel=1e-12) == part.sum() / whole.sum()


def test_shipped_runs_say_the_same_in_records_and_summary() -> None:
    """The size that is known for their base is the one that they were counted with."""
    for entry in store.list_runs([ROOT / "data_cache" / "sample"]):
        assert entry.manifest, entry.name
        for split in evaluated_splits(entry.manifest):
            records = read_examples(entry.folder, split)
            part, whole = records.flops("paper"), records.unpruned_flops()
            assert part is not None
            assert whole is not None
            expected = entry.manifest.summary[split]["relative_flops"]["paper"]
            found = part.sum() / whole.sum()
            assert pytest.approx(expected, rel=1e-12) == found, (entry.name, split)


def test_the_size_is_found_in_order(tmp_path: Path) -> None:
    """Manifest, then the saved configuration, then the known base; else it is not known."""
    said = runs.manifest(base={"name": "x", "hidden_size": 8, "intermediate_size": 12})
    assert ModelSize(hidden=8, intermediate=12) == model_size(tmp_path, said)
    assert model_size(tmp_path, runs.manifest(base={"name": "x"})) is None
    known = runs.manifest(base={"name": "sentence-transformers/all-MiniLM-L6-v2"})
    assert ModelSize(hidden=384, intermediate=1536) == model_size(tmp_path, known)
    config = {"hidden_size": 4, "intermediate_size": 6}
    store.write_json(tmp_path / "model" / "config.json", config)
    assert ModelSize(hidden=4, intermediate=6) == model_size(tmp_path, known)
    for text in ("[]", "{", json.dumps({"hidden_size": "8", "intermediate_size": 2})):
        (tmp_path / "model" / "config.json").write_text(text)
        assert model_size(tmp_path, runs.manifest(base={"name": "x"})) is None


def test_without_a_size_there_are_no_flops(tmp_path: Path) -> None:
    """Everything else is there."""
    run = length_runs.save_run(tmp_path, length_runs.LTP, base={"name": "unheard of"})
    records = read_examples(run, "validation")
    assert records.flops("paper") is None
    assert records.unpruned_flops() is None
    assert records.is_correct is not None


def test_regression_has_no_right_or_wrong(tmp_path: Path) -> None:
    """A value is near or far."""
    run = length_runs.save_run(tmp_path, "stsb-ltp-00000000aa")
    assert read_examples(run, "validation").is_correct is None


@pytest.mark.parametrize(
    "change",
    [
        lambda f: f.iloc[:-1],
        lambda f: f[f["row"] > 0],
        lambda f: pd.concat([f, f.iloc[:1]]),
        lambda f: f.assign(layer=0),
        lambda f: f.iloc[:0],
    ],
    ids=["one short", "an example short", "one twice", "one layer", "empty"],
)
def test_tables_that_do_not_fit_are_refused(
    run: Path, change: Callable[[pd.DataFrame], pd.DataFrame]
) -> None:
    """A sentence that names the run."""
    store.write_table(run, "layers", change(store.read_table(run, "layers")))
    with pytest.raises(StoreError, match=r"every layer of every example once"):
        read_examples(run, "validation")


def test_another_split_is_said(run: Path) -> None:
    """Not evaluated on it."""
    with pytest.raises(StoreError, match="was not evaluated on test"):
        read_examples(run, "test")
    (run / "layers.parquet").unlink()
    with pytest.raises(StoreError, match="has no layers"):
        read_examples(run, "validation")
