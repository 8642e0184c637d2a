"""Accuracy vs FLOPs and Runs in a browser: from a point to its run, links, exports, narrow screens."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page
from playwright.sync_api import TimeoutError as TimedOut

from tests import app_samples, tradeoff_samples
from tests.browser.conftest import ROOT, Visit, serve

LTP = tradeoff_samples.config("ltp", 0.3).name


@pytest.fixture(scope="module")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of an app over made-up records, a broken run among them, and one with weights."""
    del chromium
    folder = tradeoff_samples.save_store(tmp_path_factory.mktemp("store"), budgets=(0.3, 0.6))
    tradeoff_samples.save_broken(folder)
    app_samples.save_run(folder, app_samples.PAIRS)
    with serve(ROOT, {"LTP_STORE": str(folder)}) as url:
        yield url


def chart(page: Page) -> Page:
    """The page once its chart is drawn."""
    page.locator(
        '[data-testid="stVegaLiteChart"] :is(canvas, svg), .js-plotly-plot .main-svg'
    ).first.wait_for()
    page.wait_for_timeout(500)
    return page


def test_a_point_leads_to_its_run(visit: Visit) -> None:
    """A click on the first LTP point opens the Runs page on that run, and back works."""
    watched = visit(width=1400)
    page = chart(watched.open("tradeoff?tradeoff.task=sst2"))
    points = '[data-testid="stVegaLiteChart"] svg path[aria-roledescription="point"][aria-label*="points against dense"]'
    marks = page.locator(f'{points}[aria-label*="method: LTP"]')
    marks.first.wait_for()
    watched.click_mark(marks.first)
    page.get_by_role("heading", name="Runs", exact=True).wait_for()
    watched.settle()
    watched.address("run=sst2-ltp-")
    page.get_by_role("heading", name="LTP · SST-2 · ").wait_for()
    page.go_back()
    page.get_by_role("heading", name="Accuracy vs FLOPs").wait_for()
    watched.settle()
    page.wait_for_timeout(1000)
    watched.address("tradeoff")


def test_a_shared_link_shows_the_same_chart(visit: Visit) -> None:
    """Task and axes are in the address, and survive a reload."""
    watched = visit()
    page = chart(watched.open("tradeoff?tradeoff.task=mrpc"))
    page.get_by_role("radio", name="metric", exact=True).click()
    watched.settle()
    watched.address("tradeoff.y=metric")
    page.reload()
    chart(watched.settle())
    chosen = page.get_by_role("radio", name="metric", exact=True)
    chosen.wait_for()
    assert chosen.get_attribute("aria-checked") == "true"
    watched.address("tradeoff.task=mrpc")


def test_the_chart_can_be_taken_away(visit: Visit, tmp_path: Path) -> None:
    """Four files: two tables with the points' figures, two pictures."""
    watched = visit()
    page = chart(watched.open("tradeoff?tradeoff.task=mrpc"))
    page.get_by_role("button", name="Export").first.click()
    files = {}
    for kind in ("CSV", "JSON", "SVG", "PNG"):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).click()
        files[kind] = tmp_path / download.value.suggested_filename
        download.value.save_as(files[kind])
    rows = list(csv.DictReader(files["CSV"].read_text(encoding="utf-8").splitlines()))
    assert {"mrpc"} == {row["task"] for row in rows}
    assert [row["runs"] for row in rows] == [
        r["runs"] for r in json.loads(files["JSON"].read_text())
    ]
    assert "SpAtten" in files["SVG"].read_text(encoding="utf-8")
    assert files["PNG"].read_bytes().startswith(b"\x89PNG")


def open_tab(page: Page, name: str, text: str) -> None:
    """Until the tab shows the text: a click is lost where the page is drawn anew at that moment."""
    shown = page.get_by_text(text).first
    for _ in range(10):
        page.get_by_role("tab", name=name).click()
        with contextlib.suppress(TimedOut):
            shown.wait_for(timeout=6000)
            return
    shown.wait_for()


def test_a_run_is_found_opened_and_left(visit: Visit) -> None:
    """Filter, click a row, look at everything, go on to another seed."""
    watched = visit(width=1400)
    page = watched.open(f"runs?run={LTP}")
    page.get_by_text(f"{LTP}: LTP for SST-2").wait_for()
    watched.settle()
    open_tab(page, "Settings", "train the run again")
    open_tab(page, "Provenance", "778441a21514")
    page.get_by_role("link", name="Seed 2").click()
    other = tradeoff_samples.config("ltp", 0.3, seed=2).name
    page.get_by_text(f"{other}: LTP for SST-2").wait_for()
    watched.address(f"run={other}")
    page.get_by_text("2 folders not in the table").wait_for()


def test_a_row_can_be_clicked(visit: Visit) -> None:
    """The box before the first row opens its run, and the address names it."""
    watched = visit(width=1400)
    page = watched.open("runs?runs.name=lat")
    grid = page.locator('[data-testid="stDataFrame"]').first
    grid.locator("canvas").first.wait_for()
    page.wait_for_timeout(1000)
    grid.click(position={"x": 16, "y": 52}, force=True)
    page.get_by_role("heading", name="LAT · ").first.wait_for()
    watched.settle()
    watched.address("-lat-")


def test_a_run_with_weights_opens_in_explore(visit: Visit) -> None:
    """The link carries the checkpoint."""
    watched = visit()
    page = watched.open(f"runs?run={app_samples.PAIRS}")
    page.get_by_role("link", name="Open in Explore").click()
    page.get_by_role("heading", name="Explore a sentence").wait_for()
    watched.settle()
    watched.address(f"model={app_samples.PAIRS}")


@pytest.mark.parametrize(("path", "scheme"), [("tradeoff", "dark"), (f"runs?run={LTP}", "light")])
def test_a_phone_shows_everything(visit: Visit, path: str, scheme: str) -> None:
    """Nothing is wider than the screen."""
    page = chart(visit(width=390, scheme=scheme).open(path))
    main = page.locator('[data-testid="stMain"]')
    assert main.evaluate("e => e.scrollWidth") <= 391
