"""Files that a benchmark can be taken away as."""

from __future__ import annotations

from app.ltp_ui.shared.export import csv
from app.ltp_ui.throughput.data import Bench, table
from ltp_core.bench.results import results_frame
from ltp_core.files import json_text


def bench_json(bench: Bench) -> bytes:
    """The stored document: as `bench.json` it can be added on another machine's page."""
    return json_text(bench.document).encode()


def bench_csv(bench: Bench) -> bytes:
    """The results, one line a measurement, without columns that are empty."""
    frame = table(results_frame(bench.document)).drop(columns="place")
    return csv(frame.dropna(axis="columns", how="all"))
