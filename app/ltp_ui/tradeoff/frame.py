"""The rows of a trade-off chart: points, their lines, rules and the paper's points, as a table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.wording import percent, points
from app.ltp_ui.tradeoff import data
from ltp_core.analysis import tradeoff, tradeoff_axes
from ltp_core.analysis.recipes import recipe_of, recipe_titles
from ltp_core.analysis.tradeoff import Point, Spread
from ltp_core.analysis.tradeoff_axes import PAPER_TABLE_1

XAxis = Literal["paper", "executed", "gflops", "speedup"]
YAxis = Literal["metric", "difference"]

X_TITLES: dict[XAxis, str] = {
    "paper": "relative FLOPs, paper’s accounting",
    "executed": "relative FLOPs, executed",
    "gflops": "GFLOPs per example",
    "speedup": "measured speed-up",
}
Y_TITLES: dict[YAxis, str] = {"metric": "metric", "difference": "difference to dense"}

POINT, CURVE, RULE, PAPER = "point", "curve", "rule", "paper"
FRONT, DOMINATED = "front", "dominated"
DENSE, ALLOWED = "dense counterpart", "one point below it"
Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("left", "right")
"""Ends of a rule where its name may stand."""

COLUMNS = (
    "kind", "x", "y", "x_low", "x_high", "y_low", "y_high", "method", "series", "standing",
    "recipe", "side", "run", "text", "about", "cost", "seeds",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class View:
    """How points are drawn.

    Attributes:
        x: What lies to the right.
        y: What lies upward.
        with_curves: Draw the curves that were not retrained.
        with_paper: Draw the paper's points.
    """

    x: XAxis = "paper"
    y: YAxis = "metric"
    with_curves: bool = True
    with_paper: bool = True

    @property
    def is_relative(self) -> bool:
        """The axis to the right is a fraction of the unpruned model's FLOPs."""
        return self.x in ("paper", "executed")


def chart_frame(found: Sequence[Point], view: View) -> pd.DataFrame:
    """One row a mark, of one experiment; points that have no place on the axes are left out."""
    rows = [
        *_point_rows(found, view),
        *(_curve_rows(found, view) if view.with_curves else ()),
        *_rule_rows(found, view),
        *(_paper_rows(found, view) if view.with_paper else ()),
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _point_rows(found: Sequence[Point], view: View) -> Iterator[dict[str, Any]]:
    accounting = "executed" if view.x == "executed" else "paper"
    beaten = tradeoff.dominated(found, accounting)
    titles, named = recipe_titles(found), _named(found)
    for point in found:
        x, y = x_spread(point, view.x), point.metric()
        y_range = y_bounds(point, view.y)
        if x is None or y is None or y_range is None:
            continue
        value, low, high = y_range
        yield {
            "kind": POINT,
            "x": x.mean,
            "y": value,
            "x_low": x.mean - (x.sd or 0.0),
            "x_high": x.mean + (x.sd or 0.0),
            "y_low": low,
            "y_high": high,
            "method": title_of(point.method),
            "series": point.key,
            "recipe": recipe_of(point),
            "standing": DOMINATED if point.key in beaten else FRONT,
            "run": point.runs[0].name,
            "text": titles[recipe_of(point)] if point.key in named else "",
            "about": _about(point, titles[recipe_of(point)]),
            "cost": _cost(point),
            "seeds": ", ".join(str(run.config.seed) for run in point.runs),
        }


def x_spread(point: Point, axis: XAxis) -> Spread | None:
    """Where a point lies to the right; None where that was not measured."""
    if axis in ("paper", "executed"):
        return point.relative_flops(axis)
    if axis == "gflops":
        value = data.gigaflops(point)
    else:
        measured = data.speedup(point)
        value = None if measured is None else measured.value
    return None if value is None else Spread(mean=value, sd=None, count=1)


def y_bounds(point: Point, axis: YAxis) -> tuple[float, float, float] | None:
    """Value and the ends of its bar: one standard deviation over seeds, or the paired interval."""
    if axis == "metric":
        spread = point.metric()
        if spread is None:
            return None
        return spread.mean, spread.mean - (spread.sd or 0.0), spread.mean + (spread.sd or 0.0)
    found = data.interval(point)
    return None if found is None else (found.value, found.low, found.high)


def _named(found: Sequence[Point]) -> set[str]:
    """The cheapest point of each recipe, of methods that were trained by several."""
    by_method: dict[str, dict[str, Point]] = {}
    for point in sorted(found, key=lambda point: -_relative(point)):
        by_method.setdefault(point.method, {})[recipe_of(point)] = point
    several = [cheapest for cheapest in by_method.values() if len(cheapest) > 1]
    return {point.key for cheapest in several for point in cheapest.values()}


def _relative(point: Point) -> float:
    flops = point.relative_flops("paper")
    return flops.mean if flops else 1.0


def _about(point: Point, recipe: str) -> str:
    """Metric with its spread, the difference to the dense counterpart, and the recipe."""
    metric, difference = point.metric(), point.difference()
    text = _with_spread(metric) if metric else ""
    text = f"{text}; {points(difference.mean)} to dense" if difference else text
    return f"{text} ({recipe})" if recipe else text


def _cost(point: Point) -> str:
    parts = []
    for accounting, name in (("paper", "paper’s accounting"), ("executed", "executed")):
        spread = point.relative_flops(accounting)
        if spread:
            parts.append(f"{percent(spread.mean)} ({name})")
    return ", ".join(parts)


def _with_spread(spread: Spread) -> str:
    shown = percent(spread.mean)
    return shown if spread.sd is None else f"{shown} ± {100 * spread.sd:.1f}"


def _curve_rows(found: Sequence[Point], view: View) -> Iterator[dict[str, Any]]:
    """Curves through other strengths of a run; where only FLOPs are known, there is no speed-up."""
    for point in found if view.x != "speedup" else ():
        for run in point.runs:
            dense = point.dense.get(run.name)
            per_flop = _axis_scale(point, view.x)
            shift = dense.results[tradeoff.REPORTED_ON].metric if dense else None
            if per_flop is None or (view.y == "difference" and shift is None):
                continue
            accounting = "executed" if view.x == "executed" else "paper"
            for line in tradeoff_axes.curve_of(run).itertuples():
                flops = getattr(line, f"relative_flops_{accounting}")
                metric = float(line.metric)  # type: ignore[arg-type]  # a float column
                yield {
                    "kind": CURVE,
                    "x": flops * per_flop,
                    "y": metric - (shift or 0.0) if view.y == "difference" else metric,
                    "method": title_of(point.method),
                    "series": run.name,
                    "run": run.name,
                    "text": "not retrained",
                    "about": f"{percent(metric)}, strength × {line.factor:g}, not retrained",
                    "cost": f"{percent(flops)} of the FLOPs",
                    "seeds": str(run.config.seed),
                }


def _axis_scale(point: Point, axis: XAxis) -> float | None:
    """What relative FLOPs are multiplied by to lie on the axis."""
    if axis != "gflops":
        return 1.0
    absolute, relative = data.gigaflops(point), point.relative_flops("paper")
    return absolute / relative.mean if absolute and relative and relative.mean else None


def _rule_rows(found: Sequence[Point], view: View) -> Iterator[dict[str, Any]]:
    """The dense counterpart and one point below it; one pair a recipe.

    Of several pairs each has one name for both, outside: over the first one or under the second one,
    for in between there is no room.
    """
    if view.y == "difference":
        yield _rule(0.0, "dense counterpart")
        yield _rule(-tradeoff.ALLOWED_DROP, "− 1 point", is_allowed_drop=True)
        return
    for number, (title, baseline) in enumerate(dense_by_recipe(found)):
        side = SIDES[number % len(SIDES)]
        texts = f"dense counterpart {_with_spread(baseline)}", "− 1 point"
        if title:
            both = f"dense, {title}: {_with_spread(baseline)}, − 1 point"
            texts = (both, "") if side == SIDES[0] else ("", both)
        yield _rule(baseline.mean, texts[0], side)
        yield _rule(baseline.mean - tradeoff.ALLOWED_DROP, texts[1], side, is_allowed_drop=True)


def dense_by_recipe(found: Sequence[Point]) -> list[tuple[str, Spread]]:
    """Title of each recipe and the metric of its dense counterpart, best first."""
    rows = []
    for key, title in recipe_titles(found).items():
        mine = [point for point in found if recipe_of(point) == key]
        rows += [(title, baseline) for baseline in tradeoff.baselines(mine)]
    return sorted(rows, key=lambda row: -row[1].mean)


def _rule(
    y: float, text: str, side: Side = SIDES[0], *, is_allowed_drop: bool = False
) -> dict[str, Any]:
    about = ALLOWED if is_allowed_drop else DENSE
    return {"kind": RULE, "y": y, "text": text, "about": about, "side": side}


def _paper_rows(found: Sequence[Point], view: View) -> Iterator[dict[str, Any]]:
    """Table 1: RoBERTa-base and LTP on it. Only its relative FLOPs compare with another model's."""
    paper = PAPER_TABLE_1.get(found[0].experiment.task) if found else None
    if paper is None or view.x != "paper":
        return
    whole, ltp = paper.baseline_gigaflops, paper.gigaflops
    ys = (0.0, paper.difference) if view.y == "difference" else (paper.baseline, paper.metric)
    yield _paper(1.0, ys[0], "RoBERTa, paper", percent(paper.baseline, 2), f"{whole} GFLOPs")
    cost = f"{percent(paper.relative_flops)}: {ltp} of {whole} GFLOPs"
    yield _paper(paper.relative_flops, ys[1], "LTP, paper", percent(paper.metric, 2), cost)


def _paper(x: float, y: float, text: str, about: str, cost: str) -> dict[str, Any]:
    return {
        "kind": PAPER,
        "x": x,
        "y": y,
        "text": text,
        "about": f"{about} (Table 1)",
        "cost": cost,
    }
