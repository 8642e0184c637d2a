"""When files of the stores last changed: a cached answer that is kept by this is never out of date."""

from __future__ import annotations

from pathlib import Path

from ltp_core import store

Stamp = tuple[tuple[str, float], ...]
"""Files of the stores, each with the time of its last change."""


def of_run(folder: Path) -> float:
    """Last change of a run's manifest, and so of the run; 0 where there is none."""
    path = folder / store.MANIFEST
    return path.stat().st_mtime if path.is_file() else 0.0


def of_files(pattern: str) -> Stamp:
    """Files of the stores by a pattern below a store."""
    paths = (path for place in store.stores() for path in place.glob(pattern))
    return tuple(sorted((str(path), path.stat().st_mtime) for path in paths))
