"""Low-rank adapters (LoRA) on the encoder's linear maps, in PEFT's file format.

Training injects PEFT's layers. Loading adds the product to the weights, so that a checkpoint from
an adapter runs exactly like any other encoder, and needs no PEFT.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ltp_core.encoder.errors import ModelError, reason
from ltp_core.encoder.model import Encoder, Family
from ltp_core.files import atomic_write

TARGETS = r"encoder\.layer\.\d+\..*\.(query|key|value|Wqkv|dense)"
HEADS = ("pooler.", "classifier.", "qa_outputs.")
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PLAIN = {
    "peft_type": "LORA",
    "bias": "none",
    "use_dora": False,
    "use_qalora": False,
    "use_bdlora": False,
    "fan_in_fan_out": False,
    "lora_bias": False,
    "rank_pattern": {},
    "alpha_pattern": {},
    "layer_replication": None,
    "megatron_config": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "alora_invocation_tokens": None,
}
"""Fields that change what is added, with the value of a plain low-rank product."""


def inject(
    encoder: Encoder, *, rank: int, alpha: float, autocast: torch.dtype | None = None
) -> None:
    """Freezes the encoder, adds trainable low-rank maps to every layer, keeps the head trainable.

    Args:
        encoder: Changed in place.
        rank: Of the additions.
        alpha: They are scaled by alpha / rank.
        autocast: What automatic mixed precision will compute in. The frozen maps are cast to it
            once instead of in every pass: the same results, a quarter less time on a CPU. Without
            autocast such an encoder does not run.
    """
    from peft import LoraConfig, inject_adapter_in_model
    from peft.tuners.lora import LoraLayer

    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT only divides it by the rank
        target_modules=TARGETS,
        lora_dropout=0.0,
    )
    encoder.requires_grad_(False)
    inject_adapter_in_model(config, encoder)
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(".lora_" in name or name.startswith(HEADS))
    if autocast is not None:
        for module in encoder.modules():
            if isinstance(module, LoraLayer):
                module.get_base_layer().to(autocast)
                module.cast_input_dtype_enabled = False  # autocast does it


def save_adapter(encoder: Encoder, folder: Path, *, rank: int, alpha: float, base: str) -> None:
    """Writes the trained parts in float16, readable by `peft.PeftModel.from_pretrained` too.

    Layers that were frozen after `inject` are left out: the base's weights stand for them.
    """
    family = encoder.config.family
    tensors = {
        _peft_name(name.replace(".default", ""), family): parameter.detach().half().contiguous()
        for name, parameter in encoder.named_parameters()
        if parameter.requires_grad and (".lora_" in name or name.startswith(HEADS))
    }
    atomic_write(folder / WEIGHTS_FILE, save(tensors, metadata={"format": "pt"}))
    is_span = encoder.config.head == "span"
    heads = dict.fromkeys(
        family.bare_name(family.their_name(name)).partition(".")[0]
        for name, _ in encoder.named_parameters()
        if name.startswith(HEADS)
    )
    config = {
        "peft_type": "LORA",
        "task_type": "QUESTION_ANS" if is_span else "SEQ_CLS",
        "base_model_name_or_path": base,
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": rf".*{family.adapted}",
        "modules_to_save": list(heads),
        "inference_mode": True,
    }
    text = json.dumps(config, indent=2, sort_keys=True)
    atomic_write(folder / CONFIG_FILE, (text + "\n").encode())


def _peft_name(name: str, family: Family) -> str:
    return f"base_model.model.{family.their_name(name)}"


@torch.no_grad()
def merge_adapter(encoder: Encoder, folder: Path) -> None:
    """Adds a saved adapter to the encoder's weights and takes over its head.

    Raises:
        ModelError: The adapter is absent, damaged, or made for another encoder.
    """
    scale, tensors = _read(folder)
    parameters = dict(encoder.named_parameters())
    unseen = {name for name in parameters if name.startswith(HEADS)}
    try:
        for key, value in tensors.items():
            name = encoder.config.family.own_name(key.removeprefix("base_model.model."))
            unseen.discard(name)
            if name.endswith(".lora_A.weight"):
                up = tensors[key.replace(".lora_A.", ".lora_B.")].float()
                target = parameters[name.replace(".lora_A.", ".")]
                target.add_(scale * (up @ value.float()).to(target.device))
            elif not name.endswith(".lora_B.weight"):
                parameters[name].copy_(value.float())
    except (KeyError, RuntimeError) as error:
        raise _foreign(folder, error) from error
    if unseen:
        raise ModelError(f"The adapter in {folder} lacks the head: {', '.join(sorted(unseen))}.")


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
        raise _foreign(folder, error) from error


def _foreign(folder: Path, error: Exception) -> ModelError:
    return ModelError(f"The adapter in {folder} was made for another encoder: {reason(error)}")


def _read(folder: Path) -> tuple[float, dict[str, Tensor]]:
    """The factor of the low-rank products, and all tensors by PEFT's names."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        for key, default in PLAIN.items():
            if (value := config.get(key)) and value != default:
                raise ModelError(
                    f"The adapter in {folder} has {key} {str(value)[:60]!r}, which is not supported: "
                    "merge it with PEFT (merge_and_unload) and take the merged model."
                )
        rank = float(config["r"])
        divisor = math.sqrt(rank) if config.get("use_rslora") else rank
        scale = float(config["lora_alpha"]) / divisor
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as file:
            return scale, {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        absent = next(n for n in (CONFIG_FILE, WEIGHTS_FILE) if not (folder / n).exists())
        raise ModelError(f"The adapter in {folder} lacks {absent}.") from error
    except ModelError:
        raise
    except (
        AttributeError,
        SafetensorError,
        OSError,
        RecursionError,
        ValueError,
        KeyError,
        TypeError,
        ZeroDivisionError,
    ) as error:
        raise ModelError(
            f"The adapter in {folder} is damaged or cut short: {reason(error)}"
        ) from error
