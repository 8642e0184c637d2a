"""Figures of the shipped runs as they were frozen: what is shown of them does not change by accident.

`python -m tests.analysis.test_golden` freezes them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ltp_core import metrics, store
from tests import commands
from tests.source_trees import ROOT

FROZEN = ROOT / "tests" / "golden" / "analysis.json"
NUM_RESAMPLES = 10
"""Of the bootstraps; the stream of random numbers is part of what is frozen."""

ROBUSTNESS = ("imdb", "mrpc", "qqp", "rotten_tomatoes", "squad_v2", "sst2")


def figures() -> dict[str, Any]:
    """What `tradeoff` and `robustness` say, numbers rounded."""
    commands_run = {"tradeoff": ["tradeoff", "--json"]} | {
        task: ["robustness", task, "--json"] for task in ROBUSTNESS
    }
    found: dict[str, Any] = {}
    for name, argv in commands_run.items():
        ran = commands.run(*argv)
        assert ran.status == 0, ran.stderr
        found[name] = rounded(json.loads(ran.stdout))
    return found


def rounded(value: Any) -> Any:
    """The same with six decimals."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    if isinstance(value, list):
        return [rounded(each) for each in value]
    return round(value, 6) if isinstance(value, float) else value


def freeze(patch: pytest.MonkeyPatch, known: set[str] | None) -> dict[str, Any]:
    """The figures of the shipped runs of these names, with quick bootstraps."""
    shipped = [
        entry
        for entry in store.list_runs([ROOT / "data_cache" / "sample"])
        if known is None or entry.name in known
    ]
    patch.setattr(store, "list_runs", lambda *_, **__: shipped)
    quick = metrics.paired_interval

    def paired_interval(*arguments: Any, **options: Any) -> tuple[float, float, float]:
        return quick(*arguments, **options | {"num_resamples": NUM_RESAMPLES})

    for module in ("tradeoff", "bands"):
        patch.setattr(f"ltp_core.analysis.{module}.paired_interval", paired_interval)
    return {"runs": sorted(entry.name for entry in shipped)} | figures()


def test_figures_of_the_shipped_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every point, difference, interval and choice, to six decimals; runs that came later are left out."""
    frozen = json.loads(FROZEN.read_text(encoding="utf-8"))
    found = freeze(monkeypatch, set(frozen["runs"]))
    assert frozen["runs"] == found["runs"], "a shipped run is gone: freeze anew"
    assert same(frozen, found), "look at both and, if the new ones are right, freeze anew"


def same(a: Any, b: Any) -> bool:
    """Equal but for the last decimal."""
    if isinstance(a, float) and isinstance(b, float | int):
        return abs(a - b) < 2e-6
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return bool(a == b)


def main(place: Path = FROZEN) -> None:
    """Writes the file, one line a record."""
    with pytest.MonkeyPatch.context() as patch:
        found = freeze(patch, None)
    lines = json.dumps(found, separators=(",", ":")).replace('{"method"', '\n{"method"')
    place.write_text(lines.replace('{"run"', '\n{"run"') + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
