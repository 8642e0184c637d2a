"""Does it pay: counted costs, paired changes, measured times, and what is missing to say more."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core import environment, store
from ltp_core.analysis.example_records import ExampleRecords, ModelSize, read_examples
from ltp_core.analysis.intervals import Estimate
from ltp_core.analysis.pays.accuracy import Change, ShallowControl
from ltp_core.analysis.pays.cost import Cost, Lengths, by_length
from ltp_core.analysis.pays.decision import Decision, decide
from ltp_core.analysis.pays.sentence import sentence
from ltp_core.analysis.pays.timing import ONNX, Speed, Timing
from ltp_core.bench.results import BenchEntry
from ltp_core.config import SelectConfig
from ltp_core.lengths.counts import LengthCounts
from ltp_core.records import UserError
from tests import bench_samples, commands, tradeoff_samples

LAYERS = 6


def records_of(length: Sequence[int], seed: int = 0) -> ExampleRecords:
    """A run that keeps some tokens of inputs of these lengths."""
    random = np.random.default_rng(seed)
    full = np.asarray(length, dtype=np.int64)
    kept = np.maximum(
        1, np.sort(random.integers(1, full[:, None] + 1, (len(full), LAYERS)))[:, ::-1]
    )
    entering = np.concatenate([full[:, None], kept[:, :-1]], axis=1)
    return ExampleRecords(
        name="sst2-ltp-0123456789",
        task="sst2",
        method="ltp",
        split="validation",
        row=np.arange(len(full)),
        length=full,
        label=np.zeros(len(full), dtype=np.int64),
        prediction=np.zeros(len(full), dtype=np.int64),
        attention_length=entering,
        ffn_length=kept,
        size=ModelSize(hidden=8, intermediate=32),
    )


@given(st.lists(st.integers(2, 60), min_size=1, max_size=60), st.integers(0, 99))
def test_own_lengths_cost_what_the_records_say(length: list[int], seed: int) -> None:
    """On the lengths of the records the shares by band add up to the records' own."""
    records = records_of(length, seed)
    found = by_length(records, LengthCounts.of(records.length))
    whole = records.unpruned_flops()
    assert whole is not None
    for accounting in ("paper", "executed"):
        part = records.flops(accounting)
        assert part is not None
        assert found[accounting] == pytest.approx(part.sum() / whole.sum())
    kept = records.ffn_length.sum() / (LAYERS * records.length.sum())
    assert found["retained"] == pytest.approx(kept)


def test_other_lengths_cost_the_share_of_their_band() -> None:
    """Texts as long as the shortest rows cost what these do, whatever the others are."""
    records = records_of([5] * 20 + [50] * 20)
    short = by_length(records, LengthCounts.of(np.array([5] * 7)))
    alone = by_length(records.take(np.arange(20)), LengthCounts.of(np.array([5])))
    assert short == pytest.approx(alone)


# ---- from a store ----


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    monkeypatch.setattr(store, "_sample_store", lambda: tmp_path / "none")
    return tmp_path


def with_layers(home: Path) -> Path:
    """Adds how many tokens of each example stay, so that lengths and costs are known."""
    frame = store.read_table(home, "examples")
    parts = []
    for split, part in frame.groupby("split", sort=False):
        length = part["length"].to_numpy(dtype=np.int64)
        for layer in range(LAYERS):
            share = 1 - layer / LAYERS
            parts.append(
                pd.DataFrame(
                    {
                        "split": split,
                        "row": part["row"],
                        "layer": layer,
                        "attention_length": np.ceil(length * min(1, share + 1 / LAYERS)),
                        "ffn_length": np.ceil(length * share),
                    }
                )
            )
    layers = pd.concat(parts).astype({"attention_length": int, "ffn_length": int})
    store.write_table(home, "layers", layers)
    return home


SIZE = {"name": "base", "sha256": None, "hidden_size": 8, "intermediate_size": 32}


def save(place: Path, *, shallow: bool = True, dense: bool = True) -> str:
    """A run that prunes, its dense counterpart and shallower models."""
    ours = tradeoff_samples.config("ltp", 0.5)
    home = tradeoff_samples.save_run(place, ours, right=0.85, flops=0.5, base=SIZE)
    with_layers(home)
    store.finish_run(home, store.read_manifest(home))
    if dense:
        from ltp_core.config import dense_config

        counterpart = dense_config(ours)
        assert counterpart is not None
        tradeoff_samples.save_run(place, counterpart, right=0.9, flops=1.0)
    for budget, flops in ((0.3, 2 / 6), (0.6, 4 / 6)) if shallow else ():
        other = tradeoff_samples.config("shallow", budget)
        tradeoff_samples.save_run(place, other, right=0.8, flops=flops)
    return home.name


def bench_of(name: str, **changes: Any) -> BenchEntry:
    """A benchmark of that run on its own validation rows, here."""
    environment_of = {"processor": environment.processor(), "threads": 2, "device": "cpu"}
    document = bench_samples.throughput(checkpoint=name, environment=environment_of, **changes)
    return BenchEntry(name="throughput-a", folder=Path("a"), document=document, problem=None)


def test_the_answer_is_put_together_from_records_and_a_benchmark(place: Path) -> None:
    """Changes are paired differences, the control is the nearest in cost, time is as measured."""
    name = save(place)
    found = decide(name, benches=[bench_of(name)])
    assert ["validation", "heldout"] == list(found.changes)
    gap = found.changes["validation"].difference
    assert gap is not None
    assert gap.low <= gap.value <= gap.high
    records = read_examples(store.run_folder(place, name), "validation")
    part, whole = records.flops("paper"), records.unpruned_flops()
    assert part is not None
    assert whole is not None
    assert found.cost.relative_flops["paper"] == pytest.approx(part.sum() / whole.sum())
    assert found.shallow is not None
    assert (4, 6) == (found.shallow.layers, found.shallow.num_layers)  # we cost 0.6
    assert found.timing is not None
    assert (32, True, False) == (
        found.timing.batch_size,
        found.timing.is_here,
        found.timing.is_scaled,
    )
    lines = {
        line["contender"]: line
        for line in bench_of(name).document["results"]  # type: ignore[index]
        if line["batch_size"] == 32
    }
    speed = found.timing.speeds["packed"]
    assert speed.texts_per_s == lines["packed"]["sequences_per_s"]
    assert speed.saved is not None
    assert speed.saved.value == pytest.approx(1 - 1 / lines["packed"]["speedup"])
    assert speed.cost(2.0) == pytest.approx(1e6 / speed.texts_per_s / 3600 * 2)
    assert "masked" not in found.timing.speeds


def test_times_of_other_lengths_are_scaled_by_counted_flops(place: Path) -> None:
    """Texts of twice the FLOPs take twice the time, and the answer says that nothing was measured."""
    name = save(place)
    entry = bench_of(name)
    lengths = Lengths(name="mine", counts=LengthCounts.of(np.array([20, 40])))
    found = decide(name, lengths, benches=[entry])
    assert found.timing is not None
    assert found.timing.is_scaled
    assert any("no measurement" in each for each in found.missing)
    assert any("only their labels" in each for each in found.missing)
    line = next(
        line
        for line in entry.document["results"]  # type: ignore[index]
        if line["contender"] == "packed_unpruned" and line["batch_size"] == 32
    )
    timed = line["sequences_per_s"] * line["flops_per_sequence"]
    assert found.cost.unpruned_flops is not None
    speed = found.timing.speeds["packed_unpruned"].texts_per_s
    assert speed * found.cost.unpruned_flops == pytest.approx(timed)


def test_a_figure_that_is_too_noisy_is_not_said(place: Path) -> None:
    """Quartiles far apart leave the saved time out, and the sentence says why."""
    name = save(place)
    entry = bench_of(name)
    for line in entry.document["results"]:  # type: ignore[index]
        line["realised_share_q3"] = 2 * line["realised_share"]
    found = decide(name, benches=[entry])
    assert found.timing is not None
    assert found.timing.speeds["packed"].saved is None
    assert "too noisy" in sentence(found, "LTP")


def test_a_strange_file_costs_its_own_figures(place: Path) -> None:
    """Speeds of 0, absent lengths and shares of 0 are no fault of the program, and no answer either."""
    name = save(place)
    for figure, value in (("sequences_per_s", 0.0), ("realised_share", 0.0), ("length", None)):
        entry = bench_of(name)
        for line in entry.document["results"]:  # type: ignore[index]
            line[figure] = value
            line.pop("length")
        found = decide(name, benches=[entry])
        assert (found.timing is None) == (figure == "sequences_per_s")
        if found.timing is not None:
            is_said = found.timing.speeds["packed"].saved is not None
            assert is_said == (figure == "length")
        assert sentence(found, "LTP")


def test_what_is_missing_is_named(place: Path) -> None:
    """No benchmark, no shallower model and no dense counterpart are each a sentence."""
    name = save(place, shallow=False, dense=False)
    found = decide(name, benches=[])
    assert found.timing is None
    assert found.shallow is None
    assert all(change.difference is None for change in found.changes.values())
    for part in (f"bench {name} --quick", "shallower model", "dense counterpart"):
        assert any(part in each for each in found.missing), part
    assert "not measured" in sentence(found, "LTP")


def test_here_comes_before_other_machines_and_the_same_lengths_before_others(place: Path) -> None:
    """The best evidence is taken: of this machine, then of these rows, then the newest."""
    name = save(place)
    document = bench_of(name).document or {}
    other = {**document, "environment": {"processor": "Another"}}
    elsewhere = replace(bench_of(name), name="elsewhere", document=other)
    other_rows = replace(bench_of(name), name="rows", document={**document, "task": "qnli"})
    here = replace(bench_of(name), name="here")
    for entries, wanted in (
        ([elsewhere, other_rows, here], "here"),
        ([elsewhere, other_rows], "rows"),
    ):
        timing = decide(name, benches=entries).timing
        assert timing is not None
        assert wanted == timing.bench
    assert decide(name, bench="elsewhere", benches=[here, elsewhere]).timing is not None
    with pytest.raises(UserError, match="no benchmark"):
        decide(name, bench="nowhere", benches=[here])
    with pytest.raises(UserError, match="batch size 7"):
        decide(name, batch_size=7, benches=[here])


@pytest.fixture
def any_budget(place: Path) -> tuple[str, str]:
    """A run with a curve, and one that chose half of the FLOPs for its weights."""
    trained = tradeoff_samples.config("ltp", 0.2)
    home = tradeoff_samples.save_run(place, trained, right=0.7, flops=0.2, base=SIZE)
    points = [(0.0, 1.0, 0.9), (0.5, 0.5, 0.85), (1.0, 0.2, 0.7)]
    frame = pd.DataFrame(
        [
            {
                "split": split,
                "factor": factor,
                "rows": 300,
                "metric": metric,
                "relative_flops_paper": flops,
                "relative_flops_executed": flops,
            }
            for split in ("heldout", "validation")
            for factor, flops, metric in points
        ]
    )
    store.write_table(with_layers(home), "curve", frame)
    store.finish_run(home, store.read_manifest(home))
    chosen = replace(trained, select=SelectConfig(target_relative_flops=0.5))
    other = tradeoff_samples.save_run(
        place, chosen, right=0.85, flops=0.5, parent=home.name, base=SIZE
    )
    store.finish_run(with_layers(other), store.read_manifest(other))
    return home.name, other.name


def test_a_budget_is_answered_by_the_run_that_chose_it_else_by_the_curve(
    any_budget: tuple[str, str],
) -> None:
    """A stored choice has records and may have been timed; between two of them a curve speaks alone."""
    name, chosen = any_budget
    found = decide(name, budget=0.5, benches=[bench_of(chosen), bench_of(name)])
    assert (name, chosen) == (found.checkpoint, found.records)
    assert found.timing is not None
    between = decide(name, budget=0.75, benches=[bench_of(chosen), bench_of(name)])
    assert between.records is None
    assert between.timing is None
    assert 0.875 == pytest.approx(between.changes["validation"].value)
    assert 0.75 == pytest.approx(between.cost.relative_flops["paper"])
    assert any("without an interval" in each for each in between.missing)


@pytest.mark.parametrize("kind", ["unpruned", "absent"])
def test_what_cannot_be_asked_is_refused(place: Path, kind: str) -> None:
    """A run that prunes nothing, and a name that no run has."""
    save(place)
    name = (
        next(e.name for e in store.list_runs() if "unpruned" in e.name)
        if kind == "unpruned"
        else kind
    )
    with pytest.raises(UserError):
        decide(name, benches=[])


# ---- in words ----


def test_the_sentence() -> None:
    """It can be quoted: lengths, FLOPs, time, ONNX, accuracy with its interval, and the control."""
    change = Change(
        metric="accuracy",
        value=0.87,
        rows=872,
        difference=Estimate(value=-0.007, low=-0.025, high=0.011),
    )
    saved = Estimate(value=0.41, low=0.4, high=0.42)

    def speed(variant: str, saving: Estimate | None) -> Speed:
        return Speed(variant=variant, title=variant, texts_per_s=800.0, saved=saving)

    decision = Decision(
        checkpoint="a",
        records="a",
        task="sst2",
        method="ltp",
        lengths="sst2/validation",
        cost=Cost(
            texts=872,
            tokens=25.0,
            tokens_left=10.0,
            relative_flops={"paper": 0.459, "executed": 0.445},
            unpruned_flops=5e8,
            share_cut=0.0,
            share_beyond=0.0,
        ),
        changes={"validation": change},
        shallow=ShallowControl(
            run="b", layers=3, num_layers=6, relative_flops=0.5, changes={"validation": change}
        ),
        timing=Timing(
            bench="c",
            machine="A processor",
            is_here=True,
            batch_size=32,
            mean_length=25.0,
            is_scaled=False,
            speeds={
                "packed": speed("packed", saved),
                ONNX: speed(ONNX, replace(saved, value=0.46)),
            },
        ),
        missing=(),
    )
    assert sentence(decision, "LTP") == (
        "On the lengths of sst2/validation, LTP saves 54 % of the FLOPs and 41 % of the time at batch "
        "32 on this machine (46 % in ONNX); accuracy changes by −0.7 points [−2.5, +1.1]; a model of 3 of "
        "6 layers, the nearest in cost (50 % of the FLOPs), would be at −0.7 points [−2.5, +1.1]."
    )
    assert decision.timing is not None
    slower = {"packed": speed("packed", replace(saved, value=-0.03))}
    told = replace(decision, shallow=None, timing=replace(decision.timing, speeds=slower))
    assert "and takes 3 % more time at batch" in sentence(told, "LTP")


def test_the_command_takes_lengths_from_a_file(place: Path, tmp_path: Path) -> None:
    """`pays` answers for a file of numbers, prices it, and refuses columns where there are none."""
    name = save(place)
    bench_samples.save(place, bench_of(name).document or {}, "throughput-a")
    numbers = tmp_path / "n.txt"
    numbers.write_text("tokens\n20\n40\n\n40\n")
    ran = commands.run("pays", name, "--lengths", str(numbers), "--price", "2", "--json")
    assert 0 == ran.status, ran.stderr
    document = json.loads(ran.stdout)
    assert 3 == document["cost"]["texts"]
    assert math.isclose(100 / 3, document["cost"]["tokens"])
    shown = commands.run("pays", name, "--price", "2")
    assert "cost at 2 an hour" in shown.stdout
    assert 2 == commands.run("pays", name, "--lengths", str(numbers), "--columns", "a").status
    numbers.write_text("20\nmany\n")
    ran = commands.run("pays", name, "--lengths", str(numbers))
    assert 2 == ran.status
    assert "line 2" in ran.stderr
