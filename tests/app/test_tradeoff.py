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

from app.ltp_ui.shared import method_style, stored
from app.ltp_ui.shared.charts import image
from app.ltp_ui.shared.wording import percent
from app.ltp_ui.shared.wording import points as in_points
from app.ltp_ui.tradeoff import charts as tradeoff_charts
from app.ltp_ui.tradeoff import tables
from app.ltp_ui.tradeoff.frame import X_TITLES, Y_TITLES, View, chart_frame, paper_frame
from ltp_core import store
from ltp_core.analysis import tradeoff
from ltp_core.analysis.runs import smallest_within
from ltp_core.config import dense_config
from ltp_core.pruning import METHODS
from tests import tradeoff_samples
from tests.analysis.test_tradeoff import save_bench
from tests.source_trees import ROOT

PAGE = str(ROOT / "pages" / "tradeoff.py")


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of made-up records."""
    return tradeoff_samples.save_store(tmp_path_factory.mktemp("store"), budgets=(0.3, 0.45, 0.8))


@pytest.fixture(autouse=True, scope="module")
def _quick_intervals() -> Iterator[None]:
    """Rough ones, which nothing keeps for other tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tradeoff, "NUM_RESAMPLES", 50)
        yield
    st.cache_data.clear()


@pytest.fixture(autouse=True)
def _environment(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This store alone."""
    monkeypatch.setenv("LTP_STORE", str(store_folder))
    monkeypatch.setattr(store, "_DATA_CACHE", store_folder / "none")


def points(task: str = "sst2") -> pd.DataFrame:
    """Points of one task."""
    found = stored.points()
    return found[found["task"] == task]


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
    frame = chart_frame(found, View(y="metric"))
    rows = frame[frame["kind"] == "point"]
    assert len(found) == len(rows)
    assert found["run"].tolist() == rows["run"].tolist()
    assert found["paper_validation"].tolist() == rows["x"].tolist()
    assert found["metric_validation"].tolist() == rows["y"].tolist()
    sd = found["metric_validation_sd"].fillna(0).tolist()
    assert sd == pytest.approx((rows["y_high"] - rows["y"]).tolist())
    sd = found["paper_validation_sd"].fillna(0).tolist()
    assert sd == pytest.approx((rows["x"] - rows["x_low"]).tolist())


def test_the_difference_has_the_paired_interval() -> None:
    """The dense counterpart lies at 0, its rule one point below."""
    frame = chart_frame(points(), View(y="difference"))
    rows = frame[frame["kind"] == "point"]
    assert ((rows["y_low"] <= rows["y"]) & (rows["y"] <= rows["y_high"])).all()
    assert (rows["y_low"] < rows["y_high"]).any()
    assert [0.0, -0.01] == frame.loc[frame["kind"] == "rule", "y"].tolist()


def test_the_papers_points_have_a_chart_of_their_own() -> None:
    """Every task of Table 1; none of its points is among ours."""
    frame = paper_frame().set_index("task")
    assert set(tradeoff.PAPER_TABLE_1) == set(frame.index)
    assert (0.4787, -0.0081) == pytest.approx(tuple(frame.loc["sst2", ["x", "y"]]), abs=1e-4)
    assert "paper" not in set(chart_frame(points(), View())["kind"])
    svg = image(tradeoff_charts.paper_chart(paper_frame(), "sst2"), "svg").decode()
    assert all(name in svg for name in ("SST-2", "MRPC", "STS-B"))


def test_curves_are_marked_as_not_retrained() -> None:
    """They go through the run's own point, on every axis that FLOPs give."""
    for view in (View(y="metric"), View(x="gflops", y="metric"), View(y="difference")):
        curve = chart_frame(points(), view).query("kind == 'curve'")
        assert 4 == len(curve)
        assert {"one checkpoint"} == set(curve["text"])
        point = chart_frame(points(), view).query("run == @curve.run.iloc[0] and kind == 'point'")
        assert point.empty or view.y == "difference" or curve["x"].min() < point["x"].iloc[0]
    assert "curve" not in set(chart_frame(points(), View(with_curves=False))["kind"])


def test_recipes_have_lines_and_rules_of_their_own(store_folder: Path) -> None:
    """What was trained for longer has another dense counterpart: its names stand elsewhere."""
    longer = tradeoff_samples.config("ltp", 0.3)
    longer = replace(longer, finetune=replace(longer.finetune, epochs=9))
    dense = dense_config(longer)
    assert dense is not None
    homes = [
        tradeoff_samples.save_run(store_folder, dense, right=0.9, flops=1.0),
        tradeoff_samples.save_run(store_folder, longer, right=0.85, flops=0.3),
    ]
    try:
        found = points()
        found = found[found["method"] == "ltp"]
        frame = chart_frame(found, View(y="metric"))
        rows = frame[frame["kind"] == "point"]
        assert 2 == rows["recipe"].nunique()
        assert {"4 epochs", "11 epochs"} == set(rows["text"]) - {""}
        rules = frame[frame["kind"] == "rule"]
        assert ["left", "left", "right", "right"] == rules["side"].tolist()
        texts = rules["text"].tolist()
        assert ["", ""] == texts[1:3]  # one name a pair, over the first and under the second
        assert texts[0].startswith("dense, ")
        assert texts[3].endswith(", − 1 point")
        chart = tradeoff_charts.tradeoff_chart(
            frame, View(y="metric"), metric="accuracy", methods=["ltp"]
        )
        assert "dense, 11 epochs" in image(chart, "svg").decode()
    finally:
        for home in homes:
            store.remove_manifest(home)


def test_a_speedup_is_drawn_where_it_was_measured(store_folder: Path) -> None:
    """Only runs with a benchmark are on that axis."""
    view = View(x="speedup")
    assert "point" not in set(chart_frame(points(), view)["kind"])
    name = points()["run"].iloc[0]
    contenders = {"packed": {"checkpoint": name}, "packed_unpruned": {}}
    save_bench(store_folder, "measured", contenders=contenders)
    try:
        rows = chart_frame(points(), view).query("kind == 'point'")
        assert [(1.8, name)] == list(zip(rows["x"], rows["run"], strict=True))
    finally:
        (store_folder / "benches" / "measured" / "bench.json").unlink()


def test_points_without_a_dense_counterpart_leave_the_difference(store_folder: Path) -> None:
    """They stay on the chart of the metric."""
    bare = points()
    bare = bare.assign(counterparts=[(None,) * len(runs) for runs in bare["runs"]])
    assert "point" not in set(chart_frame(bare, View(y="difference"))["kind"])
    metric = chart_frame(bare, View(y="metric"))
    assert {"point", "curve"} == set(metric["kind"])


def test_a_new_record_is_seen(store_folder: Path) -> None:
    """The cache asks the folders, not the clock."""
    before = len(points("rte"))
    made = tradeoff_samples.config("ltp", 0.5, task="rte")
    home = tradeoff_samples.save_run(store_folder, made, right=0.7, flops=0.5)
    try:
        assert before + 1 == len(points("rte"))
    finally:
        store.remove_manifest(home)


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
    assert theme["dark"]["chartCategoricalColors"] == list(method_style.DARK_COLORS)
    assert len(method_style.KNOWN) < len(light) == len(theme["dark"]["chartCategoricalColors"])


@pytest.mark.parametrize(
    "view", [View(y="metric"), View(x="gflops", y="metric"), View(y="difference")]
)
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
    frame = chart_frame(points(), View(y="metric")).assign(method="tr_bert")
    chart = tradeoff_charts.tradeoff_chart(
        frame, View(y="metric"), metric="accuracy", methods=["tr_bert"]
    )
    assert "tr_bert" in image(chart, "svg").decode()


# --- tables ---------------------------------------------------------------------------------------


def test_the_papers_line_stands_below_ours() -> None:
    """Tasks across, methods down; the rule's figures, and the paper's last."""
    table = tables.tasks_table(stored.points())
    assert ["method", "MRPC", "SST-2"] == list(table.columns)
    assert [tables.PAPER_ROW, "47.6 %", "47.9 %"] == table.iloc[-1].tolist()
    assert table["method"].tolist()[:3] == ["LTP", "SpAtten", "LAT"]


def test_the_answer_and_the_table_follow_one_rule() -> None:
    """Chosen on held-out rows, FLOPs and difference those on validation; hindsight stands apart."""
    found = points()
    chosen = found[smallest_within(found)].set_index("method")
    table = tables.smallest_table(found).set_index("method")
    sentence = tables.answer(found)
    for method, point in chosen.iterrows():
        title = method_style.title_of(str(method))
        row = table.loc[title]
        assert percent(point["paper_validation"]) == row["FLOPs within one point"]
        assert row["difference on validation"].startswith(
            in_points(point["difference_validation"]).removesuffix(" points")
        )
        assert percent(point["paper_validation"], 0) in sentence.split(title)[1]
    for method in set(found["method"]) - set(chosen.index):
        assert tables.NONE == table.loc[method_style.title_of(method), "FLOPs within one point"]
    lucky = found[smallest_within(found, split="validation")].set_index("method")
    for method, point in lucky.iterrows():
        shown = table.loc[method_style.title_of(str(method)), "in hindsight, by validation"]
        assert shown.startswith(percent(point["paper_validation"]))


def test_each_base_has_a_sentence_of_its_own() -> None:
    """A larger model's figures are not mixed with the default base's, which come first."""
    first = points()
    large = first.assign(base="sentence-transformers/all-mpnet-base-v2", comparable="x")
    sentence = tables.answer(first)
    expected = f"{sentence} {sentence.replace('On SST-2', 'On SST-2 with MPNet, 12 layers,')}"
    assert expected == tables.answer(pd.concat([large, first], ignore_index=True))
    titles = tables.smallest_table(pd.concat([first, large], ignore_index=True))["trained on"]
    assert "MPNet, 12 layers, 20,000 training rows, rank 16" in set(titles)


def test_several_training_sets_of_one_task_stand_apart() -> None:
    """Neither hides the other."""
    first = points()
    other = first.assign(comparable="x", training_rows=7)
    table = tables.smallest_table(pd.concat([first, other], ignore_index=True))
    assert {"20,000 training rows, rank 16", "7 training rows, rank 16", ""} == set(
        table["trained on"]
    )
    assert 2 * first["method"].nunique() + 1 == len(table)


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
    """SST-2 first, and the paper's points; a link chooses another, by label or by name, or all."""
    assert "On SST" in page().markdown[0].value
    for name in ("mrpc", "MRPC"):
        at = page(task=name)
        assert 1 + 1 == len(charts(at))
        assert "On MRPC " in at.markdown[0].value
    every = page(task="all tasks")
    assert 2 + 1 == len(charts(every)), "two tasks, the paper"
    plots = charts(every)[:2]
    scales = [layer["encoding"]["y"]["scale"] for plot in plots for layer in plot["layer"][:1]]
    assert scales[0] == scales[1]
    assert "On SST" in page(task="nothing").markdown[0].value


def test_methods_can_be_chosen() -> None:
    """The others leave the chart, not the table."""
    at = page(task="mrpc")
    at.get("pills")[0].set_value(["ltp"])
    at.run()
    [spec, _] = charts(at)
    assert {"LTP"} == {row["method"] for row in rows_of(at) if row["kind"] == "point"}
    assert spec
    assert "SpAtten" in at.table[0].value["method"].tolist()


def rows_of(at: AppTest, number: int = 0) -> list[dict[str, Any]]:
    """Rows that a chart draws."""
    spec = charts(at)[number]
    if "datasets" in spec:
        return list(spec["datasets"]["table"])
    import pyarrow as pa

    [data] = at.get("vega_lite_chart")[number].proto.datasets
    with pa.ipc.open_stream(data.data.data) as stream:
        return list(stream.read_pandas().to_dict("records"))


@pytest.mark.parametrize("axis", ["executed", "gflops"])
def test_every_axis_opens(axis: str) -> None:
    """And the difference with it."""
    at = page(task="sst2", x=X_TITLES[axis], y=Y_TITLES["difference"])  # type: ignore[index]
    [spec, _] = charts(at)
    assert X_TITLES[axis] in json.dumps(spec, ensure_ascii=False)  # type: ignore[index]
    assert "paired 95 % intervals" in " ".join(c.value.replace("\\", "") for c in at.caption)


def test_bit_operations_bring_int8_and_floating_point_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The paper's Figure 7: one chart, a line for each precision, the paper's statement beside it."""
    monkeypatch.setenv("LTP_STORE", str(ROOT / "data_cache" / "sample"))
    at = page(task="sst2", x=X_TITLES["bops"], paper="false")
    marks = [
        row
        for number in range(len(charts(at)))
        for row in rows_of(at, number)
        if row["kind"] == "point" and row["method"] == "LTP-S"
    ]
    lines = {row["recipe"]: row["text"] for row in marks if row["text"]}
    assert {"INT8", "FP16"} == set(lines.values())
    int8, floating = (
        [row["x"] for row in marks if lines.get(row["recipe"]) == name] for name in ("INT8", "FP16")
    )
    assert 0 < max(int8) < 0.15 < min(floating) < 1
    assert any("Figure 7" in caption.value for caption in at.caption)
    separate = page(task="sst2", paper="false")
    assert len(charts(separate)) == len(charts(at)) + 1, "counted in FLOPs they stand apart"


def test_an_axis_without_figures_says_so() -> None:
    """No run has a speed-up here."""
    at = page(task="sst2")
    at.selectbox[1].set_value("speedup")
    at.run()
    assert 1 == len(charts(at)), "the paper's"
    assert any("No run here has a measured speed-up" in c.value for c in at.caption)


def test_the_page_says_how_it_chose() -> None:
    """Held-out rows for choosing, validation for reporting."""
    text = " ".join(c.value for c in page().caption)
    assert "Held-out rule" in text
    assert "validation" in text
    assert "In hindsight" in text


def test_an_empty_store_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence and the command of a sweep."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    at = page()
    assert ["Nothing to compare yet"] == [info.proto.title for info in at.info]
    assert "python -m ltp_core sweep sst2 --dry-run" == at.code[0].value
