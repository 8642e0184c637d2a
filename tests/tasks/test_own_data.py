"""A task from a user's file: kinds are guessed, rows that cannot be used are named, splits hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ltp_core.config import load_config
from ltp_core.records import UserError
from ltp_core.sweep.plan import load_sweep, make_plan
from ltp_core.tasks import hub
from ltp_core.tasks.catalogue import find_task, known_task
from ltp_core.tasks.files import DataError
from ltp_core.tasks.loading import load_rows
from ltp_core.tasks.own_data import OwnSource, OwnTask, class_name, own_names, register, suggest
from tests import tiny
from tests.commands import run

ROWS = 200


@pytest.fixture(autouse=True)
def own_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store to write to."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    return tmp_path / "store"


def reviews(rows: int = ROWS, labels: Sequence[Any] = (1, 2, 3)) -> pd.DataFrame:
    """Different texts with labels in turn."""
    return pd.DataFrame(
        {
            "review": [f"review number {i} was {tiny.WORDS[i % 40]}" for i in range(rows)],
            "stars": [labels[i % len(labels)] for i in range(rows)],
        }
    )


def save(path: Path, frame: pd.DataFrame) -> Path:
    """A table in the format of the suffix."""
    path.parent.mkdir(exist_ok=True)
    if path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path, index=False)
    return path


def made(path: Path, **settings: Any) -> OwnTask:
    """The task of a file of reviews."""
    return register(OwnSource(data=path, **{"text": "review", "label": "stars"} | settings))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path: Path, suffix: str) -> None:
    """Rows are divided 80/10/10 by their text, whatever the file; a second call reads nothing."""
    path = save(tmp_path / f"My reviews{suffix}", reviews())
    task = made(path)
    assert task.name.startswith("my_reviews_")
    assert ("classification", ("1", "2", "3")) == (task.kind, task.label_names)
    assert "whole numbers" in str(task.guess)
    assert ROWS == sum(task.rows.values())
    assert {"train", "validation", "test"} == set(task.rows)
    assert made(path) == task
    found = {}
    for split in ("train", "heldout", "validation", "test"):
        rows = load_rows(task.name, split)
        found |= {text: rows.labels[i] for i, (text,) in enumerate(rows.texts)}
    expected = reviews()
    assert found == dict(zip(expected["review"], expected["stars"] - 1, strict=True))
    assert str(tmp_path) not in (tmp_path / "store" / "tasks" / task.name / "task.json").read_text()


@pytest.mark.parametrize(
    ("labels", "kind", "names"),
    [
        (["good", "bad"], "classification", ("bad", "good")),
        ([True, False], "classification", ("false", "true")),
        ([10, 9], "classification", ("9", "10")),
        ([1.0, 2.0], "classification", ("1", "2")),
        ([0.5 * i for i in range(50)], "regression", ()),
        (list(range(50)), "regression", ()),
    ],
)
def test_the_kind_is_guessed(
    tmp_path: Path, labels: list[Any], kind: str, names: tuple[str, ...]
) -> None:
    """Words, truth values and few whole numbers are classes; other numbers are values."""
    task = made(save(tmp_path / "in.parquet", reviews(labels=labels)))
    assert (kind, names) == (task.kind, task.label_names)
    spec = find_task(task.name)
    assert spec.is_regression == (kind == "regression")
    said = made(save(tmp_path / "in.parquet", reviews(labels=[1, 2])), kind="regression")
    assert (None, "regression") == (said.guess, said.kind)


def test_a_file_and_what_it_says_are_one_task(tmp_path: Path) -> None:
    """Other content, other columns or another kind is another task."""
    path = save(tmp_path / "in.csv", reviews())
    first = made(path)
    names = {first.name, made(path, kind="regression").name}
    names.add(made(save(path, reviews(ROWS + 1))).name)
    assert 3 == len(names)
    assert sorted(names) == own_names()
    assert first == made(save(tmp_path / "in.csv", reviews()))


def test_rows_that_cannot_be_used_are_named(tmp_path: Path) -> None:
    """No text, no label, a label that training has not, a text of two splits: counted, with places."""
    train = reviews(60, labels=["a", "b"])
    train.loc[3, "review"] = None
    train.loc[5, "stars"] = None
    validation = reviews(80, labels=["a", "b"]).iloc[58:].reset_index(drop=True)
    validation.loc[4, "stars"] = "c"
    save(tmp_path / "data" / "train.csv", train)
    save(tmp_path / "data" / "dev.csv", validation)
    task = made(tmp_path / "data")
    assert {"train": 58, "validation": 19} == task.rows
    found = {reason: (each.count, each.first) for reason, each in task.left_out.items()}
    assert found == {
        "no text": (1, ("train.csv, line 5",)),
        "no label": (1, ("train.csv, line 7",)),
        "a text of validation that train has too": (2, ("dev.csv, line 2", "dev.csv, line 3")),
        "a label that no training row has": (1, ("dev.csv, line 6",)),
    }
    trained = {text for split in ("train", "heldout") for text in load_rows(task.name, split).texts}
    assert not trained & set(load_rows(task.name, "validation").texts)


def test_a_number_that_is_none_is_named(tmp_path: Path) -> None:
    """In regression a label of another kind is left out."""
    frame = reviews(labels=[i / 7 for i in range(30)]).astype({"stars": object})
    frame.loc[0, "stars"] = "unknown"
    task = made(save(tmp_path / "in.csv", frame), kind="regression")
    assert 1 == task.left_out["a label that is no number"].count


def test_a_folder_without_validation_is_divided(tmp_path: Path) -> None:
    """Its training rows are divided by their text; an own test split stays what it is."""
    save(tmp_path / "data" / "train.jsonl", reviews())
    save(tmp_path / "data" / "test.jsonl", reviews(250).iloc[200:])
    task = made(tmp_path / "data")
    assert task.rows["validation"] > 0
    assert 250 == sum(task.rows.values())
    save(tmp_path / "data" / "training.jsonl", reviews())
    with pytest.raises(DataError, match="train and training"):
        made(tmp_path / "data")


@pytest.mark.parametrize(
    ("frame", "settings", "words"),
    [
        (reviews(), {"text": "text"}, "no column 'text'"),
        (reviews(), {"label": "label"}, "no column 'label'"),
        (reviews(labels=["a"]), {}, "one class only"),
        (reviews(2), {}, "usable rows|one class only"),
        (reviews().iloc[:0], {}, "has no row"),
        (reviews(labels=[None]), {}, "no label"),
        (reviews(labels=[f"label {i}" for i in range(ROWS)]), {}, "no classes"),
        (reviews(labels=[["a"], ["a", "a"], []]), {}, "1 different labels"),
        (reviews(labels=["a"]), {"kind": "multi_label"}, "1 different labels"),
        (reviews(labels=[["a"], "b"]), {}, "one label a row"),
        (reviews(), {"text": "stars", "label": "review"}, "not a text"),
        (reviews(), {"text_pair": "review"}, "columns of their own"),
    ],
)
def test_what_no_task_can_be_made_of_is_refused(
    tmp_path: Path, own_store: Path, frame: pd.DataFrame, settings: dict[str, Any], words: str
) -> None:
    """One sentence, and nothing is left in the store."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    with pytest.raises(DataError, match=words):
        made(path, **settings)
    assert [] == list(own_store.glob("tasks/*"))
    assert [] == list(own_store.glob("tasks/.*"))


def test_class_names() -> None:
    """4 and 4.0 are one class, and true is not 1."""
    assert ["4", "4", "4.5", "true", "x"] == [class_name(x) for x in (4, 4.0, 4.5, True, "x")]


def test_a_table_of_settings_names_the_file(tmp_path: Path) -> None:
    """In TOML, in an override and in a sweep the file becomes the task, and no path is kept."""
    path = save(tmp_path / "in.csv", reviews())
    table = f'[data]\nfile = "{path}"\ntext = "review"\nlabel = "stars"\nmax_length = 64\n'
    (tmp_path / "own.toml").write_text(table)
    config = load_config(str(tmp_path / "own.toml"))
    assert config.task == made(path).name
    assert 64 == config.data.max_length
    again = load_config(
        "rotten_tomatoes_ltp",
        [f"data.file={path}", "data.text=review", "data.label=stars"],
    )
    assert again.task == config.task
    (tmp_path / "sweep.toml").write_text(
        f'title = "own"\npreset = "{tmp_path / "own.toml"}"\n[[runs]]\nseeds = [0, 1]\n'
    )
    planned = make_plan(load_sweep(str(tmp_path / "sweep.toml")))
    assert {config.task} == {each.config.task for each in planned}
    for missing in ("text", "label"):
        (tmp_path / "bad.toml").write_text(table.replace(f"{missing} =", "# "))
        with pytest.raises(Exception, match=rf"data\.{missing}"):
            load_config(str(tmp_path / "bad.toml"))


def test_a_task_beside_a_file_is_refused(tmp_path: Path) -> None:
    """A preset's task gives way to a file; one that the user names contradicts it."""
    path = save(tmp_path / "in.csv", reviews())
    own = ["--data", str(path), "--text", "review", "--label", "stars", "--dry-run"]
    assert 0 == run("train", "sst2_ltp", *own).status
    table = f'task = "sst2"\n[data]\nfile = "{path}"\ntext = "review"\nlabel = "stars"\n'
    (tmp_path / "own.toml").write_text(table)
    for arguments in (
        ("train", "sst2_ltp", "task=sst2", *own),
        ("train", str(tmp_path / "own.toml"), "--dry-run"),
    ):
        ran = run(*arguments)
        assert 2 == ran.status
        assert "leave one out" in ran.stderr


def test_the_data_is_shown_before_anything_trains(tmp_path: Path, own_store: Path) -> None:
    """Kind, splits, balance, lengths and lost rows; with --dry-run nothing is trained."""
    frame = reviews(labels=["bad", "good", "good"])
    frame.loc[0, "review"] = ""
    path = save(tmp_path / "in.csv", frame)
    arguments = ("train", "--data", str(path), "--text", "review", "--label", "stars")
    ran = run(*arguments, "--dry-run", "data.max_length=4", "--json")
    assert 0 == ran.status, ran.stderr
    for words in (
        "guessed from 2 different labels",
        "bad",
        "train",
        " %",
        "in.csv, line 2",
        "median",
        "longer than",
    ):
        assert words in ran.stderr
    document = json.loads(ran.stdout)
    assert document["name"].startswith(f"{document['task']}-ltp_s-")
    assert ["tasks"] == [path.name for path in own_store.iterdir()]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--data"),
        (("--text", "review"), "--data"),
        (("--data", "in.csv", "--text", "review"), "--label"),
        (("--data", "none.csv", "--text", "a", "--label", "b"), "no file"),
    ],
)
def test_half_a_file_is_refused(arguments: tuple[str, ...], words: str) -> None:
    """What is missing is named."""
    ran = run("train", *arguments)
    assert 2 == ran.status
    assert words in ran.stderr


@pytest.mark.parametrize(
    ("labels", "settings"),
    [
        ([["fast", "cheap"], ["fast"], []], {}),
        (["['fast', 'cheap']", '["fast"]', "[]"], {}),
        (["cheap; fast", "fast", "|"], {"kind": "multi_label"}),
    ],
)
def test_any_number_of_labels(tmp_path: Path, labels: list[Any], settings: dict[str, Any]) -> None:
    """Lists, lists spelt out, or labels with signs between them: which hold is a row of 0 and 1."""
    path = tmp_path / "in.jsonl"
    frame = reviews(labels=labels)
    path.write_text("".join(json.dumps(row) + "\n" for row in frame.to_dict("records")))
    task = made(path, **settings)
    assert ("multi_label", ("cheap", "fast")) == (task.kind, task.label_names)
    rows = load_rows(task.name, "train")
    expected = {text: [[1, 1], [0, 1], [0, 0]][i % 3] for i, text in enumerate(frame["review"])}
    assert [expected[text] for (text,) in rows.texts] == rows.labels.tolist()
    assert find_task(task.name).is_multi_label


def test_what_is_written_for_no_number_is_no_label(tmp_path: Path) -> None:
    """NaN in a table is a label that is missing, not a class of that name."""
    frame = reviews(labels=["good", "bad"]).astype({"stars": object})
    frame.loc[[0, 3], "stars"] = ["NaN", "nan"]
    task = made(save(tmp_path / "in.csv", frame))
    assert ("bad", "good") == task.label_names
    assert 2 == task.left_out["no label"].count


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        (
            {"id": range(9), "text": ["long " * 9] * 9, "stars": [1, 2, 3] * 3},
            ("text", None, "stars"),
        ),
        ({"a": ["some words"] * 9, "b": [0, 1, 0] * 3, "n": range(9)}, ("a", None, "b")),
        (
            {"premise": ["a man"] * 9, "hypothesis": ["somebody"] * 9, "label": [0, 1, 2] * 3},
            ("premise", "hypothesis", "label"),
        ),
        ({"text": [f"text {i}" for i in range(9)], "id": range(9)}, ("text", None, None)),
    ],
)
def test_columns_are_guessed(
    tmp_path: Path, columns: dict[str, Any], expected: tuple[str | None, ...]
) -> None:
    """Usual names first, then what repeats; an index is no label."""
    pd.DataFrame(columns).to_csv(tmp_path / "in.csv", index=False)
    found = suggest(tmp_path / "in.csv")
    assert expected == (found.text, found.text_pair, found.label)
    assert (tuple(columns), 5) == (found.columns, len(found.first))


def test_what_is_no_task_stays_unknown() -> None:
    """A name of another machine's data is no task here, and names near it are shown."""
    assert known_task("reviews_01234567") is None
    assert known_task("../runs") is None
    assert known_task(None) is None


def test_several_labels_the_whole_way(tmp_path: Path) -> None:
    """From lists of labels to a pruned run for every budget that names those that hold."""
    base = tiny.save_hugging_face("bert", tmp_path / "base")
    words = {"dull": ["slow"], "great": ["fun", "new"], "movie": []}
    texts = [list(words)[i % 3] for i in range(150)]
    frame = pd.DataFrame(
        {
            "review": [f"{word} {tiny.WORDS[i % 40]} {i}" for i, word in enumerate(texts)],
            "tags": [words[word] for word in texts],
        }
    )
    path = tmp_path / "in.jsonl"
    frame.to_json(path, orient="records", lines=True)
    fast = [f"{stage}.{x}" for stage in ("finetune", "hard") for x in ("epochs=2", "batch_size=8")]
    own = ["--data", str(path), "--text", "review", "--label", "tags"]
    ran = run("train", *own, f"base={base}", "data.max_length=16", *fast, "--json")
    assert 0 == ran.status, ran.stderr
    document = json.loads(ran.stdout)
    metrics = document["summary"]["validation"]["metrics"]
    assert ["f1", "micro_f1", "exact_match"] == list(metrics)
    examples = pd.read_parquet(Path(document["folder"]) / "examples.parquet")
    names = ("fun", "new", "slow")
    rows = load_rows(str(document["name"]).split("-")[0], "validation")
    mine = examples[examples["split"] == "validation"]
    said = mine[[f"logit_{i}" for i in range(3)]].to_numpy() >= 0
    hits, whole = (said & (rows.labels == 1)).sum(1), said.sum(1) + rows.labels.sum(1)
    f1 = [1.0 if w == 0 else 2 * h / w for h, w in zip(hits, whole, strict=True)]
    assert metrics["f1"] == pytest.approx(sum(f1) / len(f1))
    out = tmp_path / "out.jsonl"
    assert (
        0
        == run("predict", document["name"], str(path), "--text", "review", "--out", str(out)).status
    )
    found = [json.loads(line)["predicted_labels"] for line in out.read_text().splitlines()]
    assert {name for each in found for name in each} <= set(names)
    assert 0 == run("evaluate", document["name"]).status
    assert 0 == run("robustness", str(document["name"]).split("-")[0], "--json").status


def test_the_whole_way(tmp_path: Path) -> None:
    """From a file to a pruned run with its own label names, which every command takes."""
    base = tiny.save_hugging_face("bert", tmp_path / "base")
    frame = reviews(120, labels=["so-so", "very good"])
    frame["review"] = [f"{'dull' if i % 2 == 0 else 'great'} movie {i}" for i in range(120)]
    path = save(tmp_path / "in.csv", frame)
    stage = "{ epochs = 1, batch_size = 8, learning_rate = 0.01 }"
    (tmp_path / "own.toml").write_text(
        f'''base = "{base}"
data = {{ file = "{path}", text = "review", label = "stars", max_length = 16 }}
method = {{ name = "ltp" }}
finetune = {stage}
soft = {stage}
hard = {stage}
'''
    )
    ran = run("train", str(tmp_path / "own.toml"), "--json")
    assert 0 == ran.status, ran.stderr
    name = json.loads(ran.stdout)["name"]
    task = name.split("-")[0]
    evaluated = run("evaluate", name, "--json", "--split", "test")
    document = json.loads(evaluated.stdout)
    assert (task, "own data") == (document["task"], document["dataset"]["source"][:8])
    assert len(load_rows(task, "test")) == document["rows"]
    out = tmp_path / "out.csv"
    assert 0 == run("predict", name, str(path), "--out", str(out)).status
    assert {"so-so", "very good"} >= set(pd.read_csv(out)["predicted_label"])
    assert task in run("lengths", task, "--json").stdout
    assert 0 == run("robustness", task, "--json").status
    assert 0 == run("calibrate", name, "--data", str(path), "--target-relative-flops", "0.9").status


@pytest.fixture
def on_hub(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A data set of the hub with named classes and a hidden label; what was asked for."""
    datasets = pytest.importorskip("datasets")
    asked: list[tuple[Any, ...]] = []

    def load_dataset(path: str, config: str) -> Any:
        asked.append((path, config))
        features = datasets.Features(
            {
                "review": datasets.Value("string"),
                "stars": datasets.ClassLabel(names=["bad", "good"]),
            }
        )
        frame = reviews(60, (0, 1))
        parts = {"train": frame[:40], "validation": frame[40:50], "test": frame[50:]}
        tables = {
            split: {"review": part["review"].tolist(), "stars": part["stars"].tolist()}
            for split, part in parts.items()
        }
        tables["test"]["stars"][0] = -1
        return datasets.DatasetDict(
            {split: datasets.Dataset.from_dict(t, features=features) for split, t in tables.items()}
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(hub, "is_cached", lambda path, config: path == "owner/reviews")
    return asked


def test_a_data_set_of_the_hub_is_checked_like_a_file(
    on_hub: list[tuple[Any, ...]], own_store: Path
) -> None:
    """Splits and names of classes are its own; a hidden label is left out, and nothing else stays behind."""
    columns = ["data.text=review", "data.label=stars"]
    config = load_config("own_ltp_s", ['data.file="hub:owner/reviews:en"', *columns])
    assert [("owner/reviews", "en")] == on_hub
    task = find_task(config.task)
    assert ("bad", "good") == task.label_names
    rows = {split: len(load_rows(config.task, split).texts) for split in ("validation", "test")}
    assert {"validation": 10, "test": 9} == rows
    assert [config.task] == [path.name for path in (own_store / "tasks").iterdir()]
    again = load_config("own_ltp_s", ['data.hub="owner/reviews:en"', *columns])
    assert again.name == config.name


def test_a_data_set_that_is_not_here_is_one_sentence(on_hub: list[tuple[Any, ...]]) -> None:
    """Nothing is fetched unasked; two names, or a column that it lacks, are refused as well."""
    ran = run(
        "train", "--data", "hub:owner/other", "--text", "review", "--label", "stars", "--dry-run"
    )
    assert 2 == ran.status
    assert "LTP_ALLOW_DOWNLOADS=1" in ran.stderr
    assert [] == on_hub
    with pytest.raises(DataError, match="no column 'words'; it has review, stars"):
        load_config(
            "own_ltp_s", ['data.hub="owner/reviews"', "data.text=words", "data.label=stars"]
        )
    with pytest.raises(UserError, match="leave one out"):
        load_config(
            "own_ltp_s",
            ['data.hub="owner/reviews"', "data.file=a.csv", "data.text=review", "data.label=stars"],
        )
