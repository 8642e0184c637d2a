"""The pages, run without a browser on a store of tiny random models."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from app.ltp_ui.explore import latency, tokens
from app.ltp_ui.shared import live, status, warm_up
from app.ltp_ui.shared.live import Question
from app.ltp_ui.start import panels as start_panels
from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.pruning.base import PruningMethod
from ltp_core.pruning.shallow import Shallow, ShallowConfig
from ltp_core.records import Trace, WhatIf
from ltp_core.trace import trace_text
from tests import app_samples

pytestmark = pytest.mark.usefixtures("models_in_use")

ROOT = Path(__file__).resolve().parents[2]
EXPLORE = str(ROOT / "pages" / "explore.py")
METHOD = str(ROOT / "pages" / "method.py")
TEXT = "The film is long and slow but the ending was great"


def app(page: str = EXPLORE, **params: str) -> AppTest:
    """A fresh session on a page, with a link's parameters."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).switch_page(page)
    for name, value in params.items():
        at.query_params[name] = value
    return healthy(at.run())


def explore(text: str = TEXT, model: str = app_samples.MOVIES, **params: str) -> AppTest:
    """The explore page on a text."""
    return app(model=model, text=text, **params)


def healthy(at: AppTest) -> AppTest:
    """The same, after looking for tracebacks."""
    assert not at.exception, [e.value for e in at.exception]
    return at


def shown(at: AppTest) -> dict[str, Any]:
    """What the token view was given."""
    return dict(json.loads(at.get("bidi_component")[0].proto.json))


def reasons(view: dict[str, Any]) -> list[str]:
    """Why each column of the token view left or stayed: the tooltips of its chips."""
    return [html.unescape(found) for found in re.findall(r'title="([^"]*)"', view["chips"])]


def metrics(at: AppTest) -> dict[str, str]:
    """Values of the metrics by label."""
    return {metric.label: metric.value for metric in at.metric}


def question(text: str = TEXT, model: str = app_samples.MOVIES) -> Question:
    """What `explore` asks."""
    return Question(checkpoint=model, text=text)


@pytest.mark.parametrize(("allowed", "word"), [("", "offline"), ("1", "downloads are allowed")])
def test_the_sidebar_says_what_the_status_says(
    allowed: str, word: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether something may be downloaded."""
    monkeypatch.setenv("LTP_ALLOW_DOWNLOADS", allowed)
    [caption] = app(str(ROOT / "pages" / "start.py")).sidebar.caption
    assert word in caption.value
    assert status.network().detail in caption.value
    assert ("offline" in caption.value) == (allowed != "1")


def test_start_shows_a_real_trace_and_what_is_at_hand() -> None:
    """Placeholder first, the picture once the imports are done."""
    at = healthy(AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).run())
    warm_up.wait()
    healthy(at.run())
    assert ["See it", "Decide", "Use it"] == [door.value for door in at.header[:3]]
    assert shown(at)["lengths"][0] > 5
    card = " ".join(markdown.value for markdown in at.markdown)
    for words in ("checkpoint", "data set", "Device", "Offline", "Stores"):
        assert words in card


def test_start_reads_a_sentence_of_ones_own() -> None:
    """What is typed there is drawn there, with its own verdict."""
    warm_up.wait()
    at = healthy(app(str(ROOT / "pages" / "start.py")))
    healthy(at.text_input[0].set_value("a good movie").run())
    assert ["[CLS]", "a", "good", "movie", "[SEP]"] == shown(at)["names"]
    [verdict] = [m.value for m in at.markdown if "Token pruning removes words" in m.value]
    assert " of the FLOPs and " in verdict


def test_start_shows_the_shipped_picture_without_a_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh clone has it at the first glance, and it is what the model says."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))

    def fail(name: str) -> None:
        raise AssertionError(f"{name} was loaded")

    monkeypatch.setattr(live, "load", fail)
    monkeypatch.setattr(live, "_load", fail)
    stored = Trace.from_json(start_panels.STORED.read_text(encoding="utf-8"))
    at = app(str(ROOT / "pages" / "start.py"))
    assert list(stored.lengths) == shown(at)["lengths"]
    assert "title" == at.main.children[0].type, "nothing stands above it"
    assert any("% of the FLOPs and keeps its answer" in each.value for each in at.markdown)
    monkeypatch.undo()
    model = load_checkpoint(stored.checkpoint)
    now = trace_text(model, start_panels._example(stored.checkpoint).text)
    assert stored.tokens == now.tokens
    for then, layer in zip(stored.layers, now.layers, strict=True):
        assert then.retained == layer.retained
        assert [s or 0.0 for s in then.score] == pytest.approx(
            [s or 0.0 for s in layer.score], rel=1e-3
        )
    assert stored.unpruned is not None
    assert now.unpruned is not None
    assert stored.unpruned.logits == pytest.approx(now.unpruned.logits, rel=1e-3)


def test_method_has_every_equation() -> None:
    """Equations 6 to 13, unit, both costs, and a live curve."""
    at = app(METHOD)
    numbers = " ".join(m.value for m in at.markdown)
    for number in ("(6)", "(7)", "(8)", "(9)", "(10–11)", "(12)", "(13)"):
        assert number in numbers
    assert 7 + 5 == len(at.latex)
    at.select_slider[0].set_value(0.5)
    assert 1 == len(healthy(at.run()).get("vega_lite_chart"))


def test_explore_names_the_three_predictions() -> None:
    """The contract's words, and the cost in both accountings."""
    at = explore()
    assert "…" == metrics(at)["Speed against unpruned"]
    assert latency.FEWEST <= max(latency.measure(question(), WhatIf()))
    named = metrics(healthy(at.run()))
    for label in ("With pruning", "Same weights, unpruned", "Dense counterpart"):
        assert " %" in named[label]
    for label in ("Relative FLOPs, paper", "Relative FLOPs, executed"):
        assert named[label].endswith(" %")
    assert named["Tokens"].startswith("13 → ")
    assert named["Speed against unpruned"].endswith(("×", "too noisy to say"))


def test_explore_asks_a_checkpoint_for_any_budget_for_a_budget(
    own_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slider sets the strength that its curve names; at its end the checkpoint is as trained."""
    whole, half = (shown(explore(**{"scale": scale}))["lengths"] for scale in ("1.0", "0.5"))
    app_samples.make_elastic(store.run_folder(own_models, app_samples.MOVIES))
    monkeypatch.setenv("LTP_STORE", str(own_models))
    at = explore()
    slider = at.slider(key="scale_budget")
    assert (50, 50, 100) == (slider.value, slider.min, slider.max)
    assert whole == shown(at)["lengths"]
    healthy(slider.set_value(80).run())
    assert half == shown(at)["lengths"]
    assert any("89.0 %" in caption.value.replace("\\", "") for caption in at.caption)
    assert half == shown(explore(scale_budget="80"))["lengths"]


def test_explore_shows_the_trace_of_the_core() -> None:
    """Counts and tokens are those of `trace_text`."""
    at = explore()
    trace = live.learned_trace(question())
    view = shown(at)
    assert list(trace.lengths) == view["lengths"]
    assert [t.removeprefix("##") for t in trace.tokens] == view["names"]


def test_multiplier_of_zero_prunes_nothing() -> None:
    """The network runs again, and ghosts show the learned thresholds."""
    at = explore()
    at.slider[0].set_value(0.0)
    view = shown(healthy(at.run()))
    assert {13} == set(view["lengths"])
    assert any(ghost is not None for ghost in view["learned"])
    assert "100.0 %" == metrics(at)["Relative FLOPs, paper"]


def test_another_setting_reads_no_manifest(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a moved slider or a new text costs does not depend on the number of stored runs."""
    at = explore()

    def fail(*_: object) -> None:
        raise AssertionError("a manifest was read")

    monkeypatch.setattr(store, "_entry", fail)
    monkeypatch.setattr(store, "read_manifest", fail)
    monkeypatch.setattr(store, "_run_folders", fail)
    at.slider[0].set_value(0.0)
    assert {13} == set(shown(healthy(at.run()))["lengths"])
    at.text_area[0].set_value("a good film")
    assert not healthy(at.run()).error
    assert 5 == shown(at)["lengths"][0]


def test_multiplier_from_a_link() -> None:
    """A link carries the multiplier; nonsense falls back to 1."""
    assert {13} == set(shown(explore(scale="0.0"))["lengths"])
    learned = list(live.learned_trace(question()).lengths)
    assert learned == shown(explore(scale="much"))["lengths"]


def test_thresholds_by_layer_from_a_link() -> None:
    """Each layer has its own; a wrong count is ignored."""
    view = shown(explore(thresholds="0,0,100"))
    assert [13, 13, 13, 1] == view["lengths"]
    learned = list(live.learned_trace(question()).lengths)
    assert learned == shown(explore(thresholds="0,0"))["lengths"]


def test_thresholds_can_be_edited() -> None:
    """An edit in the table runs the network with that threshold."""
    at = explore()
    at.session_state["explore.thresholds"] = True  # opened
    at.session_state["explore.editor.0"] = {
        "edited_rows": {0: {"Threshold": 100.0}},
        "added_rows": [],
        "deleted_rows": [],
    }
    assert [13, 1, 1, 1] == shown(healthy(at.run()))["lengths"]
    at.session_state["explore.thresholds"] = False  # closed again: the edit stays
    assert [13, 1, 1, 1] == shown(healthy(at.run()))["lengths"]
    assert "100" == healthy(at.run()).query_params["thresholds"].split(",")[0]


def test_the_picture_needs_the_pruned_pass_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is there though everything that it is compared with fails."""

    def fail(*_: object) -> None:
        raise RuntimeError("the unpruned pass")

    monkeypatch.setattr(live, "unpruned_prediction", fail)
    at = explore("a text that was not asked before")
    assert ["That should not have happened"] == [e.proto.title for e in at.error]
    assert shown(at)["lengths"][0] > 3


def test_one_line_says_whether_pruning_changed_the_answer() -> None:
    """The answer, what it is without pruning, the tokens that are left, and the cost."""
    at = explore()
    [line] = [m.value for m in at.markdown if "Pruning " in m.value]
    for words in (" %**", "unpruned ", "dense counterpart ", "13 → ", " of the FLOPs"):
        assert words in line
    deltas = {m.label: m.delta for m in at.metric}
    is_other = "another answer" in deltas["Same weights, unpruned"]
    assert is_other == ("Pruning changes the answer" in line)


def test_the_first_passes_are_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the first calls are, the ratio is that of those behind them; it can be taken again."""
    called, now = list[str](), [0.0]

    def packed(inputs: object, method: PruningMethod) -> None:
        called.append(type(method).__name__)
        slow = 1_000 if len(called) <= 4 else 1
        now[0] += slow * (0.02 if type(method).__name__ == "Unpruned" else 0.01)

    model = dataclasses.replace(live.load(app_samples.MOVIES), packed=packed)  # type: ignore[arg-type]
    monkeypatch.setattr(live, "load", lambda name: model)
    monkeypatch.setattr("app.ltp_ui.explore.latency.time.perf_counter", lambda: now[0])
    asked = question("a text that is timed")
    assert latency.FEWEST == max(latency.measure(asked, WhatIf()))
    found = latency.known(asked, WhatIf())
    assert found is not None
    assert (2.0, 2.0, 2.0) == pytest.approx(found.speedups)
    assert (10.0, 20.0) == pytest.approx(found.medians_ms)
    assert not found.is_noisy
    latency.forget(asked, WhatIf())
    assert latency.known(asked, WhatIf()) is None


def test_forced_tokens_from_a_link() -> None:
    """Kept and dropped by hand, and said so in the chips."""
    view = shown(explore(keep="3", drop="4", thresholds="100,100,100"))
    assert 2 == view["lengths"][-1]
    assert "forced-keep" in view["chips"]
    assert "forced-drop" in view["chips"]
    assert "kept by hand" in reasons(view)[3]


def test_a_token_can_be_forced_on_the_page() -> None:
    """The control of the panel keeps the token at hand, and can be undone."""
    at = explore(token="3", thresholds="100,100,100")
    at.get("segmented_control")[0].set_value("Keep")  # type: ignore[union-attr]
    healthy(at.run())
    assert [13, 2, 2, 2] == shown(healthy(at.run()))["lengths"]
    next(b for b in at.button if b.label == "Undo 1 token").click()
    healthy(at.run())
    assert [13, 1, 1, 1] == shown(healthy(at.run()))["lengths"]


def test_forced_tokens_belong_to_one_text() -> None:
    """Another text has other tokens."""
    at = explore(drop="4")
    at.text_area[0].set_value("a good movie")
    assert "forced-drop" not in shown(healthy(at.run()))["chips"]


def test_a_pinned_token_gets_its_panel() -> None:
    """A click in the picture chooses what the panel is about."""
    at = explore()
    at.session_state[tokens.view_key(question())] = {"token": 2, "layer": 1}
    healthy(at.run())
    assert "Pinned token: ‘film’" in [s.value for s in at.header]
    assert (2, 1) == (shown(at)["selected"], shown(at)["layer"])
    assert any("Who attends to it in layer 1" in m.value for m in at.markdown)


def test_received_attention_sums_to_the_score() -> None:
    """What the panel says of a layer is the layer's score."""
    asked = question()
    attention = live.received_attention(asked, WhatIf(), 1)
    for position, score in enumerate(live.learned_trace(asked).layers[1].score):
        assert (score or 0.0) == pytest.approx(attention[:, position].sum(), abs=1e-4)


def test_words_merge() -> None:
    """Letters of an unknown word become one column."""
    pieces, merged = (shown(explore("xyzzy film", words=flag)) for flag in ("false", "true"))
    assert ["[CLS]", "x", "y", "z", "z", "y", "film", "[SEP]"] == pieces["names"]
    assert ["[CLS]", "xyzzy", "film", "[SEP]"] == merged["names"]


def test_special_tokens_hide() -> None:
    """Only the text's own tokens are left; the counts stay those of all tokens."""
    view = shown(explore("good film", special="false"))
    assert ["good", "film"] == view["names"]
    assert 4 == view["lengths"][0]


def test_empty_text_is_a_designed_state() -> None:
    """A sentence says what to do; nothing runs."""
    at = explore("good film")
    for text in ("", "   \n\t "):
        at.text_area[0].set_value(text)
        healthy(at.run())
        assert ["Write a text above or click an example."] == [info.value for info in at.info]
        assert ["address"] == [each.key for each in at.get("bidi_component")]


ANY_TEXTS = (
    "<script>alert('x')</script> <img src=x onerror=alert(1)>",
    "שלום עולם, זה סרט טוב",
    "مرحبا بالعالم",
    "日本語の映画🙂🎬 👩‍🎤",
    "a\0b \u202e c \u200b d",
    "**bold** $x^2$ :red[x] `code` [link](http://x)",
    "good",
    "?",
    "\ufffd\ufffe",
)
"""Markup, other scripts, signs and invisible characters."""


def test_any_text_is_shown() -> None:
    """Whatever is typed is read, the shortest included."""
    at = explore()
    for text in ANY_TEXTS:
        at.text_area[0].set_value(text)
        assert not healthy(at.run()).error, text
        assert shown(at)["lengths"][0] >= 2, text


def test_a_huge_text_is_cut_visibly() -> None:
    """10,000 words: the page says how many tokens were not read."""
    at = explore("good film")
    at.text_area[0].set_value("good film " * 5_000)
    view = shown(healthy(at.run()))
    assert 512 == view["lengths"][0]
    assert "✂ 9,490 tokens cut off" in view["chips"]
    assert "9,490 tokens" in at.warning[0].value
    assert any("trained on up to 64 tokens. This text has 512" in c.value for c in at.caption)


def test_a_long_text_stays_out_of_the_link() -> None:
    """A request line has an end; a link that breaks the app is worse than none."""
    at = explore("good film")
    at.text_area[0].set_value("good film " * 5_000)
    assert "text" not in healthy(at.run()).query_params
    at.text_area[0].set_value("good film")
    assert "good film" == healthy(at.run()).query_params["text"]


def test_pairs_want_both_texts() -> None:
    """With one text, a sentence says what is missing; with both, the pair is traced."""
    at = explore("a good movie", app_samples.PAIRS)
    assert "give the sentence 2" in at.info[0].value
    at.text_area[1].set_value("a fine film")
    assert 2 == shown(healthy(at.run()))["names"].count("[SEP]")


def test_examples_change_with_the_task() -> None:
    """An untouched example gives way; what the user wrote stays."""
    at = app(model=app_samples.MOVIES)
    at.selectbox[0].set_value(app_samples.PAIRS)
    healthy(at.run())
    assert at.text_area[1].value
    at.text_area[0].set_value("my own words")
    healthy(at.run())
    at.selectbox[0].set_value(app_samples.MOVIES)
    assert "my own words" == healthy(at.run()).text_area[0].value


def test_an_example_can_be_clicked() -> None:
    """The text is replaced, and stays on the next run."""
    at = app(model=app_samples.MOVIES)
    at.get("pills")[0].set_value("Three words")  # type: ignore[union-attr]
    healthy(at.run())
    assert "Simply wonderful cinema" == at.text_area[0].value
    assert "Simply wonderful cinema" == healthy(at.run()).text_area[0].value


def test_unknown_checkpoint_is_one_sentence() -> None:
    """With the nearest name."""
    at = explore(model="sst2-ltp-00000000ab")
    assert ["That did not work"] == [e.proto.title for e in at.error]
    assert "did you mean" in at.error[0].value


def test_broken_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    """Truncated weights stand for whatever cannot be loaded."""
    folder = app_samples.save_run(tmp_path, app_samples.MOVIES)
    weights = next(folder.rglob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    at = explore(model=str(folder))
    assert ["That did not work"] == [e.proto.title for e in at.error]
    assert "Traceback" not in at.error[0].value


def test_a_folder_is_a_checkpoint(models: Path) -> None:
    """A plain Hugging Face folder runs, unpruned, and says that it has no thresholds."""
    at = explore(model=str(models / "runs" / app_samples.MOVIES / "model"))
    assert 1 == len(set(shown(at)["lengths"]))
    assert at.slider[0].disabled
    assert "Dense counterpart" not in metrics(at)


def test_a_lost_dense_counterpart_does_not_stop_the_page() -> None:
    """Its card says that it is not at hand; everything else is there."""
    at = explore("a good movie", app_samples.ORPHAN, pair="a film")
    assert "not at hand" == metrics(at)["Dense counterpart"]
    assert shown(at)["lengths"][0] > 3


def test_an_empty_store_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No checkpoint anywhere: start and explore explain, nothing breaks."""
    monkeypatch.setattr(live, "checkpoints", list)
    for page in (str(ROOT / "pages" / "start.py"), EXPLORE, METHOD):
        app(page)
    assert "No checkpoint" == app().info[0].proto.title


def test_a_fault_of_the_program_is_named_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The log has the details; the screen has one sentence."""

    def fail(*_: object) -> None:
        raise RuntimeError("shapes (3, 4) do not match")

    monkeypatch.setattr(live, "learned_trace", fail)
    at = explore()
    assert ["That should not have happened"] == [e.proto.title for e in at.error]
    assert "RuntimeError" in at.error[0].value


def test_the_shared_model_is_never_changed() -> None:
    """After every what-if, the learned answer is what it was."""
    before = live.learned_trace(question())
    live.trace(question(), WhatIf(thresholds=(9.0, 9.0, 9.0), keep=(2,), drop=(3,)))
    list(latency.measure(question(), WhatIf(thresholds=(9.0, 9.0, 9.0))))
    live.trace.cache_clear()
    assert before == live.learned_trace(question())


def test_layers_that_a_method_leaves_out_stay_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither pruning less nor the pass that is timed beside runs layers that were not trained."""
    model, methods = live.load(app_samples.MOVIES), list[PruningMethod]()
    num_layers = model.method.num_layers
    shallow = Shallow(ShallowConfig(layers=1), num_layers)
    packed: Any = lambda inputs, method: methods.append(method)  # noqa: E731
    monkeypatch.setattr(
        live, "load", lambda name: dataclasses.replace(model, method=shallow, packed=packed)
    )
    list(latency.measure(question("a film of its own"), WhatIf()))
    methods.append(live.scaled_method(shallow, 0.0))
    assert {1} == {sum(map(method.runs_layer, range(num_layers))) for method in methods}


def test_a_changed_checkpoint_is_loaded_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache's key has the time of the last change."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    folder = app_samples.save_run(tmp_path, app_samples.MOVIES)
    first = live.load(app_samples.MOVIES)
    assert first is live.load(app_samples.MOVIES)
    os.utime(folder / "manifest.json", (1, 4e9))
    assert first is not live.load(app_samples.MOVIES)
