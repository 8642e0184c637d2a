"""Scoring a file: the rows stay, predictions are those of one text alone, and nothing is lost."""

from __future__ import annotations

import errno
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from ltp_core.checkpoint import load_checkpoint
from ltp_core.predicting import join
from ltp_core.predicting import predict as module
from ltp_core.predicting.predict import predict_file, predict_stream, stream_lines, stream_rows
from ltp_core.predicting.scoring import Scorer
from ltp_core.records import UserError
from ltp_core.trace import predict_text
from tests import tiny
from tests.checkpoints import PAIRS, QUESTIONS, REVIEWS, save_questions
from tests.commands import Ran, run

TEXTS = [" ".join(tiny.WORDS[i % 7 : i % 7 + 1 + i % 9]) for i in range(25)]


def save(path: Path, texts: list[Any] = TEXTS) -> Path:
    """A table of numbered texts in the format of the suffix, and a column that is kept."""
    frame = pd.DataFrame({"id": range(len(texts)), "text": texts, "note": 'a "b", ü\nc'})
    if path.suffix in (".csv", ".tsv"):
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    else:
        frame.to_parquet(path, index=False)
    return path


def load(path: Path) -> pd.DataFrame:
    """A table in the format of the suffix."""
    if path.suffix in (".csv", ".tsv"):
        return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",")
    return pd.read_json(path, lines=True) if path.suffix == ".jsonl" else pd.read_parquet(path)


def refused(ran: Ran, *parts: str) -> None:
    """Status 2 and one sentence with these parts."""
    assert 2 == ran.status, ran.stderr
    sentence = ran.stderr.splitlines()[-1]
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize("wanted", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("given", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_to_every_format(
    tiny_store: Path, tmp_path: Path, given: str, wanted: str
) -> None:
    """Rows come out in their order and as they were, each with what `trace` says of its text alone."""
    source, out = save(tmp_path / f"in{given}"), tmp_path / f"out{wanted}"
    ran = run(
        "predict", REVIEWS, str(source), "--text", "text", "--out", str(out), "--chunk-rows", "9"
    )
    assert 0 == ran.status, ran.stderr
    found, expected = load(out), load(source)
    assert [str(x) for x in found["id"]] == [str(x) for x in expected["id"]]
    pd.testing.assert_frame_equal(
        found[["text", "note"]].astype(object), expected[["text", "note"]].astype(object)
    )
    model = load_checkpoint(REVIEWS)
    for text, label, share in zip(
        TEXTS, found["predicted_label"], found["predicted_probability_positive"], strict=True
    ):
        alone = predict_text(model, text)
        assert alone.probabilities is not None
        assert label == alone.label
        assert share == pytest.approx(alone.probabilities[1], abs=1e-5)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, out.name])


def test_parquet_keeps_its_types(tiny_store: Path, tmp_path: Path) -> None:
    """Dates, bytes and lists of a Parquet file are the same afterwards, whatever the chunks."""
    frame = pd.DataFrame(
        {
            "text": TEXTS,
            "at": pd.Timestamp("2024-02-03"),
            "raw": [b"\0\1"] * 25,
            "list": [[1, 2]] * 25,
        }
    )
    frame.to_parquet(tmp_path / "in.parquet", row_group_size=4)
    arguments = [
        "predict",
        REVIEWS,
        str(tmp_path / "in.parquet"),
        "--text",
        "text",
        "--chunk-rows",
        "7",
    ]
    assert 0 == run(*arguments, "--out", str(tmp_path / "out.parquet")).status
    before, after = (pq.read_table(tmp_path / name) for name in ("in.parquet", "out.parquet"))
    assert before == after.select(before.column_names).replace_schema_metadata(
        before.schema.metadata
    )
    refused(run(*arguments, "--out", str(tmp_path / "out.csv")), "bytes", ".parquet")
    assert not (tmp_path / "out.csv").exists()


def test_json_of_several_kinds_becomes_text_in_parquet(tiny_store: Path, tmp_path: Path) -> None:
    """A column of numbers and texts is text; keys that some rows lack are null there."""
    rows = [
        {"text": "good", "x": 1},
        {"text": "bad", "x": "one", "y": 2},
        {"text": "dull", "x": [3]},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    arguments = ["predict", REVIEWS, str(tmp_path / "in.jsonl"), "--text", "text", "--out"]
    assert 0 == run(*arguments, str(tmp_path / "out.parquet")).status
    found = pq.read_table(tmp_path / "out.parquet").to_pydict()
    assert (["1", "one", "[3]"], [None, 2, None]) == (found["x"], found["y"])
    assert 0 == run(*arguments, str(tmp_path / "out.csv")).status
    assert [1, 2, 3] == list(pd.read_csv(tmp_path / "out.csv").index + 1)


@pytest.mark.parametrize(
    ("runner", "dtype", "tolerance"),
    [("masked", "float32", 1e-4), ("onnx", "float32", 1e-4), ("packed", "bfloat16", 0.3)],
)
def test_every_runner_says_the_same(
    tiny_store: Path, runner: Any, dtype: str, tolerance: float
) -> None:
    """The runner changes how it is computed, not what is said."""
    model = load_checkpoint(REVIEWS)
    texts = [(text,) for text in TEXTS]
    packed = Scorer(model)(texts).logits
    other = Scorer(model, runner=runner, dtype=dtype, batch_size=3)(texts).logits
    np.testing.assert_allclose(packed, other, atol=tolerance)


def test_an_unpruned_checkpoint_equals_transformers(
    hugging_face_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """A Hugging Face folder labels a file as transformers' own pipeline does."""
    import transformers

    folder = hugging_face_folder("bert")
    tokenizer = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(folder / "tokenizer.json"), pad_token="[PAD]"
    )
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    pipeline = transformers.pipeline("text-classification", model=network, tokenizer=tokenizer)
    source, out = save(tmp_path / "in.csv"), tmp_path / "out.jsonl"
    predict_file(Scorer(load_checkpoint(str(folder))), source, ["text"], out)
    theirs = pipeline(TEXTS)
    ours = [json.loads(line) for line in out.read_text().splitlines()]
    assert [each["label"] for each in theirs] == [each["predicted_label"] for each in ours]
    for one, other in zip(theirs, ours, strict=True):
        share = other[f"predicted_probability_{one['label']}"]
        assert one["score"] == pytest.approx(share, abs=1e-5)


def test_a_killed_run_goes_on(tiny_store: Path, tmp_path: Path) -> None:
    """What was finished is not computed again, and no output is there before it is whole."""
    source, out = save(tmp_path / "in.csv"), tmp_path / "out.csv"
    scorer = Scorer(load_checkpoint(REVIEWS))
    predict_file(scorer, source, ["text"], tmp_path / "whole.csv", chunk_rows=6)
    chunks: list[int] = []

    def stop_after_two(rows: int, fraction: float | None) -> None:
        chunks.append(rows)
        if len(chunks) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(scorer, source, ["text"], out, chunk_rows=6, report=stop_after_two)
    assert not out.exists()
    # A part that was cut short is not trusted, and what follows is done again.
    (tmp_path / "out.csv.partial" / ".000002.parquet.tmp").write_bytes(b"PAR1")
    counts = predict_file(scorer, source, ["text"], out, chunk_rows=6)
    assert (12, 25) == (counts.resumed, counts.rows)
    assert (tmp_path / "whole.csv").read_bytes() == out.read_bytes()
    assert not (tmp_path / "out.csv.partial").exists()


def test_another_run_does_not_go_on(tiny_store: Path, tmp_path: Path) -> None:
    """Parts of another file or other settings are not used, and it is said."""
    source, out = save(tmp_path / "in.csv"), tmp_path / "out.csv"
    scorer = Scorer(load_checkpoint(REVIEWS))

    def stop(rows: int, fraction: float | None) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict_file(scorer, source, ["text"], out, chunk_rows=6, report=stop)
    said: list[str] = []
    save(source, TEXTS[::-1])
    counts = predict_file(scorer, source, ["text"], out, chunk_rows=6, notice=said.append)
    assert 0 == counts.resumed
    assert ["source changed" in sentence for sentence in said] == [True]
    assert list(reversed(TEXTS)) == list(load(out)["text"])


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("count", [len(TEXTS) - 1, len(TEXTS) + 1])
def test_a_source_that_changes_while_it_is_written_is_refused(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, count: int
) -> None:
    """With a row less or more than was predicted there is a sentence, and no file."""
    source, out = save(tmp_path / f"in{suffix}"), tmp_path / f"out{suffix}"

    def changed(*rest: Any) -> None:
        save(source, (2 * TEXTS)[:count])
        join.write_joined(*rest)

    monkeypatch.setattr(module, "write_joined", changed)
    ran = run("predict", REVIEWS, str(source), "--text", "text", "--out", str(out))
    assert 2 == ran.status
    assert f"in{suffix} changed meanwhile: run the same command again." in ran.stderr
    assert not out.exists()


def test_a_full_disk_loses_nothing(
    tiny_store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With no space for the output, status 2, and the next run only writes."""
    source, out = save(tmp_path / "in.csv"), tmp_path / "out.csv"
    arguments = ("predict", REVIEWS, str(source), "--text", "text", "--out", str(out))

    def full(*rest: Any) -> None:
        def no_space(*more: Any) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(join, "_write_csv", no_space)
            join.write_joined(*rest)

    with monkeypatch.context() as patch:
        patch.setattr(module, "write_joined", full)
        refused(run(*arguments), "No space is left", "run the same command again")
    assert not out.exists()
    ran = run(*arguments, "--json")
    assert (25, 25) == tuple(json.loads(ran.stdout)[key] for key in ("rows", "resumed"))
    assert 25 == len(load(out))


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_rows_without_a_text_are_counted(tiny_store: Path, tmp_path: Path, suffix: str) -> None:
    """A missing or blank text has no label; the rows are named, and stay in their places."""
    source = save(tmp_path / f"in{suffix}", ["good", None, " \t", "", "bad"])
    out = tmp_path / "out.jsonl"
    ran = run("predict", REVIEWS, str(source), "--text", "text", "--out", str(out), "--json")
    document = json.loads(ran.stdout)
    assert 3 == document["without_text"]
    # In CSV lines are counted, and each note here has two of them.
    assert document["first_without_text"] == ([4, 6, 8] if suffix == ".csv" else [2, 3, 4])
    labels = [json.loads(line)["predicted_label"] for line in out.read_text().splitlines()]
    assert [True, False, False, False, True] == [label is not None for label in labels]


def test_pairs(tiny_store: Path, tmp_path: Path) -> None:
    """Two columns make one input; one alone is refused, and so is one too many."""
    frame = pd.DataFrame({"left": TEXTS, "right": TEXTS[::-1]})
    frame.to_csv(tmp_path / "in.csv", index=False)
    source, out = str(tmp_path / "in.csv"), str(tmp_path / "out.csv")
    arguments = ["predict", PAIRS, source, "--out", out, "--text", "left"]
    refused(run(*arguments), "two texts", "--text-pair")
    assert 0 == run(*arguments, "--text-pair", "right").status
    model = load_checkpoint(PAIRS)
    expected = [predict_text(model, a, b).label for a, b in zip(TEXTS, TEXTS[::-1], strict=True)]
    assert expected == list(load(Path(out))["predicted_label"])
    refused(
        run(
            "predict",
            REVIEWS,
            source,
            "--out",
            f"{out}.csv",
            "--text",
            "left",
            "--text-pair",
            "right",
        ),
        "one text",
    )


@pytest.mark.parametrize(
    ("content", "arguments", "parts"),
    [
        (b"id,text\n1,good\n", ["--text", "review"], ["no column 'review'", "id, text"]),
        (b"", ["--text", "text"], ["no row"]),
        (b"id,text\n", ["--text", "text"], ["no row"]),
        ("id,text\n1,good\n".encode("utf-16"), ["--text", "text"], ["UTF-16", "UTF-8"]),
        (b"text,text\ngood,bad\n", ["--text", "text"], ["'text' twice"]),
        (b"text,a,a\ngood,1,2\n", ["--text", "text"], ["'a' twice"]),
        (b"text,predicted_label\ngood,1\n", ["--text", "text"], ["predicted_label", "--prefix"]),
        (b"a,b\ngood,fine\nbad,dull\n", [], ["a, b", "--text"]),
        (b"text\ngood\n", ["--text", "text", "--dtype", "int8"], ["native pass", "doctor"]),
        (b"text\ngood\n", ["--text-pair", "text"], ["--text"]),
    ],
)
def test_what_cannot_be_used_is_refused(
    tiny_store: Path, tmp_path: Path, content: bytes, arguments: list[str], parts: list[str]
) -> None:
    """One sentence, status 2, and no output."""
    source, out = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_bytes(content)
    refused(run("predict", REVIEWS, str(source), "--out", str(out), *arguments), *parts)
    assert [source] == list(tmp_path.iterdir())


def test_excel_and_the_only_text_column(tiny_store: Path, tmp_path: Path) -> None:
    """A table as Excel saves it, with a byte order mark and semicolons, needs no option."""
    (tmp_path / "in.csv").write_bytes('\ufeffNr;Text\r\n1;good\r\n2;"bad; dull"\r\n'.encode())
    out = tmp_path / "out.tsv"
    assert 0 == run("predict", REVIEWS, str(tmp_path / "in.csv"), "--out", str(out)).status
    assert ["good", "bad; dull"] == list(load(out)["Text"])


def test_what_is_there_is_kept(tiny_store: Path, tmp_path: Path) -> None:
    """An output that exists is not overwritten unasked, and never the source."""
    source, out = save(tmp_path / "in.csv"), tmp_path / "out.csv"
    out.write_text("mine")
    arguments = ("predict", REVIEWS, str(source), "--text", "text", "--out")
    refused(run(*arguments, str(out)), "--force")
    assert "mine" == out.read_text()
    assert 0 == run(*arguments, str(out), "--force").status
    refused(run(*arguments, str(source), "--force"), "what is read")
    refused(run(*arguments, str(tmp_path / "out.xlsx")), ".parquet")
    refused(run("predict", REVIEWS, str(tmp_path / "none.csv")), "no file")
    refused(run("predict", REVIEWS, "-", "--out", str(tmp_path / "a.csv")), "standard output")
    refused(run("predict", REVIEWS, str(source), "--json"), "--out")


def test_questions_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What answers questions has no label for a row."""
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    save_questions(tmp_path / "store")
    source = save(tmp_path / "in.csv")
    refused(run("predict", QUESTIONS, str(source), "--out", str(tmp_path / "out.csv")), "questions")


def test_a_stream(tiny_store: Path) -> None:
    """Lines of text, or of JSON, are labelled while they come; each chunk is written at once."""
    scorer = Scorer(load_checkpoint(REVIEWS))
    written = io.StringIO()
    seen: list[int] = []

    def lines() -> Iterator[str]:
        for text in TEXTS[:6]:
            seen.append(len(written.getvalue().splitlines()))
            yield f"{text}\n"

    counts = predict_stream(
        scorer, stream_rows(lines(), ()), (), written, place="Standard input, line", chunk_rows=2
    )
    assert (6, [0, 0, 2, 2, 4, 4]) == (counts.rows, seen)
    found = [json.loads(line) for line in written.getvalue().splitlines()]
    assert TEXTS[:6] == [row["text"] for row in found]
    rows = stream_rows(['{"a": 1, "review": "good"}\n', "\n", '{"review": null}\n'], ["review"])
    assert [1, 3] == [number for number, _, _ in rows]


@pytest.mark.parametrize("line", ["good movie\n", "[1]\n", '{"text": "good"}\n'])
def test_a_stream_that_is_something_else_is_refused(line: str) -> None:
    """With a column, a line is an object that has it."""
    with pytest.raises(UserError, match="Standard input, line 1"):
        list(stream_rows([line], ["review"]))


def test_standard_input_is_utf_8_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the locale says; a byte order mark is no text, and what is too long is not held."""
    given = io.BytesIO("\ufeffgrüße\nfilm\n".encode())
    assert ["grüße\n", "film\n"] == list(stream_lines(given))
    with pytest.raises(UserError, match=r"line 2: it is not UTF-8"):
        list(stream_lines(io.BytesIO(b"good\n\xff\n")))
    monkeypatch.setattr(module, "MAX_CHARACTERS", 5)
    for line in (b"123456\n", b"1" * 60, "ß".encode() * 10):
        with pytest.raises(UserError, match="at most 5 characters"):
            list(stream_lines(io.BytesIO(line)))


@pytest.mark.parametrize(
    ("changes", "columns"),
    [
        ({"problem_type": "multi_label_classification"}, ["labels"]),
        ({"num_labels": 1}, ["value"]),
        ({"problem_type": "regression", "num_labels": 2}, ["value_1", "value_2"]),
    ],
)
def test_other_heads(tmp_path: Path, changes: dict[str, Any], columns: list[str]) -> None:
    """Independent labels are a list, of which each holds from a half on; values are numbers."""
    folder = tiny.save_hugging_face("bert", tmp_path / "model", **changes)
    source = save(tmp_path / "in.csv")
    for suffix in (".jsonl", ".csv", ".parquet"):
        out = tmp_path / f"out{suffix}"
        ran = run(
            "predict",
            str(folder),
            str(source),
            "--text",
            "text",
            "--out",
            str(out),
            "--prefix",
            "x ",
        )
        assert 0 == ran.status, ran.stderr
        assert [f"x {name}" for name in columns] == list(load(out))[3 : 3 + len(columns)]
    found = load(tmp_path / "out.jsonl")
    logits = Scorer(load_checkpoint(str(folder)))([(text,) for text in TEXTS]).logits
    if columns == ["labels"]:
        shares = found[[name for name in found if "probability" in str(name)]].to_numpy()
        np.testing.assert_allclose(shares, 1 / (1 + np.exp(-logits)), atol=1e-5)
        expected = [[f"LABEL_{i}" for i in np.flatnonzero(row >= 0.5)] for row in shares]
        assert expected == found["x labels"].tolist()
        assert expected == load(tmp_path / "out.parquet")["x labels"].map(list).tolist()
        assert expected == [json.loads(cell) for cell in load(tmp_path / "out.csv")["x labels"]]
    else:
        np.testing.assert_allclose(found[[f"x {name}" for name in columns]], logits, rtol=1e-5)
