"""What a benchmark's document says besides its figures: enough to repeat it, nothing private."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from ltp_core import environment, store
from ltp_core.bench.answers import is_as_stored
from ltp_core.bench.engines import Entry
from ltp_core.bench.results import FORMAT_VERSION
from ltp_core.bench.settings import BenchSettings
from ltp_core.bench.variants import ENGINES, VARIANTS, own_control
from ltp_core.records import UserError


def card(
    settings: BenchSettings, *, task: str | None, texts: str | None, device: str
) -> dict[str, Any]:
    """Settings and environment, which a stopped benchmark is recognised by."""
    optional = {
        name for key in settings.variants for name in ENGINES[VARIANTS[key].engine].packages
    }
    versions = environment.packages() | {name: version(name) for name in sorted(optional)}
    return {
        "format_version": FORMAT_VERSION,
        "what": settings.what,
        "checkpoint": settings.checkpoint,
        "task": task,
        "texts": texts,
        "settings": settings.to_json(),
        "environment": environment.hardware(device) | {"packages": versions},
        "git": environment.git_state(),
    }


def describe_variants(entries: Sequence[Entry]) -> dict[str, dict[str, Any]]:
    """By name: title, meaning, method, control, and how good its answers are as far as its run says."""
    return {
        entry.name: {
            "title": entry.title,
            "meaning": entry.meaning,
            "checkpoint": entry.model.name,
            "method": entry.method.name,
            "control": own_control(entry.variant, [each.name for each in entries]),
            "metric": _headline(entry),
        }
        for entry in entries
    }


def _headline(entry: Entry) -> dict[str, Any] | None:
    """Name and value of the first metric on validation; None where nothing pruned or unknown.

    A variant that does not prune computes with the checkpoint's weights, pruning switched off, and
    others compute in coarser numbers: the run has no figure of that.
    """
    if not entry.variant.is_pruned or not is_as_stored(entry):
        return None
    try:
        manifest = store.read_manifest(store.find_run(entry.model.name))
        name, value = next(iter(manifest.summary["validation"]["metrics"].items()))
    except (UserError, KeyError, TypeError, StopIteration, AttributeError):
        return None
    return {"name": name, "value": value}
