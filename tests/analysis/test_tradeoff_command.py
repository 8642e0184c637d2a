"""`tradeoff`: the figures of the stored runs, and which point is the cheapest that is good enough."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ltp_core.analysis import tradeoff
from ltp_core.analysis.runs import points_table, runs_table
from tests import commands, tradeoff_samples


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every made-up method on one task."""
    return tradeoff_samples.save_store(
        tmp_path_factory.mktemp("store"), tasks=("sst2",), budgets=(0.3, 0.8)
    )


@pytest.fixture(autouse=True)
def _environment(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This store alone, and quick intervals."""
    monkeypatch.setattr(tradeoff, "NUM_RESAMPLES", 50)
    monkeypatch.setattr("ltp_core.store.stores", lambda: [store_folder])


def points(*argv: str) -> list[dict[str, Any]]:
    """The points of the only experiment."""
    ran = commands.run("tradeoff", *argv, "--json")
    assert ran.status == 0, ran.stderr
    (experiment,) = json.loads(ran.stdout)["experiments"]
    assert experiment["task"] == "sst2"
    found: list[dict[str, Any]] = experiment["points"]
    return found


def test_points_have_the_figures_of_the_records() -> None:
    """Every point once, with its mean, cost and the paired interval to its dense counterparts."""
    runs = runs_table()
    expected = {str(p.run): p for p in points_table(runs).itertuples()}
    found = {point["runs"][0]: point for point in points("sst2")}
    assert set(expected) == set(found)
    for name, point in expected.items():
        assert found[name]["value"] == pytest.approx(point.metric_validation)
        flops = found[name]["relative_flops"]
        assert flops["executed"] == pytest.approx(point.executed_validation)
    single: Any = next(p for p in expected.values() if len(p.runs) == 1)  # type: ignore[arg-type]
    folders = runs.set_index("run")["folder"]
    [dense] = single.counterparts
    gap = found[single.run]["differences"]["validation"]
    paired = tradeoff.paired_difference("sst2", folders[single.run], folders[dense])
    assert (gap["value"], gap["low"], gap["high"]) == pytest.approx(
        (paired.value, paired.low, paired.high)
    )


def test_the_cheapest_good_point_is_marked() -> None:
    """At most one a method; a larger allowance marks cheaper ones, and everything is allowed at 100."""
    for drop in ("0", "2", "100"):
        marked = [p for p in points("--drop", drop) if p["is_smallest_within"]]
        methods = [p["method"] for p in marked]
        assert len(methods) == len(set(methods))
        assert all(
            p["differences"]["heldout"]["value"] >= -float(drop) / 100 - 1e-9 for p in marked
        )
    cheapest = {p["method"]: p["relative_flops"]["paper"] for p in marked}
    for point in points():
        assert cheapest[point["method"]] <= point["relative_flops"]["paper"]


def test_the_table_names_every_run() -> None:
    """People see the same runs, with a star at the chosen ones."""
    ran = commands.run("tradeoff", "sst2", "--drop", "100")
    found = points("sst2")
    assert all(point["runs"][0] in ran.stdout for point in found)
    starred = [line for line in ran.stdout.splitlines() if line.startswith("*  ")]
    assert len(starred) == len({point["method"] for point in found})


def test_an_unknown_task_is_refused() -> None:
    """With the nearest known name."""
    ran = commands.run("tradeoff", "sst3")
    assert ran.status == 2
    assert "'sst2'" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_an_empty_store_says_how_to_fill_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sentence that names the command."""
    monkeypatch.setattr("ltp_core.store.stores", lambda: [tmp_path])
    ran = commands.run("tradeoff")
    assert ran.status == 2
    assert "sweep" in ran.stderr


def test_without_dense_counterparts_there_is_no_difference(
    store_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs whose counterparts are not stored, as after a single training, are still listed."""
    shutil.copytree(store_folder, tmp_path / "store")
    for name in set(runs_table()["dense"].dropna()):
        shutil.rmtree(tmp_path / "store" / "runs" / name, ignore_errors=True)
    monkeypatch.setattr("ltp_core.store.stores", lambda: [tmp_path / "store"])
    found = points("sst2")
    assert found
    assert {None} == {each for point in found for each in point["differences"].values()}
    assert 0 == commands.run("tradeoff", "sst2").status
