"""What the project's own runs and checkpoints answered when they were stored.

`python -m tests.test_golden` writes `tests/golden/` anew, after a change of an answer that is meant.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.checkpoint_places import PRUNING_FILE, list_checkpoints
from ltp_core.config import from_dict
from ltp_core.evaluate import evaluate_checkpoint
from ltp_core.files import write_json
from ltp_core.tasks.catalogue import find_task
from ltp_core.trace import trace_text

GOLDEN = Path(__file__).parent / "golden"
SAMPLE = Path(__file__).resolve().parent.parent / "data_cache" / "sample"
RUNS = sorted(path.name for path in (SAMPLE / "runs").iterdir())
CHECKPOINTS = sorted(path.stem for path in GOLDEN.glob("*-*.json"))

TEXT = "Slow at first, but a charming and often affecting journey that nobody should miss."
QUESTION = "Who should not miss it?"
EVALUATED, ROWS = "rotten_tomatoes-ltp-50115d8459", 200


@pytest.fixture(autouse=True)
def _own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The sample alone is read."""
    monkeypatch.setenv(store.STORE_VARIABLE, str(tmp_path))


def test_the_settings_of_every_stored_run_give_its_name() -> None:
    """Whatever becomes a setting or a default later: no stored run loses its identity."""
    for name in RUNS:
        manifest = store.read_manifest(SAMPLE / "runs" / name)
        config = from_dict(manifest.config)
        found = (manifest.name, config.name, config.fingerprint)
        assert (name, name, manifest.fingerprint) == found


def test_every_shipped_checkpoint_has_a_golden_trace() -> None:
    """A new one is written down too."""
    assert [info.name for info in list_checkpoints()] == CHECKPOINTS


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_a_shipped_checkpoint_answers_as_it_did(name: str) -> None:
    """The kept tokens of every layer exactly, numbers to 1e-4.

    In INT8 a sum that another processor takes in another order may round to the next whole number, and
    that to others: there logits to 0.1, and few tokens otherwise kept, which cost a few FLOPs.
    """
    expected, found = json.loads((GOLDEN / f"{name}.json").read_bytes()), _trace(name)
    assert found.keys() == expected.keys()
    is_int8 = "int8" in json.loads((SAMPLE / "runs" / name / PRUNING_FILE).read_bytes())
    near, follows = 1e-4, dict[str, float]()
    if is_int8:
        near, follows = 1e-2, {"logits": 0.1, "unpruned_logits": 0.1, "relative_flops": 0.05}
        marks = list(zip("".join(found["retained"]), "".join(expected["retained"]), strict=True))
        assert sum(a != b for a, b in marks) <= len(marks) / 20
        found["retained"] = expected["retained"]
    for key, value in expected.items():
        is_measured = key in {"logits", "unpruned_logits", "relative_flops", "thresholds", "scores"}
        wanted = (
            pytest.approx(value, abs=follows.get(key, near), rel=near) if is_measured else value
        )
        assert found[key] == wanted, key


def test_a_shipped_checkpoint_is_as_good_as_it_was() -> None:
    """Metrics, cost and kept tokens over rows of its validation split."""
    expected, found = json.loads((GOLDEN / "evaluation.json").read_bytes()), _evaluation()
    assert found.pop("dataset") == expected.pop("dataset")
    assert found.pop("metrics") == pytest.approx(expected.pop("metrics"))
    assert found.pop("relative_flops") == pytest.approx(expected.pop("relative_flops"), rel=1e-4)
    assert found == {"mean_retained": pytest.approx(expected["mean_retained"], rel=1e-4)}


def _trace(name: str) -> dict[str, Any]:
    """A trace; of each layer, `1` marks the tokens that go on."""
    model = load_checkpoint(str(SAMPLE / "runs" / name))
    assert model.task is not None
    # A question and its context, or a pair; one text for the others.
    first, second = (QUESTION, TEXT) if find_task(model.task).is_pair else (TEXT, None)
    trace = trace_text(model, first, second)
    assert trace.unpruned is not None
    return {
        "tokens": list(trace.tokens),
        "retained": ["".join("01"[kept] for kept in layer.retained) for layer in trace.layers],
        "thresholds": [t for layer in trace.layers if (t := layer.threshold) is not None],
        "scores": [score for score in trace.layers[0].score if score is not None],
        "label": trace.label,
        "logits": list(trace.logits),
        "unpruned_label": trace.unpruned.label,
        "unpruned_logits": list(trace.unpruned.logits),
        "relative_flops": trace.relative_flops,
    }


def _evaluation() -> dict[str, Any]:
    model = load_checkpoint(str(SAMPLE / "runs" / EVALUATED))
    found = evaluate_checkpoint(model, split="validation", limit=ROWS)
    return {
        "dataset": found.dataset,
        "metrics": found.metrics,
        "relative_flops": found.relative_flops,
        "mean_retained": list(found.mean_retained),
    }


if __name__ == "__main__":
    for name in CHECKPOINTS:
        (GOLDEN / f"{name}.json").unlink()
    for info in list_checkpoints():
        write_json(GOLDEN / f"{info.name}.json", _trace(info.name))
    write_json(GOLDEN / "evaluation.json", _evaluation())
