"""The page that scores a file: what pruning changes, text by text, and where each text leads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.ltp_ui.score import panels
from app.ltp_ui.shared import strength
from ltp_core import store
from ltp_core.checkpoint import load_checkpoint
from ltp_core.predicting.scoring import compare_with_unpruned
from ltp_core.trace import trace_text
from tests import app_samples, tiny

pytestmark = pytest.mark.usefixtures("models_in_use")

ROOT = Path(__file__).resolve().parents[2]
PAGE = str(ROOT / "pages" / "score.py")
TEXTS = [" ".join(tiny.WORDS[i : i + 1 + i % 9]) for i in range(24)]


def page(path: Path | None, model: str = app_samples.MOVIES, **params: str) -> AppTest:
    """A fresh session on the page, with a file and a link's parameters."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=60).switch_page(PAGE)
    for name, value in {"model": model, **params}.items():
        at.query_params[name] = value
    at.run()
    if path is not None:
        at.text_input(key="score.path").set_value(str(path)).run()
    assert not at.exception, [e.value for e in at.exception]
    return at


def reviews(path: Path, texts: list[str] = TEXTS) -> Path:
    """A file of texts."""
    pd.DataFrame({"id": range(len(texts)), "text": texts}).to_csv(path, index=False)
    return path


def test_each_text_with_and_without_pruning(tmp_path: Path) -> None:
    """Rows are what `trace` says of each text; the numbers above are of all of them."""
    at = page(reviews(tmp_path / "in.csv"))
    frame = at.dataframe[0].value
    assert sorted(TEXTS) == sorted(frame["text"])
    model = load_checkpoint(app_samples.MOVIES)
    for _, row in frame.head(5).iterrows():
        trace = trace_text(model, row["text"])
        assert trace.unpruned is not None
        assert (trace.label, trace.unpruned.label) == (row["label"], row["unpruned_label"])
        assert row["relative_flops_paper"] == pytest.approx(trace.relative_flops["paper"])
        assert (trace.lengths[0], trace.lengths[-1]) == (row["tokens"], row["tokens_left"])
    found = {metric.label: metric.value for metric in at.metric}
    assert "24" == found["Texts"]
    assert found["Labels that pruning changes"].startswith(f"{int(frame['flips'].sum())} ")
    assert "predict" in at.code[0].value


def test_the_order_can_be_chosen(tmp_path: Path) -> None:
    """By what changes, by confidence, length and cost, or as the file has it."""
    at = page(reviews(tmp_path / "in.csv"))
    flips = at.dataframe[0].value["flips"].tolist()
    assert sorted(flips, reverse=True) == flips
    for order, column, falls in (
        (panels.CONFIDENCE, "confidence", False),
        (panels.LENGTH, "tokens", True),
        (panels.FLOPS, None, True),
    ):
        at.button_group(key="first").set_value(order).run()
        if column is not None:
            values = at.dataframe[0].value[column].tolist()
            assert sorted(values, reverse=falls) == values
    at.button_group(key="first").set_value(panels.ORDER).run()
    assert at.dataframe[0].value["text"].tolist() == TEXTS


def test_a_large_file_is_drawn(tmp_path: Path) -> None:
    """At most as many texts as chosen, and how many there were."""
    path = reviews(tmp_path / "in.csv", [f"movie {i}" for i in range(300)])
    at = page(None)
    at.select_slider(key="score.rows").set_value(100).run()
    at.text_input(key="score.path").set_value(str(path)).run()
    assert "100 of 300" == {m.label: m.value for m in at.metric}["Texts"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no row"),
        (b"a,b\n1,2\n", "no column of text"),
        ("text\ngood\n".encode("utf-16"), "UTF-16"),
        (b"text\n\n", "no row"),
        (b"tokens\n3\n5\n9\n", "a number a line and no texts"),
    ],
)
def test_a_file_that_is_none_is_explained(tmp_path: Path, content: bytes, words: str) -> None:
    """One sentence where the table would be."""
    (tmp_path / "in.csv").write_bytes(content)
    at = page(tmp_path / "in.csv")
    assert words in at.error[0].value.replace("\\", "")
    assert not at.dataframe


def test_no_file_and_no_such_file(tmp_path: Path) -> None:
    """Without a file the app's examples are scored; a file that is not there is one sentence."""
    at = page(None)
    [said] = [m.value for m in at.markdown if "Choose a file of your own" in m.value]
    assert said.startswith(f"**On {len(at.dataframe[0].value)} example texts pruning changes ")
    assert not at.code
    assert "no file" in page(tmp_path / "none.csv").error[0].value


def test_values_have_a_change(tmp_path: Path) -> None:
    """A model that gives a value has no label to flip."""
    folder = tiny.save_hugging_face("bert", tmp_path / "model", num_labels=1)
    frame = compare_with_unpruned(load_checkpoint(str(folder)), [(text,) for text in TEXTS])
    assert "flips" not in frame
    assert np.allclose(frame["change"], 0)
    assert np.allclose(frame["flops_paper"], frame["unpruned_flops"])
    ranked = panels.in_order(frame.assign(change=np.arange(24.0)), panels.CHANGE)
    assert ranked.index.tolist() == list(range(24))[::-1]


def test_the_link_carries_the_question(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A row leads to Explore with checkpoint and text; a text that is too long for a link says so."""
    links: list[dict[str, str]] = []
    monkeypatch.setattr(
        st, "page_link", lambda page, **options: links.append(options["query_params"])
    )
    at = AppTest.from_function(
        _select, kwargs={"model": app_samples.MOVIES}, default_timeout=60
    ).run()
    assert not at.exception
    assert [{"model": app_samples.MOVIES, "text": "a great movie"}] == links
    assert ["too long for a link" in caption.value for caption in at.caption] == [True, False]


def _select(model: str) -> None:
    from types import SimpleNamespace
    from typing import Any, cast

    import pandas as pd

    from app.ltp_ui.score import panels as shown
    from app.ltp_ui.shared.strength import Strength

    frame = pd.DataFrame({"text": ["a great movie", "a " * 9_000]})
    card = cast("Any", SimpleNamespace(name_or_path=model, curve=None))
    scored = cast("Any", SimpleNamespace(frame=frame))
    shown.selected(scored, 0, card, Strength())
    shown.selected(scored, 1, card, Strength())
    shown.selected(scored, None, card, Strength())


def test_a_checkpoint_for_any_budget_is_asked_for_one(
    own_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The budget, or the point that may be lost, sets the strength; the link and the command carry it."""
    app_samples.make_elastic(store.run_folder(own_models, app_samples.MOVIES))
    monkeypatch.setenv("LTP_STORE", str(own_models))
    at = page(reviews(tmp_path / "in.csv"), score_budget="80")
    frame = at.dataframe[0].value.sort_index()
    texts = [(text,) for text in frame["text"]]
    wanted = compare_with_unpruned(load_checkpoint(app_samples.MOVIES, budget=0.8), texts)
    trained = compare_with_unpruned(load_checkpoint(app_samples.MOVIES), texts)
    assert wanted["tokens_left"].tolist() == frame["tokens_left"].tolist()
    assert trained["tokens_left"].sum() < frame["tokens_left"].sum()
    assert "--budget 0.8" in at.code[0].value
    at.button_group(key="score_by").set_value(strength.ONE_POINT).run()
    assert not at.exception
    assert "--max-loss 0.01" in at.code[0].value
    # A point below 0.9 is 0.89, which the curve has where it has four fifths of the FLOPs.
    assert (
        wanted["tokens_left"].tolist() == at.dataframe[0].value.sort_index()["tokens_left"].tolist()
    )
