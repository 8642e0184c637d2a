"""Set-up that every test shares: no network, one thread, tiny models and a tiny tokenizer.

The builders live in `tests/tiny.py`, so that Hypothesis tests can call them as functions.
"""

from __future__ import annotations

import os

# Before anything imports torch or a Hugging Face library: both read these once, at import.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What is tested must not depend on whether the native pass happens to be built.
os.environ["LTP_NATIVE"] = "0"
# Triton reads it once, at import, whichever test that is in: there is no GPU to compile for.
os.environ["TRITON_INTERPRET"] = "1"

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import jaxtyping
import pytest
from hypothesis import HealthCheck, settings

# Where tensors are computed with, types and shapes can be checked at run time, from the first import on;
# an int may stand where a float is wanted.
jaxtyping.install_import_hook(
    ["ltp_core.encoder", "ltp_core.pruning", "ltp_core.runners", "ltp_core.training"],
    "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))",
)

from tests import tiny  # noqa: E402

if TYPE_CHECKING:
    from tokenizers import Tokenizer

    from tests.trainings import Workplace

# Deadlines measure the machine, not the code; the same examples every time keep CI repeatable.
settings.register_profile(
    "tests",
    max_examples=15,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# HYPOTHESIS_PROFILE=nightly searches wider, and elsewhere each time.
settings.register_profile(
    "nightly", settings.get_profile("tests"), max_examples=500, derandomize=False
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "tests"))


CHECKED = ("encoder", "pruning", "runners", "training")
"""Folders of tests in which types and shapes are checked at run time; elsewhere that only takes time."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Before the test's fixtures, of whatever scope."""
    is_checked = item.path.parent.name in CHECKED and not item.get_closest_marker("unchecked")
    jaxtyping.config.update("jaxtyping_disable", not is_checked)


MAX_PROCESSES = 4


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A process a core for the suite; none besides for named files, which start sooner that way."""
    if any(".py" in argument for argument in config.args):
        return 0
    return min(MAX_PROCESSES, os.cpu_count() or 1)


@pytest.fixture(autouse=True)
def _small_heap() -> None:
    """Takes the libraries out of garbage collection, whichever are loaded by now.

    Every stage of a training and every run of a page ends with a collection. It walks through all
    objects of PyTorch, transformers and Streamlit for 0.3 s, and through those of one test in no time.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _disk_is_trusted() -> Iterator[None]:
    """A test ends before the power fails: nothing waits until a file is on the disk itself."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda descriptor: None)
        yield


@pytest.fixture(scope="session")
def tiny_tokenizer() -> Tokenizer:
    """A word-level tokenizer with BERT's special tokens and about fifty words."""
    return tiny.tokenizer("bert")


@pytest.fixture(scope="session")
def hugging_face_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Folder of a saved tiny random Hugging Face model, by architecture: bert, roberta, xlm-r.

    It holds config.json, model.safetensors and tokenizer.json.
    """
    folders: dict[str, Path] = {}

    def folder(architecture: str) -> Path:
        if architecture not in folders:
            path = tmp_path_factory.mktemp(f"tiny-{architecture}")
            folders[architecture] = tiny.save_hugging_face(architecture, path)
        return folders[architecture]

    return folder


@pytest.fixture(scope="session")
def trained_workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Trained runs that all processes share; read-only, copy it to change it."""
    from tests.trainings import Workplace

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    return Workplace.trained(folder / "trained")


@pytest.fixture(scope="session")
def records_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of made-up records of several methods; read-only, copy it to change it."""
    from tests import length_runs

    return length_runs.save_store(tmp_path_factory.mktemp("records"))


@pytest.fixture(scope="session")
def tiny_store_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with small complete checkpoints; read-only, copy it to change it."""
    from tests import checkpoints

    return checkpoints.save_store(tmp_path_factory.mktemp("store"))


@pytest.fixture
def tiny_store(tiny_store_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, as the store that the program uses."""
    monkeypatch.setenv("LTP_STORE", str(tiny_store_folder))
    return tiny_store_folder
