"""`lengths`: tasks, own files and folders; stored once, told the same twice, refused in a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import entropy

from ltp_core import checkpoint_tokenizer
from ltp_core.lengths import sources
from ltp_core.lengths.counts import list_sets
from ltp_core.records import UserError
from ltp_core.store import stores
from ltp_core.tasks import hub
from ltp_core.tasks.loading import load_rows
from tests import tiny
from tests.checkpoints import REVIEWS, save_run
from tests.commands import Ran, run
from tests.length_lists import expanded


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An own store with a checkpoint whose tokenizer knows fifty words."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    save_run(tmp_path / "store", REVIEWS)
    return tmp_path / "store"


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    """Two rows with 2 + 3 + special tokens in the columns `text` and `more`."""
    path = tmp_path / "mine.csv"
    path.write_text(
        "text,more,n\na good,a bad film,1\nthe movie,the dull plot ending,2\n", encoding="utf-8"
    )
    return path


def lengths(*argv: object) -> Any:
    """The document of a call with the tiny tokenizer."""
    ran = run("lengths", *map(str, argv), "--checkpoint", REVIEWS, "--json")
    assert 0 == ran.status, ran.stderr
    return json.loads(ran.stdout)


def refused(*argv: object) -> str:
    """The sentence of a call that is refused."""
    ran = run("lengths", *map(str, argv), "--checkpoint", REVIEWS)
    assert (2, "") == (ran.status, ran.stdout), ran.stderr
    assert 1 == len(ran.stderr.splitlines())
    return ran.stderr


def folder_with_splits(folder: Path) -> Path:
    """Training and validation files."""
    folder.mkdir()
    for name, words in (("train", "good"), ("validation", "good film")):
        lines = "".join(f'{{"text": "{words}"}}\n' for _ in range(3))
        (folder / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    return folder


def test_a_file_of_numbers_states_lengths(store: Path, tmp_path: Path) -> None:
    """Nothing is tokenized: the numbers are the lengths, and they are kept as a set of their own."""
    path = tmp_path / "numbers.csv"
    path.write_text("length\n12\n40\n7\n40\n", encoding="utf-8")
    found = lengths(path, "--store")["train"]
    assert (4, 7, 26, 40) == tuple(found["lengths"][k] for k in ("rows", "least", "q2", "greatest"))
    assert "lengths as stated" in found["source"]
    (kept,) = [entry.counts for entry in list_sets([store])]
    assert kept is not None
    assert ((), [7, 12, 40]) == (kept.columns, kept.splits["all"].counts.length.tolist())


def test_a_task_is_told_from_the_shipped_counts(store: Path) -> None:
    """With the default tokenizer nothing has to be loaded: both sides, the shift, the paper's line."""
    ran = run("lengths", "sst2", "--json")
    found = json.loads(ran.stdout)
    assert {"tokenizer", "train", "evaluation", "shift", "paper"} == set(found)
    assert (67_349, 872) == tuple(found[s]["lengths"]["rows"] for s in ("train", "evaluation"))
    assert found["shift"]["measures"]["kl_train_to_evaluation"] == pytest.approx(1.2438, abs=1e-3)
    assert found["shift"]["floors"]["kl_train_to_evaluation"]["high"] < 0.05
    assert {"bins": 50, "from_zero": False, "epsilon": None} == found["shift"]["rule"]
    assert 1.2250 == found["paper"]["kl"]
    card = run("lengths", "sst2").stdout
    for part in ("sst2/train", "1.2438 nats", "in 19 of 20", "paper, Table 2, SST-2", "50 bins"):
        assert part in card


def test_the_rule_can_be_chosen(store: Path) -> None:
    """Bins, origin and smoothing change KL as SciPy says, and are told."""
    counts = {e.counts.name: e.counts for e in list_sets(stores()) if e.counts}["sst2"]
    train, evaluation = (expanded(counts.splits[s].counts) for s in ("train", "validation"))
    rules: dict[tuple[str, ...], tuple[int, tuple[float, float], float]] = {
        ("--from-zero", "--epsilon", "1e-6"): (50, (0, 66), 1e-6),
        ("--bins", "token", "--epsilon", "1e-4"): (64, (2.5, 66.5), 1e-4),
        ("--bins", "20", "--epsilon", "1e-6"): (20, (3, 66), 1e-6),
    }
    for arguments, (bins, span, epsilon) in rules.items():
        p, q = (np.histogram(x, bins, range=span)[0] / len(x) for x in (train, evaluation))
        found = json.loads(run("lengths", "sst2", *arguments, "--json").stdout)["shift"]
        measured = found["measures"]["kl_train_to_evaluation"]
        assert measured == pytest.approx(entropy(p + epsilon, q + epsilon), abs=1e-9)
        assert (bins, span) == (found["num_bins"], (found["low"], found["high"]))


def test_another_split_can_be_evaluated(store: Path) -> None:
    """MNLI has two; the paper's line follows."""
    found = json.loads(
        run("lengths", "mnli", "--eval-split", "validation_mismatched", "--json").stdout
    )
    assert "MNLI-mm" == found["paper"]["label"]
    ran = run("lengths", "mnli", "--eval-split", "tset")
    assert 2 == ran.status
    assert "no split 'tset'; it has train, validation, validation_mismatched" in ran.stderr


def test_a_task_is_counted_with_another_tokenizer(store: Path) -> None:
    """`train` holds the held-out rows too; what is stored is told without the data afterwards."""
    first = lengths("rotten_tomatoes", "--store")
    parts = [load_rows("rotten_tomatoes", split) for split in ("train", "heldout")]
    assert first["train"]["lengths"]["rows"] == sum(map(len, parts))
    assert "tiny" == first["tokenizer"]["name"]
    (entry,) = list_sets([store])
    assert entry.counts is not None
    assert {"train", "validation", "test"} == set(entry.counts.splits)
    length_of = checkpoint_tokenizer.load_tokenizer_of(REVIEWS)[0].encode
    text = max(parts[0].texts, key=lambda text: len(length_of(*text)))
    assert entry.counts.splits["train"].counts.length[-1] >= len(length_of(*text))
    assert first == lengths("rotten_tomatoes")


def test_a_file_alone_has_no_shift(store: Path, csv_file: Path) -> None:
    """One set: its lengths by hand, and nothing to compare it with."""
    found = lengths(csv_file, "--columns", "text")
    assert (None, None) == (found["evaluation"], found["shift"])
    assert {"rows": 2, "least": 4.0, "greatest": 4.0} == {
        key: found["train"]["lengths"][key] for key in ("rows", "least", "greatest")
    }
    assert "mine.csv" == found["train"]["data"]
    assert [] == list_sets([store])


def test_pairs_are_counted_as_pairs(store: Path, csv_file: Path) -> None:
    """[CLS] two words [SEP] three or four words [SEP]."""
    found = lengths(csv_file, "--columns", "text,more", "--store")
    assert (8.0, 9.0) == tuple(found["train"]["lengths"][key] for key in ("least", "greatest"))


def test_a_file_is_compared_with_a_tasks_training_lengths(store: Path, csv_file: Path) -> None:
    """What a person wants to know before using a model on own data."""
    found = lengths(
        "rotten_tomatoes", "--eval-file", csv_file, "--columns", "more", "--bins", "token"
    )
    assert ("rotten_tomatoes", "mine.csv") == (found["train"]["data"], found["evaluation"]["data"])
    assert found["paper"] is None
    assert found["shift"]["share_longer_than_p99"] == 0


def test_a_folder_is_a_pair(store: Path, tmp_path: Path) -> None:
    """`train` against `validation`; `--splits` takes fewer."""
    folder = folder_with_splits(tmp_path / "mine")
    found = lengths(folder, "--store")
    assert (3.0, 4.0) == tuple(found[s]["lengths"]["q2"] for s in ("train", "evaluation"))
    assert 1.0 == found["shift"]["measures"]["wasserstein"]
    assert lengths(folder, "--splits", "validation")["shift"] is None
    assert "no split 'dev'; it has train, validation" in refused(folder, "--splits", "dev")


def test_the_same_content_is_counted_once(
    store: Path, csv_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By content, whatever the file is called; other columns are other counts."""
    first = lengths(csv_file, "--columns", "text", "--store")
    copy = csv_file.rename(csv_file.with_name("renamed.csv"))
    counted: list[str] = []
    count = sources.count_files

    def counting(name: str, *args: Any, **settings: Any) -> Any:
        counted.append(name)
        return count(name, *args, **settings)

    monkeypatch.setattr(sources, "count_files", counting)
    assert first == lengths(copy, "--columns", "text")
    assert [] == counted
    lengths(copy, "--columns", "more")
    assert ["renamed.csv"] == counted


def test_progress_comes_as_events(
    store: Path, csv_file: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A line a chunk; the document last."""
    ran = run("lengths", str(csv_file), "--columns", "text", "--checkpoint", REVIEWS, "--events")
    assert 0 == ran.status
    progress = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [{"event": "progress", "split": "all", "rows": 2, "fraction": 1.0}] == progress
    assert "end" == json.loads(ran.stdout)["event"]


@pytest.fixture
def _no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and no downloads."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("LTP_ALLOW_DOWNLOADS", raising=False)


@pytest.mark.usefixtures("_no_hub")
def test_what_cannot_be_counted_is_one_sentence(
    store: Path, csv_file: Path, tmp_path: Path
) -> None:
    """Unknown task, absent file, wrong column, no choice of columns, hub without network."""
    assert "did you mean 'rotten_tomatoes'?" in refused("rotten_potatoes")
    assert "There is no file or folder 'absent.csv'" in refused("absent.csv")
    assert "There is no file or folder '/no/where'" in refused("/no/where")
    assert "has no column 'review'; it has text, more, n" in refused(
        csv_file, "--columns", "review"
    )
    assert "(text, more): choose one or two with --columns" in refused(csv_file)
    assert "one or two texts, not 3" in refused(csv_file, "--columns", "text,more,n")
    assert "LTP_ALLOW_DOWNLOADS=1" in refused("hub:owner/data", "--columns", "text")
    assert "--columns is for own data" in refused("rotten_tomatoes", "--columns", "text")
    assert "--splits is for own data" in refused("rotten_tomatoes", "--splits", "train")
    assert "--splits is for a folder" in refused(csv_file, "--splits", "train")
    assert "--splits is for own data" in refused(
        "rotten_tomatoes", "--splits", "train", "--eval-file", csv_file, "--columns", "text"
    )
    for option in (("--bins", "9"), ("--from-zero",), ("--epsilon", "0.1")):
        said = refused(csv_file, "--columns", "text", *option)
        assert f"{option[0]} is about a divergence" in said
    assert "--data-dir says where" in refused(csv_file, "--columns", "text", "--data-dir", tmp_path)
    assert "is no data set of the hub" in refused("hub:../etc", "--columns", "text")
    assert "does not exist" in refused("sst2", "--store", "--data-dir", tmp_path / "absent")
    ran = run("lengths", "sst2", "--checkpoint", "rotten_tomatos-ltp")
    assert 2 == ran.status
    assert "There is no run 'rotten_tomatos-ltp'" in ran.stderr


def test_a_data_set_of_the_hub_is_a_pair(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the cache holds is counted; its configuration and splits are passed on."""
    asked: list[tuple[str, ...]] = []

    def read_split(path: str, config: str, split: str, *, allow_downloads: bool) -> pa.Table:
        asked.append((path, config, split))
        texts = {"train": ["good film", None, "a"], "test": ["good", "bad"]}
        return pa.table({"text": texts[split]})

    monkeypatch.setattr(hub, "is_cached", lambda path, config: True)
    monkeypatch.setattr(hub, "read_split", read_split)
    found = lengths("hub:owner/data:en", "--columns", "text", "--splits", "train,test")
    assert [("owner/data", "en", "train"), ("owner/data", "en", "test")] == asked
    assert (2, 1) == (found["train"]["lengths"]["rows"], found["train"]["left_out"])
    assert ("owner/data:en", "test") == (found["evaluation"]["data"], found["evaluation"]["split"])
    assert "has no column 'review'; it has text" in refused(
        "hub:owner/data", "--columns", "review", "--splits", "test"
    )


@pytest.mark.parametrize("columns", ["", ",", 'text,"more'])
def test_a_list_of_names_is_checked(columns: str, store: Path, csv_file: Path) -> None:
    """As bad usage."""
    ran = run("lengths", str(csv_file), "--columns", columns)
    assert 2 == ran.status
    assert "is no list of names" in ran.stderr


@pytest.mark.parametrize("names", [("a",), ("a", "b"), ("a,b", ' "c" '), ("ü", " x")])
def test_names_survive_being_joined(names: tuple[str, ...]) -> None:
    """Commas, quotation marks and blanks in a column's name."""
    assert names == sources.split_names(sources.join_names(names))
    assert ("a", "b c") == sources.split_names("a, b c")


# --- which tokenizer it is ------------------------------------------------------------------------


def test_the_tokenizer_of_a_run_is_found_without_its_weights(store: Path, tmp_path: Path) -> None:
    """By name, by the beginning of it, by folder; the same facts when it is loaded."""
    facts = checkpoint_tokenizer.tokenizer_facts(REVIEWS)
    assert "tiny" == facts.name
    assert facts == checkpoint_tokenizer.tokenizer_facts(str(store / "runs" / REVIEWS))
    assert facts == checkpoint_tokenizer.load_tokenizer_of(REVIEWS[:-3])[1]
    model = tiny.save_hugging_face("roberta", tmp_path / "mine")
    other = checkpoint_tokenizer.tokenizer_facts(str(model))
    assert "mine" == other.name
    assert not other.is_same(facts)


def test_the_default_tokenizer_is_the_default_bases() -> None:
    """Known by name without loading it, and by hash once it is loaded."""
    facts = checkpoint_tokenizer.tokenizer_facts(None)
    loaded = checkpoint_tokenizer.load_tokenizer_of(None)[1]
    assert facts.is_same(loaded)
    assert loaded.sha256 is not None


@pytest.mark.parametrize("path", ["/no/such", "~/no/such", "./no/such"])
def test_a_path_that_is_not_there_is_no_base_model(path: str) -> None:
    """It is said of the path, and not that nothing was counted with its tokenizer."""
    with pytest.raises(UserError, match="There is no folder"):
        checkpoint_tokenizer.tokenizer_facts(path)
    assert "owner/name" == checkpoint_tokenizer.tokenizer_facts("owner/name").name


@pytest.mark.parametrize("name", ["", " ", "a\0b"])
def test_an_impossible_checkpoint_is_refused(store: Path, name: str) -> None:
    """As everywhere else."""
    ran: Ran = run("lengths", "sst2", "--checkpoint", name)
    assert 2 == ran.status
    assert "Give the name of a run" in ran.stderr
