"""Explore a sentence: type a text, see which tokens a trained model drops, and turn the screws."""

import streamlit as st

from app.ltp_ui.explore import answer, controls, exports, panels, tokens
from app.ltp_ui.explore.picture import picture
from app.ltp_ui.shared import blocks, live

st.title("Explore a sentence", anchor=False)
st.markdown(
    "Each layer drops the tokens whose score does not exceed its threshold; later layers never see "
    "them again. Move the thresholds or save a token by hand, and the network runs again."
)

left, right = st.columns([5, 2], gap="large")
with right:
    name = controls.choose_checkpoint()
    if name is None:
        blocks.no_checkpoint()
        st.stop()
    with blocks.loading(name):
        card = live.card(name)
    panels.checkpoint_line(card)
    panels.compare_link(card)
with left:
    question = controls.ask(card)
if question is None:
    st.stop()

with st.spinner("Reading the text; a long one takes a while", show_time=True):
    length = len(live.learned_trace(question).tokens)
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    what_if = controls.what_if(card, length)
    with st.container(horizontal=True, width="content", height="content"):
        merge_words, show_special = controls.words_and_specials(card)
    export_slot = st.container(width="content")
verdict_slot = st.container()

# The picture first: what it is compared with takes two more passes, and the panels some time.
shown = picture(question, what_if, words=merge_words, special=show_special)
panels.length_notes(card, shown.trace)
tokens.tokens_section(shown)
others = panels.references(card, question)
with verdict_slot:
    panels.verdict(card, what_if, shown.trace, others)
if shown.trace.answer is not None:
    answer.answer_section(card, question, shown.trace, shown.trace.answer)
panels.outcomes(card, question, what_if, shown.trace, others)
panels.summary_section(shown.view, shown.trace, shown.learned)
with export_slot:
    exports.export_popover(shown)

with st.expander("How this is computed"):
    panels.how_computed(card)
