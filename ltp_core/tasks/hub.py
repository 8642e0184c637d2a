"""Data sets of the Hugging Face hub, from its local cache unless downloads are allowed."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from ltp_core.environment import downloads_allowed
from ltp_core.records import first_line
from ltp_core.tasks.files import DataError, require_columns

HUB = "hub:"
"""What the name of a data set of the hub begins with, where a path could stand."""
DEFAULT_CONFIG = "default"


def parse(name: str) -> tuple[str, str]:
    """Data set and configuration of `owner/name` or `owner/name:configuration`.

    Raises:
        DataError: It is no name of a data set.
    """
    if not re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?(:\w[\w.-]*)?", name):
        raise DataError(
            f"{name[:100]!r} is no data set of the hub: write OWNER/NAME or OWNER/NAME:CONFIGURATION."
        )
    path, _, config = name.partition(":")
    return path, config or DEFAULT_CONFIG


def check(name: str) -> None:
    """Refuses a data set that is not on this machine, unless downloads are allowed; looks at folders only.

    Raises:
        DataError: It is no name of a data set, or neither here nor allowed to be fetched.
    """
    if not downloads_allowed() and not is_cached(*parse(name)):
        raise DataError(
            f"The data set {name} is not in the Hugging Face cache of this machine: allow downloads with "
            "LTP_ALLOW_DOWNLOADS=1, or give its files as a folder."
        )


def is_cached(path: str, config: str) -> bool:
    """True where this configuration has been prepared on this machine; looks at folders only."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or base / "huggingface").expanduser()
    cache = Path(os.environ.get("HF_DATASETS_CACHE") or home / "datasets").expanduser()
    return (cache / path.replace("/", "___") / config).is_dir()


def read_split(path: str, config: str, split: str, *, allow_downloads: bool) -> pa.Table:
    """All rows of one split.

    Args:
        path: Data set on the hub.
        config: Its configuration.
        split: Name of the split there.
        allow_downloads: Ask the hub; it stays closed where `HF_HUB_OFFLINE` is set.

    Raises:
        Exception: Whatever `datasets` raises where it cannot give the rows.
    """
    import datasets

    with _hub_access(allow_downloads):
        loaded = datasets.load_dataset(path, config, split=split)
    return loaded.with_format("arrow")[:]


def save_splits(name: str, columns: Sequence[str], folder: Path) -> None:
    """Writes these columns of every split as `SPLIT.jsonl`; classes by name, hidden labels as null.

    Args:
        name: `owner/name` or `owner/name:configuration`.
        columns: What is kept.
        folder: Where to, a folder that is there.

    Raises:
        DataError: It is not at hand, or a split lacks a column.
    """
    check(name)
    import datasets

    try:
        with _hub_access(downloads_allowed()):
            loaded = datasets.load_dataset(*parse(name))
    except Exception as error:
        raise DataError(f"The data set {name} cannot be had: {first_line(error)}") from error
    for split, rows in loaded.items():
        require_columns(name, columns, rows.column_names)
        classes = {
            column: rows.features[column].names
            for column in columns
            if isinstance(rows.features[column], datasets.ClassLabel)
        }
        with (folder / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for row in rows.select_columns(list(columns)):
                for column, names in classes.items():
                    index = row[column]
                    row[column] = None if index is None or index < 0 else names[index]
                file.write(json.dumps(row, default=str) + "\n")


@contextlib.contextmanager
def _hub_access(allowed: bool) -> Iterator[None]:
    """Opens or closes the way to the hub; both libraries read the environment only at import."""
    import datasets.config
    import huggingface_hub.constants

    modules: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [module.HF_HUB_OFFLINE for module in modules]
    wished = os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
    for module in modules:
        module.HF_HUB_OFFLINE = wished or not allowed
    try:
        yield
    finally:
        for module, value in zip(modules, before, strict=True):
            module.HF_HUB_OFFLINE = value
