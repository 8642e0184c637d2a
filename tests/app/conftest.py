"""Stores of tiny models for the pages, saved once a process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import streamlit as st

from tests import app_samples


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of tiny models; read-only, copy it to change it."""
    return app_samples.save_store(tmp_path_factory.mktemp("models"))


@pytest.fixture
def own_models(models: Path, tmp_path: Path) -> Path:
    """The same to change."""
    return Path(shutil.copytree(models, tmp_path / "models"))


@pytest.fixture
def models_in_use(models: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The store that the pages see, and caches of its own for every test."""
    monkeypatch.setenv("LTP_STORE", str(models))
    yield
    st.cache_data.clear()
