"""Own files: what they hold is counted, and every problem is a sentence that names the place."""

from __future__ import annotations

import csv
import json
import re
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.tasks import files
from ltp_core.tasks.files import CHUNK_ROWS, DataError, look, read_chunks, split_files

texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=30)
tables = st.lists(st.tuples(texts, texts), min_size=1, max_size=20)


def read(path: Path, *columns: str) -> list[tuple[str, ...]]:
    """All texts of a file."""
    return [text for chunk in read_chunks(path, columns) for text in chunk.texts]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    """A file of the format that its suffix says, with the columns `a` and `b,c`."""
    names = ("a", "b,c")
    if path.suffix in (".csv", ".tsv"):
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writerows([names, *rows])
    elif path.suffix == ".parquet":
        columns = [list(column) for column in zip(*rows, strict=True)]
        pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)
    else:
        objects = [dict(zip(names, row, strict=True)) for row in rows]
        lines = [json.dumps(o, ensure_ascii=len(objects) % 2 == 0) for o in objects]
        text = json.dumps(objects) if path.suffix == ".json" else "\n".join(lines)
        path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "ndjson", "json", "parquet"])
@given(rows=tables)
def test_every_format_gives_back_its_texts(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, rows: list[tuple[str, str]]
) -> None:
    """Commas, quotes, line breaks, other scripts: texts come back as they went in."""
    if suffix == "tsv":  # there a tab or a line break within a text is an end of it
        rows = [(re.sub("[\t\r\n]", " ", a), re.sub("[\t\r\n]", " ", b)) for a, b in rows]
    path = write(tmp_path_factory.mktemp("data") / f"mine.{suffix}", rows)
    assert read(path, "a", "b,c") == rows
    assert read(path, "b,c") == [(second,) for _, second in rows]


def test_a_long_file_is_read_in_chunks(tmp_path: Path) -> None:
    """Progress goes from 0 to 1, and no chunk is larger than the others."""
    path = tmp_path / "long.csv"
    path.write_text("text\n" + "some words\n" * (2 * CHUNK_ROWS + 5), encoding="utf-8")
    chunks = list(read_chunks(path, ["text"]))
    assert [CHUNK_ROWS, CHUNK_ROWS, 5] == [len(chunk.texts) for chunk in chunks]
    fractions = [chunk.fraction or 0.0 for chunk in chunks]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_rows_without_a_text_are_left_out_and_counted(tmp_path: Path) -> None:
    """Null in JSON lines and Parquet; an empty cell of a CSV is an empty text."""
    path = tmp_path / "mine.jsonl"
    path.write_text('{"t": "one"}\n\n{"t": null}\n{"u": 1}\n{"t": ""}\n', encoding="utf-8")
    (chunk,) = read_chunks(path, ["t"])
    assert ([("one",), ("",)], 2) == (chunk.texts, chunk.left_out)
    pq.write_table(pa.table({"t": ["one", None]}), tmp_path / "mine.parquet")
    (chunk,) = read_chunks(tmp_path / "mine.parquet", ["t"])
    assert ([("one",)], 1) == (chunk.texts, chunk.left_out)


def test_a_byte_order_mark_and_a_semicolon_are_no_problem(tmp_path: Path) -> None:
    """As spreadsheets write CSV."""
    path = tmp_path / "mine.csv"
    path.write_bytes("\ufefftext;label\r\nzwei Wörter, ein Komma;1\r\n\r\n".encode())
    assert read(path, "text") == [("zwei Wörter, ein Komma",)]


def test_look_suggests_the_longest_text(tmp_path: Path) -> None:
    """Numbers are no text; of the texts the longest is suggested."""
    path = tmp_path / "mine.csv"
    path.write_text(
        "id,title,body,score\n1,hm,a long body,0.5\n2,oh,another one,-1\n", encoding="utf-8"
    )
    found = look(path)
    assert ("id", "title", "body", "score") == found.columns
    assert (("title", "body"), "body") == (found.text_columns, found.suggested)


BAD: dict[str, tuple[bytes, str]] = {
    "empty.csv": (b"", "has no row"),
    "header.csv": (b"text,label\n", "has no row"),
    "latin.csv": ("text\nfine\ncafé\n".encode("latin-1"), "latin.csv, line 3: not UTF-8"),
    "wide.csv": ("text\nfine\n".encode("utf-16"), "is UTF-16: save it as UTF-8"),
    "ragged.csv": (b"text,label\nfine,1\none, two,0\n", "line 3: 3 fields where the header has 2"),
    "quote.csv": (
        b'text,label\nfine,0\n"never ends,1\nfine,1\n',
        "line 3: the row that begins here",
    ),
    "half.tsv": (b'text\tlabel\n"never ends\n', "line 2: the row that begins here"),
    "numbers.csv": (b"a,b\n1,2\n3,4\n", "no column of text; its columns are a, b"),
    "empty.jsonl": (b"\n\n", "has no row"),
    "broken.jsonl": (b'{"text": "fine"}\n{"text": \n', "broken.jsonl, row 2: not JSON"),
    "list.jsonl": (b'["text"]\n', "row 1: a list where an object"),
    "mixed.jsonl": (b'{"text": "fine"}\n{"text": 7}\n', "no column of text"),
    "row.json": (b'[{"text": "fine"}, 3]', "row 2: a number where an object"),
    "latin.jsonl": ('{"text": "café"}\n'.encode("latin-1"), "line 1: not UTF-8"),
    "deep.json": (b"[" * 100_000, "cannot be read"),
    "broken.parquet": (b"PAR1 and then nothing", "cannot be read"),
    "book.xlsx": (b"PK", "only files that end in .csv"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_one_sentence(name: str, tmp_path: Path) -> None:
    """Wrong encoding, ragged rows, no text, damage: the file, the place, what to do."""
    content, part = BAD[name]
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        look(path)
    assert part in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_goes_wrong_far_below_is_named(tmp_path: Path) -> None:
    """A number among ten thousand texts, a byte that is no UTF-8, a wrong column."""
    lines = ['{"text": "fine"}\n'] * 10_000
    path = tmp_path / "mine.jsonl"
    path.write_text("".join([*lines, '{"text": [1]}\n']), encoding="utf-8")
    assert look(path).text_columns == ("text",)
    with pytest.raises(DataError, match=r"row 10001: column 'text' holds a list, not a text"):
        read(path, "text")
    with pytest.raises(DataError, match=r"has no column 'review'; it has text\."):
        read(path, "review")
    path.write_bytes("".join(lines).encode() + b'{"text": "\xff"}\n')
    with pytest.raises(DataError, match=r"line 10001: not UTF-8"):
        read(path, "text")


def test_parquet_columns_must_be_text(tmp_path: Path) -> None:
    """Numbers and lists are refused with their type; dictionaries of texts are texts."""
    path = tmp_path / "mine.parquet"
    words = pa.array(["one", "two", "one"]).dictionary_encode()
    pq.write_table(pa.table({"n": [1, 2, 3], "many": [["a"], [], []], "text": words}), path)
    assert look(path).text_columns == ("text",)
    assert read(path, "text") == [("one",), ("two",), ("one",)]
    with pytest.raises(DataError, match="row 1: column 'n' holds a number, not a text"):
        read(path, "n")


@pytest.mark.parametrize(
    "line", ['"bad" story , the end', '"never closed', 'so-called "art"', '""']
)
def test_quotation_marks_in_a_tsv_belong_to_the_texts(tmp_path: Path, line: str) -> None:
    """Where every line has its fields, rows are lines, and none is swallowed by a mark."""
    path = tmp_path / "mine.tsv"
    path.write_text(f"text\tlabel\nfine\t1\n{line}\t0\nlast\t1\n", encoding="utf-8")
    assert look(path).text_columns == ("text",)
    found = read(path, "text")
    assert 3 == len(found)
    assert (line if line != '""' else "") == found[1][0]


def test_a_quoted_text_of_two_lines_in_a_tsv_is_one(tmp_path: Path) -> None:
    """As spreadsheets write it; a wholly quoted text loses its marks, doubled ones are single."""
    path = tmp_path / "mine.tsv"
    path.write_text('text\tlabel\n"two\nlines"\t1\n"said ""no"""\t0\n', encoding="utf-8")
    assert read(path, "text") == [("two\nlines",), ('said "no"',)]
    path.write_text('text\tlabel\n"said ""no"""\t0\n', encoding="utf-8")
    assert read(path, "text") == [('said "no"',)]


def test_excels_separator_line_and_commas_in_a_header(tmp_path: Path) -> None:
    """`sep=;` names the separator; commas within quotation marks or in texts are none."""
    path = tmp_path / "mine.csv"
    path.write_text('sep=;\nid;text\n0;"one, two"\n1;three\n', encoding="utf-8")
    assert look(path).columns == ("id", "text")
    assert read(path, "text") == [("one, two",), ("three",)]
    path.write_text('"text, in English";"note, of mine, on it"\n"a, b";"x"\n', encoding="utf-8")
    assert read(path, "text, in English") == [("a, b",)]


def test_a_column_may_begin_with_nothing(tmp_path: Path) -> None:
    """Hundreds of nulls before the first text; NaN, as other programs write it, is nothing too."""
    path = tmp_path / "mine.jsonl"
    path.write_text('{"t": null}\n' * 300 + '{"t": NaN}\n{"t": "one"}\n', encoding="utf-8")
    assert look(path).text_columns == ("t",)
    (chunk,) = read_chunks(path, ["t"])
    assert ([("one",)], 301) == (chunk.texts, chunk.left_out)


def test_every_type_of_text_in_parquet_is_read(tmp_path: Path) -> None:
    """Large strings and string views, as polars writes them."""
    for kind in (pa.string(), pa.large_string(), pa.string_view()):
        pq.write_table(pa.table({"t": pa.array(["one", None], kind)}), tmp_path / "mine.parquet")
        (chunk,) = read_chunks(tmp_path / "mine.parquet", ["t"])
        assert ([("one",)], 1) == (chunk.texts, chunk.left_out)


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl", "parquet"])
def test_what_is_held_at_once_is_bounded(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A line or a text beyond the limit is refused with the limit; chunks stay small."""
    monkeypatch.setattr(files, "MAX_CHARACTERS", 1_000)
    path = write(tmp_path / f"mine.{suffix}", [("x" * 900, "y")] * 3)
    assert [2, 1] == [len(chunk.texts) for chunk in read_chunks(path, ["a", "b,c"])]
    write(path, [("fine", "y"), ("x" * 1_001, "y")])
    with pytest.raises(DataError, match=r"(line 3|row 2|line 2).* at most 1,000 characters"):
        read(path, "a")


def test_a_very_long_line_takes_little_memory(tmp_path: Path) -> None:
    """40 MB without a line break: refused after the limit, not read to its end."""
    path = tmp_path / "mine.csv"
    path.write_text("text\n" + "word " * 8_000_000, encoding="utf-8")
    tracemalloc.start()
    with pytest.raises(DataError, match=r"line 2: a line has at most 4,000,000 characters"):
        read(path, "text")
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()


def test_a_column_that_occurs_twice_is_refused(tmp_path: Path) -> None:
    """Which one would be meant?"""
    path = tmp_path / "mine.csv"
    path.write_text("text,text\na,b\n", encoding="utf-8")
    with pytest.raises(DataError, match="twice"):
        read(path, "text")


def test_a_folder_is_split_by_file_names(tmp_path: Path) -> None:
    """Shards belong together; a folder `data` is looked into; other files are left alone."""
    for name in ("train-00000-of-00002.csv", "train-00001-of-00002.csv", "test.jsonl", "a.md"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / name).write_text("x", encoding="utf-8")
    found = split_files(tmp_path)
    assert {"train": 2, "test": 1} == {name: len(paths) for name, paths in found.items()}
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no file that ends in"):
        split_files(tmp_path / "empty")
