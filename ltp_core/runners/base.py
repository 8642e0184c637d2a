"""What goes into a runner and what comes out, the same for both."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ltp_core.pruning.base import PruningMethod

LastLayer = Literal["all", "first"]
"""Which tokens the last layer finishes: all that it retains, or only the one that the head reads."""


@dataclass(frozen=True)
class Inputs:
    """A right-padded batch of token ids.

    Attributes:
        input_ids: Vocabulary ids.
        token_type_ids: Segment of each token.
        attention_mask: True for real tokens, False for padding; every row has at least one token.
        protected: Tokens that no method may prune; padding False.
        special: Tokens that the tokenizer added: the first one and separators; padding False.
    """

    input_ids: Int[Tensor, "batch seq"]
    token_type_ids: Int[Tensor, "batch seq"]
    attention_mask: Bool[Tensor, "batch seq"]
    protected: Bool[Tensor, "batch seq"]
    special: Bool[Tensor, "batch seq"]

    @property
    def length(self) -> Int[Tensor, " batch"]:
        """Real tokens of each sequence."""
        return self.attention_mask.sum(dim=1)

    @property
    def protects_first(self) -> bool:
        """Whether the first token of every sequence is protected."""
        return bool(self.protected[:, 0].all())

    def to(self, device: torch.device | str) -> Inputs:
        """The same batch on another device."""
        return Inputs(
            self.input_ids.to(device),
            self.token_type_ids.to(device),
            self.attention_mask.to(device),
            self.protected.to(device),
            self.special.to(device),
        )


def make_inputs(
    input_ids: Int[Tensor, "batch seq"],
    token_type_ids: Int[Tensor, "batch seq"],
    attention_mask: Bool[Tensor, "batch seq"],
    *,
    protect_first: bool = True,
    protect_separators: bool = False,
    separator_id: int | None = None,
    protected: Bool[Tensor, "batch seq"] | None = None,
) -> Inputs:
    """Inputs with the protected tokens marked.

    Args:
        input_ids: Vocabulary ids, right-padded.
        token_type_ids: Segment of each token.
        attention_mask: True for real tokens.
        protect_first: Protect position 0 of every sequence.
        protect_separators: Protect every separator.
        separator_id: Id of the separators; None where the tokenizer has none.
        protected: Protect these tokens besides.
    """
    special = torch.zeros_like(attention_mask)
    if separator_id is not None:
        special |= input_ids == separator_id
    marked = special.clone() if protect_separators else torch.zeros_like(special)
    special[:, 0] = True
    marked[:, 0] = protect_first
    if protected is not None:
        marked |= protected
    return Inputs(
        input_ids,
        token_type_ids,
        attention_mask,
        marked & attention_mask,
        special & attention_mask,
    )


@dataclass(frozen=True)
class LayerRecord:
    """One layer's scores and decisions in the coordinates of the padded input batch.

    Attributes:
        live: Tokens that came to the layer.
        score: What the method compared: the importance score, what it made of it, or what it
            selected by before the layer; not a number where it compared nothing, 0 where not live.
        retained: Tokens that go on.
        attention: Importance score; 0 where not live, and where not selected before the layer.
    """

    live: Bool[Tensor, "batch seq"]
    score: Float[Tensor, "batch seq"]
    retained: Bool[Tensor, "batch seq"]
    attention: Float[Tensor, "batch seq"]


@dataclass(frozen=True)
class RunOutput:
    """What a pass computed and how much it computed on.

    Attributes:
        logits: Head output; of a span head `batch seq label`, -inf where no answer may be.
        attention_length: Tokens that entered each layer's attention; 0 where the layer is left out.
        ffn_length: Tokens that entered each layer's output projection and FFN.
        layers: Records of the layers that ran if they were asked for, else empty.
        query_length: Tokens whose queries were computed in each layer; None: all that entered.
    """

    logits: Float[Tensor, "batch ..."]
    attention_length: Int[Tensor, "batch layer"]
    ffn_length: Int[Tensor, "batch layer"]
    layers: tuple[LayerRecord, ...] = ()
    query_length: Int[Tensor, "batch layer"] | None = None


@runtime_checkable
class Runner(Protocol):
    """What removes tokens: the packed runner, and the native one."""

    def __call__(
        self,
        inputs: Inputs,
        method: PruningMethod,
        *,
        record: bool = False,
        last_layer: LastLayer = "all",
    ) -> RunOutput:
        """One pass; `PackedRunner` says what the arguments mean."""
        ...
