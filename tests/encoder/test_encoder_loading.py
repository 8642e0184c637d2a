"""Reading and writing encoders: Hugging Face opens what we save; what cannot be used is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltp_core.encoder.bases import find_base
from ltp_core.encoder.errors import ModelError
from ltp_core.encoder.loading import load_encoder
from ltp_core.encoder.saving import save_encoder
from tests import tiny
from tests.against_hugging_face import ATOL, assert_equal_models, batch_for, exact, ours, theirs

FolderOf = Callable[[str], Path]
every_architecture = pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)


@every_architecture
def test_saved_encoder_opens_in_hugging_face(
    architecture: str, hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """What we save, `from_pretrained` opens without missing a tensor, with the same logits."""
    from transformers import AutoModelForSequenceClassification

    encoder = load_encoder(hugging_face_folder(architecture))
    save_encoder(encoder, tmp_path, label_names=("bad", "fine", "good"))
    model, info = AutoModelForSequenceClassification.from_pretrained(
        tmp_path, output_loading_info=True, attn_implementation="eager"
    )
    assert [set(), set(), set()] == [
        set(info[kind]) for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")
    ]
    assert {0: "bad", 1: "fine", 2: "good"} == model.config.id2label
    inputs = batch_for(architecture, token_types=False)
    expected = theirs(exact(model).eval(), inputs)
    assert_equal_models(expected, encoder.double(), inputs)


@every_architecture
def test_save_and_load_is_bit_equal(
    architecture: str, hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """An encoder comes back with the same shape and every bit of every tensor."""
    encoder = load_encoder(hugging_face_folder(architecture))
    save_encoder(encoder, tmp_path, label_names=("a", "b", "c"))
    loaded = load_encoder(tmp_path)
    assert encoder.config == loaded.config
    expected, actual = encoder.state_dict(), loaded.state_dict()
    assert list(expected) == list(actual)
    assert all(torch.equal(expected[key], actual[key]) for key in expected)


def test_loaded_encoder_is_in_evaluation_mode(hugging_face_folder: FolderOf) -> None:
    """Dropout is off after loading: two passes give the same logits."""
    encoder, inputs = load_encoder(hugging_face_folder("bert")), batch_for("bert", token_types=True)
    assert not encoder.training
    assert ours(encoder, inputs)[0].tolist() == ours(encoder, inputs)[0].tolist()


def test_weights_in_half_precision_load_as_float32(
    hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """A checkpoint stored in float16 runs in float32."""
    folder = copy_folder(hugging_face_folder("bert"), tmp_path)
    path = folder / "model.safetensors"
    save_file({key: value.half() for key, value in load_file(path).items()}, path)
    assert {torch.float32} == {p.dtype for p in load_encoder(folder).parameters()}


def test_a_new_head_for_another_number_of_labels(hugging_face_folder: FolderOf) -> None:
    """Asking for five labels keeps the encoder and starts a fresh head."""
    folder = hugging_face_folder("roberta")
    kept, renewed = load_encoder(folder).state_dict(), load_encoder(folder, num_labels=5)
    state = renewed.state_dict()
    assert 5 == len(state["classifier.out_proj.bias"])
    assert all(torch.equal(kept[k], state[k]) for k in kept if not k.startswith("classifier."))
    assert bool(state["classifier.out_proj.weight"].abs().sum() > 0)


# --- what cannot be loaded --------------------------------------------------------------------------


def copy_folder(source: Path, target: Path) -> Path:
    """A copy that a test may damage."""
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    return target


def edit_config(folder: Path, **changes: Any) -> None:
    """Overwrites fields of config.json; None removes one."""
    raw = json.loads((folder / "config.json").read_text()) | changes
    kept = {key: value for key, value in raw.items() if value is not None}
    (folder / "config.json").write_text(json.dumps(kept))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model_type": "gpt2"}, "gpt2"),
        ({"model_type": None}, "not supported"),
        ({"hidden_act": "gelu_new"}, "gelu_new"),
        ({"position_embedding_type": "relative_key"}, "position"),
        ({"hidden_size": None}, "hidden_size"),
        ({"hidden_size": "wide"}, "hidden_size"),
        ({"num_attention_heads": 5}, "num_attention_heads"),
        ({"num_attention_heads": 0}, "num_attention_heads"),
        ({"vocab_size": 7}, "fit"),
        ({"num_hidden_layers": 4}, "lack"),
        ({"pad_token_id": 10_000}, "pad_token_id"),
    ],
)
def test_an_unusable_config_is_refused(
    changes: dict[str, Any], words: str, hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """Another architecture or an impossible value is one sentence that names it."""
    folder = copy_folder(hugging_face_folder("bert"), tmp_path)
    edit_config(folder, **changes)
    with pytest.raises(ModelError, match=words):
        load_encoder(folder)


def test_fewer_layers_than_weights_is_a_shallower_model_or_refused(
    hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """A config that asks for the first two of three layers runs exactly those."""
    folder = copy_folder(hugging_face_folder("bert"), tmp_path)
    edit_config(folder, num_hidden_layers=2)
    inputs = batch_for("bert", token_types=True)
    deep = ours(load_encoder(hugging_face_folder("bert")).double(), inputs)[1]
    shallow = ours(load_encoder(folder).double(), inputs)[1]
    real = inputs.attention_mask
    torch.testing.assert_close(shallow[-1][real], deep[2][real], rtol=0, atol=ATOL)


@pytest.mark.parametrize("size", [0, 7, 500, 5000])
def test_a_cut_file_is_refused(size: int, hugging_face_folder: FolderOf, tmp_path: Path) -> None:
    """Truncated weights are an error that names the file, wherever the cut falls."""
    folder = copy_folder(hugging_face_folder("bert"), tmp_path)
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(ModelError, match=r"model\.safetensors"):
        load_encoder(folder)


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", b"\xff\xfe{"])
def test_a_broken_config_file_is_refused(
    text: str | bytes, hugging_face_folder: FolderOf, tmp_path: Path
) -> None:
    """A config.json that is no JSON object is an error that names the file."""
    folder = copy_folder(hugging_face_folder("bert"), tmp_path)
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ModelError, match=r"config\.json"):
        load_encoder(folder)


def test_a_folder_without_weights_is_refused(hugging_face_folder: FolderOf, tmp_path: Path) -> None:
    """No weights at all: the error names the folder."""
    folder = copy_folder(hugging_face_folder("bert"), tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match="weights"):
        load_encoder(folder)


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    """A folder without config.json is no model folder, and the error says so."""
    with pytest.raises(ModelError, match=r"config\.json"):
        load_encoder(tmp_path)


def test_an_unknown_base_says_what_to_do() -> None:
    """Offline, an absent model fails at once with a sentence that names the ways out."""
    with pytest.raises(ModelError, match="LTP_ALLOW_DOWNLOADS"):
        find_base("nobody/no-such-model")
