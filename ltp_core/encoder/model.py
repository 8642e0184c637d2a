"""One plain transformer encoder, and what its families may say differently.

Submodules carry the names that Hugging Face gives BERT's; a family that has others says which. The
encoder knows nothing of pruning: it offers the steps of a layer, and a runner composes them.

Axes: `batch`, `head`, `seq` (padded tokens of a sequence), `hidden`; `...` where a step works on
padded `batch seq` and on packed tokens alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

Head = Literal["classification", "span"]
"""What reads the last states: a classifier of the sequence, or start and end of an answer."""

Pooling = Literal["first", "mean"]
"""What a classifier reads of a sequence: the first token's last state, or the mean of all."""


@dataclass(frozen=True, eq=False)
class PositionBias:
    """What is added to attention logits by the distance of a key from its query.

    Attributes:
        by_distance: For the distances from -r to r (key's position minus query's); beyond, the ends
            hold. One row where all heads share it.
    """

    by_distance: Float[Tensor, "head distance"]

    @property
    def reach(self) -> int:
        """The largest distance in the table, r."""
        return self.by_distance.shape[1] // 2

    def __call__(
        self, query: Int[Tensor, "batch query"], key: Int[Tensor, "batch key"]
    ) -> Float[Tensor, "batch head query key"]:
        """The bias between tokens at these positions of the original sequence."""
        distance = key[:, None, :] - query[:, :, None]
        cell = distance.clamp(-self.reach, self.reach) + self.reach
        found = self.by_distance.index_select(1, cell.flatten())
        return found.view(-1, *cell.shape).transpose(0, 1)


@dataclass(frozen=True, eq=False)
class Rotation:
    """Rotary positions: pairs of dimensions of queries and keys turn with the token's position.

    A product of a query and a key then depends on their distance alone.

    Attributes:
        frequency: Radians that each pair turns from one position to the next; the pairs of a head
            are its dimensions i and i + half.

    Source: Su et al., RoFormer, 2021, section 3.2.
    """

    frequency: Float[Tensor, " half"]

    def __call__(
        self, states: Float[Tensor, "*#batch heads_hidden"], position: Int[Tensor, "*#batch"]
    ) -> Float[Tensor, "*batch heads_hidden"]:
        """States of tokens at these original positions, heads side by side, turned head by head."""
        angle = position[..., None, None] * self.frequency
        cos, sin = angle.cos(), angle.sin()
        pairs = states.view(*states.shape[:-1], -1, 2, len(self.frequency)).to(angle.dtype)
        one, other = pairs.unbind(-2)
        turned = torch.stack((one * cos - other * sin, other * cos + one * sin), dim=-2)
        return turned.flatten(-3).to(states.dtype)


@dataclass(frozen=True, eq=False)
class Positions:
    """What the original positions of tokens do inside a layer's attention.

    Attributes:
        bias: Added to the logits; None: nothing.
        rotation: Of queries and keys; None: they stay as they are.
    """

    bias: PositionBias | None = None
    rotation: Rotation | None = None


NO_POSITIONS = Positions()
"""Attention of a family that has positions in its embeddings only."""


@dataclass(frozen=True, kw_only=True)
class Family:
    """What tells one family of encoders from the others.

    Attributes:
        name: `model_type` of what is saved.
        prefix: Beginning of its tensors' names in Hugging Face's files; None: the name.
        model_types: The `model_type`s that are read as this family.
        class_prefix: Beginning of its classes' names in transformers.
        special_tokens: The tokenizer's, by their role in transformers.
        default_pad_id: Padding id of a configuration that names none.
        defaults: Values of other fields that a configuration may leave out, by BERT's names.
        has_token_types: Token types are embedded.
        embeds_positions: Positions are embedded; else they act in the attention alone.
        counts_from_padding: The first token's position id is the padding id + 1, and padding is not
            counted; else positions are 0, 1, ….
        pooler: The first of the head's maps where it is BERT's; None: the head is RoBERTa's.
        has_own_span_head: A span head is a linear map; else it is the classifier's, over every token.
        head_activation: Between the head's two maps.
        projects_embeddings: Embeddings may have another width than the layers.
        config_names: Names of BERT's fields of `config.json` where the family has others.
        renames: Parts of tensor names, theirs and ours.
        adapted: Pattern of the linear maps that low-rank adapters go on, by their names.
        required: Fields of `config.json` whose values are fixed, if they are there.
        read_own: Completes a configuration with the fields of `config.json` that only this family
            has; None: there are none. It raises `ModelError`.
        write_own: Those fields of a configuration.
        ffn_maps: Linear maps of the FFN, each of hidden times inner width.
        stack: The layers, and what they share.
    """

    name: str
    prefix: str | None = None
    model_types: tuple[str, ...]
    class_prefix: str
    special_tokens: Mapping[str, str]
    default_pad_id: int = 0
    defaults: Mapping[str, float] = field(default_factory=dict)
    has_token_types: bool = True
    embeds_positions: bool = True
    counts_from_padding: bool = False
    pooler: Callable[[EncoderConfig], Pooler] | None = None
    has_own_span_head: bool = True
    head_activation: Literal["tanh", "relu", "gelu"] = "tanh"
    projects_embeddings: bool = False
    config_names: Mapping[str, str] = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()
    adapted: str = r"encoder\.layer\.\d+\..*\.(query|key|value|dense)"
    required: Mapping[str, Any] = field(default_factory=dict)
    read_own: Callable[[Mapping[str, Any], EncoderConfig], EncoderConfig] | None = None
    write_own: Callable[[EncoderConfig], dict[str, Any]] | None = None
    ffn_maps: int = 2
    stack: Callable[[EncoderConfig], LayerStack]

    def bare_name(self, key: str) -> str:
        """A tensor's name in Hugging Face's files without the beginning that they share."""
        return key.removeprefix(f"{self.prefix or self.name}.")

    def own_name(self, key: str) -> str:
        """Name here of a tensor in Hugging Face's files; TensorFlow-era names as of today."""
        name = self.bare_name(key)
        for theirs, ours in (*self.renames, *OLD_NAMES):
            name = name.replace(theirs, ours)
        return name

    def their_name(self, name: str) -> str:
        """Name in Hugging Face's files of a tensor here."""
        for theirs, ours in self.renames:
            name = name.replace(ours, theirs)
        return name if name.startswith(OUTER) else f"{self.prefix or self.name}.{name}"


OUTER = ("classifier.", "pre_classifier.", "head.", "qa_outputs.")
"""Beginnings of tensor names that have no family in front."""

OLD_NAMES = (("LayerNorm.gamma", "LayerNorm.weight"), ("LayerNorm.beta", "LayerNorm.bias"))


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of an encoder with its head.

    Attributes:
        family: What tells it from other families.
        type_vocab_size: Token types; 0 where the family has none.
        num_labels: Outputs of the head; 1 means regression. A span head has 2: start and end.
        pad_id: Vocabulary id of the padding token.
        head: Kind of head.
        embedding_size: Width of the embeddings; None where it is `hidden_size`.
        pooling: What a classifier reads.
        norm_bias: Layer norms add something.
        embedding_dropout: Behind the embeddings; None: as `hidden_dropout`.
        head_dropout: Before the head's last map; None: as `hidden_dropout`.
        own: What only the family has; None: nothing.
    """

    family: Family
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    max_positions: int
    type_vocab_size: int
    pad_id: int
    num_labels: int
    layer_norm_eps: float = 1e-12
    hidden_dropout: float = 0.1
    attention_dropout: float = 0.1
    head: Head = "classification"
    embedding_size: int | None = None
    pooling: Pooling = "first"
    norm_bias: bool = True
    embedding_dropout: float | None = None
    head_dropout: float | None = None
    own: Any = None

    @property
    def reads_every_token(self) -> bool:
        """True where the head reads every token's state, False where only the first one's."""
        return self.head == "span" or self.pooling == "mean"

    @property
    def sizes(self) -> dict[str, Any]:
        """What FLOPs depend on besides lengths, as the formulas of `ltp_core.flops` call it."""
        return {
            "hidden": self.hidden_size,
            "intermediate": self.intermediate_size,
            "ffn_maps": self.family.ffn_maps,
        }

    @property
    def stored_sizes(self) -> dict[str, Any]:
        """The same as a run's manifest has it, where two maps go without saying."""
        maps = self.family.ffn_maps
        return {
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            **({} if maps == 2 else {"ffn_maps": maps}),
        }

    @property
    def position_offset(self) -> int:
        """Position id of the first token: RoBERTa starts behind its padding id."""
        return self.pad_id + 1 if self.family.counts_from_padding else 0

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens, special tokens included."""
        return self.max_positions - self.position_offset

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads

    def norm(self, width: int | None = None) -> nn.LayerNorm:
        """A new layer norm of this width, else of the states'."""
        return nn.LayerNorm(width or self.hidden_size, eps=self.layer_norm_eps, bias=self.norm_bias)


def _either(value: float | None, other: float) -> float:
    return other if value is None else value


class Embeddings(nn.Module):
    """Sum of word embeddings and of those of positions and token types that there are, normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.embedding_size or config.hidden_size
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_id)
        if config.family.embeds_positions:
            self.position_embeddings = nn.Embedding(config.max_positions, width)
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = config.norm(width)
        self.dropout = nn.Dropout(_either(config.embedding_dropout, config.hidden_dropout))
        self.project = (
            nn.Identity() if width == config.hidden_size else nn.Linear(width, config.hidden_size)
        )

    def position_ids(self, input_ids: Int[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
        """Position of each token: 0, 1, … for BERT; counted over non-padding ids for RoBERTa."""
        if not self.config.family.counts_from_padding:
            return torch.arange(input_ids.shape[1], device=input_ids.device).expand_as(input_ids)
        real = (input_ids != self.config.pad_id).int()
        return (real.cumsum(dim=1) * real).long() + self.config.pad_id

    def forward(
        self,
        input_ids: Int[Tensor, "..."],
        token_type_ids: Int[Tensor, "..."],
        position_ids: Int[Tensor, "..."],
    ) -> Float[Tensor, "... hidden"]:
        """Embeds tokens of any layout, padded or packed."""
        total = self.word_embeddings(input_ids)
        if self.config.type_vocab_size:
            total = total + self.token_type_embeddings(token_type_ids)
        if self.config.family.embeds_positions:
            total = total + self.position_embeddings(position_ids)
        embedded: Tensor = self.project(self.dropout(self.LayerNorm(total)))
        return embedded


class Projection(nn.Module):
    """From states to query, key and value."""

    def forward(self, states: Float[Tensor, "... hidden"]) -> tuple[Tensor, Tensor, Tensor]:
        """Query, key and value of each token, `... hidden`, heads side by side."""
        raise NotImplementedError

    def fused(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of all three in one map."""
        raise NotImplementedError

    @property
    def reader(self) -> nn.Linear:
        """A map of the states; where there are several, all read the same."""
        raise NotImplementedError


class SelfAttention(Projection):
    """Query, key and value projections."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)

    def forward(self, states: Float[Tensor, "... hidden"]) -> tuple[Tensor, Tensor, Tensor]:
        """As `Projection`."""
        return self.query(states), self.key(states), self.value(states)

    def fused(self) -> tuple[Tensor, Tensor | None]:
        """As `Projection`."""
        parts = (self.query, self.key, self.value)
        return torch.cat([p.weight for p in parts]), torch.cat([p.bias for p in parts])

    @property
    def reader(self) -> nn.Linear:
        """As `Projection`."""
        return self.query


class Dense(nn.Module):
    """A linear map under the name Hugging Face gives it."""

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs, bias=bias)


class Intermediate(Dense):
    """The FFN up to its inner states: a linear map and a GELU (Eq. 3).

    Attributes:
        is_gated: The map has two halves; one is the factor of the other's GELU.
    """

    is_gated: ClassVar[bool] = False

    def __init__(self, inputs: int, outputs: int, *, bias: bool = True) -> None:
        super().__init__(inputs, outputs, bias=bias)
        self.norm: nn.Module = nn.Identity()

    def forward(self, attended: Float[Tensor, "... hidden"]) -> Float[Tensor, "... inner"]:
        """`gelu(W x + b)`."""
        return functional.gelu(self.dense(self.norm(attended)))


class DenseResidual(nn.Module):
    """Linear map, dropout, residual connection and layer norm (Eqs. 2 and 4)."""

    def __init__(self, inputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm: nn.Module = config.norm()
        self.dropout = nn.Dropout(config.hidden_dropout)

    def forward(
        self, inputs: Float[Tensor, "... inner"], residual: Float[Tensor, "... hidden"]
    ) -> Float[Tensor, "... hidden"]:
        """`LN(dropout(W inputs + b) + residual)`."""
        summed: Tensor = self.LayerNorm(self.dropout(self.dense(inputs)) + residual)
        return summed


class Attention(nn.Module):
    """Attention projections and their output projection."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.norm: nn.Module = nn.Identity()
        self.self: Projection = SelfAttention(config)
        self.output = DenseResidual(config.hidden_size, config)


class EncoderLayer(nn.Module):
    """The steps of one layer (Eqs. 1-6).

    Norms stand behind the residuals (post-LN). A family in which they stand before the maps has them
    in `attention.norm` and `intermediate.norm`, and nothing behind (pre-LN).
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.head_size = config.head_size
        self.attention = Attention(config)
        self.intermediate = Intermediate(config.hidden_size, config.intermediate_size)
        self.output = DenseResidual(config.intermediate_size, config)
        self.attention_dropout = nn.Dropout(config.attention_dropout)

    @property
    def is_post_ln(self) -> bool:
        """Norms stand behind the residuals, and nowhere else."""
        before = self.attention.norm, self.intermediate.norm
        behind = self.attention.output.LayerNorm, self.output.LayerNorm
        return not any(isinstance(norm, nn.LayerNorm) for norm in before) and all(
            isinstance(norm, nn.LayerNorm) for norm in behind
        )

    def split_heads(self, x: Float[Tensor, "batch seq hidden"]) -> Tensor:
        """Reshapes to `batch head seq head_size`."""
        return x.view(*x.shape[:2], self.num_heads, self.head_size).transpose(1, 2)

    def project(
        self, hidden: Float[Tensor, "... hidden"]
    ) -> tuple[
        Float[Tensor, "... hidden"], Float[Tensor, "... hidden"], Float[Tensor, "... hidden"]
    ]:
        """Query (scaled for the softmax), key and value of each token of the layer's input."""
        query, key, value = self.attention.self(self.attention.norm(hidden))
        return query / math.sqrt(self.head_size), key, value

    def scaled_projection(self) -> tuple[Tensor, Tensor | None]:
        """Weight and bias of query (with the softmax scale), key and value in one map."""
        weight, bias = self.attention.self.fused()
        scale = torch.ones_like(weight[:, :1])
        scale[: self.num_heads * self.head_size] = 1 / math.sqrt(self.head_size)
        scaled = None if bias is None else (bias * scale[:, 0]).detach()
        return (weight * scale).detach(), scaled

    def attention_probs(
        self,
        query: Float[Tensor, "batch seq hidden"],
        key: Float[Tensor, "batch seq hidden"],
        live: Bool[Tensor, "batch seq"],
        log_weight: Float[Tensor, "batch seq"] | None = None,
        positions: Positions = NO_POSITIONS,
        position: Int[Tensor, "#batch seq"] | None = None,
    ) -> Float[Tensor, "batch head seq seq"]:
        """Softmax over the live keys (Eq. 6), before dropout, in float32 or wider.

        Args:
            query: From `project`.
            key: From `project`.
            live: Keys that take part; every sequence has at least one.
            log_weight: Added to the logits of each key: keys weighted by its exponential.
            positions: What original positions do in this layer.
            position: Original position of each token; None where they do nothing.
        """
        bias = None
        if position is not None:
            if positions.rotation is not None:
                query = positions.rotation(query, position)
                key = positions.rotation(key, position)
            if positions.bias is not None:
                bias = positions.bias(position, position)
        of_key = torch.zeros(live.shape, dtype=query.dtype, device=query.device)
        if log_weight is not None:
            of_key = of_key + log_weight
        of_key = of_key.masked_fill(~live, -torch.inf)
        products = self.split_heads(query) @ self.split_heads(key).transpose(-1, -2)
        logits = products + of_key[:, None, None, :]
        if bias is not None:
            logits = logits + bias
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return torch.softmax(logits, dim=-1, dtype=dtype)

    def context(
        self,
        probs: Float[Tensor, "batch head query seq"],
        value: Float[Tensor, "batch seq hidden"],
    ) -> Float[Tensor, "batch query hidden"]:
        """What each query gathers from the values, heads concatenated."""
        by_head = self.split_heads(value)
        dropped: Tensor = self.attention_dropout(probs)
        return (dropped.to(by_head.dtype) @ by_head).transpose(1, 2).flatten(2)

    def attend(
        self, context: Float[Tensor, "... hidden"], hidden: Float[Tensor, "... hidden"]
    ) -> Float[Tensor, "... hidden"]:
        """Output projection, residual and the norm behind it of what was gathered (Eq. 2)."""
        attended: Tensor = self.attention.output(context, hidden)
        return attended

    def feed_forward(self, attended: Float[Tensor, "... hidden"]) -> Float[Tensor, "... hidden"]:
        """The FFN with its residual and the norm behind it (Eqs. 3-4)."""
        finished: Tensor = self.output(self.intermediate(attended), attended)
        return finished


class LayerStack(nn.Module):
    """The list of layers under Hugging Face's name, and the norm behind the last one.

    Attributes:
        final_norm: What the head reads is a last state after this; post-LN layers need none.
    """

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(
            self.make_layer(config, index) for index in range(config.num_layers)
        )
        self.final_norm: nn.Module = nn.Identity()

    def make_layer(self, config: EncoderConfig, index: int) -> EncoderLayer:
        """The layer of this index, from 0."""
        del index
        return EncoderLayer(config)

    def positions(self) -> list[Positions]:
        """What original positions do in each layer's attention. Layers may share it."""
        return [NO_POSITIONS] * len(self.layer)


class Pooler(Dense):
    """The first of the two maps of BERT's head, and the norm behind its activation, if there is one."""

    def __init__(self, config: EncoderConfig, *, bias: bool = True) -> None:
        super().__init__(config.hidden_size, config.hidden_size, bias=bias)
        self.norm: nn.Module = nn.Identity()


class RobertaHead(nn.Module):
    """RoBERTa's classification head: dense, tanh, projection."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)


ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "tanh": torch.tanh,
    "relu": functional.relu,
    "gelu": functional.gelu,
}


class Encoder(nn.Module):
    """Embeddings, layers and a head: of the first token's class, or of every token as start and end."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = config.family.stack(config)
        self.head_dropout = nn.Dropout(_either(config.head_dropout, config.hidden_dropout))
        if config.head == "span" and config.family.has_own_span_head:
            self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)
        elif config.family.pooler is not None:
            self.pooler = config.family.pooler(config)
            self.classifier: nn.Module = nn.Linear(config.hidden_size, config.num_labels)
        else:
            self.classifier = RobertaHead(config)

    @property
    def layers(self) -> list[EncoderLayer]:
        """The layers in order."""
        return list(self.encoder.layer)  # type: ignore[arg-type]

    def embed(
        self, input_ids: Int[Tensor, "batch seq"], token_type_ids: Int[Tensor, "batch seq"]
    ) -> Float[Tensor, "batch seq hidden"]:
        """Embeds a padded batch."""
        positions = self.embeddings.position_ids(input_ids)
        embedded: Tensor = self.embeddings(input_ids, token_type_ids, positions)
        return embedded

    def head(self, states: Float[Tensor, "... hidden"]) -> Float[Tensor, "... label"]:
        """Logits from states that `LayerStack.final_norm` has seen, for each of them."""
        family = self.config.family
        if self.config.head == "span" and family.has_own_span_head:
            spans: Tensor = self.qa_outputs(states)
            return spans
        activation = ACTIVATIONS[family.head_activation]
        if family.pooler is not None:
            pooled = self.pooler.norm(activation(self.pooler.dense(states)))
            logits: Tensor = self.classifier(self.head_dropout(pooled))
            return logits
        inner = activation(self.classifier.dense(self.head_dropout(states)))  # type: ignore[operator]
        projected: Tensor = self.classifier.out_proj(self.head_dropout(inner))  # type: ignore[operator]
        return projected
