"""A workplace for tiny trainings: data, a base model and a store in one folder, all offline."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ltp_core.config import (
    AdapterConfig,
    DataConfig,
    HardConfig,
    MethodSettings,
    SoftConfig,
    StageConfig,
    TrainConfig,
    dense_config,
    from_dict,
    to_dict,
)
from ltp_core.tasks.catalogue import TASKS
from tests import tiny

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("lora", "full")
STAGE: dict[str, Any] = {"epochs": 2.0, "batch_size": 4, "learning_rate": 0.01}


def sentence(random: np.random.Generator, words: Sequence[str]) -> str:
    """1 to 20 of these words."""
    return " ".join(random.choice(words, random.integers(1, 21)))


def split_frame(task: str, count: int, seed: int) -> pd.DataFrame:
    """A labelled split in the hub's schema; every class has words of its own, so it can be learned."""
    spec, random = TASKS[task], np.random.default_rng(seed)
    classes = np.arange(count) % spec.num_labels
    texts = {
        name: [sentence(random, tiny.WORDS[label :: spec.num_labels]) for label in classes]
        for name in spec.text_columns
    }
    frame = pd.DataFrame(texts).assign(idx=np.arange(count, dtype=np.int32))
    return frame.assign(
        label=random.uniform(0, 5, count).astype("f4") if spec.is_regression else classes
    )


def save_data(folder: Path, task: str, *, train: int = 40, validation: int = 12) -> Path:
    """A data folder with a training and a validation split."""
    path = folder / task
    path.mkdir(parents=True, exist_ok=True)
    split_frame(task, train, 1).to_parquet(path / "train.parquet")
    split_frame(task, validation, 2).to_parquet(path / f"{TASKS[task].validation_split}.parquet")
    return folder


def question_frame(count: int, seed: int, *, unanswerable: bool) -> pd.DataFrame:
    """Questions in the hub's schema: the answer is the word behind the one that is asked for.

    Args:
        count: Number of rows, two for each context, eight for each article.
        seed: Of the texts.
        unanswerable: Every fifth question asks for a word that its context lacks.
    """
    random = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []
    for i in range(count):
        if i % 2 == 0:
            words = random.permutation(tiny.WORDS)
            context = list(words[: random.integers(6, 24)])
        has_answer = not (unanswerable and i % 5 == 0)
        place = int(random.integers(len(context) - 1))
        asked = context[place] if has_answer else str(words[-1])
        begin = len(" ".join(context[: place + 1])) + 1
        rows.append(
            {
                "id": str(i),
                "title": f"article {i // 8}",
                "context": " ".join(context),
                "question": f"what was with {asked}",
                "answers": {
                    "text": [context[place + 1]] if has_answer else [],
                    "answer_start": [begin] if has_answer else [],
                },
            }
        )
    return pd.DataFrame(rows)


def save_questions(folder: Path) -> Path:
    """A data folder with squad and squad_v2."""
    for task, is_v2 in (("squad", False), ("squad_v2", True)):
        (folder / task).mkdir(parents=True, exist_ok=True)
        for split, count, seed in (("train", 64, 1), ("validation", 24, 2)):
            frame = question_frame(count, seed, unanswerable=is_v2)
            frame.to_parquet(folder / task / f"{split}.parquet")
    return folder


@dataclass(frozen=True)
class Workplace:
    """A folder with `data/` and `store/`, and a base model, which is part of every configuration."""

    folder: Path
    base: Path

    @classmethod
    def make(cls, folder: Path, task: str = "sst2", architecture: str = "bert") -> Workplace:
        """Fills a folder."""
        save_data(folder / "data", task)
        return cls(folder, tiny.save_hugging_face(architecture, folder / "base"))

    @classmethod
    def trained(cls, folder: Path) -> Workplace:
        """LTP and its dense counterpart as adapter and in full; whichever process asks first trains."""
        folder.mkdir(exist_ok=True)
        with (folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if (folder / "done").exists():
                return cls(folder, folder / "base")
            place = cls.make(folder)
            for kind in KINDS:
                config = place.config(kind)
                place.train(config)
                place.train(dense_config(config) or config)
            (folder / "done").touch()
            return place

    @property
    def store(self) -> Path:
        """Where runs go."""
        return self.folder / "store"

    def copy(self, folder: Path, *runs: str) -> Workplace:
        """The same data and base, with a store that holds these runs only; all if none is named."""
        shutil.copytree(self.folder / "data", folder / "data")
        for name in runs or [path.name for path in (self.store / "runs").iterdir()]:
            shutil.copytree(self.store / "runs" / name, folder / "store" / "runs" / name)
        return Workplace(folder, self.base)

    def config(
        self, kind: str = "lora", *, soft: Any = None, hard: Any = None, **changes: Any
    ) -> TrainConfig:
        """LTP on sst2 with all three stages; `soft` and `hard` change settings of those stages."""
        distilled = {**STAGE, "distillation_weight": 0.5}
        config = TrainConfig(
            task="sst2",
            base=str(self.base),
            method=MethodSettings(name="ltp", settings={"final_threshold": 0.9}),
            data=DataConfig(max_length=32),
            adapter=AdapterConfig(kind=kind, rank=2, alpha=5.0),  # type: ignore[arg-type]
            finetune=StageConfig(**STAGE),
            soft=SoftConfig(**{**distilled, "regularization_weight": 0.1, **(soft or {})}),
            hard=HardConfig(**{**distilled, **(hard or {})}),
        )
        return replace(config, **changes)

    def train(self, config: TrainConfig, **options: Any) -> Path:
        """Trains in this process, in bfloat16 where that is asked for, whatever the processor has."""
        from ltp_core.training import train as training

        place: dict[str, Any] = {"data_dir": self.folder / "data", "destination": self.store}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(training, "emulates_bfloat16", lambda: False)
            return training.train(config, **place, **options)

    def train_until_interrupted(
        self, config: TrainConfig, stage: str, step: int, **options: Any
    ) -> None:
        """Trains until this step, which Ctrl-C ends."""
        from ltp_core.training.resume import Journal

        log = Journal.log

        def interrupted(journal: Journal, name: str, at: int, *rest: Any) -> None:
            if (name, at) == (stage, step):
                raise KeyboardInterrupt
            log(journal, name, at, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Journal, "log", interrupted)
            with pytest.raises(KeyboardInterrupt):
                self.train(config, **options)

    def train_until_killed(self, config: TrainConfig, stage: str, step: int) -> None:
        """Trains in a process that gets SIGKILL in this step: the history is written, no snapshot."""
        done = self._process([sys.executable], [config], stage, str(step))
        assert -signal.SIGKILL == done.returncode, done.stderr

    def launch(self, *configs: TrainConfig, num_processes: int) -> None:
        """Trains in several processes together, on the CPU, as PyTorch's launcher starts them."""
        launcher = [
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc_per_node={num_processes}",
        ]
        done = self._process([sys.executable, *launcher], configs)
        assert 0 == done.returncode, done.stderr[-3000:]

    def _process(
        self, program: list[str], configs: Sequence[TrainConfig], *fatal: str
    ) -> subprocess.CompletedProcess[str]:
        """Runs `train_alone` in another process."""
        script = self.folder / "train.py"
        script.write_text(
            "import sys\nfrom tests.trainings import train_alone\ntrain_alone(*sys.argv[1:])\n"
        )
        return subprocess.run(
            [*program, str(script), str(self.folder), json.dumps([*map(to_dict, configs)]), *fatal],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "ACCELERATE_USE_CPU": "true"},
            capture_output=True,
            text=True,
            check=False,
        )


def train_alone(folder: str, configs: str, *fatal: str) -> None:
    """Body of another process that trains; `fatal` are stage and step of its death."""
    if fatal:
        _die_at(*fatal)
    for config in json.loads(configs):
        Workplace(Path(folder), Path(config["base"])).train(from_dict(config), snapshot_every=4)


def _die_at(stage: str, step: str) -> None:
    from ltp_core.training import loop
    from ltp_core.training.resume import save_snapshot

    def save_or_die(path: Path, student: Any, optimizer: Any, position: Any, scaler: Any) -> None:
        if (position.stage, position.step) == (stage, int(step)):
            os.kill(os.getpid(), signal.SIGKILL)
        save_snapshot(path, student, optimizer, position, scaler)

    loop.save_snapshot = save_or_die  # type: ignore[attr-defined, assignment]
