"""Times the app as a person meets it: `python -m tests.browser.measure_app`, one JSON document.

First paint: from opening the address in a new browser to the page's title, server running. Answer: a
new text typed into Explore, from the key press to the frame that shows its tokens. Multiplier: from
a step of the slider by the keyboard to the frame that shows the changed tokens. Both with what the server
does for it, from its question to its last message and in bytes, and with the core's call alone
(pruned pass). Medians with quartiles, taken by the browser's own clock.

`--runs 5000` adds that many manifests to the store that is read, to see that their number costs nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ltp_core import environment, store
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

WATCH = """
(() => {
  const watch = { frames: [], sent: 0 };
  window.watch = watch;
  const Native = window.WebSocket;
  window.WebSocket = class extends Native {
    constructor(...all) {
      super(...all);
      this.addEventListener("message", (event) => {
        const size = event.data.byteLength ?? event.data.size ?? event.data.length;
        watch.frames.push([performance.now(), size]);
      });
    }
    send(data) {
      if (watch.armed && !watch.sent) { watch.sent = performance.now(); watch.frames = []; }
      super.send(data);
    }
  };
  const chips = () => {
    const hosts = [...document.querySelectorAll("[data-testid=stBidiComponentIsolated]")];
    return hosts.map((host) => host.shadowRoot?.querySelector(".chips")).find((found) => found);
  };
  watch.arm = (key, word) => {
    Object.assign(watch, { armed: true, sent: 0, frames: [], shown: 0 });
    const before = chips().innerHTML;
    const look = () => {
      const now = chips();
      const isOther = now?.textContent.includes(word) && now.innerHTML !== before;
      requestAnimationFrame(isOther ? () => (watch.shown = performance.now()) : look);
    };
    const begin = (event) => {
      if (event.key !== key) return;
      document.removeEventListener("keydown", begin, { capture: true });
      watch.began = performance.now();
      requestAnimationFrame(look);
    };
    document.addEventListener("keydown", begin, { capture: true });
  };
})();
"""
"""Notes in the browser when a key moved, when the page asked, and when other tokens were drawn."""


def main() -> None:
    """Measures and prints."""
    from playwright.sync_api import sync_playwright

    parser = argparse.ArgumentParser(description="Times the app in a browser.")
    parser.add_argument("--runs", type=int, default=0, help="stored runs added for the measurement")
    num_runs = parser.parse_args().runs
    with (
        _store_of(num_runs) as folder,
        serve(ROOT, {store.STORE_VARIABLE: str(folder)}) as url,
        sync_playwright() as playwright,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        document = {
            "environment": environment.hardware() | {"packages": environment.packages()},
            "checkpoint": CHECKPOINT,
            "more_runs": num_runs,
            "first_paint_ms": _spread([_first_paint_ms(browser, url) for _ in range(REPEATS)]),
            "answers": {str(length): _answers(browser, url, length) for length in LENGTHS},
        }
        browser.close()
    print(json.dumps(document, indent=2))  # noqa: T201


@contextmanager
def _store_of(num_runs: int) -> Iterator[Path]:
    """A store of its own with copies of a manifest; none of them has weights."""
    manifest = store.find_run(load_checkpoint(CHECKPOINT).name) / store.MANIFEST
    document = json.loads(manifest.read_text(encoding="utf-8")) | {"files": []}
    with tempfile.TemporaryDirectory() as name:
        for index in range(num_runs):
            folder = store.run_folder(Path(name), f"other-ltp-{index:010x}")
            folder.mkdir(parents=True)
            store.write_json(folder / store.MANIFEST, document | {"name": folder.name})
        yield Path(name)


def _text(num_tokens: int, repeat: int) -> str:
    """A text of that many tokens with the two special ones; each repeat begins with its number."""
    words = [WORDS[i % len(WORDS)] for i in range(num_tokens - 3)]
    return " ".join([str(10 + repeat), *words])


def _first_paint_ms(browser: Browser, url: str) -> float:
    context = browser.new_context()
    page = context.new_page()
    began = time.perf_counter()
    page.goto(url)
    page.get_by_role("heading", name="Token Pruning Explorer").wait_for()
    taken = 1_000 * (time.perf_counter() - began)
    context.close()
    return taken


def _answers(browser: Browser, url: str, length: int) -> dict[str, Any]:
    model = load_checkpoint(CHECKPOINT)
    page = browser.new_page()
    page.add_init_script(WATCH)
    page.goto(f"{url}/explore")
    page.locator(".chip").first.wait_for(timeout=3 * READY_TIMEOUT_MS)
    page.wait_for_timeout(SETTLE_MS)
    typed = [_typed(page, length, repeat) for repeat in range(REPEATS + 1)][1:]
    moved = [_moved(page) for _ in range(REPEATS + 1)][1:]
    page.close()
    core = [_core_ms(model, _text(length, repeat)) for repeat in range(REPEATS + 1)][1:]
    return {"text": _by_name(typed), "multiplier": _by_name(moved), "core_ms": _spread(core)}


def _core_ms(model: Any, text: str) -> float:
    began = time.perf_counter()
    trace_text(model, text, same_weights_unpruned=False)
    return 1_000 * (time.perf_counter() - began)


def _typed(page: Page, length: int, repeat: int) -> dict[str, float]:
    box = page.get_by_role("textbox", name="Text", exact=True)
    box.fill(_text(length, repeat))
    return _watched(page, "Enter", str(10 + repeat), lambda: box.press("Control+Enter"))


def _moved(page: Page) -> dict[str, float]:
    """The multiplier a step up, which is a setting that was not asked before."""
    slider = page.get_by_role("slider", name="multiplier").first
    slider.focus()
    return _watched(page, "ArrowRight", "", lambda: slider.press("ArrowRight"))


def _watched(page: Page, key: str, word: str, press: Callable[[], None]) -> dict[str, float]:
    """What the page does from a key on until tokens with this word are drawn, and after."""
    page.evaluate("([key, word]) => watch.arm(key, word)", [key, word])
    press()
    page.wait_for_function("() => watch.shown", timeout=READY_TIMEOUT_MS)
    page.wait_for_timeout(600)  # before the page times the passes
    seen = page.evaluate("() => ({ ...watch })")
    page.wait_for_timeout(SETTLE_MS)
    return {
        "on_screen_ms": seen["shown"] - seen["began"],
        "asked_ms": seen["sent"] - seen["began"],
        "server_ms": max(at for at, _ in seen["frames"]) - seen["sent"],
        "kilobytes": sum(size for _, size in seen["frames"]) / 1_000,
    }


def _by_name(measured: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    return {name: _spread([each[name] for each in measured]) for name in measured[0]}


def _spread(values: list[float]) -> dict[str, float]:
    q1, median, q3 = np.quantile(values, [0.25, 0.5, 0.75])
    return {"median": round(median), "q1": round(q1), "q3": round(q3)}


if __name__ == "__main__":
    main()
