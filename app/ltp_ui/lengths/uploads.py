"""Uploaded files on their way to the counter: on the disk only while they are read.

Each time a file is read it has a folder of its own, so sessions never touch each other's.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.ltp_ui.shared import jobs
from ltp_core import store
from ltp_core.files import atomic_write
from ltp_core.lengths.counts import FOLDER, LengthCounts
from ltp_core.lengths.sources import stated_lengths
from ltp_core.tasks.files import DataError, FileFacts, look

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

MAX_NAME = 80
STALE_S = 24 * 3600.0
"""Age of what a crash left behind, before it is removed."""

_LOOKED_AT = "lengths.uploads"


def new_place(file: UploadedFile) -> Path:
    """Where the upload can be saved, under its own name; nobody else has this folder."""
    return _folder() / secrets.token_hex(8) / safe_name(file.name)


def save(file: UploadedFile, place: Path) -> None:
    """Puts the upload on the disk.

    Raises:
        StoreError: The disk does not take it.
    """
    atomic_write(place, file.getvalue())


def forget(place: Path) -> None:
    """Removes a saved upload, if it is there."""
    shutil.rmtree(place.parent, ignore_errors=True)


def safe_name(name: str) -> str:
    """A file name without folders and control characters, its suffix kept."""
    path = Path(re.sub(r"[\x00-\x1f\x7f/\\:]+", "_", name).lstrip("."))
    suffix = path.suffix[:10]
    return f"{path.stem[:MAX_NAME]}{suffix}" if path.stem else f"data{suffix}"


@st.cache_resource(show_spinner=False)
def forget_stale() -> None:
    """Removes what a crash left behind; once a process."""
    running = jobs.running()
    in_use = set(running.arguments) if running else set()
    for place in _folder().glob("*/*"):
        with suppress(OSError):  # gone meanwhile
            is_old = time.time() - place.stat().st_mtime > STALE_S
            if is_old and str(place) not in in_use:
                forget(place)


def _folder() -> Path:
    return store.default_store() / FOLDER / ".uploads"


def facts_of_upload(file: UploadedFile) -> FileFacts | LengthCounts:
    """What the upload seems to hold, or the lengths it states; on the disk only while it is looked at.

    Raises:
        UserError: It cannot be read, is empty, or has no text; or the disk does not take it.
    """
    known: dict[str, FileFacts | LengthCounts] = st.session_state.get(_LOOKED_AT, {})
    if file.file_id not in known:
        place = new_place(file)
        try:
            save(file, place)
            known = {file.file_id: stated_lengths(place) or look(place)}
        finally:
            forget(place)
        st.session_state[_LOOKED_AT] = known
    return known[file.file_id]


def existing(typed: str) -> Path:
    """The file or folder of a typed path.

    Raises:
        DataError: There is none.
    """
    try:
        path = Path(typed).expanduser()
        if path.exists():
            return path
    except (OSError, ValueError, RuntimeError):  # no path at all
        pass
    raise DataError(f"There is no file or folder {typed[:200]!r}: correct its path.")


def facts(path: Path) -> FileFacts | LengthCounts:
    """What a file seems to hold, or the lengths it states; looked up once.

    Raises:
        UserError: It cannot be read, is empty, or has no text.
    """
    return _facts(str(path), path.stat().st_mtime if path.is_file() else 0.0)


def with_texts(found: FileFacts | LengthCounts) -> FileFacts:
    """What a file of texts holds.

    Raises:
        DataError: It states lengths.
    """
    if isinstance(found, LengthCounts):
        raise DataError("The file holds a number a line and no texts: name one with texts.")
    return found


@st.cache_data(max_entries=32, show_spinner=False)
def _facts(path: str, changed: float) -> FileFacts | LengthCounts:
    del changed
    return stated_lengths(Path(path)) or look(Path(path))
