"""Sweeps: what a file asks for, in which order it is trained, and that nothing is lost or doubled."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core import store
from ltp_core.config import (
    ConfigError,
    TrainConfig,
    dense_config,
    load_config,
    parent_config,
    to_toml,
)
from ltp_core.files import is_locked, lock_file
from ltp_core.records import UserError
from ltp_core.strict import build
from ltp_core.sweep.plan import (
    PlannedRun,
    RunGroup,
    Sweep,
    Vary,
    is_stored,
    load_sweep,
    make_plan,
    open_runs,
    states,
    sweep_names,
)
from ltp_core.sweep.runner import SweepRunner, duration, remaining_s
from tests import runs
from tests.commands import run
from tests.source_trees import ROOT
from tests.trainings import Workplace

BUDGETS = Vary(keys=("soft.target_relative_flops", "hard.target_relative_flops"), values=(0.3, 0.6))


def sweep(*groups: RunGroup, **changes: Any) -> Sweep:
    """A sweep over the preset for SST-2."""
    return Sweep(title="A sweep", preset="sst2_ltp", runs=groups or (RunGroup(),), **changes)


def names(plan: Sequence[PlannedRun], role: str | None = None) -> list[str]:
    """Names of the runs of a plan, or of those with this role."""
    return [planned.config.name for planned in plan if role in (None, planned.role)]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store that the program writes to; what is committed is not seen."""
    monkeypatch.setattr(store, "stores", lambda: [tmp_path])
    return tmp_path


# --- files ----------------------------------------------------------------------------------------


def test_a_file_says_everything(tmp_path: Path) -> None:
    """Title, preset, shared settings, seeds, and groups with their own."""
    path = tmp_path / "mine.toml"
    path.write_text(
        """
        title = "Mine"
        preset = "sst2_ltp"
        seeds = [0, 1]
        overrides = { data = { train_rows = 100 } }
        [[runs]]
        method = "ltp"
        vary = { key = "soft.target_relative_flops", values = [0.3, 0.5] }
        [[runs]]
        method = "manual"
        seeds = [7]
        overrides = ["soft.target_relative_flops=none", "method.final_threshold=1.5"]
        """
    )
    plan = make_plan(load_sweep(str(path)))
    asked = [planned.config for planned in plan if planned.role == "run"]
    assert [("ltp", 0), ("ltp", 1), ("ltp", 0), ("ltp", 1), ("manual", 7)] == [
        (config.method.name, config.seed) for config in asked
    ]
    assert {100} == {planned.config.data.train_rows for planned in plan}
    assert [0.3, 0.3, 0.5, 0.5, None] == [c.soft and c.soft.target_relative_flops for c in asked]
    assert {"final_threshold": 1.5} == asked[-1].method.settings
    assert {"final_threshold": 0.64} == asked[0].method.settings


@pytest.mark.parametrize("name", sweep_names())
def test_every_shipped_sweep_can_be_planned(name: str) -> None:
    """Its settings exist, and every run is told from the others by what it varies."""
    plan = make_plan(load_sweep(name))
    labels = [(p.config.task, p.config.method.name, p.label) for p in plan if p.role == "run"]
    assert len(labels) == len(set(labels))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("titel = 'x'", "titel: no such setting; did you mean 'title'?"),
        ("title = 'x'\npreset = 'sst2_ltp'", "runs: this setting must be given"),
        ("runs = 1", "title: this setting must be given"),
        ("seeds = [0.5]", "seeds[0] = 0.5: must be a whole number"),
        ("seeds = 3", "seeds = 3: must be a list or none"),
        ("vari = 1", "runs[0].vari: no such setting; did you mean 'vary'?"),
        ("vary = { key = 'seed' }", "runs[0].vary.values: this setting must be given"),
        ("vary = { values = [1] }", "runs[0].vary.either key or keys must be given"),
        ("vary = { key = 'seed', values = [] }", "must name at least one value"),
        ("overrides = ['hard.epoch=2']", "runs[0]: hard.epoch: no such setting; did you mean"),
        ("overrides = ['x']", "runs[0]: 'x': write overrides as key=value"),
        ("vary = { key = 'task.name', values = [1] }", "task.name: task is not a table"),
        ("preset = 'sst2_lpt'", "There is no preset 'sst2_lpt'; did you mean 'sst2_ltp'?"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    """An unknown key, a missing one and an impossible value each get a sentence."""
    head = "title = 'x'\npreset = 'sst2_ltp'\n[[runs]]\n"
    alone = text.startswith(("tit", "runs"))
    path = tmp_path / "mine.toml"
    path.write_text(text if alone else head + text)
    with pytest.raises(ConfigError) as caught:
        make_plan(load_sweep(str(path)))
    assert message in str(caught.value)


def test_an_unknown_sweep_is_a_usage_error() -> None:
    """The command line names the nearest one, without a traceback."""
    ran = run("sweep", "sst")
    assert (2, "") == (ran.status, ran.stdout)
    assert "There is no sweep 'sst'; did you mean 'sst2'?" in ran.stderr


# --- plans ----------------------------------------------------------------------------------------

group_tables = st.fixed_dictionaries(
    {},
    optional={
        "method": st.sampled_from(["ltp", "manual", "unpruned"]),
        "seeds": st.lists(st.integers(0, 3), min_size=1),
        "overrides": st.lists(
            st.sampled_from(["soft.epochs=2", "hard=none", "data.train_rows=50"]), unique=True
        ),
        "vary": st.fixed_dictionaries(
            {
                "key": st.sampled_from(["soft.epochs", "finetune.learning_rate"]),
                "values": st.lists(st.sampled_from([0.1, 0.2, 0.5]), min_size=1),
            }
        ),
    },
)
sweep_tables = st.fixed_dictionaries(
    {
        "title": st.just("Drawn"),
        "preset": st.just("sst2_ltp"),
        "runs": st.lists(group_tables, max_size=4),
    }
)


@given(sweep_tables)
def test_a_plan_is_complete_ordered_and_without_doubles(table: dict[str, Any]) -> None:
    """Each run once; parents and dense counterparts are there, before what needs them."""
    plan = make_plan(build(Sweep, table))
    order = names(plan)
    assert len(order) == len(set(order))
    needs = []
    for planned in plan:
        for needed in (parent_config(planned.config), dense_config(planned.config)):
            if needed is not None:
                assert order.index(needed.name) < order.index(planned.config.name)
                needs.append(needed.name)
    assert set(order) - set(names(plan, "run")) <= set(needs)


@given(sweep_tables, st.data())
def test_what_is_open_shrinks_to_nothing(table: dict[str, Any], data: st.DataObject) -> None:
    """Whatever the store holds, doing what is open in its order finishes the plan."""
    plan = make_plan(build(Sweep, table))
    stored: dict[str, bool] = {
        name: data.draw(st.booleans()) for name in names(plan) if data.draw(st.booleans())
    }

    def is_there(name: str, destination: Path, *, with_weights: bool = False) -> bool:
        return name in stored and (stored[name] or not with_weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ltp_core.sweep.plan.is_stored", is_there)
        for planned in open_runs(plan, Path("none")):
            parent = parent_config(planned.config)
            assert parent is None or stored.get(parent.name), "a parent comes first, with weights"
            stored[planned.config.name] = True
        assert [] == open_runs(plan, Path("none"))


def test_a_run_that_is_asked_for_and_needed_counts_as_asked_for() -> None:
    """The dense counterpart that the file also names is a run of the sweep."""
    plan = make_plan(
        sweep(
            RunGroup(method="ltp"),
            RunGroup(
                method="unpruned",
                overrides=(
                    "soft.target_relative_flops=none",
                    "hard.target_relative_flops=none",
                    "soft.threshold_learning_rate=0.0025",
                    "soft.final_temperature=0.0128",
                    "soft.budget_ramp=0.5",
                ),
            ),
        )
    )
    assert ["parent", "run", "run"] == [planned.role for planned in plan]


def test_a_label_says_what_varies_and_the_seed() -> None:
    """Keys that vary together are named once where they are called the same."""
    plan = make_plan(sweep(RunGroup(vary=BUDGETS)))
    assert "target_relative_flops 0.6, seed 0" == plan[-1].label
    assert "parent, seed 0" == plan[0].label
    apart = RunGroup(method="spatten", overrides=("method.keep_layers=1", "hard.epochs=2"))
    assert "keep_layers 1, seed 0" == make_plan(sweep(apart))[-1].label


def finish(destination: Path, config: TrainConfig, *, with_weights: bool = True) -> None:
    """A complete run of this configuration in a store, of manifest and perhaps weights only."""
    made = store.run_folder(destination, config.name)
    if with_weights:
        store.write_json(made / "pruning.json", {})
        store.atomic_write(made / "adapter" / "adapter_model.safetensors", b"weights")
    store.finish_run(made, runs.manifest(config.name, seed=config.seed))


def test_states(folder: Path) -> None:
    """Done, being trained, to do; a parent without weights is to do while something needs it."""
    plan = make_plan(sweep())
    parent, dense, pruned = (planned.config for planned in plan)
    finish(folder, parent, with_weights=False)
    finish(folder, dense, with_weights=False)
    with store.lock_run(store.run_folder(folder, pruned.name)):
        assert ["to do", "done", "being trained"] == states(plan, folder)
    finish(folder, pruned)
    assert ["done", "done", "done"] == states(plan, folder)


def test_a_lock_that_a_killed_process_left_does_not_count(tmp_path: Path) -> None:
    """Looking takes nothing away: the file may stay, the lock is what counts."""
    path = tmp_path / ".lock"
    assert not is_locked(path)
    path.write_text("1")
    assert not is_locked(path)
    with lock_file(path, "It is held"):
        assert is_locked(path)
        assert is_locked(path)
    assert not is_locked(path)


# --- carrying out ---------------------------------------------------------------------------------


class Trainer:
    """Stands for training: notes what was asked for, and finishes it or fails."""

    def __init__(self, destination: Path, failing: Sequence[str] = ()) -> None:
        self.destination = destination
        self.failing = failing
        self.trained: list[str] = []

    def __call__(self, config: TrainConfig, needs_weights: bool) -> None:
        """Trains at once."""
        if config.name in self.failing:
            raise UserError("It\ncannot be.")
        assert not is_stored(config.name, self.destination, with_weights=needs_weights)
        self.trained.append(config.name)
        finish(self.destination, config)


def runner(plan: list[PlannedRun], trainer: Trainer, lines: list[str]) -> SweepRunner:
    """A runner that looks again at once."""
    return SweepRunner(
        plan=plan,
        destination=trainer.destination,
        train=trainer,
        say=lines.append,
        poll_s=0.01,
    )


def test_every_run_is_trained_once_in_order(folder: Path) -> None:
    """What was done before is not done again; the lines count down."""
    plan = make_plan(sweep(RunGroup(vary=BUDGETS), seeds=(0, 1)))
    lines: list[str] = []
    finish(folder, plan[1].config)
    trainer = Trainer(folder)
    assert {} == runner(plan, trainer, lines).run()
    assert [name for name in names(plan) if name != plan[1].config.name] == trainer.trained
    assert len(plan) - 1 == len(lines)
    assert lines[0].startswith(f"[1/8] {plan[0].config.name}: parent, seed 0 · 7 to go, time not")
    assert "1 to go, about 0 s" in lines[-1]
    again = Trainer(folder)
    assert {} == runner(plan, again, lines).run()
    assert [] == again.trained


def test_a_parent_without_weights_is_trained_again(folder: Path) -> None:
    """Records of the parent are not enough to start from; those of the dense counterpart are."""
    plan = make_plan(sweep())
    for planned in plan[:2]:
        finish(folder, planned.config, with_weights=False)
    trainer = Trainer(folder)
    assert {} == runner(plan, trainer, []).run()
    assert [plan[0].config.name, plan[2].config.name] == trainer.trained


def test_a_failure_does_not_end_the_sweep(folder: Path) -> None:
    """It is reported with its reason; what would start from the failed run is not tried."""
    plan = make_plan(sweep(RunGroup(), RunGroup(seeds=(1,))))
    failing = plan[0].config.name
    trainer = Trainer(folder, failing=[failing])
    lines: list[str] = []
    problems = runner(plan, trainer, lines).run()
    assert "It cannot be." == problems.pop(failing)
    assert {f"Its parent {failing} failed."} == set(problems.values())
    assert names(plan[3:]) == trainer.trained
    assert f"{failing} failed: It cannot be." in lines
    assert any(", 3 failed" in line for line in lines)


def test_a_run_that_leaves_nothing_is_a_failure(folder: Path) -> None:
    """Otherwise it would be tried for ever."""
    plan = make_plan(sweep(RunGroup(method="unpruned", overrides=("soft=none", "hard=none"))))
    idle = SweepRunner(
        plan=plan, destination=folder, train=lambda config, needs_weights: None, say=print
    )
    assert ["It was trained, but the store does not have it."] == list(idle.run().values())


def test_what_another_process_trains_is_left_to_it(folder: Path) -> None:
    """The rest is trained meanwhile; then the run is looked at again, and taken up if it is free."""
    plan = make_plan(sweep(seeds=(0, 1)))
    held = store.run_folder(folder, plan[0].config.name)
    trainer = Trainer(folder)
    lines: list[str] = []
    released = threading.Event()

    def hold() -> None:
        with store.lock_run(held):
            ready.set()
            while not any("elsewhere" in line for line in lines):
                time.sleep(0.01)
        released.set()

    ready = threading.Event()
    thread = threading.Thread(target=hold)
    thread.start()
    ready.wait()
    assert {} == runner(plan, trainer, lines).run()
    thread.join()
    assert released.is_set()
    order = names(plan)
    # The dense counterpart and the run of seed 0 start from the held parent, so they wait as well.
    assert [*order[3:], *order[:3]] == trainer.trained


def test_two_runners_share_a_plan(folder: Path) -> None:
    """Nothing is trained twice, and both end when all is done."""
    plan = make_plan(sweep(RunGroup(vary=BUDGETS), seeds=(0, 1, 2)))
    done: list[str] = []

    def train(config: TrainConfig, needs_weights: bool) -> None:
        made = store.run_folder(folder, config.name)
        with store.lock_run(made):
            if not is_stored(config.name, folder):
                time.sleep(0.01)
                finish(folder, config)
                done.append(config.name)

    runners = [
        SweepRunner(plan=plan, destination=folder, train=train, say=lambda line: None, poll_s=0.01)
        for _ in range(2)
    ]
    threads = [threading.Thread(target=one.run) for one in runners]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(names(plan)) == sorted(done)
    assert [{}, {}] == [one.problems for one in runners]


def test_several_runs_at_once(folder: Path) -> None:
    """As many as there are slots, each once, and none before what it starts from."""
    plan = make_plan(sweep(RunGroup(vary=BUDGETS), seeds=(0, 1)))
    together = threading.Barrier(2, timeout=60)
    trainer = Trainer(folder)

    def train(config: TrainConfig, needs_weights: bool) -> None:
        parent = parent_config(config)
        assert parent is None or is_stored(parent.name, folder, with_weights=True)
        together.wait()  # passes only where two are trained at the same time
        trainer(config, needs_weights)

    lines: list[str] = []
    with ThreadPoolExecutor(2) as pool:
        found = SweepRunner(
            plan=plan, destination=folder, train=train, say=lines.append, pool=pool, slots=2
        )
        assert {} == found.run()
    assert sorted(names(plan)) == sorted(trainer.trained)
    assert len(plan) == len(lines)


# --- time -----------------------------------------------------------------------------------------


def test_remaining_time_follows_the_runs_most_alike() -> None:
    """Seconds an epoch of the same task and method, else of the task, else of all."""
    ltp = load_config("sst2_ltp")
    parent, manual = parent_config(ltp), load_config("sst2_ltp", ["method.name=manual"])
    other = load_config("rotten_tomatoes_ltp")
    assert parent is not None
    assert remaining_s([ltp], []) is None
    assert 10 == remaining_s([ltp], [(parent, 10.0)]), "two epochs took 10 s, two are left"
    timed = [(parent, 10.0), (ltp, 40.0)]
    assert 80 == remaining_s([ltp, replace(ltp, seed=1)], timed)
    assert 25 == remaining_s([manual], timed), "no manual run yet: mean of the task"
    epochs = sum(stage.epochs for stage in (other.soft, other.hard) if stage)
    assert 12.5 * epochs == remaining_s([other], timed)
    assert 0 == remaining_s([], timed)
    choice = ["method.name=calibrated", "method.final_threshold=none"]
    chosen = load_config("sst2_ltp", [*choice, "select.target_relative_flops=0.6"])
    assert remaining_s([ltp], [(chosen, 300.0)]) is None, "a choice says nothing about epochs"
    assert remaining_s([chosen], timed) is None
    assert 300 == remaining_s([chosen], [*timed, (chosen, 300.0)])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (3540, "59 min"),
        (3600, "1 h 00 min"),
        (11100, "3 h 05 min"),
    ],
)
def test_times_are_for_people(seconds: float, text: str) -> None:
    """Seconds, minutes, hours."""
    assert text == duration(seconds)


# --- the command, with real trainings -------------------------------------------------------------


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workplace:
    """Data, base model, an empty store, and a sweep over two budgets of tiny trainings."""
    made = Workplace.make(tmp_path)
    monkeypatch.setenv("LTP_STORE", str(made.store))
    base = made.config(finetune=replace(made.config().finetune, epochs=1.0))
    (tmp_path / "base.toml").write_text(to_toml(base))
    write_sweep(tmp_path, values=[0.5, 0.8])
    return made


def write_sweep(folder: Path, *, values: list[float], extra: str = "") -> None:
    """`sweep.toml` over these budgets."""
    base = json.dumps(str(folder / "base.toml"))
    (folder / "sweep.toml").write_text(
        f"title = 'Tiny'\npreset = {base}\n[[runs]]\nmethod = 'ltp'\n"
        f"vary = {{ key = 'soft.target_relative_flops', values = {values} }}\n{extra}"
    )


def command(place: Workplace, *options: str) -> list[str]:
    """Arguments of the sweep over a workplace."""
    data = str(place.folder / "data")
    return ["sweep", str(place.folder / "sweep.toml"), "--data-dir", data, "--json", *options]


def stored_states(document: dict[str, Any]) -> list[str]:
    """State of each run of the document."""
    return [entry["state"] for entry in document["runs"]]


@pytest.mark.slow
def test_a_sweep_trains_what_is_missing(workplace: Workplace) -> None:
    """Dry run, run, and run again: to do, done, done with nothing trained.

    A parent of which only the records are left is trained again once something starts from it.
    """
    planned = run(*command(workplace, "--dry-run"))
    assert ["to do"] * 4 == stored_states(json.loads(planned.stdout))
    assert not workplace.store.exists()
    done = run(*command(workplace))
    assert 0 == done.status, done.stderr
    document = json.loads(done.stdout)
    assert ["parent", "dense counterpart", "run", "run"] == [r["role"] for r in document["runs"]]
    assert ["done"] * 4 == stored_states(document)
    assert 4 == len(list((workplace.store / "runs").glob("*/manifest.json")))
    written = {path: path.stat().st_mtime_ns for path in workplace.store.rglob("*")}
    assert document == json.loads(run(*command(workplace)).stdout)
    assert written == {path: path.stat().st_mtime_ns for path in workplace.store.rglob("*")}
    parent = store.run_folder(workplace.store, document["runs"][0]["name"])
    shutil.rmtree(parent / "adapter")
    (parent / "pruning.json").unlink()
    store.finish_run(parent, store.read_manifest(parent))
    assert document == json.loads(run(*command(workplace)).stdout)
    assert not (parent / "adapter").exists(), "nothing needs it"
    write_sweep(workplace.folder, values=[0.5, 0.8, 0.9])
    planned = json.loads(run(*command(workplace, "--dry-run")).stdout)
    assert ["to do", "done", "done", "done", "to do"] == stored_states(planned)
    done = run(*command(workplace))
    assert ["done"] * 5 == stored_states(json.loads(done.stdout)), done.stderr
    assert (parent / "adapter").is_dir()


def test_a_failed_run_is_reported_at_the_end(workplace: Workplace) -> None:
    """Exit status 1, and the reason in the document."""
    write_sweep(workplace.folder, values=[0.5], extra="overrides = ['base=/nowhere']")
    done = run(*command(workplace))
    assert 1 == done.status
    document = json.loads(done.stdout)
    assert ["failed"] * 3 == stored_states(document)
    assert "/nowhere" in document["runs"][0]["problem"]


def test_settings_of_a_method_are_checked_before_anything_is_trained(workplace: Workplace) -> None:
    """A typing mistake in the last group costs no training."""
    write_sweep(
        workplace.folder, values=[0.5], extra="[[runs]]\noverrides = ['method.final_treshold=1']"
    )
    refused = run(*command(workplace))
    assert (2, "") == (refused.status, refused.stdout)
    assert "did you mean 'final_threshold'?" in refused.stderr
    assert not workplace.store.exists()


@pytest.mark.slow
def test_a_killed_sweep_goes_on_where_it_was(workplace: Workplace) -> None:
    """Finished runs stay as they are, the interrupted one goes on, none is there twice."""
    program = [sys.executable, "-m", "ltp_core", *command(workplace)]
    environment = {**os.environ, "ACCELERATE_USE_CPU": "true"}
    process = subprocess.Popen(
        program, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    manifests = workplace.store / "runs"
    while process.poll() is None and not list(manifests.glob("*-unpruned-*/manifest.json")):
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    assert -signal.SIGKILL == process.wait(), "the sweep was over before it could be killed"
    before = {path: path.read_bytes() for path in manifests.glob("*/manifest.json")}
    assert 1 <= len(before) < 4
    document = json.loads(run(*command(workplace)).stdout)
    assert ["done"] * 4 == stored_states(document)
    assert before == {path: path.read_bytes() for path in before}
    assert {entry["name"] for entry in document["runs"]} == {p.name for p in manifests.iterdir()}
