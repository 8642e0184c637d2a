"""The token × layer grid of a comparison as an SVG of its own, for the exports.

A is the upper half of a cell and B the lower one, as on screen.
"""

from __future__ import annotations

from app.ltp_ui.compare.comparison import Comparison, State, state_after
from app.ltp_ui.shared.palette import Palette
from app.ltp_ui.shared.wording import counted
from app.ltp_ui.token_view import figure
from app.ltp_ui.token_view.about import quoted_texts
from app.ltp_ui.token_view.figure import CELL, GUTTER, LABELS, MARGIN, ROW

NOTE_ENDS = (30, 66, 128)
HEADS = ("A", "B", "Jaccard")
_MEANINGS: tuple[tuple[State, str, int], ...] = (
    ("both", "both keep", 100),
    ("only-a", "only A", 80),
    ("only-b", "only B", 80),
    ("neither", "neither", 90),
)


def grid_figure(comparison: Comparison, palette: Palette, *, heading: bool = True) -> str:
    """The grid as a standalone SVG.

    Args:
        comparison: What is shown.
        palette: Colours; written out, since exported files have no style sheet.
        heading: Put names, counts and the text above the grid.
    """
    bands = figure.bands_of(len(comparison.a.view.columns))
    widest = max((end - start for start, end in bands), default=0)
    width = 2 * MARGIN + GUTTER + max(widest * CELL + NOTE_ENDS[-1] + 26, 720)
    texts = quoted_texts(comparison.a.trace) if heading else []
    top = MARGIN + (48 if heading else 0) + figure.LINE * len(texts)
    height_of_band = LABELS + comparison.num_layers * ROW + 14
    parts = _heading(comparison, palette) if heading else []
    parts += [figure.caption_text(line, index + 1, palette) for index, line in enumerate(texts)]
    for index, (start, end) in enumerate(bands):
        parts.append(_band(comparison, palette, start, end, top + index * height_of_band + LABELS))
    bottom = top + len(bands) * height_of_band
    parts.append(_legend(palette, bottom + 10))
    return figure.svg(width, bottom + 36, summary(comparison), "".join(parts), palette)


def summary(comparison: Comparison) -> str:
    """How many tokens go in and what is left of them, as a phrase."""
    a, b = comparison.a, comparison.b
    return (
        f"{counted(comparison.num_tokens, 'token')} at the input; A keeps {a.num_live(a.end)} to its "
        f"end, B {b.num_live(b.end)}"
    )


def notes(comparison: Comparison, layer: int) -> tuple[str, str, str]:
    """Beside a layer: tokens that A and B keep, and the Jaccard index."""
    tally = comparison.tallies[layer]
    live = [
        str(side.num_live(layer)) if layer <= side.end else "–"
        for side in (comparison.a, comparison.b)
    ]
    return live[0], live[1], "–" if tally.jaccard is None else f"{tally.jaccard:.2f}"


def _heading(comparison: Comparison, palette: Palette) -> list[str]:
    names = f"A: {comparison.a.name}; B: {comparison.b.name}"
    second = figure.legend_text(summary(comparison), MARGIN, MARGIN + 24, palette)
    return [figure.heading_text(names, palette), second]


def _band(comparison: Comparison, palette: Palette, start: int, end: int, y: int) -> str:
    x = MARGIN + GUTTER
    layers = range(comparison.num_layers)
    parts = [
        f'<text x="{x - 8}" y="{y + layer * ROW + 13}" text-anchor="end"'
        f' fill="{palette.muted}">{layer + 1}</text>'
        for layer in layers
    ]
    survived = zip(comparison.a.columns_survived, comparison.b.columns_survived, strict=True)
    for index, (in_a, in_b) in enumerate(list(survived)[start:end]):
        left = x + index * CELL
        text = comparison.a.view.columns[start + index].text
        kept = state_after(in_a, in_b, comparison.num_layers) == "both"
        parts.append(figure.label(text, palette, left + CELL // 2 + 4, y - 6, kept=kept))
        parts += [
            cell(state_after(in_a, in_b, layer + 1), left, y + layer * ROW, palette)
            for layer in layers
        ]
    parts.append(figure.context_line(comparison.a.view, palette, start, end, y))
    if start == 0:  # they count the whole input, not the band
        right = x + (end - start) * CELL
        parts.append(_note(HEADS, right, y - 7, palette))
        parts += [
            _note(notes(comparison, layer + 1), right, y + layer * ROW + 13, palette)
            for layer in layers
        ]
    return "".join(parts)


def cell(state: State, x: int, y: int, palette: Palette) -> str:
    """A token after a layer: full for both, the upper half for A, the lower half for B, else a dot."""
    side, half = CELL - 2, (CELL - 2) // 2
    if state == "both":
        return _box(x, y, side, side, palette.neutral)
    if state == "only-a":
        return _box(x, y, side, half, palette.keep) + _letter("A", x, y + half - 1, palette)
    if state == "only-b":
        box = _box(x, y + side - half, side, half, palette.drop)
        return box + _letter("B", x, y + side - 1, palette)
    return _box(x + half - 1, y + half - 1, 2, 2, palette.border)


def _box(x: int, y: int, width: int, height: int, fill: str) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="1" fill="{fill}"/>'


def _letter(letter: str, x: int, y: int, palette: Palette) -> str:
    middle = x + (CELL - 2) // 2
    return (
        f'<text x="{middle}" y="{y}" text-anchor="middle" font-size="8" font-weight="700"'
        f' fill="{palette.background}">{letter}</text>'
    )


def _note(texts: tuple[str, str, str], x: int, y: int, palette: Palette) -> str:
    return "".join(
        f'<text x="{x + end}" y="{y}" text-anchor="end" fill="{palette.muted}">{text}</text>'
        for text, end in zip(texts, NOTE_ENDS, strict=True)
    )


def _legend(palette: Palette, y: int) -> str:
    x, parts = MARGIN + GUTTER, []
    for state, meaning, width in _MEANINGS:
        parts.append(cell(state, x, y - 2, palette))
        parts.append(figure.legend_text(meaning, x + 22, y, palette))
        x += width
    return "".join(parts)
