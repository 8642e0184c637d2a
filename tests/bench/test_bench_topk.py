"""Top-k against threshold (Figure A.1): both keep the same tokens; the document is complete."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.bench import results
from ltp_core.bench.settings import BenchSettings
from ltp_core.bench.topk import (
    SELECTIONS,
    _operations,
    bench_topk,
    select_by_threshold,
    select_by_topk,
)


def small(**changes: Any) -> BenchSettings:
    """A benchmark that is over at once."""
    fields: dict[str, Any] = {
        "what": "topk",
        "batch_sizes": (2,),
        "lengths": (8, 16),
        "retain_ratios": (0.25, 0.5),
        "repeats": 2,
    }
    return BenchSettings(**{**fields, **changes})


@given(st.integers(1, 4), st.integers(2, 40), st.data())
def test_both_ways_keep_the_same_tokens(batch: int, length: int, data: st.DataObject) -> None:
    """With the threshold just below the k-th best score, top-k and comparison agree."""
    score = torch.stack([torch.randperm(length).float() for _ in range(batch)])
    k = data.draw(st.integers(1, length))
    threshold = torch.tensor(length - k - 0.5)
    by_threshold = select_by_threshold(score, threshold)
    assert torch.equal(by_threshold, select_by_topk(score, k))
    assert [k] * batch == by_threshold.sum(dim=1).tolist()


def test_what_is_timed_selects_the_ratio() -> None:
    """The threshold of the benchmark lets about the wanted share pass; top-k exactly."""
    made = _operations(batch_size=32, length=512, retain_ratio=0.25, device=torch.device("cpu"))
    assert set(SELECTIONS) == set(made)
    assert 0.25 == pytest.approx(float(made["threshold"]().float().mean()), abs=0.02)
    assert (32, 128) == tuple(made["topk"]().shape)
    assert 0.25 == float(made["topk_mask"]().float().mean())


def test_document(tmp_path: Path) -> None:
    """Every selection at every length and ratio, the threshold with a ratio of one."""
    found = bench_topk(small(), store=tmp_path)
    places = {(line["length"], line["retain_ratio"]) for line in found["results"]}
    assert places == {(8, 0.25), (8, 0.5), (16, 0.25), (16, 0.5)}
    assert 4 * len(SELECTIONS) == len(found["results"])
    for line in found["results"]:
        assert line["time_us"] > 0
        if line["contender"] == "threshold":
            assert 1.0 == line["slowdown"]
    (entry,) = results.list_benches([tmp_path])
    assert entry.document == found


def test_a_time_limit_is_kept() -> None:
    """One place is measured, the others are named."""
    found = bench_topk(small(seconds=1e-9))
    assert {(8, 0.25)} == {(line["length"], line["retain_ratio"]) for line in found["results"]}
    assert 3 == len(found["skipped"])


def test_a_stopped_one_goes_on(tmp_path: Path) -> None:
    """What was measured is not measured again."""
    events: list[str] = []

    def stop(event: str, fields: dict[str, Any]) -> None:
        if event == "point":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench_topk(small(), store=tmp_path, report=stop)
    bench_topk(small(), store=tmp_path, report=lambda event, fields: events.append(event))
    assert ["plan", *["point"] * 3] == events
    assert 1 == len(results.list_benches([tmp_path]))
