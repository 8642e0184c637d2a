"""One batch through Hugging Face's model and through ours, and everything compared."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ltp_core.encoder.model import Encoder
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.base import Inputs
from ltp_core.runners.masked import run_masked
from tests import tiny

ATOL = 1e-10

FLOAT32_ATOL = 1e-4
"""Where transformers computes in float32 whatever the model's type."""


def load_theirs(folder: Path) -> Any:
    """Hugging Face's model of a folder, as exact as it can be, eager attention."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager")
    return exact(model).eval()


def exact(model: Any) -> Any:
    """The model in float64; ModernBERT, whose softmax and rotations are in float32, in that."""
    return model.float() if model.config.model_type == "modernbert" else model.double()


def atol(architecture: str) -> float:
    """How far our float64 may be from Hugging Face's model."""
    return FLOAT32_ATOL if family_of(architecture) == "modernbert" else ATOL


def family_of(architecture: str) -> str:
    """Our family of a Hugging Face architecture."""
    return tiny.ARCHITECTURES[architecture][0]


def batch_for(architecture: str, *, token_types: bool) -> Inputs:
    """A padded batch; token types only where the architecture has more than one."""
    made = tiny.inputs((11, 1, 6, 2), 7, family=family_of(architecture), extra_padding=2)
    types = made.token_type_ids if token_types else torch.zeros_like(made.token_type_ids)
    return replace(made, token_type_ids=types)


def theirs(model: Any, inputs: Inputs) -> Any:
    """Hugging Face's pass with everything it can return."""
    has_types = getattr(model.config, "type_vocab_size", 0) > 0
    with torch.no_grad():
        return model(
            inputs.input_ids,
            attention_mask=inputs.attention_mask.long(),
            **({"token_type_ids": inputs.token_type_ids} if has_types else {}),
            output_hidden_states=True,
            output_attentions=True,
        )


def ours(encoder: Encoder, inputs: Inputs) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Logits, hidden states (embeddings first) and attention probabilities, unpruned."""
    attention: list[Tensor] = []
    hidden: list[Tensor] = []

    def observe(_: int, probs: Tensor, output: Tensor) -> None:
        attention.append(probs)
        hidden.append(output)

    with torch.no_grad():
        embedded = encoder.embed(inputs.input_ids, inputs.token_type_ids)
        method = Unpruned.neutral(encoder.config.num_layers)
        output = run_masked(encoder, inputs, method, observer=observe)
    return output.logits, [embedded, *hidden], attention


def assert_equal_models(expected: Any, encoder: Encoder, inputs: Inputs) -> None:
    """Same logits, and at every real token the same hidden states and attention."""
    logits, hidden, attention = ours(encoder, inputs)
    hidden[-1] = encoder.encoder.final_norm(hidden[-1])
    close = ATOL if expected.logits.dtype == torch.float64 else FLOAT32_ATOL
    torch.testing.assert_close(logits, expected.logits.double(), rtol=0, atol=close)
    real = inputs.attention_mask
    assert len(expected.hidden_states) == len(hidden)
    for left, right in zip(expected.hidden_states, hidden, strict=True):
        torch.testing.assert_close(right[real], left[real].double(), rtol=0, atol=close)
    assert len(expected.attentions) == len(attention)
    for left, right in zip(expected.attentions, attention, strict=True):
        query_left, query_right = left.transpose(1, 2)[real], right.transpose(1, 2)[real]
        torch.testing.assert_close(query_right, query_left.double(), rtol=0, atol=close)
