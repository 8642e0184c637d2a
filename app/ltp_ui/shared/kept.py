"""Uploads that a job reads: kept in the store under a hash of their content, so a reload loses none."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.ltp_ui.lengths import uploads
from app.ltp_ui.shared import state
from app.ltp_ui.shared.boundary import plain
from ltp_core import store
from ltp_core.files import atomic_write
from ltp_core.tasks.files import SUFFIXES, DataError

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

DIGITS = 16


def keep(upload: UploadedFile) -> Path:
    """The upload as a file of the store; the same content is written once.

    Raises:
        StoreError: The disk does not take it.
    """
    content = upload.getvalue()
    digest = hashlib.sha256(content).hexdigest()[:DIGITS]
    place = _folder() / digest / uploads.safe_name(upload.name)
    if not place.is_file():
        atomic_write(place, content)
    return place


def kept(link: str | None) -> Path | None:
    """The file that `link_of` named; None where it is not there, or the text names none."""
    found = re.fullmatch(rf"([0-9a-f]{{{DIGITS}}})/([^/\\]+)", link or "")
    place = _folder() / found[1] / found[2] if found else None
    return place if place is not None and found and found[2][0] != "." and place.is_file() else None


def link_of(place: Path) -> str | None:
    """What stands for a kept file in an address; None for other files."""
    return f"{place.parent.name}/{place.name}" if place.parent.parent == _folder() else None


def _folder() -> Path:
    return store.default_store() / "uploads"


def choose(key: str, label: str, *, more: tuple[str, ...] = ()) -> Path | None:
    """A file: dropped here, named by its path, or kept from before a reload; None where there is none.

    Args:
        key: Beginning of the keys of the widgets; `KEY.file` is the parameter of the address.
        label: What the file should hold.
        more: Endings that are taken besides those of tables.

    Raises:
        UserError: There is no such file, or the disk does not take the upload.
    """
    left, right = st.columns(2, vertical_alignment="bottom")
    with left:
        upload = st.file_uploader(
            label,
            type=[suffix.removeprefix(".") for suffix in (*SUFFIXES, *more)],
            key=f"{key}.upload",
        )
    with right:
        typed = st.text_input(
            "… or a path on this machine",
            key=f"{key}.path",
            placeholder="/data/reviews.csv",
            bind="query-params",
        ).strip()
    parameter = f"{key}.file"
    if upload is not None:
        st.session_state[parameter] = keep(upload)
    elif typed:
        st.session_state.pop(parameter, None)
    elif (linked := kept(state.adopt(parameter))) is not None:
        st.session_state[parameter] = linked
    place: Path | None = st.session_state.get(parameter)
    state.publish(parameter, link_of(place) if place else None)
    if place is None and typed:
        place = uploads.existing(typed)
        if place.is_dir() and not more:
            return place
        if not place.is_file():
            raise DataError(f"{typed[:200]!r} is a folder: name a file in it.")
    elif place is not None and upload is None:
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(f"Kept from before: {plain(place.name)}", width="content")
            if st.button("Take another", icon=":material/close:", key=f"{key}.another"):
                del st.session_state[parameter]
                state.publish(parameter, None)
                st.rerun()
    return place
