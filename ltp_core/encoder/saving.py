"""Writing encoders in Hugging Face's layout: `config.json`, `model.safetensors`."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

from safetensors.torch import save

from ltp_core.encoder.loading import SPAN_ARCHITECTURE
from ltp_core.encoder.model import Encoder, EncoderConfig
from ltp_core.files import atomic_write


def save_encoder(
    encoder: Encoder,
    folder: Path,
    *,
    label_names: tuple[str, ...],
    task_specific_params: dict[str, Any] | None = None,
    is_multi_label: bool = False,
) -> None:
    """Writes `config.json` and `model.safetensors` that transformers opens unpruned too.

    `AutoModelForSequenceClassification.from_pretrained(folder)` gives the same logits, for a span
    head `AutoModelForQuestionAnswering`.

    Args:
        encoder: What to save.
        folder: Where to.
        label_names: Of the classes; empty where the outputs are values.
        task_specific_params: Goes into `config.json` as it is, under this name.
        is_multi_label: The labels are independent.
    """
    config = encoder.config
    prefixed = {
        config.family.their_name(key): value.contiguous()
        for key, value in encoder.state_dict().items()
    }
    atomic_write(folder / "model.safetensors", save(prefixed, metadata={"format": "pt"}))
    described = _hf_config(config, label_names)
    if is_multi_label:
        described["problem_type"] = "multi_label_classification"
    if task_specific_params is not None:
        described["task_specific_params"] = task_specific_params
    text = json.dumps(described, indent=2, sort_keys=True)
    atomic_write(folder / "config.json", (text + "\n").encode())


def _hf_config(config: EncoderConfig, label_names: tuple[str, ...]) -> dict[str, Any]:
    names = label_names or tuple(f"LABEL_{i}" for i in range(config.num_labels))
    family = config.family
    raw = {field.name: getattr(config, field.name) for field in dataclasses.fields(config)}
    if not family.has_token_types:
        del raw["type_vocab_size"]
    kind = SPAN_ARCHITECTURE if config.head == "span" else "ForSequenceClassification"
    described = {
        "architectures": [f"{family.class_prefix}{kind}"],
        "model_type": family.name,
        "num_hidden_layers": raw.pop("num_layers"),
        "num_attention_heads": raw.pop("num_heads"),
        "max_position_embeddings": raw.pop("max_positions"),
        "pad_token_id": raw.pop("pad_id"),
        "hidden_dropout_prob": raw.pop("hidden_dropout"),
        "attention_probs_dropout_prob": raw.pop("attention_dropout"),
        "hidden_act": "gelu",
        "id2label": {str(i): name for i, name in enumerate(names)},
        "label2id": {name: i for i, name in enumerate(names)},
        **family.required,
        **(
            {"embedding_size": config.embedding_size or config.hidden_size}
            if family.projects_embeddings
            else {}
        ),
        **({"problem_type": "regression"} if config.num_labels == 1 or not label_names else {}),
        **{k: v for k, v in raw.items() if k not in OWN_FIELDS},
        **(family.write_own(config) if family.write_own else {}),
    }
    return {family.config_names.get(key, key): value for key, value in described.items()}


OWN_FIELDS = (
    "family",
    "num_labels",
    "head",
    "embedding_size",
    "pooling",
    "norm_bias",
    "embedding_dropout",
    "head_dropout",
    "own",
)
"""Fields of our configuration that are written in another way, or not."""
