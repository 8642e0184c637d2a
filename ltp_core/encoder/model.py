"""One plain post-LN transformer encoder for the BERT and RoBERTa families.

Submodules carry Hugging Face's names, so a checkpoint's tensors map one to one. The encoder knows
nothing of pruning: it offers the steps of a layer, and a runner composes them.

Axes: `batch`, `head`, `seq` (padded tokens of a sequence), `hidden`; `...` where a step works on
padded `batch seq` and on packed tokens alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

Family = Literal["bert", "roberta"]

Head = Literal["classification", "span"]
"""What reads the last states: a classifier of the first token, or start and end of an answer."""


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """Shape of an encoder with its head.

    Attributes:
        family: "bert" (BERT, MiniLM) or "roberta" (RoBERTa, XLM-R).
        num_labels: Outputs of the head; 1 means regression. A span head has 2: start and end.
        pad_id: Vocabulary id of the padding token.
        head: Kind of head.
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

    @property
    def reads_every_token(self) -> bool:
        """True where the head reads every token's state, False where only the first one's."""
        return self.head == "span"

    @property
    def position_offset(self) -> int:
        """Position id of the first token: RoBERTa starts behind its padding id."""
        return self.pad_id + 1 if self.family == "roberta" else 0

    @property
    def max_length(self) -> int:
        """Longest sequence in tokens, special tokens included."""
        return self.max_positions - self.position_offset

    @property
    def head_size(self) -> int:
        """Width of one attention head."""
        return self.hidden_size // self.num_heads


class Embeddings(nn.Module):
    """Sum of word, position and token-type embeddings, normalised."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.config = config
        self.word_embeddings = nn.Embedding(config.vocab_size, width, padding_idx=config.pad_id)
        self.position_embeddings = nn.Embedding(config.max_positions, width)
        self.token_type_embeddings = nn.Embedding(config.type_vocab_size, width)
        self.LayerNorm = nn.LayerNorm(width, eps=config.layer_norm_eps)
        self.dropout = nn.Dropout(config.hidden_dropout)

    def position_ids(self, input_ids: Int[Tensor, "batch seq"]) -> Int[Tensor, "batch seq"]:
        """Position of each token: 0, 1, … for BERT; counted over non-padding ids for RoBERTa."""
        if self.config.family == "bert":
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
        total = (
            self.word_embeddings(input_ids)
            + self.token_type_embeddings(token_type_ids)
            + self.position_embeddings(position_ids)
        )
        embedded: Tensor = self.dropout(self.LayerNorm(total))
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
    ) -> Float[Tensor, "batch head seq seq"]:
        """Softmax over the live keys (Eq. 6), before dropout, in float32 or wider.

        Args:
            hidden: Layer input.
            live: Keys that take part; every sequence has at least one.
            log_weight: Added to the logits of each key: keys weighted by its exponential.
        """
        query = self.split_heads(self.attention.self.query(hidden) / math.sqrt(self.head_size))
        key = self.split_heads(self.attention.self.key(hidden))
        bias = torch.zeros(live.shape, dtype=hidden.dtype, device=hidden.device)
        if log_weight is not None:
            bias = bias + log_weight
        bias = bias.masked_fill(~live, -torch.inf)
        logits = query @ key.transpose(-1, -2) + bias[:, None, None, :]
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


class RobertaHead(nn.Module):
    """RoBERTa's classification head: dense, tanh, projection."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.dense = nn.Linear(config.hidden_size, config.hidden_size)
        self.out_proj = nn.Linear(config.hidden_size, config.num_labels)


class Encoder(nn.Module):
    """Embeddings, layers and a head: of the first token's class, or of every token as start and end."""

    def __init__(self, config: EncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = LayerStack(config)
        self.head_dropout = nn.Dropout(config.hidden_dropout)
        if config.head == "span":
            self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)
        elif config.family == "bert":
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
        first = states
        if self.config.family == "bert":
            logits: Tensor = self.classifier(
                self.head_dropout(torch.tanh(self.pooler.dense(first)))
            )
            return logits
        inner = torch.tanh(self.classifier.dense(self.head_dropout(first)))  # type: ignore[operator]
        projected: Tensor = self.classifier.out_proj(self.head_dropout(inner))  # type: ignore[operator]
        return projected
