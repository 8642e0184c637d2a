"""Files are written whole or not at all; a lock dies with its process."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core import files, store
from ltp_core.files import _plain
from ltp_core.store import StoreError
from tests.runs import finished_run, frames, manifest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A complete run in a store of its own."""
    return finished_run(store.run_folder(tmp_path, "sst2-ltp-0123456789"))


@pytest.fixture(params=["full", "refused"])
def broken_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """A disk that fails while a file is written; the value is what the sentence says."""
    code = errno.ENOSPC if request.param == "full" else errno.EACCES

    def fail(_: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", fail)
    return "No space is left" if request.param == "full" else "Permission denied"


def test_a_failed_rename_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between writing and renaming: the old content, and nothing beside it."""
    path = tmp_path / "config.json"
    store.atomic_write(path, b"old")

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "broken")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StoreError, match=r"config\.json cannot be written: broken"):
        store.atomic_write(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["config.json"]  # noqa: PTH208 - hidden files count


def test_a_broken_disk_leaves_the_old_file_and_a_sentence(run: Path, broken_disk: str) -> None:
    """Full or refused: what was there is there, whole."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(StoreError, match=broken_disk):
        store.write_table(run, "examples", frames()["examples"].iloc[:1])
    with pytest.raises(StoreError, match=broken_disk):
        store.finish_run(run, manifest(seed=8))
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


def test_a_folder_that_cannot_be_made_is_a_sentence(tmp_path: Path) -> None:
    """A file where the folder should be."""
    (tmp_path / "runs").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        store.write_json(store.run_folder(tmp_path, "a-b-c") / "config.json", {})


def test_a_killed_writer_leaves_the_old_file(tmp_path: Path) -> None:
    """SIGKILL in the middle of writing, in a process of its own."""
    path = tmp_path / "config.json"
    store.write_json(path, {"old": True})
    code = (
        "import os, pathlib, sys\n"
        "from ltp_core.files import atomic_write\n"
        "os.fsync = lambda _: os.kill(os.getpid(), 9)\n"
        "atomic_write(pathlib.Path(sys.argv[1]), b'x' * 1000000)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, path], cwd=ROOT, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert json.loads(path.read_bytes()) == {"old": True}
    # The next writer is not hindered by what the killed one left.
    store.write_json(path, {"new": True})
    assert json.loads(path.read_bytes()) == {"new": True}


def test_json_is_plain(tmp_path: Path) -> None:
    """Records, arrays, paths and tuples become JSON's own types; NaN becomes null."""
    path = tmp_path / "a.json"
    store.write_json(
        path,
        {
            "z": np.float32(0.5),
            "a": (np.int64(3), float("nan"), np.array([1.0, np.inf])),
            "p": Path("x") / "y",
            "s": {2, 1},
            "t": "é\x00\u202e",
        },
    )
    back = json.loads(path.read_text(encoding="utf-8"))
    assert back == {
        "z": 0.5,
        "a": [3, None, [1.0, None]],
        "p": "x/y",
        "s": [1, 2],
        "t": "é\x00\u202e",
    }
    assert list(back) == ["z", "a", "p", "s", "t"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@given(json_values)
def test_plain_values_stay_as_they_are(value: object) -> None:
    """What is JSON already is not changed."""
    assert _plain(value) == value


def test_a_second_lock_in_the_same_process_is_refused(tmp_path: Path) -> None:
    """And the first one stays in force."""
    with store.lock_run(tmp_path):
        for _ in range(2):
            with (
                pytest.raises(StoreError, match=f"being trained by process {os.getpid()}"),
                store.lock_run(tmp_path),
            ):
                pass
    assert not (tmp_path / ".lock").exists()
    with store.lock_run(tmp_path):
        pass


def test_a_lock_of_another_folder_stays(tmp_path: Path) -> None:
    """Where the folder was removed and made anew, the lock in it is another process's."""
    folder = tmp_path / "partial"
    with files.lock_file(folder / ".lock", "held"):
        shutil.rmtree(folder)
        folder.mkdir()
        (folder / ".lock").write_text("1")
    assert (folder / ".lock").exists()


def test_another_process_that_holds_a_run_is_named_until_it_dies(tmp_path: Path) -> None:
    """Killed without a chance to tidy up, it leaves a file but no lock."""
    code = (
        "import pathlib, sys, time\n"
        "from ltp_core.store import lock_run\n"
        "with lock_run(pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(60)\n"
    )
    folder = tmp_path / "sst2-ltp-{braces}"
    holder = subprocess.Popen(
        [sys.executable, "-c", code, folder], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        sentence = rf"sst2-ltp-\{{braces\}} is being trained by process {holder.pid}: wait"
        with pytest.raises(StoreError, match=sentence), store.lock_run(folder):
            pass
        holder.kill()
    assert (folder / ".lock").exists()
    with store.lock_run(folder):
        assert (folder / ".lock").read_text() == str(os.getpid())


def test_a_failure_inside_frees_the_lock(tmp_path: Path) -> None:
    """The error passes through."""
    with pytest.raises(KeyError), store.lock_run(tmp_path):
        raise KeyError
    with store.lock_run(tmp_path):
        pass


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_folder_takes_another_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchanges: bool
) -> None:
    """With an exchange of names, or without where the system has none."""
    if not exchanges:
        monkeypatch.setattr(files.ctypes, "CDLL", lambda _: object())
    old, new = tmp_path / "runs" / "x", tmp_path / "new" / "x"
    for folder in (old, new):
        folder.mkdir(parents=True)
        (folder / folder.parent.name).write_text("")
    files.replace_folder(old, new)
    assert [path.name for path in old.iterdir()] == ["new"]
    assert [path.name for path in (*old.parent.iterdir(), *new.parent.iterdir())] == ["x"]
    with pytest.raises(files.StoreError):
        files.replace_folder(old, new)
    assert [path.name for path in old.iterdir()] == ["new"]
