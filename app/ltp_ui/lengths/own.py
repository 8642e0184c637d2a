"""Own data on the length page: a file, a folder, a data set of the hub, or a task counted anew."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.ltp_ui.lengths import job, uploads
from app.ltp_ui.lengths.data import TokenizerChoice
from app.ltp_ui.lengths.job import Role
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.jobs import OnEnd
from app.ltp_ui.shared.wording import counted
from ltp_core import store
from ltp_core.files import atomic_write
from ltp_core.lengths import sources
from ltp_core.lengths.counts import LengthCounts, LengthSet, set_path
from ltp_core.lengths.shift import Side, evaluation_split, training_split
from ltp_core.tasks import hub
from ltp_core.tasks.catalogue import TASKS
from ltp_core.tasks.files import SUFFIXES, DataError, FileFacts

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

UPLOAD, PATH, NUMBERS, HUB, TASK = (
    "Upload a file",
    "Folder or file",
    "Typed lengths",
    "Hub data set",
    "Task",
)
ROLES: dict[str, Role] = {"Evaluation": "evaluation", "Training": "training"}
MAX_SPLITS = 4


@dataclass(frozen=True, kw_only=True)
class Source:
    """What is to be counted.

    Attributes:
        arguments: Of the command `lengths`: the source, its columns, its splits.
        files: The files by split, where it is files.
        columns: Columns that hold the texts.
        upload: The one file, where it is not on the disk yet.
        stated: Lengths that need no counting, and what they are called.
    """

    arguments: tuple[str, ...] = ()
    files: dict[str, list[Path]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
    upload: UploadedFile | None = None
    stated: tuple[str, LengthCounts] | None = None

    def save(self) -> OnEnd:
        """Puts an upload on the disk, for as long as it is read.

        Returns:
            What takes it away again.

        Raises:
            StoreError: The disk does not take it.
        """
        if self.upload is None:
            return lambda: None
        [[place]] = self.files.values()
        uploads.save(self.upload, place)
        return partial(uploads.forget, place)


def panel(tokenizer: TokenizerChoice) -> None:
    """Chooses a source and counts it in the background."""
    st.markdown(
        "Compare the inputs that you will meet with those that a model was trained on. Texts are "
        "counted on this machine; what is kept is the number of inputs of each length, no text."
    )
    kind = st.segmented_control(
        "Source",
        [UPLOAD, PATH, NUMBERS, HUB, TASK],
        default=UPLOAD,
        required=True,
        key="own",
        bind="query-params",
        label_visibility="collapsed",
    )
    choose = {UPLOAD: _upload, PATH: _path, NUMBERS: _numbers, HUB: _hub, TASK: _task}[kind]
    with boundary("Reading the data"):
        source = choose()
        with st.container(horizontal=True, vertical_alignment="bottom"):
            role = st.segmented_control(
                "Show a single set as",
                list(ROLES),
                default="Evaluation",
                required=True,
                key="lengths.role",
                help="A folder with training and evaluation files is shown as a pair.",
            )
            is_stated = source is not None and source.stated is not None
            if st.button(
                "Take these lengths" if is_stated else "Count tokens",
                type="primary",
                icon=":material/straighten:",
                disabled=source is None or job.is_running(),
            ):
                assert source is not None
                _count(source, tokenizer, ROLES[role])
    job.panel()


def _count(source: Source, tokenizer: TokenizerChoice, role: Role) -> None:
    """Shows what was stated or has been counted before; counts the rest."""
    if source.stated is not None:
        found = sources.stated_set(*source.stated, tokenizer.facts)
        path = set_path(store.default_store(), found.key)
        atomic_write(path, found.to_json().encode())
        _show(found, role)
        st.rerun()
    with ExitStack() as no_longer_read:
        forget = source.save()
        no_longer_read.callback(forget)
        if not _was_counted(source, tokenizer, role):
            chosen = ("--checkpoint", tokenizer.checkpoint) if tokenizer.checkpoint else ()
            job.start([*source.arguments, *chosen], role, on_end=forget)
            no_longer_read.pop_all()  # that is for the job's end now
    st.rerun()


def _was_counted(source: Source, tokenizer: TokenizerChoice, role: Role) -> bool:
    """Whether the same files are in the store already; they are then shown on the next run."""
    if not source.files:
        return False
    content = sources.content_hash(source.files, source.columns)
    found = sources.find_own_set(store.stores(), content, tokenizer.facts)
    if found is None:
        return False
    _show(found, role)
    return True


def _show(found: LengthSet, role: Role) -> None:
    """Selects stored counts on the next run of the page."""
    split = evaluation_split(found)
    train = Side(counts=found, split=training_split(found))
    pending = (train, Side(counts=found, split=split) if split else None, role)
    st.session_state[PENDING] = pending


PENDING = "lengths.pending"


def take_over() -> None:
    """Selects counts that were found stored already; before the selectors are drawn."""
    pending = st.session_state.pop(PENDING, None)
    if pending:
        job.select(*pending)


# ---- sources ----


def _upload() -> Source | None:
    file = st.file_uploader(
        "CSV, TSV, JSON lines or Parquet, UTF-8; or a file with a length in tokens a line",
        type=[suffix.removeprefix(".") for suffix in (*SUFFIXES, ".txt")],
        key="lengths.upload",
        help="A file that is too big for an upload can be named by its path.",
    )
    if file is None:
        return None
    place = uploads.new_place(file)
    found = uploads.facts_of_upload(file)
    if isinstance(found, LengthCounts):
        return _stated(place.name, found)
    columns = _columns(found, place.name, key=file.file_id)
    if not columns:
        return None
    arguments = (str(place), "--columns", sources.join_names(columns))
    files = {sources.FILE_SPLIT: [place]}
    return Source(arguments=arguments, files=files, columns=columns, upload=file)


def _path() -> Source | None:
    typed = st.text_input(
        "Path on this machine",
        key="lengths.path",
        placeholder="/data/reviews or /data/reviews/new.jsonl",
        help="A file, or a folder with one or more files a split: train.csv, validation.csv, "
        "train-00000-of-00002.parquet, …",
        persist_state="session",
    ).strip()
    if not typed:
        return None
    path = uploads.existing(typed)
    files = sources.own_files(path, None)
    if path.is_dir():
        chosen = st.multiselect(
            "Splits", list(files), default=_usual(list(files)), key=f"lengths.splits.{path}"
        )
        files = {name: files[name] for name in chosen}
    return _of_files(files, path) if files else None


def _usual(names: Sequence[str]) -> list[str]:
    """Splits that are chosen at first: all of a few, else the training and evaluation ones."""
    if len(names) <= MAX_SPLITS:
        return list(names)
    known = [name for name in names if name.startswith(("train", "valid", "dev"))]
    return (known or list(names))[:MAX_SPLITS]


def _of_files(files: dict[str, list[Path]], path: Path) -> Source | None:
    first = next(iter(files.values()))[0]
    found = uploads.facts(first)
    if isinstance(found, LengthCounts):
        if path.is_dir():
            raise DataError(
                f"{first.name} states lengths, not texts: name that file, not its folder."
            )
        return _stated(first.name, found)
    columns = _columns(found, first.name, key=str(path))
    if not columns:
        return None
    splits = ("--splits", sources.join_names(files)) if path.is_dir() else ()
    arguments = (str(path), "--columns", sources.join_names(columns), *splits)
    return Source(arguments=arguments, files=files, columns=columns)


def _columns(found: FileFacts, name: str, *, key: str) -> tuple[str, ...]:
    """The columns to count, none where none is chosen."""
    columns = tuple(
        st.multiselect(
            "Columns with the text, one or two",
            found.text_columns,
            default=[found.suggested],
            max_selections=2,
            key=f"lengths.columns.{key}",
            help=plain(f"{name} has the columns {', '.join(found.columns)}."),
        )
    )
    if not columns:
        st.caption("Choose at least one column.")
    return columns


def _numbers() -> Source | None:
    typed = st.text_area(
        "Lengths in tokens",
        key="lengths.numbers",
        placeholder="12, 48, 7, 130 …",
        help="Whole numbers, special tokens included, as your own tokenizer counted them; paste a column "
        "of a table.",
        persist_state="session",
    ).strip()
    return _stated("typed lengths", sources.typed_lengths(typed)) if typed else None


def _stated(name: str, counts: LengthCounts) -> Source:
    """Says what was understood: nothing is counted."""
    low, high = int(counts.length[0]), int(counts.length[-1])
    st.caption(
        plain(
            f"{counted(counts.rows, 'whole number')} from {low:,} to {high:,}: taken as lengths in tokens."
        )
    )
    return Source(stated=(name, counts))


def _hub() -> Source | None:
    with st.container(horizontal=True):
        name = st.text_input(
            "Data set",
            key="lengths.hub",
            placeholder="owner/name or owner/name:configuration",
            persist_state="session",
        ).strip()
        columns = st.text_input(
            "Columns", "text", key="lengths.hub_columns", help="One or two, separated by a comma."
        )
        splits = st.text_input("Splits", "train, validation", key="lengths.hub_splits")
    if not name:
        st.caption(
            "Looked for in the Hugging Face cache of this machine; downloads are off unless "
            "LTP_ALLOW_DOWNLOADS=1 allows them."
        )
        return None
    hub.check(name)
    chosen = ("--columns", columns, "--splits", splits)
    return Source(arguments=(f"{hub.HUB}{name}", *chosen))


def _task() -> Source | None:
    task = st.selectbox(
        "Task",
        list(TASKS),
        key="lengths.task",
        width=300,
        help="Counts every split of it anew, with the tokenizer chosen above.",
    )
    return Source(arguments=(task,))
