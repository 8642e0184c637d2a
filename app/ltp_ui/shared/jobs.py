"""Long work in the background: a command of this program as a process of its own, one at a time.

`start` runs `python -m ltp_core ARGUMENTS`; pass `--events`, so that its progress comes as JSON lines
and a last line `{"event": "end", "document": …}` says that it succeeded. Everything about a job is in
`<store>/jobs/<id>/`, so it survives a reload of the page and a restart of the app:

    job.json      kind, arguments, process number, when it was started, whether it was stopped
    events.jsonl  what it prints
    stderr.txt    what it says besides; its last line is the reason if it failed
    .lock         held by the process while it lives; the system frees it, however the process ends
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
import re
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import streamlit as st

from app.ltp_ui.shared.job_output import parsed, reason
from app.ltp_ui.shared.state import ROOT
from ltp_core import store
from ltp_core.files import InUseError, StoreError, is_locked, lock_file, write_json
from ltp_core.records import UserError

POLL_S = 2.0
"""Between two looks at a running job: often enough for people, seldom enough for a benchmark."""

KEPT_JOBS = 5
"""Finished jobs of a kind that are kept."""

NEWS_S = 3600.0
"""For so long after its end a page still says that a job failed or was stopped."""

JOINED = "The same work is running already: you will see its result."

START_S = 10.0
"""For another session that is starting a job, before this one gives up."""

GRACE_S = 3.0
"""For a stopped process to clean up, before it is asked less politely."""

_INFO, _EVENTS, _ERRORS, _LOCK = "job.json", "events.jsonl", "stderr.txt", ".lock"

State = Literal["running", "done", "stopped", "failed"]
OnEnd = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Job:
    """One piece of background work, running or ended; every property looks at the files anew.

    Attributes:
        id: Name of its folder.
        kind: What it is for; chosen by the page that started it.
        arguments: Arguments of the command.
        pid: Process and process group.
        started_at: ISO 8601, UTC.
        folder: Where its files are.
        is_joined: `start` found it running already, started by somebody else.
    """

    id: str
    kind: str
    arguments: tuple[str, ...]
    pid: int
    started_at: str
    folder: Path
    is_joined: bool = field(default=False, compare=False)

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return os.name == "posix" and is_locked(self.folder / _LOCK)

    @property
    def state(self) -> State:
        """Running; or done, stopped by the user, or failed."""
        if self.is_running:
            return "running"
        if any(event.get("event") == "end" for event in self.events()):
            return "done"
        return "stopped" if self._info().get("is_stopped") else "failed"

    @property
    def error(self) -> str | None:
        """Why it failed, in a sentence; None where it did not."""
        return reason(self._read(_ERRORS)) if self.state == "failed" else None

    @property
    def document(self) -> Any:
        """What the command found, as `--json` prints it; None before it is done."""
        ends = [event for event in self.events() if event.get("event") == "end"]
        return ends[-1].get("document") if ends else None

    @property
    def elapsed_s(self) -> float:
        """Since it was started, until now or until its end."""
        end = time.time() if self.is_running else self._last_written()
        return max(0.0, end - datetime.datetime.fromisoformat(self.started_at).timestamp())

    @property
    def is_recent(self) -> bool:
        """It runs, or has ended so short ago that its outcome is news."""
        return self.is_running or time.time() - self._last_written() < NEWS_S

    @property
    def command(self) -> str:
        """The command to type for the same work."""
        return f"python -m ltp_core {typed(self.arguments)}"

    def events(self) -> list[dict[str, Any]]:
        """What it has printed so far, oldest first; lines that are no JSON object are left out."""
        *lines, _unfinished = self._read(_EVENTS).split("\n")
        return [event for event in map(parsed, lines) if event is not None]

    def stop(self) -> None:
        """Ends the process and what it started; returns when they are gone."""
        write_json(self.folder / _INFO, {**self._info(), "is_stopped": True})
        self.kill()

    def forget(self) -> None:
        """Removes an ended one, for every tab and session."""
        if not self.is_running:
            shutil.rmtree(self.folder, ignore_errors=True)

    def kill(self) -> None:
        """The same without taking it down."""
        # Like Ctrl-C first: the process then removes its temporary files.
        for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
            if not self.is_running:
                return
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.pid, sign)
            self._wait(GRACE_S)

    def _wait(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while self.is_running and time.monotonic() < deadline:
            time.sleep(0.02)

    def _last_written(self) -> float:
        """When it last said something, or was stopped: its end, as far as anybody knows."""
        return max(
            (path.stat().st_mtime for path in self.folder.glob("*") if path.is_file()), default=0.0
        )

    def _info(self) -> dict[str, Any]:
        return parsed(self._read(_INFO)) or {}

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            return ""


def start(kind: str, arguments: Sequence[str], *, on_end: OnEnd | None = None) -> Job:
    """Starts a command in the background, or joins the same command where it runs already.

    Args:
        kind: What it is for, in letters and digits: the page asks for it by this name again.
        arguments: Of `python -m ltp_core`.
        on_end: Called by another thread when the process has gone, unless the app has gone before.

    Raises:
        UserError: Other work is going on, or the disk does not take the files.
    """
    if not re.fullmatch(r"[a-z0-9_]+", kind):
        raise ValueError(f"{kind!r} is no kind of job")
    folder = _jobs_folder()
    with _starting(folder):
        running = next((job for job in _jobs() if job.is_running), None)
        if running is not None and (running.kind, running.arguments) == (kind, tuple(arguments)):
            _in_background(running, lambda: running._wait(math.inf), on_end)
            return dataclasses.replace(running, is_joined=True)
        if running is not None:
            raise UserError(
                f"Something else is running ({running.command}): wait for it or stop it, so that "
                "neither slows the other down."
            )
        _forget_old(kind)
        now = datetime.datetime.now(datetime.UTC)
        name = f"{kind}-{now:%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
        job = Job(
            id=name,
            kind=kind,
            arguments=tuple(arguments),
            pid=0,
            started_at=now.isoformat(),
            folder=folder / name,
        )
        return _launch(job, on_end)


def current(kind: str) -> Job | None:
    """The job of this kind that was started last, running or ended; None before the first."""
    return next((job for job in _jobs() if job.kind == kind), None)


def find(job_id: str) -> Job | None:
    """The job with this id, running or ended; None where there is none."""
    return next((job for job in _jobs() if job.id == job_id), None)


def typed(arguments: Sequence[str]) -> str:
    """Arguments as they are typed in a shell, without what only a program asks for."""
    return shlex.join(argument for argument in arguments if argument != "--events")


def running() -> Job | None:
    """The job that runs now, of whatever kind."""
    return next((job for job in _jobs() if job.is_running), None)


def poll(kind: str, draw: Callable[[Job], None]) -> None:
    """Draws the current job, again and again while it runs, then runs the page once more.

    Args:
        kind: Kind of the job; nothing is drawn before the first.
        draw: Draws one state of it; widgets inside belong to a fragment.
    """
    job = current(kind)
    if job is None:
        return
    was_running = job.is_running

    def panel() -> None:
        draw(job)
        if was_running and not job.is_running:
            st.rerun()  # ends the polling

    st.fragment(panel, run_every=POLL_S if was_running else None)()


def _jobs_folder() -> Path:
    return store.default_store() / "jobs"


def _jobs() -> list[Job]:
    """All jobs of the store, the newest first."""
    try:
        folders = [path for path in _jobs_folder().iterdir() if (path / _INFO).is_file()]
    except OSError:
        return []
    jobs = [job for job in map(_job, folders) if job is not None]
    return sorted(jobs, key=lambda job: (job.started_at, job.id), reverse=True)


def _job(folder: Path) -> Job | None:
    try:
        raw = json.loads((folder / _INFO).read_bytes())
        datetime.datetime.fromisoformat(raw["started_at"])
        if int(raw["pid"]) <= 1:  # to a signal, 0 and 1 mean more than one process group
            return None
        return Job(
            id=folder.name,
            kind=str(raw["kind"]),
            arguments=tuple(map(str, raw["arguments"])),
            pid=int(raw["pid"]),
            started_at=raw["started_at"],
            folder=folder,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


@contextlib.contextmanager
def _starting(folder: Path) -> Iterator[None]:
    """Of two sessions that press the button at once, one waits for the other to have started."""
    if os.name != "posix":
        raise UserError("Background work needs Linux or macOS: run the command in a terminal.")
    deadline = time.monotonic() + START_S
    with contextlib.ExitStack() as held:
        while True:
            try:
                held.enter_context(lock_file(folder / ".start", "A job is being started"))
                break
            except InUseError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
        yield


def _launch(job: Job, on_end: OnEnd | None) -> Job:
    """The same with its process."""
    try:
        job.folder.mkdir(parents=True)
        pid = _spawn(job, on_end)
    except OSError as error:
        raise StoreError(
            f"The work cannot be started in {job.folder}: {error.strerror}."
        ) from error
    known = {"kind": job.kind, "arguments": job.arguments, "started_at": job.started_at}
    started = dataclasses.replace(job, pid=pid)
    try:
        write_json(job.folder / _INFO, {**known, "pid": pid, "is_stopped": False})
    except StoreError:  # nobody could see it, nor stop it
        started.kill()
        shutil.rmtree(job.folder, ignore_errors=True)
        raise
    return started


def _spawn(job: Job, on_end: OnEnd | None) -> int:
    """Starts the process with its lock; it outlives this one."""
    import fcntl

    folder = job.folder

    with (
        (folder / _EVENTS).open("wb") as out,
        (folder / _ERRORS).open("wb") as errors,
        (folder / _LOCK).open("wb") as lock,
    ):
        # The lock belongs to the open file, which the process inherits.
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = subprocess.Popen(
            _command(job.arguments),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=errors,
            env=_environment(),
            pass_fds=[lock.fileno()],
            start_new_session=True,
        )

    _in_background(job, process.wait, on_end)
    return process.pid


def _in_background(job: Job, wait: Callable[[], object], on_end: OnEnd | None) -> None:
    """Waits for the end of a job in another thread, and tells."""

    def see_off() -> None:
        wait()
        if on_end is not None:
            on_end()

    threading.Thread(target=see_off, name=f"see-off-{job.id}", daemon=True).start()


def _command(arguments: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "ltp_core", *arguments]


def _environment() -> dict[str, str]:
    """This process's, with the project on the path and progress bars off."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONIOENCODING": "utf-8",
        "TQDM_DISABLE": "1",
    }


def _forget_old(kind: str) -> None:
    """Removes the oldest ended jobs of a kind, so that one more makes `KEPT_JOBS`."""
    ended = [job for job in _jobs() if job.kind == kind and not job.is_running]
    for job in ended[KEPT_JOBS - 1 :]:
        shutil.rmtree(job.folder, ignore_errors=True)
