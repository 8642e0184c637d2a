"""Files that are written whole or not at all, and a lock that dies with its process."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import errno
import json
import math
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ltp_core.records import UserError


class StoreError(UserError):
    """A run is absent, broken, in use, or cannot be written; the message says what to do."""


class InUseError(StoreError):
    """Another process, or another part of this one, holds the lock."""


def write_json(path: Path, obj: object) -> None:
    """Writes a document, whole or not at all; keys keep their order, NaN and infinity become null.

    Raises:
        StoreError: The disk does not take it.
    """
    atomic_write(path, (json_text(obj) + "\n").encode())


def json_text(obj: object, *, ensure_ascii: bool = False) -> str:
    """The document that `write_json` writes, without the final line break."""
    return json.dumps(_plain(obj), indent=2, ensure_ascii=ensure_ascii, allow_nan=False)


def _plain(obj: Any) -> Any:
    """Records, arrays and paths as JSON's own types."""
    if dataclasses.is_dataclass(obj) and not isinstance(obj, type):
        obj = dataclasses.asdict(obj)
    if hasattr(obj, "tolist"):  # NumPy's arrays and scalars, without importing it
        obj = obj.tolist()
    if isinstance(obj, Mapping):
        return {str(key): _plain(value) for key, value in obj.items()}
    if isinstance(obj, set | frozenset):
        obj = sorted(obj)
    if isinstance(obj, list | tuple):
        return [_plain(value) for value in obj]
    if isinstance(obj, float) and not math.isfinite(obj):
        return None
    return str(obj) if isinstance(obj, Path) else obj


def atomic_write(path: Path, content: bytes) -> None:
    """Writes a file so that a reader, or a crash at any time, sees the old one or the new one whole.

    Folders on the way are made.

    Raises:
        StoreError: The disk is full, or does not take it for another reason; the old file is intact.
    """
    with atomic_file(path) as file:
        file.write(content)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes its name only when it is whole, as `atomic_write` says.

    Raises:
        StoreError: The disk is full, or does not take it for another reason; the old file is intact.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise not_written(path, error) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def replace_folder(old: Path, new: Path) -> None:
    """Puts a folder in another's place, on the same disk; what was there is deleted.

    Where the system can exchange two names (Linux), a reader, or a crash at any time, sees the old one
    or the new one whole; elsewhere there is an instant without either.

    Raises:
        StoreError: The disk does not take it; the old folder is intact.
    """
    exchange = getattr(ctypes.CDLL(None), "renameat2", None) if os.name == "posix" else None
    here, exchanges = -100, 2  # AT_FDCWD and RENAME_EXCHANGE
    try:
        if exchange and not exchange(here, os.fsencode(new), here, os.fsencode(old), exchanges):
            retired = new
        else:
            retired = new.with_name(f".{new.name}.{secrets.token_hex(6)}.old")
            old.rename(retired)
            try:
                new.rename(old)
            except OSError:
                retired.rename(old)
                raise
        _sync_folder(old.parent)
    except OSError as error:
        raise not_written(old, error) from error
    shutil.rmtree(retired, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    # The rename itself is safe only then; Windows cannot open a folder.
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def not_written(path: Path, error: OSError) -> StoreError:
    """What to say where the disk does not take a file."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return StoreError(
            f"No space is left to write {path}: free some and run the same command again."
        )
    return StoreError(f"{path} cannot be written: {error.strerror or error}.")


@contextlib.contextmanager
def lock_file(path: Path, holds: str) -> Iterator[None]:
    """Holds an exclusive lock on a file that names this process; the file goes with the lock.

    Args:
        path: The lock file; folders on the way are made.
        holds: Beginning of the error's sentence; it goes on "by process N: …".

    Raises:
        InUseError: The lock is held.
        StoreError: The disk does not take the file.
    """
    handle = _acquire(path, holds)
    try:
        yield
    finally:
        # Another process may hold a new file of this name where the folder was removed meanwhile.
        if _is_same_file(path, handle):
            path.unlink(missing_ok=True)
        os.close(handle)


def _acquire(path: Path, holds: str) -> int:
    import fcntl  # POSIX only: reading a store must work without it

    while True:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise not_written(path, error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_same_file(path, handle):
                os.ftruncate(handle, 0)
                os.pwrite(handle, str(os.getpid()).encode(), 0)
                return handle
        except BlockingIOError as error:
            holder = os.pread(handle, 32, 0).decode(errors="replace") or "unknown"
            os.close(handle)
            raise InUseError(f"{holds} by process {holder}: wait for it or stop it.") from error
        except OSError as error:
            os.close(handle)
            raise not_written(path, error) from error
        os.close(handle)


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock of this file now."""
    import fcntl

    try:
        handle = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        # Shared and given back at once: of two processes that only look, neither sees the other.
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


def _is_same_file(path: Path, handle: int) -> bool:
    """False where the last holder removed the file between our opening and locking it."""
    try:
        return os.path.samestat(path.stat(), os.fstat(handle))
    except FileNotFoundError:
        return False
