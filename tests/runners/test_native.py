"""The native pass: built here where there is a compiler, and equal to the masked and packed runners."""

from __future__ import annotations

import ctypes
import platform
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional

from ltp_core import native_build
from ltp_core.encoder import int8
from ltp_core.encoder.bert import BERT
from ltp_core.encoder.model import Encoder, EncoderConfig
from ltp_core.environment import cpp_compiler, processor
from ltp_core.pruning.base import PruningMethod, ThresholdMethod
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import UserError
from ltp_core.runners.base import LastLayer, RunOutput
from ltp_core.runners.native import NativeRunner, fastest_runner
from ltp_core.runners.native_layout import MapFields, in_panels, in_steps
from ltp_core.runners.packed import PackedRunner, run_packed
from tests import strategies, tiny
from tests.pruning.test_method_contract import every_variant, make
from tests.running import assert_same, is_far_from, ltp, run
from tests.strategies import NUM_LAYERS, Case

NEAR = 1e-4
"""In float32 scores closer than this to a threshold may fall on either side of it."""


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of its own in which native code is built and switched on; skips without a compiler."""
    if cpp_compiler() is None:
        pytest.skip("no C++ compiler here")
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        patch.delenv(native_build.VARIABLE)
        native_build.build_library()
        yield folder


@pytest.fixture(scope="module")
def library(cache: Path) -> ctypes.CDLL:
    """What was built."""
    found = native_build.load_library()
    assert found is not None
    return found


def in_float32(case: Case, method: PruningMethod) -> tuple[Encoder, PruningMethod]:
    """Native code has float32 alone."""
    return tiny.copy_of(case.encoder).float(), method.float()


def assume_clear(output: RunOutput, method: PruningMethod) -> None:
    """Leaves out runs in which rounding decides about a token."""
    if isinstance(method, ThresholdMethod):
        assume(is_far_from(output, tuple(method.thresholds.tolist()), NEAR))


# --- one answer -------------------------------------------------------------------------------------


@pytest.mark.unchecked
@every_variant
@given(
    case=strategies.post_ln_cases,
    protect_first=st.booleans(),
    last_layer=st.sampled_from(["all", "first"]),
)
@settings(max_examples=8)
def test_native_equals_masked_and_packed(
    library: ctypes.CDLL, name: str, case: Case, protect_first: bool, last_layer: LastLayer
) -> None:
    """Same logits, lengths, kept sets and scores for every method, family and batch, n = 1, 2, 3 too.

    Recorded or not, and whatever the last layer finishes; the same tokens are asked and finished.
    """
    case = replace(case, protect_first=protect_first)
    encoder, method = in_float32(case, make(name))
    runner = NativeRunner(library, encoder)
    masked = run("masked", encoder, case.inputs, method)
    assume_clear(masked, method)
    assert_same(masked, runner(case.inputs, method, record=True), NEAR)
    for record in (False, True):
        settings = {"record": record, "last_layer": last_layer}
        packed = run_packed(encoder, case.inputs, method, **settings)
        native = runner(case.inputs, method, **settings)
        assert_same(packed, native, NEAR)
        assert packed.query_length is not None
        assert native.query_length is not None
        assert packed.query_length.tolist() == native.query_length.tolist()
        for left, right in zip(packed.layers, native.layers, strict=True):
            torch.testing.assert_close(right.attention, left.attention, rtol=0, atol=NEAR)


@given(case=strategies.post_ln_cases, thresholds=strategies.thresholds, protect_first=st.booleans())
def test_thresholds_up_to_everything_below(
    library: ctypes.CDLL, case: Case, thresholds: tuple[float, ...], protect_first: bool
) -> None:
    """Nothing pruned, everything below and in between: no sequence empties, and masked says the same."""
    case = replace(case, protect_first=protect_first)
    encoder, method = in_float32(case, ltp(thresholds))
    masked = run("masked", encoder, case.inputs, method)
    assume_clear(masked, method)
    assert_same(masked, NativeRunner(library, encoder)(case.inputs, method, record=True), NEAR)


@given(case=strategies.post_ln_cases, thresholds=strategies.thresholds)
def test_a_sequence_alone_is_the_same_as_in_a_batch(
    library: ctypes.CDLL, case: Case, thresholds: tuple[float, ...]
) -> None:
    """Batch mates and padding change nothing, not even the last bit's rounding by more than 1e-5."""
    encoder, method = in_float32(case, ltp(thresholds))
    runner = NativeRunner(library, encoder)
    together = runner(case.inputs, method, record=True)
    assume_clear(together, method)
    for row in range(len(case.lengths)):
        alone = runner(tiny.row(case.inputs, row), method)
        torch.testing.assert_close(alone.logits[0], together.logits[row], rtol=0, atol=1e-5)
        assert together.ffn_length[row].tolist() == alone.ffn_length[0].tolist()


# Widths that fill no panel, fill one and more, and head sizes of 5, 16, 32 and 40.
SHAPES = [(30, 6, 50), (64, 4, 100), (96, 3, 33), (120, 3, 200)]


def wide_encoder(hidden: int, heads: int, intermediate: int) -> Encoder:
    """Two random layers of these sizes."""
    config = EncoderConfig(
        family=BERT, vocab_size=tiny.VOCAB_SIZE, hidden_size=hidden, num_layers=2, num_heads=heads,
        intermediate_size=intermediate, max_positions=40, type_vocab_size=2, pad_id=0, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(hidden)
    return Encoder(config).eval()


LENGTHS = [(1,), (39,), (2, 3), (39, 40, 17, 1, 5), (40,) * 60]


@pytest.mark.parametrize(("hidden", "heads", "intermediate"), SHAPES)
@pytest.mark.parametrize("lengths", LENGTHS, ids=len)
def test_shapes_and_threads_do_not_matter(
    library: ctypes.CDLL, hidden: int, heads: int, intermediate: int, lengths: tuple[int, ...]
) -> None:
    """One thread or more, few sequences or several blocks of them, any width: what packed gives."""
    encoder, inputs = wide_encoder(hidden, heads, intermediate), tiny.inputs(lengths, hidden)
    method = ltp((0.97, 0.985)).float()
    packed = run_packed(encoder, inputs, method, record=True)
    assert is_far_from(packed, method.thresholds.tolist(), 1e-6)
    runner, before = NativeRunner(library, encoder), torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            assert_same(packed, runner(inputs, method, record=True), NEAR)
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("answers", ["restored", "excluded"])
@given(data_seed=st.integers(0, 1000), thresholds=strategies.thresholds)
def test_span_heads_read_last_states(
    library: ctypes.CDLL, answers: str, data_seed: int, thresholds: tuple[float, ...]
) -> None:
    """Pruned tokens have their last computed state, or are no answer."""
    encoder, inputs = tiny.copy_of(tiny.span_encoder()).float(), tiny.inputs((9, 4, 1), data_seed)
    method = ltp(thresholds).float()
    method.config = replace(method.config, pruned_answers=answers)
    masked = run("masked", encoder, inputs, method)
    assume_clear(masked, method)
    native = NativeRunner(library, encoder)(inputs, method, record=True)
    real = inputs.attention_mask
    torch.testing.assert_close(native.logits[real], masked.logits[real], rtol=0, atol=NEAR)


@given(case=strategies.post_ln_cases, thresholds=strategies.thresholds)
def test_layers_in_bfloat16_are_near(
    library: ctypes.CDLL, case: Case, thresholds: tuple[float, ...]
) -> None:
    """Weights and what they are multiplied with are coarse; scores and logits stay near float32's."""
    if not library.has_bfloat16():
        pytest.skip("the processor does not multiply bfloat16")
    encoder, method = in_float32(case, ltp(thresholds))
    expected = run("packed", encoder, case.inputs, method)
    assume(is_far_from(expected, thresholds, 0.1))
    runner = NativeRunner(library, encoder, dtype=torch.bfloat16)
    coarse = runner(case.inputs, method, record=True)
    assert_same(expected, coarse, atol=0.5)
    assert not torch.equal(coarse.logits, expected.logits)


# --- int8 -------------------------------------------------------------------------------------------

PRODUCT = """
#include "product.h"
extern "C" void product(const float* rows, int count, const Map* map, float* out) {
  Workspace space;
  space.scratch.resize(1);
  space.own().packed.resize(BLOCK_ROWS * map->inner);
  multiply<Int8>({rows, map->inner, count}, *map, space, [&](int i, int j, const float* sums, int n) {
    std::copy(sums, sums + n, out + i * map->outer + j);
  });
}
"""
"""A linear map in int8 alone, as a pass does it."""


@pytest.fixture(scope="module")
def product(library: ctypes.CDLL, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """`PRODUCT`, built."""
    if not library.has_int8():
        pytest.skip("the processor does not multiply bytes in fours")
    folder = tmp_path_factory.mktemp("product")
    (folder / "product.cpp").write_text(PRODUCT)
    command = [str(cpp_compiler()), *native_build.FLAGS, "-I", str(native_build.SOURCES)]
    subprocess.run(
        [*command, str(folder / "product.cpp"), "-o", str(folder / "product.so")], check=True
    )
    return ctypes.CDLL(str(folder / "product.so"))


@pytest.mark.parametrize("count", [1, 13, 15, 99])
@pytest.mark.parametrize(("inner", "outer"), [(3, 5), (30, 33), (384, 64)])
def test_int8_products_are_exact(
    library: ctypes.CDLL, product: ctypes.CDLL, count: int, inner: int, outer: int
) -> None:
    """Steps of 1 on both sides: one row or an odd number, widths that fill neither vector nor panel."""
    random = np.random.default_rng(count * inner)
    weight = random.integers(-127, 128, (outer, inner))
    weight[:, 0] = 127
    rows = random.integers(-100, 156, (count, inner))
    rows[:, 0], rows[:, 1], rows[:, 2] = -100, 155, 1000  # the last is none of the whole numbers
    rows = random.permuted(rows, axis=1)
    width = library.panel_width()
    whole, steps, totals = in_steps(torch.tensor(weight).float())
    by_column = [
        functional.pad(values, (0, -outer % width)).contiguous()
        for values in (steps, totals, torch.tensor(weight).float().T)
    ]
    panels, taken = in_panels(whole, width), torch.tensor(rows).float()
    names, out = ("steps", "totals", "weights"), torch.empty(count, outer)
    fields = MapFields(
        panels=panels.data_ptr(),
        **{name: values.data_ptr() for name, values in zip(names, by_column, strict=True)},
        inner=inner,
        outer=outer,
    )
    product.product(
        ctypes.c_void_p(taken.data_ptr()),
        count,
        ctypes.byref(fields),
        ctypes.c_void_p(out.data_ptr()),
    )
    assert (rows @ weight.T).tolist() == out.tolist()


class Rounded(nn.Linear):
    """A map of which weights and rows are rounded as native code does it, slowly.

    `tie` is how near a number came to the middle between two whole ones, where float32 may go either way.
    """

    tie: float

    def forward(self, rows: torch.Tensor) -> torch.Tensor:
        """The product of whole numbers, scaled, and each row's farthest number by itself."""
        steps = self.weight.abs().amax(dim=1, keepdim=True) / 127
        weight = (self.weight / steps).round() * steps
        place = rows.abs().argmax(dim=-1, keepdim=True)
        others = rows.scatter(-1, place, 0.0)
        low = others.amin(dim=-1, keepdim=True).clamp_max(0)
        step = (others.amax(dim=-1, keepdim=True).clamp_min(0) - low) / 255
        scaled = (others - low) / step.clamp_min(1e-30)
        self.tie = min(self.tie, (scaled % 1 - 0.5).abs().min().item())
        exact = rows.gather(-1, place) * self.weight.T[place.squeeze(-1)]
        return functional.linear(scaled.round() * step + low, weight, self.bias) + exact


def rounded(encoder: Encoder) -> Encoder:
    """A copy whose layers' maps are `Rounded`."""
    copied = tiny.copy_of(encoder)
    for _, module in int8._maps(copied):
        assert type(module) is nn.Linear
        module.__class__ = Rounded
        module.tie = 0.5
    return copied


@every_variant
@given(case=strategies.post_ln_cases, last_layer=st.sampled_from(["all", "first"]))
@settings(max_examples=8)
def test_int8_equals_rounded_maps(
    library: ctypes.CDLL, name: str, case: Case, last_layer: LastLayer
) -> None:
    """What the masked runner gives of rounded maps; a method without thresholds is refused."""
    if not library.has_int8():
        pytest.skip("the processor does not multiply bytes in fours")
    encoder, method = in_float32(case, make(name))
    runner = NativeRunner(library, encoder, dtype=torch.int8)
    if method.prunes and method.rule() is None:
        with pytest.raises(UserError, match="thresholds"):
            runner(case.inputs, method)
        return
    slow = rounded(encoder)
    expected = run("masked", slow, case.inputs, method)
    assume_clear(expected, method)
    assume(min(module.tie for module in slow.modules() if isinstance(module, Rounded)) > 1e-4)
    assert_same(expected, runner(case.inputs, method, record=True), NEAR)
    packed = run_packed(encoder, case.inputs, method, last_layer=last_layer)
    found = runner(case.inputs, method, last_layer=last_layer)
    torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=NEAR)
    assert not torch.equal(found.logits, packed.logits)


# --- other processors -------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["haswell", "x86-64"])
def narrow_library(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> ctypes.CDLL:
    """The same sources with vectors of 8 or 4 numbers, as for a processor with AVX2 or without AVX."""
    compiler, target = cpp_compiler(), f"-march={request.param}"
    if compiler is None or platform.machine() != "x86_64":
        pytest.skip("no C++ compiler for x86 here")
    if request.param == "haswell" and "avx2" not in processor():
        pytest.skip("no AVX2 here")
    flags = [target if flag == "-march=native" else flag for flag in native_build.FLAGS]
    assert target in flags
    path = tmp_path_factory.mktemp("narrow") / "native.so"
    source = native_build.SOURCES / "encoder.cpp"
    subprocess.run([compiler, *flags, str(source), "-o", str(path)], check=True)
    library = ctypes.CDLL(str(path))
    assert library.panel_width() == 2 * {"haswell": 8, "x86-64": 4}[request.param]
    assert not library.has_bfloat16()
    return library


@given(
    case=strategies.post_ln_cases,
    thresholds=strategies.thresholds,
    last_layer=st.sampled_from(["all", "first"]),
)
@settings(max_examples=15)
def test_narrower_vectors_give_the_same(
    narrow_library: ctypes.CDLL,
    case: Case,
    thresholds: tuple[float, ...],
    last_layer: LastLayer,
) -> None:
    """Every family, nothing pruned to everything below: what packed gives."""
    encoder, method = in_float32(case, ltp(thresholds))
    packed = run_packed(encoder, case.inputs, method, record=True, last_layer=last_layer)
    assume_clear(packed, method)
    native = NativeRunner(narrow_library, encoder)
    assert_same(packed, native(case.inputs, method, record=True, last_layer=last_layer), NEAR)


@pytest.mark.parametrize(("hidden", "heads", "intermediate"), SHAPES)
def test_narrower_vectors_take_any_shape(
    narrow_library: ctypes.CDLL, hidden: int, heads: int, intermediate: int
) -> None:
    """Widths that fill no panel or several, long sequences and several blocks of them."""
    encoder, method = wide_encoder(hidden, heads, intermediate), ltp((0.97, 0.985)).float()
    for lengths in ((39, 40, 17, 1, 5), (40,) * 60):
        inputs = tiny.inputs(lengths, hidden)
        packed = run_packed(encoder, inputs, method, record=True)
        assert is_far_from(packed, method.thresholds.tolist(), 1e-6)
        native = NativeRunner(narrow_library, encoder)(inputs, method, record=True)
        assert_same(packed, native, NEAR)


# --- when it is used --------------------------------------------------------------------------------


def test_what_native_code_lacks_runs_packed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is taken for float32 on the processor where it is built and not switched off."""
    encoder = tiny.float32_encoder()
    assert isinstance(fastest_runner(encoder), NativeRunner)
    modern = tiny.copy_of(tiny.encoder("modernbert")).float()
    assert isinstance(fastest_runner(modern), PackedRunner)
    assert isinstance(fastest_runner(tiny.encoder()), PackedRunner)
    assert isinstance(fastest_runner(encoder, torch.float16), PackedRunner)
    coarse = fastest_runner(encoder, torch.bfloat16)
    whole_numbers = tiny.float32_encoder()
    int8.quantize_(whole_numbers, {name: 0.1 for name, _ in int8._maps(whole_numbers)})
    assert isinstance(fastest_runner(whole_numbers), PackedRunner)
    assert native_build.multiplies_bfloat16() == isinstance(coarse, NativeRunner)
    monkeypatch.setenv(native_build.VARIABLE, "0")
    assert isinstance(fastest_runner(encoder), PackedRunner)


def test_the_state_says_what_to_do(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In use, broken, not built, switched off: each has its sentence."""
    path = native_build.built_file()
    state = native_build.native_state()
    assert (state.is_used, state.detail, state.types[0]) == (True, str(path), "float32")
    assert path == native_build.build_library()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache / "other"))
    assert "not built: python -m ltp_core doctor --build" in native_build.native_state().detail
    other = native_build.built_file()
    other.parent.mkdir(parents=True)
    other.write_bytes(b"no library")
    native_build._opened.cache_clear()
    assert "cannot be loaded" in native_build.native_state().detail
    monkeypatch.setenv(native_build.VARIABLE, "0")
    assert "switched off" in native_build.native_state().detail


@pytest.mark.parametrize("compiler", [None, "/bin/false"])
def test_without_a_compiler_that_builds_it_there_is_a_sentence(
    compiler: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left behind by an attempt that failed."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(native_build, "cpp_compiler", lambda: compiler)
    with pytest.raises(UserError, match="compiler"):
        native_build.build_library()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_refuses_what_the_packed_runner_refuses(
    library: ctypes.CDLL, dtype: torch.dtype
) -> None:
    """Training mode, and a span head whose tokens are not all finished."""
    inputs, method = tiny.inputs((4,)), Unpruned.neutral(NUM_LAYERS)
    training = tiny.float32_encoder().train()
    with pytest.raises(RuntimeError, match="inference"):
        NativeRunner(library, training, dtype=dtype)(inputs, method)
    spans = tiny.copy_of(tiny.span_encoder()).float()
    with pytest.raises(ValueError, match="span head"):
        NativeRunner(library, spans, dtype=dtype)(inputs, method, last_layer="first")
