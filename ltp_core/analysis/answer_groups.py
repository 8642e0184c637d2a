"""F1 of questions with and without an answer, point by point: the paper's Figure 5. Torch-free."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ltp_core.analysis.recipes import recipe_of
from ltp_core.analysis.tradeoff import REPORTED_ON, UNPRUNED, Point, StoredRun, dominated
from ltp_core.analysis.tradeoff_axes import read_split
from ltp_core.records import RunManifest

GROUPS = {"f1": "all", "has_answer_f1": "has answer", "no_answer_f1": "no answer"}
"""Metrics of a run and the questions that they are means over."""


@dataclass(frozen=True, kw_only=True)
class GroupPoint:
    """F1 of a group of questions at an operating point.

    Attributes:
        method: Name of the pruning method; "unpruned" for the dense counterpart.
        recipe: Equal for points that have the same dense counterpart, and for that one.
        group: One of the values of `GROUPS`.
        relative_flops: In the paper's accounting, mean over seeds.
        f1: Mean over seeds.
        difference: The same minus that of the dense counterparts; None where they are not known.
    """

    method: str
    recipe: str
    group: str
    relative_flops: float
    f1: float
    difference: float | None


def group_points(points: Sequence[Point]) -> list[GroupPoint]:
    """Operating points and their dense counterparts by group; empty where no run has groups.

    Points that another one of their method beats on held-out rows are left out.
    """
    beaten = dominated(points)
    found = [each for point in points if point.key not in beaten for each in _of_point(point)]
    recipes: dict[str, dict[str, StoredRun]] = {}
    for point in points if found else ():
        runs = {run.name: run for run in point.dense.values()}
        recipes.setdefault(recipe_of(point), {}).update(runs)
    return found + [
        each for recipe, dense in recipes.items() for each in _of_dense(recipe, dense.values())
    ]


def _of_dense(recipe: str, dense: Iterable[StoredRun]) -> list[GroupPoint]:
    runs = list(dense)
    return [
        GroupPoint(
            method=UNPRUNED, recipe=recipe, group=group, relative_flops=1.0, f1=f1, difference=0.0
        )
        for name, group in GROUPS.items()
        if (f1 := _mean([_metric(run, name) for run in runs])) is not None
    ]


def _of_point(point: Point) -> list[GroupPoint]:
    flops = point.relative_flops("paper")
    if flops is None or not all("has_answer_f1" in _metrics(run.manifest) for run in point.runs):
        return []
    points = []
    for name, group in GROUPS.items():
        f1 = _mean([_metric(run, name) for run in point.runs])
        pairs = [(_metric(a, name), _metric(b, name)) for a, b in point.pairs()]
        gaps = [a - b for a, b in pairs if a is not None and b is not None]
        if f1 is not None:
            points.append(
                GroupPoint(
                    method=point.method,
                    recipe=recipe_of(point),
                    group=group,
                    relative_flops=flops.mean,
                    f1=f1,
                    difference=statistics.fmean(gaps) if gaps else None,
                )
            )
    return points


def f1_by_group(manifest: RunManifest) -> dict[str, float]:
    """F1 of a run on validation, by group; empty where it was not measured on both kinds."""
    found = _metrics(manifest)
    if not {"has_answer_f1", "no_answer_f1"} <= set(found):
        return {}
    return {group: float(found[name]) for name, group in GROUPS.items() if name in found}


def share_unanswerable(run: StoredRun) -> float:
    """The share of validation questions that have no answer: the F1 of never answering.

    Raises:
        StoreError: The run's records are absent or damaged.
    """
    return float((read_split(run.folder, "examples", REPORTED_ON)["label"] == 0).mean())


def _metrics(manifest: RunManifest) -> dict[str, float]:
    reported = manifest.summary.get(REPORTED_ON)
    found = reported.get("metrics") if isinstance(reported, dict) else None
    return found if isinstance(found, dict) else {}


def _metric(run: StoredRun, name: str) -> float | None:
    value = _metrics(run.manifest).get(name)
    return None if value is None else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None
