"""What the token view works out of a trace: columns, words, levels, ghosts, sentences."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from app.ltp_ui.shared import wording
from app.ltp_ui.token_view import component, markup, texts
from app.ltp_ui.token_view import wording as token_wording
from app.ltp_ui.token_view.texts import display_texts, is_right_to_left, visible
from app.ltp_ui.token_view.view import NUM_LEVELS, TokenView, build_view, last_attended, level
from ltp_core.records import LayerTrace
from tests.app_samples import THRESHOLDS, TOKENS, WORDS, trace


def view(**settings: Any) -> TokenView:
    """The view of the sample trace; the first token is protected."""
    return build_view(trace(), WORDS, protected=(0,), **settings)


def test_columns_are_tokens_without_tokenizer_marks() -> None:
    """Sub-word marks go, and a further piece of a word knows that it is one."""
    shown = view()
    assert ["[CLS]", "slow", "beaut", "iful", ",", "[SEP]"] == [c.text for c in shown.columns]
    assert [False, False, False, True, False, False] == [c.continues for c in shown.columns]
    assert [True, False, False, False, False, True] == [c.is_special for c in shown.columns]


def test_grid_says_where_each_token_left() -> None:
    """X where it left, a dot after that, ! where the protected token is spared, else a level."""
    assert ("6232x3", "4x01.2", "!.x2.1") == view().grid


def test_survived_counts_layers() -> None:
    """A token that leaves after the second layer has survived one."""
    assert [3, 1, 2, 3, 0, 3] == [c.survived for c in view().columns]


def test_a_word_lives_while_any_piece_lives() -> None:
    """Merged: the longest-lived piece counts, and the highest live score."""
    shown = view(merge_words=True)
    assert ["[CLS]", "slow", "beautiful", ",", "[SEP]"] == [c.text for c in shown.columns]
    assert (2, 3) == shown.columns[2].positions
    assert 3 == shown.columns[2].survived
    assert [0.8, 0.7, 1.2] == [row[2] for row in shown.scores]


def test_special_tokens_can_be_hidden() -> None:
    """Positions stay those of the sequence."""
    shown = view(show_special=False)
    assert [(1,), (2,), (3,), (4,)] == [c.positions for c in shown.columns]
    assert shown.column_of(0) is None
    assert 2 == shown.column_of(3)


def test_neighbouring_words_are_not_merged() -> None:
    """A special token or another word index separates."""
    shown = build_view(trace(), (None, 0, 1, 2, 3, None), merge_words=True)
    assert 6 == len(shown.columns)


def test_ghosts_are_the_learned_decisions() -> None:
    """With other thresholds, each column knows how long it would have lived."""
    milder = trace(thresholds=(0.05, 0.1, 0.1), scores=[[1.0] * 6] * 3)
    shown = build_view(milder, WORDS, learned=trace())
    assert [3, 1, 2, 3, 0, 3] == [c.survived_learned for c in shown.columns]
    assert THRESHOLDS == shown.learned


def test_no_ghosts_without_a_departure() -> None:
    """The learned view compares with nothing."""
    assert view().learned is None
    assert {None} == {c.survived_learned for c in view().columns}


@pytest.mark.parametrize(
    ("score", "threshold", "expected"),
    [(0.4, 0.4, 0), (12.8, 0.4, NUM_LEVELS - 1), (1e9, 0.4, NUM_LEVELS - 1), (0.0, 0.4, 0)],
)
def test_level_spans_one_to_thirty_two_times(score: float, threshold: float, expected: int) -> None:
    """Logarithmic between the threshold and 32 times it, and never outside."""
    assert expected == level(score, threshold)


@pytest.mark.parametrize("threshold", [None, 0.0])
def test_level_without_threshold_compares_with_uniform(threshold: float | None) -> None:
    """A score of 1 is the reference then."""
    assert level(4.0, 1.0) == level(4.0, threshold)


def test_why_a_token_left() -> None:
    """Score and threshold are said; with a learned factor the score is not attention alone."""
    assert (
        "‘slow’ left after layer 2: it scored 0.31, the threshold there is 0.38."
    ) == token_wording.why(view(), 1)
    learned = dataclasses.replace(view(), score_kind="factored")
    assert "it scored 0.31, the threshold there is 0.38." in token_wording.why(learned, 1)


def test_a_policy_decides_before_a_layer() -> None:
    """Its probability is said; where nothing is decided tokens pass, and near 1 they are brightest."""
    decided = LayerTrace(
        threshold=0.5, score=(0.9, 0.31, 0.99, 0.5), retained=(True, False, True, True)
    )
    open_layer = LayerTrace(threshold=None, score=(None,) * 4, retained=(True,) * 4)
    after = dataclasses.replace(open_layer, retained=decided.retained)
    reduced = dataclasses.replace(
        trace(),
        tokens=("[CLS]", "slow", "film", "[SEP]"),
        layers=(open_layer, decided, after),
    )
    shown = build_view(reduced, (None, 0, 1, None), protected=(0,), score_kind="probability")
    assert ("----", "6x7!", "-.--") == shown.grid
    assert (
        "‘slow’ left before layer 2: its probability of going on was 0.31, the threshold there is 0.50."
    ) == token_wording.why(shown, 1)
    assert "left before layer 2" == token_wording.state_of(shown, 1)
    legend = component.legend_html(shown, can_force=False)
    assert "probability: ½" in legend
    assert "nothing decided here" in legend
    assert [0, 2] == [last_attended(shown, i) for i in (1, 2)]


def test_why_a_token_stayed() -> None:
    """The closest call is named."""
    assert (
        "‘iful’ stayed through all 3 layers; closest call at layer 2: it scored 0.70, the threshold "
        "there is 0.38."
    ) == token_wording.why(view(), 3)


def test_why_a_protected_token_stayed() -> None:
    """Protection is said, with the layer that would have dropped it."""
    assert (
        "‘[CLS]’ is protected and stays whatever its score; at layer 3 it scored 0.40, the "
        "threshold there is 0.50."
    ) == token_wording.why(view(), 0)


def test_why_by_hand() -> None:
    """What was forced is said so."""
    assert "dropped by hand after layer 2" in token_wording.why(view(drop=(1,)), 1)
    kept = trace(thresholds=(0.1, 0.1, 0.1), scores=[[1.0] * 6] * 3)
    assert "kept by hand" in token_wording.why(build_view(kept, WORDS, keep=(1,)), 1)


def test_why_without_thresholds() -> None:
    """A method without thresholds gets a sentence, too."""
    unpruned = trace(thresholds=(None, None, None), scores=[[1.0] * 6] * 3)
    shown = build_view(unpruned, WORDS, protected=(0,))
    assert "‘slow’ stayed through all 3 layers." == token_wording.why(shown, 1)
    assert "‘[CLS]’ stayed through all 3 layers." == token_wording.why(shown, 0)
    assert [] == token_wording.nearest_misses(shown)


def test_close_numbers_are_told_apart() -> None:
    """Rounding never makes a score equal to the threshold that it missed."""
    assert ("0.0261", "0.0262") == wording.apart(0.0261, 0.0262)
    assert ("0.379", "0.381") == wording.apart(0.3791, 0.3809)
    assert ("0.31", "0.38") == wording.apart(0.31, 0.38)


@pytest.mark.parametrize(
    ("value", "expected"),
    [(0.0, "0.00"), (1.0, "1.00"), (0.31, "0.31"), (0.0262, "0.026"), (0.00013, "0.00013")],
)
def test_small_numbers_keep_their_digits(value: float, expected: str) -> None:
    """A score reads as 0 only if it is."""
    assert expected == wording.number(value)


@pytest.mark.parametrize(
    ("difference", "expected"),
    [(-0.0004, "0.0 points"), (0.021, "+2.1 points"), (-0.021, "−2.1 points")],
)
def test_points_have_a_sign_unless_they_are_none(difference: float, expected: str) -> None:
    """No −0.0 on screen, and a real minus sign."""
    assert expected == wording.points(difference)


def test_margins_never_read_as_nothing() -> None:
    """A miss by a hair keeps its digits."""
    assert ["−12.3 %", "+0.1 %", "−0.04 %"] == [
        wording.margin(m) for m in (-0.123, 0.0011, -0.0004)
    ]


def test_nearest_misses_are_sorted_and_leave_out_what_was_not_decided() -> None:
    """Closest first; the protected token is no miss."""
    misses = token_wording.nearest_misses(view())
    assert [2, 1] == [miss.index for miss in misses][:2]
    assert 0 not in [miss.index for miss in misses]
    assert misses[0].left
    assert -0.1 == pytest.approx(misses[0].margin)


def test_byte_level_tokens_are_decoded() -> None:
    """RoBERTa's marks and byte letters become text; half a character shows its bytes."""
    assert ("<s>", "caf", "é", "film") == display_texts(("<s>", "Ġcaf", "Ã©", "Ġfilm"))
    assert "⟨F0 9F⟩" == display_texts(("Ġa", "ðŁ"))[1]


def test_sentencepiece_marks_go() -> None:
    """XLM-R's underscore becomes a space."""
    assert ("film", "s") == display_texts(("▁film", "s"))


def test_control_and_direction_marks_are_visible() -> None:
    """Nothing invisible can reorder or hide text."""
    assert "␀" == visible("\0")
    assert "a⟨U+202E⟩b" == visible("a\u202eb")
    assert "👩\u200d🎤" == visible("👩\u200d🎤")


def test_right_to_left_is_noticed() -> None:
    """Hebrew and Arabic read from the right, a foreign word in them or not."""
    assert is_right_to_left(["שלום", "ok"])
    assert not is_right_to_left(["hello", "ש"])
    assert not is_right_to_left(["123"])


def test_token_texts_of_the_sample() -> None:
    """The sample's tokens are as many as its words say."""
    assert len(TOKENS) == len(WORDS)


def test_an_unknown_token_is_shown_as_what_it_stands_for() -> None:
    """The chip has the emoji; tooltip, label and legend say what the model reads instead."""
    tokens = ("[CLS]", "film", "[UNK]", "[UNK]", ",", "[SEP]")
    surfaces = ("", "Film", "🎬", "<b>" + "x" * 5_000, ",", "")
    made = dataclasses.replace(trace(tokens=tokens), surfaces=surfaces)
    shown = build_view(made, (None, 0, 1, 2, 3, None), protected=(0,))
    assert ["[CLS]", "film", "🎬"] == [c.text for c in shown.columns[:3]]
    assert texts.LONGEST == len(shown.columns[3].text)
    assert ["", "[UNK]"] == [c.unknown for c in shown.columns[1:3]]
    assert token_wording.why(shown, 2).endswith("The model does not know ‘🎬’ and reads [UNK].")
    html = markup.chips_html(shown)
    assert "unknown to the model, which reads [UNK]" in html
    assert "<b>" not in html
    assert "the model reads [UNK]" in component.legend_html(shown, can_force=False)
    assert "unknown" not in component.legend_html(view(), can_force=False)
