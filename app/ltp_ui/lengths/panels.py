"""What the length page shows: picture, numbers, divergences, Table 2."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.ltp_ui.lengths import charts, tables, wording
from app.ltp_ui.lengths.wording import TITLES, tokens
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.palette import DARK, LIGHT
from app.ltp_ui.shared.wording import percent
from ltp_core.lengths.counts import LengthSet
from ltp_core.lengths.shift import WASSERSTEIN, LengthShift, Side, Table2Row

HISTOGRAM, CUMULATIVE = "Histogram", "Cumulative"
_NUMBER_WIDTH = 190


def choose_view() -> str:
    """Histogram or cumulative shares."""
    return st.segmented_control(
        "Picture",
        [HISTOGRAM, CUMULATIVE],
        default=HISTOGRAM,
        required=True,
        key="view",
        bind="query-params",
        label_visibility="collapsed",
    )


def figure(view: str, train: Side, evaluation: Side, paper: Table2Row | None) -> Figure:
    """The chosen picture."""
    first, second = train.lengths.counts, evaluation.lengths.counts
    if view == HISTOGRAM:
        return charts.histogram_chart(first, second)
    return charts.ecdf_chart(first, second, paper)


def picture(
    view: str, train: Side, evaluation: Side, shift: LengthShift, paper: Table2Row | None
) -> None:
    """The picture, and what has to be said about it."""
    show(figure(view, train, evaluation, paper), alt=_alt(shift))
    first, second = train.lengths.counts, evaluation.lengths.counts
    notes = [
        "Filled: training; outline: evaluation. Every bin holds the same whole number of tokens; "
        "the vertical rules are the 99th percentiles."
        if view == HISTOGRAM
        else "Solid: training; dashed: evaluation; the vertical rules are the 99th percentiles."
    ]
    if view == CUMULATIVE and paper is not None:
        notes.append("Hollow marks: the quartiles in the paper, Table 2, in RoBERTa’s tokens.")
    limit = charts.shown_limit(first, second)
    notes.append(wording.hidden_sentence(charts.hidden(first, second), limit))
    st.caption(" ".join(filter(None, notes)))


def _alt(shift: LengthShift) -> str:
    return (
        f"Lengths of training and evaluation inputs: medians {tokens(shift.train.q2)} and "
        f"{tokens(shift.evaluation.q2)} tokens, 99th percentiles {tokens(shift.train.p99)} and "
        f"{tokens(shift.evaluation.p99)}."
    )


def headline(shift: LengthShift) -> None:
    """The shift in tokens, and the tail that training hardly saw; the divergences stand below."""
    with st.container(horizontal=True):
        st.metric(
            "Median, evaluation − training",
            f"{shift.evaluation.q2 - shift.train.q2:+.0f} tokens".replace("-", "−"),
            width=_NUMBER_WIDTH,
        )
        st.metric(
            TITLES[WASSERSTEIN],
            f"{shift.measures[WASSERSTEIN]:.0f} tokens",
            width=_NUMBER_WIDTH,
            help="By how many tokens the average input would have to change.",
        )
        st.metric(
            "Longer than 99 % of training",
            percent(shift.share_longer_than_p99),
            width=_NUMBER_WIDTH,
            help="Share of the evaluation inputs; about 1 % where nothing shifts.",
        )


def summary(shift: LengthShift, train: Side, evaluation: Side, paper: Table2Row | None) -> None:
    """The tail in a sentence, the quartiles of both sets, and where the sets come from."""
    st.markdown(wording.tail_sentence(shift))
    _table(tables.summary_frame(shift, paper), alt="Quartiles of both sets in tokens.")
    st.caption(wording.side_sentence("Training", train))
    st.caption(wording.side_sentence("Evaluation", evaluation))


def divergences(shift: LengthShift, measure: str) -> None:
    """Every measure beside what chance alone gives, in a table and in words."""
    _table(
        tables.measures_frame(shift, measure),
        alt="Divergences beside what chance alone gives.",
    )
    st.markdown(wording.floor_sentence(shift, measure))
    st.caption(wording.rule_sentence(shift))
    if warning := wording.left_out_sentence(shift):
        st.warning(warning, icon=":material/warning:")


def table_2(sets: Sequence[LengthSet], tokenizer: str) -> None:
    """Our Table 2 beside the paper's."""
    table = tables.table_2(sets)
    _table(
        table.drop(columns=tables.OUR_ROWS),
        alt="Quartiles and divergence by task, ours and the paper's.",
    )
    st.caption(
        plain(
            f"Quartiles Q1 / Q2 / Q3 in tokens; KL(train ‖ evaluation) in nats. Ours: {tokenizer}’s "
            "tokens, 20 bins for RTE, MRPC and STS-B, 50 otherwise, over the bins that both sets "
            "have. Grey columns named paper: its Table 2, in RoBERTa’s tokens. By chance: "
            "median and 95 % bound of KL between draws from one distribution, of our sizes; what is "
            "below it says nothing about a shift."
        )
    )
    with st.expander("Which rows ours are"):
        _table(table[["Task", tables.OUR_ROWS]], alt="Rows that were counted, by task.")


def _table(frame: pd.DataFrame, *, alt: str) -> None:
    """A table of texts; the paper's columns and lines are grey."""
    grey = f"color: light-dark({LIGHT.muted}, {DARK.muted})"

    def style(line: pd.Series[str]) -> list[str]:
        is_papers = tables.PAPER in str(line.iloc[0])
        return [grey if is_papers or tables.PAPER in str(name) else "" for name in line.index]

    st.table(frame.style.apply(style, axis=1), hide_index=True, border="horizontal", alt=alt)


def problems(found: Sequence[str]) -> None:
    """Stored counts that cannot be used."""
    for problem in found:
        st.warning(plain(problem), icon=":material/broken_image:")
