"""Questions with and without an answer, apart: the numbers, the sentence and the chart."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.ltp_ui.tradeoff.groups import groups_chart, observation
from ltp_core.analysis.answer_groups import GroupPoint, group_points
from ltp_core.analysis.tradeoff import Experiment, Point, Result, StoredRun
from ltp_core.config import MethodSettings, TrainConfig
from tests import runs

EXPERIMENT = Experiment(
    task="squad_v2",
    key="x",
    rows=None,
    takes_all=True,
    max_train_length=None,
    base="tiny",
    adapter="lora",
)


def run(method: str, number: int, flops: float, metrics: dict[str, float]) -> StoredRun:
    """A run as a trade-off sees it."""
    name = f"squad_v2-{method}-{number:010d}"
    summary = {"validation": {"metrics": metrics, "relative_flops": {"paper": flops}, "rows": 4}}
    result = Result(
        metric=metrics["f1"], relative_flops={"paper": flops, "executed": flops}, rows=4
    )
    return StoredRun(
        name=name,
        folder=Path(name),
        manifest=runs.manifest(name, summary=summary),
        config=TrainConfig(task="squad_v2", method=MethodSettings(name=method)),
        metric_name="f1",
        results={"validation": result},
    )


def point(flops: float, has: float, no: float, *, number: int = 1) -> Point:
    """An operating point beside a dense counterpart of 0.8 and 0.5."""
    own = run(
        "ltp", number, flops, {"f1": (has + no) / 2, "has_answer_f1": has, "no_answer_f1": no}
    )
    dense = run("unpruned", 9, 1.0, {"f1": 0.65, "has_answer_f1": 0.8, "no_answer_f1": 0.5})
    return Point(experiment=EXPERIMENT, runs=(own,), dense={own.name: dense})


def test_groups_by_hand() -> None:
    """Three groups a point, the dense counterpart once, differences to it."""
    found = group_points([point(0.5, 0.7, 0.6), point(0.7, 0.8, 0.5, number=2)])
    values = {(p.method, p.group, p.relative_flops): (p.f1, p.difference) for p in found}
    assert 9 == len(values)
    assert (0.7, pytest.approx(-0.1)) == values["ltp", "has answer", 0.5]
    assert (0.6, pytest.approx(0.1)) == values["ltp", "no answer", 0.5]
    assert (0.65, pytest.approx(0.0)) == values["ltp", "all", 0.7]
    assert (0.8, 0.0) == values["unpruned", "has answer", 1.0]


def test_other_tasks_have_no_groups() -> None:
    """A run without both groups is left out."""
    single, dense = run("ltp", 3, 0.5, {"f1": 0.5}), run("unpruned", 4, 1.0, {"f1": 0.6})
    alone = Point(experiment=EXPERIMENT, runs=(single,), dense={single.name: dense})
    assert [] == group_points([alone])


def test_the_papers_observation_is_checked() -> None:
    """It is said whether the cheapest point does what the paper's do."""
    groups = group_points([point(0.5, 0.7, 0.6), point(0.7, 0.8, 0.5, number=2)])
    said = observation("ltp", groups)
    assert "**ltp** at 50 % of the FLOPs: −10.0 points of F1 with an answer" in said
    assert said.endswith("dense counterpart: as in the paper.")
    assert observation("ltp", group_points([point(0.5, 0.7, 0.4)])).endswith("not as in the paper.")
    alone = [GroupPoint(method="ltp", group="all", relative_flops=0.5, f1=0.5, difference=None)]
    assert "not both groups" in observation("ltp", alone)


def test_every_line_ends_at_the_dense_counterpart() -> None:
    """The chart has each method's points and the dense ones, no method called unpruned."""
    figure = groups_chart(group_points([point(0.5, 0.7, 0.6)]))
    assert {"ltp"} == set(figure.frame["method"])
    assert {0.5, 1.0} == set(figure.frame["x"])
    assert "layer" in figure.to_dict()
