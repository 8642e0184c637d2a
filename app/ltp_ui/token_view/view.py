"""What the token view shows, worked out once for the live component, the exports and the tables.

A column is a token, or a word when sub-words are merged: it lives while any of its pieces lives,
and its score is that of its highest-scoring live piece. Layers are zero-based here.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from app.ltp_ui.token_view.texts import UNKNOWN, is_right_to_left, token_texts
from ltp_core.records import Answer, LayerTrace, ScoreKind, Trace

NUM_LEVELS = 8
LEVEL_SPAN = 1.5  # decades of score to threshold that the colours span: 1 to about 32 times
LEFT, GONE, SPARED, PASSED = "x", ".", "!", "-"


@dataclass(frozen=True, kw_only=True)
class Column:
    """One token or word of the view.

    Attributes:
        text: What is shown.
        positions: Its tokens in the original sequence.
        is_special: It is a token that the tokenizer added.
        continues: It is a further piece of the word that the column before began.
        survived: Number of layers that retained it.
        survived_learned: The same with the learned thresholds and nothing forced; None if that is
            what the view shows anyway.
        forced: "keep" or "drop" if it was decided by hand.
        is_protected: No method may drop it.
        is_answer: It is part of the answer, or of what is likeliest to be one.
        is_context: It stands behind the question's end; never where nothing is asked.
        unknown: What the model reads instead of the text, as `[UNK]`; empty where it reads that.
    """

    text: str
    positions: tuple[int, ...]
    is_special: bool
    continues: bool
    survived: int
    survived_learned: int | None
    forced: str | None
    is_protected: bool
    is_answer: bool
    is_context: bool
    unknown: str = ""


@dataclass(frozen=True, kw_only=True)
class TokenView:
    """A trace laid out in columns.

    Attributes:
        columns: Tokens or words, in sentence order.
        scores: By layer and column; None where the column was no longer live, or nothing compared.
        grid: By layer, one character a column: "0".."7" retained, brighter with the ratio of score
            to threshold; "x" left here; "!" retained although its score is not above the threshold
            (protected or forced); "-" passed by a layer that is left out or decides nothing; "." gone
            before.
        thresholds: By layer; None where the method has none.
        runs: By layer; False where it is left out.
        learned: The learned thresholds where others were used, else None.
        lengths: Live tokens at the input and after each layer; hidden columns count too.
        num_cut: Tokens cut off because the input was too long.
        is_right_to_left: The text reads from right to left.
        checkpoint: Name of the checkpoint that ran.
        asks: A question is asked, and the head reads every token's last state to find the answer.
        is_answered: The columns that are marked as the answer are given as such.
        score_kind: What the scores are.
    """

    columns: tuple[Column, ...]
    scores: tuple[tuple[float | None, ...], ...]
    grid: tuple[str, ...]
    thresholds: tuple[float | None, ...]
    runs: tuple[bool, ...]
    learned: tuple[float | None, ...] | None
    lengths: tuple[int, ...]
    num_cut: int
    is_right_to_left: bool
    checkpoint: str
    asks: bool
    is_answered: bool
    score_kind: ScoreKind

    @property
    def num_layers(self) -> int:
        """Number of encoder layers, those that are left out included."""
        return len(self.thresholds)

    @property
    def context_index(self) -> int | None:
        """Index of the first column behind the question; None where none is shown."""
        return next((i for i, column in enumerate(self.columns) if column.is_context), None)

    @property
    def answer_range(self) -> range:
        """Indices of the columns that are marked as the answer."""
        found = [i for i, column in enumerate(self.columns) if column.is_answer]
        return range(found[0], found[-1] + 1) if found else range(0)

    def column_of(self, position: int) -> int | None:
        """Index of the column that shows the token at `position`; None if it is hidden."""
        for index, column in enumerate(self.columns):
            if position in column.positions:
                return index
        return None


def build_view(
    trace: Trace,
    words: Sequence[int | None],
    *,
    learned: Trace | None = None,
    merge_words: bool = False,
    show_special: bool = True,
    keep: Collection[int] = (),
    drop: Collection[int] = (),
    protected: Collection[int] = (),
    score_kind: ScoreKind = "attention",
) -> TokenView:
    """Lays a trace out in columns.

    Args:
        trace: What is shown.
        words: Word index of each token; None for special tokens.
        learned: The same input with the learned thresholds and nothing forced, for the ghost
            marks; None if `trace` is that.
        merge_words: One column a word instead of one a token.
        show_special: Show the tokens that the tokenizer added.
        keep: Positions that were kept by hand.
        drop: Positions that were dropped by hand.
        protected: Positions that no method may drop.
        score_kind: What the scores are.
    """
    groups = _groups(words, merge_words, show_special)
    texts = token_texts(trace)
    survived = trace.num_survived
    survived_learned = learned.num_survived if learned else None
    answer, context = _answer_and_context(trace.answer, words)
    columns = tuple(
        Column(
            text="".join(texts[i] for i in group),
            positions=tuple(group),
            is_special=words[group[0]] is None,
            continues=_continues(words, group[0]),
            survived=max(survived[i] for i in group),
            survived_learned=max(survived_learned[i] for i in group) if survived_learned else None,
            forced=_forced(group, keep, drop),
            is_protected=any(position in protected for position in group),
            is_answer=any(position in answer for position in group),
            is_context=group[0] in context,
            unknown=next(
                (t for i in group if (t := trace.tokens[i]) in UNKNOWN and t != texts[i]), ""
            ),
        )
        for group in groups
    )
    scores = tuple(_layer_scores(layer.score, groups) for layer in trace.layers)
    thresholds = tuple(layer.threshold for layer in trace.layers)
    return TokenView(
        columns=columns,
        scores=scores,
        grid=_grid(columns, scores, trace.layers, score_kind),
        thresholds=thresholds,
        runs=tuple(layer.runs for layer in trace.layers),
        learned=_other_thresholds(thresholds, learned),
        lengths=trace.lengths,
        num_cut=trace.num_cut,
        is_right_to_left=is_right_to_left([c.text for c in columns if not c.is_special]),
        checkpoint=trace.checkpoint,
        asks=trace.answer is not None,
        is_answered=trace.answer is not None and trace.answer.is_answered,
        score_kind=score_kind,
    )


def telling_layer(lengths: Sequence[int]) -> int:
    """The first layer after which at most half of the tokens are live; the last if there is none.

    Args:
        lengths: Live tokens at the input and after each layer.
    """
    halved = (layer for layer, live in enumerate(lengths) if 2 * live <= lengths[0])
    return next(halved, len(lengths) - 1)


def last_attended(view: TokenView, index: int) -> int:
    """The last layer, from 0, in whose attention the column takes part."""
    if view.score_kind == "probability":
        # It leaves before a layer, and takes no part in that one's.
        return max(0, min(view.columns[index].survived, view.num_layers) - 1)
    return max(i for i, row in enumerate(view.scores) if i == 0 or row[index] is not None)


def level(score: float, threshold: float | None, kind: ScoreKind = "attention") -> int:
    """Brightness of a retained cell: 0 at the threshold, `NUM_LEVELS` - 1 at 32 times or more.

    Without a threshold, or with one of 0, the score is compared with uniform attention instead. A
    probability is brightest at 1.
    """
    if kind == "probability" and threshold is not None:
        share = (score - threshold) / (1 - threshold)
        return min(NUM_LEVELS - 1, max(0, int(share * NUM_LEVELS)))
    reference = threshold or 1.0
    decades = math.log10(max(score / reference, 1e-9)) / LEVEL_SPAN
    return min(NUM_LEVELS - 1, max(0, int(decades * NUM_LEVELS)))


def _groups(words: Sequence[int | None], merge_words: bool, show_special: bool) -> list[list[int]]:
    groups: list[list[int]] = []
    for position, word in enumerate(words):
        if word is None and not show_special:
            continue
        if merge_words and groups and _continues(words, position):
            groups[-1].append(position)
        else:
            groups.append([position])
    return groups


def _continues(words: Sequence[int | None], position: int) -> bool:
    return position > 0 and words[position] is not None and words[position] == words[position - 1]


def _answer_and_context(answer: Answer | None, words: Sequence[int | None]) -> tuple[range, range]:
    """Positions of the best answer and of the context; the first separator ends the question."""
    if answer is None:
        return range(0), range(0)
    separator = next((i for i, word in enumerate(words) if word is None and i > 0), len(words))
    context = range(separator + 1, len(words))
    if answer.best is None or answer.best.tokens is None:
        return range(0), context
    first, last = answer.best.tokens
    return range(first, last + 1), context


def _layer_scores(
    scores: Sequence[float | None], groups: Sequence[Sequence[int]]
) -> tuple[float | None, ...]:
    live = ([s for i in group if (s := scores[i]) is not None] for group in groups)
    return tuple(max(column, default=None) for column in live)


def _grid(
    columns: Sequence[Column],
    scores: Sequence[Sequence[float | None]],
    layers: Sequence[LayerTrace],
    kind: ScoreKind,
) -> tuple[str, ...]:
    return tuple(
        "".join(_cell(c.survived, i, s, layer, kind) for c, s in zip(columns, row, strict=True))
        for i, (row, layer) in enumerate(zip(scores, layers, strict=True))
    )


def _cell(
    survived: int, layer_index: int, score: float | None, layer: LayerTrace, kind: ScoreKind
) -> str:
    if score is None:
        return PASSED if survived > layer_index else GONE
    if survived <= layer_index:
        return LEFT
    if layer.threshold is not None and score <= layer.threshold:
        return SPARED
    return str(level(score, layer.threshold, kind))


def _forced(group: Sequence[int], keep: Collection[int], drop: Collection[int]) -> str | None:
    if any(position in keep for position in group):
        return "keep"
    return "drop" if any(position in drop for position in group) else None


def _other_thresholds(
    thresholds: tuple[float | None, ...], learned: Trace | None
) -> tuple[float | None, ...] | None:
    if learned is None:
        return None
    original = tuple(layer.threshold for layer in learned.layers)
    return original if original != thresholds else None
