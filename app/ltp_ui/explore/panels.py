"""What the explore page shows below its controls."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import streamlit as st

from app.ltp_ui.explore import latency
from app.ltp_ui.shared import charts, live, state
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.live import Card, Question, WhatIf
from app.ltp_ui.shared.wording import (
    AS_TRAINED,
    DENSE,
    SAME_WEIGHTS,
    WITH_PRUNING,
    apart,
    counted,
    margin,
    percent,
    points,
)
from app.ltp_ui.token_view.view import TokenView
from app.ltp_ui.token_view.wording import NearMiss, nearest_misses
from ltp_core.records import Prediction, Trace, UserError

_CARD_WIDTH = 260
_NUMBER_WIDTH = 170
LATENCY_DELAY_S = 0.6
LATENCY_WAITED = "explore.latency"


def outcomes(card: Card, question: Question, what_if: WhatIf, trace: Trace) -> None:
    """The three predictions and the cost."""
    pruned = trace.prediction
    with st.container(horizontal=True):
        title = WITH_PRUNING if card.prunes or not what_if.is_neutral else AS_TRAINED
        prediction_card(title, pruned, None, "The tokens below, removed as they leave.")
        if trace.unpruned and card.num_run == card.num_layers:
            prediction_card(SAME_WEIGHTS, trace.unpruned, pruned, _SAME_WEIGHTS_HELP)
        _dense_card(question, pruned)
    with st.container(horizontal=True):
        st.metric(
            "Tokens",
            f"{trace.lengths[0]} → {trace.lengths[-1]}",
            width=_NUMBER_WIDTH,
            help="Tokens at the input, special ones included, and after the last layer.",
        )
        for name, help_text in (("paper", _PAPER_FLOPS), ("executed", _EXECUTED_FLOPS)):
            value = percent(trace.relative_flops[name])
            st.metric(f"Relative FLOPs, {name}", value, width=_NUMBER_WIDTH, help=help_text)
        with st.container(width=250):
            latency_card(question, what_if)


def prediction_card(
    title: str, prediction: Prediction, pruned: Prediction | None, help_text: str
) -> None:
    """One prediction; with `pruned`, what pruning changes against it."""
    value, delta = _value(prediction), None
    if pruned is not None:
        delta = _change(pruned, prediction)
    st.metric(
        title,
        value,
        delta,
        delta_color="off",
        delta_arrow="off",
        border=True,
        width=_CARD_WIDTH,
        height="stretch",
        help=help_text,
    )


def _value(prediction: Prediction) -> str:
    if prediction.answer is not None:
        return plain(shortened(prediction.label)) if prediction.label else "no answer"
    if prediction.probabilities is None:
        return f"{prediction.logits[0]:.2f}"
    return f"{plain(prediction.label or '')} {percent(max(prediction.probabilities))}"


def shortened(text: str, limit: int = 40) -> str:
    """A text in one line of at most this many signs."""
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 1]}…"


def _change(pruned: Prediction, reference: Prediction) -> str:
    """What pruning does to the reference's answer."""
    if reference.answer is not None:
        return "pruning: same answer" if pruned.label == reference.label else "pruning: another"
    if reference.probabilities is None or pruned.probabilities is None:
        return f"pruning: {pruned.logits[0] - reference.logits[0]:+.2f}".replace("-", "−")
    top = max(range(len(reference.probabilities)), key=reference.probabilities.__getitem__)
    difference = points(pruned.probabilities[top] - reference.probabilities[top])
    flips = "" if pruned.label == reference.label else " – another answer"
    return f"pruning: {difference}{flips}"


def _dense_card(question: Question, pruned: Prediction) -> None:
    try:
        dense = live.dense_prediction(question)
    except UserError as error:
        st.metric(
            DENSE,
            "not at hand",
            border=True,
            width=_CARD_WIDTH,
            height="stretch",
            help=plain(str(error)),
        )
        return
    if dense is not None:
        prediction_card(DENSE, dense, pruned, _DENSE_HELP)


def latency_card(question: Question, what_if: WhatIf) -> None:
    """Measures after everything else is on the screen, and not while a slider is moving."""
    known = latency.known(question, what_if)
    wait_s = None if known else LATENCY_DELAY_S
    st.session_state[LATENCY_WAITED] = False
    st.fragment(_latency_card, run_every=wait_s)(question, what_if, known is None)


def _latency_card(question: Question, what_if: WhatIf, is_new: bool) -> None:
    label = "Latency, pruned / unpruned"
    with boundary("The timing"):
        if is_new and not st.session_state[LATENCY_WAITED]:
            st.session_state[LATENCY_WAITED] = True
            st.metric(label, "…", help="Measured in a moment.")
            return
        measured = latency.measure(question, what_if)
        if is_new:
            st.rerun()  # ends the waiting
        st.metric(
            label,
            f"{measured.pruned_ms:.1f} / {measured.unpruned_ms:.1f} ms",
            help=(
                f"This machine's: median of {measured.repeats} passes each, taken in turn, one "
                "sequence at a time, packed runner, same weights. A short sentence gains little: "
                "most of its time goes into calls, not into tokens."
            ),
        )


def summary_section(view: TokenView, trace: Trace, learned: Trace | None) -> None:
    """Survivors by layer, and the decisions that were closest."""
    left, right = st.columns([5, 6], gap="large")
    with left:
        st.subheader("Survivors by layer", anchor=False)
        lengths = ", ".join(map(str, trace.lengths))
        show(charts.survivors_chart(trace, learned), alt=f"Live tokens by layer: {lengths}.")
    with right:
        st.subheader("Nearest misses", anchor=False)
        frame = misses_frame(view)
        if frame.empty:
            st.caption("No decision here hangs on a threshold.")
        else:
            st.dataframe(
                frame,
                hide_index=True,
                height="content",
                column_config={
                    "Token": st.column_config.TextColumn(width=95),
                    "Layer": st.column_config.NumberColumn(width=50),
                    "Decision": st.column_config.TextColumn(width=65),
                    "Score": st.column_config.TextColumn(width=60),
                    "Threshold": st.column_config.TextColumn(width=75),
                    "Margin": st.column_config.TextColumn(width=75),
                },
                alt="Decisions closest to their threshold.",
            )
            st.caption("A small change of threshold would turn these first.")


def misses_frame(view: TokenView) -> pd.DataFrame:
    """The nearest misses as a table."""
    return pd.DataFrame(
        [
            {
                "Token": view.columns[miss.index].text,
                "Layer": miss.layer_index + 1,
                "Decision": "left" if miss.left else "stayed",
                **dict(zip(("Score", "Threshold"), _score_and_threshold(view, miss), strict=True)),
                "Margin": margin(miss.margin),
            }
            for miss in nearest_misses(view)
        ]
    )


def _score_and_threshold(view: TokenView, miss: NearMiss) -> tuple[str, str]:
    score = view.scores[miss.layer_index][miss.index]
    threshold = view.thresholds[miss.layer_index]
    return apart(score or 0.0, threshold or 0.0)


def checkpoint_line(card: Card) -> None:
    """One line about the checkpoint under its selector."""
    facts: Sequence[str] = [
        f"task {card.task}" if card.task else "task unknown",
        f"method {card.method}",
        layers_of(card),
        f"trained on up to {card.trained_length} tokens",
        card.device,
    ]
    st.caption(plain(" · ".join(facts)))


def compare_link(card: Card) -> None:
    """To the compare page, with this checkpoint as A; it keeps the text."""
    st.page_link(
        state.COMPARE,
        label="Compare with another",
        icon=":material/compare_arrows:",
        query_params={state.A: card.name_or_path},
    )


def layers_of(card: Card) -> str:
    """How many layers there are, and how many of them run if not all do."""
    if card.num_run < card.num_layers:
        return f"{card.num_run} of {card.num_layers} layers run"
    return f"{card.num_layers} layers"


def length_notes(card: Card, trace: Trace, *, subject: str = "The network") -> None:
    """Says so where the input is longer than the network reads, or than it was trained on."""
    length = len(trace.tokens)
    if trace.num_cut:
        st.warning(
            f"{subject} reads {length:,} tokens at most; the last "
            f"{counted(trace.num_cut, 'token')} of the text were cut off.",
            icon=":material/content_cut:",
        )
    if length > card.trained_length:
        st.caption(
            f"{subject} was trained on up to {card.trained_length:,} tokens; with {length:,} expect "
            "less of it."
        )


def how_computed(card: Card) -> None:
    """Score, rule and cost in three formulas, with the paper's equation numbers."""
    st.markdown(
        "**Score** (n times Eq. 7): the attention that token *i* receives from the live tokens *j*, "
        "averaged over the *H* heads. Its mean over the live tokens is 1."
    )
    st.latex(r"s_i^{(l)} = \frac{1}{H} \sum_{h=1}^{H} \sum_{j\ \mathrm{live}} A^{(h,l)}_{j,i}")
    st.markdown(
        "**Rule** (Eq. 8): token *i* stays after layer *l* if it was live and its score exceeds the "
        f"threshold θ of the layer. {protection(card)}".rstrip()
    )
    st.markdown(
        "**Cost**: FLOPs are twice the multiply–accumulates; relative FLOPs compare with the same "
        "model on the same input without padding and without pruning."
    )
    st.page_link(
        state.METHOD, label="All equations on the method page", icon=":material/functions:"
    )
    st.caption(plain(f"Checkpoint {card.name} on {card.base}."))


def protection(card: Card) -> str:
    """Why the first token never leaves, and what the head makes of tokens that do."""
    if card.pruned_answers is None:
        return FIRST_IS_READ if card.protects_first else ""
    first = FIRST_IS_NO_ANSWER if card.protects_first else ""
    return f"{first} The head reads every token. {DROPPED_ANSWERS[card.pruned_answers]}".lstrip()


FIRST_IS_READ = "The first token is protected, because the head reads it."
FIRST_IS_NO_ANSWER = "The first token is protected, because it stands for “no answer”."
DROPPED_ANSWERS = {
    "restored": "A dropped token can still be the answer: it answers with the last state computed for it.",
    "excluded": "A dropped token cannot be an answer: neither its first nor its last token.",
}
"""By the method's setting `pruned_answers`."""

_SAME_WEIGHTS_HELP = (
    "This checkpoint with pruning switched off: what removing the tokens changes, all else equal."
)
_DENSE_HELP = (
    "A separately finetuned checkpoint that never saw pruning: same data, same number of epochs. "
    "Claims of lost accuracy are made against this one."
)
_PAPER_FLOPS = (
    "FLOPs of this input as a fraction of the unpruned model's, counted as in the paper: a layer's "
    "attention is paid for every token that enters it, the FFN for those that stay."
)
_EXECUTED_FLOPS = (
    "The same for what the packed runner does: query, key and value for every token that enters a "
    "layer; attention output, its projection and the FFN only for those that stay."
)
