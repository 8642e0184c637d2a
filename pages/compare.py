"""Compare: one text, two checkpoints or settings, and who still reads which token."""

import streamlit as st

from app.ltp_ui.compare import controls, panels
from app.ltp_ui.compare.wording import SAME, verdict
from app.ltp_ui.explore.controls import words_and_specials
from app.ltp_ui.shared import blocks, texts

st.title("Compare", anchor=False)

# On screen the answer and the picture come before what they depend on, but for the text itself.
text_slot, answer_slot, picture_slot = (st.container() for _ in range(3))
choices = controls.choose()
if choices is None:
    blocks.no_checkpoint()
    st.stop()
a, b = choices
if not controls.asks_alike(a.card, b.card):
    st.stop()
with text_slot:
    asked = texts.ask(a.card.task or b.card.task)
if asked is None:
    st.stop()

with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
    merge_words, show_special = words_and_specials(a.card, b.card)
    controls.links(choices)

both = panels.sides(choices, asked, words=merge_words, special=show_special)
shown = None
with picture_slot:
    shown = panels.comparison(choices, both)
    if shown is not None:
        same = controls.is_same(a, b)
        sentence = SAME if same else verdict(shown, both[0].trace.words)
        key = repr((a.card.name_or_path, b.card.name_or_path, asked))
        panels.tokens_section(shown, key, sentence)
with answer_slot:
    panels.answer(choices, both)
    panels.notes(choices, both)
panels.outcomes(choices, asked, both)
if shown is None:
    st.stop()
panels.layers_section(shown)
with st.expander("How this is computed"):
    panels.how_computed()
