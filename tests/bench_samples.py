"""Hand-made benchmarks with every figure, for the page that shows them; nothing is measured."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from ltp_core.bench.results import DOCUMENT
from ltp_core.bench.variants import VARIANTS

CHECKPOINT = "sst2-ltp-00000000aa"
SHALLOW = "sst2-shallow-00000000aa"
SPEEDS = {
    "packed": (2.6, 2.2),
    "packed_unpruned": (1.5, 1.0),
    "repadded": (1.9, 1.4),
    "masked": (0.95, 0.7),
    "hugging_face": (1.0, 0.7),
    "hugging_face_sorted": (1.5, 0.95),
    SHALLOW: (2.3, 2.0),
}
"""Throughput relative to Hugging Face, and promised speedup over the packed control."""


def throughput(*, batch_sizes: tuple[int, ...] = (1, 8, 32), **changes: Any) -> dict[str, Any]:
    """Speed by batch size at the data's own lengths."""
    lines = [
        _line(name, size, None, 200.0 + 10 * size)
        for size, name in itertools.product(batch_sizes, SPEEDS)
    ]
    return _document("throughput", lines, **changes)


def scaling(**changes: Any) -> dict[str, Any]:
    """Time by length."""
    names = ("packed", "packed_unpruned", "hugging_face")
    lines = [
        _line(name, 8, length, 12_000 / length)
        for length, name in itertools.product((32, 64, 128, 256, 512), names)
    ]
    return _document("scaling", lines, **changes)


def topk(**changes: Any) -> dict[str, Any]:
    """Selections by length and retain ratio."""
    lines = []
    for length, ratio in itertools.product((128, 256, 512, 1024), (0.1, 0.3, 0.5)):
        for name, slowdown in (("threshold", 1.0), ("topk", 10 * ratio * length / 128)):
            time_us = 0.1 * length * slowdown
            lines.append(
                {
                    "batch_size": 32,
                    "length": length,
                    "retain_ratio": ratio,
                    "contender": name,
                    "rounds": 5,
                    **_spread("time_us", time_us),
                    **_spread("slowdown", slowdown),
                }
            )
    found = _document("topk", lines, **changes)
    found["contenders"] = {
        name: {"title": name, "meaning": "a selection"} for name in ("threshold", "topk")
    }
    return found


def save(store: Path, document: dict[str, Any], name: str) -> None:
    """Puts a document into a store."""
    path = store / "benches" / name / DOCUMENT
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**document, "name": name}), encoding="utf-8")


def save_all(store: Path) -> Path:
    """One of each kind, and one of another machine."""
    save(store, throughput(), "throughput-a")
    other = throughput(created_at="2036-01-01T00:00:00+00:00")
    other["environment"] = {"processor": "Another <b>processor</b>", "threads": 8}
    save(store, other, "throughput-b")
    save(store, scaling(), "scaling-a")
    save(store, topk(), "topk-a")
    return store


def _line(name: str, batch_size: int, length: int | None, speed: float) -> dict[str, Any]:
    relative, promised = SPEEDS[name]
    grown = 1 + (relative - 1) * min(1.0, batch_size / 16)
    speedup = grown / (1 + 0.5 * min(1.0, batch_size / 16))
    return {
        "batch_size": batch_size,
        "length": length,
        "contender": name,
        "rounds": 5,
        "sequences": 256,
        "mean_length": float(length or 26.5),
        **_spread("sequences_per_s", speed * grown),
        "flops_per_sequence": 1e7 * (length or 26.5) / promised,
        "flops_per_s": 2e10,
        **_spread("relative_to_sorted", grown / 1.2),
        **_spread("relative_throughput", grown),
        "theoretical_relative_throughput": promised * 1.3,
        **_spread("speedup", speedup),
        "theoretical_speedup": promised,
        **_spread("realised_share", speedup / promised),
    }


def _spread(name: str, value: float) -> dict[str, float]:
    return {name: value, f"{name}_q1": 0.96 * value, f"{name}_q3": 1.03 * value}


def _document(what: str, lines: list[dict[str, Any]], **changes: Any) -> dict[str, Any]:
    names = dict.fromkeys(line["contender"] for line in lines)
    whole: dict[str, Any] = {
        "format_version": 1,
        "name": what,
        "what": what,
        "checkpoint": None if what == "topk" else CHECKPOINT,
        "task": None if what == "topk" else "sst2",
        "texts": None if what == "topk" else "a Parquet folder",
        "settings": {"split": "validation", "dtype": "float32", "batch_sizes": [1, 8, 32]},
        "environment": {"processor": "A processor", "threads": 2, "device": "cpu"},
        "git": {"commit": None, "dirty": None},
        "created_at": "2036-02-03T10:00:00+00:00",
        "measured_s": 12.0,
        "noise": {
            "identical_work_spread": 0.02,
            "repeats": 20,
            "load_average": 0.1,
            "matmul_flops_per_s": 4e10,
            "warning": None,
        },
        "contenders": {name: _who(name) for name in names},
        "skipped": [],
        "results": lines,
    }
    return {**whole, **changes}


def _who(name: str) -> dict[str, Any]:
    known = VARIANTS.get(name)
    method = "shallow" if name == SHALLOW else "ltp"
    return {
        "title": known.title if known else name,
        "meaning": known.meaning if known else "another checkpoint: packed runner",
        "checkpoint": name if known is None else CHECKPOINT,
        "method": method if known is None or known.is_pruned else "unpruned",
        "control": None if known is not None and not known.is_pruned else "packed_unpruned",
        "metric": {"name": "accuracy", "value": 0.88} if known is None else None,
    }
