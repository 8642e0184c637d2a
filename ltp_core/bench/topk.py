"""Selection by top-k against comparison with a threshold, the operation alone (Figure A.1).

Both get the scores of a batch and say which tokens stay. A comparison reads each score once and does
not care how many pass; top-k has to find the k greatest of each sequence.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ltp_core.bench.document import card
from ltp_core.bench.measure import Probe, Report, seconds_of, spread, take_turns, using_threads
from ltp_core.bench.pieces import Place, finish, measure_pieces
from ltp_core.bench.results import open_session
from ltp_core.bench.settings import BenchSettings

SELECTIONS = {
    "threshold": {
        "title": "threshold",
        "meaning": "score > threshold: a mask of the tokens that stay",
    },
    "topk": {"title": "top-k", "meaning": "torch.topk: positions of the k best tokens"},
    "topk_mask": {
        "title": "top-k as a mask",
        "meaning": "torch.topk and a scatter: the same mask as the threshold gives",
    },
}

TURN_S = 0.02
"""Time of one variant's turn, which repeats the operation often enough to fill it."""

PROBE_SHAPE = (384, 1536)


def bench_topk(
    settings: BenchSettings,
    *,
    store: Path | None = None,
    report: Report = lambda event, fields: None,
) -> dict[str, Any]:
    """Measures the selections by batch size, sequence length and retain ratio.

    Args:
        settings: What to measure; `what` is `topk`.
        store: Folder to keep the result in; None keeps nothing.
        report: Told what is going on, as in `throughput.bench`.

    Returns:
        The document that `data_cache/README.md` describes.
    """
    device = torch.device(settings.device)
    places = [
        {"batch_size": size, "length": length, "retain_ratio": ratio}
        for size, length in settings.points
        for ratio in settings.retain_ratios
    ]
    facts = card(settings, task=None, texts=None, device=settings.device)
    with using_threads(settings.threads), open_session(facts, store) as session:
        probe = Probe(*PROBE_SHAPE, device, torch.float32)

        def measure(place: Place, budget: float | None) -> dict[str, Any]:
            return _measure(place, settings.repeats, device, probe, budget)

        skipped = measure_pieces(
            places,
            measure,
            settings=settings,
            variants=SELECTIONS,
            session=session,
            report=report,
        )
        return finish(facts, variants=SELECTIONS, session=session, probe=probe, skipped=skipped)


def select_by_threshold(
    score: Float[Tensor, "batch seq"], threshold: Float[Tensor, ""]
) -> Bool[Tensor, "batch seq"]:
    """Tokens above the threshold."""
    return score > threshold


def select_by_topk(score: Float[Tensor, "batch seq"], k: int) -> Bool[Tensor, "batch seq"]:
    """The k best tokens of each sequence."""
    mask = torch.zeros_like(score, dtype=torch.bool)
    return mask.scatter_(1, score.topk(k, dim=1).indices, True)


def _measure(
    place: Place, repeats: int, device: torch.device, probe: Probe, budget: float | None
) -> dict[str, Any]:
    operations = _operations(**place, device=device)
    calls = {name: _calls(operation, device) for name, operation in operations.items()}

    def turn(name: str) -> Callable[[int], None]:
        def run(number: int) -> None:
            del number
            for _ in range(calls[name]):
                operations[name]()

        return run

    taken = take_turns(
        {name: turn(name) for name in operations},
        repeats,
        device,
        until=None if budget is None else time.monotonic() + budget,
        on_turn=lambda name, seconds: None,
        between=probe,
    )
    each = {name: np.array(seconds) / calls[name] for name, seconds in taken.items()}
    return {
        "results": [
            {
                **place,
                "contender": name,
                "rounds": len(times),
                **spread("time_us", 1e6 * times),
                **spread("slowdown", times / each["threshold"]),
            }
            for name, times in each.items()
        ],
        "rounds": [
            {
                **place,
                "contender": name,
                "round": number,
                "seconds": seconds,
                "sequences": place["batch_size"] * calls[name],
            }
            for name, times in taken.items()
            for number, seconds in enumerate(times)
        ],
    }


@torch.inference_mode()
def _operations(
    *, batch_size: int, length: int, retain_ratio: float, device: torch.device
) -> dict[str, Callable[[], Tensor]]:
    """The selections on the same scores, whose threshold lets the same share of tokens pass."""
    k = max(1, round(retain_ratio * length))
    generator = torch.Generator().manual_seed(length)
    score = torch.rand(batch_size, length, generator=generator).to(device)
    threshold = torch.tensor(1 - retain_ratio, device=device)  # scores are uniform
    return {
        "threshold": lambda: select_by_threshold(score, threshold),
        "topk": lambda: score.topk(k, dim=1).indices,
        "topk_mask": lambda: select_by_topk(score, k),
    }


def _calls(operation: Callable[[], Tensor], device: torch.device) -> int:
    """Calls that take about `TURN_S`."""
    seconds_of(operation, device)
    few = 10
    seconds = seconds_of(lambda: [operation() for _ in range(few)], device)
    return max(1, min(100_000, int(TURN_S * few / max(seconds, 1e-7))))
