"""The compare page, run without a browser on a store of tiny random models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.ltp_ui.compare import panels
from app.ltp_ui.shared import live
from app.ltp_ui.shared.live import Question
from ltp_core.pruning.spatten import SpAtten
from ltp_core.records import WhatIf
from tests import app_samples, tiny
from tests.app.test_pages import ANY_TEXTS, EXPLORE, ROOT, app, healthy, metrics, reasons, shown
from tests.app_samples import MOVIES, MOVIES_DENSE, PAIRS, SHALLOW, SPATTEN

pytestmark = pytest.mark.usefixtures("models_in_use")

COMPARE = str(ROOT / "pages" / "compare.py")
TEXT = "The film is long and slow but the ending was great"


def compare(a: str = MOVIES, b: str = SPATTEN, text: str = TEXT, **params: str) -> AppTest:
    """The compare page on a text."""
    return app(COMPARE, a=a, b=b, text=text, **params)


def table(at: AppTest) -> dict[str, list[str]]:
    """The rows of the table of outcomes."""
    frame = at.table[0].value
    return {str(name): [str(cell) for cell in row] for name, row in frame.iterrows()}


def sentence(at: AppTest) -> str:
    """Where the two differ first."""
    found = [m.value for m in at.markdown if m.value.startswith(("After", "A and B"))]
    return found[0].replace("\\", "")


def expected(name: str, scale: float = 1.0) -> Any:
    """The core's own trace."""
    return live.trace(Question(checkpoint=name, text=TEXT), WhatIf(scale=scale))


def test_two_methods_on_one_text() -> None:
    """Counts are those of the two traces, layer by layer."""
    at = compare()
    a, b = expected(MOVIES), expected(SPATTEN)
    assert [list(pair) for pair in zip(a.lengths, b.lengths, strict=True)] == shown(at)["lengths"]
    for layer, tally in enumerate(shown(at)["tallies"][1:]):
        pairs = list(zip(a.layers[layer].retained, b.layers[layer].retained, strict=True))
        assert pairs.count((True, True)) == tally["both"]
        assert pairs.count((True, False)) == tally["only-a"]
        assert pairs.count((False, True)) == tally["only-b"]
    assert sentence(at).startswith("After layer ")


def test_outcomes_of_both() -> None:
    """Answers, tokens and both accountings, with the difference."""
    at = compare()
    rows = table(at)
    a, b = expected(MOVIES), expected(SPATTEN)
    assert [f"13 → {a.lengths[-1]}", f"13 → {b.lengths[-1]}"] == rows["Tokens"][:2]
    for accounting in ("paper", "executed"):
        cells = rows[f"FLOPs, {accounting}"]
        assert f"{100 * a.relative_flops[accounting]:.1f} %" in cells[0]
        assert f"{100 * b.relative_flops[accounting]:.1f} %" in cells[1]
        assert " points" in cells[2].replace("\\", "")
    assert "points" in rows["Answer"][2].replace("\\", "")


def test_the_other_method_of_the_task_is_the_default() -> None:
    """Opened without a choice, the page has something to show."""
    at = app(COMPARE)
    first, second = (str(box.value) for box in at.selectbox)
    assert MOVIES == first
    assert second.startswith("sst2-spatten-")


def test_a_checkpoint_against_itself_with_half_its_thresholds() -> None:
    """The default for the same one twice, and what a link says goes before it."""
    at = compare(MOVIES, MOVIES)
    assert [1.0, 0.5] == [slider.value for slider in at.slider]
    half = expected(MOVIES, 0.5)
    assert list(half.lengths) == [pair[1] for pair in shown(at)["lengths"]]
    assert "thresholds × 0.50" in str(list(at.table[0].value.columns)).replace("\\\\", "")
    at = compare(MOVIES, MOVIES, b_scale="0.0")
    assert {13} == {pair[1] for pair in shown(at)["lengths"]}


def test_a_store_with_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is compared with itself, and the page says why."""
    one = [info for info in live.checkpoints() if info.name == MOVIES]
    monkeypatch.setattr(live, "checkpoints", lambda: one)
    at = app(COMPARE)
    assert [MOVIES, MOVIES] == [box.value for box in at.selectbox]
    assert any("one checkpoint" in caption.value for caption in at.caption)
    assert shown(at)["num_tokens"] > 5


def test_the_same_setting_twice_is_said() -> None:
    """Nothing can differ."""
    at = compare(MOVIES, MOVIES, b_scale="1.0")
    assert sentence(at).startswith("A and B are the same checkpoint with the same setting")


def test_a_shallow_network_ends_earlier() -> None:
    """Its left-out layer is no layer of the comparison; nothing is said of pruning."""
    at = compare(MOVIES, SHALLOW)
    assert [13, 13, 13, 0] == [pair[1] for pair in shown(at)["lengths"]]
    assert "B has ended after layer 2." == shown(at)["row_notes"][3]
    assert at.slider[1].disabled
    assert any("2 of 3 layers run" in c.value for c in at.caption)
    assert any("drops no token" in c.value for c in at.caption)


def test_a_method_without_a_knob_can_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """As trained against the same weights with nothing pruned."""
    monkeypatch.setattr(SpAtten, "scaled", lambda *_: None)
    at = compare(SPATTEN, SPATTEN)
    assert [False, True] == [t.value for t in at.toggle if t.label == "Prune nothing"]
    assert {13} == {pair[1] for pair in shown(at)["lengths"]}
    assert any("has no thresholds to move" in c.value for c in at.caption)


def test_swap() -> None:
    """Checkpoints and multipliers change places."""
    at = compare(MOVIES, SPATTEN, a_scale="1.5")
    before = shown(at)["lengths"]
    next(b for b in at.button if b.label == "Swap A and B").click()
    healthy(at.run())
    assert [SPATTEN, MOVIES] == [box.value for box in at.selectbox]
    assert [1.0, 1.5] == [slider.value for slider in at.slider]
    assert [pair[::-1] for pair in before] == shown(at)["lengths"]


def test_opens_at_the_first_difference_and_keeps_a_link() -> None:
    """A link's layer and token go before it; a pinned token has its scores in both below."""
    first = next(k for k, t in enumerate(shown(compare())["tallies"]) if t["only-a"] + t["only-b"])
    assert first == shown(compare())["layer"]
    at = compare(layer="3", token="2")
    assert (3, 2) == (shown(at)["layer"], shown(at)["selected"])
    assert "Pinned token: ‘film’" in [s.value for s in at.header]
    assert 3 == len(at.get("vega_lite_chart"))


def test_an_untouched_view_follows_the_first_difference() -> None:
    """A multiplier moves it; what someone scrubbed to stays."""
    at = compare(MOVIES, MOVIES)
    for scale in (0.0, 0.9):
        at.slider[1].set_value(scale)
        view = shown(healthy(at.run()))
        tallies = view["tallies"]
        differing = [k for k, t in enumerate(tallies) if t["only-a"] + t["only-b"]]
        assert differing[0] == view["layer"]
    at = compare(MOVIES, MOVIES, layer="3")
    at.slider[1].set_value(0.0)
    assert 3 == shown(healthy(at.run()))["layer"]


def test_numbers_by_layer() -> None:
    """The table has a row for the input and each layer; the input is shared by both."""
    frame = compare().dataframe[0].value
    assert ["input", "1", "2", "3"] == list(frame["After layer"])
    assert ["1.000", 13, 13] == [frame[name][0] for name in ("Jaccard", "A keeps", "Both")]


def test_another_tokenizer_is_said_plainly(tmp_path: Path) -> None:
    """No picture, but both answers and a sentence that says what to do."""
    folder = app_samples.save_run(tmp_path, MOVIES)
    tiny.tokenizer("bert").save(str(folder / "model" / "tokenizer.json"))
    at = compare(MOVIES, str(folder), text="a good film, xyzzy")
    assert "different tokenizers" in at.warning[0].value
    assert "Tokens" in table(at)
    assert ["address"] == [each.key for each in at.get("bidi_component")]


def test_one_text_and_two_texts_do_not_mix() -> None:
    """Said before anything runs."""
    at = compare(MOVIES, PAIRS)
    assert "choose two that read the same" in at.info[0].value
    assert not at.table


def test_pairs() -> None:
    """Two of a pair task read both texts."""
    at = compare(PAIRS, PAIRS, text="a good movie", pair="a fine film")
    assert 2 == shown(at)["names"].count("[SEP]")


def test_any_text() -> None:
    """Markup, other scripts, signs and invisible characters, and none at all."""
    at = compare()
    for text in ANY_TEXTS:
        at.text_area[0].set_value(text)
        assert not healthy(at.run()).error, text
        assert shown(at)["num_tokens"] >= 2, text
    at.text_area[0].set_value("")
    healthy(at.run())
    assert ["Write a text above or click an example."] == [info.value for info in at.info]
    assert ["address"] == [each.key for each in at.get("bidi_component")]
    # A huge text is cut visibly, and the link stays short.
    at.text_area[0].set_value("good film " * 5_000)
    healthy(at.run())
    assert 512 == shown(at)["num_tokens"]
    assert "9,490 tokens" in at.warning[0].value
    assert "text" not in at.query_params


def test_unknown_checkpoint_is_one_sentence() -> None:
    """The selectors stay."""
    at = compare(MOVIES, "sst2-ltp-00000000ab")
    assert ["That did not work"] == [e.proto.title for e in at.error]
    assert "did you mean" in at.error[0].value
    assert 2 == len(at.selectbox)


def test_empty_store(monkeypatch: pytest.MonkeyPatch) -> None:
    """What to do instead."""
    monkeypatch.setattr(live, "checkpoints", list)
    assert "No checkpoint" == app(COMPARE).info[0].proto.title


def test_dense_counterpart_keeps_everything() -> None:
    """Two checkpoints of one task; the sentence counts what the pruned one dropped."""
    at = compare(MOVIES, MOVIES_DENSE)
    assert {13} == {pair[1] for pair in shown(at)["lengths"]}
    assert "that B still reads" in sentence(at)


def test_whole_words_and_special_tokens() -> None:
    """Columns merge and hide; counts stay those of tokens."""
    at = compare(text="xyzzy film", words="true", special="false")
    assert ["xyzzy", "film"] == shown(at)["names"]
    assert 8 == shown(at)["num_tokens"]


# ---- methods without thresholds on the explore page ----


def explore(model: str, **params: str) -> AppTest:
    """The explore page with a method."""
    return app(EXPLORE, model=model, text=TEXT, **params)


def test_explore_shows_a_method_without_thresholds() -> None:
    """The multiplier scales the method, and why a token left is said without a threshold."""
    at = explore(SPATTEN)
    view = shown(at)
    assert [None] * 3 == view["thresholds"]
    assert list(expected(SPATTEN).lengths) == view["lengths"]
    left = next(why for why in reasons(view) if "left after" in why)
    assert "tokens there stay" in left
    assert "Pruning multiplier" == at.slider[0].label
    assert any("has no thresholds; this moves" in c.value for c in at.caption)
    assert {13} == set(shown(explore(SPATTEN, scale="0.0"))["lengths"])


def test_explore_shows_a_shallow_network() -> None:
    """The layer that is left out is marked, nothing is called pruned, the multiplier is off."""
    at = explore(SHALLOW)
    view = shown(at)
    assert ["-" * 13] == view["grid"][2:]
    assert "layer left out" in view["legend"]
    assert "stayed through the 2 of 3 layers that run" in reasons(view)[3]
    assert at.slider[0].disabled
    assert {"With pruning", "Same weights, unpruned"}.isdisjoint(metrics(at))
    assert any("2 of 3 layers run" in c.value for c in at.caption)


def test_explore_forces_tokens_of_any_method() -> None:
    """By hand, a method without thresholds drops and keeps, too."""
    assert "forced-drop" in shown(explore(SHALLOW, drop="4"))["chips"]
    assert "forced-keep" in shown(explore(SPATTEN, keep="4"))["chips"]


def test_view_keys_differ_by_question() -> None:
    """Another question has other tokens, so what was pinned does not carry over."""
    assert panels.view_key("a") != panels.view_key("b")
