"""One sentence through a checkpoint, every decision recorded."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float, Int
from tokenizers import Encoding
from torch import Tensor

from ltp_core.ask import Asked, answer, ask
from ltp_core.checkpoint import PrunedModel
from ltp_core.flops import relative_flops
from ltp_core.inference import model_inputs
from ltp_core.pruning.base import (
    Decision,
    LayerEntry,
    LayerState,
    PruningMethod,
    ThresholdMethod,
)
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import LayerTrace, Prediction, Trace, UserError, WhatIf
from ltp_core.runners import Inputs, RunOutput, run_masked
from ltp_core.tasks.catalogue import known_task
from ltp_core.tokenize import Encoded, encode_text


class Forced(PruningMethod):
    """Another method's decisions, with some positions kept or dropped whatever it says."""

    name = "forced"

    def __init__(self, method: PruningMethod, keep: Collection[int], drop: Collection[int]) -> None:
        super().__init__(method.config, method.num_layers)
        self.method = method
        self.signals = method.signals
        self.entry_layers, self.entry_width = method.entry_layers, method.entry_width
        self._keep = sorted(keep)
        self._drop = sorted(drop)

    def retain(self, state: LayerState) -> Decision:
        """The method's decision with the forced positions changed."""
        return self._changed(self.method.retain(state), state.position)

    def select(self, entry: LayerEntry) -> Decision:
        """The method's selection with the forced positions changed."""
        return self._changed(self.method.select(entry), entry.position)

    def _changed(self, decision: Decision, position: Int[Tensor, " live"]) -> Decision:
        keep = torch.isin(position, position.new_tensor(self._keep))
        drop = torch.isin(position, position.new_tensor(self._drop))
        return replace(decision, retained=(decision.retained | keep) & ~drop)

    def threshold(self, layer_index: int) -> float | None:
        """The method's own threshold."""
        return self.method.threshold(layer_index)

    def runs_layer(self, layer_index: int) -> bool:
        """Forcing tokens brings no layer back."""
        return self.method.runs_layer(layer_index)


class _Replay(PruningMethod):
    """The decisions of a trace up to a layer; those behind it are left out."""

    name = "replay"

    def __init__(self, trace: Trace, method: PruningMethod, last: int) -> None:
        super().__init__(method.config, method.num_layers)
        self._layers = trace.layers
        self._last = last
        self.entry_layers = method.entry_layers

    def retain(self, state: LayerState) -> Decision:
        return self._as_traced(state)

    def select(self, entry: LayerEntry) -> Decision:
        decision = self._as_traced(entry)
        return replace(decision, score=decision.retained.to(entry.hidden.dtype))

    def _as_traced(self, seen: LayerState | LayerEntry) -> Decision:
        retained = torch.tensor(self._layers[seen.layer_index].retained)
        return Decision(retained.to(seen.position.device)[seen.position])

    def runs_layer(self, layer_index: int) -> bool:
        return layer_index <= self._last and self._layers[layer_index].runs


@dataclass(frozen=True)
class _Sequence:
    """One input as the network sees it; of a question the window that is shown."""

    encoding: Encoding
    inputs: Inputs
    num_cut: int
    texts: tuple[str, ...]
    asked: Asked | None = None


def trace_text(
    model: PrunedModel,
    text: str,
    text_pair: str | None = None,
    *,
    thresholds: Sequence[float] | None = None,
    keep: Collection[int] = (),
    drop: Collection[int] = (),
    runner: str = "packed",
    same_weights_unpruned: bool = True,
    window: int | None = None,
) -> Trace:
    """Runs one input and records the scores and masks of every layer.

    Args:
        model: Loaded checkpoint; it is not changed.
        text: First text, or the question; may be empty but for a question. Cut at the encoder's
            longest input, which may be longer than what the checkpoint was trained on
            (`model.max_length`).
        text_pair: Second text of a pair task, or the context; of a long one's windows the trace
            shows that in which the unpruned model answers.
        thresholds: Absolute thresholds to use instead of the learned ones, one per layer.
        keep: Token positions that are never dropped.
        drop: Token positions that are dropped after the first layer; the first token stays.
        runner: "packed" or "masked".
        same_weights_unpruned: Also predict with pruning switched off; `predict_text` gives the same
            later.
        window: Window of a context to show, from 1; None reads all windows to find it.

    Raises:
        UserError: A pair task got one text or the other way round, the text is not valid Unicode,
            question or context are empty or too long, the thresholds do not fit the method, or a
            position is none of a token.
    """
    sequence = _sequence(model, text, text_pair, window)
    length = len(sequence.encoding)
    for position in sorted({*keep, *drop}):
        if not 0 <= position < length:
            raise UserError(f"There is no token {position}: positions are 0 to {length - 1}.")

    # The checkpoint's method with what the caller changes about it.
    method = model.method
    if thresholds is not None:
        if not isinstance(method, ThresholdMethod):
            raise UserError(
                f"{model.name} has no thresholds to change: its method is {method.name}."
            )
        if any(math.isnan(threshold) for threshold in thresholds):
            raise UserError("A threshold is not a number.")
        try:
            method = method.with_thresholds(list(thresholds)).to(model.device)
        except ValueError as error:
            raise UserError(f"{error}.") from error
    if keep or drop:
        method = Forced(method, keep, drop)

    output = _run(model, sequence.inputs, method, runner, record=True)
    unpruned = None
    if same_weights_unpruned:
        unpruned = _predict(model, sequence, Unpruned.control_of(model.method), runner)
    prediction = _predict(model, sequence, method, runner, output)
    config = model.encoder.config
    return Trace(
        tokens=tuple(sequence.encoding.tokens),
        token_ids=tuple(sequence.encoding.ids),
        words=_words(sequence.encoding),
        protected=tuple(sequence.inputs.protected[0].nonzero()[:, 0].tolist()),
        layers=_layer_traces(output, method, length),
        logits=prediction.logits,
        probabilities=prediction.probabilities,
        label=prediction.label,
        unpruned=unpruned,
        relative_flops=relative_flops(
            np.array([length]),
            output.attention_length.cpu().numpy(),
            output.ffn_length.cpu().numpy(),
            **config.sizes,
            decision=method.decision_cost,
        ),
        checkpoint=model.name,
        num_cut=sequence.num_cut,
        answer=prediction.answer,
        texts=(text,) if text_pair is None else (text, text_pair),
        surfaces=_surfaces(sequence),
        what_if=WhatIf(
            thresholds=None if thresholds is None else tuple(thresholds),
            keep=tuple(sorted(keep)),
            drop=tuple(sorted(drop)),
        ),
    )


def predict_text(
    model: PrunedModel,
    text: str,
    text_pair: str | None = None,
    *,
    unpruned: bool = False,
    window: int | None = None,
) -> Prediction:
    """The checkpoint's prediction alone, by the packed runner.

    Args:
        model: Loaded checkpoint.
        text: First text, or the question.
        text_pair: Second text of a pair task, or the context.
        unpruned: With pruning switched off, as in `Trace.unpruned`.
        window: As in `trace_text`; the answer's token positions are of this window.

    Raises:
        UserError: As `trace_text`.
    """
    method = Unpruned.control_of(model.method) if unpruned else model.method
    return _predict(model, _sequence(model, text, text_pair, window), method, "packed")


def text_inputs(
    model: PrunedModel, text: str, text_pair: str | None = None, *, window: int | None = None
) -> Inputs:
    """What a runner takes, for timing a pass alone; `window` is that of `trace_text`.

    Raises:
        UserError: As `trace_text`.
    """
    return _sequence(model, text, text_pair, window).inputs


def received_attention(
    model: PrunedModel, trace: Trace, layer_index: int, text: str, text_pair: str | None = None
) -> Float[np.ndarray, "seq seq"]:
    """Head-averaged attention of one layer among the tokens live in it, queries first.

    Its column sums over the live queries are the layer's scores in the trace; rows and columns of
    tokens that are not live are 0 (paper Fig. 2, right, for all heads together). All 0 where the
    layer is left out.

    Raises:
        UserError: The trace belongs to another text.
    """
    window = None if trace.answer is None else trace.answer.window
    sequence = _sequence(model, text, text_pair, window)
    if tuple(sequence.encoding.ids) != trace.token_ids:
        raise UserError("The trace belongs to another text.")
    live = np.ones(len(trace.tokens), dtype=bool)
    before = layer_index if layer_index in model.method.entry_layers else layer_index - 1
    if before >= 0:
        live = np.array(trace.layers[before].retained)
    attention = np.zeros((len(live), len(live)))

    def keep_probs(index: int, probs: Tensor, hidden: Tensor) -> None:
        del hidden
        if index == layer_index:
            attention[:] = probs[0].mean(dim=0).cpu().numpy()

    with torch.inference_mode():
        replay = _Replay(trace, model.method, layer_index)
        run_masked(model.encoder, sequence.inputs, replay, observer=keep_probs)
    return np.where(live[:, None] & live[None, :], attention, 0.0)


def _sequence(
    model: PrunedModel, text: str, text_pair: str | None, window: int | None = None
) -> _Sequence:
    task = known_task(model.task)
    if task is not None and task.is_pair != (text_pair is not None):
        wanted = "two texts" if task.is_pair else "one text"
        raise UserError(f"{model.name} was trained on {task.name}, which takes {wanted}.")
    if model.questions is not None:
        if text_pair is None:
            raise UserError(f"{model.name} answers questions about a text: give both.")
        asked = ask(model, text, text_pair, window)
        encoding, read = asked.windows.tokens(asked.shown)
        return _Sequence(encoding, asked.inputs_of([asked.shown]), 0, read, asked)
    texts = (text,) if text_pair is None else (text, text_pair)
    encoding, num_cut = encode_text(model.tokenizer, texts, model.encoder.config.max_length)
    if not len(encoding):
        raise UserError("There is no token in this text; type a word.")
    encoded = Encoded(
        input_ids=[encoding.ids],
        token_type_ids=[encoding.type_ids],
        length=np.array([len(encoding)]),
        cut=np.array([num_cut]),
    )
    return _Sequence(encoding, model_inputs(model, encoded, [0]), num_cut, texts)


def _words(encoding: Encoding) -> tuple[int | None, ...]:
    """Word of each token, counted over both texts; None for special tokens."""
    numbers: dict[tuple[int, int], int] = {}
    return tuple(
        None if word is None or text is None else numbers.setdefault((text, word), len(numbers))
        for text, word in zip(encoding.sequence_ids, encoding.word_ids, strict=True)
    )


def _surfaces(sequence: _Sequence) -> tuple[str, ...]:
    """What each token stands for in its text; empty for special tokens."""
    encoding = sequence.encoding
    return tuple(
        "" if text is None else sequence.texts[text][begin:end]
        for text, (begin, end) in zip(encoding.sequence_ids, encoding.offsets, strict=True)
    )


@torch.inference_mode()
def _run(
    model: PrunedModel, inputs: Inputs, method: PruningMethod, runner: str, *, record: bool = False
) -> RunOutput:
    if runner == "packed":
        return model.packed(inputs, method, record=record)
    if runner == "masked":
        return run_masked(model.encoder, inputs, method, record=record)
    raise UserError(f"There is no runner {runner!r}; known are packed and masked.")


def _predict(
    model: PrunedModel,
    sequence: _Sequence,
    method: PruningMethod,
    runner: str,
    output: RunOutput | None = None,
) -> Prediction:
    """What the model says; `output` is that of the sequence where it is known already."""
    output = output or _run(model, sequence.inputs, method, runner)
    if sequence.asked is not None:
        # What is forced is forced in the window that is shown, and in no other.
        elsewhere = method.method if isinstance(method, Forced) else method
        found = answer(model, sequence.asked, output, elsewhere)
        best = -math.inf if found.best is None else found.best.score
        return Prediction(
            logits=(best, found.null_score), probabilities=None, label=found.text, answer=found
        )
    values = tuple(output.logits[0].double().tolist())
    shares = model.probabilities(output.logits[:1].cpu().numpy())
    if shares is None or len(values) == 1:
        return Prediction(logits=values, probabilities=None, label=None)
    return Prediction(
        logits=values,
        probabilities=tuple(shares[0].tolist()),
        label=", ".join(model.labels_of(shares)[0]) or "no label",
    )


def _layer_traces(output: RunOutput, method: PruningMethod, length: int) -> tuple[LayerTrace, ...]:
    """One trace per layer; what is live passes through a layer that is left out."""
    records = iter(output.layers)
    traces: list[LayerTrace] = []
    retained: tuple[bool, ...] = (True,) * length
    for index in range(method.num_layers):
        if not method.runs_layer(index):
            unseen = (None,) * length
            traces.append(LayerTrace(threshold=None, score=unseen, retained=retained, runs=False))
            continue
        record = next(records)
        live, scores = record.live[0].tolist(), record.score[0].tolist()
        retained = tuple(record.retained[0].tolist())
        traces.append(
            LayerTrace(
                threshold=method.threshold(index),
                score=tuple(
                    s if is_live and not math.isnan(s) else None
                    for s, is_live in zip(scores, live, strict=True)
                ),
                retained=retained,
            )
        )
    return tuple(traces)
