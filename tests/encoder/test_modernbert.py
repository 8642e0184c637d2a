"""Local windows go by original positions; scores and gradients hold where a window is nearly empty."""

from __future__ import annotations

import pytest
import torch

from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.masked import run_masked
from tests import tiny
from tests.running import both_runners, ltp, run

HALF = 3
"""Tokens on each side that the second layer's queries see."""

THRESHOLDS = (0.8, 0.8, 0.8)


@both_runners
def test_scores_have_mean_one_in_local_layers_too(runner: str) -> None:
    """Each live query gives 1 in all, to whomever it sees, so the live tokens' mean is 1."""
    inputs = tiny.inputs((30, 17, 1, 2), 3, family="modernbert", extra_padding=4)
    output = run(runner, tiny.encoder("modernbert", 4), inputs, ltp(THRESHOLDS))
    assert int(output.attention_length[0, 1]) < 30
    for record in output.layers:
        mean = record.attention.sum(dim=1) / record.live.sum(dim=1)
        torch.testing.assert_close(mean, torch.ones_like(mean), rtol=0, atol=1e-9)


def test_a_window_does_not_reach_over_pruned_tokens() -> None:
    """A token that stood beyond half a window gets exactly nothing, though it is the next one left."""
    encoder, inputs = tiny.encoder("modernbert", 4), tiny.inputs((30,), 3, family="modernbert")
    seen: list[torch.Tensor] = []
    with torch.no_grad():
        run_masked(
            encoder, inputs, ltp(THRESHOLDS), observer=lambda _, probs, hidden: seen.append(probs)
        )
    live = run("masked", encoder, inputs, ltp(THRESHOLDS)).layers[1].live[0].nonzero()[:, 0]
    assert int((live[1:] - live[:-1]).max()) > 1
    distance = (live[:, None] - live[None, :]).abs()
    probs = seen[1][0][:, live][:, :, live]
    assert bool((probs[:, distance > HALF] == 0).all())
    assert bool((probs[:, distance <= HALF] > 0).all())
    assert bool((seen[0][0][:, 0] > 0).all())  # the first layer is global


@pytest.mark.parametrize("family", ["modernbert", "modernbert-mean"])
def test_padding_far_from_all_tokens_harms_nothing(family: str) -> None:
    """Its rows see no token in their window; logits and gradients are those without padding."""
    gradients = []
    for padding in (0, 25):
        encoder = tiny.copy_of(tiny.encoder(family, 2))
        inputs = tiny.inputs((9, 2), 1, family=family, extra_padding=padding)
        logits = run_masked(encoder, inputs, Unpruned.neutral(3)).logits
        logits.square().sum().backward()
        found = [p.grad for p in encoder.parameters() if p.grad is not None]
        gradients.append(torch.cat([logits.flatten(), *(g.flatten() for g in found)]))
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-9, atol=1e-9)
