"""Labels of tasks and runs."""

from __future__ import annotations

from typing import Any

import pytest

from app.ltp_ui.shared.labels import run_label, run_labels, task_label
from ltp_core.tasks.catalogue import TASKS
from tests import runs


def manifest(name: str = "sst2-ltp-0123456789", flops: Any = 0.459, **changes: Any) -> Any:
    """A run that needs this share of the FLOPs."""
    summary = {"validation": {"metrics": {"accuracy": 0.9}, "relative_flops": {"paper": flops}}}
    return runs.manifest(name, **{"summary": summary, "seed": 0, **changes})


def test_a_label_says_what_a_run_is() -> None:
    """Method, task by its own name, cost, seed; the control has no cost; what was not trained says so."""
    assert "LTP · SST-2 · 46 % of the FLOPs · seed 0" == run_label(manifest())
    assert "Unpruned · SST-2 · seed 0" == run_label(manifest("sst2-unpruned-0123456789"))
    kept = manifest(config={"evaluation": {"checkpoint": "a"}})
    assert "LTP · SST-2 · 46 % of the FLOPs · evaluated later" == run_label(kept)
    chosen = {"calibration": {"relative_flops": {"paper": 0.699}}}
    calibrated = manifest(summary=chosen, dataset={"calibration": {"rows": 5}})
    assert "LTP · SST-2 · 70 % of the FLOPs · calibrated on own texts" == run_label(calibrated)
    large = manifest(base={"name": "sentence-transformers/all-mpnet-base-v2"})
    assert "LTP · SST-2 · MPNet, 12 layers · 46 % of the FLOPs · seed 0" == run_label(large)
    own = manifest(base={"name": "/models/my-bert/"})
    assert "LTP · SST-2 · my-bert · 46 % of the FLOPs · seed 0" == run_label(own)
    assert all(task_label(name) != name for name in TASKS)
    assert "my_task" == task_label("my_task")


@pytest.mark.parametrize("flops", [None, "many", float("nan"), float("inf"), -1.0, True, [1]])
def test_a_cost_that_is_none_is_not_said(flops: Any) -> None:
    """Whatever a damaged summary holds."""
    assert "LTP · SST-2 · seed 0" == run_label(manifest(flops=flops))


def test_labels_are_all_different() -> None:
    """Twins end in their fingerprints."""
    found = run_labels([manifest(), manifest("sst2-ltp-9876543210"), manifest(seed=1)])
    assert 2 == len(found)
    twins = run_labels([manifest(), manifest("sst2-ltp-9876543210")])
    assert [" · 012345", " · 987654"] == [label[-9:] for label in twins.values()]


def test_the_only_twin_that_can_be_loaded_needs_no_fingerprint() -> None:
    """It is the one that selectors offer."""
    twins = [manifest(), manifest("sst2-ltp-9876543210")]
    found = run_labels(twins, with_weights={"sst2-ltp-0123456789"})
    assert ["seed 0", "987654"] == [label.split(" · ")[-1] for label in found.values()]
