"""The store of runs: one folder a run, its manifest written last. `data_cache/README.md` is the format.

Nothing here reads torch, a data set or a text.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import json
import os
import shutil
import stat
import types
import typing
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from ltp_core.files import (
    InUseError,
    StoreError,
    atomic_write,
    is_locked,
    lock_file,
    replace_folder,
    write_json,
)
from ltp_core.records import SCHEMA_VERSION, FileEntry, RunManifest, nearest
from ltp_core.tables import TABLES, read_table, write_table

__all__ = [
    "TABLES",
    "InUseError",
    "RunEntry",
    "StoreError",
    "atomic_write",
    "default_store",
    "find_run",
    "finish_run",
    "is_being_trained",
    "is_run_name",
    "list_runs",
    "lock_run",
    "read_manifest",
    "read_table",
    "remove_manifest",
    "replace_run",
    "replacement_folder",
    "run_folder",
    "run_name",
    "runs_stamp",
    "stores",
    "write_json",
    "write_table",
]

STORE_VARIABLE = "LTP_STORE"
MANIFEST = "manifest.json"
LOCK = ".lock"
LONGEST_NAME = 255
"""Bytes that file systems allow for a name."""

_DATA_CACHE = Path(__file__).resolve().parent.parent / "data_cache"


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """One run folder of a store.

    Attributes:
        name: Name of the folder.
        folder: Where it is.
        manifest: What the run is; None where it cannot be read.
        problem: Why the run cannot be used, in a sentence; None where it can.
    """

    name: str
    folder: Path
    manifest: RunManifest | None
    problem: str | None


def default_store() -> Path:
    """The store that is written to: `LTP_STORE`, else `data_cache/local`.

    Raises:
        StoreError: `LTP_STORE` begins with `~` and a user that does not exist.
    """
    named = os.environ.get(STORE_VARIABLE)
    if not named:
        return _DATA_CACHE / "local"
    try:
        return Path(named).expanduser()
    except RuntimeError as error:
        raise StoreError(f"{STORE_VARIABLE} = {named!r}: there is no such user.") from error


def stores() -> list[Path]:
    """Stores that are read: the writable one, then the committed samples."""
    return [default_store(), _sample_store()]


def _sample_store() -> Path:
    return _DATA_CACHE / "sample"


def run_name(task: str, method: str, fingerprint: str) -> str:
    """Name of a run, `<task>-<method>-<fingerprint>`."""
    return f"{task}-{method}-{fingerprint}"


def run_folder(store: Path, name: str) -> Path:
    """Folder of a run of this name, present or not."""
    return store / "runs" / name


def find_run(name_or_prefix: str, stores: Sequence[Path] | None = None) -> Path:
    """Folder of the run with this name, or of the only complete one whose name begins so.

    A path to a folder is given back as it is. The first store that has the name wins.

    Raises:
        StoreError: There is none, or more than one, or it is not complete.
    """
    places = _given_stores(stores)
    # A name is one folder a store: whatever else the stores hold is not looked at.
    if is_run_name(name_or_prefix):
        for place in places:
            if _is_complete(folder := run_folder(place, name_or_prefix)):
                return folder
    # Unlike Path.is_dir, this takes names that no file system takes.
    if os.path.isdir(name_or_prefix):  # noqa: PTH112
        return Path(name_or_prefix)
    # The beginning of a name: names are compared, no manifest is read.
    found: dict[str, Path] = {}
    for place in places:
        for folder in _run_folders(place):
            if _is_complete(folder):
                found.setdefault(folder.name, folder)
    matches = beginning_with(name_or_prefix, sorted(found))
    if len(matches) == 1:
        return found[matches[0]]
    if matches:
        raise StoreError(
            f"{name_or_prefix!r} is the beginning of {len(matches)} runs, name one of them: "
            f"{', '.join(matches)}."
        )
    if is_run_name(name_or_prefix) and any(
        run_folder(place, name_or_prefix).is_dir() for place in places
    ):
        raise StoreError(
            f"The run {name_or_prefix} is not complete: finish it with the same train command."
        )
    shown = repr(name_or_prefix[:100])
    if os.sep in name_or_prefix:
        raise StoreError(f"There is no folder {shown}.")
    raise StoreError(f"There is no run {shown}{nearest(name_or_prefix, sorted(found))}")


def beginning_with(text: str, names: Sequence[str]) -> list[str]:
    """Names that begin with a text; where some do with whole words of it, only those.

    Example:
        >>> beginning_with("sst2-ltp", ["sst2-ltp-0123456789", "sst2-ltp_s-123456789a"])
        ['sst2-ltp-0123456789']
    """
    matches = [name for name in names if text and name.startswith(text)]
    return [name for name in matches if name.startswith(f"{text}-")] or matches


def is_run_name(text: str) -> bool:
    """Whether a text can be the name of a folder of a run: one part of a path, printable."""
    is_part = text not in {"", ".", ".."} and not set(text) & {"/", "\\"}
    return is_part and text.isprintable() and len(text.encode()) <= LONGEST_NAME


def list_runs(
    stores: Sequence[Path] | None = None, *, include_incomplete: bool = False
) -> list[RunEntry]:
    """Runs of all stores by name; of equal names the first complete one in the stores' order.

    Folders without a manifest are left out, unless wanted; broken ones are there with the reason.
    """
    entries: dict[str, RunEntry] = {}
    for store in _given_stores(stores):
        for folder in _run_folders(store):
            known = entries.get(folder.name)
            wanted = _is_complete(folder) or include_incomplete
            if wanted and (known is None or not _is_complete(known.folder)):
                entries[folder.name] = _entry(folder)
    return [entries[name] for name in sorted(entries)]


def _is_complete(folder: Path) -> bool:
    return (folder / MANIFEST).is_file()


def _given_stores(given: Sequence[Path] | None) -> list[Path]:
    return stores() if given is None else list(given)


def _run_folders(store: Path) -> list[Path]:
    try:
        return sorted(p for p in (store / "runs").iterdir() if p.is_dir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"The store {store} cannot be read: {error.strerror}.") from error


def _entry(folder: Path) -> RunEntry:
    if not is_run_name(folder.name):  # made by hand: no table, link or picture could show it
        shown = ascii(folder.name)[1:-1]
        reason = f"The folder of {shown} has signs in its name that cannot be shown: rename it."
        return RunEntry(name=shown, folder=folder, manifest=None, problem=reason)
    manifest, problem = None, None
    try:
        manifest = _known_manifest(folder)
        problem = _missing_file(folder, manifest)
    except StoreError as error:
        problem = str(error)
    return RunEntry(name=folder.name, folder=folder, manifest=manifest, problem=problem)


def _known_manifest(folder: Path) -> RunManifest:
    """The manifest, which is read again only after a change."""
    try:
        about = (folder / MANIFEST).stat()
    except OSError:
        return read_manifest(folder)  # says what is wrong
    return _read_manifest(str(folder), about.st_mtime_ns, about.st_size, about.st_ino)


@functools.lru_cache(maxsize=10_000)
def _read_manifest(folder: str, *state: int) -> RunManifest:
    """Of the file as it is; `state` tells one from the next."""
    del state
    return read_manifest(Path(folder))


def _missing_file(folder: Path, manifest: RunManifest) -> str | None:
    for entry in manifest.files:
        try:
            about = os.stat(f"{folder}/{entry.name}")  # noqa: PTH116 (thousands of them)
            size = about.st_size if stat.S_ISREG(about.st_mode) else None
        except OSError:
            size = None
        if size is None:
            return f"The file {entry.name} of {folder.name} is missing."
        if size != entry.bytes:
            return f"The file {entry.name} of {folder.name} has {size} bytes, not {entry.bytes}."
    return None


def read_manifest(folder: Path) -> RunManifest:
    """What a finished run is. Fields that this version does not know are ignored.

    Raises:
        StoreError: There is no manifest, or it is damaged, or a newer version wrote it.
    """
    try:
        raw = json.loads((folder / MANIFEST).read_bytes())
        version = raw["schema_version"]
    except FileNotFoundError as error:
        raise StoreError(
            f"The run {folder.name} is not complete: finish it with the same train command."
        ) from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise _damaged(folder, error) from error
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"A newer version of this program wrote the run {folder.name} (format {version}, known "
            f"is up to {SCHEMA_VERSION}): update this program."
        )
    try:
        return _manifest(raw)
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, error) from error


def _damaged(folder: Path, error: Exception) -> StoreError:
    reason = f"no field {error}" if isinstance(error, KeyError) else str(error)
    return StoreError(
        f"The manifest of the run {folder.name} is damaged ({reason}): restore it or delete the folder."
    )


def _manifest(raw: dict[str, Any]) -> RunManifest:
    kinds = typing.get_type_hints(RunManifest)
    values: dict[str, Any] = {}
    for field in dataclasses.fields(RunManifest):
        if field.name == "files":
            values["files"] = tuple(_file_entry(entry) for entry in raw.get("files", ()))
        elif field.name in raw or field.default is dataclasses.MISSING:
            values[field.name] = _checked(field.name, raw[field.name], kinds[field.name])
    return RunManifest(**values)


def _checked(name: str, value: Any, kind: Any) -> Any:
    allowed: tuple[type, ...] = tuple(
        typing.get_origin(k) or k
        for k in (typing.get_args(kind) if isinstance(kind, types.UnionType) else (kind,))
    )
    if allowed == (float,) and type(value) is int:
        return float(value)
    if not isinstance(value, allowed) or isinstance(value, bool):
        raise TypeError(f"{name} is {type(value).__name__}")
    return value


def _file_entry(raw: Any) -> FileEntry:
    entry = FileEntry(name=str(raw["name"]), bytes=int(raw["bytes"]), sha256=str(raw["sha256"]))
    path = PurePosixPath(entry.name)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError(f"the file name {entry.name!r} leads out of the folder")
    return entry


def finish_run(folder: Path, manifest: RunManifest) -> RunManifest:
    """Lists the files of a run and writes its manifest, which makes the run complete.

    Listed are all files but the manifest and those whose name, or folder's name, begins with a dot.

    Returns:
        The manifest as written, with the files' sizes and hashes.

    Raises:
        StoreError: A file cannot be read, or the disk does not take the manifest.
    """
    try:
        files = tuple(
            _measure(folder, path) for path in sorted(folder.rglob("*")) if path.is_file()
        )
    except OSError as error:
        raise StoreError(f"The run {folder.name} cannot be read: {error.strerror}.") from error
    manifest = dataclasses.replace(manifest, files=tuple(f for f in files if f is not None))
    write_json(folder / MANIFEST, manifest)
    _touch_runs(folder)
    return manifest


def _measure(folder: Path, path: Path) -> FileEntry | None:
    name = path.relative_to(folder)
    if str(name) == MANIFEST or any(part.startswith(".") for part in name.parts):
        return None
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return FileEntry(name=name.as_posix(), bytes=path.stat().st_size, sha256=digest)


def runs_stamp(stores: Sequence[Path] | None = None) -> str:
    """Changes whenever a run of the stores begins, is completed, replaced or removed.

    Costs the same however many runs there are: `finish_run` and `remove_manifest` touch the folder
    of all runs, whose time of change is what is compared. A manifest that is edited by hand counts
    from the next such event on.
    """
    times = []
    for place in _given_stores(stores):
        try:
            times.append(f"{place}:{(place / 'runs').stat().st_mtime_ns}")
        except OSError:
            times.append(f"{place}:absent")
    return "|".join(times)


def _touch_runs(folder: Path) -> None:
    """Tells `runs_stamp` that this run has another state."""
    with contextlib.suppress(OSError):
        os.utime(folder.parent)


def remove_manifest(folder: Path) -> None:
    """Makes a run incomplete; nothing else of it is touched."""
    (folder / MANIFEST).unlink(missing_ok=True)
    _touch_runs(folder)


def replacement_folder(folder: Path) -> Path:
    """Where a complete run is made anew, beside it: it stays as it is until `replace_run`."""
    return folder.parent.parent / "replacements" / folder.name


def replace_run(folder: Path) -> None:
    """Puts the complete run in `replacement_folder` in this one's place, whose lock is held.

    Raises:
        StoreError: The disk does not take it; the old run is intact.
    """
    new = replacement_folder(folder)
    # The same lock under the new name: it is held on, whichever folder has the name.
    (new / LOCK).unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # a disk without hard links
        os.link(folder / LOCK, new / LOCK)
    replace_folder(folder, new)
    with contextlib.suppress(OSError):  # others are made anew there
        new.parent.rmdir()
    _touch_runs(folder)


def own_run(folder: Path) -> Path:
    """A run that may be added to: itself, or its copy in the writable store if it came with the project.

    Raises:
        StoreError: The writable store has another training of this run, finished or not; or the copy
            cannot be written, or another process holds it.
    """
    if folder.resolve().parent.parent != _sample_store().resolve():
        return folder
    own, manifest = run_folder(default_store(), folder.name), read_manifest(folder)
    if not _is_complete(own):
        with lock_run(own):
            _copy_run(folder, own)
            finish_run(own, manifest)
    elif _weights(read_manifest(own)) != _weights(manifest):
        raise StoreError(
            f"{own} was trained apart from {folder} and has other weights: set {STORE_VARIABLE} to another "
            "store to add to a copy of this one."
        )
    return own


def _copy_run(folder: Path, own: Path) -> None:
    """All files but the manifest into a folder that holds nothing but its lock."""
    if any(path.name != LOCK for path in own.iterdir()):
        raise StoreError(
            f"{own} holds a run that is not complete: finish it with the same train command, or delete the "
            "folder."
        )
    try:
        unfinished = shutil.ignore_patterns(MANIFEST, ".*")
        shutil.copytree(folder, own, ignore=unfinished, dirs_exist_ok=True)
    except OSError as error:
        raise StoreError(f"{own} cannot be written: {error}.") from error


def _weights(manifest: RunManifest) -> set[FileEntry]:
    """The files that decide what a run answers: weights, and the state of its method."""
    names = ("pruning.json", ".safetensors")
    return {file for file in manifest.files if file.name.endswith(names)}


def is_being_trained(folder: Path) -> bool:
    """Whether a process holds this run now."""
    return is_locked(folder / LOCK)


@contextmanager
def lock_run(folder: Path) -> Iterator[None]:
    """Holds a run for this process; the system frees it when the process ends, killed or not.

    Raises:
        InUseError: Another process, or another part of this one, holds it.
        StoreError: The disk does not take the lock.
    """
    with lock_file(folder / LOCK, f"The run {folder.name} is being trained"):
        yield
