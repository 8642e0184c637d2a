"""axe finds nothing on any page and in any of its main states, in light and in dark."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests import app_samples
from tests.browser.conftest import ROOT, Visit, Watched
from tests.browser.test_compare import compare
from tests.browser.test_token_view import TEXT, explore

LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
EVERYTHING = {
    "runOnly": {"type": "tag", "values": LEVELS},
    "rules": {"heading-order": {"enabled": True}},
    "resultTypes": ["violations"],
}
COLORS = {
    "runOnly": {"type": "rule", "values": ["color-contrast"]},
    "resultTypes": ["violations"],
}
"""The other rules see the same in both appearances."""

CHIPS = (
    explore(scale="1.5", keep="3", drop="4", token="5"),
    compare(layer="3", token="2"),
)
"""What-ifs and pinned tokens, which have colours of their own."""

STATES = (
    "robustness?robustness.tab=Trajectories",
    "robustness?robustness.tab=Token%20kinds",
    "throughput?what=scaling",
    "throughput?what=topk",
    "train?what=Prune%20without%20training",
    f"runs?run={app_samples.MOVIES}",
)
"""What a page becomes when it is used, in the colours that it has anyway."""


@pytest.mark.slow  # some twenty states of the pages, a hundred seconds
def test_axe_finds_nothing(visit: Visit, tmp_path: Path) -> None:
    """WCAG A and AA and the order of headings, on all of the page, Streamlit's own parts included."""
    watched = visit()
    watched.page.set_viewport_size({"width": 1_440, "height": 900})
    found: dict[str, list[str]] = {}
    pages = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
    for path in ["" if name == "start" else name for name in pages] + list(CHIPS):
        watched.open(path, chips=path in CHIPS)
        found |= _findings(watched, path) | _findings_in_dark(watched, path)
    for path in STATES:
        watched.open(path)
        found |= _findings(watched, path)
    file = tmp_path / "texts.csv"
    file.write_text(f"text\n{TEXT}\nnot a good film\n", encoding="utf-8")
    watched.open("score").get_by_label("path on this machine").fill(str(file))
    watched.page.keyboard.press("Enter")
    watched.page.get_by_text("Every row of the file").wait_for()
    found |= _findings(watched, "score with a file")
    assert {} == found


def _findings(watched: Watched, name: str) -> dict[str, list[str]]:
    """What axe finds, by page."""
    found = _run(watched, EVERYTHING)
    return {name: found} if found else {}


def _findings_in_dark(watched: Watched, name: str) -> dict[str, list[str]]:
    watched.page.emulate_media(color_scheme="dark")
    # The theme reaches the page and then the drawings in shadow trees.
    watched.page.wait_for_function(_IS_DARK)
    found = _run(watched, COLORS)
    watched.page.emulate_media(color_scheme="light")
    return {f"{name}, dark": found} if found else {}


_IS_DARK = """() => {
  const dark = (element) => {
    const [r, g, b] = getComputedStyle(element).color.match(/\\d+/g).map(Number);
    return r + g + b > 382;
  };
  const trees = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")];
  const chips = trees.map((host) => host.shadowRoot?.querySelector(".chip bdi")).filter(Boolean);
  return [document.querySelector("h1"), ...chips].every(dark);
}"""


def _run(watched: Watched, options: dict[str, Any]) -> list[str]:
    from axe_playwright_python.sync_playwright import Axe

    rules: list[dict[str, Any]] = Axe().run(watched.page, options=options).response["violations"]
    return [
        f"{rule['id']}: {node['html'][:160]} {node['failureSummary'][-160:]}"
        for rule in rules
        for node in rule["nodes"]
    ]
