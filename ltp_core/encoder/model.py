"""One plain post-LN transformer encoder, and what its families may say differently.

Submodules carry the names that Hugging Face gives BERT's; a family that has others says which. The
encoder knows nothing of pruning: it offers the steps of a layer, and a runner composes them.

Axes: `batch`, `head`, `seq` (padded tokens of a sequence), `hidden`; `...` where a step works on
padded `batch seq` and on packed tokens alike.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

Head = Literal["classification", "span"]
"""What reads the last states: a classifier of the first token, or start and end of an answer."""


@dataclass(frozen=True, eq=False)
class PositionBias:
    """What is added to attention logits by the distance of a key from its query.

    Attributes:
        by_distance: For the distances from -r to r (key's position minus query's); beyond, the ends
            hold.
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


@dataclass(frozen=True, kw_only=True)
class Family:
    """What tells one family of encoders from the others.

    Attributes:
        name: Beginning of its tensors' names in Hugging Face's files, and `model_type` of what is
            saved.
        model_types: The `model_type`s that are read as this family.
        class_prefix: Beginning of its classes' names in transformers.
        special_tokens: The tokenizer's, by their role in transformers.
        default_pad_id: Padding id of a configuration that names none.
        has_token_types: Token types are embedded.
        counts_from_padding: The first token's position id is the padding id + 1, and padding is not
            counted; else positions are 0, 1, ….
        has_pooler: The head is BERT's, a pooler and a linear map; else RoBERTa's.
        head_activation: Between the head's two maps.
        projects_embeddings: Embeddings may have another width than the layers.
        config_names: Names of BERT's fields of `config.json` where the family has others.
        renames: Parts of tensor names, theirs and ours.
        adapted: Pattern of the linear maps that low-rank adapters go on, by their names.
        required: Fields of `config.json` whose values are fixed, if they are there.
        stack: The layers, and what they share.
    """

    name: str
    model_types: tuple[str, ...]
    class_prefix: str
    special_tokens: Mapping[str, str]
    default_pad_id: int = 0
    has_token_types: bool = True
    counts_from_padding: bool = False
    has_pooler: bool = False
    head_activation: Literal["tanh", "relu", "gelu"] = "tanh"
    projects_embeddings: bool = False
    config_names: Mapping[str, str] = field(default_factory=dict)
    renames: tuple[tuple[str, str], ...] = ()
    adapted: str = r"encoder\.layer\.\d+\..*\.(query|key|value|dense)"
    required: Mapping[str, Any] = field(default_factory=dict)
    stack: Callable[[EncoderConfig], LayerStack]

    def own_name(self, key: str) -> str:
        """Name here of a tensor in Hugging Face's files; TensorFlow-era names as of today."""
        name = key.removeprefix(f"{self.name}.")
        for theirs, ours in (*self.renames, *OLD_NAMES):
            name = name.replace(theirs, ours)
        return name

    def their_name(self, name: str) -> str:
        """Name in Hugging Face's files of a tensor here."""
        for theirs, ours in self.renames:
            name = name.replace(ours, theirs)
        return name if name.startswith(OUTER) else f"{self.name}.{name}"


OUTER = ("classifier.", "pre_classifier.", "qa_outputs.")
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

    @property
    def reads_every_token(self) -> bool:
        """True where the head reads every token's state, False where only the first one's."""
        return self.head == "span"

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


class Embeddings(nn.Module):
    """Sum of word and position embeddings, and of token types where there are any, normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.embedding_size or config.hidden_size
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_id)
        self.position_embeddings = nn.Embedding(config.max_positions, width)
        if config.type_vocab_size:
            self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)
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
        total = total + self.position_embeddings(position_ids)
        embedded: Tensor = self.project(self.dropout(self.LayerNorm(total)))
        return embedded


class SelfAttention(nn.Module):
    """Query, key and value projections."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.query = nn.Linear(config.hidden_size, config.hidden_size)
        self.key = nn.Linear(config.hidden_size, config.hidden_size)
        self.value = nn.Linear(config.hidden_size, config.hidden_size)


class Dense(nn.Module):
    """A linear map under the name Hugging Face gives it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, outputs)


class DenseResidual(nn.Module):
    """Linear map, dropout, residual connection and layer norm (Eqs. 2 and 4)."""

    def __init__(self, inputs: int, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(inputs, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
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
        self.self = SelfAttention(config)
        self.output = DenseResidual(config.hidden_size, config)


class EncoderLayer(nn.Module):
    """The steps of one post-LN layer (Eqs. 1-6)."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.num_heads = config.num_heads
        self.head_size = config.head_size
        self.attention = Attention(config)
        self.intermediate = Dense(config.hidden_size, config.intermediate_size)
        self.output = DenseResidual(config.intermediate_size, config)
        self.attention_dropout = nn.Dropout(config.attention_dropout)

    def split_heads(self, x: Float[Tensor, "batch seq hidden"]) -> Tensor:
        """Reshapes to `batch head seq head_size`."""
        return x.view(*x.shape[:2], self.num_heads, self.head_size).transpose(1, 2)

    def attention_probs(
        self,
        hidden: Float[Tensor, "batch seq hidden"],
        live: Bool[Tensor, "batch seq"],
        log_weight: Float[Tensor, "batch seq"] | None = None,
        bias: Float[Tensor, "#batch head seq seq"] | None = None,
    ) -> Float[Tensor, "batch head seq seq"]:
        """Softmax over the live keys (Eq. 6), before dropout, in float32 or wider.

        Args:
            hidden: Layer input.
            live: Keys that take part; every sequence has at least one.
            log_weight: Added to the logits of each key: keys weighted by its exponential.
            bias: Added to the logits (`Encoder.position_biases`).
        """
        query = self.split_heads(self.attention.self.query(hidden) / math.sqrt(self.head_size))
        key = self.split_heads(self.attention.self.key(hidden))
        of_key = torch.zeros(live.shape, dtype=hidden.dtype, device=hidden.device)
        if log_weight is not None:
            of_key = of_key + log_weight
        of_key = of_key.masked_fill(~live, -torch.inf)
        logits = query @ key.transpose(-1, -2) + of_key[:, None, None, :]
        if bias is not None:
            logits = logits + bias
        dtype = torch.promote_types(logits.dtype, torch.float32)
        return torch.softmax(logits, dim=-1, dtype=dtype)

    def context(
        self,
        probs: Float[Tensor, "batch head query seq"],
        hidden: Float[Tensor, "batch seq hidden"],
    ) -> Float[Tensor, "batch query hidden"]:
        """What each query gathers from the values, heads concatenated."""
        value = self.split_heads(self.attention.self.value(hidden))
        dropped: Tensor = self.attention_dropout(probs)
        return (dropped.to(value.dtype) @ value).transpose(1, 2).flatten(2)

    def attend(
        self, context: Float[Tensor, "... hidden"], hidden: Float[Tensor, "... hidden"]
    ) -> Float[Tensor, "... hidden"]:
        """Output projection, residual and layer norm of what was gathered (Eq. 2)."""
        attended: Tensor = self.attention.output(context, hidden)
        return attended

    def feed_forward(self, attended: Float[Tensor, "... hidden"]) -> Float[Tensor, "... hidden"]:
        """The FFN with its residual and layer norm (Eqs. 3-4)."""
        inner = functional.gelu(self.intermediate.dense(attended))
        finished: Tensor = self.output(inner, attended)
        return finished


class LayerStack(nn.Module):
    """The list of layers under Hugging Face's name."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.layer = nn.ModuleList(EncoderLayer(config) for _ in range(config.num_layers))

    def position_biases(self) -> list[PositionBias | None]:
        """What each layer adds to its attention logits; None: nothing. Layers may share one."""
        return [None] * len(self.layer)


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
        self.head_dropout = nn.Dropout(config.hidden_dropout)
        if config.head == "span":
            self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)
        elif config.family.has_pooler:
            self.pooler = Dense(config.hidden_size, config.hidden_size)
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
        """Logits from final states: the first token's, or for a span head those of any tokens."""
        if self.config.head == "span":
            spans: Tensor = self.qa_outputs(states)
            return spans
        family = self.config.family
        activation = ACTIVATIONS[family.head_activation]
        if family.has_pooler:
            logits: Tensor = self.classifier(
                self.head_dropout(activation(self.pooler.dense(states)))
            )
            return logits
        inner = activation(self.classifier.dense(self.head_dropout(states)))  # type: ignore[operator]
        projected: Tensor = self.classifier.out_proj(self.head_dropout(inner))  # type: ignore[operator]
        return projected


def bias_at(
    bias: PositionBias | None, position: Int[Tensor, "batch seq"]
) -> Float[Tensor, "batch head seq seq"] | None:
    """What is added to the logits among tokens at these original positions; None: nothing."""
    return None if bias is None else bias(position, position)
