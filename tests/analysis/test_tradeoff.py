"""Accuracy against FLOPs: groups of seeds, what beats what, and what is chosen on which rows."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core import store
from ltp_core.analysis import tradeoff
from ltp_core.analysis.runs import (
    beaten,
    dense_table,
    number,
    points_table,
    runs_table,
    smallest_within,
)
from ltp_core.config import MethodSettings, SelectConfig, dense_config
from ltp_core.metrics import paired_interval
from ltp_core.records import UserError
from ltp_core.store import RunEntry
from ltp_core.tasks.catalogue import find_task
from tests import runs, tradeoff_samples
from tests.source_trees import ROOT

Figures = tuple[float, float]
"""Relative FLOPs and metric."""


def table(drawn: Sequence[Figures], *, dense: float = 0.9, method: str = "ltp") -> pd.DataFrame:
    """Points whose held-out figures are these; validation says the opposite."""
    return pd.DataFrame(
        [
            {
                "comparable": "a",
                "method": method,
                "paper_heldout": flops,
                "metric_heldout": metric,
                "difference_heldout": metric - dense,
                "paper_validation": 1 - flops,
                "difference_validation": dense - metric,
            }
            for flops, metric in drawn
        ]
    )


# --- from the store -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of made-up records."""
    folder = tradeoff_samples.save_store(tmp_path_factory.mktemp("store"), budgets=(0.3, 0.45))
    tradeoff_samples.save_broken(folder)
    return folder


def runs_of(folder: Path) -> pd.DataFrame:
    """The runs of one store, by name."""
    return runs_table(store.list_runs([folder])).set_index("run", drop=False)


def points_of(folder: Path) -> pd.DataFrame:
    """Operating points of one store."""
    return points_table(runs_of(folder).reset_index(drop=True))


def test_seeds_of_one_configuration_are_one_point(samples: Path) -> None:
    """Mean and standard deviation over seeds; other budgets, methods and tasks stay apart."""
    found, every = points_of(samples), runs_of(samples)
    assert 2 * 2 * len(tradeoff_samples.QUALITY) == len(found)
    ours = found[(found["task"] == "sst2") & (found["method"] == "ltp")]
    assert [(0, 1, 2)] * 2 == ours["seeds"].tolist()
    first = ours.iloc[0]
    values = every.loc[list(first["runs"]), "metric_validation"].tolist()
    assert first["metric_validation"] == pytest.approx(statistics.mean(values))
    assert first["metric_validation_sd"] == pytest.approx(statistics.stdev(values))
    assert found.loc[found["method"] == "lat", "metric_validation_sd"].isna().all()


def test_each_seed_is_compared_with_its_own_dense_counterpart(samples: Path) -> None:
    """The difference is the mean of differences; the counterpart has the same recipe and seed."""
    found, every = points_of(samples), runs_of(samples)
    point = found[(found["task"] == "sst2") & (found["method"] == "ltp")].iloc[0]
    ours, theirs = every.loc[list(point["runs"])], every.loc[list(point["counterparts"])]
    assert [dense_config(config) for config in ours["config"]] == theirs["config"].tolist()
    assert {point["recipe"]} == set(theirs["recipe"])
    gaps = ours["metric_validation"].to_numpy() - theirs["metric_validation"].to_numpy()
    assert point["difference_validation"] == pytest.approx(gaps.mean())


def test_a_point_converged_if_all_its_seeds_did(tmp_path: Path) -> None:
    """A record that says nothing of it did; one seed that came to all or nothing spoils the point."""
    for seed in (0, 1):
        config = tradeoff_samples.config("ltp", 0.5, seed=seed)
        tradeoff_samples.save_run(tmp_path, config, right=0.8, flops=0.5)
    assert points_of(tmp_path)["converged"].tolist() == [True]
    entries = store.list_runs([tmp_path])
    assert entries[0].manifest is not None
    entries[0].manifest.summary["validation"]["converged"] = False
    runs = runs_table(entries)
    assert runs["converged"].tolist() == [False, True]
    assert points_table(runs)["converged"].tolist() == [False]


def test_dense_counterparts_and_parents_are_no_points(samples: Path) -> None:
    """Only what prunes is a point."""
    assert "unpruned" not in set(points_of(samples)["method"])


def test_the_first_half_of_a_run_is_no_point(tmp_path: Path) -> None:
    """A run that a choice after training starts from shows up as that choice alone."""
    trained = tradeoff_samples.config("lat", 0.5)
    half = tradeoff_samples.save_run(tmp_path, trained, right=0.8, flops=1.0)
    assert 1 == len(points_of(tmp_path))
    chosen = tradeoff_samples.config("lat", 0.4)
    tradeoff_samples.save_run(tmp_path, chosen, right=0.8, flops=0.4, parent=half.name)
    assert [chosen.name] == points_of(tmp_path)["run"].tolist()


def test_a_run_for_any_budget_is_a_point_beside_its_choices(tmp_path: Path) -> None:
    """It prunes itself; a run that is trained on is none, whatever it prunes."""
    trained = tradeoff_samples.save_run(
        tmp_path, tradeoff_samples.config("ltp", 0.2), right=0.7, flops=0.2
    )
    other = tradeoff_samples.config("ltp", 0.5)
    chosen = replace(other, select=SelectConfig(target_relative_flops=0.5))
    tradeoff_samples.save_run(tmp_path, chosen, right=0.8, flops=0.5, parent=trained.name)
    assert {trained.name, chosen.name} == set(points_of(tmp_path)["run"])
    tradeoff_samples.save_run(tmp_path, other, right=0.8, flops=0.5, parent=trained.name)
    assert {chosen.name, other.name} == set(points_of(tmp_path)["run"])


def test_int8_is_an_experiment_of_its_own(tmp_path: Path) -> None:
    """Measured against the floating-point model, by bit operations that its records name."""
    floating = tradeoff_samples.config("ltp", 0.4)
    assert floating.hard is not None
    in_int8 = replace(floating, hard=replace(floating.hard, int8=True))
    unpruned = replace(in_int8, method=MethodSettings(), soft=None)
    dense = dense_config(unpruned)
    assert dense is not None
    tradeoff_samples.save_run(tmp_path, floating, right=0.9, flops=0.4)
    tradeoff_samples.save_run(tmp_path, dense, right=0.9, flops=1.0)
    for made, flops, bops in ((in_int8, 0.4, 0.11), (unpruned, 1.0, 0.26)):
        folder = tradeoff_samples.save_run(tmp_path, made, right=0.88, flops=flops)
        manifest = store.read_manifest(folder)
        summary = {
            split: result | {"relative_bops": bops} for split, result in manifest.summary.items()
        }
        store.finish_run(folder, replace(manifest, summary=summary))
    points = points_table(runs_table(store.list_runs([tmp_path]))).set_index("run")
    assert {floating.name, in_int8.name, unpruned.name} == set(points.index)
    assert points.loc[in_int8.name, "comparable"] == points.loc[unpruned.name, "comparable"]
    assert points.loc[floating.name, "comparable"] != points.loc[in_int8.name, "comparable"]
    costs = points.loc[[floating.name, in_int8.name, unpruned.name], "bops_validation"]
    assert [0.4, 0.11, 0.26] == costs.tolist()
    assert points.loc[unpruned.name, "difference_validation"] < 0


def test_comparable_runs_differ_in_neither_data_nor_base(tmp_path: Path) -> None:
    """Other training rows are another set; other seeds, methods and budgets are not."""
    for method, budget, seed, rows in (
        ("ltp", 0.3, 0, 100),
        ("ltp", 0.5, 1, 100),
        ("lat", 0.5, 0, 100),
        ("ltp", 0.3, 0, None),
    ):
        made = tradeoff_samples.config(method, budget, seed=seed, train_rows=rows)
        tradeoff_samples.save_run(tmp_path, made, right=0.8, flops=budget)
    found = points_of(tmp_path)
    assert [1, 3] == sorted(found.groupby("comparable").size())
    known = set(zip(found["training_rows"], found["takes_all"], strict=True))
    assert {(100, False), (65349, True)} == known


@pytest.mark.parametrize(
    "broken",
    [
        {"summary": {}},
        {"summary": {"validation": {"metrics": {}, "relative_flops": {}, "rows": 1}}},
        {"summary": {"validation": {"metrics": {"accuracy": 0.5}, "rows": 1}}},
        {"summary": {"validation": {"metrics": [1], "relative_flops": 3, "rows": "x"}}},
        {"summary": {"validation": {"metrics": {"accuracy": 10**400}, "relative_flops": {}}}},
        {"summary": {"validation": {"metrics": {"accuracy": "high"}, "relative_flops": {}}}},
        {"summary": {"validation": None}},
        {"config": {"task": "sst2", "unheard": 1}},
        {"config": {"data": 3}},
    ],
)
def test_records_that_say_too_little_are_left_out(tmp_path: Path, broken: dict[str, Any]) -> None:
    """A strange manifest costs its own point, not the page."""
    home = tradeoff_samples.save_run(
        tmp_path, tradeoff_samples.config("ltp", 0.3), right=1, flops=1
    )
    assert 1 == len(points_of(tmp_path))
    raw = json.loads((home / "manifest.json").read_text())
    (home / "manifest.json").write_text(json.dumps(raw | broken))
    assert points_of(tmp_path).empty


def test_runs_with_a_problem_are_left_out() -> None:
    """What does not validate is no evidence; an empty table has its columns all the same."""
    entry = RunEntry(name="a", folder=Path("a"), manifest=runs.manifest(), problem="It is broken.")
    assert runs_table([entry]).empty
    assert points_table(runs_table([])).empty


# --- what beats what ------------------------------------------------------------------------------

figures = st.tuples(
    st.floats(0.05, 1.0, allow_nan=False).map(lambda x: round(x, 2)),
    st.floats(0.5, 1.0, allow_nan=False).map(lambda x: round(x, 2)),
)


@given(st.lists(figures, min_size=1, max_size=12))
def test_what_is_left_is_the_pareto_front(drawn: list[Figures]) -> None:
    """Held-out rows decide: nothing left is beaten, everything else is beaten by something left."""
    is_beaten = beaten(table(drawn))
    left = [f for f, away in zip(drawn, is_beaten, strict=True) if not away]

    def beats(a: Figures, b: Figures) -> bool:
        return a != b and a[0] <= b[0] and a[1] >= b[1]

    assert not any(beats(a, b) for a in left for b in left)
    for own, away in zip(drawn, is_beaten, strict=True):
        assert away == any(beats(a, own) for a in left)


def test_methods_do_not_beat_each_other() -> None:
    """Grey means that the same method does better elsewhere."""
    both = pd.concat([table([(0.3, 0.9)]), table([(0.5, 0.8)], method="lat")], ignore_index=True)
    assert not beaten(both).any()
    assert [False, True] == beaten(table([(0.3, 0.9), (0.5, 0.8)])).tolist()


# --- smallest FLOPs within one point --------------------------------------------------------------


def test_the_choice_is_made_on_held_out_rows() -> None:
    """A point that is fine on validation alone is not chosen, but in hindsight it is."""
    assert [False, True, False] == smallest_within(
        table([(0.2, 0.85), (0.5, 0.895), (0.7, 0.95)])
    ).tolist()
    found = table([(0.2, 0.85), (0.1, 0.895)])
    assert [True, False] == smallest_within(found, split="validation").tolist()


def test_exactly_one_point_is_allowed() -> None:
    """0.9 - 0.89 is a little more than 0.01 in floating point."""
    assert 0.9 - 0.01 != 0.89 or 0.89 - 0.9 < -0.01
    assert smallest_within(table([(0.3, 0.89)])).all()
    assert not smallest_within(table([(0.3, 0.889)])).any()


def test_without_a_dense_counterpart_nothing_is_claimed() -> None:
    """A point without one is never within a point of it."""
    assert not smallest_within(table([(0.3, 0.99)], dense=float("nan"))).any()


@given(st.lists(figures, min_size=1, max_size=10))
def test_the_choice_is_the_cheapest_good_one(drawn: list[Figures]) -> None:
    """As found by looking at all of them."""
    good = [f for f, m in drawn if m >= 0.9 - 0.01 - 1e-9]
    chosen = [f for (f, _), best in zip(drawn, smallest_within(table(drawn)), strict=True) if best]
    assert chosen == ([min(good)] if good else [])


def test_dense_counterparts_are_one_a_recipe(samples: Path) -> None:
    """Seeds of one configuration are a mean with spread."""
    found, every = points_of(samples), runs_of(samples)
    sst2 = found[found["task"] == "sst2"]
    table_of_dense = dense_table(every, sst2)
    assert sst2["recipe"].nunique() == len(table_of_dense)
    assert table_of_dense["mean"].is_monotonic_decreasing
    for row in table_of_dense.itertuples():
        own = every[(every["recipe"] == row.recipe) & (every["method"] == "unpruned")]
        assert row.count == len(own)
        assert row.mean == pytest.approx(own["metric_validation"].mean())


@pytest.mark.parametrize("value", [None, "1", True, [1], 10**400])
def test_what_is_no_number_is_not_taken_for_one(value: Any) -> None:
    """Anybody may have written a manifest."""
    assert np.isnan(number(value))
    assert 2.0 == number(2)


# --- tables, benchmarks, the paper ----------------------------------------------------------------


def test_paired_difference_is_that_of_the_records(samples: Path) -> None:
    """As the bootstrap gives it."""
    found, every = points_of(samples), runs_of(samples)
    point = found[found["method"] == "lat"].iloc[0]
    folders = every.loc[[point["run"], *point["counterparts"]], "folder"]
    tables = [tradeoff.read_split(folder, "examples", "validation") for folder in folders]
    expected = paired_interval(
        find_task(point["task"]).metric,
        tables[0]["label"].to_numpy(),
        tables[0]["prediction"].to_numpy(),
        tables[1]["prediction"].to_numpy(),
    )
    difference = tradeoff.paired_difference(point["task"], *folders)
    assert expected == (difference.value, difference.low, difference.high)
    assert point["difference_validation"] == pytest.approx(expected[0])


def test_paired_difference_ignores_the_order_of_rows(tmp_path: Path) -> None:
    """A table in another order gives the same figures."""
    made = tradeoff_samples.config("ltp", 0.5)
    dense = dense_config(made)
    assert dense is not None
    homes = [
        tradeoff_samples.save_run(tmp_path, made, right=0.8, flops=0.5),
        tradeoff_samples.save_run(tmp_path, dense, right=0.9, flops=1.0),
    ]
    before = tradeoff.paired_difference("sst2", *homes)
    frame = store.read_table(homes[1], "examples").iloc[::-1]
    store.write_table(homes[1], "examples", frame)
    assert before == tradeoff.paired_difference("sst2", *homes)
    store.write_table(homes[1], "examples", frame.iloc[3:])
    with pytest.raises(UserError, match="not evaluated on the same rows"):
        tradeoff.paired_difference("sst2", *homes)


def test_gigaflops_follow_the_formula(samples: Path) -> None:
    """Mean over the validation examples, of a base whose size is known."""
    from ltp_core.flops import unpruned_flops

    run = points_of(samples).iloc[0]
    frame = store.read_table(run["folder"], "examples")
    length = frame.loc[frame["split"] == "validation", "length"].to_numpy(dtype=np.int64)
    whole = unpruned_flops(length, num_layers=6, hidden=384, intermediate=1536)
    share = run["manifest"].summary["validation"]["relative_flops"]["paper"]
    found = tradeoff.gigaflops(run["folder"], run["manifest"])
    assert found == pytest.approx(share * whole / len(length) / 1e9)
    unknown = replace(run["manifest"], base={"name": "somewhere"})
    assert tradeoff.gigaflops(run["folder"], unknown) is None


def save_bench(folder: Path, name: str, **changes: Any) -> None:
    """A stored benchmark of a run, as far as a speed-up needs it."""
    lines = [
        {"contender": c, "batch_size": b, "sequences_per_s": 10.0, "speedup": s}
        for c, b, s in (
            ("packed", 1, 1.1),
            ("packed", 32, 1.8),
            ("packed", 8, 1.4),
            ("masked", 64, 0.9),
            ("packed_unpruned", 32, 1.0),
        )
    ]
    document: dict[str, Any] = {
        "format_version": 1,
        "what": "throughput",
        "created_at": "2026-01-01T00:00:00+00:00",
        "settings": {},
        "environment": {"processor": "Some CPU"},
        "noise": {},
        "contenders": {"packed": {"checkpoint": "sst2-ltp-1"}, "packed_unpruned": {}},
        "results": lines,
    }
    store.write_json(folder / "benches" / name / "bench.json", document | changes)


def test_speedups_come_from_the_newest_benchmark_with_a_control(tmp_path: Path) -> None:
    """Largest batch of the packed runner; without the control no speed-up is claimed."""
    save_bench(tmp_path, "old", created_at="2025-01-01T00:00:00+00:00", results=[])
    save_bench(tmp_path, "good")
    save_bench(tmp_path, "bare", contenders={"packed": {"checkpoint": "sst2-ltp-2"}})
    save_bench(tmp_path, "other", what="topk", results=[])
    (tmp_path / "benches" / "damaged").mkdir()
    (tmp_path / "benches" / "damaged" / "bench.json").write_text("{")
    found = tradeoff.speedups([tmp_path])
    assert {"sst2-ltp-1"} == set(found)
    assert (1.8, 32, "Some CPU") == (
        found["sst2-ltp-1"].value,
        found["sst2-ltp-1"].batch_size,
        found["sst2-ltp-1"].device,
    )


def test_curves_are_read_where_they_were_measured(samples: Path) -> None:
    """The strengths in order; an empty table for the other runs."""
    curves = {run.run: tradeoff.curve_of(run.folder) for run in runs_of(samples).itertuples()}
    measured = [frame for frame in curves.values() if not frame.empty]
    assert [[0.5, 0.75, 1.0, 1.5]] * 2 == [frame["factor"].tolist() for frame in measured]
    assert all(isinstance(frame, pd.DataFrame) for frame in curves.values())


def test_the_papers_table_is_the_papers() -> None:
    """Every figure as printed, and the speed-up that the paper prints follows from it."""
    printed = {"mnli": 1.88, "qqp": 2.10, "qnli": 1.87, "sst2": 2.09, "stsb": 1.95, "mrpc": 2.10}
    printed |= {"rte": 1.81}
    for task, speedup in printed.items():
        paper = tradeoff.PAPER_TABLE_1[task]
        assert 1 / paper.relative_flops == pytest.approx(speedup, abs=0.012)
        assert -0.0101 <= paper.difference <= 0
    assert set(printed) == set(tradeoff.PAPER_TABLE_1)


def test_the_shipped_runs_make_points() -> None:
    """What the repository ships can be drawn."""
    shipped = store.list_runs([ROOT / "data_cache" / "sample"])
    if not shipped:
        pytest.skip("the sample store is empty")
    found = points_table(runs_table(shipped))
    assert len(found)
    assert found[["metric_validation", "paper_validation"]].notna().all(axis=None)
