"""Live model calls, the only way from a page to torch; module level is torch-free.

Models are shared between sessions and never changed: what a slider varies is an argument.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import streamlit as st
from jaxtyping import Float

from app.ltp_ui.shared import warm_up
from ltp_core import store
from ltp_core.budget import elastic_curve
from ltp_core.checkpoint_places import (
    CheckpointInfo,
    checkpoint_folder,
    content_stamp,
    list_checkpoints,
)
from ltp_core.records import Prediction, ScoreKind, Trace, UserError, WhatIf

if TYPE_CHECKING:
    import pandas as pd

    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod
    from ltp_core.runners.base import Inputs

MAX_LOADED = 3
"""Checkpoints in memory: two to compare, or one and its dense counterpart, and the one before."""


@dataclass(frozen=True, kw_only=True)
class Question:
    """What is asked of which checkpoint, as its files are now.

    Attributes:
        checkpoint: Run name or folder.
        text: First text.
        text_pair: Second text of a pair task.
        state: Content stamp of the checkpoint when this was asked: an answer is kept by its question,
            so that changed files give another answer.
    """

    checkpoint: str
    text: str
    text_pair: str | None = None
    state: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Notes the state of the checkpoint."""
        object.__setattr__(self, "state", stamp(self.checkpoint))


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
        score_kind: What it compares with a threshold.
        converged: Whether its policies came to a choice; None for other methods, and where no record says.
        selected: Of the tokens that its policies may drop, the share that each lets in.
        protects_first: The first token is never dropped.
        pruned_answers: What a head that reads every token makes of a dropped one, "restored" or
            "excluded"; None for a head that reads the first token alone.
        ffn_maps: Linear maps of the FFN.
        reads_mean: The head reads the mean of the tokens' last states.
        curve: What its strengths cost and are worth on held-out rows, where it was trained for any
            budget; columns are those of the store's table `curve`.
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
    score_kind: ScoreKind
    converged: bool | None
    selected: tuple[float, ...]
    protects_first: bool
    pruned_answers: str | None
    ffn_maps: int = 2
    reads_mean: bool = False
    curve: pd.DataFrame | None = field(default=None, compare=False)

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
        **_policy_facts(name, model.method),
        **shape.sizes,
        protects_first=rules.protect_first,
        pruned_answers=rules.pruned_answers if shape.reads_every_token else None,
        reads_mean=shape.head != "span" and shape.pooling == "mean",
        curve=_curve(name, stamp(name)) if model.method.scaled(1.0) else None,
    )


@st.cache_data(max_entries=64, show_spinner=False)
def _curve(name: str, state: str) -> pd.DataFrame | None:
    del state
    return elastic_curve(checkpoint_folder(name))


def _method_facts(method: PruningMethod) -> dict[str, Any]:
    layers = range(method.num_layers)
    return {
        "thresholds": tuple(map(method.threshold, layers)),
        "num_run": sum(map(method.runs_layer, layers)),
        "prunes": method.prunes,
        "can_scale": method.scaled(1.0) is not None,
        "score_kind": method.score_kind,
    }


def _policy_facts(name: str, method: PruningMethod) -> dict[str, Any]:
    """What the run's record says of its policies, where it has some."""
    found: dict[str, Any] = {}
    if method.entry_layers:
        with contextlib.suppress(UserError):
            found = store.read_manifest(checkpoint_folder(name)).summary.get("validation") or {}
    return {
        "converged": found.get("converged"),
        "selected": tuple(found.get("selected") or ()),
    }


# What is answered once is kept by its question; nobody changes what these functions give. They use
# Python's own cache: Streamlit's takes longer to look an answer up than a network to give it.


def learned_trace(question: Question) -> Trace:
    """The trace as trained; `unpruned` is not in it, see `with_unpruned`."""
    return trace(question, WhatIf())


@lru_cache(maxsize=256)
def trace(question: Question, what_if: WhatIf) -> Trace:
    """The trace under `what_if`; `unpruned` is not in it, see `with_unpruned`."""
    from ltp_core.trace import trace_text

    model = _load(question.checkpoint, question.state)
    found = trace_text(
        dataclasses.replace(model, method=changed_method(model.method, what_if)),
        question.text,
        question.text_pair,
        keep=what_if.keep,
        drop=what_if.drop,
        same_weights_unpruned=False,
        window=None if what_if.is_neutral else _window(question),
    )
    return dataclasses.replace(found, what_if=what_if)


def _window(question: Question) -> int | None:
    """Window of a long context that the learned trace shows, and all others with it."""
    learned = learned_trace(question)
    return None if learned.answer is None else learned.answer.window


@lru_cache(maxsize=64)
def unpruned_prediction(question: Question) -> Prediction:
    """What the checkpoint says with pruning switched off."""
    from ltp_core.trace import predict_text

    model = _load(question.checkpoint, question.state)
    texts = question.text, question.text_pair
    return predict_text(model, *texts, unpruned=True, window=_window(question))


def with_unpruned(question: Question, trace: Trace) -> Trace:
    """The trace, and what the same weights say unpruned."""
    return dataclasses.replace(trace, unpruned=unpruned_prediction(question))


def dense_prediction(question: Question) -> Prediction | None:
    """What the dense counterpart says; None where the checkpoint names none.

    Raises:
        UserError: It is named, but cannot be loaded.
    """
    dense = _load(question.checkpoint, question.state).dense
    if dense is None:
        return None
    return _prediction(dataclasses.replace(question, checkpoint=dense))


@lru_cache(maxsize=64)
def _prediction(question: Question) -> Prediction:
    from ltp_core.trace import predict_text

    model = _load(question.checkpoint, question.state)
    return predict_text(model, question.text, question.text_pair)


@lru_cache(maxsize=16)
def received_attention(
    question: Question, what_if: WhatIf, layer_index: int
) -> Float[np.ndarray, "seq seq"]:
    """Head-averaged attention in a layer, queries first; 0 outside the tokens live there."""
    from ltp_core import trace as core

    return core.received_attention(
        _load(question.checkpoint, question.state),
        trace(question, what_if),
        layer_index,
        question.text,
        question.text_pair,
    )


def compare_with_unpruned(
    name: str, texts: Sequence[tuple[str, ...]], scale: float = 1.0
) -> pd.DataFrame:
    """What pruning changes, text by text; columns and errors as in the core.

    Args:
        name: The checkpoint.
        texts: One or two strings each.
        scale: How much it prunes, as a multiple of what it learned.
    """
    from ltp_core.predicting.scoring import compare_with_unpruned as compare

    model = load(name)
    return compare(dataclasses.replace(model, method=scaled_method(model.method, scale)), texts)


def inputs(question: Question) -> Inputs:
    """What the network is given; of a long context the window that the trace shows."""
    from ltp_core.trace import text_inputs

    model = _load(question.checkpoint, question.state)
    return text_inputs(model, question.text, question.text_pair, window=_window(question))


def same_tokenizer(name: str, other: str) -> bool:
    """Whether two checkpoints split every text alike."""
    return load(name).tokenizer.to_str() == load(other).tokenizer.to_str()


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
    warm_up.keep_forever()
    return model


def changed_method(method: PruningMethod, what_if: WhatIf) -> PruningMethod:
    """The method with other thresholds or strength; forced tokens are not in it."""
    from ltp_core.pruning import ThresholdMethod

    if what_if.thresholds is None or not isinstance(method, ThresholdMethod):
        return scaled_method(method, what_if.scale)
    thresholds = [what_if.scale * threshold for threshold in what_if.thresholds]
    return method.with_thresholds(thresholds).to(method.thresholds.device).requires_grad_(False)


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
