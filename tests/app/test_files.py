"""What leaves the app as a file, and the markup of the token view: complete, and never code."""

from __future__ import annotations

import csv
import dataclasses
import html
import io
import json
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from app.ltp_ui.shared import charts, export, exports_panel
from app.ltp_ui.shared.palette import DARK, LIGHT
from app.ltp_ui.token_view import figure, markup
from app.ltp_ui.token_view.about import about
from app.ltp_ui.token_view.component import payload
from app.ltp_ui.token_view.view import build_view
from ltp_core.records import Trace, WhatIf
from tests.app_samples import WORDS, long_trace, trace

NASTY = ("<script>alert(1)</script>", '" onmouseover="x', "&amp;", "'", "\0", "\u202eabc")
VIEW = build_view(trace(), WORDS, protected=(0,))


def nasty_trace() -> Trace:
    """A trace whose tokens try to be markup."""
    return trace(tokens=NASTY)


class Tags(HTMLParser):
    """Collects the elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.mark.parametrize("words", [(None,) * 6, (0, 1, 2, 3, 4, 5), (0, 0, 0, 0, 0, 0)])
def test_chips_never_become_markup(words: tuple[int | None, ...]) -> None:
    """A token is text wherever it appears: label, title, content."""
    page = Tags(markup.chips_html(build_view(nasty_trace(), words)))
    assert {"span", "bdi", "small", "i"} >= set(page.tags)
    assert not [name for name in page.attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in page.text


def test_a_word_stays_together() -> None:
    """The pieces of a word share an element, so that a line never breaks within it."""
    html = markup.chips_html(VIEW)
    word = next(part for part in html.split('<span class="word"') if ">beaut<" in part)
    assert ">iful<" in word


def test_cut_mark_names_the_count() -> None:
    """What was cut off is said where the text ends, and nothing where nothing was."""
    assert "✂ 318 tokens cut off" in markup.chips_html(build_view(trace(num_cut=318), WORDS))
    assert "✂" not in markup.chips_html(VIEW)


def test_static_page_has_no_script_and_no_outside_reference() -> None:
    """The exported page stands alone; the tokens in it are text."""
    made = export.view_html(build_view(nasty_trace(), (0, 1, 2, 3, 4, 5)), nasty_trace()).decode()
    page = Tags(made)
    assert "script" not in page.tags
    assert {"src", "href", "onload", "onclick"}.isdisjoint(page.attributes)
    assert "url(" not in made
    assert "http" not in made.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_static_page_shows_the_chips_of_the_screen() -> None:
    """Screen and export come from one function."""
    assert markup.chips_html(VIEW) in export.view_html(VIEW, trace()).decode()


def test_static_page_says_the_result() -> None:
    """Both predictions by their names, counts and both accountings."""
    made = export.view_html(VIEW, trace()).decode()
    for words in ("With pruning: positive 88.1 %", "Same weights, unpruned: positive 91.7 %"):
        assert words in made
    assert "62.0 % of the unpruned FLOPs" in made
    assert "58.0 % as executed" in made


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_svg_is_well_formed_for_any_token(palette: figure.Palette) -> None:
    """Markup in tokens does not break the file."""
    root = ET.fromstring(figure.grid_figure(build_view(nasty_trace(), WORDS), palette))
    assert "{http://www.w3.org/2000/svg}svg" == root.tag
    assert not root.findall(".//{http://www.w3.org/2000/svg}script")


def test_pictures_take_any_name() -> None:
    """A checkpoint's folder may be called by control characters and half a surrogate pair."""
    odd = dataclasses.replace(VIEW, checkpoint="a\x01\x1bb\udc80")
    root = ET.fromstring(export.view_svg(odd, trace()).decode())
    assert any("␁␛b⟨U+DC80⟩" in (text.text or "") for text in root.iter())
    assert export.view_png(odd, trace()).startswith(b"\x89PNG")
    frame = pd.DataFrame({"token": ["1 a\x01\x1b", "2 b"], "attention": [0.5, 0.4]})
    for kind in ("svg", "png"):
        made = charts.image(charts.senders_chart(frame), kind)
        assert made.startswith(b"\x89PNG") or ET.fromstring(made) is not None


def test_no_cell_of_a_table_is_a_formula() -> None:
    """Texts and headings get an apostrophe in whatever column they stand; numbers stay numbers."""
    frame = pd.DataFrame(
        {
            "name": ["=1+1", "+x", "-y", "@z", "plain", None],
            "=heading": pd.Categorical(["=c", "d", "d", "d", "d", "-e"]),
            "value": [-1.5, 2.0, None, 1.0, 1.0, 1.0],
        }
    )
    content = exports_panel.frame_files(frame)["CSV"][2]().decode()
    header, *rows = csv.reader(io.StringIO(content))
    assert ["name", "'=heading", "value"] == header
    assert ["'=1+1", "'+x", "'-y", "'@z", "plain", ""] == [row[0] for row in rows]
    assert ["'=c", "d", "'-e"] == [rows[i][1] for i in (0, 1, 5)]
    assert ["-1.5", "2.0", ""] == [row[2] for row in rows[:3]]


def test_long_figures_wrap() -> None:
    """512 tokens make bands of equal width, none wider than a page."""
    shown = build_view(long_trace(512), (None,) * 512)
    root = ET.fromstring(figure.grid_figure(shown, LIGHT))
    assert 1400 > float(root.attrib["width"])
    assert 1000 < float(root.attrib["height"])


def test_png_is_a_picture() -> None:
    """The signature of the format, and not a blank of a few bytes."""
    made = export.view_png(VIEW, trace())
    assert b"\x89PNG\r\n\x1a\n" == made[:8]
    assert 3_000 < len(made)


def test_png_has_its_text() -> None:
    """The names of the fonts are such that the drawing library finds one."""
    import re

    import vl_convert

    svg = export.view_svg(VIEW, trace()).decode()
    silent = re.sub(r"<text.*?</text>", "", svg)
    with_text, without = (len(vl_convert.svg_to_png(made)) for made in (svg, silent))
    assert with_text > 2 * without


def test_json_reads_back() -> None:
    """The export is the trace."""
    assert trace() == Trace.from_json(export.trace_json(trace()).decode())


def test_csv_has_a_row_for_each_layer_and_token() -> None:
    """Layers from 1, positions from 0; an empty score where the token was no longer live."""
    rows = list(csv.DictReader(io.StringIO(export.csv(export.trace_frame(trace())).decode())))
    assert 18 == len(rows)
    assert ("2", "4", ",", "") == tuple(
        rows[10][key] for key in ("layer", "position", "token", "score")
    )
    assert {"0.38"} == {row["threshold"] for row in rows if row["layer"] == "2"}


def test_csv_cells_are_no_formulas() -> None:
    """A spreadsheet reads a token such as = or @ as text."""
    made = trace(tokens=("=1+1", "@x", "-", "+", "ok", "\t"))
    tokens = [
        row["token"]
        for row in csv.DictReader(io.StringIO(export.csv(export.trace_frame(made)).decode()))
    ]
    assert ["'=1+1", "'@x", "'-", "'+", "ok", "'\t"] == tokens[:6]


def asked_trace() -> Trace:
    """The sample trace of a text, set otherwise than learned."""
    what_if = WhatIf(thresholds=(0.1, 0.2, 0.3), scale=1.5, keep=(1,), drop=(4,))
    surfaces = ("", "Slow", "beaut", "iful", ",", "")
    return dataclasses.replace(
        trace(), texts=("Slow <beautiful>,",), surfaces=surfaces, what_if=what_if
    )


def test_files_say_the_text_and_the_setting() -> None:
    """Whoever opens a file later can make it again: text, multiplier, thresholds, forced tokens."""
    asked = asked_trace()
    for made in (export.view_svg(VIEW, asked), export.view_html(VIEW, asked)):
        text = html.unescape(made.decode())
        assert "Slow <beautiful>," in text
        for words in ("multiplier 1.50", "0.10, 0.20, 0.30", "kept by hand: ‘slow’ (1)"):
            assert words in text
    chart = charts.survivors_chart(asked, None)
    drawn = charts.image(chart, "svg", caption=about(asked)).decode()
    assert "multiplier 1.50" in drawn
    assert "Setting" not in export.view_svg(VIEW, trace()).decode()
    assert asked == Trace.from_json(export.trace_json(asked).decode())
    rows = list(csv.DictReader(io.StringIO(export.csv(export.trace_frame(asked)).decode())))
    assert ("Slow <beautiful>,", "1.5", "0.1,0.2,0.3") == tuple(
        rows[0][name] for name in ("text_1", "multiplier", "edited_thresholds")
    )
    assert ["", "keep", "", "", "drop", ""] == [row["forced"] for row in rows[:6]]
    assert {""} == {row["text_1"] for row in rows[1:]}


def test_a_budget_is_named_instead_of_its_strength() -> None:
    """Who moved the slider of an elastic checkpoint chose a share of the FLOPs."""
    budgeted = dataclasses.replace(trace(), what_if=WhatIf(scale=0.37, budget=0.46))
    assert ["Setting: budget of 46 % of the FLOPs."] == about(budgeted)


def test_payload_is_json_and_small() -> None:
    """512 tokens × 12 layers stay well below a megabyte."""
    shown = build_view(long_trace(512, 12), (None,) * 512)
    made = json.dumps(payload(shown, token=3, layer=None, can_force=True))
    assert 500_000 > len(made)


def test_payload_key_names_the_picture() -> None:
    """Equal pictures have equal keys, whatever is pinned; another picture has another."""
    first = payload(VIEW, token=None, layer=None, can_force=True)
    pinned = payload(VIEW, token=2, layer=1, can_force=True)
    other = payload(
        build_view(trace(), WORDS, merge_words=True), token=None, layer=None, can_force=True
    )
    assert first["key"] == pinned["key"] != other["key"]
    assert (2, 1) == (pinned["selected"], pinned["layer"])
    assert (-1, 3) == (first["selected"], first["layer"])


def test_payload_survives_a_token_that_is_not_shown() -> None:
    """A link may name a hidden or impossible token or layer."""
    made = payload(VIEW, token=999, layer=99, can_force=False)
    assert (-1, 3) == (made["selected"], made["layer"])


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_charts_become_pictures(kind: charts.ImageKind) -> None:
    """In this process, without a browser."""
    made = charts.image(charts.survivors_chart(trace(), trace(thresholds=(0.1, 0.1, 0.1))), kind)
    assert {"png": b"\x89PNG", "svg": b"<svg"}[kind] == made[:4]


def test_score_chart_leaves_out_layers_without_a_score() -> None:
    """A token that left has no score afterwards; the threshold goes on."""
    frame = charts.score_chart(VIEW, 1).frame
    assert [1, 2] == list(frame[frame["series"] == "score"]["layer"])
    assert [1, 2, 3] == list(frame[frame["series"] == "threshold"]["layer"])


def test_lines_differ_by_more_than_colour() -> None:
    """Colour and dash share one legend."""
    spec = charts.survivors_chart(trace(), trace(thresholds=(0.1, 0.1, 0.1))).spec
    encoding = spec["layer"][0]["encoding"]
    assert encoding["color"]["legend"] == encoding["strokeDash"]["legend"]
    assert 2 == len({str(dash) for dash in encoding["strokeDash"]["scale"]["range"]})


def test_senders_sum_to_the_score() -> None:
    """Most first; tokens that pay nothing are left out; only the chart is cut short."""
    rng = np.random.default_rng(0)
    attention = rng.random((40, 40))
    attention[5] = 0
    frame = charts.senders(attention, (7,), tuple(f"t{i}" for i in range(40)))
    assert attention[:, 7].sum() == pytest.approx(frame["attention"].sum())
    assert 39 == len(frame)
    assert frame["attention"].is_monotonic_decreasing
    assert charts.MAX_BARS == len(charts.senders_chart(frame).frame)
