"""The FLOPs formulas: known models, identities, and PyTorch's own counter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.flop_counter import FlopCounterMode

from ltp_core.flops import ACCOUNTINGS, layer_macs, relative_flops, total_flops, unpruned_flops

SIZES = {"hidden": 768, "intermediate": 3072}

widths = st.integers(min_value=1, max_value=64)
# Per example the lengths of three layers, none above the one before.
trajectories = st.lists(
    st.lists(st.integers(1, 600), min_size=4, max_size=4).map(lambda n: sorted(n, reverse=True)),
    min_size=1,
    max_size=8,
)


def lengths_of(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Length, attention length and FFN length of trajectories (input and three layers)."""
    steps = np.array(rows)
    return steps[:, 0], steps[:, :-1], steps[:, 1:]


@pytest.mark.parametrize("accounting", ACCOUNTINGS)
def test_roberta_base_at_26_tokens_takes_4_44_gflops(accounting: str) -> None:
    """12 layers of RoBERTa-base; the paper has 4.45 for SST-2, whose mean length is about 26."""
    flops = 2 * 12 * layer_macs(26, 26, **SIZES, accounting=accounting)
    assert round(flops / 1e9, 2) == 4.44


def counted_flops(num_heads: int, n: int, n_f: int, hidden: int, intermediate: int) -> int:
    """FLOPs that PyTorch counts in a layer that drops all tokens behind the first `n_f`."""
    x = torch.zeros(n, hidden)
    weight = torch.zeros(hidden, hidden)
    inner = torch.zeros(hidden, intermediate)
    with FlopCounterMode(display=False) as counter:
        q, k, v = ((x @ weight).view(n, num_heads, -1).transpose(0, 1) for _ in range(3))
        attention_probs = (q @ k.transpose(1, 2)).softmax(-1)
        context = (attention_probs[:, :n_f] @ v).transpose(0, 1).reshape(n_f, hidden)
        (context @ weight @ inner @ inner.T).sum()
    return counter.get_total_flops()


@pytest.mark.parametrize(("n", "n_f"), [(1, 1), (7, 7), (7, 3), (26, 1)])
def test_executed_accounting_is_what_pytorch_counts(n: int, n_f: int) -> None:
    """Rows that are dropped need no context, no output projection and no FFN."""
    macs = layer_macs(n, n_f, hidden=24, intermediate=40, accounting="executed")
    assert 2 * macs == counted_flops(4, n, n_f, 24, 40)


@pytest.mark.parametrize("n", [1, 2, 26, 128])
def test_both_accountings_are_what_pytorch_counts_where_nothing_is_pruned(n: int) -> None:
    """Without pruning there is one truth."""
    for accounting in ACCOUNTINGS:
        macs = layer_macs(n, n, hidden=24, intermediate=40, accounting=accounting)
        assert 2 * macs == counted_flops(4, n, n, 24, 40)


def test_paper_accounting_charges_a_dropped_token_the_whole_attention() -> None:
    """Full attention over n_a, FFN over n_f: the two parts of PyTorch's count."""
    ffn = counted_flops(1, 9, 9, 8, 16) - 2 * (4 * 9 * 8**2 + 2 * 9**2 * 8)
    whole = 2 * layer_macs(9, 0, hidden=8, intermediate=16, accounting="paper") + ffn
    assert whole == 2 * layer_macs(9, 9, hidden=8, intermediate=16, accounting="paper")


@given(trajectories, widths, widths)
def test_total_is_the_sum_of_the_layers(rows: list[list[int]], hidden: int, inner: int) -> None:
    """Arrays give what a loop over single layers gives, exactly."""
    _, attention_length, ffn_length = lengths_of(rows)
    sizes = {"hidden": hidden, "intermediate": inner}
    for accounting in ACCOUNTINGS:
        looped = sum(
            2 * layer_macs(int(n_a), int(n_f), **sizes, accounting=accounting)
            for n_a, n_f in zip(attention_length.flat, ffn_length.flat, strict=True)
        )
        total = total_flops(attention_length, ffn_length, **sizes, accounting=accounting)
        assert total == looped


@given(trajectories, widths, widths)
def test_pruning_never_costs_more(rows: list[list[int]], hidden: int, inner: int) -> None:
    """0 < executed <= paper <= 1: what runs is at most what the paper charges."""
    length, attention_length, ffn_length = lengths_of(rows)
    relative = relative_flops(
        length, attention_length, ffn_length, hidden=hidden, intermediate=inner
    )
    assert list(relative) == list(ACCOUNTINGS)
    assert 0 < relative["executed"] <= relative["paper"] <= 1


@given(st.lists(st.integers(1, 600), min_size=1, max_size=8), st.integers(1, 12))
def test_without_pruning_the_fraction_is_one(lengths: list[int], num_layers: int) -> None:
    """Nothing dropped: total = unpruned and the fraction is 1, in both accountings."""
    length = np.array(lengths)
    every = np.repeat(length[:, None], num_layers, axis=1)
    whole = unpruned_flops(length, num_layers=num_layers, **SIZES)
    for accounting in ACCOUNTINGS:
        assert total_flops(every, every, **SIZES, accounting=accounting) == whole
    assert relative_flops(length, every, every, **SIZES) == {"paper": 1.0, "executed": 1.0}


def test_sums_are_taken_before_the_division() -> None:
    """A long unpruned input outweighs a short pruned one, unlike in a mean of fractions."""
    length = np.array([500, 10])
    attention_length = np.array([[500, 500], [10, 1]])
    ffn_length = np.array([[500, 500], [1, 1]])
    both = relative_flops(length, attention_length, ffn_length, **SIZES)["paper"]
    short = relative_flops(length[1:], attention_length[1:], ffn_length[1:], **SIZES)["paper"]
    assert both > 0.98 > (1 + short) / 2


@pytest.mark.parametrize("kind", [np.int16, np.int32, np.uint8, np.float32])
@pytest.mark.parametrize("accounting", ACCOUNTINGS)
def test_small_integer_types_do_not_overflow(kind: type, accounting: str) -> None:
    """Stored lengths are int16; the products are far beyond its range."""
    n = np.array([200], dtype=kind)
    expected = layer_macs(200, 200, **SIZES, accounting=accounting)
    assert layer_macs(n, n, **SIZES, accounting=accounting)[0] == pytest.approx(expected, rel=1e-6)


def test_gradients_reach_soft_lengths() -> None:
    """The derivative by the FFN length is that of the formula, 2 d f."""
    n_a = torch.tensor([5.5])
    n_f = torch.tensor([3.25], requires_grad=True)
    macs = layer_macs(n_a, n_f, hidden=4, intermediate=8, accounting="paper")
    macs.sum().backward()
    assert n_f.grad is not None
    assert n_f.grad.item() == 2 * 4 * 8


def test_tensors_and_numbers_agree() -> None:
    """Integer tensors give what ints give."""
    n = torch.tensor([1, 26])
    for accounting in ACCOUNTINGS:
        macs = layer_macs(n, n, **SIZES, accounting=accounting)
        expected = [layer_macs(i, i, **SIZES, accounting=accounting) for i in (1, 26)]
        assert macs.tolist() == pytest.approx(expected)


def test_an_unknown_accounting_is_an_error() -> None:
    """The message names those that there are."""
    with pytest.raises(ValueError, match="paper, executed, not 'papers'"):
        layer_macs(1, 1, **SIZES, accounting="papers")


def test_no_example_is_an_error() -> None:
    """A fraction of nothing has no value."""
    nothing = np.empty((0, 3), dtype=np.int64)
    with pytest.raises(ValueError, match="at least one example"):
        relative_flops(nothing[:, 0], nothing, nothing, **SIZES)


def test_shapes_that_do_not_fit_are_an_error() -> None:
    """Layers of other examples are not divided by these examples."""
    two = np.ones((2, 3), dtype=np.int64)
    # Under the run-time shape check of the tests the shapes are refused first.
    with pytest.raises((ValueError, TypeError), match=r"do not fit|examples"):
        relative_flops(np.ones(3, dtype=np.int64), two, two, **SIZES)
