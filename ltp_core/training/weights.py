"""Which weights a run trains, and where they start."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ltp_core.config import TrainConfig
from ltp_core.encoder.adapter import inject, restore_adapter
from ltp_core.encoder.loading import load_encoder
from ltp_core.encoder.model import Encoder
from ltp_core.pruning import PruningMethod

AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}
"""What a mixed precision computes matrix products in."""


def make_trainable(
    encoder: Encoder, method: PruningMethod, config: TrainConfig, parent_folder: Path | None
) -> None:
    """Adapter or all weights, continued from the parent where there is one.

    Layers that the method leaves out are frozen: they have no gradient to wait for, and nothing of
    theirs to store.
    """
    if config.adapter.kind == "lora":
        autocast = AUTOCAST.get(config.mixed_precision)
        inject(encoder, rank=config.adapter.rank, alpha=config.adapter.alpha, autocast=autocast)
        if parent_folder is not None:
            restore_adapter(encoder, parent_folder / "adapter")
    elif parent_folder is not None:
        parent = load_encoder(parent_folder / "model")
        encoder.load_state_dict(parent.state_dict())
    if config.hidden_dropout is not None:
        for name, module in encoder.named_modules():
            if isinstance(module, nn.Dropout) and not name.endswith("attention_dropout"):
                module.p = config.hidden_dropout
    for index, layer in enumerate(encoder.layers):
        if config.attention_dropout is not None:
            layer.attention_dropout.p = config.attention_dropout
        if not method.runs_layer(index):
            layer.requires_grad_(False)
