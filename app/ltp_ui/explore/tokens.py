"""The token view of the explore page and the panel of one token below it."""

from __future__ import annotations

import hashlib
import time
from html import escape

import streamlit as st

from app.ltp_ui.explore import controls
from app.ltp_ui.explore.picture import Picture
from app.ltp_ui.shared import charts, live, state
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.live import Question
from app.ltp_ui.shared.wording import SCORE_UNIT_HELP, counted, number
from app.ltp_ui.token_view.component import token_view
from app.ltp_ui.token_view.texts import display_texts
from app.ltp_ui.token_view.view import TokenView
from app.ltp_ui.token_view.wording import nearest_misses, quoted, why

VIEW_KEY = "explore.view"
RERUN = "explore.rerun"
DRAWN = "explore.drawn"
HEAD_START_S = 0.05
"""For the browser to draw the picture: what comes meanwhile it draws first, and charts take long."""


@st.fragment
def tokens_section(shown: Picture) -> None:
    """Token view and the panel of one token; a click reruns this part only."""
    with boundary("The token view"):
        token, layer = _show_view(shown)
        if st.session_state.get(DRAWN) != id(shown):
            st.session_state[DRAWN] = id(shown)
            time.sleep(HEAD_START_S)
        if shown.view.columns:
            _token_panel(shown, token, layer)


def view_key(question: Question) -> str:
    """Session key of the component; another for another question, whose tokens are others."""
    return f"{VIEW_KEY}.{hashlib.sha256(repr(question).encode()).hexdigest()[:12]}"


def _show_view(shown: Picture) -> tuple[int | None, int]:
    """The component; returns the pinned token's position and the scrubbed layer."""
    view, key, start = shown.view, view_key(shown.question), shown.telling_layer
    current = st.session_state.get(key) or {}
    token = current.get("token") if current else state.whole(state.adopt("token"))
    layer = current.get("layer") if current else state.whole(state.adopt("layer"))

    def on_force() -> None:
        if wish := st.session_state[key].get("force"):
            positions, how = wish["positions"], wish["how"]
            controls.force(positions, None if controls.forced(positions) == how else how)
            st.session_state[RERUN] = True

    if st.session_state.pop(RERUN, False):
        st.rerun()
    result = token_view(
        view,
        key=key,
        token=token,
        layer=start if layer is None else layer,
        can_force=True,
        on_force=on_force,
    )
    state.publish("token", None if result.token is None else str(result.token))
    scrubbed = start if result.layer is None else min(result.layer, view.num_layers)
    state.publish("layer", None if scrubbed == start else str(scrubbed))
    return result.token, scrubbed


def _token_panel(shown: Picture, token: int | None, layer: int) -> None:
    """Why one token left or stayed: the pinned one, else the one whose decision was closest."""
    view = shown.view
    index, title = _panel_subject(view, token)
    column = view.columns[index]
    st.subheader(f"{title}: {plain(quoted(column))}", anchor=False)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.html(f"<p>{escape(why(view, index))}</p>")
        _by_hand(column.positions)
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Score against threshold**", help=SCORE_UNIT_HELP)
        chart = charts.score_chart(view, index)
        show(chart, alt=f"Score and threshold by layer. {why(view, index)}")
    with right:
        _senders(shown, index, layer)


def _panel_subject(view: TokenView, token: int | None) -> tuple[int, str]:
    pinned = None if token is None else view.column_of(token)
    if pinned is not None:
        return pinned, "Pinned token"
    misses = nearest_misses(view, limit=1)
    return (misses[0].index, "Closest call") if misses else (0, "First token")


def _by_hand(positions: tuple[int, ...]) -> None:
    names: dict[str | None, str] = {None: "As scored", "keep": "Keep", "drop": "Drop"}
    key = f"explore.hand.{positions[0]}"
    st.session_state[key] = names[controls.forced(positions)]

    def choose() -> None:
        chosen = st.session_state[key]
        controls.force(
            positions, next((how for how, name in names.items() if name == chosen), None)
        )
        st.session_state[RERUN] = True

    def undo() -> None:
        controls.forget_forced()
        st.session_state[RERUN] = True

    if controls.num_forced():
        label = f"Undo {counted(controls.num_forced(), 'token')}"
        st.button(label, icon=":material/undo:", on_click=undo, help="Undo what was set by hand.")
    st.segmented_control(
        "By hand",
        list(names.values()),
        key=key,
        on_change=choose,
        help="Keep or drop this token whatever its score, and run the network again.",
    )


def _senders(shown: Picture, index: int, layer: int) -> None:
    view = shown.view
    last = max(i for i, row in enumerate(view.scores) if i == 0 or row[index] is not None)
    layer_index = min(max(layer, 1) - 1, last)
    score = view.scores[layer_index][index]
    if score is None:
        st.caption("It was dropped before the first layer, so nothing attended to it.")
        return
    st.markdown(
        f"**Who attends to it in layer {layer_index + 1}**",
        help="Attention averaged over heads, by the token that pays it. Move the layer slider to "
        "see another layer.",
    )
    attention = live.received_attention(shown.question, shown.what_if, layer_index)
    positions = view.columns[index].positions
    frame = charts.senders(attention, positions, display_texts(shown.trace.tokens))
    total = number(frame["attention"].sum() if view.reads_states else score)
    show(charts.senders_chart(frame), alt=f"Attention received, sum {total}.")
    rest = frame["attention"].iloc[charts.MAX_BARS :]
    others = f"With {number(rest.sum())} from {counted(len(rest), 'other')}: " if len(rest) else ""
    named = f"its score in layer {layer_index + 1}"
    if view.reads_states:
        st.caption(f"{others}{total} in all; {named}, with the learned factor, is {number(score)}.")
    else:
        st.caption(f"{others}{total} in all, {named}.")
