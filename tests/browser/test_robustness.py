"""The robustness page in a browser: clicks lead to an example, links carry the view, files come down."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from tests import length_runs
from tests.browser.conftest import ROOT, Visit, Watched, serve

TRAJECTORIES = (
    f"robustness?robustness.data={quote('qqp, rows up to 24 tokens')}&robustness.tab=Trajectories"
)
"""Of made-up records, whose texts nobody has."""


@pytest.fixture(scope="module")
def records_server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on a store of made-up records."""
    del chromium
    folder = length_runs.save_store(tmp_path_factory.mktemp("records"))
    with serve(ROOT, {"LTP_STORE": str(folder), "LTP_DATA_DIR": ""}) as url:
        yield url


def open_page(visit: Visit, server: str, path: str = "robustness", **options: object) -> Watched:
    """A page of that app, once its charts are drawn."""
    watched = visit(**options)
    watched.server = server
    watched.open(path)
    watched.page.locator("[data-testid='stVegaLiteChart'] svg, canvas").first.wait_for()
    return watched


def test_every_tab_is_healthy(visit: Visit, records_server: str) -> None:
    """No error in the console, no request elsewhere, no traceback; the link opens the tab."""
    watched = open_page(visit, records_server, scheme="dark")
    for tab in ("By length", "Trajectories", "Token kinds"):
        page = watched.open(f"robustness?robustness.tab={tab}")
        page.locator("[data-testid='stVegaLiteChart'] svg, canvas").first.wait_for()
        assert "true" == page.get_by_role("tab", name=tab).get_attribute("aria-selected")


def test_a_line_of_the_table_picks_the_example(visit: Visit, records_server: str) -> None:
    """Its row is in the link, and survives a reload; without the data set that is said."""
    watched = open_page(visit, records_server, TRAJECTORIES)
    page = watched.page
    page.get_by_text("Choose a row to see its text").wait_for()
    table = page.get_by_test_id("stDataFrame").first
    table.scroll_into_view_if_needed()
    table.click(position={"x": 20, "y": 90})
    page.get_by_text("is not at hand").wait_for()
    watched.settle()
    watched.address("row=")
    page.reload()
    watched.settle()
    page.get_by_text("is not at hand").wait_for()


def test_a_click_on_a_trajectory_picks_it(visit: Visit, records_server: str) -> None:
    """The dots of a chart are buttons: the example's row comes into the link."""
    watched = open_page(visit, records_server, TRAJECTORIES)
    page = watched.page
    watched.click_mark(page.locator(".mark-symbol path").first)
    page.get_by_text("is not at hand").wait_for()
    watched.settle()
    watched.address("row=")


def test_the_table_comes_down(visit: Visit, records_server: str, tmp_path: Path) -> None:
    """JSON with every figure of every band, and a picture."""
    watched = open_page(visit, records_server)
    page = watched.page
    page.get_by_role("button", name="Export").click()
    for kind, name in (("JSON", "table.json"), ("PNG", "chart.png")):
        with page.expect_download() as download:
            page.get_by_role("button", name=kind, exact=True).first.click()
        download.value.save_as(tmp_path / name)
    rows = json.loads((tmp_path / "table.json").read_text(encoding="utf-8"))
    assert 3 * len({row["run"] for row in rows}) == len(rows) >= 4 * 3
    assert all(0 <= row["value"] <= 1 for row in rows)
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")


def test_it_can_be_read_on_a_phone(visit: Visit, records_server: str) -> None:
    """Nothing but the histograms is wider than the screen."""
    page = open_page(visit, records_server, width=390).page
    width = page.evaluate(
        "Math.max(...[...document.querySelectorAll('[data-testid=stVegaLiteChart]')]"
        ".map(e => e.getBoundingClientRect().right))"
    )
    assert width <= 390


@pytest.mark.parametrize(("width", "scheme"), [(1_200, "light"), (390, "dark")])
def test_the_legend_is_whole(visit: Visit, server: str, width: int, scheme: str) -> None:
    """Of the runs that are compared by default: each name ends inside the window."""
    page = open_page(visit, server, width=width, scheme=scheme).page
    names = page.locator('[data-testid="stHtml"] p > span')
    names.first.wait_for()
    assert 2 <= names.count()
    for name in names.all():
        box = name.bounding_box()
        assert box
        assert box["x"] + box["width"] <= width
