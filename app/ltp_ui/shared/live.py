"""Live model calls, the only way from a page to torch; module level is torch-free.

Models are shared between sessions and never changed: what a slider varies is an argument.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from app.ltp_ui.shared import warm_up
from ltp_core import store
from ltp_core.checkpoint_places import CheckpointInfo, content_stamp, list_checkpoints
from ltp_core.records import Prediction, Trace, UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod
    from ltp_core.runners.base import Inputs

MAX_LOADED = 3
"""Checkpoints in memory: two to compare, or one and its dense counterpart, and the one before."""


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
        scale: How much the method prunes, as a multiple of what it learned; 0 prunes nothing. With
            `thresholds`, which say all, it is 1.
        keep: Positions kept by hand.
        drop: Positions dropped by hand.
    """

    thresholds: tuple[float, ...] | None = None
    scale: float = 1.0
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
        thresholds: By layer of the encoder; None where the method has none.
        num_run: Layers that run; fewer than the encoder has where the method leaves some out.
        hidden: Width of the hidden states.
        intermediate: Inner width of the FFN.
        prunes: The method drops tokens.
        can_scale: It can be made to prune more or less without training.
        protects_first: The first token is never dropped.
        pruned_answers: What a head that reads every token makes of a dropped one, "restored" or
            "excluded"; None for a head that reads the first token alone.
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
    num_run: int
    hidden: int
    intermediate: int
    prunes: bool
    can_scale: bool
    protects_first: bool
    pruned_answers: str | None

    @property
    def num_layers(self) -> int:
        """Layers of the encoder."""
        return len(self.thresholds)

    @property
    def has_thresholds(self) -> bool:
        """Every layer has one."""
        return bool(self.thresholds) and None not in self.thresholds


def checkpoints() -> list[CheckpointInfo]:
    """The store's complete checkpoints."""
    return _checkpoints(store.runs_stamp())


@st.cache_data(max_entries=2, show_spinner=False)
def _checkpoints(runs: str) -> list[CheckpointInfo]:
    del runs
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
    return _load(name, stamp(name))


def card(name: str) -> Card:
    """Facts about a checkpoint; loads it."""
    model = load(name)
    shape, rules = model.encoder.config, model.method.config
    return Card(
        name_or_path=name,
        name=model.name,
        task=model.task,
        method=model.method.name,
        base=model.base,
        label_names=model.label_names,
        trained_length=model.max_length,
        dense=model.dense,
        device=str(model.device),
        **_method_facts(model.method),
        hidden=shape.hidden_size,
        intermediate=shape.intermediate_size,
        protects_first=rules.protect_first,
        pruned_answers=rules.pruned_answers if shape.reads_every_token else None,
    )


def _method_facts(method: PruningMethod) -> dict[str, Any]:
    layers = range(method.num_layers)
    return {
        "thresholds": tuple(map(method.threshold, layers)),
        "num_run": sum(map(method.runs_layer, layers)),
        "prunes": bool(method.signals),
        "can_scale": method.scaled(1.0) is not None,
    }


def learned_trace(question: Question) -> Trace:
    """The trace as trained, with the same weights unpruned beside it."""
    return _trace(question, WhatIf(), stamp(question.checkpoint), same_weights_unpruned=True)


def trace(question: Question, what_if: WhatIf) -> Trace:
    """The trace under `what_if`; nothing that does not depend on it is computed again."""
    learned = learned_trace(question)
    if what_if.is_neutral:
        return learned
    changed = _trace(
        question,
        what_if,
        stamp(question.checkpoint),
        same_weights_unpruned=False,
        window=_window(learned),
    )
    return dataclasses.replace(changed, unpruned=learned.unpruned)


def _window(trace: Trace) -> int | None:
    """Window of the context that a question's trace shows."""
    return None if trace.answer is None else trace.answer.window


def dense_prediction(question: Question) -> Prediction | None:
    """What the dense counterpart says; None where the checkpoint names none.

    Raises:
        UserError: It is named, but cannot be loaded.
    """
    dense = load(question.checkpoint).dense
    if dense is None:
        return None
    return _predict(dataclasses.replace(question, checkpoint=dense), stamp(dense))


def same_tokenizer(name: str, other: str) -> bool:
    """Whether two checkpoints split every text alike."""
    return load(name).tokenizer.to_str() == load(other).tokenizer.to_str()


def words(question: Question) -> tuple[int | None, ...]:
    """Word index of each token; None for special tokens."""
    return learned_trace(question).words


def protected(question: Question) -> tuple[int, ...]:
    """Positions that the checkpoint's method may not drop."""
    return learned_trace(question).protected


def inputs(question: Question) -> Inputs:
    """What the network is given; of a long context the window that the trace shows."""
    from ltp_core.trace import text_inputs

    window = _window(learned_trace(question))
    model = load(question.checkpoint)
    return text_inputs(model, question.text, question.text_pair, window=window)


def received_attention(
    question: Question, what_if: WhatIf, layer_index: int
) -> Float[np.ndarray, "seq seq"]:
    """Head-averaged attention in a layer, queries first; 0 outside the tokens live there."""
    return _received_attention(question, what_if, layer_index, stamp(question.checkpoint))


def is_loaded(name: str) -> bool:
    """Whether a question to this checkpoint can be answered at once."""
    return warm_up.is_done() and (name, stamp(name)) in _loaded()


# ---- caches; the content stamp makes a changed checkpoint another key ----


def stamp(name: str) -> str:
    """Content stamp of all files of a checkpoint; empty where there is none."""
    try:
        return content_stamp(name)
    except (OSError, ValueError, UserError):
        return ""


@st.cache_resource(show_spinner=False)
def _loaded() -> set[tuple[str, str]]:
    return set()


@st.cache_resource(max_entries=MAX_LOADED, show_spinner=False)
def _load(name: str, changed: str) -> PrunedModel:
    from ltp_core.checkpoint import load_checkpoint

    model = load_checkpoint(name)
    _loaded().add((name, changed))
    return model


@st.cache_data(max_entries=256, show_spinner=False)
def _trace(
    question: Question,
    what_if: WhatIf,
    changed: str,
    *,
    same_weights_unpruned: bool,
    window: int | None = None,
) -> Trace:
    from ltp_core.trace import trace_text

    model = _load(question.checkpoint, changed)
    method = scaled_method(model.method, what_if.scale)
    return trace_text(
        dataclasses.replace(model, method=method),
        question.text,
        question.text_pair,
        thresholds=what_if.thresholds,
        keep=what_if.keep,
        drop=what_if.drop,
        same_weights_unpruned=same_weights_unpruned,
        window=window,
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _predict(question: Question, changed: str) -> Prediction:
    from ltp_core.trace import predict_text

    return predict_text(_load(question.checkpoint, changed), question.text, question.text_pair)


@st.cache_data(max_entries=32, show_spinner=False)
def _received_attention(
    question: Question, what_if: WhatIf, layer_index: int, changed: str
) -> Float[np.ndarray, "seq seq"]:
    from ltp_core import trace as core

    return core.received_attention(
        _load(question.checkpoint, changed),
        trace(question, what_if),
        layer_index,
        question.text,
        question.text_pair,
    )


def scaled_method(method: PruningMethod, scale: float) -> PruningMethod:
    """The method pruning more or less; itself at 1, or where it has no such knob.

    Switching it off (0) is possible with every method.
    """
    from ltp_core.pruning import Unpruned

    if scale == 1:
        return method
    scaled = method.scaled(scale)
    if scaled is None:
        return Unpruned.control_of(method) if scale == 0 else method
    return scaled.requires_grad_(False)
