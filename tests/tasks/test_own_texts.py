"""Texts drawn from a user's own file: formats, columns, the draw, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from ltp_core.tasks.files import DataError
from ltp_core.tasks.own_texts import OwnTexts, sample_texts

TEXTS = [f"text number {i}" for i in range(20)]


def save(path: Path, content: Any) -> Path:
    """Lines of text, or a table in the format of the suffix."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif isinstance(content, list):
        path.write_text("".join(f"{line}\n" for line in content), encoding="utf-8")
    elif path.suffix == ".csv":
        content.to_csv(path, index=False)
    elif path.suffix == ".jsonl":
        path.write_text(content.to_json(orient="records", lines=True))
    else:
        content.to_parquet(path)
    return path


def drawn(path: Path, *columns: str, rows: int = 100, **settings: Any) -> OwnTexts:
    """All texts of a small file."""
    return sample_texts(path, columns, rows=rows, **settings)


def test_a_text_a_line(tmp_path: Path) -> None:
    """Empty lines do not count, spaces at the ends go, a byte order mark is no text."""
    path = save(tmp_path / "a.txt", "\ufefffirst  \n\n  second\r\n\t\nthird".encode())
    found = drawn(path)
    assert [("first",), ("second",), ("third",)] == found.texts
    assert (3, 2, ()) == (found.total, found.left_out, found.columns)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_a_column_of_a_table(suffix: str, tmp_path: Path) -> None:
    """The only text column, one by name, or two; numbers are no texts."""
    frame = pd.DataFrame({"stars": range(20), "text": TEXTS})
    path = save(tmp_path / f"a{suffix}", frame)
    assert [(text,) for text in TEXTS] == drawn(path).texts == drawn(path, "text").texts
    pairs = save(tmp_path / f"b{suffix}", frame.assign(other=TEXTS[::-1]))
    assert list(zip(TEXTS[::-1], TEXTS, strict=True)) == drawn(pairs, "other", "text").texts
    chosen = drawn(pairs, expected=("text", "other"), is_pair=True)
    assert ("text", "other") == chosen.columns


def test_a_draw_is_repeatable_in_order_and_nested(tmp_path: Path) -> None:
    """Fewer rows are a subset of more, in the order of the file, and the hash is of the texts."""
    path = save(tmp_path / "a.txt", TEXTS)
    few, more = drawn(path, rows=5), drawn(path, rows=12)
    assert few == drawn(path, rows=5)
    assert (5, 20) == (len(few.texts), few.total)
    assert set(few.texts) < set(more.texts) < {(text,) for text in TEXTS}
    order = [TEXTS.index(text) for (text,) in more.texts]
    assert order == sorted(order) != list(range(12))
    assert few.sha256 != more.sha256
    copy = save(tmp_path / "b.txt", TEXTS)
    assert few.sha256 == drawn(copy, rows=5).sha256


@pytest.mark.parametrize(
    ("name", "content", "columns", "settings", "words"),
    [
        ("none.txt", None, (), {}, "There is no file"),
        ("a.txt", [], (), {}, "has no text"),
        ("a.txt", ["", "  "], (), {}, "has no text"),
        ("a.txt", b"caf\xe9\n", (), {}, "not UTF-8"),
        ("a.txt", ["x"], ("text",), {}, "one text a line and no columns"),
        ("a.txt", ["x"], (), {"is_pair": True}, "give two texts per input"),
        ("a.doc", ["x"], (), {}, r"only files that end in \.txt, \.csv"),
        ("a.csv", {"n": [1, 2]}, (), {}, "no column of text"),
        ("a.csv", {"a": ["x"], "b": ["y"]}, (), {}, r"a, b, and .* one or two texts.*--column"),
        ("a.csv", {"a": ["x"], "b": ["y"]}, (), {"is_pair": False}, "one text: choose one"),
        ("a.csv", {"a": ["x"], "b": ["y"]}, (), {"is_pair": True}, "two texts: choose both"),
        ("a.csv", {"a": ["x"], "b": ["y"]}, ("a",), {"is_pair": True}, "1 columns were named"),
        ("a.csv", {"a": ["x"], "b": ["y"]}, ("a", "b"), {"is_pair": False}, "2 columns were"),
        ("a.csv", {"a": ["x"]}, ("a", "b", "c"), {}, "3 columns were named"),
        ("a.csv", {"a": ["x"]}, ("b",), {}, "has no column 'b'; it has a"),
        ("a.parquet", b"PAR1 no", (), {}, "cannot be read"),
        ("a.jsonl", ["{"], (), {}, "not JSON"),
    ],
)
def test_what_cannot_be_used_is_said(
    name: str, content: Any, columns: tuple[str, ...], settings: Any, words: str, tmp_path: Path
) -> None:
    """One sentence."""
    path = tmp_path / name
    if content is not None:
        save(path, pd.DataFrame(content) if isinstance(content, dict) else content)
    with pytest.raises(DataError, match=words) as error:
        drawn(path, *columns, **settings)
    assert "\n" not in str(error.value)


def test_rows_that_lack_a_text_are_left_out(tmp_path: Path) -> None:
    """A pair needs both."""
    rows = [{"a": "x", "b": "y"}, {"a": None, "b": "y"}, {"a": "x", "b": "z"}]
    path = save(tmp_path / "a.jsonl", [json.dumps(row) for row in rows])
    found = drawn(path, "a", "b")
    assert ([("x", "y"), ("x", "z")], 1) == (found.texts, found.left_out)
