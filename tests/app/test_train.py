"""The page that trains: what a form asks for, how far a training is, and what a finished one says."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.ltp_ui.shared import jobs, kept, state
from app.ltp_ui.train import finished
from app.ltp_ui.train.progress import ELASTIC_RATIO, read
from app.ltp_ui.train.settings import resumed, suggested_length
from ltp_core import store
from ltp_core.cli.main import build_parser
from ltp_core.config import dense_config, lineage, load_config, stages_of, to_dict
from ltp_core.records import UserError
from tests import app_samples, tiny
from tests.commands import run

ROOT = Path(__file__).resolve().parents[2]
PAGE = str(ROOT / "pages" / "train.py")
RUN = "x-ltp_s-0123456789"
PARENT = "x-unpruned-0123456789"


@pytest.fixture(autouse=True)
def _environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty store, and caches of its own for every test; whatever is left running ends."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    yield
    if (left := jobs.running()) is not None:
        left.stop()
    st.cache_data.clear()


def reviews(path: Path, rows: int = 120, labels: Sequence[Any] = ("bad", "good")) -> Path:
    """A labelled file."""
    texts = [f"review number {i} was {tiny.WORDS[i % 40]}" for i in range(rows)]
    frame = pd.DataFrame({"id": range(rows), "review": texts})
    frame.assign(stars=[labels[i % len(labels)] for i in range(rows)]).to_csv(path, index=False)
    return path


def page(path: Path | None = None, **parameters: str) -> AppTest:
    """A fresh session on the page."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120).switch_page(PAGE)
    for name, value in parameters.items():
        at.query_params[name] = value
    if path is not None:
        at.query_params["train.path"] = str(path)
    at.run()
    assert not at.exception, [e.value for e in at.exception]
    return at


def command(at: AppTest) -> list[str]:
    """What the page says to type, without `python -m ltp_core`."""
    return str(at.code[-1].value).split()[3:]


def test_a_file_is_shown_before_anything_trains(tmp_path: Path) -> None:
    """Columns and kind are guessed, classes counted, bad rows named; the command is one that works."""
    path = reviews(tmp_path / "reviews.csv")
    with path.open("a") as file:
        file.write("999,,good\n")
    at = page(path)
    chosen = {box.label: box.value for box in at.selectbox}
    assert ("review", "none", "stars") == tuple(chosen[x] for x in ("Text", "Second text", "Label"))
    balance = at.dataframe[-1].value
    assert {"bad", "good"} == set(balance["class"])
    assert any("no text" in caption.value for caption in at.caption)
    assert any("tokens, 95 %" in caption.value for caption in at.caption)
    typed = command(at)
    assert ["train", "own_ltp_s", "--data"] == typed[:3]
    build_parser().parse_args(typed)


def test_every_setting_is_in_the_command(tmp_path: Path) -> None:
    """What differs from the preset is said, and only that; each method is a run of its own."""
    path = reviews(tmp_path / "reviews.csv")
    at = page(path)
    at.number_input(key="train.seed").set_value(3)
    at.number_input(key="train.minutes").set_value(5.0)
    at.number_input(key="train.pruning").set_value(1.0).run()
    assert {"seed=3", "hard.epochs=1", "--minutes", "5"} <= set(command(at))
    methods = {}
    for method in at.radio(key="train.method").options:
        at.radio(key="train.method").set_value(method).run()
        arguments = [a for a in command(at)[2:] if "=" in a]
        own = [f"data.file={path}", "data.text=review", "data.label=stars"]
        methods[method] = load_config(command(at)[1], [*arguments, *own])
    assert ["ltp_s", "ltp", "unpruned"] == [each.method.name for each in methods.values()]
    finetuned = {lineage(each)[0].name for each in methods.values()}
    assert 1 == len(finetuned)  # one finetuned model serves all
    at.radio(key="train.method").set_value(next(iter(methods))).run()
    at.slider(key="train.budget.own_ltp_s").set_value(0.5).run()
    assert "hard.target_relative_flops=0.5" in command(at)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no row"),
        (b"review,stars\ngood film,1\nbad film,0\n", "usable rows|one class"),
        ("review,stars\ngood film,1\n".encode("utf-16"), "UTF-16"),
        (b"id,stars\n1,2\n2,3\n", "no column of text"),
        ("review;stars\nsch\xf6n gemacht,gut;1\n".encode("latin-1"), "UTF-8"),
    ],
)
def test_what_cannot_be_trained_on_is_a_sentence(
    tmp_path: Path, content: bytes, words: str
) -> None:
    """No traceback, no button to press, and what to do."""
    path = tmp_path / "in.csv"
    path.write_bytes(content)
    at = page(path)
    [error] = at.error
    assert pd.Series([error.value.replace("\\", "")]).str.contains(words)[0]
    assert "train.start" not in [button.key for button in at.button]


def test_one_class_is_a_sentence(tmp_path: Path) -> None:
    """The page says what the command line says."""
    at = page(reviews(tmp_path / "in.csv", labels=("good",)))
    assert "one class only" in at.error[0].value


def test_excel_writes_a_file_that_is_read(tmp_path: Path) -> None:
    """A byte order mark, a line that names the separator, semicolons."""
    rows = "".join(f'"text {i}; with a sign";{i % 2}\r\n' for i in range(60))
    (tmp_path / "in.csv").write_bytes(f"\ufeffsep=;\r\nreview;stars\r\n{rows}".encode())
    at = page(tmp_path / "in.csv")
    assert [] == list(at.error)
    assert any("60 rows" in markdown.value for markdown in at.markdown)


class Upload:
    """An uploaded file."""

    def __init__(self, name: str, content: bytes) -> None:
        self.name = name
        self._content = content

    def getvalue(self) -> bytes:
        """Its bytes."""
        return self._content


def test_an_upload_is_kept_by_its_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, under its own name, where a link finds it; no link leads out of the store."""
    upload: Any = Upload("../my reviews.csv", b"a,b\n")
    place = kept.keep(upload)
    assert place == kept.keep(upload)
    assert b"a,b\n" == place.read_bytes()
    link = kept.link_of(place)
    assert place == kept.kept(link)
    assert place.is_relative_to(tmp_path / "store" / "uploads")
    assert kept.link_of(tmp_path / "other.csv") is None
    digest = place.parent.name
    for bad in (None, "", f"{digest}/../x.csv", f"{digest}/none.csv", f"{digest[:-1]}/x", "a/b"):
        assert kept.kept(bad) is None

    def full(*_: Any) -> None:
        raise store.StoreError("No space is left to write it: free some.")

    monkeypatch.setattr(kept, "atomic_write", full)
    with pytest.raises(UserError, match="No space"):
        kept.keep(Upload("b.csv", b"other"))  # type: ignore[arg-type]


def events(*names: str) -> list[dict[str, Any]]:
    """The events of a training for every budget up to the last one named."""
    stage = {"batch_size": 32, "epochs": 1.0}
    plan = [
        {"run": PARENT, "stages": {"finetune": stage}},
        {"run": RUN, "stages": {"hard": {**stage, "elastic": True, "target_relative_flops": 0.3}}},
    ]
    row = {"loss": 0.5, "relative_flops": 1.0, "mean_retained": 1.0, "kept": [1.0, 0.5]}
    known: dict[str, dict[str, Any]] = {
        "data": {"event": "phase", "phase": "data"},
        "plan": {"event": "plan", "runs": plan, "epochs": ["finetune.epochs=1", "hard.epochs=1"]},
        "begin": {"event": "begin", "run": PARENT, "at_s": 0.0, "rows": 320},
        "stage": {"event": "stage", "run": PARENT, "at_s": 1.0, "stage": "finetune", "step": 0, "steps": 10},
        "step": {"event": "step", "run": PARENT, "at_s": 6.0, "stage": "finetune", "step": 4, **row},
        "finished": {"event": "finished", "run": PARENT, "at_s": 20.0},
        "begin2": {"event": "begin", "run": RUN, "at_s": 0.0, "rows": 320},
        "stage2": {"event": "stage", "run": RUN, "at_s": 1.0, "stage": "hard", "step": 0, "steps": 10},
        "step2": {"event": "step", "run": RUN, "at_s": 6.0, "stage": "hard", "step": 0, **row},
        "evaluate2": {"event": "evaluate", "run": RUN, "at_s": 60.0, "done": 0, "passes": 24},
        "half2": {"event": "evaluate", "run": RUN, "at_s": 72.0, "done": 12, "passes": 24},
        "finished2": {"event": "finished", "run": RUN, "at_s": 90.0},
    }  # fmt: skip
    return [{"run": "", **known[name]} for name in names]


def test_the_time_left_is_measured_on_the_first_steps() -> None:
    """Before a step nothing is claimed; then steps count, and stages that have not begun by their ratio."""
    assert read([]).left_s is None
    assert read(events("data", "plan", "begin", "stage")).left_s is None
    found = read(events("data", "plan", "begin", "stage", "step"))
    # Five steps in 5 s: five more, ten of the next stage, and two evaluations.
    assert found.left_s is not None
    assert found.left_s > 5 + 10 * ELASTIC_RATIO
    assert found.left_s < 1.5 * (5 + 10 * ELASTIC_RATIO)
    assert 0 < found.fraction < 0.2
    assert 0.3 == found.target
    assert [1.0, 0.5] == found.kept
    assert 1 == len(found.history)
    assert "kept" not in found.history


def test_progress_only_grows_to_the_end() -> None:
    """Through the parent, the run and its evaluation; at the end nothing is left."""
    names = ["data", "plan", "begin", "stage", "step", "finished", "begin2", "stage2", "step2"]
    names += ["evaluate2", "half2", "finished2"]
    shares = [read(events(*names[: i + 1])).fraction for i in range(len(names))]
    assert sorted(shares) == shares
    assert 1.0 == shares[-1]
    assert 12.0 == pytest.approx(read(events(*names[:-1])).left_s)
    assert 0.0 == read(events(*names)).left_s


def test_a_parent_that_is_there_counts_as_done() -> None:
    """Where the finetuned model is stored already, only the run itself is left."""
    found = read(events("plan", "begin2", "stage2", "step2"))
    assert found.left_s is not None
    # Nine steps of 5 s, and 24 passes of the evaluation.
    assert 45 < found.left_s < 70
    assert "Learning to prune" in found.text


def test_a_time_limit_is_measured_once() -> None:
    """Going on takes the epochs that the limit became, not a new limit."""
    given = ["train", "own_ltp_s", "seed=1", "hard.epochs=2", "--minutes", "5", "--data", "in.csv"]
    epochs = ["finetune.epochs=0.5", "hard.epochs=0.7"]
    after = resumed(given, epochs)
    assert ["train", "own_ltp_s", *epochs, "seed=1", "--data", "in.csv"] == after
    assert after == resumed(after, epochs)
    assert given == resumed(given, [])  # stopped while it was measured


def test_a_stopped_training_is_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A reload and another session show it; Stop ends it, and Go on starts the same command."""
    forever = "import time; time.sleep(600)"
    monkeypatch.setattr(jobs, "_command", lambda _: ["python", "-c", forever])
    path = reviews(tmp_path / "reviews.csv")
    at = page(path)
    at.button(key="train.start").click().run()
    job = jobs.running()
    assert job is not None
    other = page(path)
    assert other.button(key="train.start").disabled
    other.button(key="train.stop").click().run()
    assert not job.is_running
    again = page(path)
    again.button(key="train.resume").click().run()
    resumed_job = jobs.running()
    assert resumed_job is not None
    assert (job.arguments, False) == (resumed_job.arguments, job.id == resumed_job.id)


def test_the_same_training_is_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two sessions that start the same, the second waits for the first one's process."""
    forever = "import time; time.sleep(600)"
    monkeypatch.setattr(jobs, "_command", lambda _: ["python", "-c", forever])
    first = jobs.start("train", ["train", "own_ltp_s", "--events"])
    second = jobs.start("train", ["train", "own_ltp_s", "--events"])
    assert (first.id, True) == (second.id, second.is_joined)


def test_the_sentence_takes_the_strongest_pruning_that_keeps_the_metric() -> None:
    """Chosen on held-out rows, reported on validation."""
    curve = pd.DataFrame(
        {
            "FLOPs": [1.0, 0.6, 0.4, 0.3],
            "validation": [0.80, 0.79, 0.70, 0.6],
            "heldout": [0.9, 0.91, 0.895, 0.5],
        },
        index=[0.0, 0.5, 0.8, 1.0],
    )
    assert 0.8 == finished.cheapest(curve)


def test_texts_are_taken_whole_where_that_is_quick() -> None:
    """Short tasks keep the default; long texts are cut at what stays quick."""
    assert [128, 200, 256] == [suggested_length(most) for most in (40, 193, 900)]


def test_a_dense_counterpart_is_a_command(tmp_path: Path) -> None:
    """Its settings are a file of the store, which `train` takes, and give it the name that the run says."""
    config = load_config("own_ltp_s")
    dense = dense_config(config)
    assert dense is not None
    manifest: Any = type("Manifest", (), {"config": to_dict(config)})
    command, path = finished.dense_arguments(manifest)
    assert ("train", dense) == (command, load_config(path))
    assert Path(path).is_relative_to(tmp_path / "store")
    assert {"hard"} == set(stages_of(dense))


def test_an_unpruned_model_leads_to_where_it_is_pruned(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thresholds without training: the model of the link, own texts, a budget, one command."""
    shutil.copytree(models, tmp_path / "store")
    texts = tmp_path / "texts.txt"
    texts.write_text("\n".join(" ".join(tiny.WORDS[i : i + 6]) for i in range(30)))
    at = page(None, what=state.PRUNE, model=app_samples.MOVIES_DENSE, **{"prune.path": str(texts)})
    typed = command(at)
    assert ["calibrate", app_samples.MOVIES_DENSE, "--data", str(texts)] == typed[:4]
    # What the command leaves and prints stands for the process, which takes seconds to begin.
    ran = run(*typed, "--json")
    assert 0 == ran.status, ran.stderr
    end = json.dumps({"event": "end", "document": json.loads(ran.stdout)})
    monkeypatch.setattr(jobs, "_command", lambda _: [sys.executable, "-c", f"print({end!r})"])
    at.button(key="prune.start").click().run()
    job = jobs.current("calibrate")
    assert job is not None
    assert [*typed, "--events"] == list(job.arguments)
    deadline = time.monotonic() + 300
    while job.is_running and time.monotonic() < deadline:
        time.sleep(0.2)
    assert ("done", None) == (job.state, job.error)
    done = page(what=state.PRUNE, model=app_samples.MOVIES_DENSE)
    assert any("The thresholds spend" in m.value for m in done.markdown)


@pytest.mark.parametrize("name", [app_samples.MOVIES_DENSE, app_samples.MOVIES])
def test_explore_offers_it_to_what_prunes_nothing(models: Path, tmp_path: Path, name: str) -> None:
    """The button is there for a dense model, and not for one that prunes."""
    shutil.copytree(models, tmp_path / "store")
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120)
    at.switch_page(str(state.EXPLORE)).query_params["model"] = name
    at.run()
    assert not at.exception, [e.value for e in at.exception]
    labels = [link.proto.label for link in at.get("page_link")]
    assert ("Prune this model" in labels) == (name == app_samples.MOVIES_DENSE)


def test_another_file_can_be_taken(tmp_path: Path) -> None:
    """A kept file is named, survives a reload by its link, and can be let go."""
    place = kept.keep(Upload("in.csv", reviews(tmp_path / "in.csv").read_bytes()))  # type: ignore[arg-type]
    at = page(None, **{"train.file": str(kept.link_of(place))})
    assert any("120 rows" in markdown.value for markdown in at.markdown)
    at.button(key="train.another").click().run()
    assert not any("120 rows" in markdown.value for markdown in at.markdown)
    assert any("Drop a file" in info.value for info in at.info)
