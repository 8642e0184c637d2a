"""What is trained on: a labelled file of one's own or a known task, and what was made of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import kept, status, warm_up
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.wording import counted
from ltp_core.tasks.catalogue import TASKS
from ltp_core.tasks.files import split_files
from ltp_core.tasks.own_data import (
    Kind,
    OwnSource,
    OwnTask,
    Suggestion,
    own_names,
    own_task,
    register,
    suggest,
)

if TYPE_CHECKING:
    from ltp_core.tokenize import LengthFacts

FILE, TASK = "My own file", "A task at hand"
NO_PAIR = "none"
GUESS = "guess"
KINDS: dict[str, Kind | None] = {
    GUESS: None,
    "one class a text": "classification",
    "a number": "regression",
    "any of several labels": "multi_label",
}
READ_AT_ONCE_BYTES = 50 * 2**20
"""Of a file that the page reads whole; a larger one is read by the training itself."""
MAX_SHOWN_CLASSES = 12
LENGTH_ROWS = 2_000
"""Training texts whose lengths are counted."""
MAX_LENGTH = 512


@dataclass(frozen=True, kw_only=True)
class Data:
    """What a training learns from.

    Attributes:
        arguments: Of `train`, that name it.
        task: What the file became; None for a known task, or where the file is too large to be read here.
        name: Name of the task, as far as it is known.
        rows: Training rows, as far as they are known.
    """

    arguments: tuple[str, ...]
    task: OwnTask | None
    name: str | None
    rows: int | None


def choose() -> Data | None:
    """The data, drawn with what is known of them; None where none is chosen.

    Raises:
        UserError: The file cannot be read, or no task can be made of it.
    """
    chosen = st.segmented_control(
        "Data",
        [FILE, TASK],
        default=FILE,
        required=True,
        key="train.from",
        bind="query-params",
        label_visibility="collapsed",
    )
    return _task() if chosen == TASK else _file()


def _task() -> Data | None:
    known = [t.name for t in TASKS.values() if status.is_at_hand(t) and not t.asks_questions]
    options = [*own_names(), *known]
    name = st.selectbox(
        "Task",
        options,
        index=options.index("rotten_tomatoes") if "rotten_tomatoes" in options else None,
        format_func=task_label,
        key="train.task",
        bind="query-params",
        placeholder="none is at hand",
        width=320,
    )
    if name is None:
        return None
    task = own_task(name) if name not in TASKS else None
    if task is not None:
        about(task)
    rows = task.rows.get("train") if task else None
    return Data(arguments=(f"task={name}",), task=task, name=name, rows=rows)


def _file() -> Data | None:
    place = kept.choose("train", "Labelled CSV, TSV, JSON lines or Parquet, UTF-8")
    if place is None:
        st.info(
            "Drop a file with a column of texts and a column of labels. It stays on this machine.",
            icon=":material/upload_file:",
        )
        return None
    file = next(iter(split_files(place).values()))[0] if place.is_dir() else place
    found = _suggestion(str(file), file.stat().st_mtime_ns)
    source = _columns(place, found)
    if source is None:
        return None
    arguments = ["--data", str(place), "--text", source.text, "--label", source.label]
    if source.text_pair is not None:
        arguments += ["--text-pair", source.text_pair]
    if source.kind is not None:
        arguments += ["--kind", source.kind]
    if place.is_file() and place.stat().st_size > READ_AT_ONCE_BYTES:
        st.info(
            f"{plain(place.name)} has {place.stat().st_size / 2**20:,.0f} MiB: classes and bad rows are "
            "counted by the training itself, before its first step. Choose how many rows it takes below.",
            icon=":material/hourglass_top:",
        )
        return Data(arguments=tuple(arguments), task=None, name=None, rows=None)
    with st.spinner("Reading the file"):
        task = register(source)
    about(task)
    return Data(arguments=tuple(arguments), task=task, name=task.name, rows=task.rows.get("train"))


@st.cache_data(max_entries=16, show_spinner=False)
def _suggestion(path: str, changed: int) -> Suggestion:
    del changed
    return suggest(Path(path))


def _columns(place: Path, found: Suggestion) -> OwnSource | None:
    """The columns of texts and label and the kind, guessed until somebody says otherwise."""
    names = list(found.columns)
    key = f"{place}:{','.join(names)}"
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.selectbox("Text", names, index=names.index(found.text), key=f"train.text.{key}")
        rest = [name for name in names if name != text]
        pair = st.selectbox(
            "Second text",
            [NO_PAIR, *rest],
            index=rest.index(found.text_pair) + 1 if found.text_pair in rest else 0,
            key=f"train.pair.{key}",
            help="Where an input is a pair of texts, such as a question and an answer.",
        )
        labels = [name for name in rest if name != pair]
        label = st.selectbox(
            "Label",
            labels,
            index=labels.index(found.label) if found.label in labels else None,
            key=f"train.label.{key}",
            placeholder="choose a column",
        )
        kind = st.selectbox("The label is", list(KINDS), key=f"train.kind.{key}")
    with st.expander(f"First rows of {plain(place.name)}"):
        st.dataframe(pd.DataFrame(found.first), hide_index=True, alt="First rows of the file.")
    if label is None:
        st.info("Choose the column that holds the label.", icon=":material/label:")
        return None
    return OwnSource(
        data=place,
        text=text,
        label=label,
        text_pair=None if pair == NO_PAIR else pair,
        kind=KINDS[kind],
    )


def about(task: OwnTask) -> None:
    """Kind, rows of each split, balance of the classes, and every row that is left out."""
    what = {
        "classification": f"{len(task.label_names)} classes",
        "regression": "a number",
        "multi_label": f"any of {len(task.label_names)} labels",
    }[task.kind]
    why = f", guessed from {task.guess}" if task.guess else ""
    rows = ", ".join(f"{total:,} for {split}" for split, total in task.rows.items())
    st.markdown(f"**{counted(sum(task.rows.values()), 'row')}**: {rows}. The label is {what}{why}.")
    if task.label_names:
        st.dataframe(
            balance(task),
            hide_index=True,
            column_config={
                "share": st.column_config.ProgressColumn(
                    "of the training rows", format="percent", min_value=0, max_value=1
                )
            },
            alt="Rows of each class by split.",
            width=560,
        )
        if len(task.label_names) > MAX_SHOWN_CLASSES:
            st.caption(f"The {MAX_SHOWN_CLASSES} largest of {len(task.label_names):,}.")
    for reason, left_out in task.left_out.items():
        more = ", …" if left_out.count > len(left_out.first) else ""
        st.caption(
            f":orange[:material/warning:] Left out: {left_out.count:,} with {plain(reason)} "
            f"({plain('; '.join(left_out.first))}{more})"
        )


def balance(task: OwnTask) -> pd.DataFrame:
    """Rows of each class by split, the largest first, with its share of the training rows."""
    frame = pd.DataFrame(task.classes, index=list(task.label_names))
    frame.insert(0, "class", frame.index)
    frame["share"] = frame["train"] / max(1, task.rows["train"])
    return frame.sort_values("train", ascending=False, kind="stable").head(MAX_SHOWN_CLASSES)


def lengths(name: str) -> LengthFacts:
    """Lengths of some training texts, in tokens of the default base.

    Raises:
        UserError: The base or the data are not at hand.
    """
    warm_up.wait()
    return _lengths(name)


@st.cache_data(max_entries=32, show_spinner=False)
def _lengths(name: str) -> LengthFacts:
    from ltp_core.checkpoint_tokenizer import load_tokenizer_of
    from ltp_core.tasks.loading import load_rows
    from ltp_core.tokenize import length_facts

    tokenizer, _ = load_tokenizer_of(None)
    texts = load_rows(name, "train", limit=LENGTH_ROWS).texts
    return length_facts(tokenizer, texts, MAX_LENGTH)


def length_line(facts: LengthFacts, max_length: int) -> str:
    """The lengths in one sentence."""
    text = (
        f"Half of the training texts have up to {facts.median} tokens, 95 % up to {facts.most}, the "
        f"longest {facts.longest:,}"
    )
    if facts.longest <= max_length:
        return f"{text}."
    return f"{text}; of those beyond {max_length} only the beginning counts."
