"""The throughput page in a browser: a measurement survives a reload and can be stopped; pictures save."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests import app_samples, bench_samples
from tests.browser.conftest import ROOT, Watched, serve

Visit = Callable[..., Watched]

CHART = ".js-plotly-plot .main-svg"


@pytest.fixture(scope="module")
def server(chromium: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on a store of its own, with benchmarks."""
    del chromium
    store = bench_samples.save_all(app_samples.save_store(tmp_path_factory.mktemp("benches")))
    environment = {"LTP_STORE": str(store), "OMP_NUM_THREADS": "1"}
    with serve(ROOT, environment) as url:
        yield url


def test_a_measurement_survives_a_reload_and_stops(visit: Visit) -> None:
    """Progress appears, is there again in a fresh page, and ends with Stop."""
    watched = visit()
    page = watched.open("throughput?what=topk")
    page.get_by_role("button", name="Measure", exact=True).click()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_text(re.compile("Measuring|Loading")).first.wait_for()
    page.get_by_text("Numbers").click()  # the page stays usable
    page.reload()
    watched.settle()
    page.get_by_role("button", name="Stop").wait_for()
    page.get_by_text(re.compile(r"Measuring: \d+")).wait_for()
    page.get_by_role("button", name="Stop").click()
    page.get_by_role("button", name="Measure", exact=True).wait_for()
    page.get_by_text("goes on from what is finished").wait_for()


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_pictures_save_in_the_browser(visit: Visit, kind: str, tmp_path: Path) -> None:
    """The camera of a chart gives the chosen format, with no request to anywhere."""
    watched = visit()
    page = watched.open("throughput")
    page.locator(CHART).first.wait_for()
    if kind == "svg":
        page.get_by_role("button", name="Export").click()
        page.get_by_text("SVG", exact=True).click()
        watched.settle()
        page.keyboard.press("Escape")
    page.locator(CHART).first.hover()
    with page.expect_download() as download:
        page.locator('.modebar-btn[data-title^="Download plot"]').first.click()
    assert download.value.suggested_filename.endswith(f".{kind}")
    download.value.save_as(tmp_path / "picture")
    start = b"\x89PNG" if kind == "png" else b"<svg"
    assert (tmp_path / "picture").read_bytes().startswith(start)


@pytest.mark.parametrize("kind", ["JSON", "CSV"])
def test_figures_save(visit: Visit, kind: str) -> None:
    """The numbers as files."""
    watched = visit()
    page = watched.open("throughput")
    page.get_by_role("button", name="Export").click()
    with page.expect_download() as download:
        page.get_by_role("button", name=kind, exact=True).click()
    assert download.value.suggested_filename == f"throughput-a.{kind.lower()}"


def test_another_machines_file_is_shown(visit: Visit, tmp_path: Path) -> None:
    """A document that is added is shown at once; one that is none is a sentence."""
    document = bench_samples.scaling()
    document["environment"] = {"processor": "A visitor", "threads": 64}
    (tmp_path / "bench.json").write_text(json.dumps(document))
    (tmp_path / "other.json").write_text("{}")
    watched = visit()
    page = watched.open("throughput")
    page.get_by_role("button", name="Add", exact=True).click()
    page.locator('input[type="file"]').set_input_files(tmp_path / "other.json")
    page.get_by_text("no document of a benchmark").wait_for()
    page.locator('input[type="file"]').set_input_files(tmp_path / "bench.json")
    page.get_by_text("A visitor, 64 threads").first.wait_for()
    page.get_by_role("heading", name="Time against the length").wait_for()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("what", ["throughput", "scaling", "topk"])
def test_every_question_is_healthy_on_a_phone(visit: Visit, what: str, scheme: str) -> None:
    """Charts within the width of the page, nothing in the console."""
    watched = visit(width=390, scheme=scheme)
    page = watched.open(f"throughput?what={what}")
    page.locator(CHART).first.wait_for()
    wide = page.evaluate("document.documentElement.scrollWidth")
    assert wide <= 390
