"""Model folders as other people have them: what changes the meaning is honoured or refused by name."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ltp_core.checkpoint import load_checkpoint
from ltp_core.encoder.loading import encoder_config
from ltp_core.encoder.model import EncoderConfig
from ltp_core.export import export_hugging_face
from ltp_core.records import UserError
from ltp_core.trace import trace_text
from tests import tiny

TEXT = "a slow film, not bad"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny BERT classifier with three outputs."""
    return tiny.save_hugging_face("bert", tmp_path / "mine")


def edit(folder: Path, name: str = "config.json", **changes: Any) -> None:
    """Overwrites fields of a JSON file; `...` removes one."""
    raw = json.loads((folder / name).read_text()) | changes
    (folder / name).write_text(json.dumps({k: v for k, v in raw.items() if v is not ...}))


def assert_refused(folder: Path, words: str) -> None:
    """Refused within a second, on one line that has these words."""
    began = time.perf_counter()
    with pytest.raises(UserError, match=words) as error:
        load_checkpoint(str(folder))
    assert "\n" not in str(error.value)
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_size": 10**9},
        {"hidden_size": 9_000_000},
        {"num_hidden_layers": 10**9},
        {"intermediate_size": 10**9},
        {"vocab_size": 10**9},
        {"max_position_embeddings": 10**12},
        {"num_labels": 10**9, "id2label": ...},
        {"quantization_config": {"quant_method": "bitsandbytes"}},
        {"is_decoder": True},
        {"pruned_heads": {"0": [1]}},
        {"hidden_act": "relu"},
        {"problem_type": "ranking"},
    ],
    ids=str,
)
def test_a_config_of_something_else_is_refused_at_once(
    changes: dict[str, Any], folder: Path
) -> None:
    """Impossible sizes take neither time nor memory, and unsupported fields are named."""
    load_checkpoint(str(folder))  # imports are not counted
    edit(folder, **changes)
    assert_refused(folder, next(iter(changes)) if 9_000_000 not in changes.values() else "fit|lack")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/hostname", "..", "absent.bin"])
def test_an_index_leads_to_no_other_folder(name: str, folder: Path) -> None:
    """Shards lie beside their index."""
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"metadata": {}, "weight_map": {"bert.pooler.dense.bias": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    assert_refused(folder, "index.json names")


def test_quantised_weights_are_not_cast(folder: Path) -> None:
    """Whole numbers without their scales would give another model."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    key = "bert.encoder.layer.0.output.dense.weight"
    save_file(tensors | {key: tensors[key].to(torch.int8)}, path, metadata={"format": "pt"})
    assert_refused(folder, "quantised")


def test_ids_beyond_the_embedding_are_refused(folder: Path) -> None:
    """The largest id counts, not the number of tokens: ids may have gaps."""
    raw = json.loads((folder / "tokenizer.json").read_text())
    raw["model"]["vocab"]["always"] = 10_000
    (folder / "tokenizer.json").write_text(json.dumps(raw))
    assert_refused(folder, "do not belong together")


def logits_of(folder: Path) -> torch.Tensor:
    """Of transformers, for `TEXT`."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder).double().eval()
    ids = torch.tensor([tiny.tokenizer("bert").encode(TEXT).ids])
    with torch.no_grad():
        logits: torch.Tensor = model(ids).logits[0]
    return logits


def test_independent_labels_have_a_probability_each(folder: Path) -> None:
    """Multi-label: sigmoid, not softmax."""
    edit(folder, problem_type="multi_label_classification")
    found = trace_text(load_checkpoint(str(folder)), TEXT).prediction
    expected = torch.sigmoid(logits_of(folder))
    assert found.probabilities == pytest.approx(expected.tolist(), abs=1e-5)
    named = [f"LABEL_{i}" for i, p in enumerate(expected.tolist()) if p >= 0.5]
    assert (", ".join(named) or "no label") == found.label


def test_several_values_are_no_classes(folder: Path) -> None:
    """Regression with three outputs: three values, nothing likeliest."""
    edit(folder, problem_type="regression")
    found = trace_text(load_checkpoint(str(folder)), TEXT).prediction
    assert (None, None) == (found.probabilities, found.label)
    assert found.logits == pytest.approx(logits_of(folder).tolist(), abs=1e-4)


@pytest.mark.parametrize("problem", ["multi_label_classification", "regression", None])
def test_what_the_outputs_are_is_exported(problem: str | None, folder: Path) -> None:
    """A folder that is loaded and written again says the same of its head and its labels."""
    names = {"0": "bad", "1": "fine", "2": "good"}
    edit(folder, problem_type=problem, id2label=names)
    model = load_checkpoint(str(folder))
    export_hugging_face(model, folder.parent / "again")
    again = load_checkpoint(str(folder.parent / "again"))
    assert (model.problem_type, model.label_names) == (again.problem_type, again.label_names)
    expected = () if problem == "regression" else tuple(names.values())
    assert expected == again.label_names
    assert trace_text(model, TEXT).prediction == trace_text(again, TEXT).prediction


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_every_family_is_named_by_its_labels(architecture: str, tmp_path: Path) -> None:
    """A classifier of any family gives transformers' probabilities under the folder's names."""
    from transformers import pipeline

    names = {0: "bad", 1: "fine", 2: "good"}
    folder = tiny.save_hugging_face(architecture, tmp_path / "mine", id2label=names)
    export_hugging_face(load_checkpoint(str(folder)), tmp_path / "again")
    for place in (folder, tmp_path / "again"):
        found = trace_text(load_checkpoint(str(place)), TEXT).prediction
        assert found.label in names.values()
    (expected,) = pipeline("text-classification", str(tmp_path / "again"))(TEXT)
    assert (expected["label"]) == found.label
    assert found.probabilities is not None
    assert expected["score"] == pytest.approx(max(found.probabilities), abs=1e-5)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dim": ...}, "dim"),
        ({"n_heads": 5}, "n_heads 5 does not divide dim 16"),
        ({"activation": "relu"}, "activation"),
        ({"dropout": 2}, "dropout"),
        ({"layer_norm_eps": 1e-5}, "layer_norm_eps"),
    ],
)
def test_a_family_is_told_by_its_own_names(
    changes: dict[str, Any], words: str, tmp_path: Path
) -> None:
    """What DistilBERT's configuration lacks or misstates is called as it is there."""
    folder = tiny.save_hugging_face("distilbert", tmp_path / "mine")
    edit(folder, **changes)
    assert_refused(folder, words)


@pytest.mark.parametrize(
    "changes", [{"relative_attention_num_buckets": 16}, {"pad_token_id": 0}], ids=str
)
def test_what_mpnet_has_built_in_is_not_another(changes: dict[str, Any], tmp_path: Path) -> None:
    """Transformers ignores these fields; a folder that says otherwise is refused."""
    folder = tiny.save_hugging_face("mpnet", tmp_path / "mine")
    edit(folder, **changes)
    assert_refused(folder, next(iter(changes)))


@pytest.fixture(scope="module")
def modern_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny ModernBERT classifier, not to be changed."""
    return tiny.save_hugging_face("modernbert", tmp_path_factory.mktemp("modern"))


def modern_config(folder: Path, **changes: Any) -> EncoderConfig:
    """What is read of the folder's `config.json` with other fields; `...` removes one."""
    raw = json.loads((folder / "config.json").read_text()) | changes
    return encoder_config({key: value for key, value in raw.items() if value is not ...})


ROPE = {
    "full_attention": {"rope_type": "default", "rope_theta": 500.0},
    "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
}


def test_older_and_newer_fields_of_modernbert_are_one_model(modern_folder: Path) -> None:
    """Layers and rotations as of transformers 4 and 5; what no classifier reads changes nothing."""
    newer = modern_config(modern_folder, rope_parameters=ROPE)
    older = modern_config(
        modern_folder,
        layer_types=...,
        rope_parameters=...,
        global_attn_every_n_layers=2,
        global_rope_theta=500.0,
        local_rope_theta=50.0,
    )
    assert ("full_attention", "sliding_attention", "full_attention") == newer.own.layer_types
    assert newer == older == modern_config(modern_folder)
    assert newer == modern_config(
        modern_folder,
        decoder_bias=False,
        deterministic_flash_attn=True,
        reference_compile=True,
        sparse_prediction=True,
        position_embedding_type="absolute",
        layer_norm_eps=1e-12,
    )


def test_fields_that_modernbert_leaves_out_have_the_values_of_transformers() -> None:
    """What a configuration does not name is read as transformers reads it."""
    from transformers import ModernBertConfig

    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_attention_heads": 2}
    sizes |= {"vocab_size": 60_000, "num_hidden_layers": 5, "max_position_embeddings": 40}
    theirs = ModernBertConfig(**sizes)
    assert encoder_config({"model_type": "modernbert", **sizes}) == encoder_config(
        json.loads(theirs.to_json_string(use_diff=False))
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"hidden_activation": "relu"},
        {"classifier_activation": "tanh"},
        {"classifier_pooling": "max"},
        {"norm_bias": "yes"},
        {"attention_bias": 1},
        {"mlp_dropout": 2},
        {"embedding_dropout": None},
        {"local_attention": 0},
        {"sliding_window": 5},
        {"head_dim": 4},
        {"layer_types": ["full_attention"]},
        {"layer_types": ["full_attention", "chunked_attention", "full_attention"]},
        {"layer_types": ..., "global_attn_every_n_layers": 0},
        {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
        {"rope_parameters": {**ROPE, "full_attention": {"rope_type": "yarn", "factor": 4.0}}},
        {"rope_parameters": {"rope_theta": 10.0}},
        {"rope_parameters": {**ROPE, "sliding_attention": {"rope_theta": None}}},
    ],
    ids=str,
)
def test_what_modernbert_cannot_be_is_refused_by_name(
    changes: dict[str, Any], modern_folder: Path
) -> None:
    """A field that changes what the model computes is read, or named in the refusal."""
    with pytest.raises(UserError, match="|".join(changes)):
        modern_config(modern_folder, **changes)


@pytest.mark.parametrize(
    "changes",
    [
        {"id2label": ..., "label2id": ..., "num_labels": 3},
        {"id2label": ..., "label2id": ...},
        {"architectures": ["BertForMaskedLM"]},
        {"architectures": ["JointBERT"]},
        {"architectures": ["BertForQuestionAnswering"]},
        {"architectures": ...},
    ],
    ids=str,
)
def test_the_head_in_the_file_is_used(changes: dict[str, Any], folder: Path) -> None:
    """Whatever the config calls it, and whether or not it counts its outputs."""
    expected = logits_of(folder)
    edit(folder, **changes)
    model = load_checkpoint(str(folder))
    assert ("LABEL_0", "LABEL_1", "LABEL_2") == model.label_names
    assert trace_text(model, TEXT).prediction.logits == pytest.approx(expected.tolist(), abs=1e-4)


def test_names_that_do_not_fit_the_head_are_refused(folder: Path) -> None:
    """Two names for three outputs: which is which is not guessed."""
    edit(folder, id2label={"0": "bad", "1": "good"})
    assert_refused(folder, "id2label names 2 labels, but the head in the file has 3")


def test_a_tokenizer_that_panics_is_a_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A panic inside the library is no Exception of Python's."""
    from ltp_core.encoder import tokenizer

    panic = type("PanicException", (BaseException,), {})

    def fail(_: Path) -> None:
        raise panic("called `Option::unwrap()` on a `None` value")

    (folder / "tokenizer.json").unlink()
    monkeypatch.setattr(tokenizer, "_convert", fail)
    assert_refused(folder, "no tokenizer that can be read")


def test_an_adapter_alone_is_no_model(tmp_path: Path) -> None:
    """A PEFT folder says that it needs its base."""
    (tmp_path / "adapter_config.json").write_text('{"peft_type": "LORA"}')
    assert_refused(tmp_path, "adapter without its base")
