"""ModernBERT: pre-LN layers with rotary positions, a gated FFN, and attention to near tokens in most layers.

A local layer's query attends to keys at most half a window away. Windows and rotations go by the
positions of the original sequence, so that a token means the same wherever its neighbours went; a
window of which tokens were pruned holds fewer, and does not reach further.

The importance score is the same sum over live queries: a token is seen by those within its window
only, and each of them still gives 1 in all, so the mean over a sequence's live tokens is 1 in local
layers too.

Source: Warner et al., ModernBERT, 2024; gates as in Shazeer, GLU Variants Improve Transformer, 2020.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ltp_core.encoder.bert import SPECIAL_TOKENS
from ltp_core.encoder.errors import ModelError
from ltp_core.encoder.model import (
    EncoderConfig,
    EncoderLayer,
    Family,
    Intermediate,
    LayerStack,
    Pooler,
    Pooling,
    PositionBias,
    Positions,
    Projection,
    Rotation,
)

BEYOND = -1e30
"""Added to the logit of a key beyond the window: its probability is exactly 0. It is finite, as a row
that is never read may have no live key within its window, and must not become NaN."""

GLOBAL, LOCAL = "full_attention", "sliding_attention"
"""What `layer_types` in `config.json` calls the layers."""

POOLINGS: dict[str, Pooling] = {"cls": "first", "mean": "mean"}


@dataclass(frozen=True, kw_only=True)
class ModernSettings:
    """What only ModernBERT has.

    Attributes:
        layer_types: `GLOBAL` or `LOCAL` for each layer.
        local_attention: Window of a local layer in tokens: half of it on each side.
        thetas: Base of the rotations' frequencies in global and in local layers.
        attention_bias: The attention's linear maps add something.
        mlp_bias: So do the FFN's.
        classifier_bias: So does the first of the head's.
    """

    layer_types: tuple[str, ...]
    local_attention: int
    thetas: tuple[float, float]
    attention_bias: bool
    mlp_bias: bool
    classifier_bias: bool


class FusedAttention(Projection):
    """Query, key and value in one map."""

    def __init__(self, width: int, *, bias: bool) -> None:
        super().__init__()
        self.Wqkv = nn.Linear(width, 3 * width, bias=bias)

    def forward(self, states: Float[Tensor, "... hidden"]) -> tuple[Tensor, Tensor, Tensor]:
        """As `Projection`."""
        query, key, value = self.Wqkv(states).chunk(3, dim=-1)
        return query, key, value

    def fused(self) -> tuple[Tensor, Tensor | None]:
        """As `Projection`."""
        return self.Wqkv.weight, self.Wqkv.bias

    @property
    def reader(self) -> nn.Linear:
        """As `Projection`."""
        return self.Wqkv


class GatedIntermediate(Intermediate):
    """The FFN up to its inner states: `gelu(a) * b`, a and b the halves of one map (GeGLU)."""

    is_gated = True

    def __init__(self, config: EncoderConfig) -> None:
        bias = config.own.mlp_bias
        super().__init__(config.hidden_size, 2 * config.intermediate_size, bias=bias)
        self.norm = config.norm()
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(self, attended: Float[Tensor, "... hidden"]) -> Float[Tensor, "... inner"]:
        """The inner states of states after attention."""
        inner, gate = self.dense(self.norm(attended)).chunk(2, dim=-1)
        dropped: Tensor = self.dropout(functional.gelu(inner) * gate)
        return dropped


class ModernLayer(EncoderLayer):
    """Norms before the maps, none behind; the first layer's attention reads the embeddings as they are."""

    def __init__(self, config: EncoderConfig, index: int) -> None:
        super().__init__(config)
        width, own = config.hidden_size, config.own
        self.attention.norm = config.norm() if index else nn.Identity()
        self.attention.self = FusedAttention(width, bias=own.attention_bias)
        self.intermediate = GatedIntermediate(config)
        for output, bias in (
            (self.attention.output, own.attention_bias),
            (self.output, own.mlp_bias),
        ):
            output.dense = nn.Linear(output.dense.in_features, width, bias=bias)
            output.LayerNorm = nn.Identity()
        self.attention.output.dropout.p = config.attention_dropout
        self.output.dropout.p = 0.0  # the FFN's is before its second map


class ModernStack(LayerStack):
    """Layers with global or local attention, and the norm behind the last one."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__(config)
        self.settings: ModernSettings = config.own
        self.head_size = config.head_size
        self.final_norm = config.norm()

    def make_layer(self, config: EncoderConfig, index: int) -> EncoderLayer:
        """The layer of this index, from 0."""
        return ModernLayer(config, index)

    def positions(self) -> list[Positions]:
        """A rotation for each layer, and a window for local ones."""
        weight = self.final_norm.weight
        assert isinstance(weight, Tensor)
        own, device = self.settings, weight.device
        dtype = torch.promote_types(weight.dtype, torch.float32)
        pair = torch.arange(0, self.head_size, 2, dtype=dtype, device=device) / self.head_size
        everywhere, near = (Rotation(1.0 / theta**pair) for theta in own.thetas)
        window = torch.zeros(1, 2 * (own.local_attention // 2) + 3, dtype=dtype, device=device)
        window[:, [0, -1]] = BEYOND
        kinds = {
            GLOBAL: Positions(rotation=everywhere),
            LOCAL: Positions(rotation=near, bias=PositionBias(window)),
        }
        return [kinds[own.layer_types[index]] for index in range(len(self.layer))]


def modern_pooler(config: EncoderConfig) -> Pooler:
    """The first of the head's maps, with the norm behind its activation."""
    pooler = Pooler(config, bias=config.own.classifier_bias)
    pooler.norm = config.norm()
    return pooler


# --- config.json ------------------------------------------------------------------------------------


def read_own(raw: Mapping[str, Any], config: EncoderConfig) -> EncoderConfig:
    """Completes a configuration; newer fields stand before the older ones that say the same."""
    pooling = raw.get("classifier_pooling", "cls")
    if pooling not in POOLINGS:
        raise _unsupported("classifier_pooling", pooling, "known are cls and mean")
    if config.head_size % 2:
        raise ModelError(
            f"config.json: heads are {config.head_size} wide; rotary positions need an even width."
        )
    if raw.get("head_dim", config.head_size) != config.head_size:
        raise _unsupported("head_dim", raw["head_dim"], f"known is {config.head_size}")
    window = _whole(raw, "local_attention", 128)
    if raw.get("sliding_window", window // 2) != window // 2:
        raise _unsupported("sliding_window", raw["sliding_window"], f"known is {window // 2}")
    own = ModernSettings(
        layer_types=_layer_types(raw, config.num_layers),
        local_attention=window,
        thetas=_thetas(raw),
        attention_bias=_flag(raw, "attention_bias"),
        mlp_bias=_flag(raw, "mlp_bias"),
        classifier_bias=_flag(raw, "classifier_bias"),
    )
    return dataclasses.replace(
        config,
        pooling=POOLINGS[pooling],
        norm_bias=_flag(raw, "norm_bias"),
        embedding_dropout=_fraction(raw, "embedding_dropout"),
        head_dropout=_fraction(raw, "classifier_dropout"),
        own=own,
    )


def write_own(config: EncoderConfig) -> dict[str, Any]:
    """The fields that `read_own` reads, in the newer spelling."""
    own: ModernSettings = config.own
    rope = {
        kind: {"rope_type": "default", "rope_theta": theta}
        for kind, theta in zip((GLOBAL, LOCAL), own.thetas, strict=True)
    }
    return {
        "classifier_pooling": next(k for k, v in POOLINGS.items() if v == config.pooling),
        "layer_types": list(own.layer_types[: config.num_layers]),
        "local_attention": own.local_attention,
        "rope_parameters": rope,
        "attention_bias": own.attention_bias,
        "mlp_bias": own.mlp_bias,
        "classifier_bias": own.classifier_bias,
        "norm_bias": config.norm_bias,
        "embedding_dropout": config.embedding_dropout,
        "classifier_dropout": config.head_dropout,
        "classifier_activation": "gelu",
    }


def _layer_types(raw: Mapping[str, Any], num_layers: int) -> tuple[str, ...]:
    if (kinds := raw.get("layer_types")) is None:
        every = _whole(raw, "global_attn_every_n_layers", 3)
        return tuple(LOCAL if index % every else GLOBAL for index in range(num_layers))
    if not isinstance(kinds, list) or len(kinds) != num_layers:
        raise ModelError(f"config.json: layer_types does not name {num_layers} layers.")
    for kind in kinds:
        if kind not in (GLOBAL, LOCAL):
            raise _unsupported("layer_types", kind, f"known are {GLOBAL} and {LOCAL}")
    return tuple(kinds)


def _thetas(raw: Mapping[str, Any]) -> tuple[float, float]:
    if raw.get("rope_scaling") is not None:
        raise _unsupported("rope_scaling", raw["rope_scaling"], "known is null")
    rope = raw.get("rope_parameters") or {}
    if not isinstance(rope, dict) or not all(isinstance(each, dict) for each in rope.values()):
        raise _unsupported("rope_parameters", rope, f"known are fields of {GLOBAL} and {LOCAL}")
    found = []
    for kind, name, default in (
        (GLOBAL, "global_rope_theta", 160_000.0),
        (LOCAL, "local_rope_theta", 10_000.0),
    ):
        fields = rope.get(kind, {})
        if fields.get("rope_type", "default") != "default" or set(fields) - {
            "rope_type",
            "rope_theta",
        }:
            raise _unsupported("rope_parameters", fields, "known are rope_type default, rope_theta")
        theta = fields.get("rope_theta", raw.get(name, default))
        if type(theta) not in (int, float) or not 1 < theta < float("inf"):
            raise ModelError(
                f"config.json: {name}, in rope_parameters the rope_theta of {kind}, is {theta!r}, "
                "not a number above 1."
            )
        found.append(float(theta))
    return found[0], found[1]


def _whole(raw: Mapping[str, Any], name: str, default: int) -> int:
    value = raw.get(name, default)
    if type(value) is not int or not 1 <= value <= 10_000_000:
        raise ModelError(f"config.json: {name} is {value!r}, not a whole number above 0.")
    return value


def _flag(raw: Mapping[str, Any], name: str) -> bool:
    value = raw.get(name, False)
    if type(value) is not bool:
        raise ModelError(f"config.json: {name} is {value!r}, neither true nor false.")
    return value


def _fraction(raw: Mapping[str, Any], name: str) -> float:
    value = raw.get(name, 0.0)
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ModelError(f"config.json: {name} is {value!r}, not a number from 0 to 1.")
    return float(value)


def _unsupported(name: str, value: Any, known: str) -> ModelError:
    return ModelError(f"config.json: {name} {str(value)[:80]!r} is not supported; {known}.")


MODERNBERT = Family(
    name="modernbert",
    prefix="model",
    model_types=("modernbert",),
    class_prefix="ModernBert",
    special_tokens=SPECIAL_TOKENS,
    default_pad_id=50_283,
    defaults={
        "layer_norm_eps": 1e-5,
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    },
    has_token_types=False,
    embeds_positions=False,
    pooler=modern_pooler,
    has_own_span_head=False,
    head_activation="gelu",
    config_names={
        "hidden_act": "hidden_activation",
        "hidden_dropout_prob": "mlp_dropout",
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "norm_eps",
    },
    # From ours to theirs the longer name must come before the one that ends like it.
    renames=(
        ("layers.", "encoder.layer."),
        ("attn_norm.", "attention.norm."),
        ("attn.Wqkv.", "attention.self.Wqkv."),
        ("attn.Wo.", "attention.output.dense."),
        ("mlp_norm.", "intermediate.norm."),
        ("mlp.Wi.", "intermediate.dense."),
        ("mlp.Wo.", "output.dense."),
        ("final_norm.", "encoder.final_norm."),
        ("embeddings.tok_embeddings.", "embeddings.word_embeddings."),
        ("embeddings.norm.", "embeddings.LayerNorm."),
        ("head.", "pooler."),
    ),
    adapted=r"layers\.\d+\..*\.(Wqkv|Wo|Wi)",
    required={"classifier_activation": "gelu"},
    read_own=read_own,
    write_own=write_own,
    ffn_maps=3,
    stack=ModernStack,
)
