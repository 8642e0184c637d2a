"""Where checkpoints lie: in stores or folders, their weights in their own or in another run's. Torch-free."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import json
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ltp_core import store
from ltp_core.encoder.bases import DEFAULT_BASE
from ltp_core.records import UserError

PRUNING_FILE = "pruning.json"


class CheckpointError(UserError):
    """A checkpoint that is absent, incomplete or damaged."""


@dataclass(frozen=True, kw_only=True)
class CheckpointInfo:
    """A checkpoint of the store, not loaded.

    Attributes:
        bytes: Size of its own weights on disk, 0 where it shares another run's; an adapter needs its
            base besides.
    """

    name: str
    task: str
    method: str
    base: str
    bytes: int
    folder: Path


def list_checkpoints() -> list[CheckpointInfo]:
    """Complete runs of all stores whose weights are at hand, by name; the writable store comes first."""
    found: dict[str, CheckpointInfo] = {}
    for run in store.list_runs():
        if run.manifest is None or not holds_weights(run.folder):
            continue
        weights = [*run.folder.glob("adapter/*"), *run.folder.glob("model/*")]
        info = CheckpointInfo(
            name=run.name,
            task=run.manifest.task,
            method=run.manifest.method,
            base=str(run.manifest.base.get("name", "")),
            bytes=sum(path.stat().st_size for path in weights),
            folder=run.folder,
        )
        found.setdefault(run.name, info)
    return sorted(found.values(), key=lambda info: info.name)


def existing_folder(text: str) -> Path | None:
    """The folder of this path; None where there is none, or where the text can be no path."""
    try:
        path = Path(text).expanduser()
        return path if path.is_dir() else None
    except (OSError, RuntimeError):  # too long for a path, or nobody's home
        return None


def checkpoint_folder(name_or_path: str) -> Path:
    """Folder of a checkpoint by run name, unique prefix of one, or folder.

    Raises:
        CheckpointError: The name is empty or impossible.
        StoreError: There is none of that name, or more than one.
    """
    if "\0" in name_or_path or not name_or_path.strip():
        raise CheckpointError("Give the name of a run or the path of a model folder.")
    if (folder := existing_folder(name_or_path)) is not None:
        return folder
    if store.is_run_name(name_or_path):
        try:
            found = store.find_run(name_or_path)
        except store.StoreError:
            pass
        else:
            if found.name == name_or_path:
                return found
    # Runs that were stored without weights are no candidates for a short name.
    infos = {info.name: info for info in list_checkpoints()}
    matches = store.beginning_with(name_or_path, list(infos))
    # Nor are runs that only chose another strength of one that matches as well.
    own = [name for name in matches if _sharing(infos[name].folder) not in matches]
    # Nor those in INT8 or on another base, where one in floating point or on the default base matches.
    own = [name for name in own if "int8" not in pruning_record(infos[name].folder)] or own
    own = [name for name in own if infos[name].base == DEFAULT_BASE] or own
    return infos[own[0]].folder if len(own) == 1 else store.find_run(name_or_path)


def pruning_record(folder: Path) -> dict[str, Any]:
    """What `pruning.json` says, unchecked; empty where it cannot be read: loading says why."""
    try:
        raw = json.loads((folder / PRUNING_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}


def content_stamp(name_or_path: str) -> str:
    """Changes with any file of a checkpoint: size or time of its own files, and of shared weights.

    Args:
        name_or_path: As `checkpoint_folder` takes it.

    Raises:
        CheckpointError: The name is empty or impossible.
        StoreError: There is none of that name, or more than one.
    """
    folder = checkpoint_folder(name_or_path)
    files = [folder.glob("*"), folder.glob("adapter/*"), folder.glob("model/*")]
    with contextlib.suppress(CheckpointError):
        if shared := _shared_weights(folder):
            files.append(f for holder in _holders(folder, shared) if (f := weights_file(holder)))
    states = []
    for path in itertools.chain.from_iterable(files):
        about = path.stat()
        if stat.S_ISREG(about.st_mode):
            states.append((str(path), about.st_size, about.st_mtime_ns, about.st_ino))
    return hashlib.sha256(repr(sorted(states)).encode()).hexdigest()


def holds_weights(folder: Path) -> bool:
    """Whether a run can be loaded, not only read about: its weights are there, own or shared.

    Files are looked for and not read: a shared run that has other weights by now counts too.
    """
    try:
        shared = _shared_weights(folder)
    except CheckpointError:
        return False
    holders = _holders(folder, shared) if shared else [folder]
    return (folder / PRUNING_FILE).is_file() and any(map(weights_file, holders))


def weights_folder(folder: Path) -> Path:
    """The folder that holds a checkpoint's weights: its own, or the run's that it shares them with.

    Raises:
        CheckpointError: The shared run is misnamed, or in no store, or has other weights by now.
    """
    shared = _shared_weights(folder)
    if shared is None:
        return folder
    found = [holder for holder in _holders(folder, shared) if weights_file(holder) is not None]
    for holder in found:
        if weights_sha256(holder) == shared.sha256:
            return holder
    state = "has other weights by now" if found else "is in no store with its weights"
    raise CheckpointError(
        f"{folder} shares the weights of {shared.run}, which {state}: train this run again with --force, "
        "or restore that one."
    )


def sharing_runs(holder: Path) -> list[str]:
    """Names of the complete runs of all stores that have this run's weights and none of their own."""
    return [entry.name for entry in store.list_runs() if _shares(entry.folder, holder)]


def _shares(folder: Path, holder: Path) -> bool:
    try:
        found = weights_folder(folder)
    except CheckpointError:
        return False
    return found != folder and found.resolve() == holder.resolve()


@dataclass(frozen=True)
class _SharedWeights:
    """The run that holds a run's weights, and the hex digest of their file."""

    run: str
    sha256: str


def _shared_weights(folder: Path) -> _SharedWeights | None:
    """What `pruning.json` says of them; None where the weights are the run's own.

    Raises:
        CheckpointError: The run is misnamed.
    """
    record = pruning_record(folder)
    if "weights" not in record:
        return None
    raw = record["weights"]
    given = [raw.get(key) for key in ("run", "sha256")] if isinstance(raw, dict) else []
    named = [value for value in given if isinstance(value, str)]
    # A path could lead anywhere; of "..", pathlib says that it is a name.
    if len(named) != 2 or Path(named[0]).name != named[0] or named[0] in {"", ".."}:
        raise CheckpointError(f"{folder / PRUNING_FILE}: 'weights' does not name a run.")
    return _SharedWeights(*named)


def _sharing(folder: Path) -> str | None:
    """Name of the run whose weights this one shares, as far as it can be read."""
    with contextlib.suppress(CheckpointError):
        if shared := _shared_weights(folder):
            return shared.run
    return None


def _holders(folder: Path, shared: _SharedWeights) -> list[Path]:
    """Where that run may be: beside this one, or in any store."""
    places = (folder.resolve().parent.parent, *store.stores())
    return [store.run_folder(place, shared.run) for place in places]


def weights_file(folder: Path) -> Path | None:
    """The file with a run's own weights, if it has them."""
    files = (
        folder / "adapter" / "adapter_model.safetensors",
        folder / "model" / "model.safetensors",
    )
    return next((file for file in files if file.is_file()), None)


def weights_sha256(folder: Path) -> str | None:
    """Hex digest of that file, which is read again only after a change; None without one."""
    file = weights_file(folder)
    if file is None:
        return None
    about = file.stat()
    return _sha256(file, about.st_mtime_ns, about.st_size)


@functools.lru_cache(maxsize=64)
def _sha256(path: Path, changed_ns: int, size_bytes: int) -> str:
    """Of the file as it is; the other arguments tell one state of it from the next."""
    del changed_ns, size_bytes
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
