"""The app in a browser: every page, exports, links, and the command that starts it."""

from __future__ import annotations

from pathlib import Path

import pytest
from playwright.sync_api import expect

from ltp_core.records import Trace
from tests import app_samples
from tests.browser.conftest import ROOT, Visit, serve
from tests.browser.test_token_view import explore


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_is_healthy(visit: Visit, scheme: str) -> None:
    """No error in the console, no request to elsewhere, no traceback, on all that the navigation has."""
    watched = visit(scheme=scheme)
    links = watched.open(chips=True).get_by_test_id("stSidebarNavLink")
    titles = set()
    for index in range(links.count()):
        links.nth(index).click()
        watched.settle().wait_for_timeout(500)
        titles.add(watched.page.locator("h1").inner_text())
        watched.assert_healthy()
    assert len(list((ROOT / "pages").glob("*.py"))) == len(titles)


def test_start_works_before_the_model_does(visit: Visit) -> None:
    """Title and links are there while the picture is still a placeholder."""
    watched = visit()
    watched.page.goto(watched.server)
    watched.page.get_by_role("heading", name="Token Pruning Explorer").wait_for()
    watched.page.get_by_role("link", name="Compare two models").wait_for()
    watched.settle(chips=True)


def test_examples_fill_the_text(visit: Visit) -> None:
    """A click on one replaces what was there, and the picture follows."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    page.get_by_role("radio", name="Three words").click()
    expect(page.get_by_label("Text")).to_have_value("Simply wonderful cinema")
    watched.settle(chips=True)
    watched.address("text=Simply+wonderful+cinema")


def test_text_survives_a_visit_to_another_page(visit: Visit) -> None:
    """What was typed is there again on the way back."""
    watched = visit()
    page = watched.open(explore("my own words"), chips=True)
    page.get_by_role("link", name="Method", exact=True).click()
    page.get_by_role("heading", name="Method").wait_for()
    page.get_by_role("link", name="Explore a sentence").click()
    watched.settle(chips=True)
    assert "my own words" == page.get_by_label("Text").input_value()


def test_multiplier_reruns_the_network(visit: Visit) -> None:
    """At 0 everything stays, and the cost is that of the unpruned model."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    slider = page.get_by_role("slider", name="Threshold multiplier")
    slider.focus()
    page.keyboard.press("Home")
    watched.settle()
    page.get_by_text("18 → 18", exact=True).wait_for()
    page.get_by_text("100.0 %", exact=True).nth(1).wait_for()
    watched.address("scale=0")


def test_back_needs_one_press_and_the_link_can_be_copied(visit: Visit) -> None:
    """Whatever was chosen on a page meanwhile; the copy is the address with all of it."""
    watched = visit()
    page = watched.open(chips=True)
    page.get_by_role("link", name="Explore a sentence").first.click()
    page.get_by_role("heading", name="Explore a sentence").wait_for()
    watched.settle(chips=True)
    for index in (3, 4):
        page.locator(".chip").nth(index).click()
        watched.settle()
        watched.address(f"token={index}")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("button", name="Copy link").click()
    page.get_by_text("Copied", exact=True).wait_for()
    assert page.url == page.evaluate("navigator.clipboard.readText()")
    page.go_back()
    page.get_by_role("heading", name="Token Pruning Explorer").wait_for()


EXPORTS = ["trace.json", "trace.csv", "survivors-chart.svg", "survivors-chart.png"]
EXPORTS += [f"token-view.{kind}" for kind in ("html", "svg", "png")]


def test_exports_are_complete(visit: Visit, tmp_path: Path) -> None:
    """Seven files, none empty; the JSON is a trace, the page opens on its own and has no script."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    page.get_by_role("button", name="Export").click()
    names = [f"{app_samples.MOVIES}-{name}" for name in EXPORTS]
    files = watched.exported("explore", names, tmp_path)
    assert all(path.stat().st_size > 500 for path in files.values())
    trace = Trace.from_json(files[f"{app_samples.MOVIES}-trace.json"].read_text(encoding="utf-8"))
    assert 18 == len(trace.tokens)
    assert trace.checkpoint
    alone = visit()
    alone.server = "file://"
    alone.page.goto(files[f"{app_samples.MOVIES}-token-view.html"].as_uri())
    final = alone.page.locator(".chip.gone, .chip.here").count()
    assert 18 - trace.lengths[-1] == final
    alone.page.get_by_role("radio", name="input").check()
    opacity = alone.page.locator(".chip small").evaluate_all(
        "all => all.filter(s => getComputedStyle(s).display !== 'none').length"
    )
    assert 0 == opacity


def test_a_huge_text_survives_a_reload(visit: Visit) -> None:
    """It is not in the link, so the request line stays short and the app answers."""
    watched = visit()
    page = watched.open(explore(), chips=True)
    page.get_by_label("Text").fill("word " * 15_000)
    page.get_by_label("Text").press("Control+Enter")
    page.get_by_text("tokens cut off").first.wait_for()
    watched.settle(chips=True)
    assert 2_000 > len(page.url)
    answer = page.reload()
    assert answer
    assert answer.ok
    watched.settle(chips=True)


def test_starts_from_any_folder(chromium: str, store_folder: Path, tmp_path: Path) -> None:
    """`streamlit run PATH/app/main.py` works outside the project, too."""
    import urllib.request

    del chromium
    with (
        serve(tmp_path, {"LTP_STORE": str(store_folder)}) as url,
        urllib.request.urlopen(url, timeout=10) as answer,
    ):
        assert 200 == answer.status
