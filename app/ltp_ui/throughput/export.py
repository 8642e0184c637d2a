"""Files that a benchmark can be taken away as."""

from __future__ import annotations

import io

from app.ltp_ui.throughput.data import Bench
from ltp_core.files import json_text


def bench_json(bench: Bench) -> bytes:
    """The stored document: as `bench.json` it can be added on another machine's page."""
    return json_text(bench.document).encode()


def bench_csv(bench: Bench) -> bytes:
    """The results, one line a measurement, without columns that are empty."""
    frame = bench.frame.drop(columns="place").dropna(axis="columns", how="all")
    # A spreadsheet would take such a name for a formula.
    frame["contender"] = [f"'{n}" if n[:1] in "=+-@\t\r" else n for n in frame["contender"]]
    buffer = io.StringIO()
    frame.to_csv(buffer, index=False, lineterminator="\n")
    return buffer.getvalue().encode()
