"""Sentences about two traces of one text. Layers are counted from 1, fractions become percent."""

from __future__ import annotations

from collections.abc import Sequence

from app.ltp_ui.compare.comparison import Comparison, Side, State
from app.ltp_ui.shared.wording import counted, number, percent, points
from app.ltp_ui.token_view.texts import token_texts
from ltp_core.records import Prediction, Trace

NAMED_TOKENS = 8
SAME = (
    "A and B are the same checkpoint with the same setting, so nothing can differ: choose another "
    "checkpoint or move a multiplier."
)


def verdict(comparison: Comparison, words: Sequence[int | None]) -> str:
    """Where the two differ first, and where most.

    Args:
        comparison: The two traces.
        words: Word index of each token; pieces of a word that share a fate are named together.
    """
    first = comparison.first_difference
    if first is None:
        return _agreement(comparison)
    parts = [_first(comparison, first, words)]
    widest = comparison.widest_difference
    if widest is not None and widest != first:
        parts.append(_widest(comparison, widest))
    parts.append(_ends(comparison))
    return " ".join(part for part in parts if part)


def _agreement(comparison: Comparison) -> str:
    same = "A and B keep the same tokens after every layer"
    if comparison.a.end != comparison.b.end:
        same += f" that both have. {_ends(comparison)}"
        return same
    num_left = comparison.tallies[-1].both
    return f"{same}: {num_left} of {counted(comparison.num_tokens, 'token')} at the end."


def _first(comparison: Comparison, layer: int, words: Sequence[int | None]) -> str:
    tally = comparison.tallies[layer]
    clauses = []
    if tally.only_b:
        clauses.append(_dropped(comparison, layer, "A", "B", words))
    if tally.only_a:
        clauses.append(_dropped(comparison, layer, "B", "A", words))
    before = "" if layer == 1 else " Until then both keep the same tokens."
    return f"After layer {layer}, {'; '.join(clauses)}.{before}"


def _dropped(
    comparison: Comparison, layer: int, who: str, other: str, words: Sequence[int | None]
) -> str:
    wanted: State = "only-a" if other == "A" else "only-b"
    positions = [i for i, state in enumerate(comparison.states(layer)) if state == wanted]
    names = token_names(comparison.a.trace, positions, words)
    return (
        f"{who} has dropped {counted(len(positions), 'token')} that {other} still reads: "
        f"{listed(names)}"
    )


def _widest(comparison: Comparison, layer: int) -> str:
    tally = comparison.tallies[layer]
    kept = comparison.num_tokens - tally.neither
    return (
        f"They agree least after layer {layer}: of the {counted(kept, 'token')} that at least one of "
        f"them keeps there, both keep {tally.both} (Jaccard index {number(tally.jaccard or 0.0)})."
    )


def _ends(comparison: Comparison) -> str:
    """What is to be known where the two have different numbers of layers."""
    a, b = comparison.a, comparison.b
    if a.end == b.end:
        return ""
    short, long = (a, b) if a.end < b.end else (b, a)
    return (
        f"{short.letter} ends after layer {short.end} and {long.letter} after layer {long.end}, so "
        f"only the first {short.end} layers can be compared."
    )


def row_note(comparison: Comparison, layer: int) -> str:
    """What the tally of a layer must say besides its counts."""
    ended = [side for side in (comparison.a, comparison.b) if layer > side.end]
    return "".join(f"{side.letter} has ended after layer {side.end}." for side in ended)


def token_names(trace: Trace, positions: Sequence[int], words: Sequence[int | None]) -> list[str]:
    """Texts of the tokens; neighbouring pieces of one word are put together."""
    texts = token_texts(trace)
    names: list[str] = []
    before: int | None = None
    for position in positions:
        follows = before == position - 1 and words[position] is not None
        if follows and words[position] == words[position - 1]:
            names[-1] += texts[position]
        else:
            names.append(texts[position])
        before = position
    return names


def listed(names: Sequence[str]) -> str:
    """The first names in quotation marks, and how many more there are."""
    shown = ", ".join(f"‘{name}’" for name in names[:NAMED_TOKENS])
    rest = len(names) - NAMED_TOKENS
    return f"{shown} and {rest} more" if rest > 0 else shown


def why_incomparable(a: Trace, b: Trace, *, same_tokenizer: bool) -> str:
    """Why the tokens of two traces cannot be put beside each other."""
    lengths = len(a.tokens), len(b.tokens)
    if (
        same_tokenizer
        and a.answer
        and b.answer
        and (a.answer.num_windows, b.answer.num_windows) != (1, 1)
    ):
        where = [f"{x.window} of {x.num_windows}" for x in (a.answer, b.answer)]
        return (
            f"A and B answer in different windows of the text: A in window {where[0]}, B in window "
            f"{where[1]}. Shorten the text until one window holds it to compare them token by token."
        )
    if same_tokenizer:
        return (
            f"A reads at most {lengths[0]:,} tokens of this text and B {lengths[1]:,}: shorten it to "
            "compare them token by token."
        )
    return (
        f"A and B have different tokenizers, which split this text into {counted(lengths[0], 'token')} "
        f"and {counted(lengths[1], 'token')}: these cannot be compared one by one. Choose two "
        "checkpoints of the same base model."
    )


def setting(scale: float, *, has_thresholds: bool) -> str:
    """A multiplier in words; empty if it changes nothing."""
    if scale == 1:
        return ""
    if scale == 0:
        return "nothing pruned"
    return f"{'thresholds' if has_thresholds else 'pruning'} × {scale:.2f}"


def prediction_of(trace: Trace) -> Prediction:
    """The trace's own answer."""
    return trace.prediction


def answer_change(a: Prediction, b: Prediction, *, same_labels: bool) -> str:
    """B's answer against A's, in A's likeliest class."""
    if not same_labels:
        return "other classes"
    if a.answer is not None or b.answer is not None:
        return "same answer" if a.label == b.label else "another answer"
    if a.probabilities is None or b.probabilities is None:
        return f"{b.logits[0] - a.logits[0]:+.2f}".replace("-", "−")
    top = max(range(len(a.probabilities)), key=a.probabilities.__getitem__)
    difference = points(b.probabilities[top] - a.probabilities[top])
    return difference if a.label == b.label else f"{difference} for {a.label}: another answer"


def tokens_line(side: Side) -> str:
    """Tokens at the input and after the last layer."""
    return f"{side.trace.lengths[0]} → {side.num_live(side.end)}"


def cost(fraction: float, gflops: float) -> str:
    """Relative FLOPs, and how many that is."""
    return f"{percent(fraction)} ({number(gflops)} G)"
