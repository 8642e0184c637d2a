"""Low-rank adapters (LoRA) on the encoder's linear maps, in PEFT's file format.

Training injects PEFT's layers. Loading adds the product to the weights, so that a checkpoint from
an adapter runs exactly like any other encoder, and needs no PEFT.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ltp_core.encoder.loading import ModelError
from ltp_core.encoder.model import Encoder

TARGETS = r"encoder\.layer\.\d+\..*\.(query|key|value|dense)"
HEADS = ("pooler.", "classifier.")
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"


def inject(encoder: Encoder, *, rank: int, alpha: float) -> None:
    """Freezes the encoder, adds trainable low-rank maps to every layer, keeps the head trainable."""
    from peft import LoraConfig, inject_adapter_in_model

    config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=TARGETS, lora_dropout=0.0)
    encoder.requires_grad_(False)
    inject_adapter_in_model(config, encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in name or name.startswith(HEADS))


def save_adapter(encoder: Encoder, folder: Path, *, rank: int, alpha: float, base: str) -> None:
    """Writes the trained parts in float16, readable by `peft.PeftModel.from_pretrained` too."""
    family = encoder.config.family
    tensors = {
        _peft_name(name.replace(".default", ""), family): parameter.detach().half().contiguous()
        for name, parameter in encoder.named_parameters()
        if ".lora_" in name or name.startswith(HEADS)
    }
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})
    modules_to_save = ["pooler", "classifier"] if family == "bert" else ["classifier"]
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_CLS",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": rf".*{TARGETS}",
        "modules_to_save": modules_to_save,
        "inference_mode": True,
    }
    text = json.dumps(config, indent=2, sort_keys=True)
    (folder / CONFIG_FILE).write_text(text + "\n", encoding="utf-8")


def _peft_name(name: str, family: str) -> str:
    prefix = "" if name.startswith("classifier.") else f"{family}."
    return f"base_model.model.{prefix}{name}"


@torch.no_grad()
def merge_adapter(encoder: Encoder, folder: Path) -> None:
    """Adds a saved adapter to the encoder's weights and takes over its head.

    Raises:
        ModelError: The adapter is absent, damaged, or made for another encoder.
    """
    config, tensors = _read(folder)
    scale = float(config["lora_alpha"]) / float(config["r"])
    family = encoder.config.family
    parameters = dict(encoder.named_parameters())
    try:
        for key, value in tensors.items():
            name = key.removeprefix("base_model.model.").removeprefix(f"{family}.")
            if name.endswith(".lora_A.weight"):
                up = tensors[key.replace(".lora_A.", ".lora_B.")].float()
                target = parameters[name.replace(".lora_A.", ".")]
                target.add_(scale * (up @ value.float()).to(target.device))
            elif not name.endswith(".lora_B.weight"):
                parameters[name].copy_(value.float())
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"The adapter in {folder} was made for another encoder: {error}") from error


@torch.no_grad()
def restore_adapter(encoder: Encoder, folder: Path) -> None:
    """Puts a saved adapter and head into an encoder that `inject` prepared, to train on.

    Raises:
        ModelError: The adapter is absent, damaged, or made for another encoder or rank.
    """
    _, tensors = _read(folder)
    family = encoder.config.family
    parameters = {
        _peft_name(name.replace(".default", ""), family): parameter
        for name, parameter in encoder.named_parameters()
    }
    try:
        for key, value in tensors.items():
            parameters[key].copy_(value.float())
    except (KeyError, RuntimeError) as error:
        raise ModelError(f"The adapter in {folder} was made for another encoder: {error}") from error


def _read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        return {"r": config["r"], "lora_alpha": config["lora_alpha"]}, tensors
    except FileNotFoundError as error:
        raise ModelError(f"{folder} lacks {Path(error.filename or '?').name}.") from error
    except (SafetensorError, ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(f"The adapter in {folder} is damaged or cut short: {error}") from error
