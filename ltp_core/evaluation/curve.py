"""The cheap curve: a trained checkpoint at several strengths of pruning, nothing retrained."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ltp_core import environment, store
from ltp_core.evaluation.evaluate import evaluate_checkpoint
from ltp_core.inference import Evaluation
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel


@dataclass(frozen=True, kw_only=True)
class CurvePoint:
    """A checkpoint at one strength.

    Attributes:
        factor: What its strength is multiplied by: 1 as trained, 0 nothing pruned.
        evaluation: What it is worth and costs there.
    """

    factor: float
    evaluation: Evaluation


def measure_curve(
    model: PrunedModel,
    factors: Sequence[float],
    evaluate: Callable[..., Evaluation] = evaluate_checkpoint,
) -> list[CurvePoint]:
    """Evaluates a checkpoint at each strength, weakest first.

    Args:
        model: Loaded checkpoint.
        factors: What its strength is multiplied by: the thresholds of a threshold method, or what
            `PruningMethod.scaled` of another one changes.
        evaluate: `evaluate_checkpoint` with its other arguments filled in.

    Raises:
        UserError: The method cannot be scaled, or the evaluation is not possible.
    """
    points = []
    for factor in sorted(set(factors)):
        method = model.method.scaled(factor)
        if method is None:
            raise UserError(
                f"{model.name} prunes by {model.method.name}, which cannot prune more or less without "
                "being trained again: leave --scales out."
            )
        points.append(CurvePoint(factor=factor, evaluation=evaluate(model, method=method)))
    return points


def save_curve(folder: Path, points: Sequence[CurvePoint], *, device: str) -> None:
    """Adds the table `curve` to a complete run; earlier points of the same split are replaced.

    The manifest is written last; until then the run stays what it was. Where and when the curve was
    measured stands in the manifest's summary, under `curve`.

    Raises:
        StoreError: The folder is no complete run, or the disk does not take the table.
    """
    with store.lock_run(folder):
        manifest = store.read_manifest(folder)
        frame = pd.DataFrame([_row(point) for point in points])
        earlier = _earlier(folder, set(frame["split"]))
        frames = [part for part in (earlier, frame) if not part.empty]
        store.write_table(folder, "curve", pd.concat(frames, ignore_index=True))
        measured = dict(manifest.summary.get("curve") or {})
        measured |= {split: _provenance(device) for split in sorted(set(frame["split"]))}
        store.finish_run(folder, replace(manifest, summary={**manifest.summary, "curve": measured}))


def _row(point: CurvePoint) -> dict[str, Any]:
    found = point.evaluation
    return {
        "split": found.split,
        "factor": point.factor,
        "rows": found.rows,
        "metric": next(iter(found.metrics.values())),
        **{f"relative_flops_{name}": value for name, value in found.relative_flops.items()},
    }


def _earlier(folder: Path, replaced: set[str]) -> pd.DataFrame:
    if not (folder / "curve.parquet").exists():
        return pd.DataFrame()
    frame = store.read_table(folder, "curve")
    return frame[~frame["split"].isin(replaced)]


def _provenance(device: str) -> dict[str, Any]:
    return {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": environment.git_state(),
        "hardware": environment.hardware(device),
    }
