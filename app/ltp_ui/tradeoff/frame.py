"""The rows of a trade-off chart: points, their lines, curves and rules, as a table."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.stored import run_table
from app.ltp_ui.shared.wording import percent
from app.ltp_ui.shared.wording import points as in_points
from app.ltp_ui.tradeoff import data
from ltp_core.analysis.runs import ALLOWED_DROP, Row, beaten, dense_table, recipe_titles, rows
from ltp_core.analysis.tradeoff import PAPER_TABLE_1, curve_of

XAxis = Literal["paper", "executed", "bops", "gflops", "speedup"]
YAxis = Literal["metric", "difference"]

X_TITLES: dict[XAxis, str] = {
    "paper": "relative FLOPs, paper’s accounting",
    "executed": "relative FLOPs, executed",
    "bops": "relative bit operations (FP16 unpruned: 100 %)",
    "gflops": "GFLOPs per example",
    "speedup": "measured speed-up",
}
Y_TITLES: dict[YAxis, str] = {"difference": "difference to dense", "metric": "metric"}

POINT, CURVE, RULE = "point", "curve", "rule"
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
        x: What lies on the x axis.
        y: What lies on the y axis.
        with_curves: Draw the curves of single checkpoints, which were not retrained.
    """

    x: XAxis = "paper"
    y: YAxis = "difference"
    with_curves: bool = True

    @property
    def is_relative(self) -> bool:
        """The x axis is a fraction of the unpruned model's FLOPs or bit operations."""
        return self.x in ("paper", "executed", "bops")

    @property
    def accounting(self) -> str:
        """In which FLOPs are counted."""
        return "executed" if self.x == "executed" else "paper"


def chart_frame(found: pd.DataFrame, view: View) -> pd.DataFrame:
    """One row a mark; points that have no place on the axes are left out.

    Args:
        found: Comparable rows of `points_table`.
        view: What is drawn.
    """
    titles = recipe_titles(found)
    marks = [
        *_point_rows(found, view, titles),
        *(_curve_rows(found, view) if view.with_curves else ()),
        *_rule_rows(found, view, titles),
    ]
    return pd.DataFrame(marks, columns=list(COLUMNS))


def _point_rows(
    found: pd.DataFrame, view: View, titles: dict[str, str]
) -> Iterator[dict[str, Any]]:
    is_beaten = beaten(found, view.accounting)
    # Of methods that were trained by several recipes, in INT8 or not, the cheapest point of each is named.
    found = found.assign(line=found["recipe"] + found["is_int8"].map({True: ", INT8", False: ""}))
    several = found.groupby("method")["line"].transform("nunique") > 1
    cheapest = found[several].groupby(["method", "line"])["paper_validation"].idxmin()
    is_mixed = found["is_int8"].nunique() > 1
    for point in rows(found):
        x, x_sd = x_value(point, view.x)
        y, low, high = y_value(point, view.y)
        if math.isnan(x) or math.isnan(y):
            continue
        precision = ("INT8" if point.is_int8 else "FP16") if is_mixed else ""
        title = ", ".join(filter(None, (precision, titles[point.recipe])))
        yield {
            "kind": POINT,
            "x": x,
            "y": y,
            "x_low": x - x_sd,
            "x_high": x + x_sd,
            "y_low": low,
            "y_high": high,
            "method": title_of(point.method),
            "series": point.setting,
            "recipe": point.line,
            "standing": DOMINATED if is_beaten[point.Index] else FRONT,
            "run": point.run,
            "text": title if point.Index in set(cheapest) else "",
            "about": _about(point, title),
            "cost": f"{percent(point.paper_validation)} (paper’s accounting), "
            f"{percent(point.executed_validation)} (executed)",
            "seeds": ", ".join(map(str, point.seeds)),
        }


def x_value(point: Row, axis: XAxis) -> tuple[float, float]:
    """Where a point lies on the x axis, and its spread over seeds; NaN where that was not measured."""
    if axis == "gflops":
        return data.gigaflops(point), 0.0
    if axis == "speedup":
        measured = data.speedup(point)
        return (math.nan if measured is None else measured.value), 0.0
    sd = getattr(point, f"{axis}_validation_sd")
    return getattr(point, f"{axis}_validation"), 0.0 if math.isnan(sd) else sd


def y_value(point: Row, axis: YAxis) -> tuple[float, float, float]:
    """Value and the ends of its bar: one standard deviation over seeds, or the paired interval."""
    if axis == "difference":
        found = data.interval(point)
        nan = (math.nan, math.nan, math.nan)
        return nan if found is None else (found.value, found.low, found.high)
    value, sd = point.metric_validation, point.metric_validation_sd
    sd = 0.0 if math.isnan(sd) else sd
    return value, value - sd, value + sd


def _about(point: Row, recipe: str) -> str:
    """Metric with its spread, the difference to the dense counterpart, and the recipe."""
    text = with_spread(point.metric_validation, point.metric_validation_sd)
    if not math.isnan(point.difference_validation):
        text = f"{text}; {in_points(point.difference_validation)} to dense"
    if not point.converged:
        text = f"{text}; did not converge"
    return f"{text} ({recipe})" if recipe else text


def with_spread(mean: float, sd: float) -> str:
    """`87.4 %`, or `87.4 % ± 0.3` of several seeds."""
    return percent(mean) if math.isnan(sd) else f"{percent(mean)} ± {100 * sd:.1f}"


def _curve_rows(found: pd.DataFrame, view: View) -> Iterator[dict[str, Any]]:
    """One checkpoint at several strengths or budgets; only FLOPs are known, so nothing else is drawn."""
    runs = run_table()
    for point in rows(found) if view.x not in ("speedup", "bops") else ():
        per_flop = data.gigaflops(point) / point.paper_validation if view.x == "gflops" else 1.0
        for run, dense in zip(point.runs, point.counterparts, strict=True):
            shift = 0.0
            if view.y == "difference":
                shift = runs["metric_validation"].get(dense, math.nan)
            if math.isnan(per_flop) or math.isnan(shift):
                continue
            for line in rows(curve_of(runs["folder"][run])):
                flops = getattr(line, f"relative_flops_{view.accounting}")
                metric = float(line.metric)
                yield {
                    "kind": CURVE,
                    "x": flops * per_flop,
                    "y": metric - shift,
                    "method": title_of(point.method),
                    "series": run,
                    "run": run,
                    "text": "one checkpoint",
                    "about": f"{percent(metric)}, one checkpoint at {line.factor:g}, not retrained",
                    "cost": f"{percent(flops)} of the FLOPs",
                    "seeds": str(runs["seed"][run]),
                }


def _rule_rows(found: pd.DataFrame, view: View, titles: dict[str, str]) -> Iterator[dict[str, Any]]:
    """The dense counterpart and one point below it; one pair a recipe.

    Of several pairs each has one name for both, outside: over the first one or under the second one,
    for in between there is no room.
    """
    if view.y == "difference":
        yield _rule(0.0, DENSE)
        yield _rule(-ALLOWED_DROP, "− 1 point", is_allowed_drop=True)
        return
    for number, dense in enumerate(rows(dense_table(run_table(), found))):
        side, title = SIDES[number % len(SIDES)], titles.get(str(dense.recipe), "")
        shown = with_spread(dense.mean, dense.sd)
        texts = f"{DENSE} {shown}", "− 1 point"
        if title:
            both = f"dense, {title}: {shown}, − 1 point"
            texts = (both, "") if side == SIDES[0] else ("", both)
        yield _rule(dense.mean, texts[0], side)
        yield _rule(dense.mean - ALLOWED_DROP, texts[1], side, is_allowed_drop=True)


def _rule(
    y: float, text: str, side: Side = SIDES[0], *, is_allowed_drop: bool = False
) -> dict[str, Any]:
    about = ALLOWED if is_allowed_drop else DENSE
    return {"kind": RULE, "y": y, "text": text, "about": about, "side": side}


def paper_frame() -> pd.DataFrame:
    """The paper's Table 1, RoBERTa-base: relative FLOPs of LTP, and its difference to the baseline."""
    return pd.DataFrame(
        [
            {
                "task": task,
                "x": paper.relative_flops,
                "y": paper.difference,
                "about": f"{percent(paper.metric, 2)}, baseline {percent(paper.baseline, 2)}",
                "cost": f"{paper.gigaflops} of {paper.baseline_gigaflops} GFLOPs",
            }
            for task, paper in PAPER_TABLE_1.items()
        ]
    )
