"""A question about a text in a browser: the answer in its context, sizes, themes, accessibility."""

from __future__ import annotations

from urllib.parse import quote

import pytest

from tests.browser.conftest import Visit
from tests.browser.test_token_view import serious
from tests.checkpoints import QUESTIONS

CONTEXT = "the plot was slow but a good actor and a great story of love made it fun "


def explore(context: str, question: str = "was the movie good") -> str:
    """Path of the explore page on a question."""
    return f"explore?model={QUESTIONS}&text={quote(question)}&pair={quote(context)}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_answer_stands_out_in_its_context(visit: Visit, scheme: str) -> None:
    """It is marked, readable in both themes, and the tokens of question and context follow."""
    watched = visit(scheme=scheme)
    page = watched.open(explore(CONTEXT), chips=True)
    marked = page.locator("mark")
    assert 1 == marked.count()
    assert marked.inner_text() in CONTEXT
    ink, paper = marked.evaluate(
        "m => [getComputedStyle(m).color, getComputedStyle(m).backgroundColor]"
    )
    assert ink != paper
    assert page.locator(".chip").count() > 20
    assert page.locator(".chips .divider").is_visible()
    assert page.locator(".grid .divider").count() == page.locator(".grid path.answer").count() == 1
    assert "in the question" in (page.locator(".chip").nth(1).get_attribute("aria-label") or "")
    answer = page.locator(".chip.answer")
    assert marked.inner_text().split()[0] == answer.first.locator("bdi").inner_text()
    assert page.locator(".legend").get_by_text("end of the question").is_visible()
    assert [] == serious(watched)


def test_a_long_context_stays_readable(visit: Visit) -> None:
    """600 words wrap, nothing scrolls sideways, and the page says that it was read in windows."""
    watched = visit(width=390)
    page = watched.open(explore(CONTEXT * 35), chips=True)
    assert page.get_by_text("windows that overlap").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    box = page.locator("mark").bounding_box()
    assert box
    assert box["x"] >= 0
