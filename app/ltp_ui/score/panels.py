"""The table of predictions with and without pruning, its order, and what a row leads to."""

from __future__ import annotations

import shlex
from urllib.parse import quote

import pandas as pd
import streamlit as st

from app.ltp_ui.score.data import Scored, Source
from app.ltp_ui.shared import blocks, exports_panel, state, strength
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.live import Card
from app.ltp_ui.shared.strength import Strength
from app.ltp_ui.shared.wording import SAME_WEIGHTS, WITH_PRUNING, counted, percent
from ltp_core.checkpoint_places import checkpoint_folder

TABLE_HEIGHT = 460
CHANGE, CONFIDENCE, LENGTH, FLOPS, ORDER = (
    "What pruning changes",
    "Least confident",
    "Longest",
    "Most FLOPs",
    "Order of the file",
)


def answer(scored: Scored, source: Source) -> None:
    """What pruning changes on these texts, and what it saves, in one sentence."""
    frame = scored.frame
    cost = f"{percent(scored.relative_flops['paper'], 0)} of the FLOPs"
    texts = counted(len(frame), "example text" if source.examples else "text")
    if "flips" in frame:
        flips = int(frame["flips"].sum())
        share = "" if source.examples else f" ({percent(flips / len(frame))})"
        changes = f"{counted(flips, 'label')}{share}" if flips else "no label"
        sentence = f"On {texts} pruning changes {changes} and takes {cost}."
    else:
        sentence = f"On {texts} pruning moves a value by up to {frame['change'].max():.3f} and takes {cost}."
    more = "Choose a file of your own below; it stays on this machine." if source.examples else ""
    blocks.answer(plain(sentence), more)


def headline(scored: Scored) -> None:
    """How many texts, how many labels pruning changes, and at which cost."""
    frame, texts = scored.frame, scored.texts
    flops = scored.relative_flops
    with st.container(horizontal=True):
        drawn = f" of {texts.total:,}" if texts.total > len(frame) else ""
        st.metric("Texts", f"{len(frame):,}{drawn}", width="content")
        if "flips" in frame:
            flips = int(frame["flips"].sum())
            share = percent(flips / len(frame))
            st.metric("Labels that pruning changes", f"{flips:,} ({share})", width="content")
        else:
            st.metric("Greatest change", f"{frame['change'].max():.3f}", width="content")
        st.metric("Relative FLOPs, paper", percent(flops["paper"]), width="content")
        st.metric("Relative FLOPs, executed", percent(flops["executed"]), width="content")
    notes = []
    if texts.total > len(frame):
        notes.append("drawn at random; the command below takes every row")
    if texts.left_out:
        notes.append(f"{counted(texts.left_out, 'row')} without a text left out")
    if notes:
        st.caption(f"{'; '.join(notes).capitalize()}.")


def table(scored: Scored, card: Card) -> int | None:
    """The rows in the chosen order.

    Returns:
        Position, in the file's order, of the row that is selected; None where none is.
    """
    order = st.segmented_control(
        "Show first",
        [CHANGE, CONFIDENCE, LENGTH, FLOPS, ORDER],
        default=CHANGE,
        required=True,
        key="first",
        bind="query-params",
    )
    frame = in_order(scored.frame, order)
    known = [name for name in _CONFIG if name in frame]
    event = st.dataframe(
        frame[known],
        column_config={name: _CONFIG[name] for name in known},
        column_order=[name for name in known if name not in _ON_DEMAND],
        hide_index=True,
        height=min(TABLE_HEIGHT, 38 + 35 * len(frame)),
        on_select="rerun",
        selection_mode="single-row",
        key=f"score.table.{card.name}.{order}",
        alt="The texts with both predictions, tokens and cost.",
    )
    rows = event.selection.rows
    return int(frame.index[rows[0]]) if rows else None


def in_order(frame: pd.DataFrame, order: str) -> pd.DataFrame:
    """The rows sorted; the index stays the position in the file.

    What pruning changes comes first by label or size of the change, then by the loss of confidence.
    """
    if order == CHANGE:
        if "change" in frame:
            return frame.sort_values("change", ascending=False, kind="stable")
        lost = (frame["confidence"] - frame["unpruned_confidence"]).abs()
        keys = pd.DataFrame({"flips": frame["flips"], "lost": lost})
        return frame.loc[keys.sort_values(["flips", "lost"], ascending=False, kind="stable").index]
    if order == CONFIDENCE and "confidence" in frame:
        return frame.sort_values("confidence", kind="stable")
    column = {LENGTH: "tokens", FLOPS: "flops_paper"}.get(order)
    return frame if column is None else frame.sort_values(column, ascending=False, kind="stable")


def choose_strength(card: Card) -> Strength:
    """How much is pruned, for a checkpoint that was trained for any budget; others as trained."""
    if card.curve is None:
        return Strength()
    folder = checkpoint_folder(card.name_or_path)
    return strength.choose(card.curve, folder, card.dense, "score")


def selected(scored: Scored, position: int | None, card: Card, pruned: Strength) -> None:
    """The chosen text with its way to Explore, where it is pruned as much."""
    if position is None:
        st.caption("Select a row to open its text in Explore.")
        return
    row = scored.frame.loc[position]
    texts = [str(row[name]) for name in ("text", "text_pair") if name in scored.frame]
    with st.container(border=True):
        for text in texts:
            st.markdown(plain(text[:600]) + ("…" if len(text) > 600 else ""))
        if any(len(quote(text)) > state.MAX_URL_CHARACTERS for text in texts):
            st.caption("This text is too long for a link: copy it into Explore.")
            return
        params = dict(zip((state.TEXT, state.PAIR), texts, strict=False))
        if card.curve is not None:
            percents = strength.percent_for(card.curve, pruned.factor)
            params[f"{state.SCALE}{strength.BUDGET}"] = str(percents)
        st.page_link(
            state.EXPLORE,
            label="Open in Explore",
            icon=":material/filter_alt:",
            query_params={state.CHECKPOINT: card.name_or_path, **params},
        )


def downloads(scored: Scored, source: Source, card: Card, pruned: Strength) -> None:
    """The table as files, and the command for the whole file."""
    frame = scored.frame.drop(columns=["flops_paper", "flops_executed", "unpruned_flops"])
    files = exports_panel.frame_files(frame)
    exports_panel.row("Predictions", card.name, files, key="score.export")
    path = source.name if source.path is None else str(source.path)
    names = ("--text", "--text-pair")
    columns = [part for pair in zip(names, source.columns, strict=False) for part in pair]
    command = ["predict", card.name_or_path, path, *columns, *pruned.arguments]
    command += ["--out", "scored.csv"]
    st.caption("Every row of the file, with probabilities, in any size:")
    st.code(f"python -m ltp_core {shlex.join(command)}", language="bash", wrap_lines=True)


_ON_DEMAND = ("unpruned_label", "unpruned_confidence", "tokens_left")
"""Columns that have no room on a small screen: the table's menu shows them."""

_CONFIG = {
    "flips": st.column_config.CheckboxColumn("Flips", help="Pruning changes the label.", width=50),
    "text": st.column_config.TextColumn("Text", width=150),
    "text_pair": st.column_config.TextColumn("Second text", width=100),
    "label": st.column_config.TextColumn(WITH_PRUNING, width=95),
    "unpruned_label": st.column_config.TextColumn(SAME_WEIGHTS),
    "confidence": st.column_config.NumberColumn("Confidence", format="percent", width=80),
    "unpruned_confidence": st.column_config.NumberColumn("… unpruned", format="percent"),
    "value": st.column_config.NumberColumn(WITH_PRUNING, format="%.3f", width=95),
    "unpruned_value": st.column_config.NumberColumn("Unpruned", format="%.3f", width=75),
    "change": st.column_config.NumberColumn("Change", format="%.3f", width=65),
    "tokens": st.column_config.NumberColumn("Tokens", width=60),
    "tokens_left": st.column_config.NumberColumn(
        "Left at the end", help="Tokens behind the last layer."
    ),
    "relative_flops_paper": st.column_config.NumberColumn(
        "FLOPs", format="percent", help="Relative FLOPs, the paper’s accounting.", width=65
    ),
}
