"""Two traces side by side: states, counts, agreement, sentences, and the files that leave the app."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import xml.etree.ElementTree as ET

import pytest

from app.ltp_ui.compare import charts, component, export, figure
from app.ltp_ui.compare.comparison import STATES, Comparison, Side, compare, state_after
from app.ltp_ui.compare.wording import (
    answer_change,
    listed,
    row_note,
    setting,
    token_names,
    verdict,
    why_incomparable,
)
from app.ltp_ui.shared.palette import DARK, LIGHT, Palette
from app.ltp_ui.token_view.view import build_view
from ltp_core.records import Answer, Prediction, Trace
from tests.app.test_files import Tags, nasty_trace
from tests.app_samples import SCORES, WORDS, long_trace, trace

MILD = (0.05, 0.35, 0.5)


def side(letter: str, made: Trace, words: tuple[int | None, ...] = WORDS, **changes: str) -> Side:
    """One side with the columns of its trace."""
    view = build_view(made, words, protected=(0,))
    return Side(letter=letter, setting=changes.get("setting", ""), trace=made, view=view)


def mild() -> Trace:
    """The sample with lower thresholds: the comma and ‘beaut’ live longer."""
    scores = [list(row) for row in SCORES]
    scores[1][4] = 0.2
    return dataclasses.replace(trace(thresholds=MILD, scores=scores), checkpoint="other")


def shallow(num_run: int = 2) -> Trace:
    """Everything kept; the layers after the first ones left out."""
    whole = trace(thresholds=(None,) * 3, scores=[[1.0] * 6] * 3)
    layers = tuple(
        layer if index < num_run else dataclasses.replace(layer, score=(None,) * 6, runs=False)
        for index, layer in enumerate(whole.layers)
    )
    return dataclasses.replace(whole, layers=layers, checkpoint="sst2-shallow")


def compared(a: Trace | None = None, b: Trace | None = None) -> Comparison:
    """The sample against its milder form, or what is given."""
    return compare(side("A", a or trace()), side("B", b or mild()))


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [(2, 2, "both"), (3, 1, "only-a"), (1, 3, "only-b"), (1, 1, "neither")],
)
def test_a_token_is_in_one_of_four_states(a: int, b: int, expected: str) -> None:
    """After layer 2, by the layers that it survives."""
    assert expected == state_after(a, b, 2)


def test_counts_by_layer() -> None:
    """By hand: A is (3, 1, 2, 3, 0, 3), B is (3, 1, 2, 3, 1, 3) layers."""
    shown = compared()
    assert [3, 1, 2, 3, 0, 3] == list(shown.a.num_survived)
    assert [3, 1, 2, 3, 1, 3] == list(shown.b.num_survived)
    counts = [(t.both, t.only_a, t.only_b, t.neither) for t in shown.tallies]
    assert [(6, 0, 0, 0), (5, 0, 1, 0), (4, 0, 0, 2), (3, 0, 0, 3)] == counts


def test_counts_always_add_up() -> None:
    """Each token is in just one state, and the counts are those of the traces."""
    shown = compared(long_trace(40), long_trace(40))
    for layer, tally in enumerate(shown.tallies):
        assert 40 == tally.both + tally.only_a + tally.only_b + tally.neither
        assert shown.a.trace.lengths[layer] == tally.both + tally.only_a
        assert shown.b.trace.lengths[layer] == tally.both + tally.only_b
        assert 1.0 == tally.jaccard


def test_jaccard_is_intersection_over_union() -> None:
    """Five of six after the first layer, and the same sets elsewhere."""
    assert [1.0, pytest.approx(5 / 6), 1.0, 1.0] == [t.jaccard for t in compared().tallies]


def test_swapping_swaps_the_counts() -> None:
    """Nothing prefers A."""
    one, two = compared(), compared(mild(), trace())
    for there, here in zip(one.tallies, two.tallies, strict=True):
        assert (there.both, there.only_a, there.only_b) == (here.both, here.only_b, here.only_a)
        assert there.jaccard == here.jaccard


def test_other_tokens_are_refused() -> None:
    """Tokens of two texts have nothing to do with each other."""
    with pytest.raises(ValueError, match="same tokens"):
        compared(trace(), trace(tokens=("[CLS]", "x", "y", "##z", ",", "[SEP]")))


def test_a_network_that_has_ended_reads_nothing() -> None:
    """A shallow one keeps all tokens to its end, and from there on nothing can be compared."""
    shown = compared(trace(), shallow())
    assert (3, 2) == (shown.a.end, shown.b.end)
    assert [6, 6, 6, 0] == [shown.b.num_live(layer) for layer in range(4)]
    assert 2 == shown.num_shared
    assert shown.tallies[3].jaccard is None
    assert (3, 0) == (shown.tallies[3].only_a, shown.tallies[3].only_b)
    assert "B has ended after layer 2." == row_note(shown, 3)
    assert "" == row_note(shown, 2)


def test_networks_of_other_depths_compare_as_far_as_both_go() -> None:
    """Six layers against three."""
    longer = long_trace(6, num_layers=6)
    same = dataclasses.replace(trace(), tokens=longer.tokens, token_ids=longer.token_ids)
    shown = compare(side("A", longer, (None,) * 6), side("B", same, (None,) * 6))
    assert (6, 3) == (shown.num_layers, shown.num_shared)
    assert [None] * 3 == [tally.jaccard for tally in shown.tallies[4:]]


def test_the_sentence_names_the_first_difference() -> None:
    """Layer, count, tokens, and that all was the same before."""
    said = verdict(compared(mild(), trace()), WORDS)
    assert said.startswith("After layer 1, B has dropped 1 token that A still reads: ‘,’.")
    later = trace(thresholds=(0.2, 0.3, 0.5))
    said = verdict(compared(trace(), dataclasses.replace(later, checkpoint="x")), WORDS)
    assert said.startswith("After layer 2, A has dropped 1 token that B still reads: ‘slow’.")
    assert "Until then both keep the same tokens." in said


def test_the_sentence_names_both_directions() -> None:
    """Each has dropped something that the other still reads."""
    other = trace(scores=[(3.0, 0.1, 0.8, 0.6, 0.5, 1.0), *SCORES[1:]])
    said = verdict(compared(trace(), dataclasses.replace(other, checkpoint="x")), WORDS)
    assert (
        "After layer 1, A has dropped 1 token that B still reads: ‘,’; B has dropped 1 token that A "
        "still reads: ‘slow’."
    ) in said


def test_the_sentence_names_the_layer_of_least_agreement() -> None:
    """In words and as the index."""
    stricter = dataclasses.replace(trace(thresholds=(0.55, 5.0, 5.0)), checkpoint="x")
    said = verdict(compared(trace(), stricter), WORDS)
    assert said.startswith("After layer 1, B has dropped 1 token")
    assert "They agree least after layer 2: of the 4 tokens" in said
    assert "both keep 1 (Jaccard index 0.25)" in said


def test_the_sentence_for_no_difference() -> None:
    """Two that agree by chance."""
    agreeing = verdict(compared(trace(), dataclasses.replace(trace(), checkpoint="x")), WORDS)
    assert "A and B keep the same tokens after every layer: 3 of 6 tokens at the end." == agreeing


def test_the_sentence_for_a_shorter_network() -> None:
    """It says how far the comparison goes."""
    whole = trace(thresholds=(None,) * 3, scores=[[1.0] * 6] * 3)
    said = verdict(compared(whole, shallow()), WORDS)
    assert "B ends after layer 2 and A after layer 3, so only the first 2 layers" in said


def test_pieces_of_a_word_are_named_together() -> None:
    """Only neighbours, and only pieces of one word."""
    assert ["beautiful", ","] == token_names(trace(), [2, 3, 4], WORDS)
    assert ["iful"] == token_names(trace(), [3], WORDS)
    assert ["[CLS]", "slow"] == token_names(trace(), [0, 1], WORDS)


def test_long_lists_end() -> None:
    """Eight names, and how many more."""
    assert listed([str(i) for i in range(11)]).endswith("‘7’ and 3 more")


@pytest.mark.parametrize(
    ("scale", "expected"), [(1.0, ""), (0.0, "nothing pruned"), (0.5, "thresholds × 0.50")]
)
def test_settings_in_words(scale: float, expected: str) -> None:
    """What a multiplier does is part of a side's name."""
    assert expected == setting(scale, has_thresholds=True)


def test_why_two_texts_cannot_be_compared() -> None:
    """Another tokenizer, or one that reads less of the text."""
    short = trace(tokens=("[CLS]", "a", "b", "c", "d", "[SEP]"))
    assert "different tokenizers" in why_incomparable(trace(), short, same_tokenizer=False)
    windows = [
        dataclasses.replace(long_trace(count), answer=answered_in(window))
        for window, count in ((1, 20), (3, 12))
    ]
    said = why_incomparable(*windows, same_tokenizer=True)
    assert "A in window 1 of 3, B in window 3 of 3" in said
    assert "at most" not in said
    cut = why_incomparable(long_trace(20), long_trace(12), same_tokenizer=True)
    assert "A reads at most 20 tokens of this text and B 12: shorten it" in cut


def answered_in(window: int) -> Answer:
    """An answer in one of three windows."""
    return Answer(candidates=(), null_score=0.0, null_threshold=0.0, window=window, num_windows=3)


def prediction(*probabilities: float, label: str = "positive") -> Prediction:
    """An answer."""
    return Prediction(logits=probabilities, probabilities=probabilities or None, label=label)


def test_change_of_the_answer() -> None:
    """In A's class; another answer and other classes are said so; values for regression."""
    a, b = prediction(0.1, 0.9), prediction(0.3, 0.7)
    assert "−20.0 points" == answer_change(a, b, same_labels=True)
    other = prediction(0.6, 0.4, label="negative")
    assert "−50.0 points for positive: another answer" == answer_change(a, other, same_labels=True)
    assert "other classes" == answer_change(a, b, same_labels=False)
    values = [Prediction(logits=(v,), probabilities=None, label=None) for v in (3.5, 3.0)]
    assert "−0.50" == answer_change(*values, same_labels=True)


# ---- what is drawn and exported ----


def test_payload_has_what_the_component_draws() -> None:
    """Counts, both reasons, and the layer at which the two first differ."""
    made = component.payload(compared(), token=2, layer=component.opening_layer(compared()))
    assert (2, 1) == (made["selected"], made["layer"])
    assert {"both": 5, "only-a": 0, "only-b": 1, "neither": 0} == made["tallies"][1]
    assert made["sides"]["a"]["why"][4].startswith("A: ‘,’ left after layer 1")
    assert ("5", "6", "0.83") == made["notes"][0]
    assert 700_000 > len(json.dumps(_payload_of(512)))


def _payload_of(length: int) -> dict[str, object]:
    words = (None,) * length
    made = long_trace(length, 12)
    shown = compare(side("A", made, words), side("B", made, words))
    return component.payload(shown, token=None, layer=3)


def test_chips_and_page_never_become_markup() -> None:
    """A token is text wherever it appears, and the page has no script or outside reference."""
    words = (0, 1, 2, 3, 4, 5)
    shown = compare(side("A", nasty_trace(), words), side("B", nasty_trace(), words))
    made = export.as_html(shown, "a <b> sentence", 1).decode()
    page = Tags(made)
    assert "script" not in page.tags
    assert not [name for name in page.attributes if name.startswith("on")]
    assert {"src", "href"}.isdisjoint(page.attributes)
    assert "<script>alert(1)</script>" in page.text
    assert "http" not in made.replace("http-equiv", "").replace("http://www.w3.org/2000/svg", "")


def test_page_can_show_every_layer() -> None:
    """A choice for each, the given one checked, and both answers above."""
    made = export.as_html(compared(), "They differ.", 1).decode()
    assert 4 == made.count('type="radio"')
    assert 'id="layer-1" checked' in made
    assert "A: sst2-ltp-0123456789: positive 88.1 %; 6 → 3 tokens" in made


@pytest.mark.parametrize("palette", [LIGHT, DARK])
def test_figure_is_well_formed(palette: Palette) -> None:
    """Markup in tokens does not break the file; letters mark what only one keeps."""
    words = (0, 1, 2, 3, 4, 5)
    shown = compare(side("A", nasty_trace(), words), side("B", nasty_trace(), words))
    ET.fromstring(figure.grid_figure(shown, palette))
    root = ET.fromstring(figure.grid_figure(compared(), palette))
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("B") >= 2


def test_states_differ_by_more_than_colour() -> None:
    """Without its colours every state's cell is another drawing."""
    colours = {LIGHT.keep, LIGHT.drop, LIGHT.neutral, LIGHT.border, LIGHT.background}
    drawn = set()
    for state in STATES:
        cell = figure.cell(state, 0, 0, LIGHT)
        for colour in colours:
            cell = cell.replace(colour, "")
        drawn.add(cell)
    assert len(STATES) == len(drawn)


def test_csv_has_both_sides() -> None:
    """A row for each layer and token, with its state; nothing of a network that has ended."""
    rows = list(csv.DictReader(io.StringIO(export.tokens_frame(compared()).to_csv(index=False))))
    assert 18 == len(rows)
    assert ("only-b", "False", "True") == tuple(
        rows[4][key] for key in ("state", "a_retained", "b_retained")
    )
    ended = export.tokens_frame(compared(trace(), shallow()))
    assert not ended[ended["layer"] == 3]["b_retained"].any()


def test_json_has_both_traces_and_the_counts() -> None:
    """Each trace reads back as it was."""
    shown = compared()
    made = json.loads(export.as_json(shown))
    assert shown.a.trace == Trace.from_json(json.dumps(made["a"]["trace"]))
    assert shown.b.trace == Trace.from_json(json.dumps(made["b"]["trace"]))
    assert "as trained" == made["a"]["setting"]
    assert pytest.approx(5 / 6) == made["layers"][1]["jaccard"]


def test_charts_say_what_the_counts_say() -> None:
    """Jaccard with its zeros, survivors until each has ended, scores of both."""
    shown = compared(trace(), shallow())
    assert [0, 1, 2] == list(charts.jaccard_chart(shown).frame["layer"])
    survivors = charts.survivors_chart(shown).frame
    assert [6, 6, 6] == list(survivors[survivors["series"] == "B"]["value"])
    assert ["6", "5", "4", "3"] == list(survivors[survivors["series"] == "A"]["label"])
    assert ["", "6", "6"] == list(survivors[survivors["series"] == "B"]["label"])
    scores = charts.score_chart(compared(), 4).frame
    assert {"A", "B"} == set(scores["series"])
    assert (scores["value"] > 0).all()
