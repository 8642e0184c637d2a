"""The robustness page without a browser, on small stores of made-up records."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import altair as alt
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.ltp_ui.robustness import charts as robustness_charts
from app.ltp_ui.robustness import controls, data
from app.ltp_ui.robustness import panels as robustness_panels
from app.ltp_ui.shared import exports_panel, state
from app.ltp_ui.trajectories import charts as trajectories_charts
from app.ltp_ui.trajectories import panels as trajectories_panels
from ltp_core import store
from ltp_core.analysis.bands import QUARTILES, band_cost
from ltp_core.analysis.robustness import Comparison, compare
from ltp_core.tasks.loading import load_rows
from tests import length_runs
from tests.length_runs import DENSE, LAT, LTP, LTP_DEAR, REVIEWS

ROOT = Path(__file__).resolve().parents[2]
PAGE = str(ROOT / "pages" / "robustness.py")
QQP = "QQP · training rows of at most 24 tokens"


@pytest.fixture
def place(records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store of made-up records and nothing else, and caches of its own."""
    shutil.copytree(records_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    monkeypatch.delenv("LTP_DATA_DIR", raising=False)
    monkeypatch.setattr(store, "stores", lambda: [tmp_path])
    yield tmp_path
    st.cache_data.clear()


def page(**params: str) -> AppTest:
    """A fresh session on the page; `_` in a parameter's name stands for the dot."""
    at = AppTest.from_file(PAGE, default_timeout=60)
    for name, value in params.items():
        at.query_params[name.replace("_", ".")] = value
    return healthy(at.run())


def healthy(at: AppTest) -> AppTest:
    """The same, after looking for tracebacks."""
    assert not at.exception, [e.value for e in at.exception]
    assert not at.error, [e.value for e in at.error]
    return at


def words(at: AppTest) -> str:
    """All running text."""
    parts = [*at.markdown, *at.caption, *at.info, *at.warning]
    return " ".join(part.value.replace("\\", "") for part in parts)


def taken_away(at: AppTest) -> bool:
    """CSV, JSON, SVG and PNG can be had on the open tab."""
    labels = {button.proto.label for button in at.get("download_button")}
    return {"CSV", "JSON", "SVG", "PNG"} <= labels


def comparison(place: Path, *names: str, **options: Any) -> Comparison:
    """Stored runs by band."""
    return compare({name: [length_runs.read(place, name)] for name in names}, **options)


# --- by length --------------------------------------------------------------------------------------


def test_the_page_opens_on_the_experiment(place: Path) -> None:
    """Short training rows and most methods first; one run of each, of about equal FLOPs."""
    at = page()
    assert QQP in at.selectbox[0].options[0]
    assert 4 == len(at.multiselect[0].value)
    assert LTP_DEAR not in at.multiselect[0].value
    assert ["By length", "Trajectories", "Token kinds"] == [tab.label for tab in at.tabs]
    assert 2 == len(at.get("vega_lite_chart"))
    assert "Accuracy against the dense model on inputs above" in words(at)
    table = at.dataframe[0].value
    assert ["examples", "LTP", "", "SpAtten", "", "LAT", "", "Unpruned", ""] == table.iloc[
        :9, 0
    ].tolist()
    assert ["LTP − SpAtten", "LTP − LAT", "LTP − Unpruned"] == table.iloc[9:, 0].tolist()
    assert "Paper, Table 3" in words(at)
    assert "89.42" in at.dataframe[1].value.to_string()
    assert taken_away(at)


def test_figures_are_those_of_the_core(place: Path) -> None:
    """The table says what `compare` says."""
    found = comparison(place, LTP, LAT)
    table = robustness_panels.table_3(found, {LTP: "LTP", LAT: "LAT"})
    metric = found.cells[LTP][0].metric
    assert metric
    shown = f"{100 * metric.value:.1f} [{100 * metric.low:.1f}, {100 * metric.high:.1f}]"
    assert shown == table.iloc[1, 2]
    assert f"{100 * found.cells[LAT][2].relative_flops['paper'].value:.1f}" == table.iloc[4, 4]
    assert table.iloc[5, 4].startswith("+")


@pytest.mark.parametrize(
    ("bands", "quantiles", "count"),
    [("Quartiles", "", 4), ("Own quantiles", "0.9", 2), ("Own quantiles", "0.9, 0.1", 3)],
)
def test_other_bands_from_a_link(place: Path, bands: str, quantiles: str, count: int) -> None:
    """Quartiles, one's own; what are no quantiles is said, and Table 3's are shown."""
    given = {"robustness_quantiles": quantiles} if quantiles else {}
    at = page(robustness_bands=bands, **given)
    assert count + 2 == at.dataframe[0].value.shape[1]
    assert (quantiles == "0.9, 0.1") == ("Write ascending numbers" in words(at))


def test_another_experiment_from_a_link(place: Path) -> None:
    """Reviews, one run, no control: dots, no difference; nonsense falls back."""
    at = page(robustness_data="rotten_tomatoes")
    assert [REVIEWS] == at.multiselect[0].value
    assert 3 == len(at.dataframe[0].value)
    first = page().selectbox[0].value
    assert first == page(robustness_data="nonsense").selectbox[0].value


def test_choosing_no_run_is_a_state(place: Path) -> None:
    """A sentence, no traceback."""
    at = page()
    at.multiselect[0].set_value([])
    assert "Choose at least one run" in words(healthy(at.run()))


def test_two_runs_of_a_method_are_told_apart(place: Path) -> None:
    """By their cost, then by their fingerprint."""
    at = page()
    at.multiselect[0].set_value([LTP, LTP_DEAR])
    names = healthy(at.run()).dataframe[0].value.iloc[:, 0].tolist()
    assert ["LTP 68 %", "LTP 82 %"] == [name for name in names if name][1:3]
    twin, _ = data.readable(data.of_set(data.recorded(), at.selectbox[0].value), "validation")
    twins = [each for each in twin if each.name == LTP] * 2
    assert 1 == len(controls.titles(twins, "validation"))


def test_bands_in_tokens_from_a_link(place: Path) -> None:
    """Edges in tokens; what is none is said."""
    at = page(robustness_bands="Own, in tokens", robustness_lengths="10, 20, 30")
    assert ["~10 (up to 10)", "10~20 (11 to 20)"] == list(at.dataframe[0].value.columns)[2:4]
    assert "Write ascending" in words(
        page(robustness_bands="Own, in tokens", robustness_lengths="9,1")
    )


def test_runs_are_matched_by_their_whole_cost(place: Path) -> None:
    """Runs of about equal FLOPs on all inputs, which the answer says; on an outer band if wanted."""
    length_runs.save_run(place, "qqp-lat-00000000ab", scale=1.3)
    at = page()
    found = at.multiselect[0].value
    assert re.search(r"On all inputs: LTP \d+ %, SpAtten \d+ %, LAT \d+ % of the FLOPs", words(at))
    table = data.recorded().set_index("run")["paper_validation"]
    ltp, lat = (next(n for n in found if f"-{m}-" in n) for m in ("ltp", "lat"))
    nearest = min(
        abs(table[a] - table[b]) for a in (LTP, LTP_DEAR) for b in (LAT, "qqp-lat-00000000ab")
    )
    assert abs(table[ltp] - table[lat]) <= nearest + 0.05
    for match, band in (("the shortest band", 0), ("the longest band", -1)):
        found = page(robustness_match=match).multiselect[0].value
        assert 4 == len(found)
        cost = {
            name: band_cost(length_runs.read(place, name), band)
            for name in (LTP, LTP_DEAR, LAT, "qqp-lat-00000000ab")
        }
        ltp, lat = (next(n for n in found if f"-{m}-" in n) for m in ("ltp", "lat"))
        gaps = [abs(cost[a] - cost[b]) for a in cost for b in cost if "-ltp-" in a and "-lat-" in b]
        assert abs(cost[ltp] - cost[lat]) <= min(gaps) + 0.05, match


def test_inputs_that_were_cut_leave_a_band_empty(place: Path) -> None:
    """The page says how many are cut at which length."""
    folder = store.run_folder(place, REVIEWS)
    examples, layers = (store.read_table(folder, kind) for kind in ("examples", "layers"))
    store.write_table(folder, "examples", examples.assign(length=32))
    store.write_table(folder, "layers", layers.assign(attention_length=32, ffn_length=16))
    store.finish_run(folder, store.read_manifest(folder))
    at = page(robustness_data="rotten_tomatoes")
    assert "No example is in Q2~Q3, Q3~: 100 % of the inputs" in words(at)


def test_an_empty_store_is_a_state(
    place: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says what to do."""
    empty = tmp_path_factory.mktemp("empty")
    monkeypatch.setattr(store, "stores", lambda: [empty])
    at = page()
    assert "No run in the store has records" in words(at)
    assert "--records" in at.code[0].value


@pytest.mark.parametrize("damage", ["garbage", "gone"])
def test_damaged_runs_are_named_and_left_out(place: Path, damage: str) -> None:
    """The others are shown, whether a run's tables cannot be read or the run cannot be listed."""
    path = store.run_folder(place, LAT) / "examples.parquet"
    if damage == "garbage":
        path.write_bytes(bytes(path.stat().st_size))
    else:
        path.unlink()
    at = page()
    assert LAT not in at.multiselect[0].value
    assert LTP in at.multiselect[0].value
    assert 1 == len(at.warning)
    assert LAT in at.warning[0].value.replace("\\", "")


def test_a_model_of_unknown_size_has_no_flops(place: Path) -> None:
    """Accuracy is there all the same."""
    length_runs.save_run(place, "mnli-ltp-00000000aa", max_train_length=None, base={"name": "?"})
    at = page(robustness_data="mnli")
    # Nothing can be matched without FLOPs, so nothing is chosen at first.
    at.multiselect[0].set_value(["mnli-ltp-00000000aa"])
    at = healthy(at.run())
    assert "size of this model is not known" in words(at)
    assert 1 == len(at.get("vega_lite_chart"))


# --- charts -----------------------------------------------------------------------------------------


def test_the_papers_figures_are_marked(place: Path) -> None:
    """Only in its own bands and accounting, as rows of their own kind, never among ours."""
    found = comparison(place, LTP, LAT, DENSE)
    names = {LTP: "LTP", LAT: "LAT", DENSE: "Unpruned"}
    frame = robustness_charts.band_frame(found, names, "metric", paper="qnli")
    paper = frame[frame["kind"] == robustness_charts.PAPER]
    assert 6 == len(paper)
    assert 0.7537 == paper[paper["series"] == "LAT, paper"]["value"].iloc[-1]
    assert not set(paper["series"]) & set(names.values())
    quarters = comparison(place, LTP, LAT, quantiles=QUARTILES)
    shown = {LTP: "LTP", LAT: "LAT"}
    for other, axis in ((quarters, "paper"), (found, "executed")):
        rows = robustness_charts.band_frame(other, shown, axis, paper="qnli")  # type: ignore[arg-type]
        assert robustness_charts.PAPER not in set(rows["kind"])
    gaps = robustness_charts.band_frame(found, names, "difference", paper="qnli")
    assert {robustness_charts.OURS} == set(gaps["kind"])
    expected = found.difference(LTP, DENSE)[0]
    assert expected
    assert expected.value == gaps[gaps["run"] == LTP]["value"].iloc[0]
    flops = robustness_charts.band_frame(found, names, "paper")
    assert robustness_charts.UNPRUNED not in set(flops["kind"])


def test_every_chart_is_valid_vega_lite(place: Path) -> None:
    """Altair's schema takes each specification with its data."""
    found = comparison(place, LTP, LAT, DENSE)
    names = {LTP: "LTP", LAT: "LAT", DENSE: "Unpruned"}
    runs = {names[name]: found.records[name][0] for name in names}
    rows = [int(row) for row in runs["LTP"].row[:6]]
    bands = robustness_charts.band_labels(found)
    frame = robustness_charts.band_frame(found, names, "metric", paper="qqp")
    figures = [
        robustness_charts.band_chart(frame, "metric", metric="accuracy", bands=bands),
        robustness_charts.band_chart(
            robustness_charts.band_frame(found, names, "difference"),
            "difference",
            metric="accuracy",
            bands=bands,
        ),
        trajectories_charts.sample_chart(
            trajectories_charts.sample_frame(runs["LAT"], rows, rows[1]), is_log=True, most=50
        ),
        trajectories_charts.mean_chart(trajectories_charts.mean_frame(runs), is_log=False),
        trajectories_charts.histogram_chart(trajectories_charts.histogram_frame(runs["LTP"])),
    ]
    for figure in figures:
        spec = json.loads(json.dumps(figure.to_dict()))
        alt.Chart.from_dict(spec | {"$schema": "https://vega.github.io/schema/vega-lite/v6.json"})


def test_words_for_lengths(place: Path) -> None:
    """Whole tokens, no gap and no overlap."""
    bands = comparison(place, LTP).bands
    named = [robustness_charts.lengths(band) for band in bands]
    edge, last = int(bands[0].high), int(bands[-1].low)
    assert [f"up to {edge}", f"{edge + 1} to {last}", f"above {last}"] == named


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.5", (0.5,)),
        (" 0.1 , .9", (0.1, 0.9)),
        ("", None),
        ("0.5,0.5", None),
        ("0.9, 0.1", None),
        ("many", None),
        ("1", None),
        ("nan", None),
        ("0.5;0.7", None),
        ("0.1," * 9 + "0.95", None),
    ],
)
def test_quantiles_that_are_typed(text: str, values: tuple[float, ...] | None) -> None:
    """Ascending numbers between 0 and 1, or nothing."""
    assert values == controls.parse_quantiles(text)


@pytest.mark.parametrize("count", ["5", "60"])
def test_only_what_is_wrong_can_be_listed(place: Path, count: str) -> None:
    """The table then has no example that the run gets right, and the caption says so."""
    at = page(robustness_tab="Trajectories", robustness_count=count, robustness_wrong="true")
    listed = next(each.value for each in at.dataframe if "right" in each.value)
    assert len(listed)
    assert not listed["right"].any()
    assert "that LTP gets wrong" in words(at)


# --- trajectories -----------------------------------------------------------------------------------


def test_trajectories_of_every_method(place: Path) -> None:
    """A chart a pruned run, the means, the histograms; ours beside the paper's."""
    at = page(robustness_tab="Trajectories")
    text = words(at)
    assert "fewer tokens per layer than Unpruned" in text
    assert "25.86 % on MNLI-m and 12.08 % on SST-2" in text
    assert "Correlation of remaining length" in text
    table = at.dataframe[0].value
    layers = table["after each layer"].iloc[0].count("→") + 1
    assert 3 + 1 + (1 + layers) == len(at.get("vega_lite_chart"))
    assert taken_away(at)
    assert 20 == len(table)
    assert table["tokens"].is_monotonic_increasing


def test_scale_and_number_of_examples_from_a_link(place: Path) -> None:
    """Both are in the URL."""
    at = page(robustness_tab="Trajectories", robustness_scale="logarithmic", robustness_count="40")
    assert 40 == len(at.dataframe[0].value)
    spec = json.loads(at.get("vega_lite_chart")[0].proto.spec)
    assert "log" in json.dumps(spec)


def test_a_picked_example_without_its_data_says_so(place: Path) -> None:
    """QQP is not on this machine: the row is named, and what to do."""
    first = int(length_runs.read(place).row[5])
    at = page(robustness_tab="Trajectories", row=str(first))
    assert "Only positions and counts are stored" in words(at)
    assert "LTP_DATA_DIR" in words(at)
    assert "Choose a row" in words(page(robustness_tab="Trajectories", row="1"))


def picked(place: Path) -> AppTest:
    """The trajectories of reviews whose rows are real ones, the third example picked."""
    rows = load_rows("rotten_tomatoes", "validation")
    folder = store.run_folder(place, REVIEWS)
    for kind in ("examples", "layers"):
        frame = store.read_table(folder, kind)
        store.write_table(folder, kind, frame.assign(row=rows.row[frame["row"].to_numpy() // 3]))
    store.finish_run(folder, store.read_manifest(folder))
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).run()
    at.query_params["robustness.data"] = "rotten_tomatoes"
    at.query_params["robustness.tab"] = "Trajectories"
    at = healthy(at.switch_page(PAGE).run())
    at.session_state["robustness.examples"] = {
        "selection": {"rows": [2], "columns": [], "cells": []}
    }
    return healthy(at.run())


def test_a_picked_example_leads_to_explore(place: Path) -> None:
    """Its text is joined from the data set by its row number."""
    at = picked(place)
    rows = load_rows("rotten_tomatoes", "validation")
    row = at.dataframe[0].value["row"].tolist()[2]
    text = rows.texts[rows.row.tolist().index(row)][0]
    assert " ".join(text.split()) in words(at)
    link = next(link for link in at.get("page_link") if link.proto.label == "Open in Explore")
    assert "text=" in str(link.proto)
    assert "may be another text" in words(at), "the made-up run names no hash of this data"


def test_a_text_too_long_for_a_link_goes_by_a_button(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session carries it, so that no request line becomes too long."""
    at = picked(place)
    assert not [button for button in at.button if button.label == "Open in Explore"]
    monkeypatch.setattr(state, "MAX_URL_CHARACTERS", 5)
    at = healthy(at.run())
    button = next(button for button in at.button if button.label == "Open in Explore")
    assert not [link for link in at.get("page_link") if link.proto.label == "Open in Explore"]
    monkeypatch.setattr(st, "switch_page", lambda page, query_params: None)
    button.click()
    text = healthy(at.run()).session_state["text"]
    assert text in {texts[0] for texts in load_rows("rotten_tomatoes", "validation").texts}


def test_regression_has_no_histograms(place: Path) -> None:
    """Values are near or far."""
    length_runs.save_run(place, "stsb-ltp-00000000aa", max_train_length=None)
    at = page(robustness_data="stsb", robustness_tab="Trajectories")
    assert "not right or wrong" in words(at)
    assert "pearson" in words(page(robustness_data="stsb"))


def test_fewer_or_more_in_words(place: Path) -> None:
    """The sign is in the word."""
    runs = {"LTP": length_runs.read(place, LTP), "LAT": length_runs.read(place, LAT)}
    sentence = trajectories_panels.fewer_sentences(runs)[0]
    turned = trajectories_panels.fewer_sentences(dict(reversed(runs.items())))[0]
    assert {"more", "fewer"} == {
        word for word in ("more", "fewer") for s in (sentence, turned) if f" {word} " in s
    }
    assert "Choose a second run" in trajectories_panels.fewer_sentences({"LTP": runs["LTP"]})[0]


# --- token kinds ------------------------------------------------------------------------------------


def test_token_kinds_by_kind_and_frequency(place: Path) -> None:
    """First to go first, and a line a kind."""
    at = page(robustness_tab="Token kinds")
    assert "special tokens go first, after 0.64 of " in words(at)
    assert [
        "special tokens",
        "punctuation",
        "stop words",
        "pieces of words",
        "other words",
    ] == at.dataframe[0].value["kind"].tolist()
    assert taken_away(at)
    at = page(robustness_tab="Token kinds", robustness_grouping="Frequency of token")
    assert "most frequent fifth" in at.dataframe[0].value["kind"].tolist()


def test_runs_without_counts_say_how_to_get_them(place: Path) -> None:
    """With the command; a later evaluation of the run is found."""
    at = page(robustness_data="rotten_tomatoes", robustness_tab="Token kinds")
    assert "evaluate CHECKPOINT --split validation --records" in at.code[0].value
    config = {"evaluation": {"checkpoint": REVIEWS}}
    length_runs.save_run(place, "rotten_tomatoes-ltp-00000000ab", config=config, parent=REVIEWS)
    at = page(robustness_data="rotten_tomatoes", robustness_tab="Token kinds")
    assert 1 == len(at.get("vega_lite_chart"))


def test_a_damaged_count_is_a_sentence(place: Path) -> None:
    """In its tab alone; the rest of the page is there."""
    for name in (LTP, LAT, length_runs.SPATTEN):
        path = store.run_folder(place, name) / "token_kinds.parquet"
        path.write_bytes(bytes(path.stat().st_size))
    at = AppTest.from_file(PAGE, default_timeout=60)
    at.query_params["robustness.tab"] = "Token kinds"
    at.run()
    assert not at.exception
    assert "is damaged" in at.error[0].value
    assert 4 == len(at.multiselect[0].value)
    assert "How this is computed" in [expander.label for expander in at.expander]


# --- taking away ------------------------------------------------------------------------------------


def test_files_hold_the_figures() -> None:
    """Fractions, and null for what is missing."""
    frame = pd.DataFrame({"a": [0.5, None], "b": ["x", "y"]})
    files = exports_panel.frame_files(frame)
    assert "a,b\n0.5,x\n,y\n" == files["CSV"][2]().decode()
    assert [{"a": 0.5, "b": "x"}, {"a": None, "b": "y"}] == json.loads(files["JSON"][2]())
