"""A new method is one file and one line: a toy is trained, swept, traced, exported and shown."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import streamlit as st
from transformers import AutoModelForSequenceClassification

from app.ltp_ui.shared import method_style
from ltp_core import store
from ltp_core.config import load_table, to_toml
from ltp_core.pruning import METHODS
from ltp_core.pruning.base import Decision, LayerState, MethodConfig, PruningMethod
from ltp_core.strict import require_above_zero
from tests.app.test_pages import EXPLORE, ROOT, app, shown
from tests.commands import run
from tests.trainings import Workplace

TEXT = "a good film but slow"


# --- the file -------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class EveryNthConfig(MethodConfig):
    """Settings of the toy.

    Attributes:
        step: Positions that are multiples of this stay.
    """

    step: int = 1

    def __post_init__(self) -> None:
        """Rejects impossible values."""
        require_above_zero(self, "step")


class EveryNth(PruningMethod):
    """Keeps every n-th position: it looks at no attention and learns nothing."""

    name = "every_nth"
    config_type = EveryNthConfig
    config: EveryNthConfig

    @classmethod
    def neutral(cls, num_layers: int) -> EveryNth:
        """Every position."""
        return cls(EveryNthConfig(step=1), num_layers)

    def retain(self, state: LayerState) -> Decision:
        """The multiples of the step."""
        return Decision(state.position % self.config.step == 0)


# --- the line -------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def _listed() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, EveryNth.name, EveryNth)
        yield


# --- everything else ------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Workplace, list[str]]]:
    """A sweep over two steps, with their dense counterpart; the toy's runs, steps 2 and 3."""
    folder = tmp_path_factory.mktemp("toy")
    place = Workplace.make(folder)
    (folder / "base.toml").write_text(to_toml(place.config()))
    assert "ltp" == load_table(str(folder / "base.toml"))["method"]["name"]
    sweep = folder / "sweep.toml"
    sweep.write_text(
        f"""
        title = "A toy"
        preset = "{folder / "base.toml"}"

        [[runs]]
        method = "every_nth"
        vary = {{key = "method.step", values = [2, 3]}}
        """
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LTP_STORE", str(place.store))
        patch.setattr(store, "stores", lambda: [place.store])
        done = run("sweep", str(sweep), "--data-dir", str(folder / "data"))
        assert 0 == done.status, done.stderr
        entries = store.list_runs([place.store])
        ours = [e.manifest for e in entries if e.manifest and e.manifest.method == "every_nth"]
        ours.sort(key=lambda manifest: manifest.config["method"]["step"])
        yield place, [manifest.name for manifest in ours]
    st.cache_data.clear()


@pytest.fixture
def toy(swept: tuple[Workplace, list[str]], monkeypatch: pytest.MonkeyPatch) -> str:
    """The run that keeps every second position, in the store that all look into."""
    place, names = swept
    monkeypatch.setenv("LTP_STORE", str(place.store))
    monkeypatch.setattr(store, "stores", lambda: [place.store])
    return names[0]


def test_it_is_swept_and_trained(swept: tuple[Workplace, list[str]]) -> None:
    """Both points are complete, with a dense counterpart, and the greater step is cheaper."""
    place, names = swept
    manifests = [store.read_manifest(store.run_folder(place.store, name)) for name in names]
    assert [2, 3] == [manifest.config["method"]["step"] for manifest in manifests]
    cost = [m.summary["validation"]["relative_flops"]["paper"] for m in manifests]
    assert 1 > cost[0] > cost[1]
    for manifest in manifests:
        assert manifest.dense is not None
        assert (store.run_folder(place.store, manifest.dense) / store.MANIFEST).exists()


def test_it_is_traced_and_evaluated(toy: str, swept: tuple[Workplace, list[str]]) -> None:
    """Every layer keeps the even positions, and the figures are those of the training."""
    done = run("trace", toy, TEXT, "--json")
    assert 0 == done.status, done.stderr
    layers = json.loads(done.stdout)["layers"]
    for layer in layers:
        assert [i % 2 == 0 for i in range(len(layer["retained"]))] == layer["retained"]
        assert layer["threshold"] is None
    data_dir = str(swept[0].folder / "data")
    done = run("evaluate", toy, "--task", "sst2", "--data-dir", data_dir, "--json")
    assert 0 == done.status, done.stderr
    manifest = store.read_manifest(store.run_folder(swept[0].store, toy))
    assert (
        pytest.approx(json.loads(done.stdout)["relative_flops"])
        == (manifest.summary["validation"]["relative_flops"])
    )


def test_it_is_exported(toy: str, tmp_path: Path) -> None:
    """Transformers opens the folder; ONNX holds it unpruned, and says why it cannot prune."""
    done = run("export", toy, "--format", "hf", "--output", str(tmp_path / "hf"))
    assert 0 == done.status, done.stderr
    assert 2 == AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf").num_labels
    to_file = ("export", toy, "--format", "onnx", "--output")
    assert 0 == run(*to_file, str(tmp_path / "whole.onnx"), "--unpruned").status
    refused = run(*to_file, str(tmp_path / "pruned.onnx"))
    assert 2 == refused.status
    assert "every_nth" in refused.stderr


def test_it_is_shown(toy: str, swept: tuple[Workplace, list[str]]) -> None:
    """Explore draws what leaves, Compare holds it against another, the charts have a look for it."""
    view = shown(app(EXPLORE, model=toy, text=TEXT))
    whole = view["lengths"][0]
    assert [(whole + 1) // 2] * (len(view["lengths"]) - 1) == view["lengths"][1:]
    dense = store.read_manifest(store.run_folder(swept[0].store, toy)).dense
    at = app(str(ROOT / "pages" / "compare.py"), a=str(dense), text=TEXT)
    chosen = {box.label: box.value for box in at.selectbox}
    assert chosen["B"] in swept[1]
    known = set(method_style.KNOWN.values())
    look = method_style.style_of("every_nth")
    assert (look.shape, look.dash) not in {(style.shape, style.dash) for style in known}
    assert "every_nth" == method_style.in_order(["every_nth", "ltp", "shallow"])[-1]
