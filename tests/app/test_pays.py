"""The page that says whether pruning pays, and its panel on a run; what it says is tested in the core."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.ltp_ui.pays import controls, panels
from ltp_core import store
from ltp_core.analysis.pays.decision import Decision, decide
from ltp_core.analysis.pays.sentence import sentence
from tests import bench_samples
from tests.analysis.test_pays import bench_of, save
from tests.source_trees import ROOT

PAGE = str(ROOT / "pages" / "pays.py")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A run with records, a dense counterpart and a shallower model in a store of its own."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    monkeypatch.setattr(store, "_sample_store", lambda: tmp_path / "none")
    yield save(tmp_path)
    st.cache_data.clear()


def page(path: str = PAGE, /, **params: str) -> AppTest:
    """The page with a link's parameters."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120).switch_page(path)
    for key, value in params.items():
        at.query_params[key] = value
    at.run()
    assert not at.exception, [e.value for e in at.exception]
    return at


def said(at: AppTest) -> str:
    """Everything on the page, as it reads."""
    texts = [*(m.value for m in at.markdown), *(c.value for c in at.caption)]
    return " ".join(texts).replace("\\", "")


def quoted(decision: Decision) -> str:
    """The core's sentence with the task by its name on screen."""
    return sentence(decision, "LTP").replace("sst2/validation", "SST-2 validation")


def test_the_page_says_what_the_core_says_and_prices_it(run: str, tmp_path: Path) -> None:
    """The sentence, the figures before and after, and a cost that is the user's number times time."""
    bench_samples.save(tmp_path, bench_of(run).document or {}, "throughput-a")
    at = page(model=run, **{"pays.price": "2.0"})
    decision = decide(run)
    assert quoted(decision) in said(at)
    assert decision.timing is not None
    cost = decision.timing.speeds["packed"].cost(2.0)
    metrics = {metric.label: metric.value for metric in at.metric}
    assert metrics["Cost per million"].endswith(f"{cost:,.2f}")
    assert "--price 2" in at.code[0].value
    linked = page(model=run, **{controls.BATCH: "1"})
    assert quoted(decide(run, batch_size=1)) in said(linked)


def test_without_a_benchmark_nothing_is_said_of_time(run: str) -> None:
    """What is missing stands on the page with its command, and no time is drawn."""
    at = page(model=run)
    assert f"bench {run} --quick" in said(at)
    assert "Time per million" not in {metric.label for metric in at.metric}
    assert not len(panels.time_frame(decide(run)))


def test_a_run_that_removes_nothing_is_a_sentence(run: str) -> None:
    """The page of a dense model says so instead of an answer."""
    dense = next(entry.name for entry in store.list_runs() if "unpruned" in entry.name)
    at = page(model=dense)
    assert "removes no token" in at.error[0].value


def test_the_panel_of_a_run_says_the_same(run: str) -> None:
    """In Runs, with the way to the page."""
    at = page(str(ROOT / "pages" / "runs.py"), run=run)
    assert quoted(decide(run)) in said(at)
