"""Length shift: training against evaluation lengths, of the tasks at hand and of own data."""

import streamlit as st

from app.ltp_ui.lengths import data, export, job, own, panels, tables, wording
from app.ltp_ui.shared import blocks
from app.ltp_ui.shared.boundary import boundary, plain
from ltp_core.lengths.shift import paper_row

st.title("Length shift", anchor=False)

# On screen the verdict and the picture come before what they are about.
verdict_slot, picture_slot = st.container(), st.container()
chooser, tokenizer_slot = st.columns([2, 1], vertical_alignment="bottom")
with tokenizer_slot:
    tokenizer = data.choose_tokenizer()
sets, problems = data.stored_sets(tokenizer.facts)
job.take_over(sets)
own.take_over()
panels.problems(problems)

if sets:
    with chooser:
        train, evaluation = data.choose_sides(data.sides_of(sets))
    paper = paper_row(train, evaluation)
    with st.container(horizontal=True, vertical_alignment="center"):
        view = panels.choose_view()
        export_slot = st.container(width="content")
    numbers_slot = st.container()

    st.header("How far apart", anchor="divergence")
    rule, measure = data.choose_rule(train)
    shift = data.shift(train, evaluation, rule)
    panels.divergences(shift, measure)
    with verdict_slot:
        blocks.answer(wording.verdict(shift))
    with picture_slot:
        panels.picture(view, train, evaluation, shift, paper)
    with numbers_slot:
        panels.headline(shift)
        panels.summary(shift, train, evaluation, paper)
    with export_slot:
        export.export_popover(
            export.Shown(
                train=train,
                evaluation=evaluation,
                shift=shift,
                figure=panels.figure(view, train, evaluation, paper),
                table_2=lambda: tables.table_2(sets),
            )
        )
    st.header("Table 2, ours beside the paper’s", anchor="table-2")
    panels.table_2(sets, tokenizer.facts.name)
else:
    st.info(
        f"No lengths have been counted with the tokenizer of {plain(tokenizer.facts.name)} yet: count "
        "a task or your own data below.",
        title="No length counts",
        icon=":material/straighten:",
    )

st.header("Your own data", anchor="own")
with boundary("Counting"):
    own.panel(tokenizer)

with st.expander("How this is computed"):
    st.markdown(wording.HOW)
