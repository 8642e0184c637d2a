"""What the compare page shows below its controls."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from html import escape

import numpy as np
import pandas as pd
import streamlit as st

from app.ltp_ui.compare import charts, export
from app.ltp_ui.compare.comparison import Comparison, Side, compare, is_comparable
from app.ltp_ui.compare.component import compare_view, opening_layer
from app.ltp_ui.compare.controls import Choice
from app.ltp_ui.compare.wording import (
    answer_change,
    cost,
    prediction_of,
    setting,
    tokens_line,
    why_incomparable,
)
from app.ltp_ui.explore.panels import convergence_note, length_notes
from app.ltp_ui.shared import blocks, live, state
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.export import answer as answer_text
from app.ltp_ui.shared.labels import label_of
from app.ltp_ui.shared.texts import Texts
from app.ltp_ui.shared.wording import (
    PROBABILITY_HELP,
    SAME_WEIGHTS,
    SCORE_UNIT_HELP,
    percent,
    points,
)
from app.ltp_ui.token_view.view import build_view
from app.ltp_ui.token_view.wording import quoted, why
from ltp_core.flops import unpruned_flops
from ltp_core.records import Prediction, Trace

VIEW_KEY = "compare.view"
GIGA = 1e9


def sides(
    choices: tuple[Choice, Choice], texts: Texts, *, words: bool, special: bool
) -> list[Side]:
    """Runs both networks."""
    return [_side(choice, texts, words=words, special=special) for choice in choices]


def _side(choice: Choice, texts: Texts, *, words: bool, special: bool) -> Side:
    question = choice.question(texts)
    trace = live.trace(question, choice.what_if)
    view = build_view(
        trace,
        trace.words,
        merge_words=words,
        show_special=special,
        protected=trace.protected,
        score_kind=choice.card.score_kind,
    )
    named = setting(choice.scale, has_thresholds=choice.card.has_thresholds)
    return Side(letter=choice.letter, setting=named, trace=trace, view=view)


def notes(choices: tuple[Choice, Choice], both: list[Side]) -> None:
    """Says so where the text is longer than a network reads, or than it was trained on.

    And where a network's policies did not converge.
    """
    for choice in choices:
        convergence_note(choice.card, subject=choice.letter)
    limits = [(c.card.trained_length, s.trace.num_cut) for c, s in zip(choices, both, strict=True)]
    if limits[0] == limits[1]:
        length_notes(choices[0].card, both[0].trace, subject="Each of the two")
        return
    for choice, side in zip(choices, both, strict=True):
        length_notes(choice.card, side.trace, subject=choice.letter)


def comparison(choices: tuple[Choice, Choice], both: list[Side]) -> Comparison | None:
    """The two put together; None where their tokens differ, which is then said on the page."""
    a, b = both
    if is_comparable(a.trace, b.trace):
        return compare(a, b)
    alike = live.same_tokenizer(*(choice.card.name_or_path for choice in choices))
    reason = why_incomparable(a.trace, b.trace, same_tokenizer=alike)
    st.warning(plain(reason), icon=":material/compare_arrows:")
    return None


def answer(choices: tuple[Choice, Choice], both: list[Side]) -> None:
    """Whether the two give the same answer, and what each costs, in one sentence."""
    first, second = (prediction_of(side.trace) for side in both)
    alike = choices[0].card.label_names == choices[1].card.label_names
    says = [plain(answer_text(each)) for each in (first, second)]
    costs = [percent(side.trace.relative_flops["paper"], 0) for side in both]
    if not alike or (first.label is None and first.answer is None):
        verdict = f"A says {says[0]} and B {says[1]}"
    elif first.label == second.label:
        verdict = f"A and B give the same answer ({says[0]} and {says[1]})"
    else:
        verdict = f":orange[A and B give different answers] ({says[0]} and {says[1]})"
    blocks.answer(f"{verdict}; A takes {costs[0]} of the FLOPs and B {costs[1]}.")
    st.caption(
        " · ".join(
            f"{choice.letter}: {plain(label_of(choice.card.name_or_path))}{_setting(side)}"
            for choice, side in zip(choices, both, strict=True)
        )
    )


def _setting(side: Side) -> str:
    return f", {side.setting}" if side.setting else ""


def outcomes(choices: tuple[Choice, Choice], texts: Texts, both: list[Side]) -> None:
    """Answers, tokens and costs of both, and what changes from A to B."""
    st.table(
        outcomes_frame(choices, texts, both), border="horizontal", alt="Answers and costs of both."
    )
    st.caption(
        "Costs are fractions of the unpruned model’s FLOPs on this text, and how many billions (G) "
        "that is: as the paper counts (a layer’s attention for every token that enters it, the FFN "
        "for those that stay), and as the packed runner executes."
    )


def outcomes_frame(choices: tuple[Choice, Choice], texts: Texts, both: list[Side]) -> pd.DataFrame:
    """One row a quantity, the difference last; cells are Markdown."""
    a, b = both
    alike = choices[0].card.label_names == choices[1].card.label_names
    unpruned = [_unpruned(choice, texts) for choice in choices]
    rows = {
        "Answer": _answers([prediction_of(side.trace) for side in both], alike),
        SAME_WEIGHTS: _answers(unpruned, alike),
        "Tokens": (tokens_line(a), tokens_line(b), _left_difference(a, b)),
        **{f"FLOPs, {name}": _costs(choices, both, name) for name in ("paper", "executed")},
    }
    heads = [f"{side.letter}, {side.setting}" if side.setting else side.letter for side in both]
    return pd.DataFrame(rows, index=[*map(plain, heads), "B − A"]).T


def _unpruned(choice: Choice, texts: Texts) -> Prediction | None:
    """None where layers are left out: they were not trained to be there."""
    if choice.card.num_run < choice.card.num_layers:
        return None
    return live.unpruned_prediction(choice.question(texts))


def _answers(both: Sequence[Prediction | None], alike: bool) -> tuple[str, str, str]:
    a, b = both
    texts = ["–" if one is None else plain(answer_text(one)) for one in both]
    if a is None or b is None:
        return texts[0], texts[1], "–"
    return texts[0], texts[1], plain(answer_change(a, b, same_labels=alike))


def _left_difference(a: Side, b: Side) -> str:
    more = b.num_live(b.end) - a.num_live(a.end)
    return f"{more:+d} at the end".replace("-", "−") if more else "as many at the end"


def _costs(
    choices: tuple[Choice, Choice], both: list[Side], accounting: str
) -> tuple[str, str, str]:
    fractions = [side.trace.relative_flops[accounting] for side in both]
    a, b = (
        cost(fraction, fraction * _whole_gflops(choice, side.trace))
        for fraction, choice, side in zip(fractions, choices, both, strict=True)
    )
    return a, b, plain(points(fractions[1] - fractions[0]))


def _whole_gflops(choice: Choice, trace: Trace) -> float:
    card = choice.card
    flops = unpruned_flops(
        np.array([len(trace.tokens)]),
        num_layers=card.num_layers,
        hidden=card.hidden,
        intermediate=card.intermediate,
        ffn_maps=card.ffn_maps,
    )
    return flops / GIGA


@st.fragment
def tokens_section(shown: Comparison, asked: str, sentence: str) -> None:
    """The difference view and the panel of one token; a click reruns this part only.

    Args:
        shown: The comparison.
        asked: What was asked of which two, for the view's session key.
        sentence: Where the two differ first, for the exports.
    """
    with boundary("The difference view"):
        token, layer = _show_view(shown, asked)
        with st.container(horizontal=True, vertical_alignment="center"):
            st.markdown(plain(sentence))
            export.export_popover(shown, sentence, layer)
        if token is not None:
            _token_panel(shown, token)


def view_key(asked: str) -> str:
    """Session key of the component; another for another question, whose tokens are others."""
    return f"{VIEW_KEY}.{hashlib.sha256(asked.encode()).hexdigest()[:12]}"


def _show_view(shown: Comparison, asked: str) -> tuple[int | None, int]:
    """The component; returns the pinned token's position and the scrubbed layer.

    Until someone scrubs, the view stays with the first difference, wherever a multiplier moves it.
    """
    key, start = view_key(asked), opening_layer(shown)
    current = st.session_state.get(key) or {}
    if current:
        token, layer = current.get("token"), current.get("layer")
        if layer == st.session_state.get(f"{key}.start"):
            layer = None
    else:
        token, layer = state.whole(state.adopt("token")), state.whole(state.adopt("layer"))
        st.session_state[f"{key}.start"] = start if layer is None else None
    shown_layer = start if layer is None else min(layer, shown.num_layers)
    result = compare_view(shown, key=key, token=token, layer=shown_layer)
    state.publish("token", None if result.token is None else str(result.token))
    state.publish("layer", None if shown_layer == start else str(shown_layer))
    return result.token, shown_layer


def _token_panel(shown: Comparison, token: int) -> None:
    """Why the pinned token left or stayed in each of the two."""
    index = shown.a.view.column_of(token)
    if index is None:
        return
    st.header(f"Pinned token: {plain(quoted(shown.a.view.columns[index]))}", anchor=False)
    whys = [f"{side.letter}: {why(side.view, index)}" for side in (shown.a, shown.b)]
    st.html("".join(f"<p>{escape(text)}</p>" for text in whys))
    kinds = {side.view.score_kind for side in (shown.a, shown.b)}
    has_policies = "probability" in kinds
    title = (
        "Score, or probability, against threshold" if has_policies else "Score against threshold"
    )
    units = f"{SCORE_UNIT_HELP} TR-BERT: {PROBABILITY_HELP}" if has_policies else SCORE_UNIT_HELP
    st.markdown(f"**{title}**", help=units)
    show(charts.score_chart(shown, index), alt=" ".join(whys))


def layers_section(shown: Comparison) -> None:
    """Survivors and agreement, by layer: two charts and the numbers."""
    left, right = st.columns(2, gap="large")
    with left:
        st.header("Survivors by layer", anchor=False)
        lengths = [(shown.a.num_live(k), shown.b.num_live(k)) for k in range(shown.num_layers + 1)]
        texts = ", ".join(f"A {a} and B {b}" for a, b in lengths)
        show(charts.survivors_chart(shown), alt=f"Live tokens by layer: {texts}.")
    with right:
        st.header("Agreement by layer", anchor=False, help=_JACCARD_HELP)
        values = ", ".join("–" if t.jaccard is None else f"{t.jaccard:.2f}" for t in shown.tallies)
        show(charts.jaccard_chart(shown), alt=f"Jaccard index by layer: {values}.")
    st.dataframe(
        numbers_frame(shown), hide_index=True, height="content", alt="Counts of tokens by layer."
    )


def numbers_frame(shown: Comparison) -> pd.DataFrame:
    """`compare_export.layers_frame` with the names of the screen."""
    frame = export.layers_frame(shown)
    jaccard = ["–" if t.jaccard is None else f"{t.jaccard:.3f}" for t in shown.tallies]
    layers = ["input", *map(str, frame["layer"][1:])]
    frame = frame.assign(jaccard=jaccard, layer=layers)
    return frame.rename(
        columns={
            "layer": "After layer",
            "a_live": "A keeps",
            "b_live": "B keeps",
            "both": "Both",
            "only_a": "Only A",
            "only_b": "Only B",
            "neither": "Neither",
            "jaccard": "Jaccard",
        }
    )


def how_computed() -> None:
    """The Jaccard index in a formula, and what the four states mean."""
    st.markdown(
        "Both networks read the same tokens. After each layer a token is kept by both, by A only, by "
        "B only, or by neither. The **Jaccard index** of the kept tokens is"
    )
    st.latex(r"J^{(l)} = \frac{|K_A^{(l)} \cap K_B^{(l)}|}{|K_A^{(l)} \cup K_B^{(l)}|}")
    st.markdown(
        "with $K^{(l)}$ the tokens that go on after layer *l*: 1 if both keep the same ones, 0 if they "
        "have none in common. A protected first token is in both, so it never falls to 0. A network "
        "that has fewer layers ends earlier; from there on there is nothing to compare."
    )
    st.page_link(
        state.METHOD, label="Score, rule and cost on the method page", icon=":material/functions:"
    )


_JACCARD_HELP = "Tokens that both keep, divided by tokens that at least one keeps: 1 if both keep the same ones."
