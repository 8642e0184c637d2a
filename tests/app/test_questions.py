"""The explore page with a checkpoint that answers questions about a text."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app.ltp_ui.compare import component as compare_component
from app.ltp_ui.compare import figure as compare_figure
from app.ltp_ui.compare.comparison import Side, compare
from app.ltp_ui.compare.wording import answer_change
from app.ltp_ui.explore.answer import (
    candidates_frame,
    certainty,
    context_html,
    fate,
    measured_f1,
    notes,
)
from app.ltp_ui.explore.controls import special_help
from app.ltp_ui.explore.panels import DROPPED_ANSWERS, protection
from app.ltp_ui.shared import live
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.examples import examples
from app.ltp_ui.shared.export import facts
from app.ltp_ui.shared.palette import DARK, LIGHT
from app.ltp_ui.token_view import component, figure, markup
from app.ltp_ui.token_view.view import TokenView, build_view
from ltp_core import store
from ltp_core.records import Answer, Candidate, LayerTrace, Trace
from tests import runs
from tests.checkpoints import QUESTIONS, save_questions

ROOT = Path(__file__).resolve().parents[2]
QUESTION = "was the movie good"
CONTEXT = "the plot was slow but a good actor and a great story of love made it fun"


@pytest.fixture(scope="module")
def store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one tiny random model that answers questions."""
    place = tmp_path_factory.mktemp("store")
    save_questions(place)
    return place


@pytest.fixture(autouse=True)
def _environment(store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This store."""
    monkeypatch.setenv("LTP_STORE", str(store_folder))


def explore(text: str, pair: str, **params: str) -> AppTest:
    """The explore page on a question and its context."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).run()
    for name, value in {"model": QUESTIONS, "text": text, "pair": pair, **params}.items():
        at.query_params[name] = value
    at.switch_page(str(ROOT / "pages" / "explore.py")).run()
    assert not at.exception, [e.value for e in at.exception]
    return at


def test_the_answer_is_marked_in_its_context() -> None:
    """Question and context in, the answer out, with its runners-up."""
    at = explore(QUESTION, CONTEXT)
    assert ["Question", "Context"] == [area.label for area in at.text_area]
    assert "The answer" in [heading.value for heading in at.header]
    marked = next(each.proto.body for each in at.get("html") if "<mark" in each.proto.body)
    answer = marked.split("<mark")[1].split(">")[1].split("<")[0]
    assert answer in CONTEXT
    shown = next(each.value for each in at.metric if each.label.startswith("With pruning"))
    assert answer[:20] in shown.replace("\\", "")
    table = next(each.value for each in at.dataframe if "Answer" in each.value)
    assert "(no answer)" in table["Answer"].tolist()
    assert any("The question is answered" in each.value for each in at.markdown)


def test_a_long_context_says_which_window_is_shown() -> None:
    """Read in windows, and said so."""
    at = explore(QUESTION, " ".join([CONTEXT] * 4))
    assert any("windows that overlap" in each.value for each in at.markdown)


@pytest.mark.parametrize(
    ("text", "pair", "message"),
    [
        ("", CONTEXT, "Write a text above"),
        (QUESTION, " ", "answers questions about a text: give the context"),
        ("movie " * 40, CONTEXT, "leaves no room for its context"),
    ],
)
def test_bad_input_is_a_sentence(text: str, pair: str, message: str) -> None:
    """No traceback, and what to do."""
    at = explore(text, pair)
    said = [each.value.replace("\\", "") for each in (*at.info, *at.error)]
    assert any(message in each for each in said), said


def test_markup_in_the_context_is_text() -> None:
    """Escaped in front of, inside and behind the answer."""
    answer = Answer(
        candidates=(Candidate(text="<b>", begin=3, end=6, score=1.0, tokens=None),),
        null_score=0.0,
        null_threshold=0.0,
    )
    shown = context_html("<i><b></i>", answer)
    assert "&lt;i&gt;<mark" in shown
    assert ">&lt;b&gt;</mark>&lt;/i&gt;" in shown


def test_a_long_context_is_cut_around_the_answer() -> None:
    """What surrounds the answer is in sight without scrolling; words stay whole."""
    context = "before " * 200 + "HERE" + " behind" * 200
    best = Candidate(text="HERE", begin=1400, end=1404, score=1.0, tokens=None)
    shown = context_html(context, Answer(candidates=(best,), null_score=0.0, null_threshold=0.0))
    before, _, rest = shown.partition("<mark")
    assert before.split(">")[1].startswith("… before before")
    assert rest.split("</mark>")[1].endswith("behind …</div>")
    assert 800 < len(shown) < 1400
    nothing = Answer(candidates=(), null_score=0.0, null_threshold=0.0)
    assert "before …</div>" in context_html(context, nothing)


@pytest.mark.parametrize("sign", ["あ", "x"])
def test_text_without_blanks_keeps_its_surroundings(sign: str) -> None:
    """Cut hard where no blank is near; a blank far from the cut loses nothing either."""
    context = "one " + sign * 1000 + "HERE" + sign * 1000 + " end"
    best = Candidate(text="HERE", begin=1004, end=1008, score=1.0, tokens=None)
    shown = context_html(context, Answer(candidates=(best,), null_score=0.0, null_threshold=0.0))
    before, _, rest = shown.partition("<mark")
    assert before.split(">")[1] == "… " + sign * 450
    assert rest.split("</mark>")[1] == sign * 450 + " …</div>"
    nothing = Answer(candidates=(), null_score=0.0, null_threshold=0.0)
    assert "one " + sign * 446 + " …</div>" in context_html(context, nothing)


def test_what_becomes_of_dropped_tokens_is_said() -> None:
    """As the method is set; no text says that the head reads the first token alone."""
    at = explore(QUESTION, CONTEXT)
    said = [each.value for each in at.markdown]
    assert 1 == said.count(plain(DROPPED_ANSWERS["restored"]))
    [rule] = [each for each in said if each.startswith("**Rule**")]
    assert "it stands for “no answer”. The head reads every token. A dropped token can" in rule
    [special] = [each for each in at.toggle if each.label == "Special tokens"]
    assert special.help.endswith("the first one stands for “no answer”.")
    unread = explore(QUESTION, CONTEXT, scale="0")
    assert plain(DROPPED_ANSWERS["restored"]) not in [each.value for each in unread.markdown]


def test_what_was_measured_stands_beside_the_answer(tmp_path: Path) -> None:
    """From the checkpoint's manifest; nothing where it has no such figures or no manifest."""
    metrics = {"f1": 0.4, "has_answer_f1": 0.6136, "no_answer_f1": 0.1871}
    summary = {"validation": {"rows": 2500, "metrics": metrics}}
    store.finish_run(tmp_path, runs.manifest("squad_v2-ltp-1", summary=summary))
    said = measured_f1(str(tmp_path))
    assert "on 2,500 validation questions: F1 61.4 % where the text has an answer, 18.7 %" in said
    assert "" == measured_f1(QUESTIONS) == measured_f1(str(tmp_path / "none"))
    at = explore(QUESTION, CONTEXT)
    assert not any("where it has none" in each.value for each in at.caption)


def test_general_texts_follow_the_head() -> None:
    """Excluded instead of restored, another kind of head, and two of different kinds."""
    card = live.card(QUESTIONS)
    excluded = dataclasses.replace(card, pruned_answers="excluded", protects_first=False)
    assert protection(excluded).startswith("The head reads every token. A dropped token cannot")
    classifier = dataclasses.replace(card, pruned_answers=None)
    assert "because the head reads it" in protection(classifier)
    assert "" == protection(dataclasses.replace(classifier, protects_first=False))
    assert special_help(classifier, classifier).endswith("the first one is what the head reads.")
    assert special_help(card, classifier) == "Show the tokens that the tokenizer adds."


def trace(*, survived: tuple[int, ...], answer: Answer) -> Trace:
    """A trace of two layers in which each token survives as many as given."""
    layers = tuple(
        LayerTrace(
            threshold=0.5,
            score=(1.0,) * len(survived),
            retained=tuple(count > layer for count in survived),
        )
        for layer in (0, 1)
    )
    return Trace(
        tokens=tuple(f"t{i}" for i in range(len(survived))),
        token_ids=tuple(range(len(survived))),
        layers=layers,
        logits=(1.0, 0.0),
        probabilities=None,
        label=answer.text,
        unpruned=None,
        relative_flops={"paper": 0.5, "executed": 0.5},
        checkpoint="tiny",
        answer=answer,
    )


def found(tokens: tuple[int, int] | None = (1, 2), null_score: float = 0.0) -> Answer:
    """An answer of two tokens."""
    best = Candidate(text="x y", begin=0, end=3, score=1.0, tokens=tokens)
    return Answer(candidates=(best,), null_score=null_score, null_threshold=0.5)


def test_what_is_said_about_an_answer() -> None:
    """Fate of its tokens, certainty, and tokens that the tokenizer does not know."""
    answer = found()
    best = answer.candidates[0]
    whole = trace(survived=(2, 2, 2), answer=answer)
    assert "Its 2 tokens survive all 2 layers." == fate(whole, best)
    some = trace(survived=(2, 0, 2), answer=answer)
    assert "Of its 2 tokens, 1 left: “t1” after layer 1." == fate(some, best)
    assert "another window" in fate(whole, found(None).candidates[0])
    assert "answered: “no answer” scores −1.00" in certainty(answer)
    assert "left unanswered: “no answer” scores +4.00" in certainty(found(null_score=5.0))
    assert "never says" in certainty(dataclasses.replace(answer, null_threshold=float("inf")))
    assert "No token that is left" in certainty(dataclasses.replace(answer, candidates=()))
    unknown = dataclasses.replace(whole, tokens=("[CLS]", "[UNK]", "[UNK]"))
    assert "67 % of the tokens are unknown" in notes(unknown, answer)[-1]
    assert ["x y", "(no answer)"] == candidates_frame(whole, answer)["Answer"].tolist()
    assert "“x y”" in facts(whole)[0]
    assert "no answer" in facts(trace(survived=(2, 2, 2), answer=found(null_score=5.0)))[0]
    assert "another answer" == answer_change(
        whole.prediction,
        trace(survived=(2,) * 3, answer=found(null_score=5.0)).prediction,
        same_labels=True,
    )


@pytest.mark.parametrize(
    ("pieces", "is_said"),
    [
        (("[UNK]", "[UNK]", "a", "b"), True),
        (("ا", "##ل", "##ق", "b"), True),
        (("北", "京", "是", "国"), False),
        (("x", "##s", "##e", "##d"), False),
    ],
)
def test_what_can_hardly_be_read_is_said(pieces: tuple[str, ...], is_said: bool) -> None:
    """Unknown tokens, and scripts of which the tokenizer knows single letters only."""
    shown = dataclasses.replace(trace(survived=(3, 3, 3, 3), answer=found()), tokens=pieces)
    said = [line for line in notes(shown, found()) if "can hardly read" in line]
    assert is_said == bool(said)


def test_examples_hold_their_questions() -> None:
    """Every example has a context; SQuAD 1.1 has no question without an answer."""
    assert all(example.pair for example in examples("squad_v2"))
    assert len(examples("squad")) == len(examples("squad_v2")) - 2


# ---- the token view ----

ASKED = (None, 0, None, 0, 1, None)
"""Word indices of `[CLS] q [SEP] c d [SEP]`."""


def asked(answer: Answer, **settings: bool) -> TokenView:
    """The view of a question of one token about two."""
    return build_view(trace(survived=(2, 1, 0, 2, 1, 0), answer=answer), ASKED, **settings)


@pytest.mark.parametrize("special", [True, False])
def test_question_and_answer_are_marked_in_the_token_view(special: bool) -> None:
    """A divider where the question ends, bars at the answer, a legend, and labels that say so."""
    view = asked(found((3, 4)), show_special=special)
    first = 3 if special else 1
    assert first == view.context_index
    assert range(first, first + 2) == view.answer_range
    chips = markup.chips_html(view)
    before, _, behind = chips.partition(markup.DIVIDER)
    assert 0 == before.count(" answer") < behind.count(" answer") == 4  # two classes, two labels
    assert "t1, left after layer 2, in the question" in before
    assert "in the question" not in behind
    data = component.payload(view, token=None, layer=None, can_force=False)
    assert (first, [first, first + 1]) == (data["context"], data["answer"])
    assert data["summary"].endswith(f"the answer from column {first + 1} is ‘t3 t4’")
    assert "end of the question" in data["legend"]
    for palette in (LIGHT, DARK):
        svg = figure.grid_figure(view, palette)
        assert 4 == svg.count('height="3"')  # two at the columns, two in the legend
        assert 2 == svg.count('stroke-width="1.5"')
        assert "the answer</text>" in svg


def test_what_is_not_given_as_the_answer_is_called_so() -> None:
    """And nothing is marked where the answer is in another window, or where nothing is asked."""
    withheld = asked(found((3, 4), null_score=9.0))
    assert "likeliest part, not given" in markup.chips_html(withheld)
    assert "likeliest part, not given" in figure.described(withheld)
    elsewhere = asked(found(None))
    assert not elsewhere.answer_range
    assert 3 == elsewhere.context_index
    plain_trace = dataclasses.replace(trace(survived=(2, 1), answer=found()), answer=None)
    plain_view = build_view(plain_trace, (None, 0))
    assert markup.DIVIDER not in markup.chips_html(plain_view)
    assert "in the question" not in markup.chips_html(plain_view)
    assert 0 == figure.grid_figure(plain_view, LIGHT).count('height="3"')


def test_a_comparison_shows_where_the_question_ends() -> None:
    """Answers may differ, so they are not marked there."""
    made = trace(survived=(2, 1, 0, 2, 1, 0), answer=found((3, 4)))
    one, other = (
        Side(letter=letter, setting="", trace=made, view=asked(found((3, 4)))) for letter in "AB"
    )
    both = compare(one, other)
    data = compare_component.payload(both, token=None, layer=1)
    assert (3, []) == (data["context"], data["answer"])
    assert "end of the question" in data["legend"]
    assert markup.DIVIDER in data["chips"]
    assert 1 == compare_figure.grid_figure(both, LIGHT).count('stroke-width="1.5"')
