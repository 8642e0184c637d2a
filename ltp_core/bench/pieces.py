"""A benchmark piece by piece: saved after each, within a time limit, and put together at the end."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from ltp_core.bench.measure import Probe, Report
from ltp_core.bench.results import Session
from ltp_core.bench.settings import BenchSettings

Place = dict[str, Any]
"""Batch size, length and so on: what a piece is measured at."""

Measure = Callable[[Place, float | None], dict[str, Any]]
"""Takes a place and the seconds that it may take (None: as many as it needs); gives `results` and `rounds`."""


def measure_pieces(
    places: Sequence[Place],
    measure: Measure,
    *,
    settings: BenchSettings,
    variants: dict[str, dict[str, Any]],
    session: Session,
    report: Report,
) -> list[Place]:
    """Measures every place that is not measured yet, and saves each at once.

    What is left of the time limit is divided among the places that are left; the first of all is
    always measured.

    Returns:
        The places that the time limit left out.
    """
    left = [
        place
        for place in places
        if not any(place.items() <= piece.items() for piece in session.done)
    ]
    turns = len(left) * settings.repeats * len(variants)
    measured = {"results": results_of(session), "turns": turns}
    report("plan", {"what": settings.what, "contenders": variants, **measured})
    began = time.monotonic()
    for number, place in enumerate(left):
        budget = None
        if settings.seconds is not None:
            rest = settings.seconds - (time.monotonic() - began)
            if rest <= 0 and session.done:
                return left[number:]
            budget = rest / (len(left) - number)
        piece = measure(place, budget)
        session.save({**place, **piece})
        turns = (number + 1) * settings.repeats * len(variants)
        report("point", {"results": piece["results"], "done": turns})
    return []


def results_of(session: Session) -> list[dict[str, Any]]:
    """Lines of all finished pieces."""
    return [line for piece in session.done for line in piece["results"]]


def finish(
    facts: dict[str, Any],
    *,
    variants: dict[str, dict[str, Any]],
    session: Session,
    probe: Probe,
    skipped: list[Place],
) -> dict[str, Any]:
    """Puts the document together and stores it."""
    document = {
        **facts,
        "name": session.folder.name if session.folder else None,
        "created_at": session.created_at,
        "measured_s": sum(line["seconds"] for piece in session.done for line in piece["rounds"]),
        "noise": probe.noise().to_json(),
        "contenders": variants,
        "skipped": skipped,
        "results": results_of(session),
    }
    session.finish(document)
    return document
