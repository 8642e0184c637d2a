"""Examples behind the trajectories: which one is picked, its text, and the way to Explore."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

import pandas as pd
import streamlit as st

from app.ltp_ui.robustness import data
from app.ltp_ui.robustness.controls import Choice
from app.ltp_ui.robustness.data import Series
from app.ltp_ui.shared import state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.trajectories import charts
from ltp_core.analysis.example_records import ExampleRecords
from ltp_core.analysis.runs import Row
from ltp_core.analysis.trajectories import trajectories
from ltp_core.checkpoint_places import holds_weights
from ltp_core.records import UserError

ROW = "row"
"""The picked example in the URL."""

PICKED = "robustness.picked"
"""In the session: set of runs and split, row number."""

TABLE = "robustness.examples"


def picked_row(
    choice: Choice, records: ExampleRecords, rows: Sequence[int], titles: Sequence[str]
) -> int | None:
    """Row number of the picked example: what was clicked last, else that of a link."""
    place = choice.comparable, choice.split
    given = state.whole(state.adopt(ROW))
    if given is not None:
        st.session_state[PICKED] = (place, given)
    seen = st.session_state.setdefault("robustness.seen", {})
    for source, clicked in _clicks(choice, rows, titles):
        if seen.get(source) != clicked:
            seen[source] = clicked
            st.session_state[PICKED] = (place, clicked)
    picked_in, row = st.session_state.get(PICKED, (place, None))
    known: int | None = row if picked_in == place and row in records.row else None
    state.publish(ROW, None if known is None else str(known))
    return known


def _clicks(
    choice: Choice, rows: Sequence[int], titles: Sequence[str]
) -> Iterator[tuple[str, int | None]]:
    """What each widget has selected now."""
    table = st.session_state.get(TABLE)
    chosen = table["selection"]["rows"] if table else []
    yield TABLE, rows[chosen[0]] if chosen and chosen[0] < len(rows) else None
    for title in titles:
        key = chart_key(choice, title)
        chart = st.session_state.get(key)
        points = (chart["selection"].get(charts.PICK) or []) if chart else []
        row = points[0].get("row") if points else None
        yield key, row if isinstance(row, int) else None


def chart_key(choice: Choice, title: str) -> str:
    """Key of the chart of one run."""
    return f"robustness.sample.{choice.task}.{title}"


# ---- examples and their texts ----


def examples_section(
    choice: Choice, records: ExampleRecords, rows: Sequence[int], picked: int | None
) -> None:
    """The sample as a table, and the text of the picked one."""
    st.header("These examples", anchor=False)
    st.dataframe(
        examples_frame(records, rows),
        hide_index=True,
        height=260,
        key=TABLE,
        on_select="rerun",
        selection_mode="single-row",
        alt="The sampled examples: row, tokens by layer, truth and prediction.",
    )
    if picked is None:
        st.caption("Choose a row to see its text and to open it in Explore.")
    else:
        _example_text(choice, picked)


def examples_frame(records: ExampleRecords, rows: Sequence[int]) -> pd.DataFrame:
    """One line an example, in the order given."""
    steps, place = trajectories(records), {int(row): i for i, row in enumerate(records.row)}
    is_correct = records.is_correct
    lines = []
    for row in rows:
        i = place[row]
        line = {
            "row": row,
            "tokens": int(records.length[i]),
            "after each layer": " → ".join(map(str, steps[i, 1:])),
            "truth": _shown(records.label[i]),
            "prediction": _shown(records.prediction[i]),
        }
        if is_correct is not None:
            line["right"] = bool(is_correct[i])
        lines.append(line)
    return pd.DataFrame(lines)


def _shown(value: float) -> str:
    return f"{value:.2f}".removesuffix(".00")


def _example_text(choice: Choice, row: int) -> None:
    """The text of the picked example, where the data set is at hand, with a way to Explore."""
    run = _askable(choice.pruned or choice.series)
    try:
        found = data.text_of(run, choice.split, row)
    except UserError as error:
        st.info(
            f"Only positions and counts are stored. {plain(str(error))}",
            title=f"The text of row {row} is not at hand",
            icon=":material/text_snippet:",
        )
        return
    with st.container(border=True):
        for text in found.texts:
            st.markdown(plain(text))
        if not found.is_certain:
            st.caption(
                "The data set at hand is not exactly the one that was evaluated: this may be another "
                "text."
            )
        _explore_link(run, found.texts)


def _askable(found: Sequence[Series]) -> Row:
    """The first run that is stored with its weights; else the first."""
    runs = [run for each in found for run in each.runs]
    return next((run for run in runs if holds_weights(run.folder)), runs[0])


def _explore_link(run: Row, texts: Sequence[str]) -> None:
    params = dict(zip((state.TEXT, state.PAIR), texts, strict=False))
    is_short = all(len(quote(text)) <= state.MAX_URL_CHARACTERS for text in texts)
    model = {state.CHECKPOINT: run.run} if holds_weights(run.folder) else {}
    label, icon = "Open in Explore", ":material/filter_alt:"
    if is_short:
        st.page_link(state.EXPLORE, label=label, icon=icon, query_params={**params, **model})
    elif st.button(label, icon=icon):
        st.session_state.update(params)
        st.switch_page(state.EXPLORE, query_params=model)
    if not model:
        st.caption("This run is stored without its weights, so another checkpoint answers there.")
