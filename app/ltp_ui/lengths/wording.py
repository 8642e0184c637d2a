"""Sentences of the length page: plain words with the actual numbers, Markdown-safe."""

from __future__ import annotations

from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.labels import task_label
from app.ltp_ui.shared.wording import counted, percent
from ltp_core.lengths.shift import (
    HIGH,
    JENSEN_SHANNON,
    KL,
    RESAMPLES,
    REVERSE_KL,
    WASSERSTEIN,
    LengthShift,
    LengthSummary,
    Side,
)

TITLES = {
    KL: "KL(train ‖ evaluation)",
    REVERSE_KL: "KL(evaluation ‖ train)",
    JENSEN_SHANNON: "Jensen–Shannon divergence",
    WASSERSTEIN: "Wasserstein distance",
}
UNITS = {KL: "nats", REVERSE_KL: "nats", JENSEN_SHANNON: "nats", WASSERSTEIN: "tokens"}
MUCH_LEFT_OUT = 0.05
"""Share of a set in bins that the other one lacks, above which KL says little about the sets."""

BEYOND, WITHIN = "beyond chance", "within chance"


def tokens(value: float) -> str:
    """A length: whole where it is whole."""
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def amount(measure: str, value: float) -> str:
    """A measured value with its unit."""
    if value == float("inf"):
        return "infinite"
    digits = 2 if measure == WASSERSTEIN else 4
    return f"{value:,.{digits}f} {UNITS[measure]}"


def quartiles(summary: LengthSummary) -> str:
    """`6 / 10 / 18`."""
    return " / ".join(map(tokens, (summary.q1, summary.q2, summary.q3)))


def is_beyond_chance(shift: LengthShift, measure: str) -> bool:
    """Whether chance alone stays below the measured value in 19 of 20 cases."""
    assert shift.floors is not None
    return shift.measures[measure] > shift.floors[measure].high


def verdict(shift: LengthShift) -> str:
    """Whether the inputs are longer or shorter than training's, and what to expect, in one sentence."""
    medians = f"median {tokens(shift.evaluation.q2)} against {tokens(shift.train.q2)} tokens"
    if not is_beyond_chance(shift, WASSERSTEIN):
        return plain(
            f"These inputs are as long as training’s ({medians}; the difference is within chance): "
            "pruning that was tuned on training inputs fits here."
        )
    if shift.evaluation.mean > shift.train.mean:
        return plain(
            f"These inputs are longer than training’s ({medians}): a method that keeps a fixed number of "
            "tokens will prune too much here; learned thresholds follow each input."
        )
    return plain(
        f"These inputs are shorter than training’s ({medians}): a method that keeps a fixed number of "
        "tokens will prune too little here; learned thresholds follow each input."
    )


def floor_sentence(shift: LengthShift, measure: str) -> str:
    """What chance alone gives beside what was measured, and what follows from that."""
    assert shift.floors is not None
    floor, value = shift.floors[measure], shift.measures[measure]
    title = TITLES[measure]
    sentence = (
        f"If both sets came from one source, {title} would not be 0 either: "
        f"{shift.train.rows:,} and {shift.evaluation.rows:,} lengths drawn from the training lengths "
        f"differ by {amount(measure, floor.median)} in the median of {RESAMPLES} draws, and by up to "
        f"{amount(measure, floor.high)} in {percent(HIGH, 0)} of them."
    )
    return plain(f"{sentence} {_verdict(shift, measure, value)}")


def _verdict(shift: LengthShift, measure: str, value: float) -> str:
    assert shift.floors is not None
    floor = shift.floors[measure]
    measured = f"The measured {amount(measure, value)}"
    if not is_beyond_chance(shift, measure):
        return f"{measured} are no more than that: they say nothing about a shift."
    if floor.high > 0 and value != float("inf"):
        return f"{measured} are {value / floor.high:,.1f} times that upper bound: lengths do shift."
    return f"{measured} are beyond that: lengths do shift."


def tail_sentence(shift: LengthShift) -> str:
    """How many evaluation inputs are longer than nearly all training inputs."""
    longer = round(shift.share_longer_than_p99 * shift.evaluation.rows)
    return plain(
        f"{percent(shift.share_longer_than_p99)} of the evaluation inputs ({longer:,} of "
        f"{shift.evaluation.rows:,}) are longer than {tokens(shift.train.p99)} tokens, the 99th "
        "percentile of training. Without a shift it would be about 1\u00a0%."
    )


def rule_sentence(shift: LengthShift) -> str:
    """Bins and smoothing behind the divergences."""
    rule = shift.rule
    width = (shift.high - shift.low) / shift.num_bins
    bins = (
        f"{shift.num_bins:,} equal bins from {tokens(shift.low)} to {tokens(shift.high)} tokens "
        f"({width:.3g} tokens each)"
        if rule.bins is not None
        else f"{shift.num_bins:,} bins of {counted(round(width), 'token')}"
    )
    if rule.epsilon is None:
        smoothing = (
            "both sets are renormalised on the bins where both have inputs, which leaves out "
            f"{percent(shift.train_left_out, 2)} of training and "
            f"{percent(shift.evaluation_left_out, 2)} of evaluation"
        )
    else:
        smoothing = f"{rule.epsilon:g} is added to the probability of every bin"
    return plain(f"{bins}; {smoothing}. Jensen–Shannon needs no smoothing, Wasserstein no bins.")


def left_out_sentence(shift: LengthShift) -> str:
    """A warning where KL sees only parts of the sets; empty where it sees nearly all."""
    parts = {"training": shift.train_left_out, "evaluation": shift.evaluation_left_out}
    much = {name: share for name, share in parts.items() if share > MUCH_LEFT_OUT}
    if shift.rule.epsilon is not None or not much:
        return ""
    shares = " and ".join(f"{percent(share)} of {name}" for name, share in much.items())
    return plain(
        f"KL leaves out {shares}, in bins that the other set lacks, so it compares only parts. Take "
        "fewer bins, add a little to every bin, or read Jensen–Shannon and Wasserstein instead."
    )


def side_title(side: Side) -> str:
    """A task by its name and the split; own data as they are called."""
    if side.counts.is_task:
        return f"{task_label(side.counts.name)} · {side.split}"
    return side.name


def side_sentence(role: str, side: Side) -> str:
    """Where a set comes from, and whether it is the whole published split."""
    lengths, columns = side.lengths, ", ".join(side.counts.columns)
    rows = counted(lengths.counts.rows, "input")
    if lengths.is_published:
        rows += ", the whole published split"
    elif lengths.published_rows is not None:
        rows += f", not the published split of {lengths.published_rows:,}"
    parts = [
        f"{role}: {side_title(side)}, {rows}",
        f"columns {columns}" if columns else "",
        lengths.source,
    ]
    if lengths.left_out:
        parts.append(f"{counted(lengths.left_out, 'row')} without a text left out")
    return plain("; ".join(filter(None, parts)) + f"; counted {side.counts.created_at[:10]}.")


def hidden_sentence(hidden: tuple[int, int], limit: int) -> str:
    """What the picture leaves out at its right edge; empty where it is nothing."""
    if not any(hidden):
        return ""
    return plain(
        f"Not drawn: {hidden[0]:,} training and {hidden[1]:,} evaluation inputs beyond "
        f"{limit:,} tokens; all figures include them."
    )


HOW = """
- **Length**: tokens of an input as the tokenizer makes them, special tokens included, before anything is cut off.
- **Quartiles, 99th percentile**: linear interpolation between the nearest two lengths.
- **KL(p ‖ q)** = Σ p ln(p / q) over bins, in nats (divide by 0.693 for bits). It is not symmetric, and it changes with the bins
  and with what is done about bins that one side lacks, so all of that is stated and can be changed above. The paper states
  neither for its Table 2; the default here comes nearest to its figures.
- **Jensen–Shannon**: the mean KL of both sides from their average; 0 to 0.693 nats, symmetric.
- **Wasserstein**: by how many tokens the average input would have to change to turn one set into the other.
- **By chance**: two sets of the true sizes drawn from the training lengths, compared in the same bins, 500 times.
"""
