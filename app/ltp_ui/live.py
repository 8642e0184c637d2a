"""Live model calls, the only way from a page to torch; module level is torch-free.

Models are shared between sessions and never changed: what a slider varies is an argument.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from app.ltp_ui import warm_up
from ltp_core import store
from ltp_core.checkpoint import CheckpointInfo, list_checkpoints
from ltp_core.records import Prediction, Trace, UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod

LATENCY_REPEATS = 7
LATENCY_BUDGET_S = 0.6
MAX_LATENCIES = 256


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of which checkpoint.

    Attributes:
        checkpoint: Run name or folder.
        text: First text.
        text_pair: Second text of a pair task.
    """

    checkpoint: str
    text: str
    text_pair: str | None = None


@dataclass(frozen=True, kw_only=True)
class WhatIf:
    """How the pass departs from what was learned.

    Attributes:
        thresholds: Absolute, one a layer; None for the learned ones.
        keep: Positions kept by hand.
        drop: Positions dropped by hand.
    """

    thresholds: tuple[float, ...] | None = None
    keep: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()

    @property
    def is_neutral(self) -> bool:
        """Nothing departs."""
        return self == WhatIf()


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a page says about a loaded checkpoint.

    Attributes:
        name_or_path: What it was asked for by.
        name: Name of the run or folder.
        task: Name of its task; None for a foreign folder.
        method: Name of its pruning method.
        base: Name of the base model.
        label_names: Class names; empty for regression.
        trained_length: Longest input in training.
        dense: Name of the dense counterpart, or None.
        device: Where it runs.
        thresholds: By layer; None where the method has none.
    """

    name_or_path: str
    name: str
    task: str | None
    method: str
    base: str
    label_names: tuple[str, ...]
    trained_length: int
    dense: str | None
    device: str
    thresholds: tuple[float | None, ...]


@dataclass(frozen=True, kw_only=True)
class Latency:
    """Medians of one sequence's forward pass on this machine, packed runner.

    Attributes:
        pruned_ms: With the thresholds that are shown; what is kept or dropped by hand is left out.
        unpruned_ms: Same weights, nothing pruned.
        repeats: Passes behind each median, taken in turn.
    """

    pruned_ms: float
    unpruned_ms: float
    repeats: int


def checkpoints() -> list[CheckpointInfo]:
    """The store's complete checkpoints."""
    return list_checkpoints()


def default_checkpoint(found: list[CheckpointInfo]) -> str | None:
    """The one to show first: an LTP checkpoint of a single-sentence task if there is one."""
    order = {"sst2-ltp": 0, "rotten_tomatoes-ltp": 1, "imdb-ltp": 2}
    ranked = sorted(found, key=lambda c: order.get(f"{c.task}-{c.method}", 3 + (c.method != "ltp")))
    return ranked[0].name if ranked else None


def load(name: str) -> PrunedModel:
    """The checkpoint, from the cache unless its files have changed.

    Raises:
        UserError: It is absent or cannot be used.
    """
    warm_up.wait()
    return _load(name, _stamp(name))


def card(name: str) -> Card:
    """Facts about a checkpoint; loads it."""
    model = load(name)
    return Card(
        name_or_path=name,
        name=model.name,
        task=model.task,
        method=model.method.name,
        base=model.base,
        label_names=model.label_names,
        trained_length=model.max_length,
        dense=model.dense,
        device=_device(model),
        thresholds=tuple(map(model.method.threshold, range(model.method.num_layers))),
    )


def learned_trace(question: Question) -> Trace:
    """The trace as trained, with the same weights unpruned beside it."""
    return _trace(question, WhatIf(), _stamp(question.checkpoint), same_weights_unpruned=True)


def trace(question: Question, what_if: WhatIf) -> Trace:
    """The trace under `what_if`; nothing that does not depend on it is computed again."""
    learned = learned_trace(question)
    if what_if.is_neutral:
        return learned
    stamp = _stamp(question.checkpoint)
    changed = _trace(question, what_if, stamp, same_weights_unpruned=False)
    return dataclasses.replace(changed, unpruned=learned.unpruned)


def dense_prediction(question: Question) -> Prediction | None:
    """What the dense counterpart says; None where the checkpoint names none.

    Raises:
        UserError: It is named, but cannot be loaded.
    """
    dense = load(question.checkpoint).dense
    if dense is None:
        return None
    return _predict(dataclasses.replace(question, checkpoint=dense), _stamp(dense))


@st.cache_data(max_entries=64, show_spinner=False)
def words(question: Question) -> tuple[int | None, ...]:
    """Word index of each token; None for special tokens."""
    from ltp_core.trace import word_groups

    return tuple(word_groups(load(question.checkpoint), question.text, question.text_pair))


@st.cache_data(max_entries=64, show_spinner=False)
def protected(question: Question) -> tuple[int, ...]:
    """Positions that the checkpoint's method may not drop."""
    from ltp_core.trace import text_inputs

    inputs = text_inputs(load(question.checkpoint), question.text, question.text_pair)
    return tuple(inputs.protected[0].nonzero()[:, 0].tolist())


def received_attention(
    question: Question, what_if: WhatIf, layer_index: int
) -> Float[np.ndarray, "seq seq"]:
    """Head-averaged attention in a layer, queries first; 0 outside the tokens live there."""
    stamp = _stamp(question.checkpoint)
    return _received_attention(question, what_if, layer_index, stamp)


def known_latency(question: Question, what_if: WhatIf) -> Latency | None:
    """What `latency` has measured already."""
    return _latencies().get(_latency_key(question, what_if))


def latency(question: Question, what_if: WhatIf) -> Latency:
    """Times pruned and unpruned passes in turn, within about `LATENCY_BUDGET_S`."""
    key = _latency_key(question, what_if)
    known = _latencies()
    if key not in known:
        if len(known) >= MAX_LATENCIES:
            known.clear()
        known[key] = _measure_latency(question, what_if.thresholds)
    return known[key]


def _latency_key(question: Question, what_if: WhatIf) -> tuple[Any, ...]:
    return question, what_if.thresholds, _stamp(question.checkpoint)


@st.cache_resource(show_spinner=False)
def _latencies() -> dict[tuple[Any, ...], Latency]:
    return {}


def is_loaded(name: str) -> bool:
    """Whether a question to this checkpoint can be answered at once."""
    return warm_up.is_done() and (name, _stamp(name)) in _loaded()


# ---- caches; the stamp makes a changed checkpoint another key ----


def _stamp(name: str) -> float:
    """Time of the last change to a checkpoint's describing files; 0 where there are none."""
    try:
        folder = Path(name).expanduser()
        folder = folder if folder.is_dir() else store.find_run(name)
    except (OSError, ValueError, UserError):
        return 0.0
    files = ("manifest.json", "pruning.json", "config.json")
    times = [p.stat().st_mtime for file in files if (p := folder / file).is_file()]
    return max(times, default=0.0)


@st.cache_resource(show_spinner=False)
def _loaded() -> set[tuple[str, float]]:
    return set()


@st.cache_resource(max_entries=2, show_spinner=False)
def _load(name: str, stamp: float) -> PrunedModel:
    from ltp_core.checkpoint import load_checkpoint

    model = load_checkpoint(name)
    _loaded().add((name, stamp))
    return model


@st.cache_data(max_entries=256, show_spinner=False)
def _trace(
    question: Question, what_if: WhatIf, stamp: float, *, same_weights_unpruned: bool
) -> Trace:
    from ltp_core.trace import trace_text

    return trace_text(
        _load(question.checkpoint, stamp),
        question.text,
        question.text_pair,
        thresholds=what_if.thresholds,
        keep=what_if.keep,
        drop=what_if.drop,
        same_weights_unpruned=same_weights_unpruned,
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _predict(question: Question, stamp: float) -> Prediction:
    from ltp_core.trace import predict_text

    return predict_text(_load(question.checkpoint, stamp), question.text, question.text_pair)


@st.cache_data(max_entries=32, show_spinner=False)
def _received_attention(
    question: Question, what_if: WhatIf, layer_index: int, stamp: float
) -> Float[np.ndarray, "seq seq"]:
    from ltp_core import trace as core

    return core.received_attention(
        _load(question.checkpoint, stamp),
        trace(question, what_if),
        layer_index,
        question.text,
        question.text_pair,
    )


def _measure_latency(question: Question, thresholds: tuple[float, ...] | None) -> Latency:
    from ltp_core.pruning import Unpruned
    from ltp_core.trace import text_inputs

    model = load(question.checkpoint)
    inputs = text_inputs(model, question.text, question.text_pair)
    method = _with_thresholds(model.method, thresholds)
    unpruned = Unpruned.neutral(model.method.num_layers)
    return _time_in_turn(
        lambda: model.packed(inputs, method), lambda: model.packed(inputs, unpruned)
    )


def _time_in_turn(pruned: Callable[[], Any], unpruned: Callable[[], Any]) -> Latency:
    pruned(), unpruned()
    taken: tuple[list[float], list[float]] = ([], [])
    started = time.perf_counter()
    while len(taken[0]) < LATENCY_REPEATS and time.perf_counter() - started < LATENCY_BUDGET_S:
        for times, run in zip(taken, (pruned, unpruned), strict=True):
            begin = time.perf_counter()
            run()
            times.append(1_000 * (time.perf_counter() - begin))
    return Latency(
        pruned_ms=statistics.median(taken[0]),
        unpruned_ms=statistics.median(taken[1]),
        repeats=len(taken[0]),
    )


def _with_thresholds(method: PruningMethod, thresholds: tuple[float, ...] | None) -> PruningMethod:
    from ltp_core.pruning import ThresholdMethod

    if thresholds is None or not isinstance(method, ThresholdMethod):
        return method
    return method.with_thresholds(list(thresholds))


def _device(model: PrunedModel) -> str:
    return str(next(model.encoder.parameters()).device)
