"""Length shift: training against evaluation lengths, of the tasks at hand and of own data."""

import streamlit as st

from app.ltp_ui import (
    lengths_data,
    lengths_export,
    lengths_job,
    lengths_own,
    lengths_panels,
    lengths_table,
    lengths_text,
)
from app.ltp_ui.boundary import boundary, plain
from ltp_core.data.lengths_report import paper_row

st.title("Length shift", anchor=False)
st.markdown(lengths_text.INTRODUCTION)

chooser, tokenizer_slot = st.columns([2, 1], vertical_alignment="bottom")
with tokenizer_slot:
    tokenizer = lengths_data.choose_tokenizer()
sets, problems = lengths_data.stored_sets(tokenizer.facts)
lengths_job.take_over(sets)
lengths_own.take_over()
lengths_panels.problems(problems)

if sets:
    with chooser:
        train, evaluation = lengths_data.choose_sides(lengths_data.sides_of(sets))
    paper = paper_row(train, evaluation)
    numbers_slot = st.container()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = lengths_panels.choose_view()
        export_slot = st.container(width="content")
    picture_slot = st.container()

    st.header("How far apart", anchor="divergence")
    rule, measure = lengths_data.choose_rule(train)
    shift = lengths_data.shift(train, evaluation, rule)
    lengths_panels.divergences(shift, measure)
    with numbers_slot:
        lengths_panels.headline(shift, measure)
    with picture_slot:
        lengths_panels.picture(view, train, evaluation, shift, paper)
        lengths_panels.summary(shift, train, evaluation, paper)
    with export_slot:
        lengths_export.export_popover(
            lengths_export.Shown(
                train=train,
                evaluation=evaluation,
                shift=shift,
                figure=lengths_panels.figure(view, train, evaluation, paper),
                table_2=lambda: lengths_table.table_2(sets),
            )
        )
    st.header("Table 2, ours beside the paper’s", anchor="table-2")
    lengths_panels.table_2(sets, tokenizer.facts.name)
else:
    st.info(
        f"No lengths have been counted with the tokenizer of {plain(tokenizer.facts.name)} yet: count "
        "a task or your own data below.",
        title="No length counts",
        icon=":material/straighten:",
    )

st.header("Your own data", anchor="own")
with boundary("Counting"):
    lengths_own.panel(tokenizer)

with st.expander("How this is computed"):
    st.markdown(lengths_text.HOW)
