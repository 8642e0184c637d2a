"""Explore a sentence: type a text, see which tokens a trained model drops, and turn the screws."""

import streamlit as st

from app.ltp_ui.explore import answer, controls, exports, panels, tokens
from app.ltp_ui.explore.picture import picture
from app.ltp_ui.shared import blocks, live

st.title("Explore a sentence", anchor=False)

# On screen the answer and the picture come before what they depend on, but for the text itself.
text_slot, verdict_slot, picture_slot = (st.container() for _ in range(3))
pruning_slot = controls.bar()
with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
    name = controls.choose_checkpoint()
    more_slot = st.container(
        horizontal=True, vertical_alignment="center", width="content", height="content"
    )
if name is None:
    blocks.no_checkpoint()
    st.stop()
with text_slot:
    with blocks.loading(name):
        card = live.card(name)
    question = controls.ask(card)
if question is None:
    st.stop()

with verdict_slot, st.spinner("Reading the text; a long one takes a while", show_time=True):
    length = len(live.learned_trace(question).tokens)
with pruning_slot:
    what_if = controls.what_if(card, length)
with more_slot:
    merge_words, show_special = controls.words_and_specials(card)
    export_slot = st.container(width="content")
    panels.compare_link(card)
    panels.prune_link(card)
panels.checkpoint_line(card)

# The picture first: what it is compared with takes two more passes, and the panels some time.
shown = picture(question, what_if, words=merge_words, special=show_special)
with picture_slot:
    panels.length_notes(card, shown.trace)
    panels.convergence_note(card)
    tokens.show_view(shown)
others = panels.references(card, question)
with verdict_slot:
    panels.verdict(card, what_if, shown.trace, others)
tokens.token_panel(shown)
if shown.trace.answer is not None:
    answer.answer_section(card, question, shown.trace, shown.trace.answer)
panels.outcomes(card, question, what_if, shown.trace, others)
panels.summary_section(shown)
with export_slot:
    exports.export_popover(shown)

with st.expander("How this is computed"):
    panels.how_computed(card)
