"""What a training says of itself, as how far it is and how long it will take. No Streamlit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

Event = dict[str, Any]

STEP_RATIOS = {"finetune": 1.0, "soft": 1.4, "hard": 1.0}
"""Time of a step beside one of finetuning, until it is measured."""
ELASTIC_RATIO = 4.4
"""The same of a hard stage for every budget: three passes, two of them with masks that have gradients."""
EVALUATION_SHARE = 0.07
"""Of the time of an epoch of finetuning: one pass over the rows that are evaluated, until measured."""
MOST_ROWS = 6_500
"""Training rows beyond which the presets evaluate no more rows."""
CURVE_PASSES = 24
"""Passes of the evaluation of a run for every budget; another one needs 2."""
PHASES = {
    "data": "Reading the data",
    "measuring": "Measuring a few steps of each stage",
    "loading": "Loading the base model",
}


@dataclass
class Part:
    """A stage, or the evaluation of a run.

    Attributes:
        run: Name of the run.
        name: Of the stage, or "evaluate".
        steps: All of them, 0 while that is not known.
        done: Steps that are done.
        weight: Time of a step beside one of finetuning, before it is measured.
        epochs: Passes over the training rows; None for the evaluation.
        batch_size: Rows of a step.
        step_s: Seconds of a step; None before it is measured.
    """

    run: str
    name: str
    weight: float
    epochs: float | None = None
    batch_size: int = 1
    steps: int = 0
    done: int = 0
    step_s: float | None = None


@dataclass(kw_only=True)
class Progress:
    """How far a training is.

    Attributes:
        text: What it does now.
        parts: All that is to be done, in order.
        rows: Figures of steps of the run that is trained now.
        target: FLOPs that its stage goes for, as a fraction; None without a budget.
        epochs: Of every stage, as they are typed; empty before that is known.
    """

    text: str = PHASES["data"]
    parts: list[Part] = field(default_factory=list)
    rows: list[Event] = field(default_factory=list)
    target: float | None = None
    epochs: list[str] = field(default_factory=list)

    @property
    def history(self) -> pd.DataFrame:
        """The figures as a history, without what only events have."""
        frame = pd.DataFrame(self.rows)
        return frame.drop(columns=["event", "run", "at_s", "kept"], errors="ignore")

    @property
    def kept(self) -> list[float]:
        """Share of the tokens that stay after each layer, in the last step; empty before the first."""
        return next((row["kept"] for row in reversed(self.rows) if row.get("kept")), [])

    @property
    def fraction(self) -> float:
        """Of all work that is done, by time; 0 before anything is known."""
        times = self._times()
        if times is None or not (whole := sum(s * part.steps for part, s in times)):
            return 0.0
        return min(1.0, sum(s * part.done for part, s in times) / whole)

    @property
    def left_s(self) -> float | None:
        """Seconds that are left; None before a step was measured."""
        times = self._times()
        is_measured = any(part.step_s for part in self.parts)
        if times is None or not is_measured:
            return None
        return sum(seconds * (part.steps - part.done) for part, seconds in times)

    def _times(self) -> list[tuple[Part, float]] | None:
        """Seconds of a step of each part; None while the number of steps is not known."""
        if not self.parts or not all(part.steps for part in self.parts):
            return None
        unit = next((p.step_s / p.weight for p in self.parts if p.step_s and p.epochs), 1.0)
        return [(part, part.step_s or unit * part.weight) for part in self.parts]


def read(events: Sequence[Event]) -> Progress:
    """What the events of a job amount to."""
    found = Progress()
    began: dict[str, float] = {}
    first: tuple[float, int] | None = None
    for event in events:
        run = event.get("run", "")
        match event.get("event"):
            case "phase":
                found.text = PHASES.get(str(event.get("phase")), found.text)
            case "plan":
                found.text = PHASES["loading"]
                found.epochs = list(event["epochs"])
                found.parts = [part for each in event["runs"] for part in _parts(each)]
                found.target = _target(event["runs"])
            case "begin":
                began[run] = event["at_s"]
                _count_steps(found.parts, run, event["rows"])
                found.rows = []
            case "history":
                found.rows = list(event["rows"])
            case "stage":
                first = (event["at_s"], event["step"])
                found.text = f"{_title(found.parts, run)}, stage {event['stage']}"
                _finish_before(found.parts, run, event["stage"])
                for part in _of(found.parts, run, event["stage"]):
                    part.steps, part.done = event["steps"], event["step"]
            case "step":
                found.rows.append(event)
                for part in _of(found.parts, run, event["stage"]):
                    part.done = event["step"] + 1
                    if first is not None and part.done > first[1]:
                        part.step_s = (event["at_s"] - first[0]) / (part.done - first[1])
            case "evaluate":
                found.text = f"{_title(found.parts, run)}, evaluation"
                _finish_before(found.parts, run, "evaluate")
                if event["done"] == 0:
                    first = (event["at_s"], 0)
                for part in _of(found.parts, run, "evaluate"):
                    part.steps, part.done = event["passes"], event["done"]
                    if first is not None and part.done:
                        part.step_s = (event["at_s"] - first[0]) / part.done
            case "finished":
                for part in found.parts:
                    if part.run == run:
                        part.steps = part.done = max(1, part.steps)
    return found


def _parts(run: Event) -> list[Part]:
    stages: dict[str, Event] = run["stages"]
    parts = []
    for name, stage in stages.items():
        weight = ELASTIC_RATIO if stage.get("elastic") else STEP_RATIOS.get(name, 1.0)
        weight *= stage["batch_size"] / 32
        parts.append(
            Part(run["run"], name, weight, float(stage["epochs"]), int(stage["batch_size"]))
        )
    passes = CURVE_PASSES if any(stage.get("elastic") for stage in stages.values()) else 2
    return [*parts, Part(run["run"], "evaluate", 0.0, steps=passes)]


def _count_steps(parts: Sequence[Part], run: str, rows: int) -> None:
    """Steps of every stage once the rows are known; runs before the one that began were there already."""
    names = [part.run for part in parts]
    for part in parts[: names.index(run)] if run in names else ():
        part.steps = part.done = max(1, part.steps)
    for part in parts:
        if part.epochs is not None:
            part.steps = part.steps or max(1, round(part.epochs * rows / part.batch_size))
        elif not part.weight:
            part.weight = EVALUATION_SHARE * min(rows, MOST_ROWS) / 32


def _finish_before(parts: Sequence[Part], run: str, name: str) -> None:
    """A stage that begins has all before it behind it."""
    for part in parts:
        if (part.run, part.name) == (run, name):
            return
        part.done = part.steps = max(1, part.steps)


def _of(parts: Sequence[Part], run: str, name: str) -> list[Part]:
    return [part for part in parts if (part.run, part.name) == (run, name)]


def _title(parts: Sequence[Part], run: str) -> str:
    """Which of the runs it is."""
    names = list(dict.fromkeys(part.run for part in parts))
    if len(names) < 2 or run not in names:
        return "Training"
    return "Finetuning" if names.index(run) == 0 else "Learning to prune"


def _target(runs: Sequence[Event]) -> float | None:
    stages = [stage for run in runs for stage in run["stages"].values()]
    found = [s["target_relative_flops"] for s in stages if s.get("target_relative_flops")]
    return float(found[-1]) if found else None
