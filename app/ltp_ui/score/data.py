"""The texts of a file, drawn where there are many, and what a checkpoint makes of each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.ltp_ui.lengths import uploads
from app.ltp_ui.shared import live
from app.ltp_ui.shared.examples import examples
from ltp_core.records import UserError
from ltp_core.tasks.catalogue import known_task
from ltp_core.tasks.files import SUFFIXES, FileFacts
from ltp_core.tasks.own_texts import OwnTexts, sample_texts

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

ROWS = (100, 500, 1_000, 2_000)
DEFAULT_ROWS = 500
STEP = 100
"""Texts that are computed between two looks of the progress bar."""
NO_PAIR = "none"
_SCORED = "score.scored"


@dataclass(frozen=True, kw_only=True)
class Source:
    """A file and its columns.

    Attributes:
        name: Of the file, without its folder.
        key: Changes with its content.
        columns: One or two that hold the texts.
        path: Where it is; None for an upload.
        upload: The upload.
        examples: Texts that stand here instead of a file.
    """

    name: str
    key: str
    columns: tuple[str, ...]
    path: Path | None = None
    upload: UploadedFile | None = None
    examples: tuple[tuple[str, ...], ...] = ()


def choose_source(task_name: str | None) -> Source:
    """A file of texts; until one is chosen the app's own examples.

    Raises:
        UserError: It cannot be read, is empty, or has no text.
    """
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        upload = st.file_uploader(
            "CSV, TSV, JSON lines or Parquet, UTF-8",
            type=[suffix.removeprefix(".") for suffix in SUFFIXES],
            key="score.upload",
        )
    with right:
        typed = st.text_input(
            "… or a path on this machine",
            key="score.path",
            placeholder="/data/reviews.csv",
            persist_state="session",
        ).strip()
    if upload is not None:
        found = uploads.with_texts(uploads.facts_of_upload(upload))
        columns = _columns(found, task_name, key=upload.file_id)
        return Source(name=upload.name, key=upload.file_id, columns=columns, upload=upload)
    if not typed:
        written = tuple(
            (text,) if pair is None else (text, pair) for _, text, pair in examples(task_name)
        )
        return Source(name="examples", key=f"examples {task_name}", columns=(), examples=written)
    path = uploads.existing(typed)
    if path.is_dir():
        raise UserError(f"{typed[:200]!r} is a folder: name a file in it.")
    columns = _columns(uploads.with_texts(uploads.facts(path)), task_name, key=typed)
    changed = f"{path}:{path.stat().st_mtime_ns}"
    return Source(name=path.name, key=changed, columns=columns, path=path)


def _columns(found: FileFacts, task_name: str | None, *, key: str) -> tuple[str, ...]:
    """Columns of the text and, where an input may be a pair, of the second one."""
    task = known_task(task_name)
    expected = task.text_columns if task else ()
    texts = list(found.text_columns)
    first = expected[0] if expected and expected[0] in texts else found.suggested
    with st.container(horizontal=True):
        text = st.selectbox("Text", texts, index=texts.index(first), key=f"score.text.{key}")
        if task is not None and not task.is_pair:
            return (text,)
        others = [name for name in texts if name != text]
        options = others if task is not None else [NO_PAIR, *others]
        known = [name for name in expected[1:] if name in options]
        pair = st.selectbox(
            "Second text",
            options,
            index=options.index(known[0]) if known else (0 if options else None),
            key=f"score.pair.{key}",
        )
    if task is not None and pair is None:
        raise UserError("This checkpoint judges pairs, and the file has one column of text only.")
    return (text,) if pair in (None, NO_PAIR) else (text, pair)


def texts_of(source: Source, rows: int) -> OwnTexts:
    """Texts of the file in its order, drawn at random where it has more.

    An upload is on the disk only while it is read.

    Raises:
        UserError: The file cannot be read or has no text.
    """
    if source.examples:
        return OwnTexts(
            texts=list(source.examples),
            columns=(),
            total=len(source.examples),
            left_out=0,
            sha256="",
        )
    if source.upload is None:
        assert source.path is not None
        return sample_texts(source.path, source.columns, rows=rows)
    place = uploads.new_place(source.upload)
    try:
        uploads.save(source.upload, place)
        return sample_texts(place, source.columns, rows=rows)
    finally:
        uploads.forget(place)


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What came of a file.

    Attributes:
        frame: A row a text: the texts, then the columns of `compare_with_unpruned`.
        texts: The drawn texts, and how many there were.
    """

    frame: pd.DataFrame
    texts: OwnTexts

    @property
    def relative_flops(self) -> dict[str, float]:
        """Of all texts, by accounting, sums before division."""
        whole = self.frame["unpruned_flops"].sum()
        return {a: float(self.frame[f"flops_{a}"].sum() / whole) for a in ("paper", "executed")}


def scored(checkpoint: str, source: Source, rows: int, scale: float = 1.0) -> Scored:
    """Scores the texts, with a bar while it computes; the last result is kept in the session.

    Args:
        checkpoint: What reads them.
        source: The file.
        rows: Texts at most.
        scale: How much it prunes, as a multiple of what it learned.

    Raises:
        UserError: The file or the checkpoint cannot be used.
    """
    key = (checkpoint, live.stamp(checkpoint), source.key, source.columns, rows, scale)
    known = st.session_state.get(_SCORED)
    if known is not None and known[0] == key:
        found: Scored = known[1]
        return found
    texts = texts_of(source, rows)
    bar = st.progress(0.0, "Reading the texts with and without pruning …")
    parts = []
    for begin in range(0, len(texts.texts), STEP):
        part = texts.texts[begin : begin + STEP]
        parts.append(live.compare_with_unpruned(checkpoint, part, scale))
        done = min(len(texts.texts), begin + STEP)
        bar.progress(done / len(texts.texts), f"{done:,} of {len(texts.texts):,} texts")
    bar.empty()
    frame = pd.concat(parts, ignore_index=True)
    result = Scored(frame=_with_texts(frame, texts.texts), texts=texts)
    st.session_state[_SCORED] = (key, result)
    return result


def _with_texts(frame: pd.DataFrame, texts: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    names = ("text", "text_pair")[: len(texts[0])]
    columns = pd.DataFrame(texts, columns=list(names))
    found = pd.concat([columns, frame], axis=1)
    for accounting in ("paper", "executed"):
        relative = found[f"flops_{accounting}"] / found["unpruned_flops"]
        found[f"relative_flops_{accounting}"] = relative
    return found
