"""Reading encoders in Hugging Face's layout: `config.json`, `model.safetensors`.

Weights in another format are read through `transformers`.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.overrides import TorchFunctionMode

from ltp_core.encoder.errors import HeadError, ModelError, reason
from ltp_core.encoder.families import BY_MODEL_TYPE
from ltp_core.encoder.model import Encoder, EncoderConfig, Head

LARGEST = {"num_hidden_layers": 1000, "num_labels": 100_000}
LARGEST_SIZE = 10_000_000
"""What a config may ask for; its sizes are compared with the weights before memory is taken."""

UNREAD: dict[str, tuple[Any, ...]] = {
    "hidden_act": ("gelu",),
    "position_embedding_type": ("absolute",),
    "is_decoder": (False,),
    "is_encoder_decoder": (False,),
    "add_cross_attention": (False,),
    "pruned_heads": ({}, []),
    "quantization_config": (),
}
"""Fields of `config.json` that change what a model computes, with the values that are supported."""

HEAD: Head = "classification"
"""Head of a checkpoint that does not say otherwise."""

SPAN_ARCHITECTURE = "ForQuestionAnswering"
"""How Hugging Face names models with a span head."""


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's `config.json`.

    Raises:
        ModelError: Absent or no JSON object.
    """
    try:
        raw = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ModelError(f"{folder} has no config.json: it is not a model folder.") from error
    except (ValueError, OSError, RecursionError) as error:
        raise ModelError(f"{folder / 'config.json'} cannot be read: {error}.") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{folder / 'config.json'} is not a JSON object.")
    return raw


def encoder_config(
    raw: dict[str, Any], *, num_labels: int | None = None, head: Head | None = None
) -> EncoderConfig:
    """Reads Hugging Face's configuration.

    Args:
        raw: Content of `config.json`.
        num_labels: Outputs of the head; None takes the checkpoint's own.
        head: Kind of head; None takes the checkpoint's own.

    Raises:
        ModelError: Another architecture, another activation or position scheme, a missing field.
    """
    model_type = raw.get("model_type")
    if not isinstance(model_type, str) or model_type not in BY_MODEL_TYPE:
        known = ", ".join(BY_MODEL_TYPE)
        raise ModelError(f"Architecture {model_type!r} is not supported; known are {known}.")
    family = BY_MODEL_TYPE[model_type]
    fields = _Fields(raw, family.config_names, family.defaults)
    fixed = {key: (value,) for key, value in family.required.items()}
    for key, supported in (UNREAD | fixed).items():
        name, value = fields.get(key)
        if value is not None and value not in supported:
            known = f"; known is {supported[0]!r}" if supported else ""
            raise ModelError(f"config.json: {name} {str(value)[:80]!r} is not supported{known}.")
    heads, width = fields.size("num_attention_heads"), fields.size("hidden_size")
    if width % heads:
        raise ModelError(
            f"config.json: {fields.get('num_attention_heads')[0]} {heads} does not divide "
            f"{fields.get('hidden_size')[0]} {width}."
        )
    embedding_size = fields.size("embedding_size", width) if family.projects_embeddings else width
    config = EncoderConfig(
        family=family,
        vocab_size=fields.size("vocab_size"),
        hidden_size=width,
        num_layers=fields.size("num_hidden_layers"),
        num_heads=heads,
        intermediate_size=fields.size("intermediate_size"),
        max_positions=fields.size("max_position_embeddings"),
        type_vocab_size=fields.size("type_vocab_size", 2) if family.has_token_types else 0,
        pad_id=fields.pad_id(family.default_pad_id),
        num_labels=num_labels or max(1, len(label_names(raw))),
        layer_norm_eps=fields.fraction("layer_norm_eps", 1e-12),
        hidden_dropout=fields.fraction("hidden_dropout_prob", 0.1),
        attention_dropout=fields.fraction("attention_probs_dropout_prob", 0.1),
        head=head or ("span" if SPAN_ARCHITECTURE in str(raw.get("architectures")) else HEAD),
        embedding_size=None if embedding_size == width else embedding_size,
    )
    return config if family.read_own is None else family.read_own(raw, config)


@dataclass(frozen=True)
class _Fields:
    """Fields of a `config.json`, asked for by BERT's names.

    Attributes:
        raw: Content of the file.
        names: What fields may be called instead.
        defaults: The family's values of fields that are left out.
    """

    raw: dict[str, Any]
    names: Mapping[str, str]
    defaults: Mapping[str, float] = field(default_factory=dict)

    def get(self, key: str, default: Any = None) -> tuple[str, Any]:
        """The field's name in the file, and its value."""
        name = self.names.get(key, key)
        return (name, self.raw[name]) if name in self.raw else (name, self.raw.get(key, default))

    def size(self, key: str, default: int | None = None) -> int:
        """A whole number above 0."""
        name, value = self.get(key, default)
        if value is None:
            raise ModelError(f"config.json lacks the field {name!r}.")
        if type(value) is not int or value < 1:
            raise ModelError(f"config.json: {name} is {value!r}, not a whole number above 0.")
        if value > (limit := LARGEST.get(key, LARGEST_SIZE)):
            raise ModelError(
                f"config.json: {name} is {value}, which no encoder has: {limit} is the most."
            )
        return value

    def fraction(self, key: str, default: float) -> float:
        """A number from 0 to 1."""
        name, value = self.get(key, self.defaults.get(key, default))
        if type(value) not in (int, float) or not 0 <= value <= 1:
            raise ModelError(f"config.json: {name} is {value!r}, not a number from 0 to 1.")
        return float(value)

    def pad_id(self, default: int) -> int:
        """The padding token's id."""
        value = self.raw.get("pad_token_id", default)
        if type(value) is not int or not 0 <= value < self.size("vocab_size"):
            raise ModelError(f"config.json: pad_token_id is {value!r}, which is no vocabulary id.")
        return value


def label_names(raw: dict[str, Any]) -> tuple[str, ...]:
    """Names of a configuration's outputs in order: `id2label`, else LABEL_n as in transformers.

    Raises:
        ModelError: `id2label` does not map the numbers from 0 on.
    """
    names = raw.get("id2label")
    if not names:
        return tuple(f"LABEL_{i}" for i in range(_Fields(raw, {}).size("num_labels", 2)))
    if not isinstance(names, dict) or set(names) != {str(i) for i in range(len(names))}:
        raise ModelError("config.json: id2label does not map the numbers from 0 on to names.")
    return tuple(str(names[str(i)]) for i in range(len(names)))


def load_encoder(
    folder: Path,
    *,
    num_labels: int | None = None,
    head: Head | None = None,
    needs_head: bool = False,
) -> Encoder:
    """Loads an encoder of any family in `FAMILIES`.

    A head that the checkpoint lacks, or that has another number of labels, is freshly initialised,
    or refused if it is needed. `num_labels` and `head` are the checkpoint's own where they are None.

    Raises:
        ModelError: The architecture is not supported, or the weights are absent or damaged.
    """
    raw = read_config(folder)
    encoder_config(raw, num_labels=num_labels, head=head)  # refused before weights are read
    found = _read(folder)
    family = BY_MODEL_TYPE[raw["model_type"]]
    own_head = _head_in_file(raw, found) if family.has_own_span_head else None
    config = encoder_config(raw, num_labels=num_labels, head=head or own_head)
    weights = {config.family.own_name(key): value for key, value in found.items()}
    for key, value in weights.items():
        if not value.is_floating_point() and not key.endswith("position_ids"):
            raise ModelError(
                f"The weights in {folder} are quantised ({key} is {value.dtype}), which is not "
                "supported: take the model in float32, float16 or bfloat16."
            )
    if num_labels is None and (outputs := _outputs(weights, config)) is not None:
        # The head that is in the file counts; names that were given on purpose must fit it.
        if raw.get("id2label") and outputs != config.num_labels:
            raise ModelError(
                f"{folder}: id2label names {config.num_labels} labels, but the head in the file "
                f"has {outputs} outputs: correct id2label."
            )
        config = dataclasses.replace(config, num_labels=outputs)
    # Shapes are compared on a model without memory, so a config cannot ask for more than is there.
    with torch.device("meta"), _NoInitialValues():
        state = Encoder(config).state_dict()
    usable = {
        key: value
        for key, value in weights.items()
        if key in state and (value.shape == state[key].shape or not _is_head(key))
    }
    missing = [key for key in state if key not in usable and (needs_head or not _is_head(key))]
    if missing:
        kind = HeadError if all(map(_is_head, missing)) else ModelError
        raise kind(f"The weights in {folder} lack {len(missing)} tensors, first {missing[0]}.")
    for key, value in usable.items():
        if value.shape != state[key].shape:
            raise ModelError(
                f"The weights in {folder} do not fit its config.json: {key} is "
                f"{tuple(value.shape)}, expected {tuple(state[key].shape)}."
            )
    encoder = Encoder(config)
    _init_head(encoder)
    encoder.load_state_dict({k: v.to(torch.float32) for k, v in usable.items()}, strict=False)
    return encoder.eval()


class _NoInitialValues(TorchFunctionMode):
    """Draws no initial weights: without memory, that would import PyTorch's compiler, for seconds."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


def _head_in_file(raw: dict[str, Any], found: dict[str, Tensor]) -> Head | None:
    """The head whose tensors are there; None where both or neither are, so that the config says."""
    has_span = "qa_outputs.weight" in found
    has_class = any(key.startswith("classifier.") for key in found)
    if has_class and "ForMultipleChoice" in str(raw.get("architectures")):
        raise ModelError("A head that chooses among several texts is not supported.")
    return None if has_span == has_class else ("span" if has_span else "classification")


def _outputs(weights: dict[str, Tensor], config: EncoderConfig) -> int | None:
    """Outputs of the head in the file; None without one."""
    is_own = config.head == "span" and config.family.has_own_span_head
    names = ("qa_outputs",) if is_own else ("classifier.out_proj", "classifier")
    return next((len(weights[f"{n}.weight"]) for n in names if f"{n}.weight" in weights), None)


def _is_head(key: str) -> bool:
    return key.startswith(("classifier.", "pooler.", "qa_outputs."))


def _init_head(encoder: Encoder) -> None:
    """Normal weights with deviation 0.02, zero biases, as BERT's; a norm changes nothing at first."""
    for name, parameter in encoder.named_parameters():
        if _is_head(name) and "norm." not in name:
            with torch.no_grad():
                parameter.normal_(std=0.02) if parameter.dim() > 1 else parameter.zero_()


def _read(folder: Path) -> dict[str, Tensor]:
    path = folder / "model.safetensors"
    if path.exists():
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path} is damaged or cut short: {reason(error)}") from error
    return _read_through_transformers(folder)


def _read_through_transformers(folder: Path) -> dict[str, Tensor]:
    """Weights in shards or an older format, with transformers' own safe loading.

    Left out are those that the files lack: transformers fills them with random numbers.
    """
    import transformers

    for index in folder.glob("*.index.json"):
        _check_shards(index)
    is_span = SPAN_ARCHITECTURE in str(read_config(folder).get("architectures"))
    kind = "AutoModelForQuestionAnswering" if is_span else "AutoModelForSequenceClassification"
    try:
        model, info = getattr(transformers, kind).from_pretrained(
            folder, local_files_only=True, output_loading_info=True
        )
    except Exception as error:
        raise ModelError(f"{folder} holds no weights that can be read: {reason(error)}") from error
    absent = set(info["missing_keys"])
    return {key: value for key, value in model.state_dict().items() if key not in absent}


def _check_shards(index: Path) -> None:
    """Refuses an index that leads out of its folder or to a file that is not there."""
    try:
        files = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    except (ValueError, OSError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} cannot be read: {reason(error)}.") from error
    for name in sorted(map(str, files)):
        if name != os.path.basename(name) or name in {"", ".", ".."}:  # noqa: PTH119
            raise ModelError(f"{index} names {name!r}, which is no file beside it: refused.")
        if not (index.parent / name).is_file():
            raise ModelError(f"{index} names {name}, which is not there: download it again.")
