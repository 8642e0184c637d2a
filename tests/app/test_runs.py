"""The Runs page: what it lists, what it says of one run, and what it does with broken ones."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.ltp_ui.runs import charts, compared, data
from app.ltp_ui.shared.charts import image
from app.ltp_ui.shared.labels import label_of
from ltp_core import store
from ltp_core.config import load_config, to_dict
from tests import app_samples, tradeoff_samples
from tests.source_trees import ROOT

PAGE = str(ROOT / "pages" / "runs.py")


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Made-up records, one run with weights, a broken run and one that is not complete."""
    folder = tmp_path_factory.mktemp("store")
    tradeoff_samples.save_store(folder, tasks=["sst2"], budgets=(0.3,))
    tradeoff_samples.save_broken(folder)
    app_samples.save_run(folder, app_samples.PAIRS)
    return folder


@pytest.fixture(autouse=True)
def _environment(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This store alone, and caches of its own for every test."""
    monkeypatch.setenv("LTP_STORE", str(store_folder))
    monkeypatch.setattr(store, "_DATA_CACHE", store_folder / "none")
    st.cache_data.clear()
    yield
    st.cache_data.clear()


def page(**params: str) -> AppTest:
    """A fresh session on the page, with a link's parameters."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).switch_page(PAGE)
    for name, value in params.items():
        at.query_params[name] = value
    at.run()
    assert not at.exception, [e.value for e in at.exception]
    return at


def headings(at: AppTest) -> list[str]:
    """What the headings read, without Markdown's escapes."""
    return [heading.value.replace("\\", "") for heading in at.header]


def texts(at: AppTest) -> str:
    """Everything that the page says in words."""
    parts = [*at.markdown, *at.caption, *at.header, *at.warning, *at.info]
    return "\n".join(str(part.value) for part in parts)


def ltp(seed: int = 0) -> str:
    """Name of a made-up run."""
    return tradeoff_samples.config("ltp", 0.3, seed=seed).name


# --- the listing ----------------------------------------------------------------------------------


def test_every_complete_run_has_its_provenance() -> None:
    """Figures and facts are those of the manifest, newest first."""
    listing = data.current()
    frame = data.runs_frame(listing.runs).set_index("run")
    row = frame.loc[ltp()]
    manifest = store.read_manifest(store.find_run(ltp()))
    validation = manifest.summary["validation"]
    assert validation["metrics"]["accuracy"] == row["metric"]
    assert validation["relative_flops"]["executed"] == row["relative_flops_executed"]
    assert ("778441a", False, "CPU", 20000) == tuple(
        row[["commit", "dirty", "device", "training_rows"]]
    )
    assert sum(file.bytes for file in manifest.files) == row["bytes"]
    assert not row["weights"]
    assert frame.loc[app_samples.PAIRS, "weights"]
    dates = frame["created_at"].tolist()
    assert dates == sorted(dates, reverse=True)


def test_what_cannot_be_used_has_a_reason(store_folder: Path) -> None:
    """Broken, not complete, being trained: neither is in the table, each says why."""
    with store.lock_run(store.run_folder(store_folder, "rte-ltp-00000000ff")):
        listing = data.current()
        reasons = {entry.name: data.reason(entry) for entry in listing.unusable}
    assert "It is being trained now." == reasons.pop("rte-ltp-00000000ff")
    [(name, reason)] = reasons.items()
    assert f"The file history.parquet of {name} is missing." == reason
    assert "rte-ltp-00000000ff" == listing.unusable[0].name
    assert not {entry.name for entry in listing.runs} & {name, "rte-ltp-00000000ff"}


def test_a_strange_manifest_is_listed_with_gaps(tmp_path: Path) -> None:
    """Summary, data and hardware may hold anything; the table still opens."""
    home = tradeoff_samples.save_run(
        tmp_path, tradeoff_samples.config("ltp", 0.5), right=0.8, flops=0.5
    )
    raw = json.loads((home / "manifest.json").read_text())
    raw |= {"summary": {"validation": []}, "dataset": {"train": 3}, "git": {}, "hardware": {}}
    (home / "manifest.json").write_text(json.dumps(raw))
    frame = data.runs_frame(store.list_runs([tmp_path]))
    assert frame["metric"].isna().all()
    assert ["unknown"] == frame["device"].tolist()


def test_settings_train_the_run_again(tmp_path: Path) -> None:
    """The TOML names the same run."""
    manifest = store.read_manifest(store.find_run(ltp()))
    path = tmp_path / "again.toml"
    path.write_text(str(data.training_file(manifest)))
    assert ltp() == load_config(str(path)).name


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"config": {"evaluation": {"checkpoint": "mine", "split": "test"}}},
            "records of an evaluation of mine on sst2/test (`evaluate --records`); nothing was trained",
        ),
        (
            {"dataset": {"calibration": {"source": "own.csv", "rows": 50}}, "parent": "p"},
            "chosen on 50 texts of own.csv for p (`calibrate`); nothing was trained",
        ),
        ({"config": {"no_such_setting": 1}}, "written by another version"),
    ],
)
def test_other_runs_do_not_promise_a_training(
    changes: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluation, a calibration on own texts, settings that are not known: what made them is said."""
    made = tradeoff_samples.config("ltp", 0.5)
    changes = changes | {"config": to_dict(made) | changes.get("config", {})}
    home = tradeoff_samples.save_run(tmp_path, made, right=0.8, flops=0.5, **changes)
    manifest = store.read_manifest(home)
    assert data.training_file(manifest) is None
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    said = texts(page(run=made.name)).replace("\\", "")
    assert sentence in said
    assert "train the run again" not in said
    is_trained = "no_such_setting" in changes["config"]
    assert is_trained == (", trained" in said)


def test_a_choice_after_training_is_not_called_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its weights are the parent's, and its time is that of the choice."""
    made = tradeoff_samples.config("lat", 0.5)
    config = to_dict(made) | {"select": {"target_relative_flops": 0.5}}
    changes = {"config": config, "parent": "sst2-lat-0123456789", "duration_s": 12.0}
    tradeoff_samples.save_run(tmp_path, made, right=0.8, flops=0.5, **changes)
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    said = texts(page(run=made.name)).replace("\\", "")
    assert "seed 0, chosen for the weights of sst2-lat-0123456789 in 12 s on CPU" in said
    assert "trained on" not in said


def test_other_seeds_are_found_though_defaults_were_added_since(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One was written before a setting existed; what was evaluated elsewhere is no seed of anything."""
    first, second = (tradeoff_samples.config("lat", 0.5, seed=seed) for seed in range(2))
    older = {key: value for key, value in to_dict(second).items() if key != "select"}
    older["data"] = {k: v for k, v in older["data"].items() if k != "max_train_length"}
    assert older != to_dict(second)
    tradeoff_samples.save_run(tmp_path, first, right=0.8, flops=0.5)
    tradeoff_samples.save_run(tmp_path, second, right=0.8, flops=0.5, config=older)
    evaluated = tradeoff_samples.config("lat", 0.5, seed=2)
    config = to_dict(evaluated) | {"evaluation": {"checkpoint": first.name, "split": "test"}}
    tradeoff_samples.save_run(tmp_path, evaluated, right=0.8, flops=0.5, config=config)
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    assert [(1, second.name)] == data.siblings(first.name)
    assert [] == data.siblings(evaluated.name)


# --- the chart ------------------------------------------------------------------------------------


def test_the_history_counts_on_from_stage_to_stage() -> None:
    """The second stage begins where the first one ended."""
    frame = tradeoff_samples.history(tradeoff_samples.config("ltp", 0.3))
    steps = charts.with_total_step(frame)
    assert steps["total_step"].is_monotonic_increasing
    assert 191 == steps.loc[steps["stage"] == "hard", "total_step"].min()


def test_only_what_was_measured_can_be_chosen() -> None:
    """Columns without a figure are no choice; layers are in order."""
    frame = tradeoff_samples.history(tradeoff_samples.config("ltp", 0.3))
    assert ["Loss", "FLOPs", "Thresholds", "Learning rate", "Temperature"] == (
        charts.known_quantities(frame)
    )
    assert ["loss", "task_loss"] == charts.columns_of(frame, "Loss")
    many = pd.DataFrame({f"threshold_{i}": [1.0] for i in (10, 2, 1)})
    ordered = ["threshold_1", "threshold_2", "threshold_10"]
    assert ordered == charts.columns_of(many, "Thresholds")
    assert ["Loss"] == charts.known_quantities(frame[["stage", "step", "loss"]])


@pytest.mark.parametrize("quantity", charts.QUANTITIES)
def test_every_quantity_can_be_drawn(quantity: str) -> None:
    """As a picture, with the stages named."""
    frame = tradeoff_samples.history(tradeoff_samples.config("ltp", 0.3))
    chart = charts.history_chart(frame, quantity)
    svg = image(chart, "svg").decode()
    assert ">soft<" in svg
    assert ">hard<" in svg
    assert "NaN" not in svg
    assert image(chart, "png").startswith(b"\x89PNG")
    on_screen = charts.zoomable(chart, quantity)
    assert chart.frame["series"].dropna().unique().tolist() == [
        line.name for line in on_screen.data
    ]
    assert ["soft", "hard"] == [mark.text for mark in on_screen.layout.annotations]


# --- the page -------------------------------------------------------------------------------------


def test_the_page_lists_runs_and_reasons() -> None:
    """The table, the count, and both folders that cannot be used."""
    at = page()
    table = at.dataframe[0].value
    assert label_of(ltp()) in table["run"].tolist()
    assert {"LTP", "SpAtten"} <= {label.partition(" · ")[0] for label in table["run"]}
    assert "2 folders not in the table" in texts(at)
    assert "is missing" in texts(at)
    assert not at.get("plotly_chart")


def test_a_link_opens_a_run() -> None:
    """Results, history, settings, provenance, siblings, and the command to copy."""
    at = page(run=ltp())
    assert label_of(ltp()) in headings(at)
    assert any(caption.value.replace("\\", "").startswith(ltp()) for caption in at.caption)
    assert 1 == len(at.get("plotly_chart"))
    assert "Stored without its weights" in texts(at)
    labels = [link.proto.label for link in at.get("page_link")]
    assert {"Seed 1", "Seed 2"} <= set(labels)
    assert any(label.startswith("Dense counterpart") for label in labels)
    assert "Open in Explore" not in labels
    assert any('name = "ltp"' in code.value for code in at.code)


def test_an_opened_run_is_marked_and_in_sight() -> None:
    """It is the first line of the table, and selected there; others follow, the newest first."""
    at = page(run=ltp(seed=2))
    table = at.dataframe[0]
    assert label_of(ltp(seed=2)) == table.value["run"].iloc[0]
    assert [0] == json.loads(table.proto.selection_default)["selection"]["rows"]


def test_two_runs_stand_side_by_side() -> None:
    """Results and what sets them apart, a column a run, and one chart with both curves."""
    names = [ltp(seed=0), tradeoff_samples.config("spatten", 0.3).name]
    at = page(run=",".join([*names, "no-such-run"]))
    frame = next(table.value for table in at.dataframe if "fact" in table.value)
    assert {"fact", *map(label_of, names)} == set(frame.columns)
    lines = set(frame["fact"])
    assert {"validation: accuracy", "FLOPs, paper", "took", "method.name"} <= lines
    assert "task" not in lines, "what is the same does not set them apart"
    assert 1 == len(at.get("plotly_chart"))
    assert "There is no run" in texts(at).replace("\\", "")


def test_a_setting_that_is_newer_than_a_run_does_not_set_it_apart() -> None:
    """What an older manifest lacks has its default."""
    (entry, *_) = data.current().runs
    assert entry.manifest is not None
    config = {**entry.manifest.config, "data": dict(entry.manifest.config["data"])}
    del config["data"]["stride"]
    older = dataclasses.replace(entry.manifest, name="sst2-ltp-older00000", config=config)
    pair = [entry, dataclasses.replace(entry, name=older.name, manifest=older)]
    assert "data.stride" not in set(compared.side_by_side(pair)["fact"])


def test_curves_of_several_runs_share_a_chart() -> None:
    """A line a run, over the steps of all its stages; a run that logged nothing of it has none."""
    whole = tradeoff_samples.history(tradeoff_samples.config("ltp", 0.3))
    histories = {"one": whole, "two": whole[whole["stage"] == "hard"].drop(columns="threshold_1")}
    frame = charts.overlay_chart(histories, "loss", 1).frame
    assert {"one": 40, "two": 20} == frame["series"].value_counts().to_dict()
    assert ["one"] == list(
        charts.overlay_chart(histories, "threshold_1", 5).frame["series"].unique()
    )
    assert image(charts.overlay_chart(histories, "loss", 5), "svg")


def test_curves_are_averaged_within_their_stage() -> None:
    """The mean of the last steps that were logged; a stage begins anew, and a gap stays one."""
    frame = pd.DataFrame(
        {
            "stage": ["soft"] * 3 + ["hard"] * 2,
            "step": [0, 10, 20, 0, 10],
            "loss": [4.0, 2.0, 0.0, 10.0, 20.0],
            "temperature": [1.0, np.nan, 3.0, np.nan, np.nan],
        }
    )
    made = charts.smoothed(frame, 2)
    assert [4.0, 3.0, 1.0, 10.0, 15.0] == made["loss"].tolist()
    assert [False, True, False, True, True] == made["temperature"].isna().tolist()
    assert frame["step"].tolist() == made["step"].tolist()
    pd.testing.assert_frame_equal(frame, charts.smoothed(frame, 1), check_dtype=False)


def test_what_a_run_was_calibrated_to_is_said() -> None:
    """Budget, what came of it, and how many answers stayed; nothing where the record is damaged."""
    found = {
        "rows": 500,
        "target_relative_flops": 0.7,
        "relative_flops": {"paper": 0.6934, "executed": 0.65},
        "agreement": 0.982,
    }
    manifest = store.read_manifest(store.find_run(ltp()))
    calibrated = dataclasses.replace(manifest, summary={"calibration": found})
    assert (
        "70.0 % of the FLOPs, reached 69.3 %, 98.2 % of the answers as without pruning, on 500 texts"
        == data.calibrated_to(calibrated)
    )
    assert "" == data.calibrated_to(manifest)
    damaged = dataclasses.replace(manifest, summary={"calibration": {"relative_flops": 3}})
    assert "" == data.calibrated_to(damaged)


def test_a_run_with_weights_opens_in_explore() -> None:
    """And can be evaluated by a command that is there to copy."""
    at = page(run=app_samples.PAIRS)
    labels = {link.proto.label: link.proto for link in at.get("page_link")}
    assert app_samples.PAIRS in labels["Open in Explore"].query_string
    assert any(f"ltp_core evaluate {app_samples.PAIRS}" in code.value for code in at.code)
    assert "The history of this training was not kept." in texts(at)


def test_a_chosen_run_goes_into_the_link() -> None:
    """So that the address can be shared."""
    at = page()
    at.session_state["runs.chosen"] = [ltp(seed=1)]
    at.run()
    assert ltp(seed=1) in at.query_params["run"]
    assert label_of(ltp(seed=1)) in headings(at)


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"runs.method": "LAT"}, {"LAT"}),
        ({"runs.weights": "true"}, {"LTP"}),
        ({"runs.name": "SPATTEN"}, {"SpAtten"}),
        ({"runs.task": "mrpc"}, {"LTP"}),
        ({"runs.name": "no such name"}, set()),
    ],
)
def test_filters_come_from_a_link(params: dict[str, str], expected: set[str]) -> None:
    """Task, method, part of the name, weights."""
    labels = page(**params).dataframe[0].value["run"]
    assert expected == {label.partition(" · ")[0] for label in labels}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("sst2-ltp-zzz", "There is no run"),
        ("<script>alert(1)</script>", "There is no run"),
        ("rte-ltp-00000000ff", "is not complete"),
    ],
)
def test_a_wrong_name_is_a_sentence(name: str, message: str) -> None:
    """An unknown run, markup, and a folder that cannot be used."""
    at = page(run=name)
    assert message.replace(" ", "") in at.warning[0].value.replace("\\", "").replace(" ", "")


def test_an_empty_store_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sentence and a command; folders that cannot be used are listed all the same."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    at = page()
    assert ["No run"] == [info.proto.title for info in at.info]
    store.write_json(store.run_folder(tmp_path, "sst2-ltp-0000000000") / "config.json", {})
    st.cache_data.clear()
    assert "1 folder not in the table" in texts(page())


def documents(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON has them."""
    return list(json.loads(frame.to_json(orient="records")))


def test_the_table_can_be_written_as_json() -> None:
    """Every cell has a plain value."""
    [first, *_] = documents(data.runs_frame(data.current().runs))
    assert {"run", "metric", "bytes", "store"} <= set(first)
