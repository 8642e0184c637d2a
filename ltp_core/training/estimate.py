"""How long a training takes here, from a few steps of each stage; and as many epochs as fit into a time.

The time becomes a part of the configuration before anything is trained, as epochs: so a run is still
what its name says, whatever the machine.
"""

from __future__ import annotations

import itertools
import statistics
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ltp_core.budget import FACTORS
from ltp_core.config import StageConfig, TrainConfig, lineage, stages_of
from ltp_core.records import UserError
from ltp_core.tasks.loading import load_rows
from ltp_core.training.loop import num_steps, run_stage
from ltp_core.training.losses import Student
from ltp_core.training.prepare import Prepared, prepare
from ltp_core.training.results import EVALUATED_SPLITS
from ltp_core.training.resume import Journal
from ltp_core.training.train import accelerator_for, device_of
from ltp_core.training.watch import Watch

TRIED_STEPS = 5
"""Of each stage; the first is left out, in which memory is found and kernels are chosen."""
FORWARD_SHARE = 1 / 3
"""Of a finetuning step: what a pass without gradients takes."""
PLANNED_SHARE = 0.9
"""Of a time limit: the machine may be slower later than in the first steps."""
LEAST_SHARE = 0.02
"""Of the epochs that the settings ask for: with fewer nothing is learned."""


@dataclass(frozen=True, kw_only=True)
class StageTime:
    """A stage of a training.

    Attributes:
        run: Name of the run that it belongs to: this one, or one that it starts from.
        stage: Its name.
        steps: All of them.
        step_s: Seconds that one took.
    """

    run: str
    stage: str
    steps: int
    step_s: float


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Where the time of a training goes, in seconds.

    Attributes:
        stages: In their order.
        other_s: Reading the data, asking the teacher and evaluating.
    """

    stages: tuple[StageTime, ...]
    other_s: float

    @property
    def training_s(self) -> float:
        """All steps."""
        return sum(stage.steps * stage.step_s for stage in self.stages)

    @property
    def total_s(self) -> float:
        """From the start to the finished run."""
        return self.training_s + self.other_s


def estimate(config: TrainConfig, data_dir: Path | None = None) -> Estimate:
    """Trains a few steps of every stage from the base model, and keeps nothing of it.

    Raises:
        UserError: Data or base model are absent, or a setting is impossible.
    """
    stages: list[StageTime] = []
    runs = lineage(config)
    other_s = 0.0
    for each in runs:
        began = time.perf_counter()
        accelerator = accelerator_for(each)
        with tempfile.TemporaryDirectory() as folder:
            # From the base and without a teacher: what a step takes does not depend on either.
            prepared = prepare(
                each,
                None,
                data_dir,
                Path(folder),
                device_of(accelerator),
                accelerator.mixed_precision,
            )
            other_s += time.perf_counter() - began
            for name, stage in stages_of(each).items():
                step_s = _step_s(prepared, name, stage, Path(folder))
                steps = num_steps(stage, len(prepared.data.encoded), accelerator.num_processes)
                stages.append(StageTime(run=each.name, stage=name, steps=steps, step_s=step_s))
    row_s = FORWARD_SHARE * stages[0].step_s / runs[0].finetune.batch_size if stages else 0.0
    counts = {
        split: len(
            load_rows(
                config.task, split, data_dir=data_dir, limit=getattr(config.data, f"{split}_rows")
            )
        )
        for split in (*EVALUATED_SPLITS, "train")
    }
    evaluated = sum(counts[split] for split in EVALUATED_SPLITS)
    for each in runs:
        is_elastic = each.hard is not None and each.hard.elastic
        other_s += row_s * evaluated * (1 + is_elastic * len(FACTORS))
    other_s += row_s * counts["train"] * (len(runs) - 1)
    return Estimate(stages=tuple(stages), other_s=other_s)


def _step_s(prepared: Prepared, name: str, stage: StageConfig, folder: Path) -> float:
    """Seconds of one step: the median of a few."""
    moments: list[float] = []

    class Clock(Watch):
        """Notes when each step is done."""

        def is_due(self) -> bool:
            moments.append(time.perf_counter())
            return False

    rows = len(prepared.data.encoded)
    student = Student(
        prepared.encoder, prepared.method, is_multi_label=prepared.task.is_multi_label
    )
    run_stage(
        name,
        replace(stage, epochs=TRIED_STEPS * stage.batch_size / rows),
        student,
        prepared.data,
        accelerator_for(prepared.config),
        Journal(folder, watch=Clock(prepared.config.name)),
        seed=prepared.config.seed,
        folder=folder,
        snapshot_every=TRIED_STEPS + 1,
        elapsed_s=0.0,
    )
    for path in folder.iterdir():  # the next stage has no snapshot to go on from
        path.unlink()
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    return statistics.median(gaps) if gaps else 0.0


def within(config: TrainConfig, limit_s: float, expected: Estimate) -> TrainConfig:
    """The same with as many epochs as fit: every stage has the same share of its own.

    Raises:
        UserError: Next to nothing would be left of them.
    """
    left_s = PLANNED_SHARE * limit_s - expected.other_s
    share = left_s / expected.training_s if expected.training_s else 1.0
    if share >= 1:
        return config
    if share < LEAST_SHARE:
        needed_s = (expected.other_s + LEAST_SHARE * expected.training_s) / PLANNED_SHARE
        raise UserError(
            f"{limit_s / 60:.3g} minutes are too few here: reading, evaluating and a 50th of the epochs "
            f"take {needed_s / 60:.1f}; give more, or fewer rows by data.train_rows."
        )
    changed: dict[str, Any] = {
        name: replace(stage, epochs=float(f"{share * stage.epochs:.2g}"))
        for name, stage in {"finetune": config.finetune, **config.later_stages}.items()
    }
    return replace(config, **changed)
