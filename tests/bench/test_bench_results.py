"""Stored benchmarks: the documented format, and clear sentences for what anybody may have made."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from ltp_core.bench import results
from ltp_core.bench.noise import TOO_NOISY, is_too_noisy
from ltp_core.bench.results import list_benches, open_session, parse_document, results_frame
from ltp_core.bench.settings import BenchSettings
from ltp_core.bench.throughput import bench
from ltp_core.bench.topk import bench_topk
from ltp_core.checkpoint import load_checkpoint
from ltp_core.cli.bench_cards import throughput_card
from ltp_core.store import StoreError
from tests import bench_samples
from tests.checkpoints import REVIEWS
from tests.source_trees import ROOT

FORMAT = (ROOT / "data_cache" / "README.md").read_text(encoding="utf-8")
SECTION = FORMAT.split("## Benchmarks")[1].split("\n## ")[0]


def document(**changes: Any) -> dict[str, Any]:
    """The smallest document that can be shown."""
    line = {"batch_size": 8, "length": None, "contender": "packed", "sequences_per_s": 10.0}
    whole: dict[str, Any] = {
        "format_version": 1,
        "what": "throughput",
        "created_at": "2026-01-01T00:00:00+00:00",
        "settings": {},
        "environment": {},
        "noise": {},
        "contenders": {},
        "results": [line],
    }
    return {**whole, **changes}


def save(store: Path, name: str, content: Any) -> Path:
    """A stored benchmark with this content."""
    path = store / "benches" / name / results.DOCUMENT
    path.parent.mkdir(parents=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path.parent


@pytest.fixture(scope="module")
def stored(tiny_store_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a benchmark of each kind."""
    store = tmp_path_factory.mktemp("benches")
    variants = ("packed", "packed_unpruned", "hugging_face", "products", "products_unpruned")
    common: dict[str, Any] = {"limit": 2, "batch_sizes": (2,), "repeats": 1}
    model = load_checkpoint(str(tiny_store_folder / "runs" / REVIEWS))
    for what, lengths in (("throughput", (None,)), ("scaling", (4, 8))):
        settings = BenchSettings(
            what=what,  # type: ignore[arg-type]
            checkpoint=REVIEWS,
            lengths=lengths,
            variants=variants,
            **common,
        )
        bench(settings, model, store=store)
    bench_topk(
        BenchSettings(what="topk", lengths=(8,), retain_ratios=(0.5,), **common), store=store
    )
    return store


def test_what_is_written_is_documented(stored: Path) -> None:
    """Every field and every figure has its word in data_cache/README.md, and the other way round."""
    fields = set()
    for row in re.findall(r"^\| (`.*?) \|", SECTION, flags=re.MULTILINE):
        fields |= set(re.findall(r"`(\w+)`", row))
    for entry in list_benches([stored]):
        assert entry.document is not None
        assert fields == set(entry.document)
        for line in entry.document["results"]:
            for key in line:
                name = re.sub(r"_q[13]$", "", key).removeprefix("theoretical_")
                assert f"`{name}`" in SECTION, key


def test_rounds_are_as_documented(stored: Path) -> None:
    """Columns in order, their types, and one line a variant and round."""
    sentence = SECTION.split("`rounds.parquet`:")[1].split("\n\n")[0]
    documented = [
        (name, kind)
        for names, kind in re.findall(
            r"((?:`\w+`(?:, )?)+) \((int32|float|string|int16|double)", sentence
        )
        for name in re.findall(r"`(\w+)`", names)
    ]
    assert documented == list(results.ROUND_COLUMNS.items())
    for entry in list_benches([stored]):
        table = pq.read_table(entry.folder / results.ROUNDS)
        assert [name for name, _ in documented] == table.column_names
        assert entry.document is not None
        assert len(entry.document["results"]) == table.num_rows


def test_every_kind_comes_back(stored: Path) -> None:
    """The newest first, each checked, each a table."""
    entries = list_benches([stored])
    assert ["topk", "scaling", "throughput"] == [e.document["what"] for e in entries if e.document]
    for entry in entries:
        assert entry.problem is None
        assert entry.document is not None
        assert len(results_frame(entry.document)) == len(entry.document["results"])
        assert {"bench.json", "rounds.parquet"} == {p.name for p in entry.folder.iterdir()}


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("", "no JSON document"),
        ("[1]", "no document of a benchmark"),
        ("{}", "'what' is missing"),
        ("[" * 100_000, "no JSON document"),
        (document(format_version=2), "newer version"),
        (document(what="speed"), "'what' is unknown"),
        (document(results=[1]), "a line of the results is wrong"),
        (document(results=[{"batch_size": 8, "contender": "x"}]), "a line of the results is wrong"),
        (document(environment=None), "'environment' is missing or wrong"),
    ],
)
def test_broken_documents_are_listed_with_the_reason(
    content: Any, sentence: str, tmp_path: Path
) -> None:
    """Whatever lies in the folder: a sentence, and the others are still there."""
    save(tmp_path, "broken", content)
    save(tmp_path, "good", document())
    good, broken = list_benches([tmp_path])
    assert (None, "good") == (good.problem, good.name)
    assert broken.document is None
    assert sentence in str(broken.problem)


@pytest.mark.parametrize("value", ["<script>", [1], {"a": 1}, True])
def test_figures_are_numbers(value: Any) -> None:
    """A document of another machine is data: nothing but numbers reaches a chart."""
    line = {"batch_size": 8, "contender": "packed", "sequences_per_s": 1.0, "speedup": value}
    with pytest.raises(StoreError, match="'speedup' is no number"):
        parse_document(json.dumps(document(results=[line])).encode())


def test_what_is_being_measured_is_not_listed(tmp_path: Path) -> None:
    """A folder without its document is no benchmark yet; neither is a stray file."""
    plan = {"settings": {"what": "throughput", "checkpoint": "x"}}
    with open_session(plan, tmp_path) as session:
        session.save({"batch_size": 1, "results": [], "rounds": []})
        assert list_benches([tmp_path]) == []
        assert session.folder is not None
        assert session.folder.name.startswith("throughput-x-2")
    (tmp_path / "benches" / "file").write_text("x")
    assert list_benches([tmp_path, tmp_path / "nowhere"]) == []


def test_two_processes_do_not_share_a_folder(tmp_path: Path) -> None:
    """One that is being measured is not gone on with."""
    plan = {"settings": {"what": "throughput"}}
    with open_session(plan, tmp_path) as first:
        first.save({"results": [], "rounds": []})
        with open_session(plan, tmp_path) as second:
            assert second.folder != first.folder
            assert second.done == []


@pytest.mark.parametrize("content", ["", "[]", '{"plan": 1}', '{"done": 3}'])
def test_a_damaged_beginning_is_left_alone(content: str, tmp_path: Path) -> None:
    """A new one is begun beside it."""
    folder = tmp_path / "benches" / "throughput-1"
    folder.mkdir(parents=True)
    (folder / results.PARTIAL).write_text(content)
    with open_session({"settings": {"what": "throughput"}}, tmp_path) as session:
        assert session.folder != folder


def test_a_store_that_cannot_be_written_is_a_sentence(tmp_path: Path) -> None:
    """The store is a file, say."""
    (tmp_path / "file").write_text("")
    plan = {"settings": {"what": "throughput"}}
    with (
        pytest.raises(StoreError, match="cannot be written"),
        open_session(plan, tmp_path / "file"),
    ):
        pass


@pytest.mark.parametrize(
    ("changes", "noisy"),
    [
        ({}, False),
        ({"rounds": 2}, True),
        ({"rounds": None}, True),
        ({"speedup_q1": 1.7, "speedup_q3": 2.19}, False),
        ({"speedup_q1": 1.7, "speedup_q3": 2.21}, True),
        ({"speedup_q3": math.nan}, True),
        ({"speedup": None}, True),
    ],
)
def test_nothing_is_concluded_from_noise(changes: dict[str, Any], noisy: bool) -> None:
    """Fewer than three rounds, or quartiles further apart than a quarter of the median."""
    line = {"rounds": 3, "speedup": 2.0, "speedup_q1": 1.9, "speedup_q3": 2.1, **changes}
    assert noisy == is_too_noisy(line, "speedup")


def test_a_card_says_what_is_too_noisy() -> None:
    """A ratio from one round is none; a share stands with its quartiles."""
    measured = bench_samples.throughput(batch_sizes=(32,))
    assert TOO_NOISY not in throughput_card(measured)
    assert "79 % (76–81)" in throughput_card(measured)
    for line in measured["results"]:
        line["rounds"] = 1
    card = throughput_card(measured)
    assert TOO_NOISY in card
    assert "1.73×" not in card
