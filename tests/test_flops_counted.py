"""The formula of `ltp_core.flops` is what ran: counted by hooks, by PyTorch and by the loops."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from ltp_core.encoder.model import Encoder
from ltp_core.flops import (
    NO_COST,
    DecisionCost,
    layer_macs,
    relative_flops,
    total_flops,
    unpruned_flops,
)
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.base import Inputs, RunOutput
from ltp_core.runners.layout import PROCESSOR
from ltp_core.runners.packed import PackedRunner, run_packed
from tests import strategies, tiny
from tests.pruning.test_ltp_s import scored
from tests.running import RUNNERS, is_clear, loops, ltp, run
from tests.strategies import NUM_LAYERS, Case

HIDDEN, INTERMEDIATE = 16, 24
SIZES = {"hidden": HIDDEN, "intermediate": INTERMEDIATE}
"""Of BERT; other families' are in their configuration."""


NO_BLANKS = replace(PROCESSOR, blank_cells=0)

COUNTED: dict[str, Callable[..., RunOutput]] = {
    **RUNNERS,
    "first": partial(run_packed, last_layer="first"),
    "no_blanks": lambda encoder, *rest: PackedRunner(encoder, limits=NO_BLANKS)(*rest),
}


def counted(
    runner: str, encoder: Encoder, inputs: Inputs, method: Any
) -> tuple[Counter[str], RunOutput]:
    """FLOPs that PyTorch counts, by kind of product, without those of embeddings and head."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = COUNTED[runner](encoder, inputs, method)
    flops: Counter[str] = Counter()
    for operation, count in counter.get_flop_counts()["Global"].items():
        flops["bmm" if "bmm" in str(operation) else "linear"] += count
    keeps_blanks = runner in {"masked", "repadded"}
    embedded = inputs.input_ids.numel() if keeps_blanks else int(inputs.length.sum())
    for name, module in encoder.named_modules():
        if isinstance(module, torch.nn.Linear) and not name.startswith("encoder."):
            rows = embedded if name.startswith("embeddings.") else len(inputs.input_ids)
            flops["linear"] -= 2 * rows * module.weight.numel()
    return flops, output


def linear_flops(output: RunOutput, encoder: Encoder) -> int:
    """The part of the executed formula that does not grow with the square of the length."""
    entering, staying = int(output.attention_length.sum()), int(output.ffn_length.sum())
    per_staying = HIDDEN**2 + encoder.config.family.ffn_maps * HIDDEN * INTERMEDIATE
    return 2 * (3 * HIDDEN**2 * entering + per_staying * staying)


def executed_flops(
    output: RunOutput, encoder: Encoder, *, decision: DecisionCost = NO_COST
) -> float:
    """The formula's value for what a runner reports."""
    query_length = output.query_length
    return total_flops(
        output.attention_length.numpy(),
        output.ffn_length.numpy(),
        accounting="executed",
        query_length=None if query_length is None else query_length.numpy(),
        decision=decision,
        **encoder.config.sizes,
    )


@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_packed_runs_the_formula_alone(case: Case, thresholds: tuple[float, ...]) -> None:
    """For a sequence on its own, PyTorch counts exactly the executed formula, in every family."""
    alone = tiny.row(case.inputs, 0)
    flops, output = counted("packed", case.encoder, alone, ltp(thresholds))
    assert executed_flops(output, case.encoder) == sum(flops.values())


@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_packed_runs_the_formula_in_a_batch(case: Case, thresholds: tuple[float, ...]) -> None:
    """In a batch every linear product is exact; a group's attention may hold dropped queries."""
    flops, output = counted("no_blanks", case.encoder, case.inputs, ltp(thresholds))
    linear = linear_flops(output, case.encoder)
    attention = executed_flops(output, case.encoder) - linear
    full_attention = 4 * HIDDEN * int((output.attention_length**2).sum())
    assert linear == flops["linear"]
    assert attention <= flops["bmm"] <= full_attention


@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_blanks_in_a_batch_are_bounded(case: Case, thresholds: tuple[float, ...]) -> None:
    """A group's blanks cost at most what its limit says."""
    exact, _ = counted("no_blanks", case.encoder, case.inputs, ltp(thresholds))
    flops, _ = counted("packed", case.encoder, case.inputs, ltp(thresholds))
    per_group = 4 * case.encoder.config.head_size * PROCESSOR.blank_cells
    assert exact["linear"] == flops["linear"]
    assert flops["bmm"] <= exact["bmm"] + NUM_LAYERS * per_group


@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_finishing_the_first_token_alone_runs_the_formula(
    case: Case, thresholds: tuple[float, ...]
) -> None:
    """With `last_layer="first"` the formula holds with the queries that were computed."""
    alone = tiny.row(case.inputs, 0)
    flops, output = counted("first", case.encoder, alone, ltp(thresholds))
    assert executed_flops(output, case.encoder) == sum(flops.values())


@pytest.mark.parametrize("runner", ["packed", "first"])
@given(case=strategies.cases, thresholds=strategies.thresholds)
@settings(max_examples=20)
def test_reading_states_runs_the_formula(
    runner: str, case: Case, thresholds: tuple[float, ...]
) -> None:
    """A learned score needs every token's attention output; its own product is a sum, not a matmul."""
    alone = tiny.row(case.inputs, 0)
    method = scored(list(thresholds))
    flops, output = counted(runner, case.encoder, alone, method)
    assert output.query_length is not None
    products = 2 * HIDDEN * int(output.query_length.sum())
    expected = sum(flops.values()) + products
    decision = method.decision_cost
    assert executed_flops(output, case.encoder, decision=decision) == expected


@pytest.mark.parametrize("lengths", [(6, 6, 6), (1, 1)])
def test_packed_runs_the_formula_for_equal_lengths(lengths: tuple[int, ...]) -> None:
    """Without pruning, a batch of equal lengths costs exactly the formula."""
    flops, output = counted(
        "packed", tiny.encoder(), tiny.inputs(lengths), Unpruned.neutral(NUM_LAYERS)
    )
    assert executed_flops(output, tiny.encoder()) == sum(flops.values())


@pytest.mark.parametrize("thresholds", [(0.0, 0.0, 0.0), (0.6, 0.8, 1.0)])
def test_masked_saves_nothing(thresholds: tuple[float, ...]) -> None:
    """The masked runner's rule: every layer costs the padded width, whatever was pruned."""
    inputs = tiny.inputs((4, 9, 7), 1, extra_padding=3)
    flops, _ = counted("masked", tiny.encoder(), inputs, ltp(thresholds))
    rows, width = inputs.input_ids.shape
    padded = layer_macs(width, width, accounting="executed", **SIZES)
    assert 2 * NUM_LAYERS * rows * padded == sum(flops.values())


def test_pruning_saves_computing() -> None:
    """Pruned tokens are not only reported but really not computed."""
    encoder, inputs = tiny.encoder(), tiny.inputs((14,), 1)
    pruned, output = counted("packed", encoder, inputs, ltp((0.7, 0.9, 1.1)))
    whole, _ = counted("packed", encoder, inputs, Unpruned.neutral(NUM_LAYERS))
    share = sum(pruned.values()) / sum(whole.values())
    relative = relative_flops(
        inputs.length.numpy(), output.attention_length.numpy(), output.ffn_length.numpy(), **SIZES
    )
    assert pytest.approx(relative["executed"]) == share
    assert share < 0.7


class _LinearRows(TorchDispatchMode):
    """Rows that entered each linear map, in the order of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.linear.default:
            sizes = tuple(args[1].shape)
            self.seen += [(name, len(args[0])) for name, s in MAPS.items() if s == sizes]
        return func(*args, **(kwargs or {}))


MAPS = {
    "projection": (3 * HIDDEN, HIDDEN),
    "intermediate": (INTERMEDIATE, HIDDEN),
    "output": (HIDDEN, INTERMEDIATE),
}
"""Weights' shapes that no other map has."""


def test_rows_that_enter_each_linear_map() -> None:
    """Exactly the surviving tokens enter the FFN of every layer, and the next projection."""
    encoder, inputs = tiny.encoder(), tiny.inputs((12, 5, 9), 2)
    with _LinearRows() as rows:
        output = run("packed", encoder, inputs, ltp((0.5, 0.7, 0.9)), record=False)
    entering, staying = output.attention_length.sum(0).tolist(), output.ffn_length.sum(0).tolist()
    assert staying[-1] < entering[0]
    assert rows.seen == [
        (name, count)
        for n_a, n_f in zip(entering, staying, strict=True)
        for name, count in (("projection", n_a), ("intermediate", n_f), ("output", n_f))
    ]


@pytest.mark.parametrize("accounting", ["paper", "executed"])
@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_formula_equals_the_loops(
    accounting: str, case: Case, thresholds: tuple[float, ...]
) -> None:
    """Counting every multiply-accumulate of the loops gives both accountings' formulas."""
    expected = loops(case, 0, thresholds, accounting=accounting)
    assume(is_clear(expected, thresholds))
    output = run("packed", case.encoder, tiny.row(case.inputs, 0), ltp(thresholds))
    actual = total_flops(
        output.attention_length.numpy(),
        output.ffn_length.numpy(),
        accounting=accounting,
        **case.encoder.config.sizes,
    )
    assert 2 * expected.macs == actual


def test_roberta_base_on_sst2() -> None:
    """RoBERTa-base at 26 tokens takes 4.44 GFLOPs; the paper's Table 1 has 4.45 for SST-2."""
    flops = unpruned_flops(np.array([26]), num_layers=12, hidden=768, intermediate=3072)
    assert pytest.approx(4.44, abs=0.005) == flops / 1e9
    assert pytest.approx(4.45, abs=0.01) == flops / 1e9
