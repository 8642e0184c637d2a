"""The throughput page without a browser: stored results, foreign files, and a measurement under way."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.ltp_ui.shared import jobs, live
from app.ltp_ui.shared.charts import Figure, image
from app.ltp_ui.throughput import charts as throughput_charts
from app.ltp_ui.throughput import controls, data, export, panels
from app.ltp_ui.throughput import results as results_of
from app.ltp_ui.throughput.data import Bench, bench
from ltp_core import environment
from ltp_core.bench.variants import VARIANTS
from tests import bench_samples
from tests.app_samples import MOVIES
from tests.source_trees import ROOT

PAGE = str(ROOT / "pages" / "throughput.py")


@pytest.fixture
def store(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A store of its own with these models, without any result."""
    (tmp_path / "runs").symlink_to(models / "runs")
    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    monkeypatch.setattr("ltp_core.store._DATA_CACHE", tmp_path / "none")
    yield tmp_path
    if (left := jobs.running()) is not None:
        left.stop()
    st.cache_data.clear()


@pytest.fixture
def results(store: Path) -> Path:
    """The same with a benchmark of each kind."""
    return bench_samples.save_all(store)


def page(**params: str) -> AppTest:
    """The page with a link's parameters."""
    at = AppTest.from_file(str(ROOT / "app" / "main.py"), default_timeout=120).switch_page(PAGE)
    for name, value in {"model": MOVIES, **params}.items():
        at.query_params[name] = value
    return healthy(at.run())


def healthy(at: AppTest) -> AppTest:
    """The same, after looking for tracebacks and faults."""
    assert not at.exception, [e.value for e in at.exception]
    assert not [e.value for e in at.error]
    return at


def charts(at: AppTest) -> list[dict[str, Any]]:
    """The Vega-Lite specifications on the page."""
    return [json.loads(chart.proto.spec) for chart in at.get("vega_lite_chart")]


def series(chart: dict[str, Any]) -> list[str]:
    """Who has a place in the legend."""
    return next(
        layer["encoding"]["color"]["scale"]["domain"]
        for layer in chart["layer"]
        if layer["encoding"].get("color", {}).get("field") == "series"
    )


def drawn(figure: Figure, kind: str) -> pd.DataFrame:
    """What a chart draws of this kind."""
    return figure.frame[figure.frame["kind"] == kind]


def texts(at: AppTest) -> str:
    """Everything that is said on the page."""
    return " ".join([*(m.value for m in at.markdown), *(c.value for c in at.caption)])


def shown(name: str, document: dict[str, Any]) -> Bench:
    """A document as the page has it."""
    return bench(name, json.loads(json.dumps(document)))


# --- stored results ---------------------------------------------------------------------------------


def test_an_empty_store_says_what_to_do(store: Path) -> None:
    """The paper's figures are tagged as the paper's, and nothing is drawn as measured."""
    at = page()
    assert "Nothing measured here yet" == at.info[0].proto.title
    assert "paper, Figure 6" in texts(at)
    assert [] == charts(at)
    assert "Nothing measured here yet" == page(what="topk").info[0].proto.title


def test_throughput_shows_both_pictures(results: Path) -> None:
    """Every variant in both, controls included, and the sentence that sums up."""
    at = page()
    first, second = charts(at)
    for title in ("packed", "packed, unpruned", "Hugging Face", "re-padded", "masked"):
        assert title in series(first)
    kinds = second["layer"][0]["encoding"]["color"]["scale"]["domain"]
    assert ["measured", "promised by the FLOPs"] == kinds
    assert "becomes time" in texts(at)
    assert "removing the padding alone gives" in texts(at)
    order = [element.value for element in (*at.title, *at.header)]
    assert order.index("Measure on this machine") < order.index("Numbers")


@pytest.mark.parametrize(("what", "title"), [("scaling", "ms per sequence"), ("topk", "threshold")])
def test_other_questions(what: str, title: str, results: Path) -> None:
    """By length, and top-k against a threshold, from a link."""
    (chart,) = charts(page(what=what))
    assert any(title in str(layer["encoding"]["y"].get("title")) for layer in chart["layer"])


def test_a_link_chooses_the_result(results: Path) -> None:
    """Of equally quiet ones the newest by default; nonsense in a link falls back to it."""
    assert "A processor" in texts(page())
    assert "Another" in texts(page(bench="throughput-b"))
    assert "A processor" in texts(page(bench="no such result"))


def test_a_quiet_result_of_this_machine_is_shown_first(store: Path) -> None:
    """Before a newer one that is noisy or of another machine; without one, the least noisy."""
    quiet = bench_samples.throughput()["noise"]
    here = {"processor": environment.processor(), "threads": 2, "device": "cpu"}
    for name, day, spread, where in (
        ("elsewhere", 5, 0.01, {"processor": "Elsewhere"}),
        ("noisy", 4, 0.6, here),
        ("newest", 3, 0.04, here),
        ("oldest", 2, 0.02, here),
    ):
        warning = "something else was running" if spread > 0.1 else None
        noise = {**quiet, "identical_work_spread": spread, "warning": warning}
        document = bench_samples.throughput(
            created_at=f"2036-01-0{day}T00:00:00+00:00", noise=noise, environment=where
        )
        bench_samples.save(store, document, name)
    found = sorted(data.stored("throughput")[0], key=lambda each: each.rank)
    assert ["newest", "oldest", "elsewhere", "noisy"] == [each.name for each in found]
    assert "2036-01-03" in page().selectbox(key="throughput.result").options[0]


def test_a_result_of_another_checkpoint_is_said_first() -> None:
    """Above it, with what to do; a folder is known by its name, which is all that a result keeps."""
    own, other = (
        shown(n, bench_samples.throughput(checkpoint=n)) for n in ("folder", "sst2-ltp-1")
    )
    assert "" == results_of.of_another(own, [own, other], "/models/folder")
    assert "the form below measures" in results_of.of_another(other, [own, other], "/models/folder")
    nothing = results_of.of_another(other, [other], "/models/folder")
    assert nothing.startswith("Nothing has been measured of /models/folder yet: press Measure")
    assert "Shown is sst2-ltp-1." in nothing


def test_a_noisy_machine_is_said(store: Path) -> None:
    """With the sentence of the benchmark."""
    noise = {**bench_samples.throughput()["noise"], "warning": "identical work varied by 40 %"}
    bench_samples.save(store, bench_samples.throughput(noise=noise), "throughput-a")
    (warning,) = page().warning
    assert "Noisy machine" == warning.proto.title
    assert "Identical work varied by 40 %" in warning.value.replace("\\", "")


def test_the_missing_control_is_named(store: Path) -> None:
    """Without a shallower model among the variants the page says so."""
    document = bench_samples.throughput()
    document["results"] = [
        x for x in document["results"] if x["contender"] != bench_samples.SHALLOW
    ]
    bench_samples.save(store, document, "throughput-a")
    assert "The second control, a shallower model" in texts(page())


def test_results_can_be_compared(results: Path) -> None:
    """Two machines in one picture, told apart by name."""
    at = page()
    next(w for w in at.multiselect if w.label == "Compare with").set_value(["throughput-b"])
    compared = charts(healthy(at.run()))[-1]
    _, second = series(compared)
    assert "Another <b>processor</b>" in second


def test_a_broken_result_does_not_stop_the_page(results: Path) -> None:
    """It is named, and the others are shown."""
    broken = results / "benches" / "throughput-x" / "bench.json"
    broken.parent.mkdir()
    broken.write_text("{")
    at = page()
    assert "no JSON document" in texts(at)
    assert 2 == len(charts(at))


# --- what is drawn ----------------------------------------------------------------------------------


def test_error_bars_are_quartiles() -> None:
    """From q1 up to q3."""
    found = shown("a", bench_samples.throughput())
    lines = drawn(throughput_charts.throughput_chart(found), "measured")
    packed = lines[lines["series"] == "packed"].astype({"value": float})
    assert packed["low"].tolist() == pytest.approx((0.96 * packed["value"]).tolist())
    assert packed["high"].tolist() == pytest.approx((1.03 * packed["value"]).tolist())


def test_many_variants_are_bars_and_few_of_them_lines() -> None:
    """A legend of a dozen lines would leave no room for them."""
    document = bench_samples.throughput()
    for name in ("onnx_sorted", "openvino_sorted", "packed_bfloat16"):
        document["results"] += [
            {**line, "contender": name}
            for line in document["results"]
            if line["contender"] == "packed"
        ]
    found = shown("a", document)
    lines = set(throughput_charts.throughput_chart(found).frame["series"])
    bars = set(throughput_charts.promise_chart(found, found.places[-1]).frame["series"])
    assert {"OpenVINO, sorted", "packed, bfloat16"} <= bars
    assert not {"OpenVINO, sorted", "packed, bfloat16"} & lines
    assert {"packed", "packed, unpruned", "Hugging Face, sorted"} <= lines


def test_what_is_not_measured_is_hollow() -> None:
    """Promises and the paper's figures never look like measurements; every chart can be exported."""
    found = shown("a", bench_samples.throughput())
    for figure, num_hollow in (
        (throughput_charts.throughput_chart(found), 1),
        (throughput_charts.promise_chart(found, found.places[-1]), 1),
        (throughput_charts.topk_chart(shown("t", bench_samples.topk()), "topk"), 1),
        (throughput_charts.length_chart(shown("s", bench_samples.scaling()), 8), 1),
        (throughput_charts.machines_chart([found, found], "packed", "speedup"), 0),
    ):
        points = [each for each in figure.spec["layer"] if each["mark"]["type"] == "point"]
        hollow = [
            each
            for each in points
            if not each["mark"]["filled"] or throughput_charts.HOLLOW in json.dumps(each)
        ]
        assert num_hollow == len(hollow)
        assert image(figure, "svg").startswith(b"<svg")


def test_ideal_time_is_flops_over_the_machines_rate() -> None:
    """At 4e10 FLOP/s, 1e7 × 32 FLOPs take 8 ms."""
    figure = throughput_charts.length_chart(shown("s", bench_samples.scaling()), 8)
    ideal = drawn(figure, "promised by the FLOPs").set_index(["series", "x"])["value"]
    assert 8.0 == pytest.approx(ideal["packed, unpruned", 32])


def test_a_budget_stands_in_the_title(monkeypatch: pytest.MonkeyPatch) -> None:
    """A benchmark of another strength is not called by the run alone."""
    monkeypatch.setattr(data, "stored_labels", lambda: {"own": "LTP-S"})
    assert "LTP-S" == data._run_title("own")
    assert "LTP-S, budget 0.6" == data._run_title("own@budget-0.6")
    assert data._run_title("other@budget-0.6") is None


@pytest.mark.parametrize("variants", [{}, {"packed": 3}, {"packed": {"metric": "x"}}])
@pytest.mark.parametrize("noise", [{}, {"matmul_flops_per_s": "fast", "warning": 3}])
def test_documents_may_lack_what_is_not_required(variants: Any, noise: Any) -> None:
    """Anything beside the figures may be absent or strange."""
    document = bench_samples.throughput(contenders=variants, noise=noise, settings={}, skipped=3)
    document["environment"] = {}
    document["results"] = [
        {key: line[key] for key in ("batch_size", "contender", "sequences_per_s")}
        for line in document["results"]
    ]
    found = shown("a", document)
    assert not len(throughput_charts.promise_chart(found, found.places[0]).frame)
    assert {"paper"} == set(throughput_charts.throughput_chart(found).frame["kind"])
    assert len(panels.numbers(found))
    assert "" == panels.summary(found)


def test_summary_by_hand() -> None:
    """The figures of the last batch size, in words."""
    found = shown("a", bench_samples.throughput())
    sentence = panels.headline(found)
    assert "\\" not in sentence  # it is also the picture's description, which is no Markdown
    assert "On A processor, 2 threads, LTP scores 1,352 texts a second" in sentence
    assert "2.2 times Hugging Face, sorted; removing the padding alone gives 1.2 times" in sentence
    sentence = panels.summary(found)
    assert "At batch 32, pruning makes the packed runner 1.73 times as fast" in sentence
    assert "promise 2.20 times, of which 79 % becomes time (quartiles 76 % to 81 %)" in sentence
    by_length = panels.headline(shown("s", bench_samples.scaling()))
    assert "nothing pruned gives" in by_length  # there is no padding to remove


def test_nothing_is_concluded_from_one_round() -> None:
    """Speeds stay, ratios go, and the page says why."""
    document = bench_samples.throughput()
    for line in document["results"]:
        line["rounds"] = 1
    found = shown("a", document)
    assert panels.headline(found).endswith(
        "how that compares with Hugging Face is too noisy to say."
    )
    assert "too noisy to say" in panels.summary(found)
    table = panels.numbers(found)
    assert {"too noisy to say"} == set(table["× packed, unpruned"])
    assert not len(throughput_charts.promise_chart(found, found.places[-1]).frame)


def test_a_share_stays_within_one_engine() -> None:
    """Older documents compare the masked runner and Hugging Face with the packed one."""
    document = bench_samples.throughput()
    for card in document["contenders"].values():
        card["control"] = "packed_unpruned"
    frame = shown("a", document).frame
    shares = frame[frame["realised_share"].notna()]["contender"]
    assert {"packed", bench_samples.SHALLOW} == set(shares)


def test_exports_come_back() -> None:
    """JSON is the stored document; CSV has a line a measurement."""
    found = shown("a", bench_samples.throughput())
    assert found.document == json.loads(export.bench_json(found))
    lines = export.bench_csv(found).decode().splitlines()
    assert 1 + len(found.frame) == len(lines)
    assert "realised_share" in lines[0]
    assert "retain_ratio" not in lines[0]


# --- a measurement under way ------------------------------------------------------------------------

RUNNING = """
import json, sys, time
def say(**event): print(json.dumps(event), flush=True)
say(event="plan", what="throughput", turns=4, results=[], contenders={})
say(event="turn", batch_size=1, length=None, contender="packed", sequences_per_s=10.0, done=1)
say(event="turn", batch_size=1, length=None, contender="hugging_face", sequences_per_s=5.0, done=2)
time.sleep(600)
"""


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Lets jobs run a line of Python instead of a command."""

    def use(code: str) -> None:
        monkeypatch.setattr(jobs, "_command", lambda _: [sys.executable, "-c", code])

    return use


def wait_for(condition: Callable[[], bool]) -> None:
    """Returns when the condition holds; fails if that takes too long."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def press(at: AppTest, label: str) -> AppTest:
    """The page after a click."""
    next(button for button in at.button if button.label == label).click()
    return at.run()


def labels(at: AppTest) -> list[str]:
    """What can be clicked."""
    return [button.label for button in at.button]


def job_events() -> int:
    """Events that the current job has printed."""
    job = jobs.current("bench")
    return len(job.events()) if job else 0


def test_the_command_is_the_one_that_runs(store: Path, script: Callable[[str], None]) -> None:
    """What is shown can be copied: the job's arguments, controls always among them."""
    script("import time; time.sleep(600)")
    at = press(page(), "Measure")
    command = at.code[0].value
    job = jobs.current("bench")
    assert job is not None
    assert job.command == command
    assert "--events" in job.arguments
    assert f"bench {MOVIES} --what throughput --batch-sizes 1,8,32 --lengths data" in command
    assert "--variants packed,packed_unpruned,hugging_face_sorted," in command
    assert "--seconds 60" in command


def test_a_checkpoint_for_any_budget_is_measured_at_one(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own strength says nothing on the command line, another is a budget."""
    curve = pd.DataFrame(
        {"factor": [0.0, 1.0], "relative_flops_paper": [1.0, 0.5], "metric": [0.9, 0.8]}
    )
    monkeypatch.setattr(controls, "elastic_curve", lambda folder: curve)
    at = page()
    assert f"bench {MOVIES} --what" in at.code[0].value
    at.slider(key="throughput_budget").set_value(80)
    assert f"bench {MOVIES} --budget 0.8 --what" in healthy(at.run()).code[0].value


@pytest.mark.parametrize(("key", "value"), [("device", "cuda"), ("dtype", "bfloat16")])
def test_only_who_can_run_there_is_offered(
    key: str, value: str, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime takes the CPU and float32; what was chosen before is not asked for elsewhere."""
    monkeypatch.setattr(controls, "GPU_SIGNS", (str(store),))
    monkeypatch.setattr(controls, "available_variants", lambda: tuple(VARIANTS))
    at = page()
    others = next(w for w in at.multiselect if w.label == "Also measure")
    assert VARIANTS["onnx"].title in others.options
    others.set_value(["masked", "onnx"])
    assert "masked,onnx" in healthy(at.run()).code[0].value
    (at.radio if key == "device" else at.selectbox)(key=f"throughput.{key}").set_value(value)
    healthy(at.run())
    others = next(w for w in at.multiselect if w.label == "Also measure")
    assert not [title for title in others.options if "ONNX" in title]
    assert "onnx" not in at.code[0].value
    assert f"--{key} {value}" in at.code[0].value


@pytest.mark.parametrize("what", ["throughput", "scaling", "topk"])
def test_every_command_parses(what: str, store: Path) -> None:
    """The command line understands what the page would run."""
    import shlex

    from ltp_core.cli.main import build_parser

    command = page(what=what).code[0].value
    parsed = build_parser().parse_args(shlex.split(command)[3:])
    assert what == parsed.what


def test_bars_fill_in_and_it_can_be_stopped(store: Path, script: Callable[[str], None]) -> None:
    """Progress and bars while it runs, in another session too; then Stop."""
    script(RUNNING)
    press(page(), "Measure")
    wait_for(lambda: job_events() == 3)
    at = page()
    assert "Stop" in labels(at)
    assert "Measure" not in labels(at)
    (bars,) = charts(at)
    assert ["packed", "Hugging Face"] == series(bars)
    stopped = press(at, "Stop")
    assert jobs.running() is None
    assert "Measure" in labels(stopped)
    assert any("Stopped." in info.value for info in stopped.info)


def test_one_at_a_time(store: Path, script: Callable[[str], None]) -> None:
    """While other work runs, the button waits and says for what."""
    script("import time; time.sleep(600)")
    jobs.start("lengths", ["lengths", "sst2"])
    at = page()
    assert next(button for button in at.button if button.label == "Measure").disabled
    assert "python -m ltp_core lengths sst2" in texts(at)


def test_a_failure_is_a_sentence(store: Path, script: Callable[[str], None]) -> None:
    """The reason of the command line, not a traceback."""
    script("import sys; sys.exit('ltp: The device cannot be used here.')")
    at = press(page(), "Measure")
    job = jobs.current("bench")
    assert job is not None
    wait_for(lambda: not job.is_running)
    at = at.run()
    assert ["The measurement failed"] == [error.proto.title for error in at.error]
    assert "The device cannot be used here" in at.error[0].value
    press(at, "Dismiss")
    assert not page().error  # in no tab
    assert jobs.current("bench") is None


def test_a_finished_measurement_is_shown(store: Path, script: Callable[[str], None]) -> None:
    """The page turns to the new result by itself."""
    bench_samples.save(store, bench_samples.throughput(), "throughput-old")
    at = page()
    script("import sys; sys.stdin.read(); import time; time.sleep(600)")
    at = press(at, "Measure")
    job = jobs.current("bench")
    assert job is not None
    new = bench_samples.topk()
    bench_samples.save(store, new, "topk-new")
    end = {"event": "end", "document": {**new, "name": "topk-new"}}
    with (job.folder / "events.jsonl").open("a") as file:
        file.write(json.dumps(end) + "\n")
    import os
    import signal

    os.kill(job.pid, signal.SIGKILL)
    wait_for(lambda: not job.is_running)
    at = healthy(at.run())
    assert "topk" == at.session_state["throughput.what"]
    assert "topk-new" == at.session_state["throughput.result"]
    assert "threshold" in str(charts(at)[0])


def test_progress_by_hand() -> None:
    """Share of the turns, and medians of what has run."""
    events = [
        {"event": "plan", "turns": 8, "results": []},
        {"event": "turn", **_turn("packed", 10.0), "done": 1},
        {"event": "turn", **_turn("packed", 30.0), "done": 2},
        {"event": "turn", **_turn("packed", 20.0), "done": 3},
    ]
    assert 0.375 == data.progress(events)
    (line,) = data.live_table(events).to_dict(orient="records")
    assert (15.0, 20.0, 25.0) == tuple(line[f"sequences_per_s{q}"] for q in ("_q1", "", "_q3"))
    finished = {**bench_samples.throughput()["results"][0], "batch_size": 1}
    table = data.live_table([*events, {"event": "point", "results": [finished]}])
    assert 1 == len(table)
    assert 0.0 == data.progress([])
    assert not len(data.live_table([]))


def _turn(name: str, speed: float) -> dict[str, Any]:
    return {"batch_size": 1, "length": None, "contender": name, "sequences_per_s": speed}


def test_no_checkpoint_at_all(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh store: the form says so, stored results and top-k still work."""
    monkeypatch.setattr(live, "checkpoints", list)
    assert "No checkpoint" in [info.proto.title for info in page(model="").info]
    assert "Measure" in labels(page(what="topk", model=""))


@pytest.mark.slow
def test_the_real_thing(store: Path) -> None:
    """From the button to the stored result, with the real command."""
    arguments = ["bench", "--what", "topk", "--lengths", "8", "--retain-ratios", "0.5"]
    job = jobs.start("bench", [*arguments, "--repeats", "1", "--events"])
    wait_for(lambda: not job.is_running)
    assert ("done", None) == (job.state, job.error)
    (chart,) = charts(page(what="topk"))
    assert series(chart)


def test_frames_have_every_column() -> None:
    """Whatever a document lacks is a missing value."""
    frame = data.table(pd.DataFrame({"batch_size": [8], "contender": ["packed"]}))
    assert {*data.COLUMNS, "place"} == set(frame.columns)
