"""Stored benchmarks: one folder each, its document written last. Torch-free.

`data_cache/README.md` is the format. A benchmark that was stopped goes on with what it has measured
when the same one is asked for again.
"""

from __future__ import annotations

import datetime
import io
import json
import math
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from ltp_core import store
from ltp_core.files import StoreError, atomic_write, is_locked, lock_file, write_json

FORMAT_VERSION = 1

DOCUMENT, ROUNDS, PARTIAL, LOCK = "bench.json", "rounds.parquet", "partial.json", ".lock"

ROUND_COLUMNS = {
    "batch_size": "int32",
    "length": "int32",
    "retain_ratio": "float",
    "contender": "string",
    "round": "int16",
    "seconds": "double",
    "sequences": "int32",
}
"""Columns of `rounds.parquet` and their types; `length` is 0 for the data's own lengths."""

REQUIRED = {
    "what": str,
    "created_at": str,
    "settings": dict,
    "environment": dict,
    "noise": dict,
    "contenders": dict,
    "results": list,
}
"""What a document must have to be shown, by type."""

FIGURES = {"throughput": "sequences_per_s", "scaling": "sequences_per_s", "topk": "time_us"}
"""The figure that every line of the results has, by what was measured."""


@dataclass(frozen=True, kw_only=True)
class BenchEntry:
    """One stored benchmark.

    Attributes:
        name: Name of its folder.
        folder: Where it is.
        document: What was measured; None where it cannot be read.
        problem: Why it cannot be used, in a sentence; None where it can.
    """

    name: str
    folder: Path
    document: dict[str, Any] | None
    problem: str | None


@dataclass(frozen=True, kw_only=True)
class Session:
    """A benchmark that is being measured and saved piece by piece.

    Attributes:
        folder: Where it is stored; None where nothing is.
        plan: What is measured and on what: what a stopped benchmark is recognised by.
        created_at: When its first piece was begun, ISO 8601, UTC.
        done: Finished pieces, each with `results` and `rounds`.
    """

    folder: Path | None
    plan: dict[str, Any]
    created_at: str
    done: list[dict[str, Any]]

    def save(self, piece: dict[str, Any]) -> None:
        """Adds a finished piece."""
        self.done.append(piece)
        if self.folder is not None:
            content = {"plan": self.plan, "created_at": self.created_at, "done": self.done}
            write_json(self.folder / PARTIAL, content)

    def finish(self, document: dict[str, Any]) -> None:
        """Writes tables and document, which makes the benchmark complete."""
        if self.folder is None:
            return
        rounds = [line for piece in self.done for line in piece["rounds"]]
        schema = pa.schema([(key, pa.type_for_alias(kind)) for key, kind in ROUND_COLUMNS.items()])
        buffer = io.BytesIO()
        pq.write_table(pa.Table.from_pylist(rounds, schema=schema), buffer, compression="zstd")
        atomic_write(self.folder / ROUNDS, buffer.getvalue())
        write_json(self.folder / DOCUMENT, document)
        (self.folder / PARTIAL).unlink(missing_ok=True)


@contextmanager
def open_session(plan: dict[str, Any], folder: Path | None = None) -> Iterator[Session]:
    """A stopped benchmark of the same plan, or a new one.

    Args:
        plan: `settings` and whatever else must be equal for figures to belong together.
        folder: Store that it is kept in; None keeps nothing.

    Raises:
        StoreError: The disk does not take it.
    """
    now = datetime.datetime.now(datetime.UTC)
    plan = json.loads(json.dumps(plan))
    if folder is None:
        yield Session(folder=None, plan=plan, created_at=now.isoformat(), done=[])
        return
    found = _unfinished(folder, plan)
    settings = plan["settings"]
    parts = [settings["what"], settings.get("checkpoint"), f"{now:%Y%m%dT%H%M%S}"]
    name = "-".join([*filter(None, parts), secrets.token_hex(2)])
    home = found or folder / "benches" / name
    with lock_file(home / LOCK, f"The benchmark {home.name} is being measured"):
        saved = _partial(home) or {}
        yield Session(
            folder=home,
            plan=plan,
            created_at=saved.get("created_at", now.isoformat()),
            done=saved.get("done", []),
        )


def _unfinished(folder: Path, plan: dict[str, Any]) -> Path | None:
    for home in _folders(folder):
        is_free = not (home / DOCUMENT).exists() and not is_locked(home / LOCK)
        if is_free and (_partial(home) or {}).get("plan") == plan:
            return home
    return None


def _partial(home: Path) -> dict[str, Any] | None:
    try:
        saved = json.loads((home / PARTIAL).read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    is_whole = isinstance(saved, dict) and isinstance(saved.get("done"), list)
    return saved if is_whole else None


def list_benches(stores: Sequence[Path] | None = None) -> list[BenchEntry]:
    """Complete benchmarks of all stores, the newest first; broken ones come last, with the reason."""
    entries: dict[str, BenchEntry] = {}
    for folder in store.stores() if stores is None else stores:
        for home in _folders(folder):
            if (home / DOCUMENT).is_file():
                entries.setdefault(home.name, _entry(home))

    def age(entry: BenchEntry) -> tuple[str, str]:
        return (entry.document["created_at"] if entry.document else "", entry.name)

    return sorted(entries.values(), key=age, reverse=True)


def _folders(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in (folder / "benches").iterdir() if path.is_dir())
    except OSError:
        return []


def _entry(home: Path) -> BenchEntry:
    document, problem = None, None
    try:
        document = parse_document((home / DOCUMENT).read_bytes())
    except OSError as error:
        problem = f"{home.name} cannot be read: {error.strerror}."
    except StoreError as error:
        problem = f"{home.name}: {error}"
    return BenchEntry(name=home.name, folder=home, document=document, problem=problem)


def parse_document(content: bytes) -> dict[str, Any]:
    """A benchmark's document, checked: a file of another machine is data that anybody may have made.

    Raises:
        StoreError: It is no such document, or a newer version wrote it.
    """
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise StoreError("This is no JSON document.") from error
    if not isinstance(document, dict):
        raise StoreError("This is no document of a benchmark.")
    version = document.get("format_version")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise StoreError(
            f"A newer version of this program wrote this (format {version}, known is up to "
            f"{FORMAT_VERSION}): update this program."
        )
    for key, kind in REQUIRED.items():
        if not isinstance(document.get(key), kind):
            raise StoreError(f"This is no document of a benchmark: {key!r} is missing or wrong.")
    figure = FIGURES.get(document["what"])
    if figure is None:
        raise StoreError("This is no document of a benchmark: 'what' is unknown.")
    for line in document["results"]:
        is_line = isinstance(line, dict) and isinstance(line.get("contender"), str)
        if not (is_line and isinstance(line.get("batch_size"), int) and _is_number(line, figure)):
            raise StoreError("This is no document of a benchmark: a line of the results is wrong.")
        wrong = [k for k, v in line.items() if k != "contender" and not _is_number(line, k) and v]
        if wrong:
            raise StoreError(f"This is no document of a benchmark: {wrong[0]!r} is no number.")
    return document


def _is_number(line: dict[str, Any], key: str) -> bool:
    value = line.get(key)
    return isinstance(value, int | float) and type(value) is not bool and math.isfinite(value)


def results_frame(document: dict[str, Any]) -> pd.DataFrame:
    """The results as a table, one line a measurement; absent figures are missing values."""
    frame = pd.DataFrame(document["results"])
    if "length" not in frame:
        frame["length"] = None
    return frame
