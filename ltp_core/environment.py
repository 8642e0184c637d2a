"""What runs where: versions, hardware, load and commit; and whether downloads are allowed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

PACKAGES = (
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "datasets",
    "accelerate",
    "peft",
    "numpy",
    "pandas",
    "streamlit",
)


BUSY_LOAD = 0.5
"""Load average per core above which a machine is called busy."""


def downloads_allowed() -> bool:
    """Whether the user allows downloads (`LTP_ALLOW_DOWNLOADS=1`)."""
    return os.environ.get("LTP_ALLOW_DOWNLOADS", "") == "1"


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def load_average() -> float | None:
    """Load average of the last minute per core; None where the system does not say."""
    try:
        return os.getloadavg()[0] / (os.cpu_count() or 1)
    except (AttributeError, OSError):
        return None


def packages() -> dict[str, str]:
    """Installed versions of the packages that results depend on, and of Python."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hardware(device: str = "cpu") -> dict[str, Any]:
    """Processor, cores in use and accelerator, without a name of this machine."""
    import torch

    card: dict[str, Any] = {
        "processor": processor(),
        "cores": available_cores(),
        "threads": torch.get_num_threads(),
        "system": platform.system(),
        "device": device,
    }
    if device.startswith("cuda"):
        card["accelerator"] = torch.cuda.get_device_name(device)
    return card


def processor() -> str:
    """Model name of the processor, with its matrix extensions where Linux lists them."""
    facts = _processor_facts()
    if not facts:
        return platform.processor() or platform.machine()
    flags = facts.get("flags", "").split()
    extensions = [flag for flag in ("avx2", "avx512f", "amx_bf16") if flag in flags]
    return " ".join([facts.get("model name", platform.machine()), *extensions])


def is_intels() -> bool:
    """Whether Intel made the processor, by what it says of itself: a model name can be a hypervisor's."""
    return "Intel" in _processor_facts().get("vendor_id", platform.processor())


BFLOAT16_FLAGS = {"avx512_bf16", "amx_bf16", "bf16"}
"""What Linux lists of a processor that multiplies bfloat16: of x86 the first two, of ARM the last."""

EMULATED = (
    "this processor has no products in bfloat16 and only emulates them, which takes about three times "
    "as long as float32"
)


def emulates_bfloat16() -> bool:
    """Whether bfloat16 is slower than float32 on this processor; False where Linux does not list it."""
    facts = _processor_facts()
    flags = facts.get("flags", facts.get("Features", "")).split()
    return bool(flags) and not BFLOAT16_FLAGS & set(flags)


def _processor_facts() -> dict[str, str]:
    """What Linux says of the last core; empty elsewhere."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, value in pairs}


def cpp_compiler() -> str | None:
    """Path of the C++ compiler: the one that CXX names, else a usual one; None where there is none."""
    names = (os.environ.get("CXX"), "g++", "clang++", "c++")
    found = (shutil.which(name) for name in names if name)
    return next(filter(None, found), None)


def git_state() -> dict[str, Any]:
    """Commit of the code and whether it had changes; nulls outside a checkout."""
    root = Path(__file__).resolve().parent.parent

    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", str(root), *arguments],
                capture_output=True,
                text=True,
                check=True,
                timeout=10,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    top = git("rev-parse", "--show-toplevel")
    if top is None or not root.samefile(top):  # installed inside somebody else's checkout
        return {"commit": None, "dirty": None}
    commit = git("rev-parse", "HEAD")
    changes = git("status", "--porcelain", "--untracked-files=no")
    return {"commit": commit, "dirty": None if changes is None else bool(changes)}
