"""Data sets of the Hugging Face hub, from its local cache unless downloads are allowed."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa


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
