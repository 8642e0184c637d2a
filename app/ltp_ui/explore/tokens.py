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
from app.ltp_ui.shared.wording import PROBABILITY_HELP, SCORE_UNIT_HELP, counted, number
from app.ltp_ui.token_view.component import token_view
from app.ltp_ui.token_view.texts import token_texts
from app.ltp_ui.token_view.view import Column, TokenView, last_attended
from app.ltp_ui.token_view.wording import nearest_misses, quoted, why

VIEW_KEY = "explore.view"
PANEL = "explore.panel"
"""Key of the fragment below the picture: a click on a token runs it alone."""

PINS = "explore.pins"
"""How often a token was pinned from outside the picture, which it draws anew then."""

HEAD_START_S = 0.05
"""For the browser to draw the picture: what comes meanwhile it draws first, and charts take long."""


def view_key(question: Question) -> str:
    """Session key of the component; another for another question, whose tokens are others."""
    return f"{VIEW_KEY}.{hashlib.sha256(repr(question).encode()).hexdigest()[:12]}"


def pin_token(shown: Picture, position: int, layer: int) -> None:
    """Pins a token and scrubs to a layer as a click on the picture would; before it is drawn."""
    st.session_state[view_key(shown.question)] = {"token": position, "layer": layer}
    st.session_state[PINS] = st.session_state.get(PINS, 0) + 1


def show_view(shown: Picture) -> None:
    """The picture; what is pinned or scrubbed on it runs the panel below, a forced token the page."""
    with boundary("The token view"):
        key, start = view_key(shown.question), shown.telling_layer
        token, layer = _pinned_and_scrubbed(shown)

        def on_force() -> None:
            if wish := st.session_state[key].get("force"):
                positions, how = wish["positions"], wish["how"]
                controls.force(positions, None if controls.forced(positions) == how else how)

        token_view(
            shown.view,
            key=key,
            token=token,
            layer=start if layer is None else layer,
            can_force=True,
            version=st.session_state.get(PINS, 0),
            on_select=_run_panel if shown.view.columns else None,
            on_force=on_force,
        )
        time.sleep(HEAD_START_S)


def _run_panel() -> None:
    st.rerun(PANEL)


def _pinned_and_scrubbed(shown: Picture) -> tuple[int | None, int | None]:
    """Position of the pinned token and the scrubbed layer: of the component, at first of a link."""
    current = st.session_state.get(view_key(shown.question)) or {}
    if current:
        return current.get("token"), current.get("layer")
    return state.whole(state.adopt("token")), state.whole(state.adopt("layer"))


@st.fragment(key=PANEL)
def token_panel(shown: Picture) -> None:
    """Why one token left or stayed: the pinned one, else the one whose decision was closest."""
    view, start = shown.view, shown.telling_layer
    token, layer = _pinned_and_scrubbed(shown)
    layer = start if layer is None else min(layer, view.num_layers)
    state.publish("token", None if token is None else str(token))
    state.publish("layer", None if layer == start else str(layer))
    if not view.columns:
        return
    with boundary("The panel of a token"):
        index, title = _panel_subject(view, token)
        column = view.columns[index]
        st.header(f"{title}: {plain(quoted(column))}", anchor=False)
        with st.container(horizontal=True, vertical_alignment="bottom"):
            st.html(f"<p>{escape(why(view, index))}</p>")
            _by_hand(column)
        left, right = st.columns(2, gap="large")
        with left:
            if view.score_kind == "probability":
                st.markdown("**Probability against one half**", help=PROBABILITY_HELP)
            else:
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


def _by_hand(column: Column) -> None:
    names: dict[str | None, str] = {None: "As scored", "keep": "Keep", "drop": "Drop"}
    positions = column.positions
    key = f"explore.hand.{positions[0]}"
    st.session_state[key] = names[controls.forced(positions)]

    def choose() -> None:
        chosen = st.session_state[key]
        controls.force(
            positions, next((how for how, name in names.items() if name == chosen), None)
        )
        st.rerun()

    def undo() -> None:
        controls.forget_forced()
        st.rerun()

    if controls.num_forced():
        label = f"Undo {counted(controls.num_forced(), 'token')}"
        st.button(label, icon=":material/undo:", on_click=undo, help="Undo what was set by hand.")
    st.segmented_control(
        "By hand",
        list(names.values()),
        key=key,
        on_change=choose,
        disabled=column.is_protected,
        help="It is protected and always stays."
        if column.is_protected
        else "Keep or drop this token whatever its score, and run the network again.",
    )


def _senders(shown: Picture, index: int, layer: int) -> None:
    view = shown.view
    layer_index = min(max(layer, 1) - 1, last_attended(view, index))
    score = view.scores[layer_index][index]
    if score is None and view.score_kind != "probability":
        st.caption("It was dropped before the first layer, so nothing attended to it.")
        return
    st.markdown(
        f"**Who attends to it in layer {layer_index + 1}**",
        help="Attention averaged over heads, by the token that pays it. Move the layer slider to "
        "see another layer.",
    )
    attention = live.received_attention(shown.question, shown.what_if, layer_index)
    positions = view.columns[index].positions
    frame = charts.senders(attention, positions, token_texts(shown.trace))
    received = frame["attention"].sum()
    total = number(score if view.score_kind == "attention" and score is not None else received)
    show(charts.senders_chart(frame), alt=f"Attention received, sum {total}.")
    rest = frame["attention"].iloc[charts.MAX_BARS :]
    others = (
        f"Another {number(rest.sum())} comes from {counted(len(rest), 'token')} more; "
        if len(rest)
        else ""
    )
    named = f"its score in layer {layer_index + 1}"
    if score is None or view.score_kind == "probability":
        st.caption(f"{others}{total} in all, which no policy looks at.")
    elif view.score_kind == "factored":
        st.caption(f"{others}{total} in all; {named}, with the learned factor, is {number(score)}.")
    else:
        st.caption(f"{others}{total} in all, {named}.")
