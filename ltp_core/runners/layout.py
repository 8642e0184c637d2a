"""Where packed tokens lie: sequences one after another, and the groups that attention runs over.

Sequences have very different lengths, and a padded batch of them is mostly blanks. So a long sequence
has its attention on its own, and short ones of about equal length share a padded group: a few
operations for all of them, for a bounded number of blanks.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate

import torch
from jaxtyping import Bool, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much one step takes on a kind of device.

    Attributes:
        block_tokens: Tokens that go through a layer together; a longer sequence goes alone.
        group_cells: Attention probabilities (head × query × key) of a group of several sequences.
        blank_cells: Those of them that are blanks; computing them takes about as long as starting
            one more group.
        has_one_group: All sequences are one group as they lie: attention computes on no blanks and
            keeps no probabilities (`triton_attention`).
    """

    block_tokens: int
    group_cells: int
    blank_cells: int
    has_one_group: bool = False


PROCESSOR = Limits(block_tokens=1024, group_cells=2**20, blank_cells=60_000)
"""What a core's cache keeps."""

ACCELERATOR = Limits(block_tokens=2**16, group_cells=2**27, blank_cells=2**24)
"""As much at once as memory allows: starting an operation costs more than blanks."""

WITHOUT_BLANKS = Limits(block_tokens=2**16, group_cells=0, blank_cells=0, has_one_group=True)
"""On a GPU where Triton compiles attention of any lengths."""


@dataclass(frozen=True, kw_only=True)
class Group:
    """Sequences whose attention is computed together.

    Attributes:
        members: Which sequences of the layout.
        starts: First row of each.
        lengths: Tokens of each.
        device: Where the tokens are.
    """

    members: list[int]
    starts: list[int]
    lengths: list[int]
    device: torch.device

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.members)

    @cached_property
    def width(self) -> int:
        """Tokens of the longest sequence."""
        return max(self.lengths)

    @cached_property
    def span(self) -> slice | None:
        """The rows of the group, if they follow one another; else None."""
        ends = [start + length for start, length in zip(self.starts, self.lengths, strict=True)]
        return slice(self.starts[0], ends[-1]) if self.starts[1:] == ends[:-1] else None

    @cached_property
    def member(self) -> Int[Tensor, " batch"]:
        """`members` as a tensor."""
        return torch.tensor(self.members, device=self.device)

    @cached_property
    def start(self) -> Int[Tensor, " batch"]:
        """`starts` as a tensor."""
        return torch.tensor(self.starts, device=self.device)

    @cached_property
    def live_length(self) -> Int[Tensor, " batch"]:
        """`lengths` as a tensor."""
        return torch.tensor(self.lengths, device=self.device)

    @cached_property
    def live(self) -> Bool[Tensor, "batch seq"] | None:
        """Which cells of the padded group hold a token; None: all."""
        if min(self.lengths) == self.width:
            return None
        return torch.arange(self.width, device=self.device) < self.live_length[:, None]

    @cached_property
    def cells(self) -> Int[Tensor, " live"] | None:
        """Place of each token in the padded group, sequence after sequence; None: all in order."""
        return None if self.live is None else self.live.view(-1).nonzero().view(-1)

    @cached_property
    def padded_rows(self) -> Int[Tensor, " cell"]:
        """Row of each cell of the padded group; for a blank, its sequence's first row."""
        first = self.start[:, None]
        rows = first + torch.arange(self.width, device=self.device)
        return (rows if self.live is None else torch.where(self.live, rows, first)).view(-1)

    @cached_property
    def rows(self) -> Int[Tensor, " live"]:
        """Row of each token, sequence after sequence."""
        if self.span is not None:
            return torch.arange(self.span.start, self.span.stop, device=self.device)
        return self.padded_rows if self.cells is None else self.padded_rows[self.cells]

    @cached_property
    def sequence(self) -> Int[Tensor, " live"]:
        """Which member each token belongs to."""
        if len(self) == 1:
            return torch.zeros(self.width, dtype=torch.long, device=self.device)
        return torch.repeat_interleave(self.live_length, output_size=sum(self.lengths))

    def rows_of(self, kept: Int[Tensor, " kept"] | None) -> Int[Tensor, " kept"]:
        """Rows of some of the group's tokens; None: of all."""
        if kept is None:
            return self.rows
        if self.span is None:
            return self.rows.index_select(0, kept)
        return kept + self.span.start if self.span.start else kept

    def take(self, values: Tensor) -> Tensor:
        """The values of the group's tokens."""
        return values[self.span] if self.span is not None else values.index_select(0, self.rows)


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Sequences one after another, without blanks.

    Attributes:
        sequences: The batch row of each.
        lengths: Live tokens of each; 0 where none is left.
        num_heads: Attention heads, for the size of the groups.
        limits: Size of a group.
        device: Where the tokens are.
    """

    sequences: list[int]
    lengths: list[int]
    num_heads: int
    limits: Limits
    device: torch.device

    @cached_property
    def starts(self) -> list[int]:
        """First row of each sequence, and the end of the last (`cu_seqlens`)."""
        return [0, *accumulate(self.lengths)]

    @cached_property
    def groups(self) -> list[Group]:
        """Groups for attention by falling length, or one group; empty sequences are in none."""
        live = [i for i, length in enumerate(self.lengths) if length > 0]
        if self.limits.has_one_group:
            return [self._group(live)] if live else []
        live.sort(key=lambda i: -self.lengths[i])
        groups = []
        while live:
            size = self._group_size(live)
            groups.append(self._group(live[:size]))
            live = live[size:]
        return groups

    def _group_size(self, order: list[int]) -> int:
        """How many of these sequences, the longest first, go into one group."""
        cells = self.num_heads * self.lengths[order[0]] ** 2
        most = min(len(order), max(1, self.limits.group_cells // cells))
        blank = 0
        for size in range(1, most):
            blank += cells - self.num_heads * self.lengths[order[size]] ** 2
            if blank > self.limits.blank_cells:
                return size
        return most

    def _group(self, members: list[int]) -> Group:
        return Group(
            members=members,
            starts=[self.starts[i] for i in members],
            lengths=[self.lengths[i] for i in members],
            device=self.device,
        )

    @cached_property
    def is_in_order(self) -> bool:
        """The groups hold the sequences in their order."""
        return [i for group in self.groups for i in group.members] == list(range(len(self.lengths)))

    def after(self, kept: list[list[int]]) -> Layout:
        """The layout of what stays: sequences in the order of the groups.

        Args:
            kept: Tokens that stay, of each sequence of each group.
        """
        return replace(
            self,
            sequences=[self.sequences[i] for group in self.groups for i in group.members],
            lengths=[length for lengths in kept for length in lengths],
        )
