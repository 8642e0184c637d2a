"""`runs`: what the stores hold, broken runs with the reason."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from ltp_core.cli.base import Command, Output, columns, percent

if TYPE_CHECKING:
    from ltp_core.store import RunEntry


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("--task", help="only those of this task")
    parser.add_argument("--method", help="only those of this method")


def run(arguments: Namespace) -> Output:
    """Lists the complete runs of all stores."""
    from ltp_core.store import list_runs

    document = [
        entry
        for entry in map(_document, list_runs())
        if arguments.task in (None, entry["task"]) and arguments.method in (None, entry["method"])
    ]
    rows = [_row(entry) for entry in document]
    header = ("run", "seed", "created", "validation", "relative FLOPs", "problem")
    return Output(document=document, text=columns(header, rows) if rows else "No run.")


def _document(entry: RunEntry) -> dict[str, Any]:
    manifest = entry.manifest
    known = ("task", "method", "seed", "created_at", "duration_s", "parent", "dense", "summary")
    return {
        "name": entry.name,
        **{field: getattr(manifest, field, None) for field in known},
        "problem": entry.problem,
    }


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    validation = (entry["summary"] or {}).get("validation") or {}
    headline = next(iter(validation.get("metrics", {}).values()), None)
    return (
        entry["name"],
        str(entry["seed"] if entry["seed"] is not None else "–"),
        (entry["created_at"] or "–")[:10],
        percent(headline),
        percent(validation.get("relative_flops", {}).get("paper")),
        entry["problem"] or "",
    )


COMMAND = Command(
    name="runs",
    summary="list the runs of the store",
    examples=("", "--task sst2 --method ltp --json"),
    add_arguments=add_arguments,
    run=run,
)
