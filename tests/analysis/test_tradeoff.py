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
from hypothesis import given, settings
from hypothesis import strategies as st

from ltp_core import store
from ltp_core.analysis import tradeoff, tradeoff_axes
from ltp_core.analysis.tradeoff import Experiment, Point, Result, StoredRun
from ltp_core.config import dense_config, to_dict
from ltp_core.metrics import paired_interval
from ltp_core.records import UserError
from ltp_core.store import RunEntry
from tests import runs, tradeoff_samples
from tests.source_trees import ROOT

EXPERIMENT = Experiment(
    task="sst2",
    key="0",
    rows=100,
    takes_all=True,
    max_train_length=None,
    base="tiny",
    adapter="lora",
)


def stored(
    flops: float,
    metric: float,
    *,
    method: str = "ltp",
    seed: int = 0,
    heldout: tuple[float, float] | None = None,
) -> StoredRun:
    """A run in memory; its held-out figures are those of validation unless others are given."""
    config = tradeoff_samples.config(method, round(flops, 3) or 0.001, seed=seed)
    chosen = heldout or (flops, metric)
    results = {
        split: Result(metric=m, relative_flops={"paper": f, "executed": f - 0.01}, rows=10)
        for split, (f, m) in {"validation": (flops, metric), "heldout": chosen}.items()
    }
    return StoredRun(
        name=config.name,
        folder=Path("none"),
        manifest=runs.manifest(config.name, config=to_dict(config), seed=seed),
        config=config,
        metric_name="accuracy",
        results=results,
    )


def point(*members: StoredRun, dense: float | None = 0.9) -> Point:
    """A point, each run with a dense counterpart of this metric."""
    whole = None if dense is None else stored(1.0, dense, method="unpruned")
    counterparts = {} if whole is None else {run.name: whole for run in members}
    return Point(experiment=EXPERIMENT, runs=members, dense=counterparts)


# --- from the store -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of made-up records."""
    folder = tradeoff_samples.save_store(tmp_path_factory.mktemp("store"), budgets=(0.3, 0.45))
    tradeoff_samples.save_broken(folder)
    return folder


def points_of(folder: Path) -> list[Point]:
    """Operating points of one store."""
    return tradeoff.operating_points(tradeoff.stored_runs(store.list_runs([folder])))


def test_seeds_of_one_configuration_are_one_point(samples: Path) -> None:
    """Mean and standard deviation over seeds; other budgets, methods and tasks stay apart."""
    found = points_of(samples)
    assert 2 * 2 * len(tradeoff_samples.QUALITY) == len(found)
    ours = [p for p in found if (p.experiment.task, p.method) == ("sst2", "ltp")]
    assert [[0, 1, 2]] * 2 == [[run.config.seed for run in p.runs] for p in ours]
    values = [run.results["validation"].metric for run in ours[0].runs]
    spread = ours[0].metric()
    assert spread is not None
    assert (statistics.mean(values), 3) == (spread.mean, spread.count)
    assert spread.sd == pytest.approx(statistics.stdev(values))
    alone = next(p for p in found if p.method == "lat").metric()
    assert alone is not None
    assert alone.sd is None


def test_each_seed_is_compared_with_its_own_dense_counterpart(samples: Path) -> None:
    """The difference is the mean of differences, not the difference of unrelated means."""
    found = next(p for p in points_of(samples) if p.method == "ltp" and p.experiment.task == "sst2")
    pairs = found.pairs()
    assert [(a.config.seed, dense_config(a.config)) for a, _ in pairs] == [
        (b.config.seed, b.config) for _, b in pairs
    ]
    difference = found.difference()
    assert difference is not None
    expected = [a.results["validation"].metric - b.results["validation"].metric for a, b in pairs]
    assert difference.mean == pytest.approx(statistics.mean(expected))


def test_dense_counterparts_and_parents_are_no_points(samples: Path) -> None:
    """Only what prunes is a point."""
    assert "unpruned" not in {p.method for p in points_of(samples)}


def test_the_first_half_of_a_run_is_no_point(tmp_path: Path) -> None:
    """A run that a choice after training starts from shows up as that choice alone."""
    trained = tradeoff_samples.config("lat", 0.5)
    half = tradeoff_samples.save_run(tmp_path, trained, right=0.8, flops=1.0)
    assert 1 == len(points_of(tmp_path))
    chosen = tradeoff_samples.config("lat", 0.4)
    tradeoff_samples.save_run(tmp_path, chosen, right=0.8, flops=0.4, parent=half.name)
    assert [chosen.name] == [p.runs[0].name for p in points_of(tmp_path)]


def test_experiments_differ_in_data_and_base_alone(tmp_path: Path) -> None:
    """Other training rows are another experiment; other seeds, methods and budgets are not."""
    for method, budget, seed, rows in (
        ("ltp", 0.3, 0, 100),
        ("ltp", 0.5, 1, 100),
        ("lat", 0.5, 0, 100),
        ("ltp", 0.3, 0, None),
    ):
        made = tradeoff_samples.config(method, budget, seed=seed, train_rows=rows)
        tradeoff_samples.save_run(tmp_path, made, right=0.8, flops=budget)
    found = [p.experiment for p in points_of(tmp_path)]
    assert 2 == len(set(found))
    assert {(100, False), (65349, True)} == {(e.rows, e.takes_all) for e in found}


@pytest.mark.parametrize(
    "broken",
    [
        {"summary": {}},
        {"summary": {"validation": {"metrics": {}, "relative_flops": {}, "rows": 1}}},
        {"summary": {"validation": {"metrics": {"accuracy": 0.5}, "rows": 1}}},
        {"summary": {"validation": {"metrics": [1], "relative_flops": 3, "rows": "x"}}},
        {"summary": {"validation": None}},
        {"config": {"task": "sst2", "unheard": 1}},
        {"config": {}},
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
    assert [] == points_of(tmp_path)


def test_runs_with_a_problem_are_left_out() -> None:
    """What does not validate is no evidence."""
    entry = RunEntry(name="a", folder=Path("a"), manifest=runs.manifest(), problem="It is broken.")
    assert [] == tradeoff.stored_runs([entry])


# --- what beats what ------------------------------------------------------------------------------

figures = st.tuples(
    st.floats(0.05, 1.0, allow_nan=False).map(lambda x: round(x, 2)),
    st.floats(0.5, 1.0, allow_nan=False).map(lambda x: round(x, 2)),
)


def drawn_points(drawn: Sequence[tuple[float, float]]) -> list[Point]:
    """Points of one method whose held-out figures are these; validation says the opposite."""
    return [
        point(stored(0.001 + i / 1000, 1 - m, heldout=(f, m))) for i, (f, m) in enumerate(drawn)
    ]


@settings(max_examples=40)
@given(st.lists(figures, max_size=12))
def test_what_is_left_is_the_pareto_front(drawn: list[tuple[float, float]]) -> None:
    """Held-out rows decide: nothing left is beaten, everything else is beaten by something left."""
    found = drawn_points(drawn)
    beaten = tradeoff.dominated(found)
    left = [f for p, f in zip(found, drawn, strict=True) if p.key not in beaten]

    def beats(a: tuple[float, float], b: tuple[float, float]) -> bool:
        return a != b and a[0] <= b[0] and a[1] >= b[1]

    assert not any(beats(a, b) for a in left for b in left)
    for p, own in zip(found, drawn, strict=True):
        assert (p.key in beaten) == any(beats(a, own) for a in left)


def test_methods_do_not_beat_each_other() -> None:
    """Grey means that the same method does better elsewhere."""
    good, bad = stored(0.3, 0.9), stored(0.5, 0.8, method="lat")
    assert set() == tradeoff.dominated([point(good), point(bad)])
    worse = point(stored(0.5, 0.8))
    assert {worse.key} == tradeoff.dominated([point(good), worse])


# --- smallest FLOPs within one point --------------------------------------------------------------


def test_the_choice_is_made_on_held_out_rows() -> None:
    """A point that is fine on validation alone is not chosen, and one that is not, is."""
    lucky = point(stored(0.2, 0.95, heldout=(0.2, 0.85)))
    honest = point(stored(0.5, 0.85, heldout=(0.5, 0.895)))
    costly = point(stored(0.7, 0.95, heldout=(0.7, 0.95)))
    chosen = tradeoff.smallest_within([lucky, honest, costly])
    assert {(EXPERIMENT, "ltp"): honest} == chosen


def test_exactly_one_point_is_allowed() -> None:
    """0.9 - 0.89 is a little more than 0.01 in floating point."""
    assert 0.9 - 0.01 != 0.89 or 0.89 - 0.9 < -0.01
    edge = point(stored(0.3, 0.89))
    assert {(EXPERIMENT, "ltp"): edge} == tradeoff.smallest_within([edge])
    assert {(EXPERIMENT, "ltp"): None} == tradeoff.smallest_within([point(stored(0.3, 0.889))])


def test_without_a_dense_counterpart_nothing_is_claimed() -> None:
    """A point without one is never within a point of it."""
    assert {(EXPERIMENT, "ltp"): None} == tradeoff.smallest_within(
        [point(stored(0.3, 0.99), dense=None)]
    )


@settings(max_examples=40)
@given(st.lists(figures, min_size=1, max_size=10))
def test_the_choice_is_the_cheapest_good_one(drawn: list[tuple[float, float]]) -> None:
    """As found by looking at all of them."""
    found = drawn_points(drawn)
    good = [(f, m) for f, m in drawn if m >= 0.9 - 0.01 - 1e-9]
    dense = stored(1.0, 0.9, method="unpruned")
    found = [replace(p, dense={p.runs[0].name: dense}) for p in found]
    [best] = tradeoff.smallest_within(found).values()
    flops = best and best.relative_flops("paper", "heldout")
    assert (flops and flops.mean) == (min(f for f, _ in good) if good else None)


def test_baselines_are_one_a_dense_configuration() -> None:
    """Seeds of one configuration are a mean with spread, another configuration stands apart."""
    first = point(stored(0.3, 0.8), dense=0.9)
    second = replace(
        point(stored(0.4, 0.8, seed=1)),
        dense={stored(0.4, 0.8, seed=1).name: stored(1.0, 0.92, method="unpruned", seed=1)},
    )
    other = point(stored(0.5, 0.8, method="lat"), dense=None)
    odd = stored(0.999, 0.99, method="unpruned")
    other = replace(other, dense={other.runs[0].name: odd})
    found = tradeoff.baselines([first, second, other])
    assert [(0.99, 1), (pytest.approx(0.91), 2)] == [(s.mean, s.count) for s in found]


# --- tables, benchmarks, the paper ----------------------------------------------------------------


def test_paired_difference_is_that_of_the_records(samples: Path) -> None:
    """The rows are matched by number, whatever their order is."""
    found = next(p for p in points_of(samples) if p.method == "lat")
    [(run, dense)] = found.pairs()
    tables = [
        tradeoff_axes.read_split(each.folder, "examples", "validation") for each in (run, dense)
    ]
    expected = paired_interval(
        run.config.task,
        tables[0]["label"].to_numpy(),
        tables[0]["prediction"].to_numpy(),
        tables[1]["prediction"].to_numpy(),
    )
    assert expected == tradeoff_axes.paired_difference(run, dense)
    difference = found.difference()
    assert difference is not None
    assert expected[0] == pytest.approx(difference.mean)


def test_paired_difference_ignores_the_order_of_rows(tmp_path: Path) -> None:
    """A table in another order gives the same figures."""
    made = tradeoff_samples.config("ltp", 0.5)
    dense = dense_config(made)
    assert dense is not None
    homes = [
        tradeoff_samples.save_run(tmp_path, made, right=0.8, flops=0.5),
        tradeoff_samples.save_run(tmp_path, dense, right=0.9, flops=1.0),
    ]
    [found] = points_of(tmp_path)
    [(run, counterpart)] = found.pairs()
    before = tradeoff_axes.paired_difference(run, counterpart)
    frame = store.read_table(homes[1], "examples").iloc[::-1]
    store.write_table(homes[1], "examples", frame)
    assert before == tradeoff_axes.paired_difference(run, counterpart)
    store.write_table(homes[1], "examples", frame.iloc[3:])
    with pytest.raises(UserError, match="not evaluated on the same rows"):
        tradeoff_axes.paired_difference(run, counterpart)


def test_gigaflops_follow_the_formula(samples: Path) -> None:
    """Mean over the validation examples, of a base whose size is known."""
    from ltp_core.flops import unpruned_flops

    run = points_of(samples)[0].runs[0]
    frame = store.read_table(run.folder, "examples")
    length = frame.loc[frame["split"] == "validation", "length"].to_numpy(dtype=np.int64)
    whole = unpruned_flops(length, num_layers=6, hidden=384, intermediate=1536)
    share = run.results["validation"].relative_flops["paper"]
    assert tradeoff_axes.gigaflops(run) == pytest.approx(share * whole / len(length) / 1e9)
    unknown = replace(run, manifest=replace(run.manifest, base={"name": "somewhere"}))
    assert tradeoff_axes.gigaflops(unknown) is None


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
    found = tradeoff_axes.speedups([tmp_path])
    assert {"sst2-ltp-1"} == set(found)
    assert (1.8, 32, "Some CPU") == (
        found["sst2-ltp-1"].value,
        found["sst2-ltp-1"].batch_size,
        found["sst2-ltp-1"].device,
    )


def test_curves_are_read_where_they_were_measured(samples: Path) -> None:
    """The strengths in order; an empty table for the other runs."""
    by_name = {run.name: run for p in points_of(samples) for run in p.runs}
    curves = {name: tradeoff_axes.curve_of(run) for name, run in by_name.items()}
    measured = [frame for frame in curves.values() if not frame.empty]
    assert [[0.5, 0.75, 1.0, 1.5]] * 2 == [frame["factor"].tolist() for frame in measured]
    assert all(isinstance(frame, pd.DataFrame) for frame in curves.values())


def test_the_papers_table_is_the_papers() -> None:
    """Every figure as printed, and the speed-up that the paper prints follows from it."""
    printed = {"mnli": 1.88, "qqp": 2.10, "qnli": 1.87, "sst2": 2.09, "stsb": 1.95, "mrpc": 2.10}
    printed |= {"rte": 1.81}
    for task, speedup in printed.items():
        paper = tradeoff_axes.PAPER_TABLE_1[task]
        assert 1 / paper.relative_flops == pytest.approx(speedup, abs=0.012)
        assert -0.0101 <= paper.difference <= 0
    assert set(printed) == set(tradeoff_axes.PAPER_TABLE_1)


def test_the_shipped_runs_make_points() -> None:
    """What the repository ships can be drawn."""
    shipped = store.list_runs([ROOT / "data_cache" / "sample"])
    if not shipped:
        pytest.skip("the sample store is empty")
    found = tradeoff.operating_points(tradeoff.stored_runs(shipped))
    assert found
    assert all(p.metric() and p.relative_flops("paper") for p in found)
