"""The comparison in a browser: mouse, keyboard, sizes, themes, links, files, accessibility."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import quote

from ltp_core.records import Trace
from tests import app_samples
from tests.browser.conftest import Visit, Watched
from tests.browser.test_token_view import TEXT, serious

NAMES = ["both", "only-a", "only-b", "neither"]


def compare(
    text: str = TEXT, a: str = app_samples.MOVIES, b: str = app_samples.SPATTEN, **params: str
) -> str:
    """Path of the compare page on a text."""
    extra = "".join(f"&{name}={quote(value)}" for name, value in params.items())
    return f"compare?a={a}&b={b}&text={quote(text)}{extra}"


def states(watched: Watched) -> list[str]:
    """State of each chip."""
    found: list[str] = watched.page.locator(".chip").evaluate_all(
        f"chips => chips.map(c => {json.dumps(NAMES)}.find(n => c.classList.contains(n)))"
    )
    return found


def tally(watched: Watched) -> dict[str, int]:
    """The counts beside the swatches."""
    return {
        name: int(watched.page.locator(f".tally [data-state={name}]").inner_text())
        for name in NAMES
    }


def test_one_scrubber_moves_both(visit: Visit) -> None:
    """At the input both keep everything; chips and counts agree after each layer; letters lie on cells."""
    watched = visit()
    page = watched.open(compare(), chips=True)
    kinds = page.locator(".grid path").evaluate_all("all => all.map(p => p.classList[0])")
    assert "letter" == kinds[-1]
    assert "only-b" in kinds
    slider = page.get_by_role("slider", name="Layer")
    for layer in range(4):
        slider.evaluate(f"s => {{ s.value = {layer}; s.dispatchEvent(new Event('input')) }}")
        seen = states(watched)
        assert {name: seen.count(name) for name in NAMES} == tally(watched)
    slider.evaluate("s => { s.value = 0; s.dispatchEvent(new Event('input')) }")
    assert {"both"} == set(states(watched))
    assert (
        "A 18, B 18 of 18 tokens live at the input"
        == page.locator("[data-part=count]").inner_text()
    )


def test_hover_tells_both_stories(visit: Visit) -> None:
    """A chip frames its column; a cell adds the layer's scores."""
    watched = visit(height=2_000)
    page = watched.open(compare(), chips=True)
    page.locator(".chip").nth(4).hover()
    lines = page.locator(".detail").inner_text().split("\n")
    assert ["A: ‘long’", "B: ‘long’"] == [line[:9] for line in lines]
    frame = page.locator(".grid .pointed").bounding_box()
    assert frame
    page.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + 9)
    assert 2 == page.locator(".detail").inner_text().count("At layer 1:")


def test_keyboard_and_link(visit: Visit) -> None:
    """Arrows move and scrub, Enter pins; the link restores it all."""
    watched = visit()
    page = watched.open(compare(layer="2"), chips=True)
    page.get_by_role("slider", name="Layer").focus()
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Pinned token: ‘is’").wait_for()
    watched.settle()
    watched.address("token=3", "layer=3")
    before, seen = page.url, states(watched)
    page.reload()
    watched.settle(chips=True)
    assert before == page.url
    assert seen == states(watched)
    page.get_by_role("heading", name="Pinned token: ‘is’").wait_for()


def test_swap_and_the_way_to_explore(visit: Visit) -> None:
    """A becomes B; each opens in Explore with its setting and the text, and leads back."""
    watched = visit()
    page = watched.open(compare("my own words", a_scale="1.5"), chips=True)
    page.get_by_role("button", name="Swap A and B").click()
    watched.settle(chips=True)
    watched.address(f"a={app_samples.SPATTEN}", "b_scale=1.5")
    page.get_by_role("link", name="B in Explore").click()
    page.get_by_role("heading", name="Explore a sentence").wait_for()
    watched.settle(chips=True)
    assert "my own words" == page.get_by_label("Text").input_value()
    assert "1.5" == page.get_by_role("slider", name="Threshold multiplier").input_value()
    label = "LTP · SST-2 · seed 7"
    assert label == page.get_by_role("combobox", name="Checkpoint").input_value()
    page.get_by_role("link", name="Compare with another").click()
    page.get_by_role("heading", name="Compare").wait_for()
    watched.settle(chips=True)
    assert "my own words" == page.get_by_label("Text").input_value()
    assert label == page.get_by_role("combobox", name="A").input_value()


def test_512_tokens_on_a_phone(visit: Visit) -> None:
    """All chips and cells are there, the page does not scroll sideways, a repaint takes a blink."""
    watched = visit(width=390, height=844)
    page = watched.open(compare(), chips=True)
    page.get_by_label("Text").fill("film " * 600)
    page.get_by_label("Text").press("Control+Enter")
    page.get_by_text("90 tokens cut off").first.wait_for()
    watched.settle(chips=True)
    assert 512 == page.locator(".chip").count()
    assert 0 == watched.overflow()
    assert 400 > watched.repaint_ms()
    assert [] == serious(watched)


FILES = ["comparison.json", "comparison.csv"]
FILES += [f"difference-view.{kind}" for kind in ("html", "svg", "png")]
FILES += [f"{chart}-chart.{kind}" for chart in ("jaccard", "survivors") for kind in ("svg", "png")]


def test_exports_are_complete(visit: Visit, tmp_path: Path) -> None:
    """Nine files, none empty; the page alone shows what the screen shows, layer by layer."""
    watched = visit()
    page = watched.open(compare(layer="2"), chips=True)
    seen = states(watched)
    page.get_by_role("button", name="Export").click()
    both = f"{app_samples.MOVIES}-and-{app_samples.SPATTEN}"
    files = watched.exported("compare", [f"{both}-{name}" for name in FILES], tmp_path)
    assert all(path.stat().st_size > 500 for path in files.values())
    made = json.loads(files[f"{both}-comparison.json"].read_text(encoding="utf-8"))
    assert 18 == len(Trace.from_json(json.dumps(made["b"]["trace"])).tokens)
    alone = visit()
    alone.server = "file://"
    alone.page.goto(files[f"{both}-difference-view.html"].as_uri())
    badges = alone.page.locator(".chip").evaluate_all(
        "all => all.map(c => getComputedStyle(c, '::after').display !== 'none'"
        " ? getComputedStyle(c, '::after').content : '')"
    )
    letters = {"only-a": '"A"', "only-b": '"B"'}
    assert [letters.get(state, "") for state in seen] == badges
    alone.page.get_by_role("radio", name="input").check()
    assert {"none"} == set(
        alone.page.locator(".chip").evaluate_all(
            "all => all.map(c => getComputedStyle(c, '::after').display)"
        )
    )


def test_phone_names_the_columns(visit: Visit) -> None:
    """At 390 pixels the grid wraps into bands that have names, on Explore, too."""
    watched = visit(width=390, height=844)
    for path in (compare(), f"explore?model={app_samples.MOVIES}&text={quote(TEXT)}"):
        page = watched.open(path, chips=True)
        assert page.locator(".chip").count() == page.locator(".grid .name").count()
        right = page.locator(".grid svg").bounding_box()
        assert right
        assert right["x"] + right["width"] <= 390
