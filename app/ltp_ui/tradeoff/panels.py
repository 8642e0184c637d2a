"""The parts of the trade-off page: controls, one chart an experiment, tables, exports."""

from __future__ import annotations

import json
from collections.abc import Sequence

import streamlit as st

from app.ltp_ui.runs.data import device
from app.ltp_ui.shared import exports_panel, state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.method_style import in_order, title_of
from app.ltp_ui.shared.wording import counted, percent, points
from app.ltp_ui.tradeoff import charts, data, tables
from app.ltp_ui.tradeoff.frame import X_TITLES, Y_TITLES, View, XAxis, chart_frame, dense_by_recipe
from app.ltp_ui.tradeoff.tables import Chosen, rows_of
from ltp_core.analysis.tradeoff import REPORTED_ON, Experiment, Point

ALL_TASKS = "all tasks"


def empty() -> None:
    """The state of a store without a pruned run."""
    st.info(
        "There is no run of a pruning method in the store yet. A sweep trains several methods at "
        "several operating points; this shows what it would do:",
        title="Nothing to compare yet",
        icon=":material/inventory_2:",
    )
    st.code("python -m ltp_core sweep sst2 --dry-run", language="bash")


def choose_task(found: Sequence[Experiment]) -> list[Experiment]:
    """The experiments to show: all of one task, or the largest of each."""
    tasks = list(dict.fromkeys(experiment.task for experiment in found))
    chosen = st.selectbox(
        "Task",
        [ALL_TASKS, *tasks] if len(tasks) > 1 else tasks,
        key="tradeoff.task",
        bind="query-params",
        help="All tasks: of each the set of training rows with most points. One task: all its sets.",
        width=200,
    )
    if chosen == ALL_TASKS:
        return data.largest(list(found))
    return [experiment for experiment in found if experiment.task == chosen]


def choose_view(found: Sequence[Point]) -> View:
    """What lies on the axes, and what is drawn besides the points."""
    x: XAxis = st.selectbox(
        "To the right",
        list(X_TITLES),
        format_func=X_TITLES.__getitem__,
        key="tradeoff.x",
        bind="query-params",
        width=290,
    )
    y = st.segmented_control(
        "Upward",
        list(Y_TITLES),
        format_func=Y_TITLES.__getitem__,
        default="metric",
        required=True,
        key="tradeoff.y",
        bind="query-params",
        help="The difference has the 95 % interval of a paired bootstrap over validation examples.",
    )
    with_paper = st.toggle("Paper", value=True, key="tradeoff.paper", bind="query-params")
    with_curves = st.toggle(
        "Not retrained",
        value=True,
        key="tradeoff.curves",
        bind="query-params",
        help="Thin lines: a trained run made to prune more or less, by `evaluate --scales`.",
    )
    return View(x=x, y=y, with_curves=with_curves, with_paper=with_paper)


def choose_methods(found: Sequence[Point]) -> list[str]:
    """The methods to draw; none chosen means all."""
    names = in_order(point.method for point in found)
    chosen = st.pills(
        "Methods",
        names,
        format_func=title_of,
        selection_mode="multi",
        key="tradeoff.methods",
        bind="query-params",
        help="None chosen: all are drawn. The choice below stays the same.",
    )
    return [name for name in names if name in chosen] or names


def experiment_section(found: Sequence[Point], view: View, *, height: int) -> None:
    """One chart with its name above and where its figures come from below."""
    experiment = found[0].experiment
    st.subheader(f"{experiment.task} · {rows_of(experiment)}", anchor=False)
    with st.spinner("Intervals are computed once", show_time=True):
        frame = chart_frame(found, view)
    if not (frame["kind"] == "point").any():
        st.caption(f"No run here has a {X_TITLES[view.x]}: choose another axis.")
        return
    methods = in_order(point.method for point in found)
    metric = found[0].runs[0].metric_name
    chart = charts.tradeoff_chart(frame, view, metric=metric, methods=methods, height=height)
    key = f"tradeoff.chart.{experiment.key}"
    event = st.vega_lite_chart(
        spec=chart.to_dict(),
        alt=_alt(found, experiment, metric),
        on_select="rerun",
        selection_mode=charts.PICK,
        key=key,
    )
    _follow(event)
    st.caption(plain(_provenance(found, view)))
    _chart_exports(chart, found, experiment)


def _follow(event: object) -> None:
    """A clicked point leads to its run."""
    selection = event.get("selection", {}) if isinstance(event, dict) else {}
    picked = selection.get(charts.PICK) or []
    name = picked[0].get("run") if picked else None
    if isinstance(name, str):
        st.switch_page(state.RUNS, query_params={"run": name})


def _alt(found: Sequence[Point], experiment: Experiment, metric: str) -> str:
    return (
        f"{metric} against FLOPs on {experiment.task}: {counted(len(found), 'operating point')} of "
        f"{', '.join(title_of(m) for m in in_order(p.method for p in found))}."
    )


def _provenance(found: Sequence[Point], view: View) -> str:
    """What stands behind a chart: rows, seeds, dense counterparts, base, devices."""
    runs = [run for point in found for run in point.runs]
    seeds = {run.config.seed for run in runs}
    results = runs[0].results
    parts = [
        f"{counted(len(runs), 'run')}, {counted(len(seeds), 'seed')}, "
        f"{results[REPORTED_ON].rows:,} validation rows",
        f"base {found[0].experiment.base.rpartition('/')[2]}",
        ", ".join(sorted({device(run.manifest) for run in runs})),
    ]
    for title, dense in reversed(dense_by_recipe(found)):
        recipe = f" ({title})" if title else ""
        parts.insert(
            1, f"dense counterpart{recipe} {percent(dense.mean)}, {counted(dense.count, 'seed')}"
        )
    bars = (
        "bars: paired 95 % interval over examples, of several seeds the mean of the bounds"
        if view.y == "difference"
        else "bars: ± one standard deviation over seeds"
    )
    return f"{' · '.join(parts)}. {bars[0].upper()}{bars[1:]}. A click on a point opens its run."


def _chart_exports(chart: Figure, found: Sequence[Point], experiment: Experiment) -> None:
    def csv() -> bytes:
        return tables.points_frame(found).to_csv(index=False).encode()

    def document() -> bytes:
        records = tables.points_frame(found).to_json(orient="records")
        return json.dumps(json.loads(records), indent=2).encode()

    with st.popover("Export", icon=":material/download:", key=f"tradeoff.export.{experiment.key}"):
        files: exports_panel.Files = {
            "CSV": ("csv", "text/csv", csv),
            "JSON": ("json", "application/json", document),
            **exports_panel.chart_files(chart, width=720),
        }
        subject = f"{experiment.task}-{experiment.key}"
        exports_panel.row("Accuracy vs FLOPs", subject, files, key="tradeoff.export")


def smallest_section(chosen: Chosen, shown: Sequence[Experiment]) -> None:
    """The table that the paper's Table 1 stands beside, and the claim in words."""
    st.subheader("Smallest FLOPs within one point of the dense counterpart", anchor=False)
    for experiment in shown:
        st.markdown(f"- {plain(tables.takeaway(chosen, experiment))}")
    st.dataframe(
        tables.smallest_table(chosen, shown),
        hide_index=True,
        column_config={"method": st.column_config.TextColumn(width=270)},
        alt="Relative FLOPs of the cheapest run within one point, by method and task.",
    )
    st.caption(
        f"Relative FLOPs in the paper’s accounting. Chosen on held-out training rows: the cheapest "
        "point whose metric there is at most one point below its dense counterpart’s. Shown is what "
        f"that point needs on {REPORTED_ON}, where it may lie lower: see the differences below."
    )
    frame = tables.chosen_frame(chosen)
    if not frame.empty:
        st.dataframe(_claims(frame), hide_index=True, alt="The chosen points and their intervals.")


def _claims(frame: object) -> object:
    """The chosen points as the screen shows them: percent and points."""
    import pandas as pd

    assert isinstance(frame, pd.DataFrame)
    records = frame.to_dict("records")
    return pd.DataFrame(
        [
            {
                "task": r["task"],
                "method": title_of(r["method"]),
                "FLOPs, paper": percent(r["relative_flops_paper"]),
                "FLOPs, executed": percent(r["relative_flops_executed"]),
                r["metric_name"] if len({x["metric_name"] for x in records}) == 1 else "metric": (
                    percent(r["metric"])
                ),
                "to dense": points(r["difference"]),
                "95 % interval": _bounds(r["difference_low"], r["difference_high"]),
                "to dense, held-out": points(r["heldout_difference"]),
                "seeds": r["seeds"],
                "runs": r["runs"],
            }
            for r in records
        ]
    )


def _bounds(low: float | None, high: float | None) -> str:
    if low is None or high is None or low != low:
        return "–"
    return f"{points(low).removesuffix(' points')} to {points(high)}"


def how_computed() -> None:
    """Rules of the page."""
    st.markdown(
        """
- **Point**: runs of one configuration, mean over seeds. **Line**: the points of a method that no other
  one of it beats on held-out rows. Points that have another dense counterpart, because they were trained
  for longer or otherwise, have a line of their own.
- **Relative FLOPs**: sums over the data set, divided by those of the model without pruning and without
  padding. *Paper’s accounting*: a token dropped in a layer still costs it the whole attention.
  *Executed*: what the packed runner computes.
- **Dense counterpart**: nothing pruned, same data, same epochs, same distillation, same seed.
- **Held-out rows** are training rows that no training saw; everything that is chosen is chosen on them.
  Validation is only reported. Tasks, methods and axes can be switched without changing any choice.
- **Measured speed-up**: throughput against the same weights unpruned, padding removed in both, from the
  newest stored benchmark of the run at its largest batch.
- **Paper**: Kim et al., KDD 2022, Table 1: RoBERTa-base, the smallest FLOPs within 1 % of its baseline.
  Runs here start from a smaller model, so levels do not compare; fractions of FLOPs and differences do.
"""
    )
