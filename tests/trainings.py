"""A workplace for tiny trainings: data, a base model and a store in one folder, all offline."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ltp_core.config import (
    AdapterConfig,
    DataConfig,
    HardConfig,
    MethodSettings,
    SoftConfig,
    StageConfig,
    TrainConfig,
    from_dict,
    to_dict,
)
from ltp_core.data.tasks import TASKS
from tests import tiny

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT_EVERY = 4
STAGE: dict[str, Any] = {"epochs": 2, "batch_size": 4, "learning_rate": 0.01}


def sentences(count: int, seed: int) -> list[str]:
    """Random words of the tiny vocabulary, 1 to 20 of them."""
    random = np.random.default_rng(seed)
    return [" ".join(random.choice(tiny.WORDS, random.integers(1, 21))) for _ in range(count)]


def split_frame(task: str, count: int, seed: int) -> pd.DataFrame:
    """A labelled split in the hub's schema."""
    spec = TASKS[task]
    texts = {name: sentences(count, seed + i) for i, name in enumerate(spec.text_columns)}
    frame = pd.DataFrame(texts).assign(idx=np.arange(count, dtype=np.int32))
    if spec.is_regression:
        return frame.assign(label=np.random.default_rng(seed).uniform(0, 5, count).astype("f4"))
    return frame.assign(label=np.arange(count) % spec.num_labels)


def save_data(folder: Path, task: str, *, train: int = 40, validation: int = 12) -> Path:
    """A data folder with a training and a validation split."""
    path = folder / task
    path.mkdir(parents=True, exist_ok=True)
    split_frame(task, train, 1).to_parquet(path / "train.parquet")
    split_frame(task, validation, 2).to_parquet(path / f"{TASKS[task].validation_split}.parquet")
    return folder


@dataclass(frozen=True)
class Workplace:
    """A folder with `data/`, `base/` and `store/`."""

    folder: Path

    @classmethod
    def make(cls, folder: Path, task: str = "sst2", architecture: str = "bert") -> Workplace:
        """Fills a folder."""
        save_data(folder / "data", task)
        tiny.save_hugging_face(architecture, folder / "base")
        return cls(folder)

    @property
    def store(self) -> Path:
        """Where runs go."""
        return self.folder / "store"

    def config(
        self, kind: str = "lora", *, soft: Any = None, hard: Any = None, **changes: Any
    ) -> TrainConfig:
        """LTP on sst2 with all three stages; `soft` and `hard` change settings of those stages."""
        distilled = {**STAGE, "distillation_weight": 0.5}
        config = TrainConfig(
            task="sst2",
            base=str(self.folder / "base"),
            method=MethodSettings(name="ltp", settings={"final_threshold": 0.9}),
            data=DataConfig(max_length=32),
            adapter=AdapterConfig(kind=kind, rank=2, alpha=5.0),  # type: ignore[arg-type]
            finetune=StageConfig(**STAGE),
            soft=SoftConfig(**{**distilled, "regularization_weight": 0.1, **(soft or {})}),
            hard=HardConfig(**{**distilled, **(hard or {})}),
        )
        return replace(config, **changes)

    def train(self, config: TrainConfig, **options: Any) -> Path:
        """Trains in this process."""
        from ltp_core.training.train import train

        options = {"snapshot_every": SNAPSHOT_EVERY, **options}
        return train(config, data_dir=self.folder / "data", destination=self.store, **options)

    def train_until_killed(self, config: TrainConfig, stage: str, step: int, where: str) -> None:
        """Trains in a process that gets SIGKILL in this step.

        Args:
            config: The run.
            stage: Stage of the fatal step.
            step: The fatal step.
            where: "step": after the optimizer's step; "snapshot": when the history is written and
                the snapshot is not.
        """
        arguments = [str(self.folder), json.dumps(to_dict(config)), stage, str(step), where]
        code = "import sys; from tests.trainings import suicide; suicide(*sys.argv[1:])"
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert -signal.SIGKILL == done.returncode, done.stderr


def suicide(folder: str, config: str, stage: str, step: str, where: str) -> None:
    """Body of the process that `train_until_killed` starts."""
    from ltp_core.training import loop
    from ltp_core.training.journal import Journal

    def die(name: str, at: int) -> None:
        if (name, at) == (stage, int(step)):
            os.kill(os.getpid(), signal.SIGKILL)

    log, save = Journal.log, loop.save_snapshot

    def log_or_die(self: Journal, name: str, at: int, *rest: Any) -> None:
        die(name, at)
        log(self, name, at, *rest)

    def save_or_die(path: Path, student: Any, optimizer: Any, position: Any) -> None:
        die(position.stage, position.step)
        save(path, student, optimizer, position)

    if where == "step":
        Journal.log = log_or_die  # type: ignore[method-assign]
    else:
        loop.save_snapshot = save_or_die
    Workplace(Path(folder)).train(from_dict(json.loads(config)))
