"""The length page in a browser: link, exports, and own data counted in the background."""

from __future__ import annotations

import json
from pathlib import Path

from tests.browser.conftest import Visit

COUNT_TIMEOUT_MS = 180_000
EXPORTS = {
    "figure.png": 5_000,
    "figure.svg": 5_000,
    "statistics.json": 1_000,
    "counts.csv": 500,
    "table-2.csv": 500,
}


def test_a_link_shows_its_lengths_and_every_export_is_complete(
    visit: Visit, tmp_path: Path
) -> None:
    """The link carries the sets, the view and the rule; five files come out."""
    watched = visit(height=1_600)
    page = watched.open("lengths?train_set=STS-B+·+train&view=Cumulative&kl=evaluation+‖+train")
    page.get_by_text("KL(evaluation ‖ train)").first.wait_for(state="attached")  # in a table
    page.get_by_text("0.1281 nats").first.wait_for(state="attached")
    page.get_by_text("Hollow marks").wait_for()
    page.get_by_role("button", name="Export").click()
    files = watched.exported("lengths", [f"lengths-{name}" for name in EXPORTS], tmp_path)
    for path, least_bytes in zip(files.values(), EXPORTS.values(), strict=True):
        assert least_bytes < path.stat().st_size
    document = json.loads(files["lengths-statistics.json"].read_text(encoding="utf-8"))
    assert ("stsb", "train") == (document["train"]["data"], document["train"]["split"])
    assert 0.0925 == document["paper"]["kl"]


def test_the_evaluation_set_follows_and_the_link_with_it(visit: Visit) -> None:
    """Choosing a data set changes both selectors and the address."""
    watched = visit()
    page = watched.open("lengths")
    page.get_by_role("combobox", name="Training lengths").click()
    page.get_by_role("option", name="IMDB · train").click()
    page.get_by_text("they say nothing about a shift").wait_for()
    watched.settle()
    watched.address("train_set=IMDB")
    page.reload()
    page.get_by_text("IMDB · validation").first.wait_for()
    watched.settle()


def test_an_upload_is_counted_and_survives_a_reload(visit: Visit, tmp_path: Path) -> None:
    """Progress in the background, then the own lengths beside the training lengths."""
    path = tmp_path / "mine.csv"
    rows = "".join(f"{i},{'a long and winding sentence ' * 4}\n" for i in range(500))
    path.write_text(f"id,review\n{rows}", encoding="utf-8")
    watched = visit(height=1_600)
    page = watched.open("lengths")
    page.locator('input[type="file"]').set_input_files(path)
    page.get_by_text("review", exact=True).first.wait_for()
    watched.settle()
    page.get_by_role("button", name="Count tokens").click()
    page.get_by_text("mine.csv/all, 500 inputs").wait_for(timeout=COUNT_TIMEOUT_MS)
    watched.settle()
    watched.address("eval_set=mine.csv")
    page.reload()
    page.get_by_text("mine.csv/all, 500 inputs").wait_for()
    watched.settle()
