"""The trade-off page: rows of its charts, its tables, and the page itself without a browser."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.ltp_ui.shared import method_style
from app.ltp_ui.shared.charts import image
from app.ltp_ui.tradeoff import charts as tradeoff_charts
from app.ltp_ui.tradeoff import data as tradeoff_data
from app.ltp_ui.tradeoff import tables
from app.ltp_ui.tradeoff.frame import X_TITLES, Y_TITLES, View, chart_frame
from ltp_core import store
from ltp_core.analysis import tradeoff_axes
from ltp_core.analysis.tradeoff import Point
from ltp_core.pruning import METHODS
from tests import tradeoff_samples
from tests.analysis.test_tradeoff import save_bench
from tests.source_trees import ROOT

PAGE = str(ROOT / "pages" / "tradeoff.py")


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of made-up records."""
    return tradeoff_samples.save_store(tmp_path_factory.mktemp("store"), budgets=(0.3, 0.45, 0.8))


@pytest.fixture(autouse=True)
def _environment(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This store alone, caches of its own for every test, and quick intervals."""
    monkeypatch.setattr(tradeoff_axes, "NUM_RESAMPLES", 50)
    monkeypatch.setenv("LTP_STORE", str(store_folder))
    monkeypatch.setattr(store, "_DATA_CACHE", store_folder / "none")
    yield
    st.cache_data.clear()


def points(task: str = "sst2") -> list[Point]:
    """Points of one task."""
    return [point for point in tradeoff_data.points() if point.experiment.task == task]


def page(**params: str) -> AppTest:
    """A fresh session on the page, with a link's parameters."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).switch_page(PAGE)
    for name, value in params.items():
        at.query_params[f"tradeoff.{name}"] = value
    at.run()
    assert not at.exception, [e.value for e in at.exception]
    return at


def charts(at: AppTest) -> list[dict[str, Any]]:
    """Specifications of the charts on the page."""
    return [json.loads(chart.proto.spec) for chart in at.get("vega_lite_chart")]


# --- rows of a chart ------------------------------------------------------------------------------


def test_points_have_the_figures_of_the_core() -> None:
    """Mean over seeds, bars of one standard deviation, and the run that a click opens."""
    found = points()
    frame = chart_frame(found, View())
    rows = frame[frame["kind"] == "point"]
    assert len(found) == len(rows)
    for point, row in zip(found, rows.to_dict("records"), strict=True):
        metric, flops = point.metric(), point.relative_flops("paper")
        assert metric is not None
        assert flops is not None
        assert (flops.mean, metric.mean) == (row["x"], row["y"])
        assert row["y_high"] - row["y"] == pytest.approx(metric.sd or 0)
        assert row["x"] - row["x_low"] == pytest.approx(flops.sd or 0)
        assert point.runs[0].name == row["run"]


def test_the_difference_has_the_paired_interval() -> None:
    """The dense counterpart lies at 0, its rule one point below."""
    frame = chart_frame(points(), View(y="difference"))
    rows = frame[frame["kind"] == "point"]
    assert ((rows["y_low"] <= rows["y"]) & (rows["y"] <= rows["y_high"])).all()
    assert (rows["y_low"] < rows["y_high"]).any()
    assert [0.0, -0.01] == frame.loc[frame["kind"] == "rule", "y"].tolist()
    paper = frame[frame["kind"] == "paper"]
    assert [0.0, pytest.approx(-0.0081)] == paper["y"].tolist()


def test_the_papers_point_is_tagged_and_stays_on_its_own_axis() -> None:
    """GFLOPs and speed-ups of another model do not compare; a switch takes it away."""
    frame = chart_frame(points(), View())
    paper = frame[frame["kind"] == "paper"]
    assert ["RoBERTa, paper", "LTP, paper"] == paper["text"].tolist()
    assert [0.9427, 0.9346] == pytest.approx(paper["y"].tolist())
    for view in (View(x="executed"), View(x="gflops"), View(with_paper=False)):
        assert "paper" not in set(chart_frame(points(), view)["kind"])


def test_curves_are_marked_as_not_retrained() -> None:
    """They go through the run's own point, on every axis that FLOPs give."""
    for view in (View(), View(x="gflops"), View(y="difference")):
        curve = chart_frame(points(), view).query("kind == 'curve'")
        assert 4 == len(curve)
        assert {"not retrained"} == set(curve["text"])
        point = chart_frame(points(), view).query("run == @curve.run.iloc[0] and kind == 'point'")
        assert point.empty or view.y == "difference" or curve["x"].min() < point["x"].iloc[0]
    assert "curve" not in set(chart_frame(points(), View(with_curves=False))["kind"])


def test_recipes_have_lines_and_rules_of_their_own() -> None:
    """What was trained for longer has another dense counterpart: its names stand elsewhere."""
    found = [point for point in points() if point.method == "ltp"]
    assert {"left"} == set(chart_frame(found, View())["side"].dropna())
    longer = [trained_for(point, 9) for point in found]
    frame = chart_frame([*found, *longer], View())
    rows = frame[frame["kind"] == "point"]
    assert 2 == rows["recipe"].nunique()
    named = rows[rows["text"] != ""]
    assert ["4 epochs", "11 epochs"] == named["text"].tolist()
    assert set(named["x"]) == {rows["x"].min()}
    rules = frame[frame["kind"] == "rule"]
    assert ["left", "left", "right", "right"] == rules["side"].tolist()
    texts = rules["text"].tolist()
    assert ["", ""] == texts[1:3]  # one name a pair, over the first and under the second
    assert texts[0].startswith("dense, ")
    assert texts[3].endswith(", − 1 point")
    assert any("11 epochs:" in text for text in texts)
    chart = tradeoff_charts.tradeoff_chart(frame, View(), metric="accuracy", methods=["ltp"])
    assert "dense, 11 epochs" in image(chart, "svg").decode()


def trained_for(point: Point, epochs: float) -> Point:
    """The same point, finetuned for so long."""
    runs = tuple(
        replace(
            run, config=replace(run.config, finetune=replace(run.config.finetune, epochs=epochs))
        )
        for run in point.runs
    )
    return replace(point, runs=runs)


def test_a_speedup_is_drawn_where_it_was_measured(store_folder: Path) -> None:
    """Only runs with a benchmark are on that axis."""
    view = View(x="speedup")
    assert "point" not in set(chart_frame(points(), view)["kind"])
    name = points()[0].runs[0].name
    contenders = {"packed": {"checkpoint": name}, "packed_unpruned": {}}
    save_bench(store_folder, "measured", contenders=contenders)
    try:
        rows = chart_frame(points(), view).query("kind == 'point'")
        assert [(1.8, name)] == list(zip(rows["x"], rows["run"], strict=True))
    finally:
        (store_folder / "benches" / "measured" / "bench.json").unlink()


def test_points_without_a_dense_counterpart_leave_the_difference(store_folder: Path) -> None:
    """They stay on the chart of the metric."""
    bare = [replace(point, dense={}) for point in points()]
    assert "point" not in set(chart_frame(bare, View(y="difference"))["kind"])
    metric = chart_frame(bare, View())
    assert {"point", "paper", "curve"} == set(metric["kind"])


def test_a_new_record_is_seen(store_folder: Path) -> None:
    """The cache asks the folders, not the clock."""
    before = len(points("rte"))
    made = tradeoff_samples.config("ltp", 0.5, task="rte")
    home = tradeoff_samples.save_run(store_folder, made, right=0.7, flops=0.5)
    try:
        assert before + 1 == len(points("rte"))
    finally:
        (home / "manifest.json").unlink()


# --- the chart ------------------------------------------------------------------------------------


def test_methods_differ_in_more_than_colour() -> None:
    """Shape and dash tell them apart; every method of the core has a look of its own."""
    styles = [method_style.style_of(name) for name in METHODS if name != "unpruned"]
    assert all(style.name in method_style.KNOWN for style in styles)
    assert len(styles) == len({style.shape for style in styles})
    assert len(styles) == len({style.dash for style in styles})


def test_exports_have_the_light_themes_colours() -> None:
    """And the theme has a colour for each method, dark and light."""
    import tomllib

    theme = tomllib.loads((ROOT / "app/.streamlit/config.toml").read_text())["theme"]
    light = theme["light"]["chartCategoricalColors"]
    assert light == list(method_style.LIGHT_COLORS)
    assert len(method_style.KNOWN) <= len(light) == len(theme["dark"]["chartCategoricalColors"])


@pytest.mark.parametrize("view", [View(), View(x="gflops"), View(y="difference")])
def test_the_chart_can_be_drawn(view: View) -> None:
    """As a picture, with the axes' titles, for points that are alone as well."""
    for found in (points(), points()[:1]):
        frame = chart_frame(found, view)
        chart = tradeoff_charts.tradeoff_chart(frame, view, metric="accuracy", methods=["ltp"])
        svg = image(chart, "svg").decode()
        assert "GFLOPs" in svg if view.x == "gflops" else "relative FLOPs" in svg
        assert "NaN" not in svg
    assert image(chart, "png").startswith(b"\x89PNG")


def test_an_unknown_method_is_drawn_too() -> None:
    """A method that has no place in the list gets its own name."""
    frame = chart_frame(points(), View()).assign(method="tr_bert")
    chart = tradeoff_charts.tradeoff_chart(frame, View(), metric="accuracy", methods=["tr_bert"])
    assert "tr_bert" in image(chart, "svg").decode()


# --- tables ---------------------------------------------------------------------------------------


def test_the_papers_line_stands_below_ours() -> None:
    """Tasks across, methods down; a task that the paper lacks has a dash."""
    found = tradeoff_data.points()
    shown = tradeoff_data.experiments(found)
    chosen = tables.choose(found, shown)
    table = tables.smallest_table(chosen, shown)
    assert ["method", "mrpc", "sst2", "mean"] == list(table.columns)
    assert tables.PAPER_ROW == table["method"].iloc[-1]
    assert ["47.6 %", "47.9 %", "47.7 %"] == table.iloc[-1].tolist()[1:]
    assert table["method"].tolist()[:3] == ["LTP", "SpAtten", "LAT"]


def test_several_training_sets_of_one_task_stand_side_by_side() -> None:
    """Neither hides the other, and there is no mean over one task."""
    first = points()
    other = [replace(p, experiment=replace(p.experiment, key="x", rows=7)) for p in first]
    shown = [first[0].experiment, other[0].experiment]
    table = tables.smallest_table(tables.choose([*first, *other], shown), shown)
    assert ["method", "20,000 training rows", "7 training rows"] == list(table.columns)


def test_exported_points_have_everything() -> None:
    """Fractions, bounds, seeds and the names of the runs."""
    frame = tables.points_frame(points())
    row = frame[frame["method"] == "ltp"].iloc[0]
    assert row["difference_low"] <= row["difference"] <= row["difference_high"]
    assert "0, 1, 2" == row["seeds"]
    assert 3 == len(row["runs"].split(", ")) == len(row["dense"].split(", "))
    assert isinstance(frame, pd.DataFrame)


# --- the page -------------------------------------------------------------------------------------


def test_one_chart_a_task() -> None:
    """All tasks first; a link chooses one."""
    assert 2 == len(charts(page()))
    at = page(task="mrpc")
    assert 1 == len(charts(at))
    assert "mrpc · 20,000 training rows" in [s.value for s in at.subheader]
    assert 2 == len(charts(page(task="nothing")))


def test_methods_can_be_chosen() -> None:
    """The others leave the chart, not the table."""
    at = page(task="mrpc")
    at.get("pills")[0].set_value(["ltp"])
    at.run()
    [spec] = charts(at)
    assert {"LTP"} == {row["method"] for row in rows_of(at) if row["kind"] == "point"}
    assert spec
    assert "SpAtten" in at.dataframe[0].value["method"].tolist()


def rows_of(at: AppTest) -> list[dict[str, Any]]:
    """Rows that the first chart draws."""
    spec = charts(at)[0]
    if "datasets" in spec:
        return list(spec["datasets"]["table"])
    import pyarrow as pa

    [data] = at.get("vega_lite_chart")[0].proto.datasets
    with pa.ipc.open_stream(data.data.data) as stream:
        return list(stream.read_pandas().to_dict("records"))


@pytest.mark.parametrize("axis", ["executed", "gflops"])
def test_every_axis_opens(axis: str) -> None:
    """And the difference with it."""
    at = page(task="sst2", x=X_TITLES[axis], y=Y_TITLES["difference"])  # type: ignore[index]
    [spec] = charts(at)
    assert X_TITLES[axis] in json.dumps(spec, ensure_ascii=False)  # type: ignore[index]
    assert "paired 95 % interval" in " ".join(c.value.replace("\\", "") for c in at.caption)


def test_an_axis_without_figures_says_so() -> None:
    """No run has a speed-up here."""
    at = page(task="sst2")
    at.selectbox[1].set_value("speedup")
    at.run()
    assert not charts(at)
    assert any("No run here has a measured speed-up" in c.value for c in at.caption)


def test_the_page_says_how_it_chose() -> None:
    """Held-out rows for choosing, validation for reporting."""
    text = " ".join(c.value for c in page().caption)
    assert "Chosen on held-out training rows" in text
    assert "validation" in text
    assert "Hollow and grey: the paper’s own numbers" in text


def test_an_empty_store_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence and the command of a sweep."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    at = page()
    assert ["Nothing to compare yet"] == [info.proto.title for info in at.info]
    assert "python -m ltp_core sweep sst2 --dry-run" == at.code[0].value
