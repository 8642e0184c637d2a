"""HTML of a comparison: its chips for screen and export, and the page that stands alone.

Everything that comes from a trace passes `html.escape`; nothing else may be put into markup.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from app.ltp_ui.compare.comparison import Comparison, Side, state_after
from app.ltp_ui.compare.figure import grid_figure
from app.ltp_ui.shared.palette import DARK, LIGHT
from app.ltp_ui.token_view import markup
from app.ltp_ui.token_view.wording import state_of, why

CSS = markup.CSS + (Path(__file__).parent / "component.css").read_text(encoding="utf-8")

_STYLES = {
    (True, True): "--edge:var(--st-border-color);--stroke:.45px;--badge:none;--fill:none;"
    "--ink:inherit;--line:solid;--strike:none",
    (True, False): "--edge:var(--a);--fill:var(--a-background);--ink:var(--a-text);--badge:block;"
    '--letter:"A";--stroke:0;--line:solid;--strike:none',
    (False, True): "--edge:var(--b);--fill:var(--b-background);--ink:var(--b-text);--badge:block;"
    '--letter:"B";--stroke:0;--line:solid;--strike:none',
    (False, False): "--edge:var(--st-border-color);--ink:var(--muted);--line:dashed;--badge:none;"
    "--strike:line-through;--stroke:0;--fill:none",
}


def chips_html(comparison: Comparison) -> str:
    """One chip a column, in the state after the last layer; the same for screen and export."""
    view = comparison.a.view
    chips = [_chip(comparison, index) for index in range(len(view.columns))]
    return markup.in_words(view, chips)


def _chip(comparison: Comparison, index: int) -> str:
    a, b = comparison.a, comparison.b
    column = a.view.columns[index]
    in_a, in_b = a.columns_survived[index], b.columns_survived[index]
    classes = ["chip", state_after(in_a, in_b, comparison.num_layers), *markup.flags(column)]
    fates = "; ".join(f"{side.letter} {_fate(side, index)}" for side in (a, b))
    whys = "\n".join(f"{side.letter}: {why(side.view, index)}" for side in (a, b))
    bars = "".join(
        f'<i style="--share:{survived / max(comparison.num_layers, 1):.3f}"></i>'
        for survived in (in_a, in_b)
    )
    return (
        f'<span class="{" ".join(classes)}" role="option" tabindex="-1" aria-selected="false"'
        f' aria-label="{escape(f"{column.text}: {fates}")}" title="{escape(whys)}"'
        f' data-i="{index}" data-a="{in_a}" data-b="{in_b}">'
        f"<bdi>{escape(column.text)}</bdi>{bars}</span>"
    )


def _fate(side: Side, index: int) -> str:
    return state_of(side.view, index)


def static_html(comparison: Comparison, title: str, lines: list[str], layer: int) -> str:
    """A page of its own, without script or outside reference: chips, layer choice and grid.

    Args:
        comparison: What is shown.
        title: Heading, as plain text.
        lines: Sentences under the heading, as plain text.
        layer: The layer shown at first.
    """
    lives = [
        (k, f"A {comparison.a.num_live(k)}, B {comparison.b.num_live(k)}")
        for k in range(comparison.num_layers + 1)
    ]
    return markup.page(
        title,
        lines,
        css=CSS + _layer_css(comparison.num_layers),
        layers=lives,
        checked=layer,
        chips=chips_html(comparison),
        view=comparison.a.view,
        figures=(
            grid_figure(comparison, LIGHT, heading=False),
            grid_figure(comparison, DARK, heading=False),
        ),
        more_classes=" compare",
    )


def _layer_css(num_layers: int) -> str:
    """Rules that show the chips after the chosen layer, so that the page needs no script."""
    rules = []
    for layer in range(num_layers + 1):
        for (in_a, in_b), style in _STYLES.items():
            chosen = _kept("a", layer, in_a) + _kept("b", layer, in_b)
            rules.append(f".view.compare:has(#layer-{layer}:checked) .chip{chosen}{{{style}}}")
    return "\n".join(rules)


def _kept(side: str, layer: int, is_kept: bool) -> str:
    """Selector of the chips that a side still keeps after a layer, or of those that it does not."""
    gone = ",".join(f'[data-{side}="{survived}"]' for survived in range(layer))
    if not gone:
        return "" if is_kept else ":not(*)"
    return f":not({gone})" if is_kept else f":is({gone})"
