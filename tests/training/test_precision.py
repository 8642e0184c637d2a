"""What a training computes in: bfloat16 where the processor multiplies it, else float32, and it says so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from ltp_core import store
from ltp_core.config import dense_config
from ltp_core.training.train import train
from tests.trainings import Workplace


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    """Everything that the run saved as tensors."""
    return load_file(next(folder.glob("*/*.safetensors")))


@pytest.mark.unchecked
@pytest.mark.parametrize("is_emulated", [True, False])
def test_bfloat16_that_would_be_emulated_is_float32(
    is_emulated: bool,
    trained_workplace: Workplace,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The run keeps its name and configuration, its manifest and a sentence say what it computed in."""
    place = trained_workplace.copy(tmp_path)
    dense = dense_config(place.config("lora"))
    assert dense is not None
    exact = weights_of(store.run_folder(place.store, dense.name))
    monkeypatch.setattr("ltp_core.training.train.emulates_bfloat16", lambda: is_emulated)
    coarse = replace(dense, mixed_precision="bf16")
    folder = train(coarse, data_dir=place.folder / "data", destination=place.store)
    manifest = store.read_manifest(folder)
    assert (coarse.name, "bf16") == (manifest.name, manifest.config["mixed_precision"])
    assert ("no" if is_emulated else "bf16") == manifest.hardware["mixed_precision"]
    said = f"{coarse.name} computes in float32: this processor has no products in bfloat16"
    assert is_emulated == (said in capfd.readouterr().err)
    far = max(
        float((found - exact[name]).abs().max()) for name, found in weights_of(folder).items()
    )
    assert is_emulated == (far < 1e-6)
