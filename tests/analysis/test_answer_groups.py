"""Questions with and without an answer, apart: the numbers, the sentence and the chart."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from app.ltp_ui.shared.charts import image
from app.ltp_ui.shared.method_style import KNOWN, LIGHT_COLORS
from app.ltp_ui.shared.palette import DARK, LIGHT
from app.ltp_ui.tradeoff.groups import (
    STYLES,
    exported,
    groups_chart,
    never_answering,
    observation,
)
from ltp_core import store
from ltp_core.analysis.runs import points_table, recipe_titles, runs_table
from ltp_core.analysis.tradeoff import GROUPS, answer_groups, share_unanswerable
from ltp_core.config import MethodSettings, StageConfig, TrainConfig, dense_config, to_dict
from ltp_core.store import RunEntry
from tests import runs


def entry(
    config: TrainConfig, flops: float, has: float, no: float, heldout: float | None = None
) -> RunEntry:
    """A stored run that answers questions so well; `heldout` is its F1 there."""
    results = {
        split: {
            "metrics": {"f1": f1, "has_answer_f1": has, "no_answer_f1": no},
            "relative_flops": {"paper": flops, "executed": flops},
            "rows": 4,
        }
        for split, f1 in {"validation": (has + no) / 2, "heldout": heldout}.items()
        if f1 is not None
    }
    dense = dense_config(config)
    manifest = runs.manifest(
        config.name,
        config=to_dict(config),
        seed=config.seed,
        summary=results,
        dense=dense.name if dense else None,
    )
    return RunEntry(name=config.name, folder=Path(config.name), manifest=manifest, problem=None)


def pruned(number: int = 1, *, finetune: StageConfig | None = None) -> TrainConfig:
    """A configuration of LTP for questions; the number sets it apart."""
    method = MethodSettings(name="ltp", settings={"final_threshold": number / 10})
    return TrainConfig(task="squad_v2", method=method, finetune=finetune or StageConfig())


def groups_of(*entries: RunEntry, dense: tuple[float, float] = (0.8, 0.5)) -> pd.DataFrame:
    """Their groups, beside dense counterparts of 0.8 and 0.5."""
    return answer_groups(*tables(*entries, dense=dense))


def tables(
    *entries: RunEntry, dense: tuple[float, float] = (0.8, 0.5)
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Points and runs, counterparts among them unless they are given."""
    names = {each.name for each in entries}
    extra: dict[str, RunEntry] = {}
    for each in entries:
        config = config_of(each)
        counterpart = dense_config(config)
        if counterpart is not None and counterpart.name not in names:
            extra[counterpart.name] = entry(counterpart, 1.0, *dense)
    table = runs_table([*entries, *extra.values()])
    return points_table(table), table


def config_of(each: RunEntry) -> TrainConfig:
    """The configuration that a stored run has."""
    [config] = runs_table([each])["config"]
    assert isinstance(config, TrainConfig)
    return config


def test_groups_by_hand() -> None:
    """Three groups a point, the dense counterpart once, differences to it."""
    found = groups_of(entry(pruned(1), 0.5, 0.7, 0.6), entry(pruned(2), 0.7, 0.8, 0.5))
    keys = ["method", "group", "relative_flops"]
    values = found.set_index(keys)[["f1", "difference"]]
    assert 9 == len(values)
    assert [0.7, pytest.approx(-0.1)] == values.loc[("ltp", "has answer", 0.5)].tolist()
    assert [0.6, pytest.approx(0.1)] == values.loc[("ltp", "no answer", 0.5)].tolist()
    assert [0.65, pytest.approx(0.0)] == values.loc[("ltp", "all", 0.7)].tolist()
    assert [0.8, 0.0] == values.loc[("unpruned", "has answer", 1.0)].tolist()


def test_what_another_point_beats_is_left_out() -> None:
    """As the chart above greys it: dearer and no better on held-out rows."""
    found = groups_of(
        entry(pruned(1), 0.5, 0.7, 0.6, heldout=0.8), entry(pruned(2), 0.6, 0.9, 0.9, heldout=0.7)
    )
    assert [0.5] * 3 == found.loc[found["method"] == "ltp", "relative_flops"].tolist()


def test_other_tasks_have_no_groups() -> None:
    """A run without both groups is left out."""
    single = entry(pruned(3), 0.5, 0.5, 0.5)
    assert single.manifest is not None
    del single.manifest.summary["validation"]["metrics"]["no_answer_f1"]
    assert groups_of(single).empty


def test_the_papers_observation_is_checked() -> None:
    """It is said whether the cheapest point does what the paper's do."""
    groups = groups_of(entry(pruned(1), 0.5, 0.7, 0.6), entry(pruned(2), 0.7, 0.8, 0.5))
    said = observation("ltp", groups)
    assert "**LTP** at 50 % of the FLOPs: −10.0 points of F1 with an answer" in said
    assert said.endswith("dense counterpart: as in the paper.")
    assert observation("ltp", groups_of(entry(pruned(), 0.5, 0.7, 0.4))).endswith(
        "not as in the paper."
    )
    assert "one of the two groups has no dense counterpart" in observation(
        "ltp", groups[groups["group"] == "all"]
    )


def test_never_answering_is_what_it_would_reach(tmp_path: Path) -> None:
    """The share of questions without an answer, of the validation rows alone."""
    points, _ = tables(entry(pruned(), 0.5, 0.7, 0.6))
    stored = points.assign(folder=[tmp_path])
    assert "" == never_answering(stored)
    rows = [("validation", 0), ("validation", 1), ("validation", 0), ("validation", 1)]
    frame = pd.DataFrame([("heldout", 0), *rows], columns=["split", "label"])
    frame = frame.assign(row=range(5), length=9, prediction=0.0)
    store.write_table(tmp_path, "examples", frame)
    assert 0.5 == share_unanswerable(tmp_path)
    assert never_answering(stored).startswith("50.0 % of these 4 validation questions have no")


def test_every_line_ends_at_its_own_dense_counterpart() -> None:
    """Runs that were trained for longer have a line of their own, named in the legend."""
    short, long = StageConfig(epochs=2), StageConfig(epochs=4)
    longer = pruned(3, finetune=long)
    counterpart = dense_config(longer)
    assert counterpart is not None
    points, table = tables(
        entry(pruned(1, finetune=short), 0.5, 0.7, 0.6),
        entry(pruned(2, finetune=short), 0.7, 0.7, 0.6),
        entry(longer, 0.6, 0.8, 0.7),
        entry(counterpart, 1.0, 0.9, 0.9),
        dense=(0.7, 0.7),
    )
    titles = recipe_titles(points)
    assert {"2 epochs", "4 epochs"} == set(titles.values())
    frame = groups_chart(answer_groups(points, table), titles).frame
    everything = frame[frame["questions"] == "all"]
    lines = {name: sorted(rows["x"]) for name, rows in everything.groupby("line")}
    assert {"LTP, 2 epochs": [0.5, 0.7, 1.0], "LTP, 4 epochs": [0.6, 1.0]} == lines
    ends = everything[everything["x"] == 1.0]
    assert {"LTP, 2 epochs": 0.7, "LTP, 4 epochs": 0.9} == dict(
        zip(ends["line"], ends["y"], strict=True)
    )


def test_what_sets_recipes_apart_is_said() -> None:
    """Nothing for one alone; else what differs, and a name where that does not tell them apart."""

    def titles(*stages: StageConfig) -> set[str]:
        entries = [entry(pruned(1, finetune=stage), 0.5, 0.7, 0.6) for stage in stages]
        return set(recipe_titles(tables(*entries)[0]).values())

    assert {""} == titles(StageConfig(epochs=1))
    last = [StageConfig(epochs=1, distillation_weight=w) for w in (0.0, 0.8)]
    assert {"not distilled", "distilled"} == titles(*last)
    named = titles(*(StageConfig(epochs=1, weight_decay=w) for w in (0.0, 0.1)))
    assert 2 == len(named)
    assert all(title.startswith("dense ") for title in named)


def test_one_recipe_needs_no_name() -> None:
    """The chart has each method's points and the dense ones, no method called unpruned."""
    figure = groups_chart(groups_of(entry(pruned(), 0.5, 0.7, 0.6)), {})
    assert {"LTP"} == set(figure.frame["line"])
    assert {0.5, 1.0} == set(figure.frame["x"])
    table = exported(figure)
    assert 6 == len(table)
    assert {"LTP", "Unpruned"} == set(table["method"])
    assert "relative_flops_paper" in table.columns


def test_groups_do_not_look_like_methods() -> None:
    """Other colours and markers, which stand out on light and dark; strokes in the legend."""
    colors, shapes = zip(*STYLES.values(), strict=True)
    assert not {*shapes} & {style.shape for style in KNOWN.values()}
    for color in colors:
        assert color not in LIGHT_COLORS
        assert all(contrast(color, each.background) >= 3 for each in (LIGHT, DARK))
    svg = image(groups_chart(groups_of(entry(pruned(), 0.5, 0.7, 0.6)), {}), "svg").decode()
    assert all(color in svg for color in colors)
    assert 'stroke="gray"' in svg  # the legend's stroke
    assert list(STYLES) == list(GROUPS.values())


def contrast(a: str, b: str) -> float:
    """Of two colours, as the accessibility guidelines count it."""
    dark, light = sorted(luminance(color) for color in (a, b))
    return (light + 0.05) / (dark + 0.05)


def luminance(color: str) -> float:
    """Of an sRGB colour, relative to white."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
