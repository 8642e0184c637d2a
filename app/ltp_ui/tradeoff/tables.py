"""The tables of the trade-off page: smallest FLOPs within one point, and every point."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

import pandas as pd

from app.ltp_ui.shared.method_style import in_order, title_of
from app.ltp_ui.shared.wording import percent
from app.ltp_ui.tradeoff import data
from ltp_core.analysis.tradeoff import CHOSEN_ON, Experiment, Point, smallest_within
from ltp_core.analysis.tradeoff_axes import PAPER_TABLE_1

PAPER_ROW = "paper, Table 1: LTP on RoBERTa-base"
MEAN = "mean"
NONE = "none"

Chosen = dict[tuple[Experiment, str], Point | None]


def rows_of(experiment: Experiment) -> str:
    """What was trained on, in a few words."""
    text = "training rows" if experiment.rows is None else f"{experiment.rows:,} training rows"
    if experiment.takes_all:
        text = f"all {text}"
    if experiment.max_train_length is not None:
        text += f" of at most {experiment.max_train_length} tokens"
    return text if experiment.adapter == "lora" else f"{text}, all weights trained"


def choose(found: Sequence[Point], shown: Sequence[Experiment]) -> Chosen:
    """The cheapest good point of each method, in the experiments that are shown."""
    return smallest_within([point for point in found if point.experiment in shown])


def smallest_table(chosen: Chosen, shown: Sequence[Experiment]) -> pd.DataFrame:
    """Methods down, tasks across, relative FLOPs on validation; the paper's line last."""
    methods = in_order(method for _, method in chosen)
    rows = [_row(title_of(m), [_cell(chosen, e, m) for e in shown], shown) for m in methods]
    paper = [PAPER_TABLE_1.get(experiment.task) for experiment in shown]
    if any(paper):
        cells = ["–" if each is None else each.relative_flops for each in paper]
        rows.append(_row(PAPER_ROW, cells, shown))
    return pd.DataFrame(rows)


def _cell(chosen: Chosen, experiment: Experiment, method: str) -> float | str:
    if (experiment, method) not in chosen:
        return "–"
    point = chosen[experiment, method]
    spread = None if point is None else point.relative_flops("paper")
    return NONE if spread is None else spread.mean


def _row(title: str, cells: Sequence[float | str], shown: Sequence[Experiment]) -> dict[str, str]:
    """Texts for the screen, and the mean over tasks where every task has a figure."""
    is_one_task = len({experiment.task for experiment in shown}) == 1
    names = [rows_of(e) if is_one_task and len(shown) > 1 else e.task for e in shown]
    row = {"method": title} | {
        name: cell if isinstance(cell, str) else percent(cell)
        for name, cell in zip(names, cells, strict=True)
    }
    figures = [cell for cell in cells if not isinstance(cell, str)]
    if not is_one_task:
        row[MEAN] = percent(statistics.fmean(figures)) if len(figures) == len(shown) else "–"
    return row


def chosen_frame(chosen: Chosen) -> pd.DataFrame:
    """What was chosen, with everything that belongs to the claim; one row a task and method."""
    return points_frame([point for point in chosen.values() if point is not None])


def points_frame(found: Sequence[Point], *, with_intervals: bool = True) -> pd.DataFrame:
    """One row a point, fractions; for tables and files."""
    return pd.DataFrame([_point_row(point, with_intervals) for point in found])


def _point_row(point: Point, with_intervals: bool) -> dict[str, Any]:
    experiment, difference = point.experiment, point.difference()
    held_out = point.difference(CHOSEN_ON)
    interval = data.interval(point) if with_intervals else None
    metric, metric_sd = _mean_and_sd(point.metric())
    paper, paper_sd = _mean_and_sd(point.relative_flops("paper"))
    return {
        "task": experiment.task,
        "training_rows": experiment.rows,
        "method": point.method,
        "metric_name": point.runs[0].metric_name,
        "metric": metric,
        "metric_sd": metric_sd,
        "difference": None if difference is None else difference.mean,
        "difference_low": interval and interval.low,
        "difference_high": interval and interval.high,
        "relative_flops_paper": paper,
        "relative_flops_paper_sd": paper_sd,
        "relative_flops_executed": _mean_and_sd(point.relative_flops("executed"))[0],
        "heldout_difference": None if held_out is None else held_out.mean,
        "seeds": ", ".join(str(run.config.seed) for run in point.runs),
        "runs": ", ".join(run.name for run in point.runs),
        "dense": ", ".join(dict.fromkeys(run.name for run in point.dense.values())),
    }


def _mean_and_sd(spread: Any) -> tuple[float | None, float | None]:
    return (None, None) if spread is None else (spread.mean, spread.sd)


def takeaway(chosen: Chosen, experiment: Experiment) -> str:
    """What the choice says about one experiment, in a sentence."""
    where = f"On {experiment.task} ({rows_of(experiment)})"
    mine = {m: point for (e, m), point in chosen.items() if e == experiment}
    good = {m: p for m, p in mine.items() if p is not None}
    if not good:
        return f"{where} no method stays within one point on held-out rows."
    costs = {m: spread.mean for m, p in good.items() if (spread := p.relative_flops("paper"))}
    order = sorted(costs, key=costs.__getitem__)
    named = ", ".join(f"{title_of(m)} {percent(costs[m])}" for m in order)
    missing = [title_of(m) for m in in_order(set(mine) - set(good))]
    rest = f"; not within: {', '.join(missing)}" if missing else ""
    return f"{where}, within one point: {named}{rest}."
