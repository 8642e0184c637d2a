"""Stores of tiny models for the pages, saved once a process."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from streamlit.components.v2 import manifest_scanner

from tests import app_samples


@pytest.fixture(scope="session", autouse=True)
def _components_are_found_once() -> Iterator[None]:
    """Every session of `AppTest` looks for components in all installed packages, for longer than it runs."""
    found = functools.cache(manifest_scanner.scan_component_manifests)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(manifest_scanner, "scan_component_manifests", found)
        yield


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of tiny models; read-only, copy it to change it."""
    return app_samples.save_store(tmp_path_factory.mktemp("models"))


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """The same to change."""
    return Path(shutil.copytree(models, tmp_path / "models"))


@pytest.fixture
def models_in_use(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store that the pages see."""
    monkeypatch.setenv("LTP_STORE", str(models))
