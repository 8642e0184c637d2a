"""What is the packed runner's own: blocks, groups, the last layer, packed weights, memory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from ltp_core.encoder.bert import BERT
from ltp_core.encoder.model import Encoder, EncoderConfig
from ltp_core.pruning.shallow import Shallow, ShallowConfig
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners import attention, engine, linear
from ltp_core.runners.layout import Layout, Limits
from ltp_core.runners.linear import LinearMap
from ltp_core.runners.packed import PackedRunner, run_packed
from tests import strategies, tiny
from tests.pruning.test_method_contract import every_variant, make
from tests.running import MARGIN, assert_same, is_far_from, ltp, run
from tests.strategies import NUM_LAYERS, Case

# --- equality with the masked runner, in pieces and in every dtype --------------------------------

TOLERANCES = {
    torch.float32: (1e-4, 1e-4),
    torch.float16: (0.06, 0.02),
    torch.bfloat16: (0.5, 0.1),
}
"""Greatest difference of a logit (about 2 here) or score, and what a threshold must be away."""


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@given(case=strategies.cases, thresholds=strategies.thresholds)
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_runners_agree_in_every_dtype(
    dtype: torch.dtype, case: Case, thresholds: tuple[float, ...]
) -> None:
    """The runners agree to the dtype's tolerance; scores are float32 or wider."""
    tolerance, margin = TOLERANCES[dtype]
    encoder, method = tiny.copy_of(case.encoder).to(dtype), ltp(thresholds).float()
    masked = run("masked", encoder, case.inputs, method)
    assume(is_far_from(masked, thresholds, margin))
    packed = run("packed", encoder, case.inputs, method)
    assert dtype == packed.logits.dtype
    assert_same(masked, packed, atol=tolerance)


@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("lengths", [[7], [5, 5], [6, 3, 1]])
def test_the_fused_attention_is_the_plain_one(lengths: list[int], has_bias: bool) -> None:
    """What an accelerator runs without scores gives the same, with a bias and with blanks."""
    layout = Layout(
        sequences=list(range(len(lengths))),
        lengths=lengths,
        num_heads=2,
        limits=ALL_TOGETHER,
        device=torch.device("cpu"),
    )
    (group,) = layout.groups
    torch.manual_seed(len(lengths))
    shape = (2 * len(group), group.width, 4)
    query, key, value = torch.randn(3, *shape, dtype=torch.float64).unbind(0)
    added = torch.randn(len(group), 2, group.width, group.width).double() if has_bias else None
    probs = attention._probabilities(query, key, group.live, 2, added)
    fused = attention._fused(query, key, value, group, 2, added)
    expected = attention._whole(torch.bmm(probs, value), group).context
    torch.testing.assert_close(attention._whole(fused, group).context, expected)


ONE_BY_ONE = Limits(block_tokens=1, group_cells=1, blank_cells=0)
ALL_TOGETHER = Limits(block_tokens=2**20, group_cells=2**30, blank_cells=2**30)
IN_PIECES = (
    ONE_BY_ONE,
    Limits(block_tokens=10, group_cells=2**30, blank_cells=2**30),
    Limits(block_tokens=2**20, group_cells=2**30, blank_cells=0),
    Limits(block_tokens=16, group_cells=150, blank_cells=60),
)


@pytest.mark.unchecked
@given(case=strategies.cases, thresholds=strategies.thresholds)
def test_blocks_and_groups_do_not_matter(case: Case, thresholds: tuple[float, ...]) -> None:
    """How the packed runner cuts a batch into blocks and groups changes nothing."""
    method = ltp(thresholds)
    whole = PackedRunner(case.encoder, limits=ALL_TOGETHER)(case.inputs, method, record=True)
    assume(is_far_from(whole, thresholds, MARGIN))
    for limits in IN_PIECES:
        cut = PackedRunner(case.encoder, limits=limits)(case.inputs, method, record=True)
        assert_same(whole, cut)


# --- the last layer, and what is not needed --------------------------------------------------------


@pytest.mark.unchecked
@every_variant
@given(case=strategies.cases, protect_first=st.booleans())
def test_finishing_the_first_token_alone_gives_the_same_logits(
    name: str, case: Case, protect_first: bool
) -> None:
    """With `last_layer="first"` logits, earlier layers, scores and masks stay, recorded or not."""
    case = replace(case, protect_first=protect_first)
    method = make(name)
    whole = run_packed(case.encoder, case.inputs, method, record=True)
    last = max(i for i in range(NUM_LAYERS) if method.runs_layer(i))
    for record in (False, True):
        first = run_packed(case.encoder, case.inputs, method, record=record, last_layer="first")
        torch.testing.assert_close(first.logits, whole.logits, rtol=0, atol=1e-9)
        assert whole.attention_length.tolist() == first.attention_length.tolist()
        assert whole.ffn_length[:, :last].tolist() == first.ffn_length[:, :last].tolist()
        for one, other in zip(whole.layers, first.layers, strict=record):
            assert one.retained.tolist() == other.retained.tolist()
        if case.encoder.config.reads_every_token:
            assert whole.ffn_length.tolist() == first.ffn_length.tolist()
            continue
        assert bool((first.ffn_length[:, last] <= 1).all())
        if protect_first:
            assert bool((first.ffn_length[:, last] == 1).all())


def test_finishing_the_first_token_alone_asks_for_it_alone() -> None:
    """Without a record, the last layer computes one query a sequence, and says so."""
    inputs, method = tiny.inputs((9, 4), 3), ltp((0.3, 0.5, 0.7))
    output = run_packed(tiny.encoder(), inputs, method, last_layer="first")
    assert output.query_length is not None
    assert [1, 1] == output.query_length[:, -1].tolist()
    assert output.attention_length[:, :-1].tolist() == output.query_length[:, :-1].tolist()
    recorded = run_packed(tiny.encoder(), inputs, method, last_layer="first", record=True)
    assert recorded.query_length is not None
    assert recorded.attention_length.tolist() == recorded.query_length.tolist()


def test_finishing_the_first_token_alone_in_a_shallow_model() -> None:
    """The last layer is the last one that runs."""
    encoder, inputs = tiny.encoder(), tiny.inputs((9, 4), 3)
    method = Shallow(ShallowConfig(layers=2), NUM_LAYERS)
    whole = run_packed(encoder, inputs, method)
    first = run_packed(encoder, inputs, method, last_layer="first")
    torch.testing.assert_close(first.logits, whole.logits, rtol=0, atol=1e-12)
    assert [[9, 1, 0], [4, 1, 0]] == first.ffn_length.tolist()


def test_a_method_that_looks_at_nothing_costs_no_scores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is scored and nobody is asked where the method declares no signal."""
    encoder, inputs, method = (
        tiny.encoder(),
        tiny.inputs((9, 4, 4), 3),
        Unpruned.neutral(NUM_LAYERS),
    )
    expected = run("packed", encoder, inputs, method)

    def refuse(*args: object) -> None:
        raise AssertionError("not needed")

    monkeypatch.setattr(attention, "decide", refuse)
    monkeypatch.setattr(attention, "_score", refuse)
    actual = run("packed", encoder, inputs, method, record=False)
    torch.testing.assert_close(actual.logits, expected.logits, rtol=0, atol=1e-12)
    assert expected.ffn_length.tolist() == actual.ffn_length.tolist()


@given(case=strategies.cases, thresholds=strategies.thresholds)
@settings(suppress_health_check=[HealthCheck.filter_too_much])
def test_layers_in_bfloat16_around_float32(case: Case, thresholds: tuple[float, ...]) -> None:
    """Only the layers' states and weights are coarser: scores and logits stay in float32, near."""
    tolerance, margin = TOLERANCES[torch.bfloat16]
    encoder, method = tiny.copy_of(case.encoder).float(), ltp(thresholds).float()
    expected = run("packed", encoder, case.inputs, method)
    assume(is_far_from(expected, thresholds, margin))
    coarse = PackedRunner(encoder, dtype=torch.bfloat16)(case.inputs, method, record=True)
    assert torch.float32 == coarse.logits.dtype
    assert {torch.float32} == {layer.score.dtype for layer in coarse.layers}
    assert_same(expected, coarse, atol=tolerance)
    assert not torch.equal(coarse.logits, expected.logits)


# --- packed weights on the processor -----------------------------------------------------------------


PACKED = [(torch.float32, 1e-4), (torch.bfloat16, 0.3)]
"""Types whose weights are packed where the processor allows it, and how near sums of 24 stay."""


@pytest.mark.parametrize(("dtype", "tolerance"), PACKED)
def test_packed_weights_serve_any_number_of_rows(dtype: torch.dtype, tolerance: float) -> None:
    """A linear map gives what PyTorch's does, whatever its weights were laid out for."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = (torch.randn(s, generator=generator).to(dtype) for s in ((40, 24), (40,)))
    linear_map = LinearMap(weight, bias)
    for rows in (*range(1, 20), 63, 64, 65, 300, 1023, 1024, 1025, 3000):
        x, y = (torch.randn(rows, n, generator=generator).to(dtype) for n in (24, 40))
        expected = functional.linear(x.double(), weight.double(), bias.double())
        for actual, wanted in (
            (linear_map(x), expected),
            (linear_map.gelu(x), functional.gelu(expected)),
            (linear_map.add(x, y), expected + y.double()),
        ):
            assert dtype == actual.dtype
            torch.testing.assert_close(actual.double(), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("begin", "end"), [(0, 5), (3, 20), (250, 300), (290, 300)])
def test_rows_behind_the_rows_do_not_matter(begin: int, end: int) -> None:
    """What lies behind them in memory is multiplied along, and never looked at."""
    storage = torch.full((300, 24), torch.nan, dtype=torch.bfloat16)
    storage[begin:end] = torch.randn(end - begin, 24, dtype=torch.bfloat16)
    rows = storage[begin:end]
    linear_map = LinearMap(torch.randn(40, 24), torch.randn(40), torch.bfloat16)
    assert torch.equal(linear_map(rows), linear_map(rows.clone()))
    rounded = linear._rounded(rows)
    assert torch.equal(rounded[: end - begin], rows)
    assert storage.isnan().sum() == 24 * (300 - (end - begin))


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 44), (torch.bfloat16, 32)])
def test_few_numbers_of_rows_are_met(dtype: torch.dtype, most: int) -> None:
    """Each costs a compilation and, for each map, a place in a cache of 1,024 shapes."""
    counts = [len(linear._rounded(torch.zeros(count, 2, dtype=dtype))) for count in range(1, 1025)]
    assert len(set(counts)) <= most
    assert all(0 <= met - count < 64 for count, met in enumerate(counts, start=1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_runner_without_packed_weights(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PyTorch offers no packing, plain linear maps give the same answer."""
    encoder, inputs = tiny.float32_encoder(1), tiny.inputs((9, 4, 30), 3)
    method = ltp((0.0, 0.0, 0.0)).float()
    expected = PackedRunner(encoder, dtype=dtype)(inputs, method, record=True)
    monkeypatch.setattr(linear, "fastest_engine", lambda weight: "plain")
    plain = PackedRunner(encoder, dtype=dtype)(inputs, method, record=True)
    assert_same(expected, plain, atol=1e-5 if dtype == torch.float32 else 0.5)


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Remembers the largest tensor that an operation gave."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        outputs = result if isinstance(result, tuple | list) else (result,)
        sizes = [output.numel() for output in outputs if isinstance(output, torch.Tensor)]
        self.numel = max([self.numel, *sizes])
        return result


@pytest.mark.parametrize("method", [Unpruned.neutral(2), ltp((0.2, 0.9))])
def test_memory_is_bounded(method: Any) -> None:
    """64 documents of 512 tokens never have their attention in memory together."""
    config = EncoderConfig(
        family=BERT, vocab_size=tiny.VOCAB_SIZE, hidden_size=16, num_layers=2, num_heads=4,
        intermediate_size=32, max_positions=512, type_vocab_size=2, pad_id=0, num_labels=2,
    )  # fmt: skip
    encoder = Encoder(config).double().eval()
    inputs = tiny.inputs((512,) * 64)
    with _Largest() as largest:
        run("packed", encoder, inputs, method, record=False)
    one_attention, all_hidden = 4 * 512**2, 64 * 512 * 16
    assert largest.numel <= max(one_attention, all_hidden)


@pytest.mark.parametrize("library", ["plain", "mkl", "onednn"])
@pytest.mark.parametrize("rows", [1, 5, 28, 65, 300])
def test_every_library_gives_the_same_products(
    library: Any, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever multiplies, to 1e-5: alone, with GELU, and with a residual."""
    if library == "mkl" and not engine._has_mkl_packing():
        pytest.skip("no MKL here")
    if library == "onednn" and not engine._has_onednn():
        pytest.skip("no oneDNN here")
    monkeypatch.setattr(linear, "fastest_engine", lambda weight: library)
    generator = torch.Generator().manual_seed(rows)
    weight, bias, inputs, residual = (
        torch.randn(*shape, generator=generator) * 0.2
        for shape in ((40, 24), (40,), (rows, 24), (rows, 40))
    )
    linear_map = LinearMap(weight, bias)
    expected = functional.linear(inputs, weight, bias)
    for found, wanted in (
        (linear_map(inputs), expected),
        (linear_map.gelu(inputs), functional.gelu(expected)),
        (linear_map.add(inputs, residual.clone()), expected + residual),
    ):
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("is_intels", "has_mkl", "has_onednn", "expected"),
    [
        (True, True, True, "mkl"),
        (True, False, True, "plain"),
        (False, True, True, "onednn"),
        (False, True, False, "mkl"),
        (False, False, True, "plain"),
    ],
    ids=["Intel", "Intel without MKL", "AMD", "AMD without oneDNN", "ARM"],
)
def test_the_library_fits_the_processor(
    is_intels: bool,
    has_mkl: bool,
    has_onednn: bool,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """float32 by MKL on Intel's processors and by oneDNN on AMD's; what is absent is not taken."""
    monkeypatch.setattr(engine, "_is_intels", lambda: is_intels)
    monkeypatch.setattr(engine, "_has_mkl_packing", lambda: has_mkl)
    monkeypatch.setattr(engine, "_has_onednn", lambda: has_onednn)
    assert expected == engine.fastest_engine(torch.zeros(2, 2))
    assert "plain" == engine.fastest_engine(torch.zeros(2, 2, dtype=torch.float64))
