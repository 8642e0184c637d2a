"""What the explore page shows below its controls."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import streamlit as st

from app.ltp_ui.explore import latency
from app.ltp_ui.explore.picture import Picture
from app.ltp_ui.explore.tokens import pin_token, view_key
from app.ltp_ui.method.text import LTP_S, LTP_S_SCORE, TR_BERT, TR_BERT_RULE
from app.ltp_ui.shared import blocks, charts, live, state
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.live import Card, Question
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
from ltp_core.records import Prediction, Trace, UserError, WhatIf

_CARD_WIDTH = 260
_NUMBER_WIDTH = 170
LATENCY_DELAY_S = 0.6
LATENCY_WAITED = "explore.latency"
LATENCY = "Speed against unpruned"


def references(card: Card, question: Question) -> dict[str, Prediction | UserError]:
    """What the answer is compared with, by name: the same weights unpruned, and the dense counterpart."""
    found: dict[str, Prediction | UserError] = {}
    if card.num_run == card.num_layers:
        found[SAME_WEIGHTS] = live.unpruned_prediction(question)
    try:
        if dense := live.dense_prediction(question):
            found[DENSE] = dense
    except UserError as error:
        found[DENSE] = error
    return found


def verdict(
    card: Card, what_if: WhatIf, trace: Trace, others: Mapping[str, Prediction | UserError]
) -> None:
    """Whether pruning changed the answer, and what it saves, in one line."""
    known = {n: p for n, p in others.items() if not isinstance(p, UserError)}
    named = ", ".join(f"{_IN_A_SENTENCE[name]} {_value(each)}" for name, each in known.items())
    lengths = f"{trace.lengths[0]} → {trace.lengths[-1]} tokens"
    cost = f"{percent(trace.relative_flops['paper'])} of the FLOPs"
    said = _verdict(card, what_if, trace.prediction, known)
    blocks.answer(said, " · ".join(["", *filter(None, (named, lengths, cost))]).lstrip())


def _verdict(
    card: Card, what_if: WhatIf, prediction: Prediction, known: Mapping[str, Prediction]
) -> str:
    """The answer, and whether pruning changed it against the same weights, else the dense model."""
    value = _value(prediction)
    reference = next(iter(known.values()), None)
    if not card.prunes and what_if.is_neutral:
        return f"Nothing is pruned: {value}"
    if reference is None:
        return f"With pruning: {value}"
    if prediction.label is None and prediction.answer is None:
        moved = f"{prediction.logits[0] - reference.logits[0]:+.2f}".replace("-", "−")
        return f"Pruning moves the value by {moved}: {value}"
    if prediction.label == reference.label:
        return f"Pruning keeps the answer: {value}"
    return f":orange[Pruning changes the answer: {value}]"


def _title(card: Card, what_if: WhatIf) -> str:
    """What the pass that is shown is called."""
    return WITH_PRUNING if card.prunes or not what_if.is_neutral else AS_TRAINED


_IN_A_SENTENCE = {SAME_WEIGHTS: "unpruned", DENSE: "dense counterpart"}


def outcomes(
    card: Card,
    question: Question,
    what_if: WhatIf,
    trace: Trace,
    others: Mapping[str, Prediction | UserError],
) -> None:
    """The three predictions and the cost."""
    with st.container(horizontal=True):
        title = _title(card, what_if)
        prediction_card(
            title,
            trace.prediction,
            None,
            "The answer of the pass shown above, with its tokens removed.",
        )
        for name, reference in others.items():
            if isinstance(reference, UserError):
                _absent_card(name, reference)
            else:
                prediction_card(name, reference, trace.prediction, _REFERENCE_HELP[name])
    with st.container(horizontal=True):
        st.metric(
            "Tokens",
            f"{trace.lengths[0]} → {trace.lengths[-1]}",
            width=_NUMBER_WIDTH,
            help="Tokens at the input, special ones included, and after the last layer.",
        )
        for name, help_text in (("paper", _PAPER_FLOPS), ("executed", _EXECUTED_FLOPS)):
            value = percent(trace.relative_flops[name])
            if card.score_kind == "factored":
                help_text += _STATE_FLOPS[name]
            if card.score_kind == "probability":
                help_text += " What its policies compute is counted."
            st.metric(f"Relative FLOPs, {name}", value, width=_NUMBER_WIDTH, help=help_text)
        with st.container(width=_CARD_WIDTH):
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


def _absent_card(name: str, error: UserError) -> None:
    st.metric(
        name,
        "not at hand",
        border=True,
        width=_CARD_WIDTH,
        height="stretch",
        help=plain(str(error)),
    )


def latency_card(question: Question, what_if: WhatIf) -> None:
    """Measures after everything else is on the screen, and not while a slider is moving."""
    is_known = latency.known(question, what_if) is not None
    st.session_state[LATENCY_WAITED] = is_known
    wait_s = None if is_known else LATENCY_DELAY_S
    st.fragment(_latency_card, run_every=wait_s)(question, what_if, waits=not is_known)


def _latency_card(question: Question, what_if: WhatIf, *, waits: bool) -> None:
    with boundary("The timing"):
        slot = st.empty()
        if not st.session_state[LATENCY_WAITED]:
            st.session_state[LATENCY_WAITED] = True
            slot.metric(LATENCY, "…", help="Measured in a moment.")
            return
        if latency.known(question, what_if) is None:
            for done in latency.measure(question, what_if):
                # Streamlit ends this run here when a slider was moved meanwhile.
                slot.metric(LATENCY, "…", f"{done} passes", delta_color="off", delta_arrow="off")
            if waits:
                st.rerun()  # ends the waiting
        measured = latency.known(question, what_if)
        assert measured is not None
        pruned_ms, unpruned_ms = measured.medians_ms
        low, speedup, high = measured.speedups
        passes = len(measured.pruned_ms)
        slot.metric(
            LATENCY,
            "too noisy to say" if measured.is_noisy else f"{speedup:.2f}×",
            f"{low:.2f}–{high:.2f}× in half of {passes} passes",
            delta_color="off",
            delta_arrow="off",
            help=(
                f"Unpruned time by pruned time of this sentence on this machine, the median of "
                f"{passes} pairs of passes taken in turn ({pruned_ms:.1f} and {unpruned_ms:.1f} ms): "
                "one sequence at a time, packed runner, same weights; below 1× pruning is slower. "
                "A short sentence gains little: most of its time goes into calls, not into tokens."
            ),
        )
        st.button(
            "Measure again",
            icon=":material/replay:",
            type="tertiary",
            on_click=latency.forget,
            args=(question, what_if),
        )


def summary_section(shown: Picture) -> None:
    """Survivors by layer, and the decisions that were closest."""
    st.header("Survivors by layer", anchor=False)
    lengths = ", ".join(map(str, shown.trace.lengths))
    chart = charts.survivors_chart(shown.trace, shown.learned)
    show(chart, alt=f"Live tokens by layer: {lengths}.")
    st.header("Nearest misses", anchor=False)
    _misses(shown)


def _misses(shown: Picture) -> None:
    """The table; a click on a row pins its token in the picture."""
    frame = misses_frame(shown.view)
    if frame.empty:
        st.caption("No token here was decided on by a threshold.")
        return
    key = f"explore.misses.{view_key(shown.question)}"

    def pin() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows:
            miss = nearest_misses(shown.view)[rows[0]]
            pin_token(shown, shown.view.columns[miss.index].positions[0], miss.layer_index + 1)

    st.dataframe(
        frame,
        hide_index=True,
        height="content",
        column_config={
            "Token": st.column_config.TextColumn(width=90),
            "Position": st.column_config.NumberColumn(width=60),
            "Layer": st.column_config.NumberColumn(width=50),
            "Decision": st.column_config.TextColumn(width=65),
            "Score": st.column_config.TextColumn(width=55),
            "Threshold": st.column_config.TextColumn(width=70),
            "Margin": st.column_config.TextColumn(width=70),
        },
        on_select=pin,
        selection_mode="single-row",
        key=key,
        alt="Decisions closest to their threshold.",
    )
    st.caption(
        "These decisions would change first if a threshold moved a little. Click a row to pin its token."
    )


def misses_frame(view: TokenView) -> pd.DataFrame:
    """The nearest misses as a table; positions count from 0, layers from 1."""
    return pd.DataFrame(
        [
            {
                "Token": view.columns[miss.index].text,
                "Position": view.columns[miss.index].positions[0],
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
    """One line about the checkpoint under its selector, its name for the command line first."""
    facts: Sequence[str] = [
        card.name,
        layers_of(card),
        f"trained on up to {card.trained_length} tokens",
        "runs on the CPU" if card.device == "cpu" else f"runs on {card.device}",
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


def prune_link(card: Card) -> None:
    """For a model that prunes nothing: to where it gets thresholds without training."""
    if card.prunes or card.pruned_answers is not None or card.num_run < card.num_layers:
        return
    st.page_link(
        state.TRAIN,
        label="Prune this model",
        icon=":material/content_cut:",
        query_params={"what": state.PRUNE, state.CHECKPOINT: card.name_or_path},
    )


def layers_of(card: Card) -> str:
    """How many layers there are, and how many of them run if not all do."""
    if card.num_run < card.num_layers:
        return f"{card.num_run} of {card.num_layers} layers run"
    return f"{card.num_layers} layers"


def convergence_note(card: Card, *, subject: str = "The checkpoint") -> None:
    """Says so where policies came to all or nothing, which is no choice."""
    if card.converged is False:
        shares = " and ".join(percent(share) for share in card.selected)
        st.warning(
            f"{subject} **did not converge**: on the validation rows its policies let in {shares} of the "
            "tokens that they may drop, which is all or nothing.",
            icon=":material/rule:",
        )


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
            f"{subject} was trained on up to {card.trained_length:,} tokens. This text has {length:,}, so its "
            "answer is less reliable."
        )


def how_computed(card: Card) -> None:
    """Score, rule and cost in three formulas, with the paper's equation numbers."""
    if card.score_kind == "probability":
        st.markdown(f"{TR_BERT_RULE} {protection(card)}".rstrip())
        st.latex(TR_BERT)
    else:
        _score_and_rule(card)
    st.markdown(
        "**Cost**: FLOPs are twice the multiply–accumulates; relative FLOPs compare with the same "
        "model on the same input without padding and without pruning."
    )
    st.page_link(
        state.METHOD, label="All equations on the method page", icon=":material/functions:"
    )
    st.caption(plain(f"Checkpoint {card.name} on {card.base}."))


def _score_and_rule(card: Card) -> None:
    """Of methods that compare attention received."""
    st.markdown(
        "**Score** (n times Eq. 7): the attention that token *i* receives from the live tokens *j*, "
        "averaged over the *H* heads. Its mean over the live tokens is 1."
    )
    st.latex(r"s_i^{(l)} = \frac{1}{H} \sum_{h=1}^{H} \sum_{j\ \mathrm{live}} A^{(h,l)}_{j,i}")
    if card.score_kind == "factored":
        st.markdown(LTP_S_SCORE)
        st.latex(LTP_S)
    st.markdown(
        "**Rule** (Eq. 8): token *i* stays after layer *l* if it was live and its score exceeds the "
        f"threshold θ of the layer. {protection(card)}".rstrip()
    )


def protection(card: Card) -> str:
    """Why the first token never leaves, and what the head makes of tokens that do."""
    if card.pruned_answers is None:
        return FIRST_IS_READ if card.protects_first else ""
    if card.reads_mean:
        return DROPPED_IN_MEAN[card.pruned_answers]
    first = FIRST_IS_NO_ANSWER if card.protects_first else ""
    return f"{first} The head reads every token. {DROPPED_ANSWERS[card.pruned_answers]}".lstrip()


FIRST_IS_READ = "The first token is protected, because the head reads it."
FIRST_IS_NO_ANSWER = "The first token is protected, because it stands for “no answer”."
DROPPED_ANSWERS = {
    "restored": "A dropped token can still be the answer: it answers with the last state computed for it.",
    "excluded": "A dropped token cannot be an answer: neither its first nor its last token.",
}
DROPPED_IN_MEAN = {
    "restored": "The head reads the mean of all tokens: a dropped one counts with the last state computed for it.",
    "excluded": "The head reads the mean of the tokens that are left.",
}
"""By the method's setting `pruned_answers`."""

_REFERENCE_HELP = {
    SAME_WEIGHTS: (
        "This checkpoint with pruning switched off: what removing the tokens changes, all else equal."
    ),
    DENSE: (
        "A separately finetuned checkpoint that never saw pruning: same data, same number of epochs. "
        "Lost accuracy is always told against this one."
    ),
}
_PAPER_FLOPS = (
    "FLOPs of this input as a fraction of the unpruned model's, counted as in the paper: a layer's "
    "attention is paid for every token that enters it, the FFN for those that stay."
)
_EXECUTED_FLOPS = (
    "The same for what the packed runner does: query, key and value for every token that enters a "
    "layer; attention output, its projection and the FFN only for those that stay."
)
_STATE_FLOPS = {
    "paper": " The product with each token's state, by which this method decides, is counted.",
    "executed": (
        " This method decides by the state after attention, so here the attention output and its "
        "projection are paid for every token that enters."
    ),
}
