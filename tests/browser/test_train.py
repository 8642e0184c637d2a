"""From a dropped file to a finished run that opens elsewhere, in the browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest

from tests import tiny
from tests.browser.conftest import ROOT, Visit, serve

TRAINING_TIMEOUT_MS = 400_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty store, a base model and a labelled file."""
    folder = tmp_path_factory.mktemp("own")
    tiny.save_hugging_face("bert", folder / "base")
    texts = [f"{'dull' if i % 2 else 'great'} {tiny.WORDS[i % 40]} {i}" for i in range(200)]
    frame = pd.DataFrame(
        {"review": texts, "stars": ["bad" if i % 2 else "good" for i in range(200)]}
    )
    frame.to_csv(folder / "reviews.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def server(chromium: str, folder: Path) -> Iterator[str]:
    """An app of its own, whose store is written to."""
    del chromium
    with serve(ROOT, {"LTP_STORE": str(folder / "store")}) as url:
        yield url


def test_a_file_becomes_a_run(visit: Visit, folder: Path) -> None:
    """Dropped, shown, trained with a bar, reloaded meanwhile, and opened in Explore at the end."""
    watched = visit(height=1_800)
    page = watched.open("train")
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(folder / "reviews.csv")
    page.get_by_text("200 rows").wait_for()
    page.get_by_text("2 classes, guessed").wait_for()
    watched.settle()
    base = page.get_by_role("combobox", name="Base model")
    base.click()
    base.fill(str(folder / "base"))
    base.press("Enter")
    watched.settle()
    length = page.get_by_role("spinbutton", name="Tokens of a text at most")
    length.fill("16")
    length.press("Enter")
    watched.settle()
    page.get_by_role("button", name="Train", exact=True).click()
    page.get_by_role("progressbar").first.wait_for()
    page.reload()
    page.get_by_text("Kept from before: reviews.csv").wait_for()
    page.get_by_text("with nothing pruned").wait_for(timeout=TRAINING_TIMEOUT_MS)
    watched.settle()
    links = (
        "Explore a sentence",
        "Score a file",
        "Accuracy vs FLOPs",
        "Length robustness",
        "Throughput",
    )
    main = page.get_by_test_id("stMain")
    addresses = [main.get_by_role("link", name=name).get_attribute("href") for name in links]
    for address in addresses:
        watched.open(str(address).removeprefix("/"))
        page.get_by_role("heading", level=1).wait_for()
        assert 0 == page.get_by_text("That did not work").count(), address
