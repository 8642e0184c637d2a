"""Sentences about the columns of a token view: why each left or stayed. Layers count from 1."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from app.ltp_ui.shared.wording import apart, number
from app.ltp_ui.token_view.view import Column, TokenView


def quoted(column: Column) -> str:
    """The column's text in quotation marks."""
    return f"‘{column.text}’"


def why(view: TokenView, index: int) -> str:
    """Why the column's token left or stayed, and what the model reads where it does not know it."""
    column = view.columns[index]
    said = _why(view, index)
    return f"{said} {unknown_words(column)}." if column.unknown else said


def unknown_words(column: Column) -> str:
    """That the model does not know what stands there."""
    return f"The model does not know {quoted(column)} and reads {column.unknown}"


def _why(view: TokenView, index: int) -> str:
    column = view.columns[index]
    if column.survived < view.num_layers:
        return _why_left(view, index)
    name = quoted(column)
    reason = _why_spared(column)
    spared = [i for i, row in enumerate(view.grid) if row[index] == "!"]
    if reason and spared:
        at = f"at layer {spared[0] + 1} {_against(view, index, spared[0])}"
        return f"{name} {reason}; {at}."
    if reason and any(view.thresholds):
        return f"{name} {reason}; it would have stayed anyway."
    closest = closest_layer(view, index)
    stayed = f"{name} stayed through {all_layers(view)}"
    if closest is None:
        return f"{stayed}."
    return f"{stayed}; closest call at layer {closest + 1}: {_against(view, index, closest)}."


def answer_name(view: TokenView) -> str:
    """What the columns are that are marked as the answer."""
    return "the answer" if view.is_answered else "the likeliest part, not given as the answer"


def all_layers(view: TokenView) -> str:
    """`all 6 layers`, or `the 3 of 6 layers that run`."""
    num_run = sum(view.runs)
    if num_run == view.num_layers:
        return f"all {view.num_layers} layers"
    return f"the {num_run} of {view.num_layers} layers that run"


def _why_spared(column: Column) -> str:
    """Why the column's token stays whatever its score; empty if it has to pass the thresholds."""
    if column.forced == "keep":
        return "is kept by hand"
    if column.is_protected:
        return "is protected and stays whatever its score"
    return ""


def _why_left(view: TokenView, index: int) -> str:
    column, layer_index = view.columns[index], view.columns[index].survived
    name, layer, when = quoted(column), layer_index + 1, side_of(view)
    if column.forced == "drop":
        return f"{name} was dropped by hand after layer {layer}."
    score, threshold = view.scores[layer_index][index], view.thresholds[layer_index]
    if score is None:
        return f"{name} left {when} layer {layer}."
    if threshold is None:
        live, stayed = view.lengths[layer_index], view.lengths[layer]
        drew = _drew(view, number(score))
        return (
            f"{name} left {when} layer {layer}: {drew}; {stayed} of the {live} tokens there stay."
        )
    return f"{name} left {when} layer {layer}: {_against(view, index, layer_index)}."


def _against(view: TokenView, index: int, layer_index: int) -> str:
    score, threshold = view.scores[layer_index][index], view.thresholds[layer_index]
    assert score is not None
    if threshold is None:
        return _drew(view, number(score))
    shown, limit = apart(score, threshold)
    return f"{_drew(view, shown)}, the threshold there is {limit}"


def _drew(view: TokenView, score: str) -> str:
    """The score in words; of a policy it is a probability."""
    if view.score_kind == "probability":
        return f"its probability of going on was {score}"
    return f"it scored {score}"


def side_of(view: TokenView) -> str:
    """Whether tokens leave before a layer or after it."""
    return "before" if view.score_kind == "probability" else "after"


def closest_layer(view: TokenView, index: int) -> int | None:
    """The layer whose decision about the column was closest; None where no threshold decided."""
    margins = {
        layer_index: abs(margin)
        for layer_index in range(view.num_layers)
        if (margin := _margin(view, index, layer_index)) is not None
    }
    return min(margins, key=margins.__getitem__) if margins else None


def _margin(view: TokenView, index: int, layer_index: int) -> float | None:
    """Decades by which the score lies above the threshold."""
    score, threshold = view.scores[layer_index][index], view.thresholds[layer_index]
    if not score or not threshold:
        return None
    return math.log10(score / threshold)


@dataclass(frozen=True, kw_only=True)
class NearMiss:
    """A decision that a slightly different threshold would have turned.

    Attributes:
        index: Column.
        layer_index: Layer that decided.
        margin: Fraction by which the score lies above (+) or below (−) the threshold.
    """

    index: int
    layer_index: int
    margin: float

    @property
    def left(self) -> bool:
        """The token left there."""
        return self.margin <= 0


def nearest_misses(view: TokenView, limit: int = 8) -> list[NearMiss]:
    """The closest decision of each column, closest first; what was forced or protected is out."""
    return sorted(_closest_calls(view), key=lambda miss: abs(math.log1p(miss.margin)))[:limit]


def _closest_calls(view: TokenView) -> Iterator[NearMiss]:
    for index, column in enumerate(view.columns):
        has_left = column.survived < view.num_layers
        layer_index = column.survived if has_left else closest_layer(view, index)
        is_free = not column.forced and not column.is_protected
        if layer_index is None or not is_free:
            continue
        margin = _margin(view, index, layer_index)
        if margin is None:
            continue
        yield NearMiss(index=index, layer_index=layer_index, margin=10**margin - 1)


def ramp_words(view: TokenView) -> tuple[str, str, str]:
    """What the brightness of a cell stands for, and its ends."""
    if view.score_kind == "probability":
        return "probability", "½", "1"
    reference = "threshold" if any(view.thresholds) else "uniform attention"
    return f"score ÷ {reference}", "1×", "≥ 32×"


def passed_words(view: TokenView) -> str:
    """What a layer does where a token passes it without a score."""
    return "layer left out" if not all(view.runs) else "nothing decided here"


def state_of(view: TokenView, index: int) -> str:
    """The column's fate in a few words, for labels."""
    column = view.columns[index]
    by_hand = " by hand" if column.forced else ""
    if column.survived < view.num_layers:
        return f"left {side_of(view)} layer {column.survived + 1}{by_hand}"
    return f"stayed through all layers{by_hand}"
