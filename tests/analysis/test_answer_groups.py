"""Questions with and without an answer, apart: the numbers, the sentence and the chart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from app.ltp_ui.shared.charts import image
from app.ltp_ui.shared.method_style import KNOWN, LIGHT_COLORS
from app.ltp_ui.shared.palette import DARK, LIGHT
from app.ltp_ui.tradeoff.groups import LOOKS, exported, groups_chart, never_answering, observation
from ltp_core import store
from ltp_core.analysis.answer_groups import GROUPS, GroupPoint, group_points, share_unanswerable
from ltp_core.analysis.recipes import recipe_of, recipe_titles
from ltp_core.analysis.tradeoff import Experiment, Point, Result, StoredRun
from ltp_core.config import MethodSettings, StageConfig, TrainConfig
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


def test_what_another_point_beats_is_left_out() -> None:
    """As the chart above greys it: dearer and no better on held-out rows."""
    good, beaten = point(0.5, 0.7, 0.6), point(0.6, 0.9, 0.9, number=2)
    settings = MethodSettings(name="ltp", settings={"final_threshold": 0.9})
    other = replace(beaten.runs[0], config=TrainConfig(task="squad_v2", method=settings))
    beaten = replace(beaten, runs=(other,))
    for each, metric in ((good, 0.8), (beaten, 0.7)):
        reported = each.runs[0].results["validation"]
        each.runs[0].results["heldout"] = replace(reported, metric=metric)
    found = [each.relative_flops for each in group_points([good, beaten]) if each.method == "ltp"]
    assert [0.5] * 3 == found


def test_other_tasks_have_no_groups() -> None:
    """A run without both groups is left out."""
    single, dense = run("ltp", 3, 0.5, {"f1": 0.5}), run("unpruned", 4, 1.0, {"f1": 0.6})
    alone = Point(experiment=EXPERIMENT, runs=(single,), dense={single.name: dense})
    assert [] == group_points([alone])


def test_the_papers_observation_is_checked() -> None:
    """It is said whether the cheapest point does what the paper's do."""
    groups = group_points([point(0.5, 0.7, 0.6), point(0.7, 0.8, 0.5, number=2)])
    said = observation("ltp", groups)
    assert "**LTP** at 50 % of the FLOPs: −10.0 points of F1 with an answer" in said
    assert said.endswith("dense counterpart: as in the paper.")
    assert observation("ltp", group_points([point(0.5, 0.7, 0.4)])).endswith("not as in the paper.")
    alone = GroupPoint(
        method="ltp", recipe="r", group="all", relative_flops=0.5, f1=0.5, difference=None
    )
    assert "not both groups" in observation("ltp", [alone])


def test_never_answering_is_what_it_would_reach(tmp_path: Path) -> None:
    """The share of questions without an answer, of the validation rows alone."""
    own = point(0.5, 0.7, 0.6)
    [first] = own.runs
    stored = replace(own, runs=(replace(first, folder=tmp_path),))
    assert "" == never_answering([stored])
    rows = [("validation", 0), ("validation", 1), ("validation", 0), ("validation", 1)]
    frame = pd.DataFrame([("heldout", 0), *rows], columns=["split", "label"])
    frame = frame.assign(row=range(5), length=9, prediction=0.0)
    store.write_table(tmp_path, "examples", frame)
    assert 0.5 == share_unanswerable(stored.runs[0])
    assert never_answering([stored]).startswith("50.0 % of these 4 validation questions have no")


def trained(points: Point, epochs: float, dense_f1: float) -> Point:
    """The same point trained for so long, beside a dense counterpart of its own."""
    [own], [dense] = points.runs, points.dense.values()
    own = replace(own, config=replace(own.config, finetune=StageConfig(epochs=epochs)))
    metrics = {"f1": dense_f1, "has_answer_f1": dense_f1, "no_answer_f1": dense_f1}
    other = replace(run("unpruned", round(epochs), 1.0, metrics), config=dense.config)
    return replace(points, runs=(own,), dense={own.name: other})


def test_every_line_ends_at_its_own_dense_counterpart() -> None:
    """Runs that were trained for longer have a line of their own, named in the legend."""
    found = [
        trained(point(0.5, 0.7, 0.6), 2, 0.7),
        trained(point(0.7, 0.7, 0.6, number=2), 2, 0.7),
        trained(point(0.6, 0.8, 0.7, number=3), 4, 0.9),
    ]
    titles = recipe_titles(found)
    assert ["2 epochs", "4 epochs"] == list(titles.values())
    frame = groups_chart(group_points(found), titles).frame
    everything = frame[frame["questions"] == "all"]
    lines = {name: sorted(rows["x"]) for name, rows in everything.groupby("line")}
    assert {"LTP, 2 epochs": [0.5, 0.7, 1.0], "LTP, 4 epochs": [0.6, 1.0]} == lines
    ends = everything[everything["x"] == 1.0]
    assert {"LTP, 2 epochs": 0.7, "LTP, 4 epochs": 0.9} == dict(
        zip(ends["line"], ends["y"], strict=True)
    )


def test_what_sets_recipes_apart_is_said() -> None:
    """Nothing for one alone; else what differs, and a name where that does not tell them apart."""
    first = point(0.5, 0.7, 0.6)
    assert [""] == list(recipe_titles([first, first]).values())
    last = [StageConfig(epochs=1, distillation_weight=w) for w in (0.0, 0.8)]
    found = [with_last_stage(first, stage) for stage in last]
    assert ["not distilled", "distilled"] == list(recipe_titles(found).values())
    found = [with_last_stage(first, StageConfig(epochs=1, weight_decay=w)) for w in (0.0, 0.1)]
    assert [f"dense {recipe_of(p)}" for p in found] == list(recipe_titles(found).values())


def with_last_stage(found: Point, stage: StageConfig) -> Point:
    """The same point with another first and only stage."""
    [own] = found.runs
    return replace(found, runs=(replace(own, config=replace(own.config, finetune=stage)),))


def test_one_recipe_needs_no_name() -> None:
    """The chart has each method's points and the dense ones, no method called unpruned."""
    figure = groups_chart(group_points([point(0.5, 0.7, 0.6)]), {})
    assert {"LTP"} == set(figure.frame["line"])
    assert {0.5, 1.0} == set(figure.frame["x"])
    table = exported(figure)
    assert 6 == len(table)
    assert {"LTP", "Unpruned"} == set(table["method"])
    assert "relative_flops_paper" in table.columns


def test_groups_do_not_look_like_methods() -> None:
    """Other colours and markers, which stand out on light and dark; strokes in the legend."""
    colors, shapes = zip(*LOOKS.values(), strict=True)
    assert not {*shapes} & {style.shape for style in KNOWN.values()}
    for color in colors:
        assert color not in LIGHT_COLORS
        assert all(contrast(color, each.background) >= 3 for each in (LIGHT, DARK))
    svg = image(groups_chart(group_points([point(0.5, 0.7, 0.6)]), {}), "svg").decode()
    assert all(color in svg for color in colors)
    assert 'stroke="gray"' in svg  # the legend's stroke
    assert list(LOOKS) == list(GROUPS.values())


def contrast(a: str, b: str) -> float:
    """Of two colours, as the accessibility guidelines count it."""
    dark, light = sorted(luminance(color) for color in (a, b))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """Of an sRGB colour, relative to white."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
