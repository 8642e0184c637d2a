"""The tab "Token kinds": which kinds of token leave first, counted over a whole data set."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import altair as alt
import pandas as pd
import streamlit as st

from app.ltp_ui.robustness import data
from app.ltp_ui.robustness.controls import Choice
from app.ltp_ui.robustness.panels import chart_exports
from app.ltp_ui.shared import blocks, charts, exports_panel
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.wording import percent
from ltp_core.checkpoint_places import holds_weights
from ltp_core.token_categories import GROUPINGS, layers_survived, survival

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

TITLES = {
    "special": "special tokens",
    "punctuation": "punctuation",
    "stop_word": "stop words",
    "piece": "pieces of words",
    "word": "other words",
    "frequency_1": "most frequent fifth",
    "frequency_2": "second fifth",
    "frequency_3": "third fifth",
    "frequency_4": "fourth fifth",
    "frequency_5": "rarest fifth",
}
GROUPING_TITLES = {"kind": "Kind of token", "frequency": "Frequency of token"}
DASHES = [[1, 0], [8, 3], [3, 3], [10, 3, 2, 3], [2, 2]]


def tab(choice: Choice, head: DeltaGenerator) -> None:
    """The whole tab; the answer and the picture go into `head`, above what was chosen."""
    frames = _counted(choice)
    if not frames:
        _empty(choice)
        return
    with st.container(horizontal=True, vertical_alignment="bottom", gap="medium"):
        title = st.selectbox("Run", list(frames), key=f"robustness.kinds.{choice.task}", width=260)
        grouping = _grouping()
        slot = st.container(width="content")
    surviving = survival(frames[title], grouping)
    figure = kinds_chart(surviving, grouping)
    with head:
        blocks.answer(plain(takeaway(surviving, title)))
        blocks.show(figure, alt=f"{title}: {_spoken(surviving)}")
    st.dataframe(kinds_table(surviving), hide_index=True, alt="Tokens of each kind by layer.")
    st.caption(plain(_HELP[grouping]))
    with slot, st.popover("Export", icon=":material/download:", key="robustness.export.kinds"):
        subject = f"{choice.task}-{choice.split}"
        files = exports_panel.frame_files(surviving)
        exports_panel.row("Token kinds", subject, files, key="robustness.export")
        chart_exports("Chart Token kinds", subject, figure)


def _counted(choice: Choice) -> dict[str, pd.DataFrame]:
    """Counts of the pruned runs that have them, by title."""
    found = {}
    for each in choice.pruned:
        frames = (data.token_kinds(run, choice.split) for run in each.runs)
        frame = next((each for each in frames if each is not None), None)
        if frame is not None:
            found[choice.titles[each.name]] = frame
    return found


def _empty(choice: Choice) -> None:
    st.info(
        "None of the chosen pruned runs has counts of token kinds for this split: they were stored "
        "before these were counted. For a run with weights this makes a run that has them:",
        title="Not counted yet",
        icon=":material/category:",
    )
    run = next((r for c in choice.pruned for r in c.runs if holds_weights(r.folder)), None)
    name = run.run if run else "CHECKPOINT"
    st.code(f"python -m ltp_core evaluate {name} --split {choice.split} --records", language="bash")


def _grouping() -> str:
    return str(
        st.segmented_control(
            "Group by",
            list(GROUPINGS),
            format_func=GROUPING_TITLES.__getitem__,
            default="kind",
            required=True,
            key="robustness.grouping",
            bind="query-params",
        )
    )


def takeaway(surviving: pd.DataFrame, title: str) -> str:
    """Which kinds leave first and last, in a sentence."""
    layers = int(surviving["layer"].max())
    survived = layers_survived(surviving)
    first, *later = [(TITLES[str(kind)], value) for kind, value in survived.items()]
    if not later:
        return f"{title}: all tokens are of one kind."
    return (
        f"With {title} {first[0]} go first, after {first[1]:.2f} of {layers} layers on average, then "
        f"{', '.join(f'{name} {value:.2f}' for name, value in later)}."
    )


def _spoken(surviving: pd.DataFrame) -> str:
    parts = [
        f"{TITLES[str(kind)]} {', '.join(percent(x, 0) for x in rows['share'])}"
        for kind, rows in surviving.groupby("kind", sort=False)
    ]
    return f"share of tokens still live after each layer: {'; '.join(parts)}."


def kinds_table(surviving: pd.DataFrame) -> pd.DataFrame:
    """One line a kind: tokens at the input, share after each layer, layers survived."""
    survived = layers_survived(surviving)
    lines = []
    for kind, rows in surviving.groupby("kind", sort=False):
        after = {
            f"after {layer}": percent(share)
            for layer, share in zip(rows["layer"], rows["share"], strict=True)
            if layer > 0
        }
        lines.append(
            {
                "kind": TITLES[str(kind)],
                "tokens": int(rows["tokens"].iloc[0]),
                "layers survived": f"{survived[kind]:.2f}",
                **after,
            }
        )
    return pd.DataFrame(lines)


def kinds_chart(surviving: pd.DataFrame, grouping: str) -> Figure:
    """Share of the tokens of each kind that are live, by layer."""
    names = [kind for kind in GROUPINGS[grouping] if kind in set(surviving["kind"])]
    frame = surviving.assign(series=surviving["kind"].map(TITLES))
    return Figure(spec=_spec(tuple(TITLES[name] for name in names)) | {"height": 380}, frame=frame)


@cache
def _spec(names: tuple[str, ...]) -> dict[str, Any]:
    legend = alt.Legend(
        title=None,
        orient="top",
        symbolType="stroke",
        symbolSize=600,
        columns=alt.ExprRef("width < 420 ? 2 : 5"),
    )
    color = alt.Color("series:N", scale=alt.Scale(domain=list(names)), legend=legend)
    dashes = alt.Scale(domain=list(names), range=DASHES[: len(names)])
    base = alt.Chart(alt.NamedData("table")).encode(
        x=charts.layer_axis("after layer (0 is the input)"),
        y=alt.Y("share:Q", title="still live", axis=alt.Axis(format=".0%", tickCount=6)),
        tooltip=[
            alt.Tooltip("series:N", title="kind"),
            alt.Tooltip("layer:O", title="after layer"),
            alt.Tooltip("share:Q", format=".1%"),
            alt.Tooltip("tokens:Q", format=","),
        ],
    )
    lines = base.mark_line(strokeWidth=2.5).encode(
        color=color, strokeDash=alt.StrokeDash("series:N", scale=dashes, legend=legend)
    )
    dots = base.mark_point(filled=True, size=55, opacity=1).encode(color=color)
    return charts.layered([lines, dots])


_HELP = {
    "kind": "Every token is the first of these that it fits: special (added by the tokenizer), "
    "punctuation, stop word (English words of grammar, negations included), piece of a word that the "
    "tokenizer divided, other word. Layers survived: of all layers, how many a token of the kind is "
    "kept by on average.",
    "frequency": "Tokens of the texts by how often they occur in this split, special ones left out: "
    "five bands of about a fifth of all tokens each.",
}
