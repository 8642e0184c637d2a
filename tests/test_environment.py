"""What a manifest says about the machine and the code: enough to repeat a result, nothing private."""

from __future__ import annotations

import getpass
import importlib.metadata
import importlib.util
import json
import os
import platform
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from ltp_core import environment


def test_packages_are_those_installed() -> None:
    """Versions of what results depend on, and of Python."""
    found = environment.packages()
    assert platform.python_version() == found.pop("python")
    assert {"torch", "transformers", "tokenizers", "safetensors", "numpy"} <= set(found)
    assert {name: importlib.metadata.version(name) for name in found} == found


def test_a_package_that_is_not_installed_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Absence is no error."""
    monkeypatch.setattr(environment, "PACKAGES", ("numpy", "no-such-package"))
    assert ["python", "numpy"] == list(environment.packages())


def test_hardware_names_the_processor_and_not_the_machine() -> None:
    """Processor, cores, threads and device; no host name, user or folder."""
    found = environment.hardware()
    assert ["cores", "device", "processor", "system", "threads"] == sorted(found)
    assert ("cpu", torch.get_num_threads()) == (found["device"], found["threads"])
    assert found["cores"] >= 1
    assert found["processor"]
    text = json.dumps(found)
    assert socket.gethostname() not in text
    assert os.sep + getpass.getuser() not in text


def test_processor_without_proc_is_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is no /proc/cpuinfo, the platform module answers."""

    def refuse(*_: Any, **__: Any) -> str:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_text", refuse)
    assert environment.hardware()["processor"] in (platform.processor(), platform.machine())


@pytest.mark.parametrize(
    ("lines", "emulates", "is_intels"),
    [
        ("vendor_id: GenuineIntel\nmodel name: QEMU\nflags: avx2 avx512f avx512_vnni", True, True),
        ("vendor_id: GenuineIntel\nflags: avx512f avx512_bf16 amx_bf16", False, True),
        ("vendor_id: AuthenticAMD\nflags: avx2 avx512_bf16", False, False),
        ("vendor_id: AuthenticAMD\nflags: avx2", True, False),
        ("Features: fp asimd bf16", False, False),
        ("Features: fp asimd", True, False),
        ("processor: 0", False, False),
    ],
)
def test_what_a_processor_says_of_itself(
    lines: str, emulates: bool, is_intels: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who made it, and whether it multiplies bfloat16; what is not listed is not claimed."""
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: lines)
    monkeypatch.setattr(platform, "processor", lambda: "")
    assert (emulates, is_intels) == (environment.emulates_bfloat16(), environment.is_intels())


# --- the code ---------------------------------------------------------------------------------------


def git(folder: Path, *arguments: str) -> str:
    """Runs git with an identity of its own."""
    settings = ("user.name=test", "user.email=test@example.org", "commit.gpgsign=false")
    identity = [part for setting in settings for part in ("-c", setting)]
    done = subprocess.run(
        ["git", "-C", str(folder), *identity, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def state_of_a_copy_in(root: Path) -> dict[str, Any]:
    """What `git_state` says where the module lies in `<root>/ltp_core/`."""
    path = root / "ltp_core" / "environment.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        shutil.copy(environment.__file__, path)
    spec = importlib.util.spec_from_file_location("environment_copy", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    state: dict[str, Any] = module.git_state()
    return state


NOWHERE = {"commit": None, "dirty": None}


def test_outside_a_checkout_nothing_is_known(tmp_path: Path) -> None:
    """No commit is better than a wrong one; inside another project's checkout too."""
    assert state_of_a_copy_in(tmp_path / "a") == NOWHERE
    git(tmp_path, "init", "-q")
    git(tmp_path, "commit", "-q", "--allow-empty", "-m", "another project")
    assert state_of_a_copy_in(tmp_path / "a") == NOWHERE


def test_a_checkout_says_its_commit_and_whether_it_was_changed(tmp_path: Path) -> None:
    """Changes of tracked files count, files beside them do not."""
    git(tmp_path, "init", "-q")
    assert state_of_a_copy_in(tmp_path)["commit"] is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    clean = {"commit": git(tmp_path, "rev-parse", "HEAD"), "dirty": False}
    (tmp_path / "notes").write_text("x")
    assert clean == state_of_a_copy_in(tmp_path)
    with (tmp_path / "ltp_core" / "environment.py").open("a") as file:
        file.write("\n")
    assert {**clean, "dirty": True} == state_of_a_copy_in(tmp_path)


def test_without_git_nothing_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No git on the machine is no error."""
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment.git_state() == NOWHERE
