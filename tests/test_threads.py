"""Threads: as many as there are free cores, or as somebody says; children choose for themselves."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from ltp_core import threads
from ltp_core.records import UserError
from ltp_core.threads import CHOSEN, VARIABLE, WAITING, choose_threads
from tests.source_trees import ROOT


@pytest.fixture(autouse=True)
def nobody_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores, and no variable that says how many threads."""
    for name in (VARIABLE, CHOSEN, "OMP_NUM_THREADS", *WAITING):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(threads, "available_cores", lambda: 4)
    monkeypatch.setattr(os, "cpu_count", lambda: 4)


@pytest.mark.parametrize(("busy", "number"), [(0, 4), (0.4, 4), (1, 3), (3, 1), (4, 1), (26, 1)])
def test_threads_leave_busy_cores_alone(
    busy: float, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One thread at least, whatever else runs."""
    monkeypatch.setattr(threads, "busy_cores", lambda: busy)
    chosen = choose_threads()
    assert number == chosen.number
    assert ("busy" in chosen.reason) == (number < 4)


def test_a_share_of_a_machine_has_a_share_of_its_load(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four cores of sixteen, of which eight are busy: two are expected to be free."""
    monkeypatch.setattr(threads, "busy_cores", lambda: 8)
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    assert 2 == choose_threads().number


def test_who_says_a_number_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """LTP_THREADS before OMP_NUM_THREADS, and what was chosen here is nobody's wish."""
    monkeypatch.setattr(threads, "busy_cores", lambda: 3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert 3 == choose_threads().number
    monkeypatch.setenv(CHOSEN, "3")
    assert 1 == choose_threads().number
    monkeypatch.setenv(VARIABLE, "2")
    assert 2 == choose_threads().number
    for wrong in ("0", "-1", "two", "²", "5", "9" * 5000):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(UserError, match="number of threads from 1 to the 4 cores"):
            choose_threads()


def test_a_given_number_is_given_to_whatever_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two commands of one process and all that they start: nobody mistakes the wish for a choice."""
    monkeypatch.setattr(threads, "busy_cores", lambda: 0)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    assert [1, 1] == [threads.fit_threads().number for _ in range(2)]
    assert not os.environ[CHOSEN]


def test_torch_takes_what_was_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Imported later, in this process and in those that it starts; their waits are short."""
    code = """
import os
from ltp_core.threads import CHOSEN, fit_threads
fit_threads()
import torch
print(torch.get_num_threads(), os.environ[CHOSEN], os.environ["GOMP_SPINCOUNT"])
os.environ["LTP_THREADS"] = "1"
print(fit_threads().number, torch.get_num_threads())
"""
    environment = {k: v for k, v in os.environ.items() if v} | {VARIABLE: "2"}
    environment.pop("MKL_NUM_THREADS", None)  # would be somebody's wish too
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ["2 2 10000", "1 1"] == done.stdout.splitlines()


def test_a_busy_thread_is_seen() -> None:
    """A process that computes all the time counts."""
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as busy:
        try:
            assert any(threads.busy_cores() >= 1 for _ in range(50))
        finally:
            busy.kill()


def test_bad_numbers_are_sentences_of_the_command_line() -> None:
    """Not a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "ltp_core", "presets"],
        cwd=ROOT,
        env=os.environ | {VARIABLE: "many"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert 2 == done.returncode
    assert "LTP_THREADS is 'many'" in done.stderr
