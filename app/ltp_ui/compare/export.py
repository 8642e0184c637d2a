"""Files that a comparison can be taken away as."""

from __future__ import annotations

import json
from typing import Any

import pandas as pd
import streamlit as st

from app.ltp_ui.compare import charts, figure, markup
from app.ltp_ui.compare.comparison import Comparison, Side
from app.ltp_ui.compare.wording import prediction_of
from app.ltp_ui.shared import export, exports_panel
from app.ltp_ui.shared.exports_panel import Files
from app.ltp_ui.shared.palette import LIGHT
from app.ltp_ui.shared.wording import percent
from app.ltp_ui.token_view.about import quoted_texts


def layers_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a layer from 0, the input; `jaccard` is empty after one of the two has ended."""
    return pd.DataFrame(
        [
            {
                "layer": layer,
                "a_live": comparison.a.num_live(layer),
                "b_live": comparison.b.num_live(layer),
                "both": tally.both,
                "only_a": tally.only_a,
                "only_b": tally.only_b,
                "neither": tally.neither,
                "jaccard": tally.jaccard,
            }
            for layer, tally in enumerate(comparison.tallies)
        ]
    )


def tokens_frame(comparison: Comparison) -> pd.DataFrame:
    """One row a layer (from 1) and token (from 0): its state, and what each of the two says of it."""
    rows = []
    for layer in range(1, comparison.num_layers + 1):
        for position, state in enumerate(comparison.states(layer)):
            rows.append(
                {
                    "layer": layer,
                    "position": position,
                    "token": comparison.a.trace.tokens[position],
                    "token_id": comparison.a.trace.token_ids[position],
                    "state": state,
                    **_facts(comparison.a, layer, position),
                    **_facts(comparison.b, layer, position),
                }
            )
    return pd.DataFrame(rows)


def _facts(side: Side, layer: int, position: int) -> dict[str, Any]:
    letter = side.letter.lower()
    if layer > side.end:
        return {f"{letter}_score": None, f"{letter}_threshold": None, f"{letter}_retained": False}
    trace = side.trace.layers[layer - 1]
    return {
        f"{letter}_score": trace.score[position],
        f"{letter}_threshold": trace.threshold,
        f"{letter}_retained": trace.retained[position],
    }


def as_json(comparison: Comparison) -> bytes:
    """Both traces as `Trace.to_json` writes them, their settings, and the counts by layer."""
    layers = json.loads(layers_frame(comparison).to_json(orient="records"))
    document = {
        side.letter.lower(): {
            "setting": side.setting or "as trained",
            "trace": json.loads(side.trace.to_json()),
        }
        for side in (comparison.a, comparison.b)
    }
    return json.dumps(document | {"layers": layers}, ensure_ascii=False).encode()


def as_html(comparison: Comparison, sentence: str, layer: int) -> bytes:
    """The comparison as a page of its own, without script."""
    a, b = comparison.a, comparison.b
    lines = [*quoted_texts(a.trace), sentence]
    lines += [f"{side.letter}: {facts(side)}" for side in (a, b)]
    title = f"A {a.name} against B {b.name}"
    return markup.static_html(comparison, title, lines, layer).encode()


def facts(side: Side) -> str:
    """Answer, tokens and cost of one side."""
    flops = side.trace.relative_flops
    return (
        f"{side.name}: {export.answer(prediction_of(side.trace))}; "
        f"{side.trace.lengths[0]} → {side.num_live(side.end)} tokens; "
        f"{percent(flops['paper'])} of the unpruned FLOPs in the paper’s accounting, "
        f"{percent(flops['executed'])} as executed."
    )


def export_popover(comparison: Comparison, sentence: str, layer: int) -> None:
    """Data, picture and charts as files."""
    svg = "image/svg+xml"
    data: Files = {
        "JSON": ("json", "application/json", lambda: as_json(comparison)),
        "CSV": ("csv", "text/csv", lambda: export.csv(tokens_frame(comparison))),
    }
    picture: Files = {
        "HTML": ("html", "text/html", lambda: as_html(comparison, sentence, layer)),
        "SVG": ("svg", svg, lambda: _svg(comparison).encode()),
        "PNG": ("png", "image/png", lambda: export.png(_svg(comparison))),
    }
    caption = [f"{side.letter}: {side.name}" for side in (comparison.a, comparison.b)]
    caption += quoted_texts(comparison.a.trace)
    jaccard, survivors = (
        exports_panel.chart_files(chart, caption=caption)
        for chart in (charts.jaccard_chart(comparison), charts.survivors_chart(comparison))
    )
    subject = f"{comparison.a.trace.checkpoint}-and-{comparison.b.trace.checkpoint}"
    with st.popover("Export", icon=":material/download:"):
        rows = {
            "Comparison": data,
            "Difference view": picture,
            "Jaccard chart": jaccard,
            "Survivors chart": survivors,
        }
        for title, files in rows.items():
            exports_panel.row(title, subject, files, key="compare.export")
        st.caption(
            "The JSON has both traces and the counts by layer; the CSV has a row for each layer "
            "(from 1) and token (from 0)."
        )


def _svg(comparison: Comparison) -> str:
    return figure.grid_figure(comparison, LIGHT)
