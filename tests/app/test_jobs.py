"""Background jobs: they outlive the page, are seen by every session, stop, and say why they failed."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.ltp_ui.shared import jobs
from app.ltp_ui.shared.jobs import Job
from ltp_core.files import StoreError
from ltp_core.records import UserError

FOREVER = 'import time; print(\'{"event": "begin"}\', flush=True); time.sleep(600)'
DONE = 'print(\'noise\'); print(\'{"event": "end", "document": {"x": 1}}\'); print(\'{"half\')'
FAILS = "import sys; print('a warning', file=sys.stderr); sys.exit('ltp: There is no task x.')"
KILLED = "import os; os.kill(os.getpid(), 9)"
STUBBORN = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN); {FOREVER}"

TWO_MINUTES = 120.0


@pytest.fixture(autouse=True)
def _store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A fresh store; whatever a test leaves running ends with it."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    yield
    if (left := jobs.running()) is not None:
        left.stop()


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets jobs run a line of Python instead of a command."""

    def use(code: str) -> None:
        monkeypatch.setattr(jobs, "_command", lambda _: [sys.executable, "-c", code])

    return use


def ended(job: Job) -> Job:
    """The job after its end."""
    wait_for(lambda: not job.is_running)
    return job


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails if that takes too long."""
    deadline = time.monotonic() + TWO_MINUTES
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_command_runs_and_leaves_its_document() -> None:
    """The real thing: what the command finds comes as the last event."""
    job = ended(jobs.start("presets", ["presets", "--events"]))
    assert ("done", None) == (job.state, job.error)
    assert ["end"] == [event["event"] for event in job.events()]
    assert job.document
    assert "python -m ltp_core presets" == job.command


def test_a_command_that_fails_says_why() -> None:
    """The sentence of the command line, without its prefix."""
    job = ended(jobs.start("presets", ["presets", "no_such_preset", "--events"]))
    assert "failed" == job.state
    assert job.error is not None
    assert job.error.startswith("There is no preset")


def test_another_session_sees_the_job(script: Callable[[str], None]) -> None:
    """Nothing of a job is in memory: a fresh look finds the same."""
    script(FOREVER)
    job = jobs.start("bench", ["bench", "x"])
    seen = jobs.current("bench")
    assert job == seen
    assert seen.is_running
    assert "running" == seen.state
    assert job == jobs.running()
    assert jobs.current("lengths") is None


def test_events_come_while_it_runs(script: Callable[[str], None]) -> None:
    """A line is there as soon as it is printed."""
    script(FOREVER)
    job = jobs.start("bench", [])
    wait_for(lambda: bool(job.events()))
    assert [{"event": "begin"}] == job.events()
    assert job.is_running
    assert job.elapsed_s > 0


@pytest.mark.parametrize("code", [DONE, FAILS, KILLED, FOREVER])
def test_its_end_is_told(code: str, script: Callable[[str], None]) -> None:
    """However it ends, though nobody looks."""
    script(code)
    told: list[bool] = []
    job = jobs.start("lengths", [], on_end=lambda: told.append(True))
    if code == FOREVER:
        job.stop()
    wait_for(lambda: told == [True])
    assert not job.is_running


def test_one_at_a_time(script: Callable[[str], None]) -> None:
    """A second job, of whatever kind, is refused with the name of the first."""
    script(FOREVER)
    job = jobs.start("bench", ["bench", "my run"])
    with pytest.raises(UserError, match=r"python -m ltp_core bench 'my run'.*stop it"):
        jobs.start("lengths", [])
    job.stop()
    jobs.start("lengths", []).stop()


def test_two_sessions_that_start_the_same_at_once(
    script: Callable[[str], None], tmp_path: Path
) -> None:
    """The work is done once; the second is told, waits, and gets the answer, too."""
    script(f"import time; time.sleep(1); {DONE}")
    together, found, ends = threading.Barrier(2), list[Job](), list[int]()

    def press(session: int) -> None:
        together.wait()
        found.append(jobs.start("bench", ["bench", "x"], on_end=lambda: ends.append(session)))

    sessions = [threading.Thread(target=press, args=(session,)) for session in (1, 2)]
    for session in sessions:
        session.start()
    for session in sessions:
        session.join()
    assert found[0] == found[1]
    assert [False, True] == sorted(job.is_joined for job in found)
    assert 1 == len(list((tmp_path / "jobs").glob("bench-*")))
    assert [{"x": 1}, {"x": 1}] == [ended(job).document for job in found]
    wait_for(lambda: len(ends) == 2)
    assert [1, 2] == sorted(ends)


@pytest.mark.parametrize("code", [FOREVER, STUBBORN], ids=["polite", "stubborn"])
def test_stop_ends_the_process(
    code: str, script: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one that ignores Ctrl-C. Stopped is not failed."""
    monkeypatch.setattr(jobs, "GRACE_S", 0.3)
    script(code)
    job = jobs.start("bench", [])
    wait_for(lambda: bool(job.events()))
    job.stop()
    assert not job.is_running
    assert ("stopped", None) == (job.state, job.error)
    with pytest.raises(ProcessLookupError):
        wait_for(lambda: os.kill(job.pid, 0) is not None)  # reaped, not a zombie


def test_stop_ends_what_it_started(script: Callable[[str], None]) -> None:
    """The whole process group goes."""
    child = 'import os, time; print(f\'{{"event": "begin", "pid": {os.getpid()}}}\', flush=True)'
    script(f"import subprocess, sys; subprocess.run([sys.executable, '-c', {child!r} + {SLEEP!r}])")
    job = jobs.start("bench", [])
    wait_for(lambda: bool(job.events()))
    job.stop()

    def is_gone() -> bool:
        try:
            os.kill(job.events()[0]["pid"], 0)
        except ProcessLookupError:
            return True
        return False

    wait_for(is_gone)


SLEEP = "; time.sleep(600)"


def test_stopping_an_ended_job_hurts_nobody(script: Callable[[str], None]) -> None:
    """Its process number may belong to somebody else by now."""
    script(DONE)
    job = ended(jobs.start("bench", []))
    job.stop()
    assert "done" == job.state


def test_what_is_no_event_is_left_out(script: Callable[[str], None]) -> None:
    """Other lines, and a last line that is not finished."""
    script(DONE)
    job = ended(jobs.start("bench", []))
    assert [{"event": "end", "document": {"x": 1}}] == job.events()
    assert {"x": 1} == job.document


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (FAILS, "There is no task x."),
        (
            KILLED,
            "The process ended before its work was done; it was killed, or ran out of memory.",
        ),
        ("print('{}')", "The process ended before its work was done"),
        ("raise KeyError('x')", "It said last: KeyError: 'x'"),
    ],
    ids=["sentence", "killed", "silent", "traceback"],
)
def test_every_failure_is_a_sentence(
    code: str, sentence: str, script: Callable[[str], None]
) -> None:
    """A process that is gone without an end event has failed, whatever its exit status."""
    script(code)
    job = ended(jobs.start("bench", []))
    assert "failed" == job.state
    assert sentence in str(job.error)


def test_a_kill_from_outside_is_a_failure(script: Callable[[str], None]) -> None:
    """Nobody pressed stop: the page says that it was killed."""
    script(FOREVER)
    job = jobs.start("bench", [])
    os.kill(job.pid, signal.SIGKILL)
    assert "killed" in str(ended(job).error)


def test_news_grow_old(script: Callable[[str], None]) -> None:
    """The outcome of a job of long ago is no news; one that runs always is."""
    script(KILLED)
    job = ended(jobs.start("bench", []))
    assert job.is_recent
    for path in job.folder.iterdir():
        os.utime(path, (1e9, 1e9))
    assert not job.is_recent
    assert 0.0 == job.elapsed_s


def test_old_jobs_go(script: Callable[[str], None]) -> None:
    """A handful is kept of each kind; other kinds stay."""
    script(DONE)
    other = ended(jobs.start("lengths", []))
    made = [ended(jobs.start("bench", [])) for _ in range(jobs.KEPT_JOBS + 2)]
    assert other.folder.is_dir()
    assert [False] * 2 + [True] * jobs.KEPT_JOBS == [job.folder.is_dir() for job in made]
    assert made[-1] == jobs.current("bench")


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"kind": 1, "pid": 0}', "\0"])
def test_damaged_jobs_are_not_seen(content: str, tmp_path: Path) -> None:
    """A folder that cannot be read is no job; a process group of 0 is never signalled."""
    folder = tmp_path / "jobs" / "bench-1"
    folder.mkdir(parents=True)
    (folder / "job.json").write_text(content, encoding="utf-8")
    assert jobs.current("bench") is None
    whole = {"kind": "bench", "arguments": [], "pid": 0, "started_at": "2026-01-01T00:00:00+00:00"}
    (folder / "job.json").write_text(json.dumps(whole), encoding="utf-8")
    assert jobs.current("bench") is None


def test_a_store_that_cannot_be_written_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store is a file, say."""
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "file"))
    with pytest.raises(UserError, match="cannot be written"):
        jobs.start("bench", [])
    assert jobs.current("bench") is None


def test_a_job_that_cannot_be_taken_down_is_stopped(
    script: Callable[[str], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No page could see it; it leaves neither a process nor a folder."""
    script("time.sleep(60)")
    told = threading.Event()

    def full(path: Path, content: object) -> None:
        raise StoreError("No space left on device.")

    monkeypatch.setattr(jobs, "write_json", full)
    with pytest.raises(StoreError, match="No space left"):
        jobs.start("bench", [], on_end=told.set)
    assert told.wait(10), "the process has gone"
    assert not list(jobs._jobs_folder().glob("bench-*"))


def test_a_job_finds_this_program_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The app may be started from elsewhere, and relative paths mean that place."""
    monkeypatch.chdir(tmp_path)
    assert "done" == ended(jobs.start("presets", ["presets", "--events"])).state


def _page() -> None:
    import streamlit as st

    from app.ltp_ui.shared import jobs

    st.session_state["runs"] = st.session_state.get("runs", 0) + 1
    jobs.poll("bench", lambda job: st.write(job.state))


def test_poll_draws_and_runs_the_page_once_more(script: Callable[[str], None]) -> None:
    """Nothing before the first job; its state; and one more run after its end."""
    at = AppTest.from_function(_page).run()
    assert not at.markdown
    script(FOREVER)
    job = jobs.start("bench", [])
    assert "running" == at.run().markdown[0].value
    job.stop()
    assert "stopped" == at.run().markdown[0].value
    assert 3 == at.session_state["runs"]
