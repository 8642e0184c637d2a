"""The throughput page in a browser: a measurement survives a reload and can be stopped; pictures save."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests import bench_samples
from tests.browser.conftest import Visit

CHART = '[data-testid="stVegaLiteChart"] :is(svg, canvas)'


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


def test_figures_and_pictures_save(visit: Visit, tmp_path: Path) -> None:
    """The numbers and both charts as files. No request to anywhere."""
    watched = visit()
    page = watched.open("throughput")
    page.locator(CHART).first.wait_for()
    page.get_by_role("button", name="Export").click()
    for label, number, start, name in (
        ("JSON", 0, b"{", "measurements.json"),
        ("CSV", 0, b"batch_size", "measurements.csv"),
        ("PNG", 1, b"\x89PNG", "speed-promised-and-measured.png"),
        ("SVG", 0, b"<svg", "speed-by-batch-size.svg"),
    ):
        with page.expect_download() as download:
            page.get_by_role("button", name=label, exact=True).nth(number).click()
        assert download.value.suggested_filename == f"throughput-a-{name}"
        download.value.save_as(tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(start)


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


def test_every_question_is_healthy_on_a_phone(visit: Visit) -> None:
    """Charts within the width of the page, nothing in the console."""
    watched = visit(width=390, scheme="dark")
    for what in ("throughput", "scaling", "topk"):
        page = watched.open(f"throughput?what={what}")
        page.locator(CHART).first.wait_for()
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, what
