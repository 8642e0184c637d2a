"""Rows from Parquet folders and from the hub's cache, and what is said where there are none."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ltp_core.tasks import hub
from ltp_core.tasks.catalogue import TASKS
from ltp_core.tasks.files import DataError
from ltp_core.tasks.loading import load_rows

STRANGE = ["", " ", "a\x00b", "\u202eright to left", "<script>alert(1)</script>", "é\r\n\t😀", "NA"]


@pytest.fixture(autouse=True)
def _no_data_at_hand(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whatever this machine has in folders and caches, the tests do not see it."""
    monkeypatch.delenv("LTP_DATA_DIR", raising=False)
    for variable in ("HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "no-cache"))
    monkeypatch.delenv("HF_DATASETS_CACHE", raising=False)


def glue_frame(task: str, texts: list[str], labels: list[float] | None = None) -> pd.DataFrame:
    """A split in the hub's schema; the second text of a pair is the first one reversed."""
    spec = TASKS[task]
    frame = pd.DataFrame({spec.text_columns[0]: texts})
    if spec.is_pair:
        frame[spec.text_columns[1]] = [text[::-1] for text in texts]
    classes = [i % spec.num_labels for i in range(len(texts))]
    frame["label"] = np.array(labels or classes, dtype="f4" if spec.is_regression else "i8")
    return frame.assign(idx=np.arange(len(texts), dtype="i4"))


def glue_folder(folder: Path, task: str, split: str, frame: pd.DataFrame) -> Path:
    """Writes a split where the loader looks for it."""
    path = folder / task / f"{split}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_parquet(path)
    return folder


def some_texts(count: int) -> list[str]:
    """Texts that differ."""
    return [f"text number {i}" for i in range(count)]


@pytest.mark.parametrize("task", [name for name, task in TASKS.items() if task.source == "glue"])
def test_a_folder_in_the_hubs_schema_is_read_in_order(task: str, tmp_path: Path) -> None:
    """Texts, labels and row numbers; the folder by argument or by environment."""
    frame = glue_frame(task, some_texts(7))
    glue_folder(tmp_path, task, TASKS[task].validation_split, frame)
    rows = load_rows(task, "validation", data_dir=tmp_path)
    columns = [frame[name].tolist() for name in TASKS[task].text_columns]
    assert rows.texts == list(zip(*columns, strict=True))
    assert rows.labels.tolist() == frame["label"].tolist()
    assert rows.labels.dtype == (np.float64 if task == "stsb" else np.int64)
    assert rows.row.tolist() == list(range(7))
    assert str(tmp_path) not in rows.source


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LTP_DATA_DIR, unless a folder is given."""
    glue_folder(tmp_path / "a", "rte", "validation", glue_frame("rte", some_texts(3)))
    glue_folder(tmp_path / "b", "rte", "validation", glue_frame("rte", some_texts(4)))
    monkeypatch.setenv("LTP_DATA_DIR", str(tmp_path / "a"))
    assert len(load_rows("rte", "validation")) == 3
    assert len(load_rows("rte", "validation", data_dir=tmp_path / "b")) == 4


def test_both_validation_splits_of_mnli(tmp_path: Path) -> None:
    """`validation` is the matched one."""
    glue_folder(tmp_path, "mnli", "validation_matched", glue_frame("mnli", some_texts(3)))
    glue_folder(tmp_path, "mnli", "validation_mismatched", glue_frame("mnli", some_texts(5)))
    assert len(load_rows("mnli", "validation", data_dir=tmp_path)) == 3
    assert len(load_rows("mnli", "validation_mismatched", data_dir=tmp_path)) == 5


def test_strange_texts_pass_untouched(tmp_path: Path) -> None:
    """NUL, markup, controls, emoji, blanks, and what pandas takes for missing."""
    glue_folder(tmp_path, "sst2", "validation", glue_frame("sst2", STRANGE))
    assert load_rows("sst2", "validation", data_dir=tmp_path).texts == [(t,) for t in STRANGE]


def test_rows_without_a_label_are_left_out_and_keep_the_numbers(tmp_path: Path) -> None:
    """-1 is the hub's mark for a hidden label; row numbers stay those of the source."""
    frame = glue_frame("sst2", some_texts(4), [0, -1, 1, -1])
    rows = load_rows(
        "sst2", "validation", data_dir=glue_folder(tmp_path, "sst2", "validation", frame)
    )
    assert rows.row.tolist() == [0, 2]
    assert rows.labels.tolist() == [0, 1]
    assert rows.source.endswith("2 of 4 rows have no label and are left out")
    glue_folder(tmp_path, "stsb", "validation", glue_frame("stsb", some_texts(3), [-1, 0.5, 5]))
    assert load_rows("stsb", "validation", data_dir=tmp_path).labels.tolist() == [0.5, 5]


def test_labels_may_be_names_of_classes_and_missing(tmp_path: Path) -> None:
    """Names stand for their class, whatever order they occur in; null is no label, as -1."""
    frame = pd.DataFrame({"sentence": list("abc"), "label": ["positive", None, "negative"]})
    folder = glue_folder(tmp_path, "sst2", "validation", frame)
    rows = load_rows("sst2", "validation", data_dir=folder)
    assert ([1, 0], [0, 2]) == (rows.labels.tolist(), rows.row.tolist())
    table = pa.table({"sentence": ["a", "b"], "label": pa.array([None, 1], pa.int64())})
    pq.write_table(table, folder / "sst2" / "validation.parquet")
    rows = load_rows("sst2", "validation", data_dir=folder)
    assert [1] == rows.labels.tolist()
    assert "1 of 2 rows have no label" in rows.source


def test_a_split_without_any_label_is_an_error(tmp_path: Path) -> None:
    """Nothing can be measured on it."""
    frame = glue_frame("sst2", some_texts(2), [-1, -1])
    glue_folder(tmp_path, "sst2", "validation", frame)
    with pytest.raises(DataError, match="no labelled row"):
        load_rows("sst2", "validation", data_dir=tmp_path)


def test_a_derived_training_file_stands_in_and_says_so(tmp_path: Path) -> None:
    """Only where the published one is missing."""
    glue_folder(tmp_path, "qnli", "train_derived", glue_frame("qnli", some_texts(40)))
    derived = load_rows("qnli", "train", data_dir=tmp_path)
    assert "derived, not the published split" in derived.source
    glue_folder(tmp_path, "qnli", "train", glue_frame("qnli", some_texts(60)))
    published = load_rows("qnli", "train", data_dir=tmp_path)
    assert "derived" not in published.source
    assert len(published) > len(derived)


def test_a_limit_keeps_order_numbers_and_labels(tmp_path: Path) -> None:
    """A subset of the whole, chosen by the seed; more than there is takes all."""
    folder = glue_folder(tmp_path, "sst2", "validation", glue_frame("sst2", some_texts(50)))
    whole = load_rows("sst2", "validation", data_dir=folder)
    part = load_rows("sst2", "validation", data_dir=folder, limit=9)
    assert part.row.tolist() == sorted(set(part.row.tolist()))
    assert part.texts == [whole.texts[i] for i in part.row]
    assert part.labels.tolist() == whole.labels[part.row].tolist()
    assert load_rows("sst2", "validation", data_dir=folder, limit=99).sha256 == whole.sha256
    other = load_rows("sst2", "validation", data_dir=folder, limit=9, seed=1)
    assert other.row.tolist() != part.row.tolist()
    with pytest.raises(DataError, match="from 1 on"):
        load_rows("sst2", "validation", data_dir=folder, limit=0)


def test_some_of_the_rows_can_be_taken(tmp_path: Path) -> None:
    """In any order; the hash and the source go on naming the whole split."""
    folder = glue_folder(tmp_path, "sst2", "validation", glue_frame("sst2", some_texts(5)))
    whole = load_rows("sst2", "validation", data_dir=folder)
    part = whole.take(np.array([3, 1]))
    assert part.row.tolist() == [3, 1]
    assert part.texts == [("text number 3",), ("text number 1",)]
    assert part.labels.tolist() == [1, 1]
    assert (part.sha256, part.source, part.split) == (whole.sha256, whole.source, "validation")


def test_the_hash_follows_the_content(tmp_path: Path) -> None:
    """The same rows give the same hash from another folder; another label, text or number does not."""
    hashes = []
    for i, (texts, labels) in enumerate(
        [
            (["a", "b"], [0, 1]),
            (["a", "b"], [0, 1]),
            (["a", "b"], [1, 1]),
            (["a", "c"], [0, 1]),
            (["a", "x", "b"], [0, -1, 1]),
        ]
    ):
        folder = tmp_path / str(i)
        glue_folder(folder, "sst2", "validation", glue_frame("sst2", texts, labels))
        hashes.append(load_rows("sst2", "validation", data_dir=folder).sha256)
    assert hashes[0] == hashes[1]
    assert len(set(hashes)) == 4


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            pd.DataFrame({"text": ["a"], "label": [0]}),
            "column 'sentence' is missing; .*text, label",
        ),
        (pd.DataFrame({"sentence": ["a"]}), "column 'label' is missing"),
        (
            pd.DataFrame({"sentence": [1], "label": [0]}),
            "row 1: column 'sentence' must hold a text",
        ),
        (pd.DataFrame({"sentence": ["a", None], "label": [0, 1]}), "row 2: column 'sentence'"),
        (
            pd.DataFrame({"sentence": ["a"], "label": ["good"]}),
            "row 1: the label is 'good'.*positive",
        ),
        (pd.DataFrame({"sentence": ["a"], "label": [0.5]}), "row 1: the label is 0.5"),
        (pd.DataFrame({"sentence": ["a"], "label": [True]}), "row 1: the label is True"),
        (
            pd.DataFrame({"sentence": ["a", "b"], "label": [0, 2]}),
            "row 2: the label is 2; sst2 wants 0 to 1",
        ),
        (pd.DataFrame({"sentence": ["a"], "label": [-2]}), "row 1: the label is -2"),
    ],
)
def test_a_file_of_another_shape_says_what_is_wrong(
    frame: pd.DataFrame, message: str, tmp_path: Path
) -> None:
    """Wrong columns, no texts, no classes."""
    glue_folder(tmp_path, "sst2", "validation", frame)
    with pytest.raises(DataError, match=message):
        load_rows("sst2", "validation", data_dir=tmp_path)


@pytest.mark.parametrize("kept", [0, 5, 200, -1])
def test_a_truncated_file_says_to_fetch_it_again(kept: int, tmp_path: Path) -> None:
    """Empty, without its beginning, middle or end."""
    glue_folder(tmp_path, "sst2", "validation", glue_frame("sst2", some_texts(50)))
    path = tmp_path / "sst2" / "validation.parquet"
    path.write_bytes(path.read_bytes()[:kept])
    with pytest.raises(DataError, match=r"validation\.parquet cannot be read .* fetch it again"):
        load_rows("sst2", "validation", data_dir=tmp_path)


@pytest.mark.parametrize("split", ["train", "heldout", "validation"])
def test_absent_data_answers_at_once(split: str, tmp_path: Path) -> None:
    """Within a second, saying what to do; no folder, an empty folder, no such folder."""
    start = time.perf_counter()
    with pytest.raises(
        DataError, match=r"not in the Hugging Face cache: .* --data-dir or LTP_DATA"
    ):
        load_rows("sst2", split)
    with pytest.raises(DataError, match=r"neither in .*sst2 nor in the Hugging Face cache"):
        load_rows("sst2", split, data_dir=tmp_path)
    with pytest.raises(DataError, match=r"data folder .*absent does not exist"):
        load_rows("sst2", split, data_dir=tmp_path / "absent")
    assert time.perf_counter() - start < 1


def test_an_unknown_split_names_those_that_there_are() -> None:
    """GLUE's test rows have no labels, so there is no such split."""
    with pytest.raises(DataError, match="sst2 has no split 'test'; it has train, heldout, valid"):
        load_rows("sst2", "test")


@pytest.fixture
def fake_hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[object, ...]]:
    """Stands in for `datasets.load_dataset`; the calls and whether the hub was open."""
    datasets = pytest.importorskip("datasets")
    calls: list[tuple[object, ...]] = []

    def load_dataset(path: str, config: str, *, split: str) -> object:
        calls.append((path, config, split, datasets.config.HF_HUB_OFFLINE))
        if split == "train":
            raise ConnectionError("no way out\nof here")
        return datasets.Dataset.from_pandas(glue_frame(config, STRANGE))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    return calls


def test_the_cache_of_the_hub_is_read_offline(
    fake_hub: list[tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A prepared data set is found, with the way to the hub closed."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    (tmp_path / "nyu-mll___glue" / "mnli").mkdir(parents=True)
    rows = load_rows("mnli", "validation")
    assert rows.texts == [(text, text[::-1]) for text in STRANGE]
    assert rows.source == "hub data set nyu-mll/glue, mnli/validation_matched"
    assert fake_hub == [("nyu-mll/glue", "mnli", "validation_matched", True)]


def test_downloads_open_the_hub_only_when_allowed(
    fake_hub: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not against HF_HUB_OFFLINE; afterwards the setting is what it was."""
    import datasets

    before = datasets.config.HF_HUB_OFFLINE
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    load_rows("rte", "validation", allow_downloads=True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    load_rows("rte", "validation", allow_downloads=True)
    assert [call[-1] for call in fake_hub] == [False, True]
    assert datasets.config.HF_HUB_OFFLINE is before


def test_a_failure_of_the_hub_is_one_sentence(fake_hub: list[tuple[object, ...]]) -> None:
    """With the library's reason in brackets."""
    with pytest.raises(DataError, match=r"LTP_DATA_DIR\. \(no way out\)$"):
        load_rows("rte", "train", allow_downloads=True)
    assert len(fake_hub) == 1


def test_the_cache_is_looked_up_where_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """HF_HOME and XDG_CACHE_HOME, as the library reads them."""
    assert not hub.is_cached("nyu-mll/glue", "rte")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    (tmp_path / "datasets" / "nyu-mll___glue" / "rte").mkdir(parents=True)
    assert hub.is_cached("nyu-mll/glue", "rte")
    monkeypatch.delenv("HF_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    (tmp_path / "huggingface").symlink_to(tmp_path)
    assert hub.is_cached("nyu-mll/glue", "rte")


def test_the_environment_is_left_alone() -> None:
    """Loading sets no variable."""
    before = dict(os.environ)
    with pytest.raises(DataError):
        load_rows("sst2", "train")
    assert dict(os.environ) == before
