"""Uploaded files on their way to the counter: on the disk only until they have been counted."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from ltp_core import store
from ltp_core.data.lengths.files import FileFacts, look
from ltp_core.data.lengths.sets import FOLDER
from ltp_core.files import atomic_write

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

MAX_NAME = 80
_PATHS = "lengths.uploads"


def path_of(file: UploadedFile) -> Path:
    """Where the upload lies now, under its own name in a folder that is named by its content.

    Raises:
        StoreError: The disk does not take it.
    """
    known: dict[str, Path] = st.session_state.setdefault(_PATHS, {})
    path = known.get(file.file_id)
    if path is None or not path.is_file():
        content = file.getvalue()
        digest = hashlib.sha256(content).hexdigest()[:16]
        path = _folder() / digest / safe_name(file.name)
        atomic_write(path, content)
        known[file.file_id] = path
    return path


def safe_name(name: str) -> str:
    """A file name without folders and control characters, its suffix kept."""
    path = Path(re.sub(r"[\x00-\x1f\x7f/\\:]+", "_", name).lstrip("."))
    suffix = path.suffix[:10]
    return f"{path.stem[:MAX_NAME]}{suffix}" if path.stem else f"data{suffix}"


def forget(keep: Path | None) -> None:
    """Removes uploads from the disk, one apart; call it only while nothing is being counted."""
    for folder in _folder().glob("*"):
        if keep is None or folder != keep.parent:
            shutil.rmtree(folder, ignore_errors=True)


def _folder() -> Path:
    return store.default_store() / FOLDER / ".uploads"


def facts(path: Path) -> FileFacts:
    """What a file seems to hold; looked up once.

    Raises:
        UserError: It cannot be read, is empty, or has no text.
    """
    return _facts(str(path), path.stat().st_mtime if path.is_file() else 0.0)


@st.cache_data(max_entries=32, show_spinner=False)
def _facts(path: str, changed: float) -> FileFacts:
    del changed
    return look(Path(path))
