"""Running a case with either runner, or with the loops, and comparing what comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from ltp_core.encoder.model import Encoder
from ltp_core.pruning.base import SoftMaskForm
from ltp_core.pruning.ltp import LearnedTokenPruning, LTPConfig
from ltp_core.runners.base import Inputs, RunOutput
from ltp_core.runners.masked import run_masked
from ltp_core.runners.packed import run_packed
from ltp_core.runners.repadded import run_repadded
from tests import reference, reference_soft, tiny
from tests.strategies import Case

RUNNERS: dict[str, Callable[..., RunOutput]] = {
    "masked": run_masked,
    "packed": run_packed,
    "repadded": run_repadded,
}
both_runners = pytest.mark.parametrize("runner", RUNNERS)

FORMS: dict[SoftMaskForm, str] = {"softmax": "attention", "output": "output"}
"""Name of each soft form here, and in the reference."""

MARGIN = 1e-9
"""In float64, scores closer than this to a threshold may fall on either side of it."""


def ltp(thresholds: tuple[float, ...]) -> LearnedTokenPruning:
    """LTP with these thresholds, float64."""
    method = LearnedTokenPruning(LTPConfig(), len(thresholds)).double()
    with torch.no_grad():
        method.thresholds.copy_(torch.tensor(thresholds, dtype=torch.float64))
    return method


def run(
    runner: str, encoder: Encoder, inputs: Inputs, method: Any, *, record: bool = True
) -> RunOutput:
    """One pass without gradients."""
    with torch.no_grad():
        return RUNNERS[runner](encoder, inputs, method, record=record)


def token_ids(inputs: Inputs, row: int) -> tuple[list[int], list[int]]:
    """Ids and token types of one sequence, without padding."""
    length = int(inputs.length[row])
    return inputs.input_ids[row, :length].tolist(), inputs.token_type_ids[row, :length].tolist()


def loops(case: Case, row: int, thresholds: tuple[float, ...], **settings: Any) -> reference.Result:
    """The reference's hard pass over one sequence of the case."""
    weights = reference.Weights(
        case.encoder.state_dict(), tiny.reference_config(case.encoder.config)
    )
    rule = reference.threshold_rule(thresholds)
    return reference.run_hard(weights, *token_ids(case.inputs, row), rule, **settings)


def soft_loops(
    encoder: Encoder, inputs: Inputs, row: int, thresholds: tuple[float, ...], t: float, form: str
) -> reference.Result:
    """The reference's soft pass over one sequence."""
    weights = reference.Weights(encoder.state_dict(), tiny.reference_config(encoder.config))
    return reference_soft.run_soft(weights, *token_ids(inputs, row), thresholds, t, form=form)


def is_clear(result: reference.Result, thresholds: tuple[float, ...]) -> bool:
    """No score lies so close to its threshold that rounding could decide."""
    return all(
        abs(score - threshold) > MARGIN
        for layer, threshold in zip(result.layers, thresholds, strict=True)
        for score in layer.score.values()
    )


def is_far_from(output: RunOutput, thresholds: tuple[float, ...], margin: float) -> bool:
    """No live token's score lies within `margin` of its layer's threshold."""
    return all(
        not bool(((record.score - threshold).abs() < margin)[record.live].any())
        for record, threshold in zip(output.layers, thresholds, strict=True)
    )


def assert_same(expected: RunOutput, actual: RunOutput, atol: float = 1e-9) -> None:
    """Same logits, lengths, live sets, retained sets and scores."""
    torch.testing.assert_close(actual.logits, expected.logits, rtol=0, atol=atol)
    assert expected.attention_length.tolist() == actual.attention_length.tolist()
    assert expected.ffn_length.tolist() == actual.ffn_length.tolist()
    assert len(expected.layers) == len(actual.layers)
    for left, right in zip(expected.layers, actual.layers, strict=True):
        assert left.live.tolist() == right.live.tolist()
        assert left.retained.tolist() == right.retained.tolist()
        # Scores are multiples of a mean that may be tiny, so their rounding grows with them.
        torch.testing.assert_close(right.score, left.score, rtol=atol, atol=atol, equal_nan=True)
