"""README, CONTRIBUTING and the documents say what is true: commands parse, files and names exist."""

from __future__ import annotations

import ast
import re
import shlex
from pathlib import Path

import pytest

from ltp_core.cli.main import build_parser
from ltp_core.config import load_config
from ltp_core.store import list_runs
from tests.source_trees import ROOT, tree

DOCUMENTS = (
    "README.md",
    "CONTRIBUTING.md",
    "docs/cluster.md",
    "docs/development.md",
    "docs/methods.md",
    "docs/performance.md",
    "docs/python.md",
    "docs/results.md",
    "data_cache/README.md",
)


def read(document: str) -> str:
    """Text of a document."""
    return (ROOT / document).read_text(encoding="utf-8")


def commands(document: str) -> list[list[str]]:
    """Arguments of every `python -m ltp_core` line in a document."""
    lines = re.findall(r"^python -m ltp_core (.+)$", read(document), flags=re.MULTILINE)
    return [shlex.split(line, comments=True) for line in lines]


COMMANDS = [arguments for document in DOCUMENTS for arguments in commands(document)]


def test_every_command_of_a_document_parses() -> None:
    """What a document says to type is understood, and the presets that it names exist."""
    for arguments in COMMANDS:
        parsed = build_parser().parse_args(arguments)
        if getattr(parsed, "preset", None):
            assert load_config(parsed.preset, parsed.overrides).name, arguments


SHIPPED = list_runs([ROOT / "data_cache" / "sample"])
NAMED = {words[1] for words in COMMANDS if words[0] in {"trace", "evaluate", "bench"}}


@pytest.mark.skipif(not SHIPPED, reason="the sample store is empty")
@pytest.mark.parametrize("checkpoint", sorted(NAMED))
def test_every_checkpoint_of_a_document_is_shipped(
    checkpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The names in the documents' commands, short ones as a rule, stand for one shipped checkpoint each."""
    from ltp_core.checkpoint import load_checkpoint

    monkeypatch.setenv("LTP_STORE", str(tmp_path))
    assert f"{load_checkpoint(checkpoint).name}-".startswith(f"{checkpoint}-")


@pytest.mark.skipif(not SHIPPED, reason="the sample store is empty")
def test_what_a_document_trains_again_is_shipped() -> None:
    """With --force it is a run that is stored."""
    parsed = [build_parser().parse_args(c) for c in COMMANDS if c[0] == "train"]
    again = [load_config(p.preset, p.overrides).name for p in parsed if p.force]
    assert again
    assert set(again) <= {entry.name for entry in SHIPPED}


def test_every_link_leads_somewhere() -> None:
    """Links to files of the repository have a file behind them."""
    for document in DOCUMENTS:
        folder = (ROOT / document).parent
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", read(document)):
            if "://" not in target:
                assert (folder / target).exists(), (document, target)


def test_every_file_that_is_named_exists() -> None:
    """A path in backticks is a path of the repository."""
    pattern = r"`((?:app|data_cache|docs|ltp_core|pages|tests)/[\w./*-]+)`"
    for document in DOCUMENTS:
        if document.startswith("data_cache"):
            continue  # there, paths are those of the folder
        for path in re.findall(pattern, read(document)):
            is_example = "/my_" in path or path == "data_cache/local"
            assert is_example or (ROOT / path).exists(), (document, path)


def references() -> list[tuple[str, str]]:
    """Every `file.py::name` in docs/methods.md."""
    return sorted(set(re.findall(r"`([\w/]+\.py)::([\w.]+)`", read("docs/methods.md"))))


def defined(node: ast.AST, names: list[str]) -> bool:
    """Whether a function, class, method, or assigned name of this dotted path is in the tree."""
    for child in ast.iter_child_nodes(node):
        own = {getattr(child, "name", None)}
        if isinstance(child, ast.Assign):
            own = {target.id for target in child.targets if isinstance(target, ast.Name)}
        if isinstance(child, ast.AnnAssign) and isinstance(child.target, ast.Name):
            own = {child.target.id}
        if names[0] in own:
            return len(names) == 1 or defined(child, names[1:])
    return False


def test_everything_the_paper_index_points_to_exists() -> None:
    """docs/methods.md names functions and tests that are there."""
    for path, name in references():
        assert defined(tree(ROOT / path), name.split(".")), (path, name)


def test_the_paper_index_covers_the_paper() -> None:
    """Every equation, table and figure of the paper has a row."""
    text = read("docs/methods.md")
    items = [f"({number})" for number in range(1, 14)]
    items += [f"Table {number}" for number in ("1", "2", "3", "A.1")]
    items += [f"Fig. {number}" for number in ("1", "2", "4", "5", "6", "7", "A.1", "A.2", "A.3")]
    items += ["Algorithm 1", "§4.1", "§4.4"]
    for item in items:
        assert re.search(rf"^\|[^|]*{re.escape(item)}", text, flags=re.MULTILINE), item


def test_the_readme_is_short() -> None:
    """At most 900 words, so that it is read."""
    words = [word for word in read("README.md").split() if re.search(r"\w", word)]
    assert len(words) <= 900
