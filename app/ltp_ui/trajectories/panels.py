"""The tab "Trajectories": lengths through the layers (Figure A.2), and correctness (Figure A.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from app.ltp_ui.robustness import data
from app.ltp_ui.robustness.controls import Choice
from app.ltp_ui.robustness.panels import chart_exports
from app.ltp_ui.shared import blocks, exports_panel
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.wording import percent
from app.ltp_ui.trajectories import charts, examples
from ltp_core.analysis.example_records import ExampleRecords
from ltp_core.analysis.trajectories import (
    PAPER_FEWER_TOKENS,
    correctness_correlations,
    fewer_tokens,
    spread_by_length,
    trajectories,
)

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

PAPER_SAMPLE = 20
PAPER_NAMES = {"mnli": "MNLI-m", "sst2": "SST-2"}


def tab(choice: Choice, head: DeltaGenerator) -> None:
    """The whole tab; the answer and the pictures go into `head`, above what was chosen."""
    runs = {choice.titles[c.name]: data.records(c.runs[0], choice.split) for c in choice.series}
    pruned = [choice.titles[c.name] for c in choice.pruned] or list(runs)
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        is_log = _scale() == "logarithmic"
        count = _count()
        first = runs[pruned[0]]
        wrong_only = _wrong_only(first, pruned[0])
        slot = st.container(width="content")
    rows = sampled_rows(first, count, wrong_only=wrong_only)
    if not rows:
        st.info(f"{plain(pruned[0])} gets every example right.", icon=":material/check:")
        return
    picked = examples.picked_row(choice, first, rows, pruned)
    fewer = fewer_sentences(runs)
    with head:
        blocks.answer(plain(fewer[0]))
        figures = _samples(choice, {title: runs[title] for title in pruned}, rows, picked, is_log)
        st.caption(
            f"{len(rows)} examples{_which(pruned[0], wrong_only)}, spread evenly over the lengths at the input; "
            f"grey and dashed, the mean of all {len(first):,}. Of a run with several seeds the first one is "
            "drawn. Click a dot or a row of the table below."
        )
    figures |= _means(runs, fewer, is_log)
    examples.examples_section(choice, runs[pruned[0]], rows, picked)
    figures |= _correctness(choice, runs)
    with slot:
        _exports(choice, runs, figures)


def _scale() -> str:
    return str(
        st.segmented_control(
            "Tokens",
            ["linear", "logarithmic"],
            default="linear",
            required=True,
            key="robustness.scale",
            bind="query-params",
        )
    )


def _count() -> int:
    return int(
        st.slider(
            "Examples",
            5,
            60,
            PAPER_SAMPLE,
            5,
            key="robustness.count",
            bind="query-params",
            width=220,
            help="The paper’s Figure A.2 shows 20.",
        )
    )


def _wrong_only(records: ExampleRecords, title: str) -> bool:
    """Whether only what the first run gets wrong is listed and drawn."""
    return st.toggle(
        "Wrong only",
        key="robustness.wrong",
        bind="query-params",
        disabled=records.is_correct is None,
        help=f"Only examples that {plain(title)} gets wrong."
        if records.is_correct is not None
        else "Where values are predicted, no example is right or wrong.",
    )


def _which(title: str, wrong_only: bool) -> str:
    return f" that {plain(title)} gets wrong" if wrong_only else ""


def sampled_rows(records: ExampleRecords, count: int, *, wrong_only: bool) -> list[int]:
    """Row numbers of examples spread evenly over the lengths, of all or of the wrong ones."""
    found = np.arange(len(records))
    if wrong_only and records.is_correct is not None:
        found = np.flatnonzero(~records.is_correct)
    if not len(found):
        return []
    chosen = found[spread_by_length(records.length[found], count)]
    return [int(row) for row in records.row[chosen]]


# ---- figure A.2 ----


def _samples(
    choice: Choice,
    runs: Mapping[str, ExampleRecords],
    rows: Sequence[int],
    picked: int | None,
    is_log: bool,
) -> dict[str, Figure]:
    """One chart a pruned run, side by side, with one axis."""
    most = max(int(run.length.max()) for run in runs.values())
    figures = {}
    columns = st.columns(min(len(runs), 3), gap="large", vertical_alignment="bottom")
    for number, (title, run) in enumerate(runs.items()):
        frame = charts.sample_frame(run, rows, picked)
        figure = charts.sample_chart(frame, is_log=is_log, most=most)
        with columns[number % len(columns)]:
            st.markdown(f"**{plain(title)}** – {_kind(run)}")
            st.vega_lite_chart(
                spec=figure.to_dict(),
                alt=f"Live tokens by layer of {len(rows)} examples, {title}: mean {_mean(frame)}.",
                on_select="rerun",
                selection_mode=charts.PICK,
                key=examples.chart_key(choice, title),
            )
        figures[f"Trajectories {title}"] = figure
    return figures


def _kind(run: ExampleRecords) -> str:
    kinds = {
        "lat": "one configuration for all inputs",
        "spatten": "a fixed share of each input",
        "power_bert": "one configuration for all inputs",
        "shallow": "whole layers left out",
        "unpruned": "nothing pruned",
    }
    for method in ("ltp", "ltp_s", "tr_bert", "manual", "calibrated"):
        kinds[method] = "each input keeps what its scores ask for"
    return kinds.get(run.method, f"pruned by {run.method}")


def _mean(frame: pd.DataFrame) -> str:
    means = frame.loc[frame["kind"] == charts.MEAN, "tokens"]
    return ", ".join(f"{value:.1f}" for value in means)


def _means(
    runs: Mapping[str, ExampleRecords], fewer: Sequence[str], is_log: bool
) -> dict[str, Figure]:
    """Mean tokens by layer of all runs, and by how much the first computes fewer."""
    st.header("Tokens per layer", anchor=False)
    frame = charts.mean_frame(runs)
    figure = charts.mean_chart(frame, is_log=is_log)
    left, right = st.columns([3, 2], gap="large")
    with left:
        spoken = "; ".join(
            f"{title} {', '.join(f'{x:.1f}' for x in part['tokens'])}"
            for title, part in frame.groupby("series", sort=False)
        )
        st.vega_lite_chart(spec=figure.to_dict(), alt=f"Mean live tokens by layer: {spoken}.")
    with right:
        for sentence in fewer:
            st.markdown(f"- {plain(sentence)}")
        st.markdown(f":gray[{plain(_paper_sentence())}]")
        st.caption(
            "Tokens that stay after each layer and go through its FFN, summed over layers and examples "
            "before division; in brackets 95 % intervals over examples."
        )
    return {"Mean tokens": figure}


def fewer_sentences(runs: Mapping[str, ExampleRecords]) -> list[str]:
    """By how much the first run computes fewer tokens per layer than each other one."""
    (first, ours), *others = runs.items()
    sentences = []
    for title, theirs in others:
        try:
            found = fewer_tokens(ours, theirs)
        except ValueError:
            continue
        value, low, high = found.value, found.low, found.high
        if value < 0:
            value, low, high = -value, -high, -low
        how = "fewer" if found.value >= 0 else "more"
        sentences.append(
            f"{first} computes {percent(value, 2)} {how} tokens per layer than {title} "
            f"[{100 * low:.2f}, {100 * high:.2f}]."
        )
    return sentences or [f"Choose a second run to compare {first} with."]


def _paper_sentence() -> str:
    figures = " and ".join(
        f"{percent(value, 2)} on {PAPER_NAMES[task]}" for task, value in PAPER_FEWER_TOKENS.items()
    )
    return (
        f"Paper, section A.3.1: LTP computes {figures} fewer than LAT, RoBERTa-base, both at a 1 % drop "
        "of accuracy."
    )


# ---- figure A.3 ----


def _correctness(choice: Choice, runs: Mapping[str, ExampleRecords]) -> dict[str, Figure]:
    st.header("Remaining length, right and wrong predictions", anchor=False)
    title = st.selectbox("Run", list(runs), key=f"robustness.histogram.{choice.task}", width=260)
    records = runs[title]
    is_correct = records.is_correct
    if is_correct is None:
        st.info(f"{records.task} predicts values, which are near or far, not right or wrong.")
        return {}
    frame = charts.histogram_frame(records)
    # As many in a row as there is room for.
    with st.container(horizontal=True):
        for layer, part in frame.groupby("layer", sort=False):
            st.vega_lite_chart(
                spec=charts.layer_histogram(part).to_dict(),
                width=charts.HISTOGRAM_WIDTH,
                alt=f"Remaining length of right and wrong predictions, {title}, {layer}.",
            )
    wrong = int(np.count_nonzero(~is_correct))
    st.caption(
        f"Filled: the {len(records) - wrong:,} right predictions; outline: the {wrong:,} wrong ones; each as "
        "shares of their own number."
    )
    st.markdown(plain(correlation_sentence(records)))
    st.markdown(
        ":gray[Paper, section A.3.2: no significant correlation of length and correctness, RoBERTa-base.]"
    )
    return {f"Histograms {title}": charts.histogram_chart(frame)}


def correlation_sentence(records: ExampleRecords) -> str:
    """Whether remaining length and correctness go together, layer by layer."""
    is_correct = records.is_correct
    if is_correct is None:
        return ""
    found = correctness_correlations(trajectories(records), is_correct)
    parts = [
        f"{'input' if layer == 0 else f'layer {layer}'} {_r(r.value)} [{_r(r.low)}, {_r(r.high)}]"
        for layer, r in enumerate(found)
        if r is not None
    ]
    shown = "; ".join(parts) or "every length is the same"
    return f"Correlation of remaining length with being right, 95 % intervals: {shown}."


def _r(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _exports(
    choice: Choice, runs: Mapping[str, ExampleRecords], figures: Mapping[str, Figure]
) -> None:
    subject = f"{choice.task}-{choice.split}"
    frame = charts.mean_frame(runs)
    with st.popover("Export", icon=":material/download:", key="robustness.export.trajectories"):
        files = exports_panel.frame_files(frame)
        exports_panel.row("Tokens per layer", subject, files, key="robustness.export")
        for name, figure in figures.items():
            chart_exports(f"Chart {name}", subject, figure)
