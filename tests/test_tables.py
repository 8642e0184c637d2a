"""Tables of a run: what is written is the documented format, and comes back."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core import store
from ltp_core.records import SCHEMA_VERSION, RunManifest
from ltp_core.store import StoreError
from tests.runs import finished_run, frames

ROOT = Path(__file__).resolve().parent.parent
FORMAT = ROOT / "data_cache" / "README.md"


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run in a store of its own."""
    return finished_run(store.run_folder(tmp_path, "sst2-ltp-0123456789"))


def documented_tables() -> dict[str, list[tuple[str, str, str]]]:
    """Column, type and whether it is required, by table, as data_cache/README.md has them."""
    tables: dict[str, list[tuple[str, str, str]]] = {}
    rows: list[tuple[str, str, str]] = []
    for line in FORMAT.read_text(encoding="utf-8").split("## Tables")[1].splitlines():
        if line.startswith("### "):
            rows = tables.setdefault(line[4:].strip(), [])
        elif line.startswith("| `"):
            name, kind, required, _ = (cell.strip() for cell in line.strip("|").split("|"))
            rows.append((name.strip("`"), kind, required))
    return tables


def test_the_readme_has_the_columns_that_the_code_knows() -> None:
    """Same tables, columns, order, types and requirements."""
    known = {
        kind: [(c.name, " or ".join(c.types), "yes" if c.is_required else "no") for c in columns]
        for kind, columns in store.TABLES.items()
    }
    assert documented_tables() == known


@pytest.mark.parametrize("kind", store.TABLES)
def test_what_is_written_has_the_columns_of_the_readme(kind: str, tmp_path: Path) -> None:
    """Names, order and types of the Parquet file itself."""
    schema = pq.read_schema(store.write_table(tmp_path, kind, frames()[kind]))
    written = [(field.name, str(field.type)) for field in schema]
    expected = []
    for name, types, _ in documented_tables()[kind]:
        numbered = {
            "threshold_*": ["threshold_1", "threshold_2"],
            "logit_*": ["logit_0", "logit_1"],
            "holds_*": ["holds_0", "holds_1"],
            "length_*": ["length_1", "length_2"],
        }
        expected += [(n, types.split(" or ")[0]) for n in numbered.get(name, [name])]
    assert written == expected


def test_the_readme_has_the_fields_of_the_manifest() -> None:
    """Every field, no other."""
    section = FORMAT.read_text(encoding="utf-8").split("## manifest.json")[1].split("## ")[0]
    documented = {line.split("`")[1] for line in section.splitlines() if line.startswith("| `")}
    assert documented == {field.name for field in dataclasses.fields(RunManifest)}


def test_the_readme_has_the_version() -> None:
    """The format version in words is the one in code."""
    assert f"Format version {SCHEMA_VERSION}." in FORMAT.read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", store.TABLES)
def test_a_table_comes_back_as_it_was(kind: str, run: Path) -> None:
    """Values survive, to float32."""
    frame = store.read_table(run, kind)
    pd.testing.assert_frame_equal(frame, frames()[kind], check_dtype=False, rtol=1e-6)


@given(st.lists(st.integers(-2, 40_000), min_size=1, max_size=20))
def test_integers_come_back_exact_or_are_refused(lengths: list[int]) -> None:
    """A length that does not fit 16 bits is an error, never another number."""
    frame = pd.DataFrame({"split": "validation", "row": range(len(lengths)), "length": lengths})
    frame = frame.assign(label=0, prediction=1)
    with tempfile.TemporaryDirectory() as name:
        if max(lengths) > 32_767:
            with pytest.raises(ValueError, match="examples: "):
                store.write_table(Path(name), "examples", frame)
            assert list(Path(name).iterdir()) == []
        else:
            store.write_table(Path(name), "examples", frame)
            assert store.read_table(Path(name), "examples")["length"].tolist() == lengths


def test_regression_values_are_floats(tmp_path: Path) -> None:
    """Label and prediction of a regression task keep their fractions."""
    frame = frames()["examples"].assign(label=[0.5, 2.25, 5.0], prediction=[1.125, 2.0, 4.5])
    store.write_table(tmp_path, "examples", frame)
    back = store.read_table(tmp_path, "examples")
    assert back["label"].tolist() == [0.5, 2.25, 5.0]
    assert back["prediction"].tolist() == [1.125, 2.0, 4.5]


def test_columns_may_come_in_any_order_and_twelve_thresholds_are_in_theirs(tmp_path: Path) -> None:
    """threshold_10 comes after threshold_9, not after threshold_1."""
    frame = pd.DataFrame({f"threshold_{i}": [0.1 * i] for i in range(12, 0, -1)})
    frame = frame.assign(loss=1.0, epoch=0.0, step=1, stage="soft")
    store.write_table(tmp_path, "history", frame)
    columns = list(store.read_table(tmp_path, "history").columns)
    assert columns[:4] == ["stage", "step", "epoch", "loss"]
    assert columns[4:] == [f"threshold_{i}" for i in range(1, 13)]


def test_a_filtered_frame_leaves_no_index_behind(tmp_path: Path) -> None:
    """The index of the frame is not a column of the file."""
    frame = frames()["examples"]
    store.write_table(tmp_path, "examples", frame[frame["row"] > 3])
    back = store.read_table(tmp_path, "examples")
    assert list(back.columns) == list(frame.columns)
    assert back["row"].tolist() == [5, 8]


def test_an_empty_table_keeps_its_columns(tmp_path: Path) -> None:
    """No row is no error: a run may have no trace."""
    store.write_table(tmp_path, "traces", frames()["traces"].iloc[:0])
    assert list(store.read_table(tmp_path, "traces").columns) == list(frames()["traces"].columns)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop(columns="length"), "lacks the column 'length'"),
        (lambda f: f.assign(text="a"), "no column 'text'"),
        (lambda f: f.assign(length=[1.0, np.nan, 2.0]), "examples"),
        (lambda f: f.assign(length=["a", "b", "c"]), "examples"),
    ],
    ids=["missing", "unknown", "hole", "text"],
)
def test_a_frame_that_is_not_the_format_is_not_written(
    change: Callable[[pd.DataFrame], pd.DataFrame], message: str, tmp_path: Path
) -> None:
    """Above all, no column that the format does not know, such as a text."""
    with pytest.raises(ValueError, match=message):
        store.write_table(tmp_path, "examples", change(frames()["examples"]))
    assert list(tmp_path.iterdir()) == []


def test_reading_what_is_not_there_names_the_run_and_the_file(tmp_path: Path) -> None:
    """A sentence, no traceback of a library."""
    with pytest.raises(StoreError, match=r"has no layers\.parquet"):
        store.read_table(tmp_path, "layers")


@pytest.mark.parametrize("kept", [0, 3, 100, -1])
def test_a_truncated_table_is_said_to_be_damaged(run: Path, kept: int) -> None:
    """Empty, without its beginning, middle or end."""
    path = run / "examples.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(StoreError, match=r"examples\.parquet of the run .* is damaged"):
        store.read_table(run, "examples")


def test_a_table_without_a_column_names_it(run: Path) -> None:
    """Another program's file in place of ours."""
    frames()["examples"].drop(columns="label").to_parquet(run / "examples.parquet")
    with pytest.raises(StoreError, match="lacks the column label"):
        store.read_table(run, "examples")
