"""The tables of the trade-off page: smallest FLOPs within one point, and every point."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from app.ltp_ui.shared.labels import base_label, task_label, training_label
from app.ltp_ui.shared.method_style import in_order, title_of
from app.ltp_ui.shared.wording import percent
from app.ltp_ui.shared.wording import points as in_points
from app.ltp_ui.tradeoff import data
from ltp_core.analysis.runs import CHOSEN_ON, REPORTED_ON, Row, rows, smallest_within
from ltp_core.analysis.tradeoff import PAPER_TABLE_1

PAPER_ROW = "LTP, paper: RoBERTa-base, Table 1"
NONE = "none within one point"


def chosen_points(found: pd.DataFrame, split: str = CHOSEN_ON) -> dict[tuple[str, str], Row]:
    """The cheapest point within one point of its dense counterpart, by comparable set and method."""
    chosen = rows(found[smallest_within(found, split=split)])
    return {(point.comparable, point.method): point for point in chosen}


def answer(found: pd.DataFrame) -> str:
    """What the rule says: of one task every method, in a sentence for each base; of several the cheapest one.

    Chosen on held-out rows; the FLOPs are those on validation. In INT8 only if all points are.
    """
    if found["task"].nunique() > 1:
        return _tasks_answer(found)
    found = found[found["is_int8"] == found["is_int8"].all()]
    task = task_label(str(found["task"].iloc[0]))
    bases = {str(base): mine for base, mine in found.groupby("base")}
    default_first = sorted(bases, key=lambda base: (base_label(base) != "", base))
    return " ".join(
        _answer(f"On {task}{f' with {label},' if (label := base_label(base)) else ''}", bases[base])
        for base in default_first
    )


def _tasks_answer(found: pd.DataFrame) -> str:
    costs = []
    for task, mine in found.groupby("task", sort=False):
        cheapest = next(iter(_cheapest(mine).values()), None)
        said = (
            f"{title_of(cheapest.method)} {percent(cheapest.paper_validation, 0)}"
            if cheapest
            else "none"
        )
        costs.append(f"{task_label(str(task))} {said}")
    return (
        "Fewest FLOPs within one point of the dense model, by task: "
        f"{', '.join(costs)} (chosen on held-out rows)."
    )


def _cheapest(found: pd.DataFrame) -> dict[str, Row]:
    """Of each method the cheapest point, whichever rows it learned from; the cheapest method first.

    Each is held against its own dense counterpart.
    """
    cheapest: dict[str, Row] = {}
    for point in sorted(chosen_points(found).values(), key=lambda point: point.paper_validation):
        cheapest.setdefault(point.method, point)
    return cheapest


def _answer(where: str, found: pd.DataFrame) -> str:
    cheapest = _cheapest(found)
    if not cheapest:
        return f"{where} no method stays within one point of its dense model on held-out rows."
    first, *others = cheapest.values()
    costs = [f"{title_of(each.method)} {percent(each.paper_validation, 0)}" for each in others]
    missing = [title_of(m) for m in in_order(set(found["method"]) - set(cheapest))]
    parts = [
        f"{where} {title_of(first.method)} needs {percent(first.paper_validation, 0)} of the FLOPs to stay "
        "within one point of its dense model",
        ", ".join(costs),
        f"{', '.join(missing)}: none" if missing else "",
    ]
    return f"{'; '.join(part for part in parts if part)} (chosen on held-out rows)."


def smallest_table(found: pd.DataFrame) -> pd.DataFrame:
    """One task: a line a method, what the rule chooses and what validation alone would."""
    chosen, lucky = chosen_points(found), chosen_points(found, REPORTED_ON)
    lines = []
    for _, mine in found.groupby("comparable", sort=False):
        title = training_label(rows(mine)[0])
        several = found["comparable"].nunique() > 1
        for method in in_order(mine["method"]):
            key = str(mine["comparable"].iloc[0]), method
            point, hindsight = chosen.get(key), lucky.get(key)
            lines.append(
                ({"trained on": title} if several else {})
                | {
                    "method": title_of(method),
                    "FLOPs within one point": NONE,
                    "difference on validation": "",
                    "held-out": "",
                    "in hindsight, by validation": NONE,
                }
                | (_chosen_cells(point) if point else {})
                | ({"in hindsight, by validation": _hindsight(hindsight)} if hindsight else {})
            )
    paper = PAPER_TABLE_1.get(str(found["task"].iloc[0]))
    if paper:
        cells = {
            "method": PAPER_ROW,
            "FLOPs within one point": percent(paper.relative_flops),
            "difference on validation": in_points(paper.difference),
        }
        lines.append(dict.fromkeys(lines[0], "") | cells)
    return pd.DataFrame(lines)


def _chosen_cells(point: Row) -> dict[str, str]:
    bounds = data.interval(point)
    shown = in_points(point.difference_validation)
    if bounds is not None:
        low, high = (f"{100 * x:+.1f}".replace("-", "−") for x in (bounds.low, bounds.high))
        shown = f"{shown} [{low}, {high}]"
    return {
        "FLOPs within one point": percent(point.paper_validation),
        "difference on validation": shown,
        "held-out": in_points(point.difference_heldout),
    }


def _hindsight(point: Row) -> str:
    return f"{percent(point.paper_validation)} ({in_points(point.difference_validation)})"


def tasks_table(found: pd.DataFrame) -> pd.DataFrame:
    """Several tasks: methods down, tasks across, relative FLOPs by the rule; the paper's line last."""
    chosen = chosen_points(found)
    sets = found.drop_duplicates("comparable")
    lines = []
    for method in in_order(found["method"]):
        line: dict[str, Any] = {"method": title_of(method)}
        for each in rows(sets):
            point = chosen.get((str(each.comparable), method))
            was_tried = (
                (found["comparable"] == each.comparable) & (found["method"] == method)
            ).any()
            missing = NONE if was_tried else "not trained"
            line[task_label(str(each.task))] = percent(point.paper_validation) if point else missing
        lines.append(line)
    paper = {task: PAPER_TABLE_1[task] for task in sets["task"] if task in PAPER_TABLE_1}
    if paper:
        cells = {task_label(t): percent(p.relative_flops) for t, p in paper.items()}
        lines.append(dict.fromkeys(lines[0], "not in the paper") | {"method": PAPER_ROW} | cells)
    return pd.DataFrame(lines)


def points_frame(found: pd.DataFrame, *, with_intervals: bool = True) -> pd.DataFrame:
    """One row a point, fractions; for tables and files."""
    frame = found.assign(
        training_rows=pd.to_numeric(found["training_rows"]),
        seeds=found["seeds"].map(lambda seeds: ", ".join(map(str, seeds))),
        runs=found["runs"].map(", ".join),
        dense=found["counterparts"].map(
            lambda names: ", ".join(dict.fromkeys(filter(None, names)))
        ),
        difference_low=math.nan,
        difference_high=math.nan,
    )
    if with_intervals:
        bounds = [data.interval(point) for point in rows(found)]
        for end in ("low", "high"):
            frame[f"difference_{end}"] = [getattr(each, end, math.nan) for each in bounds]
    return frame.rename(columns=_FILE_COLUMNS)[
        [_FILE_COLUMNS.get(name, name) for name in _FILE_ORDER]
    ].reset_index(drop=True)


_FILE_ORDER = (
    "task", "training_rows", "method", "metric_name", "metric_validation", "metric_validation_sd",
    "difference_validation", "difference_low", "difference_high", "paper_validation", "paper_validation_sd",
    "executed_validation", "difference_heldout", "seeds", "runs", "dense",
)  # fmt: skip
_FILE_COLUMNS = {
    "metric_validation": "metric",
    "metric_validation_sd": "metric_sd",
    "difference_validation": "difference",
    "paper_validation": "relative_flops_paper",
    "paper_validation_sd": "relative_flops_paper_sd",
    "executed_validation": "relative_flops_executed",
    "difference_heldout": "heldout_difference",
}
