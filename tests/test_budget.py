"""A budget or an allowed loss becomes a strength of pruning, by the stored curve."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ltp_core import budget, store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.checkpoint_places import checkpoint_folder
from ltp_core.cli.main import main
from ltp_core.config import SelectConfig
from ltp_core.evaluate import evaluate_checkpoint
from ltp_core.records import UserError
from tests.training.test_straight import config_of
from tests.trainings import Workplace

CURVE = pd.DataFrame(
    {
        "factor": [0.0, 0.5, 1.0, 2.0],
        "relative_flops_paper": [1.0, 0.8, 0.5, 0.3],
        "metric": [0.90, 0.91, 0.89, 0.80],
    }
)


@pytest.mark.parametrize(
    ("flops", "factor"), [(1.0, 0.0), (0.9, 0.25), (0.8, 0.5), (0.65, 0.75), (0.4, 1.5), (0.3, 2.0)]
)
def test_a_budget_lies_on_the_line_between_two_points(flops: float, factor: float) -> None:
    """Measured points are met, and between them it is a straight line."""
    assert budget.factor_for_flops(CURVE, flops) == pytest.approx(factor)


@pytest.mark.parametrize("flops", [0.29, 0.0, 1.2])
def test_a_budget_beyond_the_curve_is_refused(flops: float) -> None:
    """It is said how far it goes."""
    with pytest.raises(UserError, match=r"from 1\.00 of the unpruned FLOPs down to 0\.30"):
        budget.factor_for_flops(CURVE, flops)


@pytest.mark.parametrize(
    ("loss", "reference", "factor"),
    [(0.01, None, 1.0), (0.005, None, 0.5), (0.1, None, 2.0), (0.0, 0.88, 1.0), (0.02, 0.92, 0.5)],
)
def test_the_strongest_that_loses_no_more(
    loss: float, reference: float | None, factor: float
) -> None:
    """Against the dense counterpart, or the same weights unpruned; a later rise does not count."""
    assert budget.factor_for_loss(CURVE, loss, reference) == factor


def test_a_loss_that_nothing_keeps_is_refused() -> None:
    """The weights themselves are worse than the dense counterpart by more."""
    with pytest.raises(UserError, match=r"with nothing pruned the checkpoint has 0\.900"):
        budget.factor_for_loss(CURVE, 0.01, 0.95)


@pytest.mark.parametrize("loss", [-0.1, float("nan")])
def test_a_loss_below_zero_is_refused(loss: float) -> None:
    """Nothing could keep it."""
    with pytest.raises(UserError, match="from 0 on"):
        budget.factor_for_loss(CURVE, loss)


def test_a_loss_needs_something_to_be_measured_against() -> None:
    """The weakest point of a curve that begins later is not the unpruned model."""
    later = CURVE[1:].reset_index(drop=True)
    assert budget.factor_for_loss(later, 0.01, 0.9) == 1.0
    with pytest.raises(UserError, match="measure strength 0"):
        budget.factor_for_loss(later, 0.01)


@pytest.fixture(scope="module")
def elastic(tmp_path_factory: pytest.TempPathFactory) -> tuple[Workplace, Path]:
    """A run trained for any budget, and where it was made."""
    place = Workplace.make(tmp_path_factory.mktemp("elastic"))
    return place, place.train(config_of(place))


def test_an_elastic_run_takes_a_budget(elastic: tuple[Workplace, Path]) -> None:
    """Its curve is stored with it, and what a budget loads spends that on the held-out rows."""
    place, folder = elastic
    curve = budget.budget_curve(folder)
    assert curve is not None
    assert curve["factor"].tolist() == pytest.approx(budget.FACTORS)
    stored = store.read_table(folder, "curve")
    assert set(stored["split"]) == {"heldout", "validation"}
    assert np.isclose(curve["relative_flops_paper"][0], 1.0, atol=0.05)
    middle = float(curve["relative_flops_paper"].iloc[[0, -1]].mean())
    model = load_checkpoint(str(folder), budget=middle)
    found = evaluate_checkpoint(model, split="heldout", data_dir=place.folder / "data")
    step = float(-np.diff(curve["relative_flops_paper"]).min())
    assert found.relative_flops["paper"] == pytest.approx(middle, abs=step + 1e-6)
    whole = load_checkpoint(str(folder))
    factors = [
        model.method.threshold(i) / whole.method.threshold(i)  # type: ignore[operator]
        for i in range(3)
    ]
    assert factors == pytest.approx([factors[0]] * 3)
    assert 0 < factors[0] < 1


def test_the_commands_take_a_budget(
    elastic: tuple[Workplace, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """One above the checkpoint's least is traced, one below it is refused, and not both at once."""
    _, folder = elastic
    least = float(budget.budget_curve(folder)["relative_flops_paper"].min())  # type: ignore[index]
    assert main(["trace", str(folder), "a good film", "--budget", f"{(1 + least) / 2}"]) == 0
    capsys.readouterr()
    assert main(["trace", str(folder), "a good film", "--budget", "0.01"]) == 2
    assert "out of reach" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["trace", str(folder), "a film", "--budget", "0.9", "--max-loss", "0.1"])
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--budget", "0.9", "--scales", "0.5"]) == 2
    assert "leave the budget out" in capsys.readouterr().err


def test_a_benchmark_takes_a_budget(
    elastic: tuple[Workplace, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    """Less is pruned, and the figures go by a name of their own, never by the run's."""
    place, folder = elastic
    variants = ["--variants", "packed,packed_unpruned", "--no-store", "--json"]
    size = ["--batch-sizes", "4", "--repeats", "1", "--limit", "8"]
    own = ["bench", str(folder), "--data-dir", str(place.folder / "data"), *size, *variants]
    found = {}
    for budget_option in ([], ["--budget", "0.97"]):
        assert main([*own, *budget_option]) == 0
        found[len(budget_option)] = json.loads(capsys.readouterr().out)
    promised = {key: each["results"][0]["theoretical_speedup"] for key, each in found.items()}
    assert promised[0] > promised[2] > 1
    assert f"{found[0]['checkpoint']}@budget-0.97" == found[2]["checkpoint"]
    assert found[2]["contenders"]["packed"]["checkpoint"] == found[2]["checkpoint"]
    assert found[2]["contenders"]["packed"]["metric"] is None
    assert main([*own, "--what", "training", "--budget", "0.97"]) == 2
    assert "--budget says nothing" in capsys.readouterr().err


def test_a_short_name_means_the_run_with_the_weights(
    elastic: tuple[Workplace, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Runs that only chose another strength of it, and share them, do not make it ambiguous."""
    place, folder = elastic
    select = SelectConfig(target_relative_flops=0.99, rows=4)
    chosen = place.train(replace(config_of(place), select=select))
    monkeypatch.setattr(store, "stores", lambda: [place.store])
    assert checkpoint_folder("sst2-ltp_s") == folder
    assert checkpoint_folder(chosen.name) == chosen


def test_a_run_without_a_curve_says_how_to_measure_one(elastic: tuple[Workplace, Path]) -> None:
    """One command, which stands in the sentence."""
    folder = elastic[0].train(config_of(elastic[0], "ltp", elastic=False))
    with pytest.raises(UserError, match=r"evaluate .* --split heldout --scales"):
        load_checkpoint(str(folder), budget=0.5)


def test_only_a_training_for_any_budget_serves_every_one(
    elastic: tuple[Workplace, Path], tmp_path: Path
) -> None:
    """A curve that was measured of another training later does not make it one."""
    place, folder = elastic
    assert budget.elastic_curve(folder) is not None
    other = place.train(config_of(place, "ltp", elastic=False))
    manifest = store.read_manifest(other)
    copy = tmp_path / other.name
    store.write_table(copy, "curve", store.read_table(folder, "curve"))
    store.finish_run(copy, manifest)
    assert budget.budget_curve(copy) is not None
    assert budget.elastic_curve(copy) is None
    assert budget.elastic_curve(tmp_path / "no run") is None
