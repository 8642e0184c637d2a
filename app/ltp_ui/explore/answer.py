"""What a question is answered with: where it stands in the context, and how far its tokens get."""

from __future__ import annotations

from html import escape

import pandas as pd
import streamlit as st

from app.ltp_ui.explore.panels import DROPPED_ANSWERS, shortened
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.live import Card, Question
from app.ltp_ui.shared.wording import counted, percent
from app.ltp_ui.token_view.texts import UNKNOWN
from ltp_core import store
from ltp_core.analysis.tradeoff import f1_by_group
from ltp_core.records import Answer, Candidate, Trace, UserError

MANY_UNKNOWN = 0.2
AROUND = 450
"""Characters of the context that are shown before and behind the answer; the whole stands above."""

NEAR_BLANK = 30
"""Characters from a cut within which a blank is looked for, so that words stay whole; some texts have none."""

CONTEXT_STYLE = "line-height: 1.6; overflow-wrap: anywhere"
ANSWER_WIDTH = 140
"""Pixels; the other columns must stay in sight."""

MARK_STYLE = "font-weight: 600; padding: 0 0.15em; border-radius: 3px; text-decoration: underline"


def answer_section(card: Card, question: Question, trace: Trace, answer: Answer) -> None:
    """The context with the answer marked, what became of its tokens, and the runners-up."""
    st.header("The answer", anchor=False)
    left, right = st.columns([5, 3], gap="large")
    with left:
        st.html(context_html(question.text_pair or "", answer))
        lines = notes(trace, answer)
        if card.pruned_answers and trace.lengths[-1] < trace.lengths[0]:
            lines.append(DROPPED_ANSWERS[card.pruned_answers])
        for line in lines:
            st.markdown(plain(line))
        if measured := measured_f1(card.name_or_path):
            st.caption(measured)
    with right:
        st.dataframe(
            candidates_frame(trace, answer),
            hide_index=True,
            height="content",
            column_config={
                "Answer": st.column_config.TextColumn(width=ANSWER_WIDTH),
                "Score": st.column_config.NumberColumn(format="%.2f", width=60),
                "Layers": st.column_config.TextColumn(width=60),
            },
            alt="The likeliest answers with their scores.",
        )
        st.caption(
            "Score: the logits of start and end, added. “No answer” is the first token's. Layers: how "
            "many of them all tokens of the answer survive."
        )


def context_html(context: str, answer: Answer) -> str:
    """What surrounds the best part of the context, escaped, that marked; paler where not given."""
    best = answer.best
    if best is None:
        return f'<div dir="auto" style="{CONTEXT_STYLE}">{escape(_start(context))}</div>'
    opacity = "" if answer.is_answered else "; opacity: 0.6; text-decoration-style: dotted"
    title = "the answer" if answer.is_answered else "the likeliest part, not given as the answer"
    parts = [escape(part) for part in _around(context, best)]
    mark = f'<mark title="{title}" style="{MARK_STYLE}{opacity}">{parts[1]}</mark>'
    return f'<div dir="auto" style="{CONTEXT_STYLE}">{parts[0]}{mark}{parts[2]}</div>'


def _around(context: str, best: Candidate) -> tuple[str, str, str]:
    """What stands before the answer, the answer, and what stands behind; long texts are cut."""
    before, behind = context[: best.begin], context[best.end :]
    if len(before) > AROUND:
        tail = before[-AROUND:]
        before = "… " + tail[tail.find(" ", 0, NEAR_BLANK) + 1 :]
    return before, context[best.begin : best.end], _start(behind)


def _start(text: str) -> str:
    if len(text) <= AROUND:
        return text
    blank = text.rfind(" ", AROUND - NEAR_BLANK, AROUND)
    return text[: blank if blank >= 0 else AROUND] + " …"


def notes(trace: Trace, answer: Answer) -> list[str]:
    """How sure the answer is, what became of its tokens, and what the reader should know."""
    lines = [certainty(answer)]
    if answer.best is not None:
        lines.append(fate(trace, answer.best))
    if answer.num_windows > 1:
        lines.append(
            f"The context is too long for one pass: it was read in {answer.num_windows} windows that "
            f"overlap. The tokens, FLOPs and latency on this page are those of window {answer.window}, "
            "in which the model answers when nothing is pruned."
        )
    share = sum(map(_is_unreadable, trace.tokens)) / max(1, len(trace.tokens))
    if share >= MANY_UNKNOWN:
        lines.append(
            f"{percent(share, 0)} of the tokens are unknown to the tokenizer or single letters that it "
            "falls back to: this model can hardly read the text."
        )
    return lines


def _is_unreadable(token: str) -> bool:
    """Unknown, or one letter within a word of a script for which there are no longer pieces."""
    return token in UNKNOWN or (token.startswith("##") and len(token) == 3 and not token.isascii())


def certainty(answer: Answer) -> str:
    """Why the question is answered, or why not."""
    if answer.best is None:
        return "No token that is left can be an answer."
    difference, bound = answer.null_difference, answer.null_threshold
    if bound == float("inf"):
        return "This checkpoint answers every question; it never says that there is no answer."
    verdict = "answered" if answer.is_answered else "left unanswered"
    return (
        f"The question is {verdict}: “no answer” scores {difference:+.2f} against the best part of "
        f"the text, and the limit chosen in training is {bound:+.2f}."
    ).replace("-", "−")


def fate(trace: Trace, best: Candidate) -> str:
    """How far the tokens of the answer get."""
    if best.tokens is None:
        return "Its tokens are in another window than the one shown below."
    first, last = best.tokens
    counts, num_layers = trace.num_survived[first : last + 1], len(trace.layers)
    tokens = counted(len(counts), "token")
    if min(counts) == num_layers:
        verb = "survives" if len(counts) == 1 else "survive"
        return f"Its {tokens} {verb} all {num_layers} layers."
    left = [
        f"“{trace.tokens[first + i]}” after layer {count + 1}"
        for i, count in enumerate(counts)
        if count < num_layers
    ]
    named = ", ".join(left[:6]) + (" …" if len(left) > 6 else "")
    return f"Of its {tokens}, {len(left)} left: {named}."


def measured_f1(checkpoint: str) -> str:
    """How well a stored run answers and abstains; empty where that was not measured."""
    try:
        manifest = store.read_manifest(store.find_run(checkpoint))
    except UserError:
        return ""
    f1 = f1_by_group(manifest)
    if not f1:
        return ""
    rows = manifest.summary["validation"]["rows"]
    return (
        f"This checkpoint on {counted(rows, 'validation question')}: F1 {percent(f1['has answer'])} where "
        f"the text has an answer, {percent(f1['no answer'])} where it has none."
    )


def candidates_frame(trace: Trace, answer: Answer) -> pd.DataFrame:
    """The likeliest answers, "no answer" among them, by falling score."""
    rows = [(shortened(each.text), each.score, _layers(trace, each)) for each in answer.candidates]
    rows.append(("(no answer)", answer.null_score, ""))
    ordered = sorted(rows, key=lambda row: -row[1])
    return pd.DataFrame(ordered, columns=["Answer", "Score", "Layers"])


def _layers(trace: Trace, candidate: Candidate) -> str:
    if candidate.tokens is None:
        return "other window"
    first, last = candidate.tokens
    return f"{min(trace.num_survived[first : last + 1])} of {len(trace.layers)}"
