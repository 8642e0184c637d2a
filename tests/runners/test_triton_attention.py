"""Attention without blanks in Triton's interpreter: the kernels that a GPU compiles, line by line on the CPU."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ltp_core import native_build
from ltp_core.encoder.model import PositionBias
from ltp_core.pruning.base import ThresholdMethod
from ltp_core.runners import packed
from ltp_core.runners.base import LastLayer
from ltp_core.runners.layout import ACCELERATOR, PROCESSOR, WITHOUT_BLANKS, Limits
from ltp_core.runners.packed import PackedRunner, run_packed
from tests import strategies, tiny
from tests.pruning.test_method_contract import every_variant, make
from tests.running import assert_same, is_far_from, ltp, run
from tests.source_trees import ROOT
from tests.strategies import Case

NEAR = 1e-4
"""In float32 scores closer than this to a threshold may fall on either side of it."""


@pytest.fixture(scope="module")
def kernels() -> Iterator[Any]:
    """The module, its kernels interpreted; skips where Triton is not installed."""
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed")
    with pytest.MonkeyPatch.context() as patch:
        # Read when the kernels are defined, which is at the import below.
        patch.setenv("TRITON_INTERPRET", "1")
        from ltp_core.runners import triton_attention

        _mend_products(patch)
        yield triton_attention


def _mend_products(patch: pytest.MonkeyPatch) -> None:
    """The interpreter multiplies the bits of bfloat16 as whole numbers; now it takes what they stand for."""
    from triton import language
    from triton.runtime.interpreter import InterpreterBuilder

    def wide(handle: Any) -> Any:
        if handle.dtype.scalar != language.bfloat16:
            return handle
        bits = handle.data.astype(np.uint32) << 16
        return SimpleNamespace(data=bits.view(np.float32), dtype=language.float32)

    products = InterpreterBuilder.create_dot

    def mended(builder: Any, left: Any, right: Any, *more: Any) -> Any:
        return products(builder, wide(left), wide(right), *more)

    patch.setattr(InterpreterBuilder, "create_dot", mended)


def loops(
    query: list[list[list[float]]],
    key: list[list[list[float]]],
    value: list[list[list[float]]],
    added: list[list[list[float]]],
) -> tuple[list[list[list[float]]], list[list[float]]]:
    """Attention output and received attention of one sequence, by token and head: Eq. 1 word by word.

    Args:
        query: By token, head and dimension; scaled.
        key: The same.
        value: The same.
        added: To the logits, by head, query and key.
    """
    tokens, heads = range(len(query)), range(len(query[0]))
    output = [[[0.0] * len(query[0][0]) for _ in heads] for _ in tokens]
    received = [[0.0 for _ in heads] for _ in tokens]
    for head in heads:
        for i in tokens:
            logits = [
                sum(q * k for q, k in zip(query[i][head], key[j][head], strict=True))
                + added[head][i][j]
                for j in tokens
            ]
            weights = torch.tensor(logits, dtype=torch.float64).softmax(0).tolist()
            for j in tokens:
                received[j][head] += weights[j]
                for dim, part in enumerate(value[j][head]):
                    output[i][head][dim] += weights[j] * part
    return output, received


def bias_of(kind: str, num_heads: int) -> PositionBias | None:
    """None, one of each head, or one window for all."""
    if kind == "none":
        return None
    if kind == "by head":
        generator = torch.Generator().manual_seed(0)
        return PositionBias(torch.randn(num_heads, 2 * 4 + 1, generator=generator))
    window = torch.zeros(1, 2 * 3 + 1)
    window[:, [0, -1]] = -torch.inf
    return PositionBias(window)


@pytest.mark.parametrize("bias_kind", ["none", "by head", "window"])
@pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.03)], ids=str
)
@pytest.mark.parametrize("lengths", [[1], [3, 17, 1, 40], [70, 5]])
def test_kernels_are_the_loops(
    kernels: Any, lengths: list[int], dtype: torch.dtype, tolerance: float, bias_kind: str
) -> None:
    """Output, scores and self-attention of sequences in one tile and in several, with gaps in positions."""
    num_heads, head_size, total = 2, 6, sum(lengths)
    generator = torch.Generator().manual_seed(total)
    projected = torch.randn(total, 3, num_heads, head_size, generator=generator).to(dtype)
    # Tokens that earlier layers pruned leave gaps.
    position = torch.cat([torch.arange(n) + (torch.arange(n) > 2) * 2 for n in lengths])
    bias, starts = bias_of(bias_kind, num_heads), [sum(lengths[:i]) for i in range(len(lengths))]
    sequences = kernels.Sequences(
        starts=torch.tensor(starts),
        lengths=torch.tensor(lengths),
        longest=max(lengths),
        position=position,
    )
    query, key, value = projected.unbind(1)
    context, log_sum = kernels.attention_output(query, key, value, sequences, sequences, bias)
    score = kernels.importance_score(query, key, log_sum, sequences, bias)
    diagonal = kernels.self_attention(query, key, log_sum, bias)
    assert (dtype, torch.float32) == (context.dtype, score.dtype)
    for start, length in zip(starts, lengths, strict=True):
        own = slice(start, start + length)
        added = torch.zeros(num_heads, length, length)
        if bias is not None:
            places = position[None, own]
            added = added + bias(places, places)[0]
        rows = [part[own].float().tolist() for part in (query, key, value)]
        output, received = loops(rows[0], rows[1], rows[2], added.tolist())
        wanted = torch.tensor(output).flatten(1)
        torch.testing.assert_close(context[own].float(), wanted, rtol=0, atol=tolerance)
        wanted_score = torch.tensor(received).mean(dim=1)
        torch.testing.assert_close(score[own], wanted_score, rtol=0, atol=1e-4)
        assert float(score[own].mean()) == pytest.approx(1, abs=1e-5)
        logits = torch.einsum("ihd,jhd->hij", query[own].double(), key[own].double()) + added
        own_share = logits.softmax(-1).diagonal(dim1=1, dim2=2).mean(dim=0).float()
        torch.testing.assert_close(diagonal[own], own_share, rtol=0, atol=1e-4)


def test_kernels_compile_for_a_gpu(kernels: Any, tmp_path: Path) -> None:
    """What is interpreted is compiled too, without a GPU, and keeps no numbers in memory for want of registers."""
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    done = subprocess.run(
        [sys.executable, "-m", "tests.runners.triton_compile"],
        env={**environment, "TRITON_CACHE_DIR": str(tmp_path)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert 0 == done.returncode, done.stderr
    found = json.loads(done.stdout)
    assert 12 == len(found)
    assert not [line for line in found if line["stack"]]


@pytest.mark.unchecked
@every_variant
@given(
    case=strategies.cases,
    protect_first=st.booleans(),
    record=st.booleans(),
    last_layer=st.sampled_from(["all", "first"]),
)
@settings(max_examples=3)
def test_the_runner_gives_the_same_without_blanks(
    kernels: Any,
    name: str,
    case: Case,
    protect_first: bool,
    record: bool,
    last_layer: LastLayer,
) -> None:
    """Every method and family, recorded or not, the whole last layer or the first token: as masked says."""
    case = replace(case, protect_first=protect_first)
    encoder, method = tiny.copy_of(case.encoder).float(), make(name).float()
    masked = run("masked", encoder, case.inputs, method)
    if isinstance(method, ThresholdMethod):
        assume(is_far_from(masked, tuple(method.thresholds.tolist()), NEAR))
    runner = PackedRunner(encoder, limits=WITHOUT_BLANKS)
    expected = run_packed(encoder, case.inputs, method, record=record, last_layer=last_layer)
    found = runner(case.inputs, method, record=record, last_layer=last_layer)
    assert_same(expected, found, NEAR)
    torch.testing.assert_close(found.logits, masked.logits, rtol=0, atol=NEAR)


@given(case=strategies.cases, thresholds=strategies.thresholds)
@settings(max_examples=6)
def test_layers_in_bfloat16_without_blanks(
    kernels: Any, case: Case, thresholds: tuple[float, ...]
) -> None:
    """As near to float32 as the packed runner in bfloat16 is."""
    encoder, method = tiny.copy_of(case.encoder).float(), ltp(thresholds).float()
    expected = run("packed", encoder, case.inputs, method)
    assume(is_far_from(expected, thresholds, 0.1))
    runner = PackedRunner(encoder, limits=WITHOUT_BLANKS, dtype=torch.bfloat16)
    assert_same(expected, runner(case.inputs, method, record=True), atol=0.5)


@pytest.mark.parametrize(
    ("device", "dtype", "capability", "is_installed", "expected"),
    [
        ("cpu", torch.float32, (9, 0), True, PROCESSOR),
        ("cuda", torch.float32, (9, 0), True, WITHOUT_BLANKS),
        ("cuda", torch.bfloat16, (8, 0), True, WITHOUT_BLANKS),
        ("cuda", torch.float64, (9, 0), True, ACCELERATOR),
        ("cuda", torch.float32, (7, 5), True, ACCELERATOR),
        ("cuda", torch.float32, (9, 0), False, ACCELERATOR),
        ("mps", torch.float32, (9, 0), True, ACCELERATOR),
    ],
)
def test_where_attention_has_no_blanks(
    device: str,
    dtype: torch.dtype,
    capability: tuple[int, int],
    is_installed: bool,
    expected: Limits,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On GPUs that Triton compiles for, where it is installed and not switched off, up to float32."""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    spec = SimpleNamespace() if is_installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    monkeypatch.delenv(native_build.VARIABLE)
    assert expected == packed._usual_limits(torch.device(device), dtype)
    monkeypatch.setenv(native_build.VARIABLE, "0")
    switched_off = PROCESSOR if device == "cpu" else ACCELERATOR
    assert switched_off == packed._usual_limits(torch.device(device), dtype)
