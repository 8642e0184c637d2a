"""The URL's values, the error boundary, and what the app never does."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from app.ltp_ui.shared import state
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.examples import examples
from app.ltp_ui.shared.palette import DARK, LIGHT, Palette
from ltp_core.tasks.catalogue import TASKS

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(
    ("text", "expected"),
    [("3,8", {3, 8}), ("", set()), (None, set()), ("a,-1,2.5, 7 ,٣", {7, 3}), ("9999999", set())],
)
def test_positions_of_a_link(text: str | None, expected: set[int]) -> None:
    """What is no position is left out."""
    assert expected == state.parse_positions(text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1,0.2", (0.1, 0.2)),
        ("0.1", None),
        ("0.1,x", None),
        ("0.1,-1", None),
        ("nan,0.1", None),
        ("inf,0.1", None),
        (None, None),
    ],
)
def test_thresholds_of_a_link(text: str | None, expected: tuple[float, ...] | None) -> None:
    """One valid number a layer, or the learned ones are used."""
    assert expected == state.parse_thresholds(text, 2)


def test_thresholds_survive_the_link() -> None:
    """To the last digit."""
    values = (0.10306859761476517, 0.5, 1e-7)
    assert values == state.parse_thresholds(state.format_thresholds(values), 3)


def test_error_text_is_plain() -> None:
    """Nothing in an error becomes formatting, mathematics or an icon."""
    assert r"\*\*a\*\* \$x\$ \:red\[b\]" == plain("**a** $x$ :red[b]")


@pytest.mark.parametrize("task", [*TASKS, None])
def test_examples_fit_their_task(task: str | None) -> None:
    """Pair tasks have pairs, the others single texts, and names are unique."""
    is_pair = task is not None and TASKS[task].is_pair
    chosen = examples(task)
    assert all((example.pair is not None) == is_pair for example in chosen)
    assert len(chosen) == len({example.name for example in chosen}) >= 2


def luminance(color: str) -> float:
    """Relative luminance of `#rrggbb` (WCAG 2)."""
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(a: str, b: str) -> float:
    """Contrast ratio (WCAG 2)."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_palette_can_be_read(palette: Palette) -> None:
    """Text 4.5:1 or more, marks 3:1 or more."""
    for text in (palette.text, palette.muted):
        assert 4.5 <= contrast(text, palette.background)
    assert 4.5 <= contrast(palette.drop_text, palette.drop_background)
    for mark in (palette.keep, palette.drop):
        assert 3.0 <= contrast(mark, palette.background)


def settings() -> dict[str, Any]:
    """What Streamlit reads beside the script, from whatever folder the app is started."""
    return tomllib.loads((ROOT / "app/.streamlit/config.toml").read_text(encoding="utf-8"))


def test_the_app_answers_this_machine_only() -> None:
    """It reads any path that is typed in, so a network has to be asked for."""
    assert "localhost" == settings()["server"]["address"]


def test_theme_has_the_palettes_colours() -> None:
    """Exports look like the screen."""
    theme = settings()["theme"]
    for name, palette in (("light", LIGHT), ("dark", DARK)):
        colors = theme[name]
        assert palette.background == colors["backgroundColor"]
        assert palette.text == colors["textColor"]
        assert palette.keep == colors["blueColor"]
        assert palette.drop == colors["orangeColor"]


def imported(path: Path) -> set[str]:
    """Modules that a file imports when it is imported itself."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    names: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_no_page_imports_torch() -> None:
    """Heavy libraries are imported inside functions of `live`, never by a page."""
    heavy = {"torch", "transformers", "datasets", "tokenizers", "peft"}
    paths = [*(ROOT / "app").rglob("*.py"), *(ROOT / "pages").glob("*.py")]
    assert len(paths) > 50
    for path in paths:
        assert heavy.isdisjoint(name.split(".")[0] for name in imported(path)), path


def test_start_paints_without_torch() -> None:
    """The first paint of the start page does not wait for torch."""
    script = (
        "import sys\n"
        "from app.ltp_ui.shared import warm_up\n"
        "warm_up._import_core = lambda: None\n"
        "from streamlit.testing.v1 import AppTest\n"
        "at = AppTest.from_file('app/main.py', default_timeout=60).run()\n"
        "assert not at.exception, at.exception\n"
        "assert 'Token Pruning Explorer' == at.title[0].value\n"
        "print('torch' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert "False" == done.stdout.strip(), done.stderr[-2000:]
