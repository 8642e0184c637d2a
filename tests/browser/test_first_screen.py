"""Each page answers its question on the first screen of a fresh clone, in a sentence with numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from tests.browser.conftest import ROOT, Visit, Watched, serve

WIDTH, HEIGHT = 1_440, 900


class Page(NamedTuple):
    """A page's question, and what its answer looks like.

    Attributes:
        path: In the address; the start page has none.
        question: As docs/development.md has it.
        answer: Pattern with the numbers that the sentence must have.
    """

    path: str
    question: str
    answer: str


PAGES = (
    Page(
        "",
        "What does token pruning save, and does the answer stay?",
        r"takes \d+ % of the FLOPs and (keeps its|gets another) answer, \w+ [\d.]+ % \(unpruned \w+ [\d.]+ %",
    ),
    Page(
        "explore",
        "Does pruning change the answer to my sentence, and how many tokens are left?",
        r"Pruning (keeps|changes) the answer: \w+ [\d.]+ % .*\d+ → \d+ tokens · [\d.]+ % of the FLOPs",
    ),
    Page(
        "compare",
        "Do two models or settings agree, and which one is cheaper?",
        r"A and B give (the same answer|different answers) .*; A takes \d+ % of the FLOPs and B \d+ %",
    ),
    Page(
        "score",
        "How many labels of my texts does pruning change, and what does it save?",
        r"On \d+ example texts pruning changes (no|\d+) labels? and takes \d+ % of the FLOPs",
    ),
    Page(
        "lengths",
        "Are these inputs longer than those of training, and what follows?",
        r"These inputs are longer than training’s \(median [\d.]+ against [\d.]+ tokens\)",
    ),
    Page(
        "tradeoff",
        "With how few FLOPs does each method stay within a point of the dense model?",
        r"On SST-2 \S+ needs \d+ % of the FLOPs to stay within one point of its dense model; .*LTP \d+ %",
    ),
    Page(
        "robustness",
        "Does accuracy hold on long inputs, and at which cost?",
        r"on inputs above \d+ tokens: LTP [−+][\d.]+ points at \d+ % of the FLOPs, LAT [−+][\d.]+ points",
    ),
    Page(
        "throughput",
        "How fast is it on a machine, beside what others use?",
        r"LTP scores [\d,]+ texts a second \(batch \d+\), [\d.]+ times Hugging Face.* gives [\d.]+ times",
    ),
    Page(
        "pays",
        "How much time does pruning save, and how much accuracy does it cost?",
        r"saves \d+ % of the FLOPs and \d+ % of the time .* accuracy changes by [−+][\d.]+ points",
    ),
    Page(
        "train",
        "What can a model that is trained on my labels reach?",
        r"Trained on [\d,]+ labelled texts, .* [\d.]+ % accuracy .* at [\d.]+ % of the FLOPs",
    ),
    Page(
        "runs",
        "What stands behind the figures?",
        r"\d+ runs of \d+ methods on \d+ tasks .*; \d+ can be loaded",
    ),
    Page(
        "method",
        "When does a token leave?",
        r"removes the tokens .* at a threshold of [\d.]+, those with at most \d+ % of an even share",
    ),
)


def test_the_answer_stands_on_the_first_screen(visit: Visit, chromium: str, tmp_path: Path) -> None:
    """Above the fold at 1440 × 900, whole, and with nothing but the title, texts and file before it."""
    del chromium
    missing = []
    with serve(ROOT, {"LTP_STORE": str(tmp_path / "empty")}) as url:
        watched = visit(width=WIDTH, height=HEIGHT)
        watched.server = url
        for page in PAGES:
            said, bottom = _answer(watched, page)
            if re.search(page.answer, said) is None or bottom > HEIGHT:
                missing.append(f"{page.path or 'start'}, down to {bottom:.0f}: {said}")
        watched.page.goto("about:blank")
    assert [] == missing


def _answer(watched: Watched, page: Page) -> tuple[str, float]:
    """The sentence, and where it ends on the screen."""
    watched.open(page.path)
    answer = watched.page.locator(".st-key-answer")
    answer.wait_for()
    watched.settle()
    box = answer.bounding_box()
    assert box
    return " ".join(answer.inner_text().split()), box["y"] + box["height"]


def test_every_page_has_a_question() -> None:
    """The list is complete, and the documentation has the same questions."""
    pages = {path.stem for path in (ROOT / "pages").glob("*.py")}
    assert pages == {page.path or "start" for page in PAGES}
    text = (ROOT / "docs" / "development.md").read_text(encoding="utf-8")
    assert [] == [page.question for page in PAGES if page.question not in text]
