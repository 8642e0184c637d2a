"""Draws the README's pictures of the token view: `python -m tests.browser.make_pictures`.

They show the first checkpoint of the sample store on its first example, half way through the layers.
"""

from __future__ import annotations

from pathlib import Path

from app.ltp_ui.shared import live
from app.ltp_ui.shared.examples import examples
from tests.browser.conftest import CHROMIUM, READY_TIMEOUT_MS, ROOT, serve

LAYER = 3
WIDTH = 1_180
MARGIN = 14


def main(folder: Path = ROOT / "docs") -> None:
    """Writes `token_view.png` and `token_view_dark.png`."""
    from playwright.sync_api import sync_playwright

    folder.mkdir(exist_ok=True)
    token = _telling_token()
    with serve(ROOT, {"OMP_NUM_THREADS": "1"}) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        for scheme, name in (("light", "token_view.png"), ("dark", "token_view_dark.png")):
            page = browser.new_page(
                viewport={"width": WIDTH, "height": 1_800},
                color_scheme="dark" if scheme == "dark" else "light",
                device_scale_factor=2,
            )
            page.goto(f"{url}/explore?token={token}&layer={LAYER}")
            page.wait_for_selector(".chip", timeout=3 * READY_TIMEOUT_MS)
            page.wait_for_timeout(2_000)
            box = page.locator(".tv").bounding_box()
            assert box
            page.screenshot(
                path=folder / name,
                clip={
                    "x": box["x"] - MARGIN,
                    "y": box["y"] - MARGIN,
                    "width": box["width"] + 2 * MARGIN,
                    "height": box["height"] + 2 * MARGIN,
                },
            )
        browser.close()


def _telling_token() -> int:
    """Position of a token that leaves after the layer shown: the one that came closest to staying."""
    name = live.default_checkpoint(live.checkpoints())
    assert name, "the sample store has no checkpoint"
    task = live.card(name).task
    trace = live.learned_trace(live.Question(checkpoint=name, text=examples(task)[0].text))
    leaving = [i for i, survived in enumerate(trace.num_survived) if survived == LAYER - 1]
    scores = trace.layers[LAYER - 1].score
    return max(leaving, key=lambda i: scores[i] or 0.0)


if __name__ == "__main__":
    main()
