"""A cluster gives what one machine gives, a worker may die, and without Ray a sentence says what to do.

Most of it needs Ray (`pip install -r requirements-cluster.txt`) and is left out without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ltp_core.checkpoint import load_checkpoint
from ltp_core.cluster.connection import HERE, SILENT, connected
from ltp_core.cluster.predicting import cluster_engine
from ltp_core.predicting.predict import predict_file
from ltp_core.predicting.scoring import Scorer
from ltp_core.records import UserError
from tests import tiny
from tests.checkpoints import REVIEWS
from tests.commands import run
from tests.sweep.test_sweep import command, stored_states, workplace, write_sweep
from tests.trainings import Workplace

__all__ = ["workplace"]

needs_ray = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="an extra")
TEXTS = [" ".join(tiny.WORDS[i % 7 : i % 7 + 1 + i % 9]) for i in range(3_000)]


class Machines:
    """Two machines with one core each, as processes of this one."""

    def __init__(self) -> None:
        self._cluster: Any = importlib.import_module("ray.cluster_utils").Cluster()
        for _ in range(2):
            self._cluster.add_node(
                num_cpus=1, object_store_memory=100 * 2**20, include_dashboard=False
            )
        self.address: str = self._cluster.address

    def working_on(self, task: str) -> list[int]:
        """Workers that run this function now; Ray shows its name as the process's."""
        found = []
        raylets = {
            info.process.pid
            for node in self._cluster.list_all_nodes()
            for info in node.all_processes["raylet"]
        }
        for path in Path("/proc").glob("[0-9]*"):
            try:
                parent = int((path / "stat").read_text().rpartition(")")[2].split()[1])
                if parent in raylets and (path / "cmdline").read_text().startswith(f"ray::{task}"):
                    found.append(int(path.name))
            except OSError:
                continue  # it has just ended
        return found

    def close(self) -> None:
        """Ends all processes."""
        self._cluster.shutdown()


@pytest.fixture(scope="module")
def machines() -> Iterator[Machines]:
    """Started once."""
    os.environ.update(SILENT | HERE)
    found = Machines()
    yield found
    found.close()


def save(path: Path) -> Path:
    """A table of numbered texts, some of them missing."""
    frame = pd.DataFrame({"id": range(len(TEXTS)), "text": TEXTS})
    frame.loc[::100, "text"] = None
    frame.to_csv(path, index=False)
    return path


def predict(source: Path, out: Path, *options: str) -> dict[str, Any]:
    """Runs the command, which has to succeed."""
    ran = run(
        *("predict", REVIEWS, str(source), "--text", "text", "--out", str(out)),
        *("--chunk-rows", "700", "--json", *options),
    )
    assert 0 == ran.status, ran.stderr
    document = json.loads(ran.stdout)
    return {key: document[key] for key in ("rows", "without_text", "first_without_text", "cut")}


@needs_ray
@pytest.mark.slow
@pytest.mark.parametrize("runner", ["packed", "onnx"])
def test_a_file_is_that_of_one_machine(
    tiny_store: Path, tmp_path: Path, machines: Machines, runner: str
) -> None:
    """Byte for byte: rows in their order, labels, probabilities; and the same counts."""
    source = save(tmp_path / "in.csv")
    options = ("--runner", runner)
    here = predict(source, tmp_path / "here.csv", *options)
    there = predict(
        source, tmp_path / "there.csv", *options, "--engine", "ray", "--address", machines.address
    )
    assert here == there
    assert (tmp_path / "here.csv").read_bytes() == (tmp_path / "there.csv").read_bytes()


@needs_ray
@pytest.mark.slow
def test_a_killed_worker_loses_nothing(
    tiny_store: Path, tmp_path: Path, machines: Machines
) -> None:
    """Its chunk is computed by another one; a killed command goes on here, with what was saved there."""
    source, model = save(tmp_path / "in.csv"), load_checkpoint(REVIEWS)
    scorer = Scorer(model)
    predict_file(scorer, source, ["text"], tmp_path / "here.csv", chunk_rows=250)
    killed: list[int] = []

    def kill(rows: int, fraction: float | None) -> None:
        for worker in [] if killed else machines.working_on("_predict"):
            os.kill(worker, signal.SIGKILL)
            killed.append(worker)
        if rows >= 2_000:
            raise KeyboardInterrupt

    out = tmp_path / "there.csv"
    with connected(machines.address) as cluster:
        engine = cluster_engine(
            cluster, model, runner="packed", dtype="float32", batch_size=32, device="cpu"
        )
        with pytest.raises(KeyboardInterrupt):
            predict_file(scorer, source, ["text"], out, chunk_rows=250, engine=engine, report=kill)
        with pytest.raises(UserError, match="no GPU"):
            cluster_engine(
                cluster, model, runner="packed", dtype="float32", batch_size=32, device="cuda"
            )
    assert killed
    counts = predict_file(scorer, source, ["text"], out, chunk_rows=250)
    assert (2_000, 3_000) == (counts.resumed, counts.rows)
    assert (tmp_path / "here.csv").read_bytes() == out.read_bytes()


@needs_ray
@pytest.mark.slow
def test_a_sweep_is_that_of_one_machine(
    workplace: Workplace, tmp_path: Path, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every run is trained once, one whose worker was killed too, to the same thresholds and weights."""
    write_sweep(workplace.folder, values=[0.5])
    killed: list[int] = []
    is_over = threading.Event()

    def kill() -> None:
        while not killed and not is_over.is_set():
            # A snapshot or history: it is in the middle of training.
            if list(workplace.store.glob("runs/*/history*")):
                for worker in machines.working_on("_train"):
                    os.kill(worker, signal.SIGKILL)
                    killed.append(worker)
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    ran = run(*command(workplace, "--engine", "ray", "--address", machines.address))
    is_over.set()
    killer.join()
    assert 0 == ran.status, ran.stderr
    assert killed
    document = json.loads(ran.stdout)
    assert ["done"] * 3 == stored_states(document)
    here = tmp_path / "here"
    monkeypatch.setenv("LTP_STORE", str(here))
    assert 0 == run(*command(workplace)).status
    for entry in document["runs"]:
        for file in ("pruning.json", "adapter/adapter_model.safetensors"):
            one, other = (
                place / "runs" / entry["name"] / file for place in (here, workplace.store)
            )
            assert one.read_bytes() == other.read_bytes(), (entry, file)


@needs_ray
def test_a_cluster_that_is_not_there(tiny_store: Path, tmp_path: Path) -> None:
    """A sentence, and no output."""
    source = save(tmp_path / "in.csv")
    arguments = ("--out", str(tmp_path / "out.csv"), "--engine", "ray", "--address", "no-port")
    ran = run("predict", REVIEWS, str(source), "--text", "text", *arguments)
    assert 2 == ran.status, ran.stderr
    assert "There is no Ray cluster at 'no-port'" in ran.stderr
    assert [source] == list(tmp_path.iterdir())


def test_without_ray_it_says_what_to_install(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence and status 2; an address alone is refused as well."""
    source = save(tmp_path / "in.csv")
    arguments = ("predict", REVIEWS, str(source), "--text", "text", "--out", "out.csv")
    ran = run(*arguments, "--address", "127.0.0.1:6379")
    assert (2, True) == (ran.status, "add --engine ray" in ran.stderr)
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    ran = run(*arguments, "--engine", "ray")
    assert 2 == ran.status
    assert "pip install -r requirements-cluster.txt" in ran.stderr.splitlines()[-1]
