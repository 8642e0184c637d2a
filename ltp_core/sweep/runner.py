"""Carrying out the plan of a sweep: one run after another or several at once, resumable, shared between processes.

Training itself is handed in, so nothing here imports torch.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path

from ltp_core import store
from ltp_core.config import TrainConfig, parent_config
from ltp_core.records import UserError
from ltp_core.sweep.plan import PlannedRun, is_stored, open_runs, parent_names

Train = Callable[[TrainConfig, bool], object]
"""Trains a run, unless it is done, and first what it starts from; where the second argument is true,
a run that is stored without its weights is not done."""


@dataclass(kw_only=True)
class SweepRunner:
    """Carries out a plan.

    Attributes:
        plan: In the order of `make_plan`.
        destination: Store that is written to.
        train: Trains one run.
        say: Shows a line about the progress of the whole sweep.
        pool: Trains several at once; None: one after another, in this thread.
        slots: How many at once.
        poll_s: Time between two looks at runs that other processes train.
        problems: Why a run failed, in a sentence, by its name.
    """

    plan: Sequence[PlannedRun]
    destination: Path
    train: Train
    say: Callable[[str], object]
    pool: Executor | None = None
    slots: int = 1
    poll_s: float = 20.0
    problems: dict[str, str] = field(default_factory=dict)
    _timed: list[tuple[TrainConfig, float]] = field(default_factory=list)

    def run(self) -> dict[str, str]:
        """Works until every run is done or has failed; returns `problems`.

        A run that another process trains is left to it and looked at again later; should that
        process die, the run is taken up here. A run whose parent failed is not tried.
        """
        begun: dict[Future[object], tuple[PlannedRun, bool, float]] = {}
        while begun or self._open():
            names = {run.config.name for run, _, _ in begun.values()}
            for run in itertools.islice(self._ready(names), self.slots - len(begun)):
                start, needs_weights = time.monotonic(), self._needs_weights(run)
                begun[self._begin(run, needs_weights)] = (run, needs_weights, start)
            if begun:
                for future in wait(begun, self.poll_s, FIRST_COMPLETED).done:
                    self._end(future, *begun.pop(future))
            elif waiting := self._open():
                self.say(f"{len(waiting)} to go, all being trained elsewhere or waiting for that.")
                time.sleep(self.poll_s)
        return self.problems

    def _open(self) -> list[PlannedRun]:
        found = open_runs(self.plan, self.destination)
        return [run for run in found if run.config.name not in self.problems]

    def _ready(self, begun: set[str]) -> Iterator[PlannedRun]:
        """What can be trained now: it waits for no parent, and no other process holds it."""
        still_open = self._open()
        names = {run.config.name for run in still_open}
        for run in still_open:
            config, parent = run.config, parent_config(run.config)
            if parent is not None and parent.name in self.problems:
                self.problems[config.name] = f"Its parent {parent.name} failed."
            elif config.name not in begun and (parent is None or parent.name not in names):
                folders = [
                    store.run_folder(self.destination, c.name) for c in (config, parent) if c
                ]
                if not any(store.is_being_trained(folder) for folder in folders):
                    yield run

    def _needs_weights(self, run: PlannedRun) -> bool:
        """Whether another open run starts from it."""
        return run.config.name in parent_names(self._open())

    def _begin(self, run: PlannedRun, needs_weights: bool) -> Future[object]:
        self.say(self._announcement(run, self._open()))
        if self.pool is not None:
            return self.pool.submit(self.train, run.config, needs_weights)
        done: Future[object] = Future()
        try:
            done.set_result(self.train(run.config, needs_weights))
        except Exception as error:
            done.set_exception(error)
        return done

    def _end(
        self, done: Future[object], run: PlannedRun, needs_weights: bool, start: float
    ) -> None:
        config, error = run.config, done.exception()
        if isinstance(error, store.InUseError):
            return  # another process was faster
        if error is not None:  # one run's failure must not end the others
            self._fail(config, _reason(error))
        elif is_stored(config.name, self.destination, with_weights=needs_weights):
            self._timed.append((config, time.monotonic() - start))
        else:
            self._fail(config, "It was trained, but the store does not have it.")

    def _fail(self, config: TrainConfig, reason: str) -> None:
        self.problems[config.name] = reason
        self.say(f"{config.name} failed: {reason}")

    def _announcement(self, run: PlannedRun, still_open: Sequence[PlannedRun]) -> str:
        number = self.plan.index(run) + 1
        failed = f", {len(self.problems)} failed" if self.problems else ""
        left_s = remaining_s([r.config for r in still_open], self._timed)
        about = "time not known yet" if left_s is None else f"about {duration(left_s / self.slots)}"
        return (
            f"[{number}/{len(self.plan)}] {run.config.name}: {run.label} · "
            f"{len(still_open)} to go{failed}, {about}"
        )


def _reason(error: BaseException) -> str:
    reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(reason.split())


def remaining_s(
    left: Sequence[TrainConfig], timed: Sequence[tuple[TrainConfig, float]]
) -> float | None:
    """Expected wall-clock time of the runs that are left, from those that were timed.

    The cost of an epoch is that of the runs most like it: same task, rows and method, else same task
    and rows, else all; a choice after training is compared with choices only. None before anything
    like one of them was timed.
    """
    costs = [_epoch_s(config, timed) for config in left]
    if None in costs:
        return None
    return sum(_epochs(config) * (cost or 0) for config, cost in zip(left, costs, strict=True))


def _epoch_s(config: TrainConfig, timed: Sequence[tuple[TrainConfig, float]]) -> float | None:
    for level in range(3):
        alike = [t for t in timed if _kinds(t[0])[level] == _kinds(config)[level]]
        if alike:
            return sum(spent_s for _, spent_s in alike) / sum(_epochs(c) for c, _ in alike)
    return None


def _kinds(config: TrainConfig) -> tuple[object, ...]:
    """From the narrowest to the widest; the last one is that of every run, or of every choice."""
    chooses = config.select is not None
    rows = (config.task, config.data, chooses)
    return ((*rows, config.method.name), rows, chooses)


def _epochs(config: TrainConfig) -> float:
    """Epochs that the run itself trains, not what it starts from; a choice counts as a tenth."""
    if config.select is not None:
        return 0.1
    if parent_config(config) is None:
        return config.finetune.epochs
    return sum(stage.epochs for stage in config.later_stages.values())


def duration(seconds: float) -> str:
    """A time for people: `40 s`, `12 min`, `3 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"
