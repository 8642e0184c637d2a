"""Robustness from stored runs: who is compared, what the comparison says, and the command."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ltp_core import store
from ltp_core.analysis.bands import QUARTILES, band_cost
from ltp_core.analysis.example_records import ExampleRecords, read_examples
from ltp_core.analysis.robustness import compare, comparison_frame
from ltp_core.analysis.runs import matched, runs_table
from ltp_core.records import UserError
from tests import checkpoints, length_runs
from tests.commands import run as command
from tests.length_runs import DENSE, LAT, LTP, LTP_DEAR, REVIEWS, SPATTEN


@pytest.fixture
def place(records_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with QQP and reviews, as the one that the program uses."""
    shutil.copytree(records_folder, tmp_path, dirs_exist_ok=True)
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    return tmp_path


def recorded(place: Path, task: str = "qqp") -> pd.DataFrame:
    """Runs of a task in a store whose examples were kept, by name."""
    runs = runs_table(store.list_runs([place])).set_index("run", drop=False)
    return runs[runs["has_records"] & (runs["task"] == task)]


def chosen(runs: pd.DataFrame, *, without: str = "", **options: Any) -> list[str]:
    """Names of the first runs of what `matched` takes, of equal FLOPs on the shortest band."""
    first = runs.drop_duplicates("setting")
    costs = {
        run.setting: band_cost(read_examples(run.folder, "validation"))
        for run in first.itertuples()
        if run.run != without
    }
    settings = matched(runs.reset_index(drop=True), costs, **options)
    return first.set_index("setting").loc[settings, "run"].tolist()


def groups(place: Path, *names: str) -> dict[str, list[ExampleRecords]]:
    """Stored runs as what `compare` takes."""
    return {name: [length_runs.read(place, name)] for name in names}


# --- who is compared --------------------------------------------------------------------------------


def test_recorded_runs_say_what_they_are(place: Path) -> None:
    """Task, method, limit of the training rows, splits and cost."""
    runs = runs_table(store.list_runs([place])).set_index("run")
    assert {LTP, LTP_DEAR, LAT, SPATTEN, DENSE, REVIEWS} == set(runs.index[runs["has_records"]])
    about = runs.loc[LTP, ["task", "method", "max_train_length", "splits"]]
    assert ["qqp", "ltp", 24, ("validation",)] == about.tolist()
    assert 0 == runs.loc[REVIEWS, "max_train_length"]
    costs = runs["paper_validation"]
    assert 0.3 < costs[LTP] < costs[LTP_DEAR] < 1


def test_what_has_no_records_is_left_out(place: Path) -> None:
    """Runs without tables, without a summary, damaged ones."""
    checkpoints.save_run(place, checkpoints.REVIEWS)
    (store.run_folder(place, LAT) / "layers.parquet").unlink()
    (store.run_folder(place, SPATTEN) / store.MANIFEST).write_text("{")
    length_runs.save_run(place, "qqp-ltp-00000000ac", summary={"accuracy": 0.9})
    runs = runs_table(store.list_runs([place]))
    assert {LTP, LTP_DEAR, DENSE, REVIEWS} == set(runs.loc[runs["has_records"], "run"])


def test_a_summary_without_flops_is_no_error(place: Path) -> None:
    """Its cost is not known."""
    summary = {"validation": {"metrics": {"accuracy": 0.9}}}
    length_runs.save_run(place, "qqp-ltp-00000000ac", summary=summary)
    assert math.isnan(recorded(place).loc["qqp-ltp-00000000ac", "paper_validation"])


def test_seeds_have_one_setting(place: Path) -> None:
    """Runs that differ in the seed alone; another strength is another setting."""
    length_runs.save_run(place, "qqp-ltp-00000000ad", seed=2)
    length_runs.save_run(place, "qqp-ltp-00000000ac", seed=1)
    runs = recorded(place)
    own = runs[runs["setting"] == runs.loc[LTP, "setting"]]
    assert [0, 1, 2] == sorted(own["seed"])
    assert LTP_DEAR not in own.index


def test_an_older_configuration_is_the_same_setting(place: Path) -> None:
    """Settings that came later, and have their default, do not set runs apart."""
    older = {
        "task": "qqp",
        "seed": 2,
        "method": {"name": "ltp", "scale": 1.0},
        "data": {"max_length": 64, "max_train_length": 24},
    }
    length_runs.save_run(place, "qqp-ltp-00000000ad", seed=2, config=older)
    settings = recorded(place)["setting"]
    assert settings[LTP] == settings["qqp-ltp-00000000ad"]


def test_an_evaluation_learned_what_its_checkpoint_did(place: Path) -> None:
    """Defaults that its configuration lacks do not make it another set; what nobody knows does."""
    again = {
        "task": "qqp",
        "method": {"name": "ltp"},
        "data": {"max_length": 64, "max_train_length": 24},
        "evaluation": {"checkpoint": LTP},
    }
    length_runs.save_run(place, "qqp-ltp-00000000ae", parent=LTP, config=again)
    foreign = {"task": "qqp", "method": {"name": "unpruned"}, "evaluation": {"checkpoint": "mine"}}
    length_runs.save_run(place, "qqp-unpruned-00000000ae", config=foreign)
    runs = recorded(place)
    sets, is_foreign = runs["comparable"], runs["is_foreign"]
    assert sets[LTP] == sets["qqp-ltp-00000000ae"] != sets["qqp-unpruned-00000000ae"]
    assert ["qqp-unpruned-00000000ae"] == runs.index[is_foreign].tolist()


def test_matched_points_need_about_equal_flops(place: Path) -> None:
    """One of each method; of the two of LTP the one nearer to LAT's cost; the dense counterpart."""
    found = chosen(recorded(place))
    assert sorted([LTP, LAT, SPATTEN, DENSE]) == sorted(found)
    assert DENSE == found[-1]
    assert LTP_DEAR in chosen(recorded(place), target=0.95)
    assert LAT not in chosen(recorded(place), without=LAT)


def test_matched_points_learned_from_the_same_rows(place: Path) -> None:
    """A method that only learned from other rows is left out, whatever it costs."""
    only = "qqp-manual-00000000ab"
    config = {
        "task": "qqp",
        "method": {"name": "manual"},
        "data": {"train_rows": 5, "max_train_length": 24},
    }
    length_runs.save_run(place, only, config=config)
    runs = recorded(place)
    assert only in runs.index
    assert sorted([LTP, LAT, SPATTEN, DENSE]) == sorted(chosen(runs))
    assert [only] == chosen(runs.loc[[only]])


def test_half_trained_and_repeated_runs_are_not_chosen(place: Path) -> None:
    """What another run of the method starts from, and later evaluations, can be chosen by hand only."""
    length_runs.save_run(place, "qqp-lat-00000000ab", parent=LAT, scale=1.1)
    again = {"task": "qqp", "method": {"name": "ltp"}, "evaluation": {"checkpoint": LTP}}
    length_runs.save_run(place, "qqp-ltp-00000000ae", parent=LTP, config=again)
    runs = recorded(place)
    found = chosen(runs)
    assert "qqp-lat-00000000ab" in found
    assert LAT not in found
    assert "qqp-ltp-00000000ae" not in found
    assert "qqp-ltp-00000000ae" in runs.index


# --- the comparison ---------------------------------------------------------------------------------


def test_a_comparison_has_every_point_in_every_band(place: Path) -> None:
    """The made-up LAT saves most and errs most on long inputs."""
    found = compare(groups(place, LTP, LAT, DENSE), QUARTILES)
    assert 4 == len(found.bands)
    assert 120 == sum(found.counts) == sum(cell.count for cell in found.cells[LTP])
    assert "accuracy" == found.metric_name
    lat, dense = found.cells[LAT], found.cells[DENSE]
    flops = [cell.relative_flops["paper"].value for cell in lat]
    assert flops == sorted(flops, reverse=True)
    assert all(cell.relative_flops["paper"].value == 1.0 for cell in dense)
    gaps = found.difference(LTP, LAT)
    assert gaps[-1]
    assert gaps[-1].value > 0.2
    assert [cell.metric_sd for cell in lat] == [None] * 4


def test_seeds_are_averaged(place: Path) -> None:
    """Value and bounds are means, the spread is theirs, and pairs go by seed."""
    second = length_runs.save_run(place, "qqp-ltp-00000000ac", seed=1)
    both = {LTP: [length_runs.read(place, LTP), read_examples(second, "validation")]}
    found = compare(both | groups(place, LAT))
    single = compare({"a": both[LTP][:1], "b": both[LTP][1:]})
    for cell, a, b in zip(found.cells[LTP], single.cells["a"], single.cells["b"], strict=True):
        assert cell.metric
        assert a.metric
        assert b.metric
        assert pytest.approx((a.metric.value + b.metric.value) / 2) == cell.metric.value
        assert pytest.approx((a.metric.low + b.metric.low) / 2) == cell.metric.low
        assert (a.metric.value, b.metric.value) == cell.by_seed
        assert pytest.approx(np.std(cell.by_seed, ddof=1)) == cell.metric_sd
    one, alone = found.difference(LTP, LAT), compare(groups(place, LTP, LAT)).difference(LTP, LAT)
    assert one == alone, "LAT has one seed, so one pair counts"


def test_bands_are_those_of_the_run_that_read_most() -> None:
    """Where one run cut its inputs, its examples are in the bands of their whole length."""
    length = np.array([10, 20, 30, 40, 50, 60, 70, 80])
    whole = length_runs.records(length, np.repeat(length[:, None], 2, axis=1))
    cut = np.minimum(length, 32)
    short = length_runs.records(cut, np.repeat(cut[:, None], 2, axis=1), name="short")
    found = compare({"whole": [whole], "short": [short]})
    assert [4, 2, 2] == found.counts
    assert [4, 2, 2] == [cell.count for cell in found.cells["short"]]
    assert [8, 0, 0] == [cell.count for cell in compare({"short": [short]}).cells["short"]]


def test_bands_can_end_at_lengths_in_tokens(place: Path) -> None:
    """Each example is in one band; edges that do not ascend are refused."""
    found = compare(groups(place, LTP), edges=(16, 30))
    lengths = length_runs.read(place).length
    by_hand = [
        (lengths <= 16).sum(),
        ((lengths > 16) & (lengths <= 30)).sum(),
        (lengths > 30).sum(),
    ]
    assert by_hand == found.counts
    assert ["~16", "16~30", "30~"] == [band.name for band in found.bands]
    for wrong in ((30, 16), (0, 5), (7, 7)):
        with pytest.raises(ValueError, match="ascend"):
            compare(groups(place, LTP), edges=wrong)


def test_what_cannot_be_compared_is_refused(place: Path) -> None:
    """Nothing, two tasks; other data is refused where the difference is asked for."""
    with pytest.raises(UserError, match="at least one run"):
        compare({})
    with pytest.raises(UserError, match="one task"):
        compare(groups(place, LTP, REVIEWS))
    both = groups(place, LTP, LAT)
    other = [
        length_runs.records(r.length, r.ffn_length, task="qqp", row=r.row, label=1 - r.label)
        for r in both[LAT]
    ]
    with pytest.raises(ValueError, match="different data"):
        compare({LTP: both[LTP], LAT: other}).difference(LTP, LAT)


def test_the_frame_has_one_row_a_point_and_band(place: Path) -> None:
    """With every figure that is drawn, as fractions."""
    found = compare(groups(place, LTP, LAT))
    frame = comparison_frame(found)
    assert 6 == len(frame)
    assert 240 == frame["examples"].sum()
    row = frame[(frame["run"] == LAT) & (frame["band"] == "Q3~")].iloc[0]
    cell = found.cells[LAT][2]
    assert cell.metric
    assert (cell.metric.value, cell.relative_flops["paper"].low) == (
        row["value"],
        row["relative_flops_paper_low"],
    )
    assert math.isnan(row["up_to"])
    json.loads(frame.to_json(orient="records"))


# --- the command ------------------------------------------------------------------------------------


def document(*argv: str) -> Any:
    """The JSON document of `robustness`."""
    ran = command("robustness", *argv, "--json")
    assert 0 == ran.status, ran.stderr
    return json.loads(ran.stdout)


def test_the_command_chooses_and_compares(place: Path) -> None:
    """As `matched` and `compare` do."""
    found = document("qqp")
    assert ["~Q2", "Q2~Q3", "Q3~"] == [row["band"] for row in found["bands"]][:3]
    assert {LTP, LAT, SPATTEN, DENSE} == {row["run"] for row in found["bands"]}
    assert 3 == len(found["differences"])
    assert "accuracy" == found["metric"]
    assert all(
        gap["by_band"][0]["low"] <= gap["by_band"][0]["value"] for gap in found["differences"]
    )
    assert found["bands"][2]["up_to"] is None


def test_runs_quantiles_and_target_can_be_given(place: Path) -> None:
    """Named runs in their order, other bands, another budget."""
    found = document("qqp", "--runs", f"{LTP_DEAR}, {LAT}", "--quantiles", "0.9")
    assert [LTP_DEAR, LAT] == list(dict.fromkeys(row["run"] for row in found["bands"]))
    assert ["~P90", "P90~"] == [row["band"] for row in found["bands"]][:2]
    assert LTP_DEAR in {row["run"] for row in document("qqp", "--target", "0.95")["bands"]}
    card = command("robustness", "qqp")
    assert 0 == card.status
    assert "ltp − lat" in card.stdout or "lat − " in card.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["mnli"], "No run holds records of mnli/validation"),
        (["qqp", "--split", "test"], "No run holds records of qqp/test"),
        (["qqp", "--runs", "qqp-ltp-00000000zz"], "did you mean 'qqp-ltp-00000000a"),
        (["qqp", "--max-train-length", "7"], "No run of qqp was trained on at most 7 tokens"),
        (["qqp", "--quantiles", "0.9,0.1"], "no ascending numbers"),
        (["qqp", "--quantiles", "0,1"], "no ascending numbers"),
        (["qqp", "--quantiles", "half"], "no number from 0 on"),
    ],
)
def test_bad_requests_are_sentences(place: Path, arguments: list[str], words: str) -> None:
    """Exit status 2, and what to do."""
    ran = command("robustness", *arguments)
    assert 2 == ran.status
    assert words in ran.stderr


def test_a_damaged_run_is_left_out_unless_it_was_asked_for(place: Path) -> None:
    """The sentence names it."""
    folder = store.run_folder(place, LAT)
    layers = store.read_table(folder, "layers")
    store.write_table(folder, "layers", layers.iloc[:-1])
    store.finish_run(folder, store.read_manifest(folder))
    ran = command("robustness", "qqp", "--json")
    assert 0 == ran.status
    assert LAT not in {row["run"] for row in json.loads(ran.stdout)["bands"]}
    assert f"Left out: layers.parquet of the run {LAT}" in ran.stderr
    asked = command("robustness", "qqp", "--runs", f"{LTP},{LAT}")
    assert 2 == asked.status
    assert LAT in asked.stderr


# --- records of one's own checkpoint ----------------------------------------------------------------


@pytest.fixture
def reviews(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store with a tiny checkpoint for reviews."""
    checkpoints.save_run(tmp_path, checkpoints.REVIEWS)
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    yield tmp_path
    shutil.rmtree(tmp_path)


def test_an_evaluation_can_be_kept(reviews: Path) -> None:
    """It becomes a run with records and token kinds, and can be compared like any other."""
    ran = command("evaluate", checkpoints.REVIEWS, "--limit", "40", "--records", "--json")
    assert 0 == ran.status, ran.stderr
    found = json.loads(ran.stdout)
    folder = store.run_folder(reviews, found["records"])
    manifest = store.read_manifest(folder)
    assert checkpoints.REVIEWS == manifest.parent
    assert "rotten_tomatoes" == manifest.task == manifest.config["task"]
    assert 40 == manifest.config["evaluation"]["limit"]
    assert found["metrics"] == manifest.summary["validation"]["metrics"]
    records = read_examples(folder, "validation")
    assert 40 == len(records)
    assert records.flops("paper") is not None
    kinds = store.read_table(folder, "token_kinds")
    by_kind = kinds[kinds["grouping"] == "kind"].groupby("layer")["retained"].sum()
    assert records.ffn_length.sum(axis=0).tolist() == by_kind.tolist()
    assert {"config.json", "examples.parquet", "layers.parquet", "token_kinds.parquet"} == {
        entry.name for entry in manifest.files
    }
    assert recorded(reviews, "rotten_tomatoes").loc[folder.name, "is_evaluation"]


def test_keeping_an_evaluation_twice_changes_nothing(reviews: Path) -> None:
    """Same weights, method and rows: the same run, written once; other rows: another."""
    arguments = ("evaluate", checkpoints.REVIEWS, "--records", "--json", "--limit")
    name = json.loads(command(*arguments, "20").stdout)["records"]
    path = store.run_folder(reviews, name) / store.MANIFEST
    before = path.read_bytes()
    assert name == json.loads(command(*arguments, "20").stdout)["records"]
    assert before == path.read_bytes()
    assert name != json.loads(command(*arguments, "21").stdout)["records"]


def test_a_foreign_model_can_be_kept(
    reviews: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Without a run of its own; its path on this machine is not stored."""
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "mine"
    shutil.copytree(store.run_folder(reviews, checkpoints.REVIEWS) / "model", elsewhere)
    ran = command(
        "evaluate",
        str(elsewhere),
        "--task",
        "rotten_tomatoes",
        "--limit",
        "15",
        "--records",
        "--json",
    )
    assert 0 == ran.status, ran.stderr
    folder = store.run_folder(reviews, json.loads(ran.stdout)["records"])
    manifest = store.read_manifest(folder)
    assert (None, "mine", "unpruned") == (manifest.parent, manifest.base["name"], manifest.method)
    assert str(elsewhere.parent) not in (folder / store.MANIFEST).read_text()


# --- what is chosen after training on short rows ----------------------------------------------------


def test_a_choice_after_training_sees_short_rows_only(tmp_path: Path) -> None:
    """Like the training itself: otherwise LAT's search would know the long inputs."""
    from ltp_core.config import DataConfig, MethodSettings, SelectConfig, TrainConfig
    from ltp_core.training import select
    from tests.tasks.test_token_kinds import model_for
    from tests.trainings import save_data

    save_data(tmp_path, "sst2", train=300)
    model = model_for("sst2")

    def lengths(longest: int | None, rows: int = 500) -> list[int]:
        config = TrainConfig(
            task="sst2",
            method=MethodSettings(name="calibrated"),
            data=DataConfig(max_train_length=longest),
            select=SelectConfig(rows=rows),
        )
        rows_seen = select.heldout_rows(config, model, tmp_path)
        return [len(model.tokenizer.encode(*text)) for text in rows_seen.texts]

    every = lengths(None)
    assert max(every) > 9
    assert sorted(n for n in every if n <= 9) == sorted(lengths(9))
    assert 3 == len(lengths(9, rows=3))
