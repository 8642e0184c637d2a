"""Ranks within sequences: against a plain sort, and by hand."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from ltp_core.pruning.ranking import ranks
from tests import reference, strategies

ragged = st.lists(
    strategies.scores.flatmap(
        lambda scores: st.tuples(st.just(scores), st.sets(st.integers(0, len(scores) - 1)))
    ),
    min_size=1,
    max_size=4,
)
"""Scores and protected positions of several sequences."""


def flat(batch: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Score, sequence and protected of all tokens, one sequence after another."""
    rows = [
        (score, sequence, position in protected)
        for sequence, (scores, protected) in enumerate(batch)
        for position, score in enumerate(scores)
    ]
    score, sequence, protected = zip(*rows, strict=True)
    return torch.tensor(score, dtype=torch.float64), torch.tensor(sequence), torch.tensor(protected)


@given(ragged)
def test_ranks_are_those_of_a_plain_sort(batch: Any) -> None:
    """Every sequence on its own: protected first, then by score, ties by position."""
    expected: list[int] = []
    for scores, protected in batch:
        ranked = reference.ranking(dict(enumerate(scores)), protected)
        expected += [ranked.index(i) for i in range(len(scores))]
    assert expected == ranks(*flat(batch)).tolist()


def test_ranks_of_numbers_that_skip_a_sequence() -> None:
    """The masked runner's sequences need not all be there, nor do they come contiguous."""
    live = torch.tensor([[True, True], [False, False], [True, False]])
    sequence, _ = live.nonzero(as_tuple=True)
    found = ranks(torch.tensor([0.5, 0.5, 0.1]), sequence, torch.zeros(3, dtype=torch.bool))
    assert [0, 1, 0] == found.tolist()
