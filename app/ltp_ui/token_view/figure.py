"""The token × layer grid as an SVG of its own, for the exports: labelled, wrapped into bands."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from app.ltp_ui.shared.palette import Palette
from app.ltp_ui.shared.wording import counted, number
from app.ltp_ui.token_view.texts import visible
from app.ltp_ui.token_view.view import GONE, LEFT, NUM_LEVELS, PASSED, SPARED, Column, TokenView
from app.ltp_ui.token_view.wording import answer_name, passed_words, ramp_words

CELL, ROW = 18, 18
GUTTER, LABELS, MARGIN = 34, 78, 16
COLUMNS_PER_BAND = 56
LABEL_CHARACTERS = 12
NOTES = 130
LINE = 17
FONTS = "'Source Sans Pro', 'Noto Sans', 'Liberation Sans', sans-serif"


def fill_opacity(level: int) -> float:
    """Opacity of a retained cell by its level."""
    return round(0.24 + 0.76 * level / (NUM_LEVELS - 1), 3)


def grid_figure(
    view: TokenView, palette: Palette, *, heading: bool = True, about: Sequence[str] = ()
) -> str:
    """The grid as a standalone SVG.

    Args:
        view: What is shown.
        palette: Colours; written out, since exported files have no style sheet.
        heading: Put the checkpoint and the counts above the grid.
        about: Lines under the heading: the text, and how the pass was set.
    """
    bands = bands_of(len(view.columns))
    widest = max((end - start for start, end in bands), default=0)
    width = 2 * MARGIN + GUTTER + max(widest * CELL + NOTES, 720)
    top = MARGIN + (30 if heading else 0) + LINE * len(about)
    height_of_band = LABELS + view.num_layers * ROW + 14
    parts = [_heading(view, palette)] if heading else []
    parts += [caption_text(line, index, palette) for index, line in enumerate(about)]
    for index, (start, end) in enumerate(bands):
        y = top + index * height_of_band + LABELS
        parts.append(_band(view, palette, start, end, y))
    bottom = top + len(bands) * height_of_band
    parts.append(_legend(view, palette, bottom + 10))
    if view.asks:
        bottom += 22
        parts.append(_question_legend(view, palette, bottom + 10))
    return svg(width, bottom + 36, described(view), "".join(parts), palette)


def svg(width: int, height: int, alt: str, content: str, palette: Palette) -> str:
    """A figure on the palette's background; `alt` says what it shows.

    Whatever names are in it, it is XML, which has no control characters.
    """
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"'
        f' viewBox="0 0 {width} {height}" role="img" aria-label="{visible(escape(alt))}"'
        f' font-family="{FONTS}" font-size="12">'
        f'<rect width="100%" height="100%" fill="{palette.background}"/>{visible(content)}</svg>'
    )


def summary(view: TokenView) -> str:
    """How many tokens go in and come out, as a phrase."""
    return (
        f"{counted(view.lengths[0], 'token')} at the input, {view.lengths[-1]} after layer "
        f"{view.num_layers}"
    )


def described(view: TokenView) -> str:
    """The summary, and what is marked in it, for those who do not see the picture."""
    parts = [summary(view)]
    if view.context_index is not None:
        parts.append(f"the context begins at column {view.context_index + 1}")
    if found := view.answer_range:
        texts = " ".join(column.text for column in view.columns[found.start : found.stop])
        parts.append(f"{answer_name(view)} from column {found.start + 1} is ‘{texts}’")
    return "; ".join(parts)


def bands_of(num_columns: int) -> list[tuple[int, int]]:
    """Column ranges of about equal width, at most `COLUMNS_PER_BAND` wide."""
    count = math.ceil(num_columns / COLUMNS_PER_BAND)
    size = math.ceil(num_columns / count) if count else 0
    return [(i * size, min((i + 1) * size, num_columns)) for i in range(count)]


def _heading(view: TokenView, palette: Palette) -> str:
    text = f"{view.checkpoint}: {summary(view)}"
    if view.num_cut:
        text += f"; {counted(view.num_cut, 'token')} cut off"
    return heading_text(text, palette)


def heading_text(text: str, palette: Palette) -> str:
    """The line above a grid."""
    return (
        f'<text x="{MARGIN}" y="{MARGIN + 14}" font-size="14" font-weight="600"'
        f' fill="{palette.text}">{escape(text)}</text>'
    )


def caption_text(text: str, index: int, palette: Palette) -> str:
    """A line under the heading, from 0."""
    y = MARGIN + 16 + LINE * (index + 1)
    return f'<text x="{MARGIN}" y="{y}" fill="{palette.muted}">{escape(text)}</text>'


def _band(view: TokenView, palette: Palette, start: int, end: int, y: int) -> str:
    x = MARGIN + GUTTER
    parts = [
        f'<text x="{x - 8}" y="{y + layer * ROW + 13}" text-anchor="end"'
        f' fill="{palette.muted}">{layer + 1}</text>'
        for layer in range(view.num_layers)
    ]
    parts += [
        label(
            column.text,
            palette,
            x + index * CELL + CELL // 2 + 4,
            y - 6,
            kept=column.survived >= view.num_layers,
        )
        for index, column in enumerate(view.columns[start:end])
    ]
    for layer, row in enumerate(view.grid):
        for index, cell in enumerate(row[start:end]):
            corner = x + index * CELL, y + layer * ROW
            parts.append(_cell(cell, *corner, palette))
            parts.append(_ghost(view.columns[start + index], layer, *corner, palette))
    parts.append(_answer_bars(view, palette, start, end, y))
    parts.append(context_line(view, palette, start, end, y))
    right = x + (end - start) * CELL + 10
    if start == 0:  # they count the whole input, not the band
        parts.append(_notes(view, right, y, palette))
    return "".join(parts)


def _answer_bars(view: TokenView, palette: Palette, start: int, end: int, y: int) -> str:
    """Bars over and under the answer's columns in one band."""
    found = range(max(start, view.answer_range.start), min(end, view.answer_range.stop))
    left, width = MARGIN + GUTTER + (found.start - start) * CELL, len(found) * CELL - 2
    ends = (y - 4, y + view.num_layers * ROW) if found else ()
    return "".join(_bar(left, at, width, palette) for at in ends)


def context_line(view: TokenView, palette: Palette, start: int, end: int, y: int) -> str:
    """The line where the question ends, in the band that has it."""
    context = view.context_index
    if context is None or not start <= context < end:
        return ""
    x = MARGIN + GUTTER + (context - start) * CELL - 1
    return _divider(x, y - 4, view.num_layers * ROW + 8, palette)


def _bar(x: int, y: int, width: int, palette: Palette) -> str:
    return f'<rect x="{x}" y="{y}" width="{width}" height="3" fill="{palette.text}"/>'


def _divider(x: int, y: int, height: int, palette: Palette) -> str:
    return f'<path d="M{x} {y}v{height}" stroke="{palette.text}" stroke-width="1.5"/>'


def label(text: str, palette: Palette, x: int, y: int, *, kept: bool) -> str:
    """The name over a column, askew; bold where the token is kept to the end."""
    if len(text) > LABEL_CHARACTERS:
        text = text[: LABEL_CHARACTERS - 1] + "…"
    style = 'font-weight="700"' if kept else ""
    fill = palette.text if kept else palette.muted
    return (
        f'<text transform="translate({x} {y}) rotate(-55)" {style} fill="{fill}">'
        f"{escape(text)}</text>"
    )


def _cell(cell: str, x: int, y: int, palette: Palette) -> str:
    side = CELL - 2
    if cell == GONE:
        return ""
    if cell == PASSED:
        return f'<rect x="{x}" y="{y + 7}" width="{side}" height="2" fill="{palette.border}"/>'
    if cell == LEFT:
        cross = f"M{x + 5} {y + 5}l6 6m0 -6l-6 6"
        return (
            f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="2" fill="{palette.drop}"/>'
            f'<path d="{cross}" stroke="{palette.background}" stroke-width="2"/>'
        )
    opacity = fill_opacity(0 if cell == SPARED else int(cell))
    box = (
        f'<rect x="{x}" y="{y}" width="{side}" height="{side}" rx="2" fill="{palette.keep}"'
        f' fill-opacity="{opacity}"/>'
    )
    if cell == SPARED:
        box += f'<circle cx="{x + 8}" cy="{y + 8}" r="3.5" fill="{palette.text}"/>'
    return box


def _ghost(column: Column, layer: int, x: int, y: int, palette: Palette) -> str:
    """What the learned thresholds would have done here, where that differs."""
    learned = column.survived_learned
    if learned is None or learned == column.survived:
        return ""
    if column.survived < layer <= learned or layer == learned:
        return _dashed(x, y, palette)
    return ""


def _dashed(x: int, y: int, palette: Palette) -> str:
    side = CELL - 3
    return (
        f'<rect x="{x + 0.5}" y="{y + 0.5}" width="{side}" height="{side}" rx="2" fill="none"'
        f' stroke="{palette.muted}" stroke-dasharray="2 2"/>'
    )


def _note(live: str, threshold: str, x: int, y: int, palette: Palette) -> str:
    """Tokens that go on from a layer and the threshold they had to pass, right-aligned."""
    shared = f'y="{y}" text-anchor="end" fill="{palette.muted}"'
    return (
        f'<text x="{x + 36}" {shared}>{live}</text><text x="{x + 104}" {shared}>{threshold}</text>'
    )


def _notes(view: TokenView, x: int, y: int, palette: Palette) -> str:
    rows = [
        (str(live) if runs else "–", "" if threshold is None else number(threshold))
        for live, threshold, runs in zip(view.lengths[1:], view.thresholds, view.runs, strict=True)
    ]
    heads = ("live", "threshold" if any(threshold for _, threshold in rows) else "")
    parts = [_note(*heads, x, y - 7, palette)]
    parts += [_note(*row, x, y + layer * ROW + 13, palette) for layer, row in enumerate(rows)]
    return "".join(parts)


def _legend(view: TokenView, palette: Palette, y: int) -> str:
    """Scale of the colours, and the marks that occur."""
    x = MARGIN + GUTTER
    what, least, most = ramp_words(view)
    swatches = "".join(
        f'<rect x="{x + 150 + i * 16}" y="{y}" width="16" height="12" fill="{palette.keep}"'
        f' fill-opacity="{fill_opacity(i)}"/>'
        for i in range(NUM_LEVELS)
    )
    parts = [legend_text(f"{what}: {least}", x, y, palette), swatches]
    x += 156 + NUM_LEVELS * 16
    parts.append(legend_text(most, x, y, palette))
    x += 54
    for mark, text, width in _marks(view, palette, x, y - 2):
        parts += [mark, legend_text(text, x + 22, y, palette)]
        x += width
    return "".join(parts)


def _marks(view: TokenView, palette: Palette, x: int, y: int) -> Iterator[tuple[str, str, int]]:
    """Each mark at the place that the marks before leave it, its meaning, and its width."""
    cells = "".join(view.grid)
    if LEFT in cells:
        yield _cell(LEFT, x, y, palette), "left here", 96
        x += 96
    if SPARED in cells:
        yield _cell(SPARED, x, y, palette), "spared", 86
        x += 86
    if PASSED in cells:
        yield _cell(PASSED, x, y, palette), passed_words(view), 134
        x += 134
    if any(c.survived_learned not in (None, c.survived) for c in view.columns):
        yield _dashed(x, y, palette), "learned thresholds differ", 180


def _question_legend(view: TokenView, palette: Palette, y: int) -> str:
    """The marks of question and answer, on a line of their own."""
    x, parts = MARGIN + GUTTER, []
    if view.context_index is not None:
        parts.append(_divider(x + 8, y - 3, 18, palette))
        parts.append(legend_text("end of the question", x + 22, y, palette))
        x += 160
    if view.answer_range:
        parts += [_bar(x, y + at, 16, palette) for at in (-2, 11)]
        parts.append(legend_text(answer_name(view), x + 22, y, palette))
    return "".join(parts)


def legend_text(text: str, x: int, y: int, palette: Palette) -> str:
    """A line of the legend."""
    return f'<text x="{x}" y="{y + 10}" fill="{palette.muted}">{text}</text>'
