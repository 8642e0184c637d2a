"""Method: Learned Token Pruning in steps, equations and costs."""

import numpy as np
import streamlit as st

from app.ltp_ui.method import text as method_text
from app.ltp_ui.shared import blocks, charts
from app.ltp_ui.shared.wording import number, percent
from ltp_core.flops import unpruned_flops

st.title("Method", anchor=False)
answer_slot = st.container()
st.markdown(
    "The method as in [Kim et al., KDD 2022](https://doi.org/10.1145/3534678.3539260), and where this "
    "program differs from it."
)

st.header("What one layer does", anchor="layer")
for column, step in zip(st.columns(4), method_text.STEPS, strict=True):
    with column.container(border=True, height="stretch"):
        st.markdown(f"**{step.title}**")
        st.markdown(step.text)

st.header("Soft and hard mask", anchor="mask")
st.markdown(
    "A step has no slope to learn from. So training begins with a soft mask, whose slope is set by "
    "the temperature, and ends with the step."
)
# On a phone the picture stands before the sliders that move it.
picture_slot, controls_slot = st.columns([2, 1], gap="large", vertical_alignment="center")
with controls_slot:
    temperature = st.select_slider(
        "Temperature T",
        [0.002, 0.005, 0.0128, 0.03, 0.064, 0.128, 0.25, 0.5],
        value=0.128,
        key="temperature",
        bind="query-params",
        help="Falls from 0.128 to 0.013 in training.",
    )
    threshold = st.slider("Threshold θ", 0.0, 1.5, 0.64, 0.01, key="theta", bind="query-params")
    near = 1 / (1 + np.exp(-np.clip(0.1 / temperature, 0, 500)))
    st.caption(
        "With this temperature, a token that scores 0.1 above the threshold "
        f"counts as {number(float(near))} of a token."
    )
with answer_slot:
    blocks.answer(
        "While a text is read, each layer removes the tokens that receive too little attention: at a "
        f"threshold of {threshold:.2f}, those with at most {percent(threshold, 0)} of an even share."
    )
with picture_slot:
    blocks.show(
        charts.mask_chart(threshold, temperature),
        alt=f"Soft mask with temperature {temperature} and step at {threshold} over the score.",
    )

st.header("Equations", anchor="equations")
for equation in method_text.EQUATIONS:
    number_of, formula, text = st.columns([1, 8, 4], vertical_alignment="center")
    number_of.markdown(f"({equation.number})")
    formula.latex(equation.latex)
    text.markdown(equation.text)

st.header("Three stages of training", anchor="stages")
for column, stage in zip(st.columns(3), method_text.STAGES, strict=True):
    with column.container(border=True, height="stretch"):
        st.markdown(f"**{stage.title}**")
        st.markdown(stage.text)

st.header("The unit of the score", anchor="unit")
st.latex(method_text.UNIT)
st.markdown(method_text.UNIT_TEXT)
with st.container(horizontal=True, vertical_alignment="bottom"):
    paper = st.number_input(
        "Threshold in the paper's unit", 0.0, 1.0, 0.01, 0.001, format="%.4f", width=240
    )
    st.metric("In ours, times uniform attention", number(paper * method_text.PAPER_WIDTH))

st.header("LTP-S: one training for every budget", anchor="ltp-s")
st.markdown(method_text.LTP_S_SCORE)
st.latex(method_text.LTP_S)
st.markdown(method_text.LTP_S_TEXT)

st.header("TR-BERT: tokens leave before a layer", anchor="tr-bert")
st.markdown(method_text.TR_BERT_RULE)
st.latex(method_text.TR_BERT)
st.markdown(method_text.TR_BERT_TEXT)

st.header("What it costs", anchor="cost")
st.markdown(method_text.COST_TEXT)
st.markdown("Accounting **paper**, the rule of its authors' code:")
st.latex(method_text.PAPER_COST)
st.markdown("Accounting **executed**, what the packed runner of this program does:")
st.latex(method_text.EXECUTED_COST)
gigaflops = unpruned_flops(np.array([26]), num_layers=12, hidden=768, intermediate=3072) / 1e9
st.caption(
    f"Check: RoBERTa-base at 26 tokens by this formula {gigaflops:.2f} GFLOPs; the paper, Table 1, "
    "SST-2 average: 4.45."
)

st.header("Differs from the paper", anchor="differences")
st.markdown("\n".join(f"- {line}" for line in method_text.DEVIATIONS))

st.header("Words", anchor="words")
st.table(
    {"term": [t for t, _ in method_text.GLOSSARY], "meaning": [m for _, m in method_text.GLOSSARY]}
)
