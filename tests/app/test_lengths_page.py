"""The length page: what it shows, what can be chosen, own data, and every state that can go wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from streamlit.testing.v1 import AppTest

from app.ltp_ui.lengths import charts as lengths_charts
from app.ltp_ui.lengths import data, export, own, uploads, wording
from app.ltp_ui.lengths import job as lengths_job
from app.ltp_ui.lengths import tables as lengths_tables
from app.ltp_ui.shared import charts, jobs
from ltp_core import checkpoint_tokenizer, store
from ltp_core.lengths import sources
from ltp_core.lengths.counts import LengthCounts, list_sets, set_path
from ltp_core.lengths.shift import KL, WASSERSTEIN, DivergenceRule, Side, compare, table_2_row
from ltp_core.records import UserError
from tests import app_samples
from tests.commands import run

ROOT = Path(__file__).resolve().parents[2]
PAGE = str(ROOT / "pages" / "lengths.py")


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty writable store beside the shipped one; what is kept of others is kept by content."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))


def page(**params: str) -> AppTest:
    """A fresh session on the page, with a link's parameters."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120)
    at.switch_page(PAGE)
    for name, value in params.items():
        at.query_params[name] = value
    return healthy(at.run())


def healthy(at: AppTest) -> AppTest:
    """The same, after looking for tracebacks."""
    assert not at.exception, [e.value for e in at.exception]
    return at


def measured(at: AppTest) -> dict[str, str]:
    """Values of the measures of shift by name, the chosen direction of KL first."""
    frame = next(each.value for each in at.table if "Measured" in each.value)
    return dict(zip(frame["Measure"], frame["Measured"], strict=True))


def metrics(at: AppTest) -> dict[str, str]:
    """Values of the metrics by label."""
    return {metric.label: metric.value for metric in at.metric}


def tables(at: AppTest) -> list[Any]:
    """Summary, measures, Table 2."""
    return [frame.value for frame in at.table]


def words(at: AppTest) -> str:
    """Everything that is said, without the backslashes of Markdown."""
    said = " ".join(e.value for e in [*at.markdown, *at.caption, *at.info, *at.error])
    return said.replace("\\", "").replace("\u00a0", " ")


def sample(name: str = "sst2", split: str = "train") -> Side:
    """A shipped split."""
    entries = list_sets([ROOT / "data_cache" / "sample"])
    counts = next(e.counts for e in entries if e.counts and e.counts.name == name)
    return Side(counts=counts, split=split)


def count_own(path: Path, *columns: str) -> str:
    """Counts a file in this process and stores it; gives the label of the selectors."""
    tokenizer, facts = checkpoint_tokenizer.load_tokenizer_of(None)
    files = sources.own_files(path, None)
    counts = sources.count_files(path.name, files, columns, tokenizer, facts)
    target = set_path(store.default_store(), counts.key)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(counts.to_json(), encoding="utf-8")
    return data.label(Side(counts=counts, split=next(iter(counts.splits))))


def csv_file(folder: Path, name: str = "mine.csv") -> Path:
    """Three short texts."""
    path = folder / name
    path.write_text(
        "text,n\none two\nthree\nfour five six\n".replace("\n", ",1\n").replace("n,1", "n", 1)
    )
    return path


# --- what is shown --------------------------------------------------------------------------------


def test_the_page_opens_with_the_greatest_shift() -> None:
    """SST-2 from the shipped counts: measures, quartiles, what chance gives, the paper beside it."""
    at = page()
    assert ["SST-2 · train", "SST-2 · validation"] == [box.value for box in at.selectbox[:2]]
    assert "1.2438 nats" == measured(at)["KL(train ‖ evaluation)"]
    assert "3.7 %" == metrics(at)["Longer than 99 % of training"]
    summary, measures, table, _ = tables(at)
    assert ["6", "17", "7", "18"] == list(summary["Q1"])
    assert ["–", "–"] == list(summary["99 %"])[2:]
    assert {"beyond chance"} == set(measures["Reading"])
    assert ["1.2438", "1.2250"] == list(
        table[table["Task"] == "SST-2"].iloc[0][["KL, ours", "KL, paper"]]
    )
    for part in (
        "32 of 872",
        "67,349 and 872 lengths drawn",
        "lengths do shift",
        "50 equal bins from 3 to 66 tokens",
        "the whole published split",
    ):
        assert part in words(at)


def test_no_shift_is_said_so() -> None:
    """MRPC: KL 0.02 is what chance gives."""
    at = page(train_set="MRPC · train")
    assert "MRPC · validation" == at.selectbox[1].value
    assert {"within chance"} == set(tables(at)[1]["Reading"])
    assert "they say nothing about a shift" in words(at)
    assert "20 equal bins" in words(at)


def test_table_2_has_every_line_and_names_subsets() -> None:
    """Eight lines of the paper, two tasks of ours; what is not the published split is marked."""
    _, _, table, counted = tables(page())
    assert 10 == len(table)
    assert list(table["KL, paper"])[-2:] == ["–", "–"]
    rows = dict(zip(counted["Task"], counted["Our rows, train | evaluation"], strict=True))
    assert "2,200 of 392,702 | 9,815" == rows["MNLI-m"]
    assert "105,439, not the published split" in rows["QNLI"]
    assert "67,349 | 872" == rows["SST-2"]


def test_the_rule_follows_the_controls() -> None:
    """Direction, bins, origin, smoothing; the sentence below says what is in force."""
    at = page()
    at.get("segmented_control")[1].set_value("evaluation ‖ train")
    at.selectbox(key="bins").set_value("one per token")
    at.selectbox(key="smoothing").set_value("add 1e-6")
    healthy(at.run())
    assert "KL(evaluation ‖ train)" == next(iter(measured(at)))
    assert "64 bins of 1 token" in words(at)
    assert "1e-06 is added to the probability of every bin" in words(at)
    linked = page(kl="evaluation ‖ train", bins="one per token", smoothing="add 1e-6")
    assert measured(linked) == measured(at)
    at.get("segmented_control")[2].set_value("0")
    assert "67 bins" in words(healthy(at.run()))


def test_the_evaluation_split_follows_the_training_set() -> None:
    """Another data set brings its own evaluation split; any other can be taken."""
    at = page()
    at.selectbox(key=data.TRAIN).set_value("IMDB · train")
    healthy(at.run())
    assert "IMDB · validation" == at.selectbox(key=data.EVALUATION).value
    assert "paper" not in str(list(tables(at)[0]["Set"]))
    at.selectbox(key=data.EVALUATION).set_value("SST-2 · train")
    assert "0.0 %" == metrics(healthy(at.run()))["Longer than 99 % of training"]


def test_the_cumulative_view_has_the_papers_quartiles() -> None:
    """Hollow marks, said in the caption; only where the paper has the pair."""
    assert "Hollow marks: the quartiles in the paper" in words(page(view="Cumulative"))
    assert "Hollow" not in words(page(view="Cumulative", train_set="IMDB · train"))


def test_a_link_to_lost_counts_is_explained() -> None:
    """The page falls back to its default and says why."""
    at = page(train_set="mine.csv/all (own 012345)")
    assert "SST-2 · train" == at.selectbox[0].value
    assert "not in this store" in words(at)


def test_a_tokenizer_without_counts_is_a_designed_state(tmp_path: Path) -> None:
    """An empty store, or another checkpoint: what to do is said, and own data can be counted."""
    at = page(tokenizer="roberta-base")
    assert "No length counts" in [info.proto.title for info in at.info]
    assert "tokenizer of roberta-base" in words(at)
    assert not at.metric
    assert at.get("file_uploader")


def test_damaged_counts_do_not_hide_the_others(tmp_path: Path) -> None:
    """A warning names the file."""
    broken = set_path(store.default_store(), "sst2-broken")
    broken.parent.mkdir(parents=True)
    broken.write_text("{", encoding="utf-8")
    at = page()
    assert "sst2-broken.json" in at.warning[0].value.replace("\\", "")
    assert "1.2438 nats" in measured(at).values()


def test_a_tokenizer_that_cannot_be_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """The beginning of several runs names none; the default base's lengths are shown."""
    for name in (app_samples.MOVIES, app_samples.MOVIES.replace("aa", "ab")):
        app_samples.save_run(store.default_store(), name)
    at = page(tokenizer="sst2-ltp-00000000")
    assert "is the beginning of 2 runs" in words(at)
    assert "1.2438 nats" in measured(at).values()


def test_a_kl_that_sees_only_parts_is_marked() -> None:
    """Few bins in common: the warning says what to do; smoothing makes it go."""
    train, evaluation = counts(*range(1, 100)), counts(1, 50, 99)
    shift = compare(train, evaluation, DivergenceRule(bins=50), resamples=0)
    assert "KL leaves out" in wording.left_out_sentence(shift)
    smoothed = compare(train, evaluation, DivergenceRule(bins=50, epsilon=1e-4), resamples=0)
    assert "" == wording.left_out_sentence(smoothed)
    assert not page().warning


# --- own data -------------------------------------------------------------------------------------


class Recorded:
    """Stands for the background: takes down what was started, and can end as wished."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[list[str]] = []
        self.job: Any = None
        self.earlier: dict[str, Any] = {}
        self.on_end: Callable[[], None] = lambda: None
        monkeypatch.setattr(jobs, "start", self._start)
        monkeypatch.setattr(jobs, "current", lambda kind: self.job)
        monkeypatch.setattr(jobs, "find", self._find)

    def _start(self, kind: str, arguments: list[str], *, on_end: Callable[[], None]) -> Any:
        assert lengths_job.KIND == kind
        self.started.append(list(arguments))
        self.on_end = on_end
        self.job = SimpleNamespace(
            id=f"job-{len(self.started)}",
            kind=kind,
            is_running=True,
            is_joined=False,
            is_recent=True,
            state="running",
            error=None,
            document=None,
            events=list,
            forget=self._forget,
        )
        return self.job

    def _find(self, job_id: str) -> Any:
        known = self.earlier | ({self.job.id: self.job} if self.job else {})
        return known.get(job_id)

    def _forget(self) -> None:
        self.job = None
        self.earlier.clear()

    def end(self, state: str, **fields: Any) -> None:
        """The job's process has gone."""
        self.job = SimpleNamespace(
            **{**vars(self.job), "is_running": False, "state": state, **fields}
        )
        self.earlier[self.job.id] = self.job
        self.on_end()


@pytest.fixture
def background(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """No process is started."""
    return Recorded(monkeypatch)


def button(at: AppTest, label: str) -> Any:
    """The button with this label."""
    return next(b for b in at.button if b.label == label)


def asked_for(path: Path) -> AppTest:
    """The page with this file or folder named as own data."""
    at = page(own="Folder or file")
    at.text_input(key="lengths.path").set_value(str(path))
    return healthy(at.run())


def test_a_file_is_counted_in_the_background_and_then_shown(
    tmp_path: Path, background: Recorded
) -> None:
    """Columns are chosen, the command starts, and its result is selected when it is there."""
    path = csv_file(tmp_path)
    at = asked_for(path)
    assert ["text"] == at.multiselect[0].value
    button(at, "Count tokens").click()
    healthy(at.run())
    expected = ["lengths", str(path), "--columns", '"text"', "--store", "--events"]
    assert [expected] == background.started
    assert button(at, "Count tokens").disabled
    label = count_own(path, "text")
    document = {
        "train": {"key": _key(), "split": "all"},
        "evaluation": None,
    }
    background.end("done", document=document)
    healthy(at.run())
    assert ["SST-2 · train", label] == [box.value for box in at.selectbox[:2]]
    assert "mine.csv/all, 3 inputs" in words(at)


def _key() -> str:
    return next(e.key for e in list_sets([store.default_store()]))


@pytest.mark.parametrize("how", ["Typed lengths", "Folder or file"])
def test_plain_numbers_are_lengths(how: str, tmp_path: Path, background: Recorded) -> None:
    """A pasted list, or a CSV with a number a line, is shown at once; no tokenizer reads it."""
    at = page(own=how)
    if how == "Typed lengths":
        at.text_area(key="lengths.numbers").set_value("300, 250\n 40;\t300")
    else:
        path = tmp_path / "lengths.csv"
        path.write_text("length\n300\n250\n40\n300\n", encoding="utf-8")
        at.text_input(key="lengths.path").set_value(str(path))
    healthy(at.run())
    assert "4 whole numbers from 40 to 300" in words(at)
    button(at, "Take these lengths").click()
    healthy(at.run())
    assert [] == background.started
    assert "These inputs are longer than training" in words(at)
    assert "median 275 against" in words(at)


def test_a_list_with_a_word_in_it_is_refused() -> None:
    """In one sentence that names it."""
    at = page(own="Typed lengths")
    at.text_area(key="lengths.numbers").set_value("12, about 40")
    healthy(at.run())
    assert "'about' is no length" in at.error[0].value.replace("\\", "")


def test_what_was_counted_before_is_shown_at_once(tmp_path: Path, background: Recorded) -> None:
    """By content, in the role that was wished for."""
    label = count_own(csv_file(tmp_path), "text")
    at = page(own="Folder or file")
    at.text_input(key="lengths.path").set_value(str(csv_file(tmp_path, "copy.csv")))
    at.segmented_control(key="lengths.role").set_value("Training")
    healthy(at.run())
    button(at, "Count tokens").click()
    healthy(at.run())
    assert [] == background.started
    assert label == at.selectbox[0].value


def test_a_failed_job_says_why_and_keeps_everything(tmp_path: Path, background: Recorded) -> None:
    """The sentence of the command; path and columns are still there."""
    path = csv_file(tmp_path)
    at = page(own="Folder or file")
    at.text_input(key="lengths.path").set_value(str(path))
    button(healthy(at.run()), "Count tokens").click()
    healthy(at.run())
    background.end("failed", error="mine.csv, row 3: column 'text' holds a number, not a text.")
    healthy(at.run())
    assert "row 3: column 'text' holds a number" in words(at)
    assert str(path) == at.text_input(key="lengths.path").value
    assert not button(at, "Count tokens").disabled
    assert "SST-2 · train" == at.selectbox[0].value
    button(at, "Dismiss").click()
    healthy(at.run())
    assert "row 3: column 'text' holds a number" not in words(at)


def test_a_stopped_job_and_a_new_session(background: Recorded) -> None:
    """Stopping is said; a session that comes later hears nothing of earlier days."""
    at = page(own="Task")
    button(at, "Count tokens").click()
    healthy(at.run())
    assert [["lengths", "rotten_tomatoes", "--store", "--events"]] == background.started
    background.end("stopped")
    assert "Counting was stopped" in words(healthy(at.run()))
    assert "Counting was stopped" not in words(page())


def test_only_the_session_that_counted_shows_the_result(
    tmp_path: Path, background: Recorded
) -> None:
    """Another one sees that something runs and keeps its own selection; a reload is no other one."""
    path = csv_file(tmp_path)
    at = asked_for(path)
    button(at, "Count tokens").click()
    healthy(at.run())
    assert "job-1" in at.query_params["job"]
    other, reloaded = page(), page(job="job-1")
    for session in (other, reloaded):
        assert "Stop" in [b.label for b in session.button]
    label = count_own(path, "text")
    background.end("done", document={"train": {"key": _key(), "split": "all"}, "evaluation": None})
    for session in (at, other, reloaded):
        healthy(session.run())
    expected = {"at": label, "other": "SST-2 · validation", "reloaded": label}
    shown = {"at": at, "other": other, "reloaded": reloaded}
    assert expected == {name: s.selectbox[1].value for name, s in shown.items()}
    assert "job" not in at.query_params


@pytest.mark.parametrize("state", ["done", "failed"])
def test_the_next_count_of_another_session_hides_nothing(
    state: str, tmp_path: Path, background: Recorded
) -> None:
    """What became of this session's count is shown though the last job is another one."""
    path = csv_file(tmp_path)
    at, other = asked_for(path), page(own="Task")
    button(at, "Count tokens").click()
    healthy(at.run())
    label = count_own(path, "text")
    document = {"train": {"key": _key(), "split": "all"}, "evaluation": None}
    background.end(state, document=document, error="Row 3 holds a number.")
    button(healthy(other.run()), "Count tokens").click()
    healthy(other.run())
    assert "job-2" == background.job.id
    healthy(at.run())
    assert (state == "done") == (label == at.selectbox[1].value)
    assert (state == "failed") == ("Row 3 holds a number" in words(at))
    assert "Stop" in [b.label for b in at.button]


def test_a_visit_to_another_page_keeps_the_link(background: Recorded) -> None:
    """Streamlit takes parameters out of the address then; a reload afterwards is still no stranger."""
    at = page(own="Task")
    button(at, "Count tokens").click()
    healthy(at.run())
    del at.query_params["job"]
    healthy(at.run())
    assert "job-1" in at.query_params["job"]
    background.end("stopped")
    del at.query_params["job"]
    healthy(at.run())
    assert "job" not in at.query_params


def test_a_folder_becomes_a_pair(tmp_path: Path, background: Recorded) -> None:
    """Splits and columns are found; what comes out is shown as training and evaluation."""
    folder = tmp_path / "mine"
    folder.mkdir()
    for name in ("train", "dev"):
        csv_file(folder, f"{name}.csv")
    at = asked_for(folder)
    assert [["dev", "train"], ["text"]] == [select.value for select in at.multiselect]
    button(at, "Count tokens").click()
    healthy(at.run())
    assert ["--splits", '"dev","train"'] == background.started[0][4:6]


def test_a_bad_file_is_one_sentence(tmp_path: Path) -> None:
    """And the rest of the page is there."""
    at = page(own="Folder or file")
    for name, content, part in (
        ("empty.csv", b"", "has no row"),
        ("latin.csv", b"text\ncaf\xe9\n", "not UTF-8"),
        ("numbers.csv", b"a,b\n1,2\n", "no column of text"),
        ("broken.parquet", b"PAR1", "cannot be read"),
        ("absent.csv", None, "There is no file or folder"),
        ("<b>.csv", b"", "<b>.csv has no row"),
    ):
        if content is not None:
            (tmp_path / name).write_bytes(content)
        at.text_input(key="lengths.path").set_value(str(tmp_path / name))
        healthy(at.run())
        assert ["That did not work"] == [e.proto.title for e in at.error], name
        assert part in words(at)
        assert "1.2438 nats" in measured(at).values()


def test_the_hub_is_closed_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once, without a request."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    monkeypatch.delenv("LTP_ALLOW_DOWNLOADS", raising=False)
    at = page(own="Hub data set")
    assert "downloads are off" in words(at)
    at.text_input(key="lengths.hub").set_value("owner/reviews")
    assert "LTP_ALLOW_DOWNLOADS=1" in words(healthy(at.run()))


def uploaded(content: bytes, name: str = "../mine\0.csv") -> Any:
    """What the uploader holds."""
    return SimpleNamespace(file_id=content.decode(), name=name, getvalue=lambda: content)


def on_disk() -> list[Path]:
    """Uploads that are there, of whatever session."""
    return sorted((store.default_store() / "lengths" / ".uploads").glob("*/*"))


def test_an_upload_is_on_the_disk_only_while_it_is_read(background: Recorded) -> None:
    """While it is looked at, then while it is counted, under a name that is no path."""
    file = uploaded(b"text\na\n")
    assert ("text",) == uploads.facts_of_upload(file).text_columns
    assert [] == on_disk()
    place = uploads.new_place(file)
    assert "_mine_.csv" == place.name
    files = {sources.FILE_SPLIT: [place]}
    source = own.Source(arguments=(str(place),), files=files, columns=("text",), upload=file)
    forget = source.save()
    assert [place] == on_disk()
    forget()
    assert [] == on_disk()
    assert [] == list_sets([store.default_store()])


def test_an_upload_goes_with_its_job(background: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """With no page open; other sessions' files stay. That every end is told is a promise of the jobs."""
    monkeypatch.setattr(own.st, "file_uploader", lambda *_, **__: uploaded(b"text\na\n"))
    at = page()
    button(at, "Count tokens").click()
    healthy(at.run())
    [place] = on_disk()
    assert str(place) == background.started[0][1]
    page()
    healthy(at.run())
    assert [place] == on_disk()
    background.end("failed")
    assert [] == on_disk()


def test_an_upload_that_was_counted_before_goes_at_once(
    tmp_path: Path, background: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its counts are shown, nothing is started, and nothing stays on the disk."""
    path = csv_file(tmp_path)
    label = count_own(path, "text")
    monkeypatch.setattr(
        own.st, "file_uploader", lambda *_, **__: uploaded(path.read_bytes(), "copy.csv")
    )
    at = page()
    button(at, "Count tokens").click()
    healthy(at.run())
    assert [] == background.started
    assert label == at.selectbox[1].value
    assert [] == on_disk()


def test_an_upload_that_cannot_be_counted_goes_at_once(
    background: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another job runs."""
    file = uploaded(b"text\none two\n", "mine.csv")
    monkeypatch.setattr(own.st, "file_uploader", lambda *_, **__: file)

    def refuse(*_: Any, **__: Any) -> None:
        raise UserError("Something else is running.")

    monkeypatch.setattr(jobs, "start", refuse)
    at = page()
    button(at, "Count tokens").click()
    assert "Something else is running" in words(healthy(at.run()))
    assert [] == on_disk()


def test_what_a_crash_left_behind_goes_at_the_next_start(background: Recorded) -> None:
    """After a day, and not while it is still being counted."""
    places = [uploads.new_place(uploaded(b"text\na\n")) for _ in range(3)]
    for place in places:
        uploads.save(uploaded(b"text\na\n"), place)
    old = time.time() - uploads.STALE_S - 60
    for place in places[:2]:
        os.utime(place, (old, old))
    running = SimpleNamespace(arguments=("lengths", str(places[0])))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "running", lambda: running)
        uploads.forget_stale.clear()
        uploads.forget_stale()
    assert sorted([places[0], places[2]]) == on_disk()


def test_a_cleaning_that_fails_stops_no_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, and the page is there."""

    def fail() -> None:
        raise PermissionError("not yours")

    monkeypatch.setattr(uploads, "forget_stale", fail)
    at = page()
    assert "Removing old uploads failed through an error" in words(at)
    assert "Length shift" == at.title[0].value


def test_progress_in_words() -> None:
    """Inputs counted so far, and the fraction that has been read."""
    events = [{"event": "progress", "split": "train", "rows": 8192, "fraction": 0.25}]
    job: Any = SimpleNamespace(events=lambda: events)
    assert (0.25, "train\\: 8,192 inputs counted") == lengths_job._progress(job)
    waiting: Any = SimpleNamespace(events=list)
    assert 0 == lengths_job._progress(waiting)[0]


def test_many_splits_are_not_all_chosen() -> None:
    """A folder of thirty files."""
    names = [f"part{i}" for i in range(30)] + ["validation", "train"]
    assert ["validation", "train"] == own._usual(names)
    assert names[:4] == own._usual(names[:4])


# --- charts, sentences, exports -------------------------------------------------------------------


def counts(*values: int) -> LengthCounts:
    """Counts of these lengths."""
    return LengthCounts.of(np.array(values))


def test_bars_hold_every_input_that_is_drawn() -> None:
    """Shares of both sets sum to 1 minus what is hidden, which the caption tells."""
    train, evaluation = sample("imdb"), sample("imdb", "validation")
    pair = train.lengths.counts, evaluation.lengths.counts
    frame = lengths_charts.histogram_chart(*pair).frame
    bars = frame[frame["kind"] == "bar"].dropna(subset=["inputs"])
    hidden = dict(zip(lengths_charts.SERIES, lengths_charts.hidden(*pair), strict=True))
    assert hidden["training"] > 0
    for series, side in zip(lengths_charts.SERIES, pair, strict=True):
        drawn = bars[bars["series"] == series]["inputs"].sum()
        # A bar may hold a few lengths beyond the limit's own bin, never fewer.
        assert side.rows - hidden[series] <= drawn <= side.rows
    widths = {end - start for start, end in zip(bars["start"], bars["end"], strict=True)}
    assert {50.0} == widths


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_charts_become_pictures(kind: charts.ImageKind) -> None:
    """Both views, in this process; the SVG has the labels of the rules."""
    pair = sample().lengths.counts, sample(split="validation").lengths.counts
    for figure in (
        lengths_charts.histogram_chart(*pair),
        lengths_charts.ecdf_chart(*pair, table_2_row("sst2", "validation")),
    ):
        made = charts.image(figure, kind)
        assert {"png": b"\x89PNG", "svg": b"<svg"}[kind] == made[:4]
        if kind == "svg":
            assert b"99 %: 44" in made
            assert b"99 %: 51.3" in made


@pytest.mark.parametrize("values", [((5,), (5,)), ((2,), (9_000,)), ((1, 1, 1), (1, 2))])
def test_any_two_sets_can_be_drawn(values: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    """One length, lengths far apart, next to each other."""
    pair = counts(*values[0]), counts(*values[1])
    for chart in (lengths_charts.histogram_chart(*pair), lengths_charts.ecdf_chart(*pair)):
        json.dumps(chart.to_dict(), allow_nan=False)
        assert charts.image(chart, "svg")


def test_infinite_kl_is_said_in_words() -> None:
    """Sets that do not meet."""
    shift = compare(counts(1, 2), counts(100), DivergenceRule(bins=20), resamples=20)
    assert "infinite" == wording.amount(KL, shift.measures[KL])
    assert "infinite are beyond that" in wording.floor_sentence(shift, KL)
    assert "98.50 tokens" == wording.amount(WASSERSTEIN, shift.measures[WASSERSTEIN])
    assert "infinite" in set(lengths_tables.measures_frame(shift, KL)["Measured"])


def test_the_export_is_what_the_command_prints() -> None:
    """The same document; counts and tables open as CSV."""
    train, evaluation = sample(), sample(split="validation")
    rule = DivergenceRule(bins=50)
    shown = export.Shown(
        train=train,
        evaluation=evaluation,
        shift=compare(train.lengths.counts, evaluation.lengths.counts, rule),
        figure=lengths_charts.histogram_chart(train.lengths.counts, evaluation.lengths.counts),
        table_2=lambda: lengths_tables.table_2([train.counts]),
    )
    printed = json.loads(run("lengths", "sst2", "--json").stdout)
    assert printed == json.loads(export.statistics_json(shown))
    lines = export.counts_csv(shown).decode().splitlines()
    assert "data,split,length,count" == lines[0]
    assert (
        len(train.lengths.counts.length) + len(evaluation.lengths.counts.length) == len(lines) - 1
    )
    assert 9 == len(export.table_2_csv(shown).decode().splitlines())
