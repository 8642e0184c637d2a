"""HTML of the token view: the chips that the live component shows, and the static twin.

Everything that comes from a trace passes `html.escape`; nothing else may be put into markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from pathlib import Path

from app.ltp_ui.shared.palette import DARK, LIGHT, Palette
from app.ltp_ui.shared.wording import counted
from app.ltp_ui.token_view.figure import grid_figure
from app.ltp_ui.token_view.view import Column, TokenView
from app.ltp_ui.token_view.wording import answer_name, state_of, why

DENSE_COLUMNS = 120
"""From here on chips are set like running text, without borders."""

DIVIDER = '<span class="divider" aria-hidden="true">context</span>'
"""Between question and context. Hidden from screen readers as `cut_mark` is; labels say the same."""

CSS = (Path(__file__).parent / "component.css").read_text(encoding="utf-8")


def chips_html(view: TokenView) -> str:
    """One chip a column, in the state after the last layer; the same for screen and export."""
    return in_words(view, [_chip(column, i, view) for i, column in enumerate(view.columns)])


def in_words(view: TokenView, chips: Sequence[str]) -> str:
    """Chips of the view's columns, the pieces of a word held together, and the mark of the cut."""
    parts: list[str] = []
    context = view.context_index
    for index, (column, chip) in enumerate(zip(view.columns, chips, strict=True)):
        if index == context:
            parts.append(DIVIDER)
        if column.continues and parts:
            parts[-1] += chip
        else:
            parts.append(chip)
    words = (f'<span class="word" role="presentation">{part}</span>' for part in parts)
    return "".join(words) + cut_mark(view)


def cut_mark(view: TokenView) -> str:
    """The mark that says how much of the input was not read; empty where all of it was.

    Hidden from screen readers, since a list box may hold options only; a sentence says the same.
    """
    if not view.num_cut:
        return ""
    return f'<span class="cut" aria-hidden="true">✂ {counted(view.num_cut, "token")} cut off</span>'


def _chip(column: Column, index: int, view: TokenView) -> str:
    classes = ["chip", chip_state(column.survived, view.num_layers)]
    classes += flags(column) + ["answer"] * column.is_answer
    label = ", ".join([column.text, state_of(view, index), *_places(column, view)])
    left = column.survived < view.num_layers
    share = column.survived / view.num_layers if view.num_layers else 0
    return (
        f'<span class="{" ".join(classes)}" role="option" tabindex="-1" aria-selected="false"'
        f' aria-label="{escape(label)}" title="{escape(why(view, index))}"'
        f' data-i="{index}" data-s="{column.survived}">'
        f"<bdi>{escape(column.text)}</bdi>"
        + (f'<small aria-hidden="true">L{column.survived + 1}</small>' if left else "")
        + f'<i style="--share:{share:.3f}"></i></span>'
    )


def _places(column: Column, view: TokenView) -> list[str]:
    """What a reader who does not see the divider and the marks has to know of a column."""
    places = ["in the question"] if view.asks and not column.is_context else []
    places += [f"unknown to the model, which reads {column.unknown}"] * bool(column.unknown)
    return places + [answer_name(view)] * column.is_answer


def flags(column: Column) -> list[str]:
    """Classes of a chip that do not depend on a layer."""
    on = {
        "special": column.is_special,
        "joined": column.continues,
        "unknown": bool(column.unknown),
        "forced-keep": column.forced == "keep",
        "forced-drop": column.forced == "drop",
    }
    return [name for name, is_on in on.items() if is_on]


def chip_state(survived: int, layer: int) -> str:
    """How a chip looks after `layer` layers: `kept`, left `here`, or `gone` before."""
    if survived >= layer:
        return "kept"
    return "here" if survived == layer - 1 else "gone"


def static_html(view: TokenView, title: str, lines: list[str]) -> str:
    """A page of its own, without script or outside reference: chips, layer choice and grid.

    Args:
        view: What is shown.
        title: Heading, as plain text.
        lines: Sentences under the heading, as plain text: prediction, counts, cost.
    """
    return page(
        title,
        lines,
        css=CSS + _layer_css(view.num_layers),
        layers=[(layer, str(live)) for layer, live in enumerate(view.lengths)],
        checked=view.num_layers,
        chips=chips_html(view),
        view=view,
        figures=(grid_figure(view, LIGHT, heading=False), grid_figure(view, DARK, heading=False)),
    )


def page(
    title: str,
    lines: Sequence[str],
    *,
    css: str,
    layers: Sequence[tuple[int, str]],
    checked: int,
    chips: str,
    view: TokenView,
    figures: tuple[str, str],
    more_classes: str = "",
) -> str:
    """A page of its own, without script or outside reference.

    Args:
        title: Heading, as plain text.
        lines: Sentences under the heading, as plain text.
        css: Style of the chips, with rules for each layer.
        layers: What can be chosen, each with what is live after it.
        checked: The layer chosen at first.
        chips: Markup of the chips.
        view: Columns that the chips show.
        figures: The grid in the light and in the dark palette.
        more_classes: Of the main element.
    """
    return _PAGE.format(
        title=escape(title),
        lines="".join(f"<p>{escape(line)}</p>" for line in lines),
        light=_variables(LIGHT),
        dark=_variables(DARK),
        css=css,
        radios=_radios(layers, checked),
        direction="rtl" if view.is_right_to_left else "ltr",
        chips=chips,
        dense=" dense" if len(view.columns) > DENSE_COLUMNS else "",
        grid=figures[0],
        grid_dark=figures[1],
        more=more_classes,
    )


def _variables(palette: Palette) -> str:
    return (
        f"--st-background-color:{palette.background};--st-text-color:{palette.text};"
        f"--st-blue-color:{palette.keep};--st-orange-color:{palette.drop};"
        f"--st-orange-background-color:{palette.drop_background};"
        f"--st-orange-text-color:{palette.drop_text};"
        f"--st-blue-background-color:{palette.keep_background};"
        f"--st-blue-text-color:{palette.keep_text};--st-border-color:{palette.border};"
        f"--st-secondary-background-color:{palette.panel};--st-font:system-ui,sans-serif"
    )


def _radios(layers: Sequence[tuple[int, str]], checked: int) -> str:
    return "".join(
        f'<label><input type="radio" name="layer" id="layer-{k}"{" checked" * (k == checked)}> '
        f"{k or 'input'} <small>{escape(live)}</small></label>"
        for k, live in layers
    )


def _layer_css(num_layers: int) -> str:
    """Rules that show the chips after the chosen layer, so that the page needs no script."""
    rules = []
    for layer in range(num_layers):
        scope = f".view:has(#layer-{layer}:checked) .chip"
        earlier = ",".join(f'[data-s="{survived}"]' for survived in range(layer))
        live = f":not({earlier})" if layer else ""
        rules.append(f"{scope}{live}{{{_KEPT}}}{scope}{live} small{{display:none}}")
    return "\n".join(rules)


_KEPT = (
    "opacity:1;text-decoration:none;font-weight:600;border-style:solid;background:none;"
    "color:inherit;border-color:var(--st-border-color)"
)

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{title}</title>
<style>
:root{{{light}}}
@media (prefers-color-scheme:dark){{:root{{{dark}}}.light{{display:none}}}}
@media (prefers-color-scheme:light){{.dark{{display:none}}}}
body{{margin:0;background:var(--st-background-color);color:var(--st-text-color)}}
body{{font:16px/1.5 var(--st-font)}}
main{{max-width:1100px;margin:auto;padding:24px 16px}}
h1{{font-size:1.4rem;margin:0 0 .5rem}}
p{{margin:.2rem 0}}
.layers{{display:flex;flex-wrap:wrap;gap:4px 16px;margin:16px 0 8px}}
.chips{{margin-bottom:20px}}
.figure svg{{max-width:100%;height:auto}}
{css}
</style></head>
<body><main class="view{more}"><h1>{title}</h1>{lines}
<div class="layers" role="radiogroup" aria-label="Layer"><b>After layer</b>{radios}</div>
<div class="chips{dense}" role="listbox" aria-label="Tokens" dir="{direction}">{chips}</div>
<div class="figure light">{grid}</div>
<div class="figure dark">{grid_dark}</div>
</main></body></html>
"""
