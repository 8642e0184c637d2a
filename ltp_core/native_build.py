"""Builds the native pass with the machine's own C++ compiler, once, and finds what was built. Torch-free.

The sources in `runners/cpp/` know nothing of PyTorch or Python: a library of two seconds' work, for the
instruction set of the processor that builds it. It lies in the user's cache folder under a name that
holds a hash of sources, flags and processor, so a change of any of them means another library.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ltp_core.environment import cpp_compiler, processor
from ltp_core.records import UserError

VARIABLE = "LTP_NATIVE"
"""Environment variable; 0 switches the native pass off, and on a GPU attention without blanks."""

SOURCES = Path(__file__).resolve().parent / "runners" / "cpp"

FLAGS = (
    *("-std=c++17", "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math"),
    *("-fopenmp", "-shared", "-fPIC"),
)

BUILD_COMMAND = "python -m ltp_core doctor --build"

TIMEOUT_S = 300


@dataclass(frozen=True, kw_only=True)
class NativeState:
    """Whether the native pass is used on this machine.

    Attributes:
        is_used: It is built, and not switched off.
        detail: Where it is, or what would have to be done.
        types: Of weights that it computes in; none where it is not used.
    """

    is_used: bool
    detail: str
    types: tuple[str, ...] = ()


def native_state() -> NativeState:
    """What `doctor` says."""
    path = built_file()
    if is_switched_off():
        return NativeState(is_used=False, detail=f"switched off by {VARIABLE}=0")
    if load_library() is not None:
        has = {"float32": True, "bfloat16": multiplies_bfloat16(), "int8": multiplies_int8()}
        types = tuple(name for name, is_there in has.items() if is_there)
        return NativeState(is_used=True, detail=str(path), types=types)
    if path.exists():
        return NativeState(
            is_used=False, detail=f"{path} cannot be loaded: build it again, {BUILD_COMMAND}"
        )
    lacks = "" if cpp_compiler() else " (needs a C++ compiler, as g++)"
    return NativeState(is_used=False, detail=f"not built: {BUILD_COMMAND}{lacks}")


def built_file() -> Path:
    """Where the library of these sources for this processor is, or would be."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "token-pruning-explorer" / f"native-{_key()}.so"


@functools.cache
def _key() -> str:
    """Hash of everything that the library depends on, the compiler's version apart."""
    digest = hashlib.sha256(" ".join([*FLAGS, platform.system(), platform.machine()]).encode())
    for source in sorted(SOURCES.iterdir()):
        if source.suffix in {".h", ".cpp"}:
            digest.update(source.read_bytes())
    digest.update(_processor_features().encode())
    return digest.hexdigest()[:16]


def _processor_features() -> str:
    """Instruction sets where Linux lists them, else the processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def build_library() -> Path:
    """Builds the library, or finds it built.

    Raises:
        UserError: There is no compiler, it refuses, or the cache folder cannot be written.
    """
    path = built_file()
    if path.exists() and _opened(path) is not None:
        return path
    compiler = cpp_compiler()
    if compiler is None:
        raise UserError(
            "The native pass needs a C++ compiler: install one, as g++, or name it in CXX. Without it "
            "everything works, only slower."
        )
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(6)}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        subprocess.run(
            [compiler, *FLAGS, str(SOURCES / "encoder.cpp"), "-o", str(temporary)],
            check=True,
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
        )
        temporary.replace(path)
    except subprocess.CalledProcessError as error:
        raise UserError(
            f"{compiler} does not build the native pass; another compiler can be named in CXX. It says: "
            f"{error.stderr.strip()[:500]}"
        ) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"The native pass cannot be built into {path.parent}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    _opened.cache_clear()
    if _opened(path) is None:
        raise UserError(f"{compiler} built {path}, but it cannot be loaded.")
    return path


def load_library() -> ctypes.CDLL | None:
    """The library; None where it is not built, or switched off."""
    return None if is_switched_off() else _opened(built_file())


def multiplies_bfloat16() -> bool:
    """Whether native code computes in bfloat16 here: where the processor adds products of pairs.

    Not where it has AMX besides, with which oneDNN, the packed runner's library, is far faster.
    """
    library = load_library()
    return library is not None and bool(library.has_bfloat16()) and "amx_bf16" not in processor()


def multiplies_int8() -> bool:
    """Whether native code computes in int8 here: where the processor adds products of four bytes."""
    library = load_library()
    return library is not None and bool(library.has_int8())


def is_switched_off() -> bool:
    """Whether plain PyTorch alone is wanted."""
    return os.environ.get(VARIABLE, "") == "0"


@functools.cache
def _opened(path: Path) -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None
