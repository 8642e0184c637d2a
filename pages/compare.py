"""Compare: one text, two checkpoints or settings, and who still reads which token."""

import streamlit as st

from app.ltp_ui import blocks, compare_controls, compare_panels, live, texts
from app.ltp_ui.compare_wording import SAME, verdict

st.title("Compare", anchor=False)
st.markdown(
    "One text, read by two networks: two checkpoints, or one that prunes more or less than it learned. "
    "See after which layer they part, and what that changes."
)

choices = compare_controls.choose()
if choices is None:
    blocks.no_checkpoint()
    st.stop()
a, b = choices
if not compare_controls.asks_alike(a.card, b.card):
    st.stop()
asked = texts.ask(a.card.task or b.card.task)
if asked is None:
    st.stop()

with st.container(horizontal=True, vertical_alignment="center", gap="medium"):
    merge_words, show_special = compare_controls.words_and_specials()
    compare_controls.links(choices)

both = compare_panels.sides(choices, asked, words=merge_words, special=show_special)
compare_panels.notes(choices, both)
compare_panels.outcomes(choices, both)
shown = compare_panels.comparison(choices, both)
if shown is None:
    st.stop()
same = compare_controls.is_same(a, b)
sentence = SAME if same else verdict(shown, live.words(a.question(asked)))
compare_panels.tokens_section(
    shown, repr((a.card.name_or_path, b.card.name_or_path, asked)), sentence
)
compare_panels.layers_section(shown)
with st.expander("How this is computed"):
    compare_panels.how_computed()
