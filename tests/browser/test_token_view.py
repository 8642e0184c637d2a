"""The token view in a browser: mouse, keyboard, sizes, themes, accessibility."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from tests import app_samples
from tests.browser.conftest import Visit, Watched

TEXT = "The film is long and slow but the ending was great and the actor never boring"


def explore(text: str = TEXT, model: str = app_samples.MOVIES, **params: str) -> str:
    """Path of the explore page on a text."""
    extra = "".join(f"&{name}={quote(value)}" for name, value in params.items())
    return f"explore?model={model}&text={quote(text)}{extra}"


def classes(watched: Watched) -> list[str]:
    """State of each chip: kept, here or gone."""
    states: list[str] = watched.page.locator(".chip").evaluate_all(
        "chips => chips.map(c => ['kept','here','gone'].find(n => c.classList.contains(n)))"
    )
    return states


def serious(watched: Watched) -> list[str]:
    """Serious and critical findings of axe inside the token view (a shadow tree)."""
    from axe_playwright_python.sync_playwright import Axe

    found: list[dict[str, Any]] = Axe().run(watched.page).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:120]}"
        for rule in found
        if rule["impact"] in {"serious", "critical"}
        for node in rule["nodes"]
        if any(isinstance(part, list) for part in node["target"])
    ]


def test_the_mouse_links_chip_and_column(visit: Visit) -> None:
    """Pointing at a chip frames its column and tells its story; pointing at a cell marks its chip.

    A click in the grid chooses token and layer.
    """
    watched = visit(height=1_400)
    page = watched.open(explore(), chips=True)
    page.locator(".chip").nth(4).hover()
    assert "visible" == page.locator(".grid .pointed").get_attribute("visibility")
    assert page.locator(".detail").inner_text().startswith("‘long’")
    frame = page.locator(".grid .pointed").bounding_box()
    assert frame
    page.mouse.move(frame["x"] + frame["width"] / 2, frame["y"] + 9)
    assert "long" == page.locator(".chip.near bdi").inner_text()
    assert "At layer 1:" in page.locator(".detail").inner_text()
    page.mouse.click(frame["x"] + frame["width"] / 2, frame["y"] + 45)
    watched.settle()
    watched.address("token=4", "layer=3")


def test_click_pins_and_tells_python(visit: Visit) -> None:
    """The panel below is about the token, and so is the link."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    page.locator(".chip").nth(5).click()
    page.get_by_role("heading", name="Pinned token: ‘and’").wait_for()
    watched.settle()
    watched.address("token=5")
    page.locator(".chip").nth(5).click()
    page.get_by_role("heading", name="Pinned token").wait_for(state="detached")
    watched.settle()
    watched.address(without="token=")


def test_keyboard_reaches_everything(visit: Visit) -> None:
    """Tab enters, arrows move and scrub, Enter pins, K and D decide by hand, focus stays."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    page.get_by_role("slider", name="Layer").focus()
    page.keyboard.press("Tab")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    watched.settle()
    watched.address("token=3", "layer=3")
    page.keyboard.press("d")
    page.wait_for_selector(".chip.forced-drop")
    watched.settle()
    watched.address("drop=3")
    page.keyboard.press("k")
    page.wait_for_selector(".chip.forced-keep")
    watched.settle()
    watched.address("keep=3")
    page.keyboard.press("k")
    page.wait_for_selector(".chip.forced-keep", state="detached")
    watched.settle()
    page.keyboard.press("End")
    page.keyboard.press("Enter")
    watched.settle()
    watched.address(f"token={page.locator('.chip').count() - 1}")


FOCUSED = """() => [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")]
  .map((host) => host.shadowRoot?.activeElement?.dataset.i).find((found) => found !== undefined)"""


def test_a_decision_by_hand_leaves_the_focus_where_it_is(visit: Visit) -> None:
    """K keeps the chip that has the focus, pinned or not; D says so where a token is protected."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    page.locator(".chip").nth(4).focus()
    page.keyboard.press("k")
    page.wait_for_selector(".chip.forced-keep")
    watched.settle()
    assert "4" == page.evaluate(FOCUSED)
    page.keyboard.press("Home")
    page.keyboard.press("d")
    page.get_by_text("‘[CLS]’ is protected").wait_for()
    watched.address(without="drop")


def test_a_near_miss_is_pinned_by_a_click(visit: Visit) -> None:
    """The first row's token is the closest call; the picture and the panel show it."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    closest = page.get_by_role("heading", name="Closest call").inner_text().partition(": ")[2]
    table = page.get_by_test_id("stDataFrame").last
    table.scroll_into_view_if_needed()
    watched.settle()
    place = table.bounding_box()
    assert place is not None
    page.mouse.click(place["x"] + 18, place["y"] + 35 + 18)
    page.get_by_role("heading", name=f"Pinned token: {closest}").wait_for()
    assert 1 == page.locator('.chip[aria-selected="true"]').count()


def test_scrubber_repaints_without_the_server(visit: Visit) -> None:
    """At the input everything is live; layer by layer tokens leave; counts follow."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    slider = page.get_by_role("slider", name="Layer")
    slider.evaluate("s => { s.value = 0; s.dispatchEvent(new Event('input')) }")
    assert {"kept"} == set(classes(watched))
    count = page.locator("[data-part=count]")
    assert "18 of 18 tokens live at the input" == count.inner_text()
    slider.evaluate("s => { s.value = 1; s.dispatchEvent(new Event('input')) }")
    assert "gone" not in classes(watched)
    live = classes(watched).count("kept")
    assert count.inner_text().startswith(f"{live} of 18")


def test_layers_can_be_played(visit: Visit) -> None:
    """From the input to the last layer, and then it stops."""
    watched = visit()
    page = watched.open(explore(layer="0"), chips=True)
    page.get_by_role("button", name="Play layer by layer").click()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("button", name="Play layer by layer").wait_for(timeout=10_000)
    assert "after layer 3 of 3" in page.locator("[data-part=count]").inner_text()


def test_reload_restores_the_picture(visit: Visit) -> None:
    """Text, token, layer, multiplier, forced tokens and word mode are in the link."""
    watched = visit()
    page = watched.open(
        explore(token="4", layer="2", scale="1.2", keep="3", drop="6", words="true"), chips=True
    )
    before = page.url
    texts = page.locator(".chip").all_inner_texts()
    for check in (0, 1):
        assert before == page.url, check
        assert texts == page.locator(".chip").all_inner_texts()
        assert "after layer 2 of 3" in page.locator("[data-part=count]").inner_text()
        assert 1 == page.locator(".forced-keep").count() == page.locator(".forced-drop").count()
        page.get_by_role("heading", name="Pinned token: ‘long’").wait_for()
        page.reload()
        watched.settle(chips=True)


def test_512_tokens_on_a_phone(visit: Visit) -> None:
    """All chips and cells are there, the page does not scroll sideways, a repaint takes a blink."""
    watched = visit(width=390, height=844)
    page = watched.open(f"explore?model={app_samples.LONG}", chips=True)
    page.get_by_label("Text").fill("film " * 600)
    page.get_by_label("Text").press("Control+Enter")
    page.get_by_text("90 tokens cut off").first.wait_for()
    watched.settle(chips=True)
    assert 512 == page.locator(".chip").count()
    assert page.locator(".grid .line").count() > 1
    assert 0 == watched.overflow()
    assert 400 > watched.repaint_ms()
    assert [] == serious(watched)


def test_phone_does_not_scroll_sideways(visit: Visit) -> None:
    """390 pixels are enough for every page."""
    watched = visit(width=390, height=844)
    for path in ("", "explore", "method"):
        watched.open(path, chips=path != "method")
        assert 0 == watched.overflow(), path


def test_markup_is_text(visit: Visit) -> None:
    """A script typed in is shown letter by letter and never runs."""
    watched = visit()
    page = watched.open(
        explore("<script>alert(1)</script> <img src=x onerror=alert(1)>", words="true"), chips=True
    )
    assert "<" in page.locator(".chip bdi").all_inner_texts()
    assert 0 == page.locator(".chips script, .chips img").count()


def test_right_to_left_reads_from_the_right(visit: Visit) -> None:
    """The first Hebrew word stands right of the second, and the left arrow goes on."""
    watched = visit()
    page = watched.open(explore("שלום עולם", words="true"), chips=True)
    first, second = (page.locator(".chip").nth(i).bounding_box() for i in (1, 2))
    assert first
    assert second
    assert first["x"] > second["x"]
    page.locator(".chip").nth(1).focus()
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    watched.settle()
    page.get_by_role("heading", name="Pinned token: ‘עולם’").wait_for()


def test_narrowing_the_window_redraws_the_grid(visit: Visit) -> None:
    """The grid follows the width."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    wide = page.locator(".grid svg").bounding_box()
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_timeout(400)
    narrow = page.locator(".grid svg").bounding_box()
    assert wide
    assert narrow
    assert narrow["width"] < 400 < wide["width"]
