"""The real app in a real browser: one server a session on a store of tiny models, one tab a test."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests import app_samples, bench_samples, checkpoints

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Locator, Page, Request

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM = "/usr/bin/chromium"
START_TIMEOUT_S = 60
READY_TIMEOUT_MS = 60_000


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives the browser."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of the browser; without one, the tests are skipped, or fail with REQUIRE_BROWSER=1."""
    path = os.environ.get("CHROMIUM") or (
        CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium")
    )
    if path is None:
        reason = "there is no chromium: install Debian's, or name one with CHROMIUM"
        (pytest.fail if os.environ.get("REQUIRE_BROWSER") == "1" else pytest.skip)(reason)
    return str(path)


@contextmanager
def serve(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    """Runs `streamlit run app/main.py` as a user would, from a folder; gives its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    script = os.path.relpath(ROOT / "app" / "main.py", folder)
    command = [str(Path(sys.executable).parent / "streamlit"), "run", script]
    options = [
        "--server.port",
        str(port),
        "--server.address",
        "127.0.0.1",
        "--server.headless",
        "true",
    ]
    process = subprocess.Popen(
        [*command, *options],
        cwd=folder,
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait_until_healthy(url: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(START_TIMEOUT_S * 5):
        assert process.poll() is None, "the server ended"
        try:
            with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.2)
    raise TimeoutError(f"no answer within {START_TIMEOUT_S} s")


@pytest.fixture(scope="session")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of tiny random models, one that answers questions among them, and of benchmarks."""
    folder = app_samples.save_store(tmp_path_factory.mktemp("store"))
    checkpoints.save_questions(folder)
    return bench_samples.save_all(folder)


@pytest.fixture(scope="session")
def server(chromium: str, store_folder: Path) -> Iterator[str]:
    """Address of the app."""
    del chromium
    with serve(ROOT, {"LTP_STORE": str(store_folder)}) as url:
        yield url


@pytest.fixture(scope="session")
def browser(chromium: str) -> Iterator[BrowserContext]:
    """One browser with one cache for all tests: the app's scripts are loaded and compiled once."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(
            executable_path=chromium, args=["--no-sandbox", "--disable-gpu"]
        )
        yield launched.new_context(accept_downloads=True)
        launched.close()


class Watched:
    """A page, and everything that went wrong on it."""

    def __init__(self, page: Page, server: str) -> None:
        self.page = page
        self.server = server
        self.problems: list[str] = []
        page.set_default_timeout(READY_TIMEOUT_MS)
        page.on("console", lambda message: self._console(message.type, message.text))
        page.on("pageerror", lambda error: self.problems.append(f"page error: {error}"))
        page.on("request", self._request)
        page.on("dialog", lambda dialog: self.problems.append(f"dialog: {dialog.message}"))

    def _console(self, kind: str, text: str) -> None:
        # Streamlit looks for its endpoints below the page's path first, and finds them at the root.
        if kind == "error" and "404 (Not Found)" not in text:
            self.problems.append(f"console: {text}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith(
            (self.server, self.server.replace("http", "ws"), "data:", "blob:")
        ):
            self.problems.append(f"request to {request.url}")

    def open(self, path: str = "", *, chips: bool = False) -> Page:
        """Opens a page of the app and waits until it stands still."""
        self.page.goto(f"{self.server}/{path}")
        return self.settle(chips=chips)

    def settle(self, *, chips: bool = False) -> Page:
        """Waits until the script has run, and for the token view if wanted."""
        self.page.wait_for_timeout(150)
        state = '[data-testid="stApp"][data-test-script-state="notRunning"]'
        self.page.wait_for_selector(state, timeout=READY_TIMEOUT_MS)
        if chips:
            self.page.wait_for_selector(".chip", timeout=READY_TIMEOUT_MS)
            self.page.wait_for_selector(state, timeout=READY_TIMEOUT_MS)
        self.page.wait_for_timeout(150)
        return self.page

    def address(self, *parts: str, without: str | None = None) -> None:
        """Waits until the address has these parts: it follows the picture, on a loaded machine late."""

        def arrived(url: str) -> bool:
            return all(part in url for part in parts) and (without is None or without not in url)

        self.page.wait_for_url(arrived, wait_until="commit", timeout=READY_TIMEOUT_MS)

    def overflow(self) -> int:
        """Pixels by which the page is wider than the window."""
        found: int = self.page.evaluate(
            "() => { const m = document.querySelector('[data-testid=stMain]');"
            " return m.scrollWidth - m.clientWidth }"
        )
        return found

    def repaint_ms(self) -> float:
        """Milliseconds until the token view has moved to the first layer."""
        found: float = self.page.locator("[data-part=scrubber]").evaluate(
            "s => { const t = performance.now(); s.value = 1; s.dispatchEvent(new Event('input'));"
            " s.getBoundingClientRect(); return performance.now() - t }"
        )
        return found

    def exported(self, key: str, names: Iterable[str], folder: Path) -> dict[str, Path]:
        """Downloads these files from the open list of exports."""
        for name in names:
            row = self.page.locator(f".st-key-{key}-export-{name.replace('.', '-')}")
            with self.page.expect_download() as download:
                row.get_by_role("button").click()
            assert name == download.value.suggested_filename
            download.value.save_as(folder / name)
        return {name: folder / name for name in names}

    def click_mark(self, mark: Locator) -> None:
        """Clicks a mark of a chart, once the chart stands still: it is drawn again when data come."""
        self.settle()
        place = None
        for _ in range(READY_TIMEOUT_MS // 250):
            mark.scroll_into_view_if_needed()
            before, place = place, mark.bounding_box()
            if place is not None and place == before:
                break
            self.page.wait_for_timeout(250)
        # Forced: another mark may lie on it.
        mark.click(force=True)

    def assert_healthy(self) -> None:
        """No error in the console, no request elsewhere, no traceback on the page."""
        assert [] == self.problems
        assert 0 == self.page.locator('[data-testid="stException"]').count()


Visit = Callable[..., Watched]


@pytest.fixture
def visit(browser: BrowserContext, server: str) -> Iterator[Visit]:
    """Opens tabs, each a session of its own: `visit(width=390, scheme="dark")`; checked at the end."""
    opened: list[Watched] = []

    def make(*, width: int = 1280, height: int = 900, scheme: str = "light") -> Watched:
        page = browser.new_page()
        page.set_viewport_size({"width": width, "height": height})
        page.emulate_media(color_scheme="dark" if scheme == "dark" else "light")
        opened.append(Watched(page, server))
        return opened[-1]

    yield make
    for watched in opened:
        watched.assert_healthy()
        watched.page.close()
