"""Times the app as a person meets it: `python -m tests.browser.measure_app`, one JSON document.

First paint: from opening the address in a new browser to the page's title, server running. Answer: a
new text typed into Explore, from the key press to its first token on screen; and what of that is the
core's call (pruned and same-weights unpruned pass). Medians with quartiles.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ltp_core import environment
from ltp_core.checkpoint import load_checkpoint
from ltp_core.trace import trace_text
from tests.browser.conftest import CHROMIUM, READY_TIMEOUT_MS, ROOT, serve

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHECKPOINT = "sst2-ltp"
REPEATS = 9
WORDS = [
    "a",
    "slow",
    "but",
    "beautifully",
    "shot",
    "and",
    "very",
    "funny",
    "film",
    "that",
    "never",
    "quite",
    "finds",
    "its",
    "feet",
]
LENGTHS = (40, 512)
SETTLE_MS = 2_500
"""Between two questions: the page still times the passes and draws what is below the tokens."""


def main() -> None:
    """Measures and prints."""
    from playwright.sync_api import sync_playwright

    with serve(ROOT, {}) as url, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        document = {
            "environment": environment.hardware() | {"packages": environment.packages()},
            "checkpoint": CHECKPOINT,
            "first_paint_ms": _spread([_first_paint_ms(browser, url) for _ in range(REPEATS)]),
            "answers": {str(length): _answers(browser, url, length) for length in LENGTHS},
        }
        browser.close()
    print(json.dumps(document, indent=2))  # noqa: T201


def _text(num_tokens: int, repeat: int) -> str:
    """A text of that many tokens with the two special ones; each repeat begins with its number."""
    words = [WORDS[i % len(WORDS)] for i in range(num_tokens - 3)]
    return " ".join([str(10 + repeat), *words])


def _first_paint_ms(browser: Browser, url: str) -> float:
    context = browser.new_context()
    page = context.new_page()
    taken = _time_ms(
        lambda: (
            page.goto(url),
            page.get_by_role("heading", name="Token Pruning Explorer").wait_for(),
        )
    )
    context.close()
    return taken


def _answers(browser: Browser, url: str, length: int) -> dict[str, dict[str, float]]:
    model = load_checkpoint(CHECKPOINT)
    page = browser.new_page()
    page.goto(f"{url}/explore")
    page.locator(".chip").first.wait_for(timeout=3 * READY_TIMEOUT_MS)
    on_screen = [_answer_ms(page, length, repeat) for repeat in range(REPEATS + 1)][1:]
    core = [
        _time_ms(lambda repeat=repeat: trace_text(model, _text(length, repeat)))  # type: ignore[misc]
        for repeat in range(REPEATS + 1)
    ][1:]
    page.close()
    return {"on_screen_ms": _spread(on_screen), "core_ms": _spread(core)}


def _answer_ms(page: Page, length: int, repeat: int) -> float:
    box = page.get_by_role("textbox", name="Text", exact=True)
    box.fill(_text(length, repeat))
    chip = page.locator(".chip", has_text=str(10 + repeat)).first
    taken = _time_ms(lambda: (box.press("Control+Enter"), chip.wait_for(timeout=READY_TIMEOUT_MS)))
    page.wait_for_timeout(SETTLE_MS)
    return taken


def _time_ms(run: Callable[[], object]) -> float:
    began = time.perf_counter()
    run()
    return 1_000 * (time.perf_counter() - began)


def _spread(values: list[float]) -> dict[str, float]:
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(median), "q1": round(q1), "q3": round(q3)}


if __name__ == "__main__":
    main()
