"""Low-rank adapters: PEFT opens what we save, and adding them to the weights changes no answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltp_core.encoder.adapter import (
    CONFIG_FILE,
    WEIGHTS_FILE,
    inject,
    merge_adapter,
    restore_adapter,
    save_adapter,
)
from ltp_core.encoder.errors import ModelError
from ltp_core.encoder.loading import load_encoder
from ltp_core.encoder.model import Encoder
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.masked import run_masked
from tests import tiny
from tests.against_hugging_face import batch_for, family_of, ours, theirs

FolderOf = Callable[[str], Path]
every_architecture = pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
RANK, ALPHA = 3, 4.5


def trained_encoder(folder: Path, rank: int = RANK, alpha: float = ALPHA) -> Encoder:
    """An encoder with an adapter and a head that are far from their initial values."""
    encoder = load_encoder(folder)
    inject(encoder, rank=rank, alpha=alpha)
    trained = [p for p in encoder.parameters() if p.requires_grad]
    tiny.randomise(torch.nn.ParameterList(trained), 5)
    return encoder


def saved(base: Path, folder: Path) -> Path:
    """The adapter of `trained_encoder` on disk."""
    save_adapter(trained_encoder(base), folder, rank=RANK, alpha=ALPHA, base=str(base))
    return folder


def logits(encoder: Encoder, architecture: str) -> torch.Tensor:
    """Unpruned logits of a padded batch, in evaluation mode."""
    return ours(encoder.eval(), batch_for(architecture, token_types=False))[0]


def logits_and_gradients(folder: Path, autocast: torch.dtype | None) -> list[torch.Tensor]:
    """What a mixed-precision step computes from an encoder that `inject` prepared."""
    encoder = load_encoder(folder)
    inject(encoder, rank=RANK, alpha=ALPHA, autocast=autocast)
    trained = [p for p in encoder.parameters() if p.requires_grad]
    tiny.randomise(torch.nn.ParameterList(trained), 5)
    encoder.eval()  # no dropout
    batch = batch_for("bert", token_types=False)
    with torch.autocast("cpu", torch.bfloat16):
        first = run_masked(encoder, batch, Unpruned.neutral(encoder.config.num_layers)).logits
    first.float().square().sum().backward()
    gradients = [p.grad for p in trained if p.grad is not None]
    assert len(gradients) == len(trained)
    return [first, *gradients]


def test_frozen_maps_cast_once_give_the_same_step(hugging_face_folder: FolderOf) -> None:
    """Casting them beforehand is what autocast does in every pass: not a bit differs."""
    folder = hugging_face_folder("bert")
    for once, each in zip(
        logits_and_gradients(folder, torch.bfloat16),
        logits_and_gradients(folder, None),
        strict=True,
    ):
        torch.testing.assert_close(once, each, rtol=0, atol=0)


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")  # PEFT's own
@every_architecture
def test_peft_opens_what_we_save(
    architecture: str, hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """`PeftModel.from_pretrained` on Hugging Face's base gives the logits of our merged encoder."""
    from peft import PeftModel
    from transformers import AutoModelForSequenceClassification

    base = hugging_face_folder(architecture)
    folder = saved(base, tmp_path)
    encoder = load_encoder(base)
    before = logits(encoder, architecture)
    merge_adapter(encoder, folder)
    model = AutoModelForSequenceClassification.from_pretrained(base, attn_implementation="eager")
    opened = PeftModel.from_pretrained(model, str(folder)).eval()
    expected = theirs(opened, batch_for(architecture, token_types=False)).logits
    merged = logits(encoder, architecture)
    torch.testing.assert_close(merged, expected, rtol=0, atol=1e-4)
    assert float((merged - before).abs().max()) > 0.1


@every_architecture
def test_merged_equals_unmerged(
    architecture: str, hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """Adding the products to the weights gives the logits of PEFT's layers beside them."""
    base = hugging_face_folder(architecture)
    folder = saved(base, tmp_path)
    merged, unmerged = load_encoder(base), load_encoder(base)
    inject(unmerged, rank=RANK, alpha=ALPHA)
    restore_adapter(unmerged, folder)
    merge_adapter(merged, folder)
    torch.testing.assert_close(
        logits(merged, architecture), logits(unmerged, architecture), rtol=0, atol=1e-4
    )


@every_architecture
def test_a_fresh_adapter_changes_nothing(architecture: str, hugging_face_folder: FolderOf) -> None:
    """Before the first step the model is the base model, bit by bit."""
    base = hugging_face_folder(architecture)
    encoder = load_encoder(base)
    inject(encoder, rank=RANK, alpha=ALPHA)
    assert torch.equal(logits(load_encoder(base), architecture), logits(encoder, architecture))


@every_architecture
def test_what_is_trained(architecture: str, hugging_face_folder: FolderOf) -> None:
    """Two low-rank maps for each linear map of a layer (six, or four if fused), and the head."""
    encoder = load_encoder(hugging_face_folder(architecture))
    inject(encoder, rank=RANK, alpha=ALPHA)
    trained = {name for name, p in encoder.named_parameters() if p.requires_grad}
    low_rank = {name for name in trained if ".lora_" in name}
    fused = family_of(architecture) == "modernbert"
    assert 3 * (4 if fused else 6) * 2 == len(low_rank)
    assert all(name.startswith("encoder.layer.") for name in low_rank)
    heads = ("pooler.", "classifier.") if encoder.config.family.pooler else ("classifier.",)
    names = {name for name, _ in encoder.named_parameters()}
    assert {name for name in names if name.startswith(heads)} == trained - low_rank


def test_saving_is_exact_and_small(hugging_face_folder: FolderOf, tmp_path: Path) -> None:
    """Float16 on disk; an adapter that was restored is saved again to the same bytes."""
    base = hugging_face_folder("bert")
    first = saved(base, tmp_path / "first")
    assert {torch.float16} == {t.dtype for t in load_file(first / WEIGHTS_FILE).values()}
    encoder = load_encoder(base)
    inject(encoder, rank=RANK, alpha=ALPHA)
    restore_adapter(encoder, first)
    save_adapter(encoder, tmp_path / "second", rank=RANK, alpha=ALPHA, base=str(base))
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        assert (first / name).read_bytes() == (tmp_path / "second" / name).read_bytes()


# --- what cannot be used --------------------------------------------------------------------------


def edit_config(folder: Path, **changes: Any) -> None:
    """Changes fields of the adapter's configuration."""
    raw = json.loads((folder / CONFIG_FILE).read_text())
    (folder / CONFIG_FILE).write_text(json.dumps(raw | changes))


def edit_tensors(folder: Path, drop: str) -> None:
    """Removes the tensors whose names contain a text."""
    tensors = load_file(folder / WEIGHTS_FILE)
    save_file({k: v for k, v in tensors.items() if drop not in k}, folder / WEIGHTS_FILE)


def cut(folder: Path, name: str, size: int) -> None:
    """Leaves the first bytes of a file."""
    (folder / name).write_bytes((folder / name).read_bytes()[:size])


DAMAGES: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no weights": (lambda f: (f / WEIGHTS_FILE).unlink(), f"lacks {WEIGHTS_FILE}"),
    "no config": (lambda f: (f / CONFIG_FILE).unlink(), f"lacks {CONFIG_FILE}"),
    "empty weights": (lambda f: cut(f, WEIGHTS_FILE, 0), "damaged or cut short"),
    "cut header": (lambda f: cut(f, WEIGHTS_FILE, 100), "damaged or cut short"),
    "cut weights": (lambda f: cut(f, WEIGHTS_FILE, 6000), "damaged or cut short"),
    "cut config": (lambda f: cut(f, CONFIG_FILE, 30), "damaged or cut short"),
    "no object": (lambda f: (f / CONFIG_FILE).write_text("[1]"), "damaged or cut short"),
    "deep config": (lambda f: (f / CONFIG_FILE).write_text("[" * 100_000), "damaged or cut short"),
    "no rank": (lambda f: edit_config(f, r=None), "damaged or cut short"),
    "rank zero": (lambda f: edit_config(f, r=0), "damaged or cut short"),
    "half a product": (lambda f: edit_tensors(f, "lora_B"), "another encoder"),
    "no head": (lambda f: edit_tensors(f, "classifier"), "lacks the head: classifier.bias"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_adapter_is_refused(
    damage: str, hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """Each is one sentence that says what is wrong."""
    change, words = DAMAGES[damage]
    base = hugging_face_folder("bert")
    folder = saved(base, tmp_path)
    change(folder)
    with pytest.raises(ModelError, match=words) as error:
        merge_adapter(load_encoder(base), folder)
    assert "\n" not in str(error.value)


def test_an_adapter_of_another_encoder_is_refused(
    hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """Another architecture, another width, or another number of layers or labels."""
    folder = saved(hugging_face_folder("bert"), tmp_path / "adapter")
    others = {
        "narrow": {"hidden_size": 8, "intermediate_size": 12},
        "shallow": {"num_hidden_layers": 2},
        "labels": {"num_labels": 2},
    }
    for name, changes in others.items():
        other = load_encoder(tiny.save_hugging_face("bert", tmp_path / name, **changes))
        with pytest.raises(ModelError, match="another encoder"):
            merge_adapter(other, folder)
    with pytest.raises(ModelError, match="another encoder"):
        merge_adapter(load_encoder(hugging_face_folder("roberta")), folder)


def test_training_on_with_another_rank_is_refused(
    hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """The low-rank maps of a parent go into maps of the same rank only."""
    base = hugging_face_folder("bert")
    folder = saved(base, tmp_path)
    encoder = load_encoder(base)
    inject(encoder, rank=RANK + 1, alpha=ALPHA)
    with pytest.raises(ModelError, match="another encoder"):
        restore_adapter(encoder, folder)
