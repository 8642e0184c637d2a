"""`trace`: which tokens of a text survive, layer by layer."""

from __future__ import annotations

import dataclasses
import math
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING

from ltp_core.cli.base import (
    Command,
    Output,
    add_budget,
    add_checkpoint,
    columns,
    factor,
    load_model,
    percent,
)
from ltp_core.records import (
    Answer,
    Candidate,
    LayerTrace,
    Prediction,
    ScoreKind,
    Trace,
    UserError,
    WhatIf,
)

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_checkpoint(parser)
    add_budget(parser)
    parser.add_argument("text", metavar="TEXT", help="text; put -- before one that starts with -")
    parser.add_argument(
        "text_pair",
        metavar="TEXT2",
        nargs="?",
        help="second text of a pair task; of a question (TEXT) its context",
    )
    parser.add_argument(
        "--threshold-scale",
        type=factor,
        metavar="X",
        help="multiply every learned threshold by X; 0 prunes nothing",
    )
    parser.add_argument(
        "--runner",
        choices=("packed", "masked"),
        default="packed",
        help="remove pruned tokens, or only mask them; same answer (default: packed)",
    )


def run(arguments: Namespace) -> Output:
    """Traces one text."""
    from ltp_core.trace import trace_text

    model = load_model(arguments)
    trace = trace_text(
        model,
        arguments.text,
        arguments.text_pair,
        thresholds=_thresholds(model, arguments.threshold_scale),
        runner=arguments.runner,
    )
    scale = arguments.threshold_scale
    asked = WhatIf(
        scale=1.0 if scale is None else scale, budget=arguments.budget, max_loss=arguments.max_loss
    )
    trace = dataclasses.replace(trace, what_if=asked)
    return Output(document=trace.to_dict(), text=_card(trace, model.method.score_kind))


def _thresholds(model: PrunedModel, scale: float | None) -> list[float] | None:
    if scale is None:
        return None
    learned = [model.method.threshold(layer) for layer in range(model.method.num_layers)]
    if None in learned:
        raise UserError(
            f"{model.name} prunes by {model.method.name}, which has no thresholds to scale: "
            "leave --threshold-scale out."
        )
    return [scale * threshold for threshold in learned if threshold is not None]


def _card(trace: Trace, kind: ScoreKind) -> str:
    lines = [trace.checkpoint, f"prediction         {_answer(trace.prediction)}"]
    if trace.unpruned:
        lines.append(f"same, unpruned     {_answer(trace.unpruned)}")
    paper, executed = trace.relative_flops["paper"], trace.relative_flops["executed"]
    answer = trace.answer
    of_window = f", of window {answer.window}" if answer and answer.num_windows > 1 else ""
    lines += [
        f"relative FLOPs     {percent(paper)} (paper's accounting), {percent(executed)} (executed)"
        f"{of_window}",
        f"tokens             {' → '.join(str(n) for n in trace.lengths)}",
    ]
    if absent := [str(i) for i, layer in enumerate(trace.layers, start=1) if not layer.runs]:
        lines.append(f"layers left out    {', '.join(absent)}")
    if answer is not None:
        lines.append(f"no answer          {certainty(answer)}")
        if answer.best is not None:
            where = "in another window than the one below"
            far = survival(trace, answer.best) if answer.best.tokens else where
            lines.append(f"answer's tokens    {far}")
        if answer.num_windows > 1:
            lines.append(
                f"windows            the context was read in {answer.num_windows}; below is number "
                f"{answer.window}"
            )
    if trace.num_cut:
        lines.append(f"cut off            {trace.num_cut} tokens beyond the maximum length")
    rows = [
        (
            token,
            "".join("●" if layer.retained[i] else "·" for layer in trace.layers),
            fate(trace.layers, i, kind),
        )
        for i, token in enumerate(trace.tokens)
    ]
    return "\n".join([*lines, "", columns(("token", "layers", ""), rows)])


def certainty(answer: Answer) -> str:
    """How much likelier "no answer" is, and above which difference the question stays open."""
    if answer.best is None:
        return "no token of the context is left that could be one"
    limit = (
        "never given"
        if math.isinf(answer.null_threshold)
        else (f"given above {answer.null_threshold:.2f}")
    )
    return f"score {answer.null_difference:+.2f} beside the best answer; {limit}"


def survival(trace: Trace, candidate: Candidate) -> str:
    """How far the tokens of a candidate get."""
    assert candidate.tokens is not None
    first, last = candidate.tokens
    counts = trace.num_survived[first : last + 1]
    num_layers, whole = len(trace.layers), sum(n == len(trace.layers) for n in counts)
    if whole == len(counts):
        return f"all {len(counts)} survive all {num_layers} layers"
    return f"{whole} of {len(counts)} survive all {num_layers} layers; the first leaves after layer {min(counts) + 1}"


def _answer(prediction: Prediction) -> str:
    if prediction.answer is not None:
        return "no answer" if prediction.label is None else repr(prediction.label)
    if prediction.probabilities is None:
        return ", ".join(f"{value:.3f}" for value in prediction.logits)
    return f"{prediction.label} ({percent(max(prediction.probabilities))})"


def fate(layers: tuple[LayerTrace, ...], i: int, kind: ScoreKind) -> str:
    """Why a token left; empty for one that stayed."""
    for number, layer in enumerate(layers, start=1):
        if not layer.retained[i]:
            score, threshold = layer.score[i], layer.threshold
            reason = "" if score is None else f": {WHAT[kind].format(score)}"
            bound = "" if threshold is None else f", threshold {threshold:.3f}"
            when = "before" if kind == "probability" else "after"
            return f"left {when} layer {number}{reason}{bound}"
    return ""


WHAT: dict[ScoreKind, str] = {
    "attention": "{:.3f} of uniform attention",
    "factored": "score {:.3f}",
    "probability": "probability {:.3f}",
}
"""A score in words."""


COMMAND = Command(
    name="trace",
    summary="show which tokens of a text survive, layer by layer",
    examples=(
        'sst2-ltp "A charming and often affecting journey."',
        'sst2-ltp "Not a bad film." --threshold-scale 1.5 --json',
    ),
    add_arguments=add_arguments,
    run=run,
)
