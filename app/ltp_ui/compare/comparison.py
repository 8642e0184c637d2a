"""Two traces of one text, side by side: who still reads which token after each layer.

A token is in one of four states after a layer: both keep it, only A does, only B does, or neither.
Layers are counted from 1 here and 0 is the input. After its last layer a network has ended and keeps
nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from app.ltp_ui.shared.labels import label_of
from app.ltp_ui.token_view.view import TokenView
from ltp_core.records import Trace

State = Literal["both", "only-a", "only-b", "neither"]
STATES: tuple[State, ...] = ("both", "only-a", "only-b", "neither")


@dataclass(frozen=True, kw_only=True)
class Side:
    """One of the two.

    Attributes:
        letter: "A" or "B".
        setting: How it departs from what was learned, in words; empty if it does not.
        trace: What it decided.
        view: The same in columns; both sides have the same columns.
    """

    letter: str
    setting: str
    trace: Trace
    view: TokenView

    @property
    def name(self) -> str:
        """Checkpoint and setting."""
        return ", ".join(filter(None, (label_of(self.trace.checkpoint), self.setting)))

    @property
    def end(self) -> int:
        """The last layer that runs."""
        return max((i for i, layer in enumerate(self.trace.layers, 1) if layer.runs), default=0)

    @property
    def num_survived(self) -> tuple[int, ...]:
        """For each token, the number of layers after which it is kept."""
        return tuple(min(survived, self.end) for survived in self.trace.num_survived)

    @property
    def columns_survived(self) -> tuple[int, ...]:
        """The same for each column of the view."""
        return tuple(min(column.survived, self.end) for column in self.view.columns)

    def num_live(self, layer: int) -> int:
        """Tokens kept after a layer; 0 when it has ended."""
        return self.trace.lengths[layer] if layer <= self.end else 0


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How the tokens divide after a layer.

    Attributes:
        both: Number of tokens that both keep.
        only_a: That only A keeps.
        only_b: That only B keeps.
        neither: That neither keeps.
        jaccard: Those that both keep as a fraction of those that at least one keeps; None after one
            of the two has ended.
    """

    both: int
    only_a: int
    only_b: int
    neither: int
    jaccard: float | None

    @property
    def num_different(self) -> int:
        """Tokens that just one of the two keeps."""
        return self.only_a + self.only_b


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two sides that read the same tokens.

    Attributes:
        a: The first.
        b: The second.
        tallies: At the input and after each layer until both have ended.
    """

    a: Side
    b: Side
    tallies: tuple[Tally, ...]

    @property
    def num_layers(self) -> int:
        """Layers until both have ended."""
        return len(self.tallies) - 1

    @property
    def num_shared(self) -> int:
        """Layers that both have."""
        return min(self.a.end, self.b.end)

    @property
    def num_tokens(self) -> int:
        """Tokens at the input."""
        return len(self.a.trace.tokens)

    @property
    def first_difference(self) -> int | None:
        """The first layer after which they keep different tokens; None if there is none."""
        layers = range(1, self.num_shared + 1)
        return next((k for k in layers if self.tallies[k].num_different), None)

    @property
    def widest_difference(self) -> int | None:
        """The layer with the lowest Jaccard index, the first of equals; None if nothing differs."""
        if self.first_difference is None:
            return None
        return min(range(1, self.num_shared + 1), key=lambda k: self.tallies[k].jaccard or 0.0)

    def states(self, layer: int) -> tuple[State, ...]:
        """State of each token after a layer."""
        pairs = zip(self.a.num_survived, self.b.num_survived, strict=True)
        return tuple(state_after(a, b, layer) for a, b in pairs)


def compare(a: Side, b: Side) -> Comparison:
    """Puts two sides together.

    Raises:
        ValueError: They did not read the same tokens.
    """
    if not is_comparable(a.trace, b.trace):
        raise ValueError("the two traces are not of the same tokens")
    last = max(a.end, b.end)
    return Comparison(a=a, b=b, tallies=tuple(_tally(a, b, layer) for layer in range(last + 1)))


def is_comparable(a: Trace, b: Trace) -> bool:
    """Whether both networks read the same tokens."""
    return a.tokens == b.tokens and a.token_ids == b.token_ids


def state_after(survived_a: int, survived_b: int, layer: int) -> State:
    """State of a token after a layer, from the layers that it survives in A and in B."""
    if survived_a >= layer and survived_b >= layer:
        return "both"
    if survived_a >= layer:
        return "only-a"
    return "only-b" if survived_b >= layer else "neither"


def _tally(a: Side, b: Side, layer: int) -> Tally:
    pairs = zip(a.num_survived, b.num_survived, strict=True)
    states = [state_after(in_a, in_b, layer) for in_a, in_b in pairs]
    counts = {state: states.count(state) for state in STATES}
    kept = len(states) - counts["neither"]
    has_ended = layer > min(a.end, b.end)
    return Tally(
        both=counts["both"],
        only_a=counts["only-a"],
        only_b=counts["only-b"],
        neither=counts["neither"],
        jaccard=None if has_ended or not kept else counts["both"] / kept,
    )
