"""One sentence through a checkpoint, every decision recorded."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from tokenizers import Encoding
from torch import Tensor

from ltp_core.checkpoint import PrunedModel
from ltp_core.flops import relative_flops
from ltp_core.inference import model_inputs
from ltp_core.pruning.base import Decision, LayerState, PruningMethod, ThresholdMethod
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.questions.ask import Asked, answer, ask
from ltp_core.records import LayerTrace, Prediction, Trace, UserError
from ltp_core.runners import Inputs, LayerRecord, RunOutput, run_masked
from ltp_core.tasks.catalogue import TASKS
from ltp_core.tokenize import Encoded, collate, encode_text


class Forced(PruningMethod):
    """Another method's decisions, with some positions kept or dropped whatever it says."""

    name = "forced"

    def __init__(self, method: PruningMethod, keep: Collection[int], drop: Collection[int]) -> None:
        super().__init__(method.config, method.num_layers)
        self.method = method
        self.signals = method.signals
        self._keep = sorted(keep)
        self._drop = sorted(drop)

    def retain(self, state: LayerState) -> Decision:
        """The method's decision with the forced positions changed."""
        decision = self.method.retain(state)
        keep = torch.isin(state.position, state.position.new_tensor(self._keep))
        drop = torch.isin(state.position, state.position.new_tensor(self._drop))
        return replace(decision, retained=(decision.retained | keep) & ~drop)

    def threshold(self, layer_index: int) -> float | None:
        """The method's own threshold."""
        return self.method.threshold(layer_index)

    def runs_layer(self, layer_index: int) -> bool:
        """Forcing tokens brings no layer back."""
        return self.method.runs_layer(layer_index)


@dataclass(frozen=True)
class _Tokens:
    """One input as the network sees it; of a question the window that is shown."""

    encoding: Encoding
    inputs: Inputs
    num_cut: int
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
        same_weights_unpruned: Also predict with pruning switched off.
        window: Window of a context to show, from 1; None reads all windows to find it.

    Raises:
        UserError: A pair task got one text or the other way round, the text is not valid Unicode,
            question or context are empty or too long, the thresholds do not fit the method, or a
            position is none of a token.
    """
    tokens = _tokens(model, text, text_pair, window)
    _check_positions(tokens, {*keep, *drop})
    method = _method(model, thresholds, keep, drop)
    output = _run(model, tokens.inputs, method, runner, record=True)
    control = Unpruned.control_of(model.method)
    unpruned = _predict(model, tokens, control, runner) if same_weights_unpruned else None
    prediction = _predict(model, tokens, method, runner, output)
    config = model.encoder.config
    return Trace(
        tokens=tuple(tokens.encoding.tokens),
        token_ids=tuple(tokens.encoding.ids),
        layers=_layer_traces(output, method, len(tokens.encoding)),
        logits=prediction.logits,
        probabilities=prediction.probabilities,
        label=prediction.label,
        unpruned=unpruned,
        relative_flops=relative_flops(
            np.array([len(tokens.encoding)]),
            output.attention_length.cpu().numpy(),
            output.ffn_length.cpu().numpy(),
            hidden=config.hidden_size,
            intermediate=config.intermediate_size,
        ),
        checkpoint=model.name,
        num_cut=tokens.num_cut,
        answer=prediction.answer,
    )


def text_inputs(
    model: PrunedModel, text: str, text_pair: str | None = None, *, window: int | None = None
) -> Inputs:
    """What a runner takes, for timing a pass alone; `window` is that of `trace_text`.

    Raises:
        UserError: As `trace_text`.
    """
    return _tokens(model, text, text_pair, window).inputs


def predict_text(model: PrunedModel, text: str, text_pair: str | None = None) -> Prediction:
    """The checkpoint's prediction alone, with its own method and the packed runner.

    Raises:
        UserError: As `trace_text`.
    """
    return _predict(model, _tokens(model, text, text_pair), model.method, "packed")


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
    tokens = _tokens(model, text, text_pair, window)
    if tuple(tokens.encoding.ids) != trace.token_ids:
        raise UserError("The trace belongs to another text.")
    seen: dict[int, Tensor] = {}

    def keep_probs(index: int, probs: Tensor, hidden: Tensor) -> None:
        del hidden
        if index == layer_index:
            seen[index] = probs[0].mean(dim=0)

    with torch.inference_mode():
        run_masked(model.encoder, tokens.inputs, _Replay(trace, model.method), observer=keep_probs)
    live = np.ones(len(trace.tokens), dtype=bool)
    if layer_index > 0:
        live = np.array(trace.layers[layer_index - 1].retained)
    if layer_index not in seen:
        return np.zeros((len(live), len(live)))
    attention = seen[layer_index].cpu().numpy()
    return np.where(live[:, None] & live[None, :], attention, 0.0)


class _Replay(PruningMethod):
    """The decisions of a trace."""

    name = "replay"

    def __init__(self, trace: Trace, method: PruningMethod) -> None:
        super().__init__(method.config, method.num_layers)
        self._layers = trace.layers

    def retain(self, state: LayerState) -> Decision:
        retained = torch.tensor(self._layers[state.layer_index].retained)
        return Decision(retained.to(state.position.device)[state.position])

    def runs_layer(self, layer_index: int) -> bool:
        return self._layers[layer_index].runs


def word_groups(
    model: PrunedModel, text: str, text_pair: str | None = None, *, window: int | None = None
) -> list[int | None]:
    """Word that each token is a piece of, counted over both texts; None for special tokens.

    `window` is that of `trace_text`.
    """
    encoding = _tokens(model, text, text_pair, window).encoding
    words: dict[tuple[int | None, int], int] = {}
    groups: list[int | None] = []
    for sequence, word in zip(encoding.sequence_ids, encoding.word_ids, strict=True):
        if word is None or sequence is None:
            groups.append(None)
        else:
            groups.append(words.setdefault((sequence, word), len(words)))
    return groups


def _tokens(
    model: PrunedModel, text: str, text_pair: str | None, window: int | None = None
) -> _Tokens:
    task = TASKS.get(model.task or "")
    if task is not None and task.is_pair != (text_pair is not None):
        wanted = "two texts" if task.is_pair else "one text"
        raise UserError(f"{model.name} was trained on {task.name}, which takes {wanted}.")
    if model.questions is not None:
        return _question(model, text, text_pair, window)
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
    batch = collate(encoded, [0], None, model.encoder.config.pad_id)
    return _Tokens(encoding, model_inputs(model, batch).to(_device(model)), num_cut)


def _question(
    model: PrunedModel, question: str, context: str | None, window: int | None
) -> _Tokens:
    if context is None:
        raise UserError(f"{model.name} answers questions about a text: give both.")
    asked = ask(model, question, context, window)
    encoding = asked.windows.encodings[asked.shown]
    return _Tokens(encoding, asked.inputs_of([asked.shown]), 0, asked)


def _device(model: PrunedModel) -> torch.device:
    return next(model.encoder.parameters()).device


def _check_positions(tokens: _Tokens, positions: set[int]) -> None:
    length = len(tokens.encoding)
    for position in sorted(positions):
        if not 0 <= position < length:
            raise UserError(f"There is no token {position}: positions are 0 to {length - 1}.")


def _method(
    model: PrunedModel,
    thresholds: Sequence[float] | None,
    keep: Collection[int],
    drop: Collection[int],
) -> PruningMethod:
    """The checkpoint's method with what the caller changes about it."""
    method = model.method
    if thresholds is not None:
        if not isinstance(method, ThresholdMethod):
            raise UserError(
                f"{model.name} has no thresholds to change: its method is {method.name}."
            )
        if any(math.isnan(threshold) for threshold in thresholds):
            raise UserError("A threshold is not a number.")
        try:
            method = method.with_thresholds(list(thresholds)).to(_device(model))
        except ValueError as error:
            raise UserError(f"{error}.") from error
    return Forced(method, keep, drop) if keep or drop else method


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
    tokens: _Tokens,
    method: PruningMethod,
    runner: str,
    output: RunOutput | None = None,
) -> Prediction:
    """What the model says; `output` is that of the tokens where it is known already."""
    output = output or _run(model, tokens.inputs, method, runner)
    if tokens.asked is None:
        return _prediction(model, output.logits[0])
    elsewhere = method.method if isinstance(method, Forced) else method
    found = answer(model, tokens.asked, output, elsewhere)
    best = -math.inf if found.best is None else found.best.score
    return Prediction(
        logits=(best, found.null_score), probabilities=None, label=found.text, answer=found
    )


def _prediction(model: PrunedModel, logits: Float[Tensor, " label"]) -> Prediction:
    values = tuple(logits.double().tolist())
    if len(values) == 1:
        return Prediction(logits=values, probabilities=None, label=None)
    probabilities = tuple(torch.softmax(logits.double(), dim=0).tolist())
    best = int(logits.argmax())
    label = model.label_names[best] if best < len(model.label_names) else str(best)
    return Prediction(logits=values, probabilities=probabilities, label=label)


def _layer_traces(output: RunOutput, method: PruningMethod, length: int) -> tuple[LayerTrace, ...]:
    """One trace per layer; what is live passes through a layer that is left out."""
    records = iter(output.layers)
    traces: list[LayerTrace] = []
    retained = (True,) * length
    for index in range(method.num_layers):
        if method.runs_layer(index):
            traces.append(_layer_trace(next(records), method.threshold(index)))
        else:
            unseen = (None,) * length
            traces.append(LayerTrace(threshold=None, score=unseen, retained=retained, runs=False))
        retained = traces[-1].retained
    return tuple(traces)


def _layer_trace(record: LayerRecord, threshold: float | None) -> LayerTrace:
    live = record.live[0].tolist()
    scores = record.score[0].tolist()
    return LayerTrace(
        threshold=threshold,
        score=tuple(s if is_live else None for s, is_live in zip(scores, live, strict=True)),
        retained=tuple(record.retained[0].tolist()),
    )
