"""Stored length counts: what is written comes back, is documented, and holds no text."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.lengths.counts import (
    FORMAT_VERSION,
    PUBLISHED_ROWS,
    LengthCounts,
    LengthSet,
    LengthSetError,
    SplitLengths,
    TokenizerFacts,
    list_sets,
    own_key,
    own_prefix,
    read_set,
    set_path,
)
from ltp_core.lengths.shift import TABLE_2, kl_bins, table_2_row
from ltp_core.tasks.catalogue import TASKS
from tests.length_lists import expanded, length_kl, length_quartiles

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "data_cache" / "sample"
FORMAT = ROOT / "data_cache" / "README.md"
TOKENIZER = TokenizerFacts(name="owner/tiny", sha256="ab" * 32)

lengths = st.lists(st.integers(0, 5_000), min_size=1, max_size=50).map(np.array)


def length_set(train: np.ndarray, evaluation: np.ndarray, name: str = "mine.csv") -> LengthSet:
    """Counts of two splits."""
    splits = {
        split: SplitLengths(
            counts=LengthCounts.of(values), source="a file", sha256="0" * 64, left_out=number
        )
        for number, (split, values) in enumerate({"train": train, "test": evaluation}.items())
    }
    return LengthSet(
        name=name,
        key=own_key("f" * 64, TOKENIZER),
        is_task=False,
        columns=("a", "b"),
        tokenizer=TOKENIZER,
        splits=splits,
        created_at="2026-01-01T00:00:00+00:00",
        git={"commit": None, "dirty": None},
    )


def save(counts: LengthSet, store: Path) -> Path:
    """Writes the counts into a store."""
    path = set_path(store, counts.key)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(counts.to_json(), encoding="utf-8")
    return path


@given(lengths, lengths, st.text(max_size=20))
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, train: np.ndarray, evaluation: np.ndarray, name: str
) -> None:
    """Every field, and every length."""
    name = name.encode("utf-8", "replace").decode()
    counts = length_set(train, evaluation, name)
    found = read_set(save(counts, tmp_path_factory.mktemp("store")))
    assert found.to_json() == counts.to_json()
    assert expanded(found.splits["train"].counts).tolist() == sorted(train.tolist())


def test_the_readme_has_the_fields() -> None:
    """Those of the file and those of a split, and the version."""
    section = FORMAT.read_text(encoding="utf-8").split("## Length counts")[1].split("## ")[0]
    named = [line.split("`")[1] for line in section.splitlines() if line.startswith("| `")]
    written = json.loads(length_set(np.array([3]), np.array([4])).to_json())
    assert named == [*written, *written["splits"]["train"]]
    assert f"version {FORMAT_VERSION}." in " ".join(section.split())


def test_numbers_of_a_list_stand_on_one_line() -> None:
    """So that a difference of two files can be read."""
    text = length_set(np.arange(100), np.array([4])).to_json()
    assert f'"length": [{",".join(map(str, range(100)))}]' in text


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"schema_version": FORMAT_VERSION + 1}, "newer version"),
        ({"splits": {}}, "no split"),
        ({"tokenizer": None}, "damaged"),
        ({"splits": {"train": {"rows": 1}}}, "no field 'length'"),
    ],
)
def test_damage_is_named(tmp_path: Path, change: dict[str, object], part: str) -> None:
    """A file that cannot be used is listed with the reason, and does not hide the others."""
    path = save(length_set(np.array([3]), np.array([4])), tmp_path)
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | change))
    with pytest.raises(LengthSetError, match=part):
        read_set(path)
    (entry,) = list_sets([tmp_path, tmp_path / "absent"])
    assert entry.counts is None
    assert part in (entry.problem or "")


@pytest.mark.parametrize(
    "split",
    [
        {"length": [3, 3], "count": [1, 1], "rows": 2},
        {"length": [3, 4], "count": [1, 0], "rows": 1},
        {"length": [3], "count": [2], "rows": 3},
        {"length": [3], "count": [], "rows": 0},
        {"length": ["3"], "count": [1], "rows": 1},
        {"length": [True], "count": [1], "rows": 1},
    ],
)
def test_impossible_counts_are_refused(tmp_path: Path, split: dict[str, object]) -> None:
    """Lengths ascend, counts are at least 1, and the rows are their sum."""
    path = save(length_set(np.array([3]), np.array([4])), tmp_path)
    raw = json.loads(path.read_text(encoding="utf-8"))
    raw["splits"]["train"] |= split
    path.write_text(json.dumps(raw), encoding="utf-8")
    with pytest.raises(LengthSetError, match="damaged"):
        read_set(path)


def test_the_first_store_wins_unless_it_is_damaged(tmp_path: Path) -> None:
    """As with runs."""
    for folder, values in (("first", [3, 3]), ("second", [4])):
        save(length_set(np.array(values), np.array([1])), tmp_path / folder)
    stores = [tmp_path / "first", tmp_path / "second"]
    (entry,) = list_sets(stores)
    assert entry.counts is not None
    assert entry.counts.splits["train"].counts.rows == 2
    set_path(stores[0], entry.key).write_text("{", encoding="utf-8")
    (entry,) = list_sets(stores)
    assert entry.counts is not None
    assert entry.counts.splits["train"].counts.rows == 1


def test_keys_name_content_and_tokenizer() -> None:
    """A tokenizer is the same by its hash, or by its name where a hash is missing."""
    by_name = TokenizerFacts(name="owner/tiny", sha256=None)
    other = TokenizerFacts(name="owner/tiny", sha256="cd" * 32)
    assert TOKENIZER.slug == "tiny-abababab"
    assert own_key("1" * 64, by_name) == "own-1111111111111111-tiny"
    assert own_key("1" * 64, TOKENIZER).startswith(own_prefix("1" * 64))
    assert not own_key("2" * 64, TOKENIZER).startswith(own_prefix("1" * 64))
    assert TOKENIZER.is_same(by_name)
    assert not TOKENIZER.is_same(other)
    assert TokenizerFacts(name="/", sha256=None).slug == "tokenizer"


# --- the shipped counts ---------------------------------------------------------------------------


def shipped() -> dict[str, LengthSet]:
    """The sample store's counts by task."""
    entries = list_sets([SAMPLE])
    assert [entry.problem for entry in entries if entry.problem] == []
    return {entry.counts.name: entry.counts for entry in entries if entry.counts}


def test_every_task_is_shipped() -> None:
    """A fresh machine has the lengths of every task without questions, in a few kilobytes, and no text."""
    found = shipped()
    assert {name for name, task in TASKS.items() if not task.asks_questions} == set(found)
    for task, counts in found.items():
        assert {"train", "validation", *TASKS[task].extra_splits} == set(counts.splits)
        assert TASKS[task].text_columns == counts.columns
        for name, split in counts.splits.items():
            assert split.published_rows == PUBLISHED_ROWS.get(task, {}).get(name)
    assert sum(path.stat().st_size for path in (SAMPLE / "lengths").iterdir()) < 100_000


def test_complete_tasks_are_those_of_table_2() -> None:
    """Where all published rows are at hand, quartiles differ by less than two tokens from the paper's.

    Ours are BERT's tokens, the paper's RoBERTa's.
    """
    found, compared = shipped(), []
    for row in TABLE_2:
        sides = [found[row.task].splits[name] for name in ("train", row.split)]
        if not all(side.is_published for side in sides):
            continue
        compared.append(row.task)
        for side, there in zip(sides, (row.train, row.evaluation), strict=True):
            ours = length_quartiles(side.counts)
            assert max(abs(a - b) for a, b in zip(ours, there, strict=True)) < 2, row.task
    assert compared == ["sst2", "stsb", "mrpc", "rte"]


@pytest.mark.parametrize(
    ("task", "expected"), [("sst2", 1.24), ("stsb", 0.11), ("rte", 0.03), ("mrpc", 0.02)]
)
def test_divergence_of_the_shipped_counts(task: str, expected: float) -> None:
    """Golden: KL(train ‖ validation) with the default rule, computed from the published files."""
    train, evaluation = (shipped()[task].splits[s].counts for s in ("train", "validation"))
    found = length_kl(expanded(train), expanded(evaluation), bins=kl_bins(task))
    assert found == pytest.approx(expected, abs=0.006)


def test_the_papers_table_is_complete() -> None:
    """Eight lines, two of them for MNLI."""
    assert len(TABLE_2) == 8
    row = table_2_row("mnli", "validation_mismatched")
    assert row is not None
    assert row.label == "MNLI-mm"
    assert table_2_row("imdb", "validation") is None
