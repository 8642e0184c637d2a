"""The decision in one sentence."""

from __future__ import annotations

import math

from ltp_core.analysis.intervals import Estimate
from ltp_core.analysis.pays.decision import Decision
from ltp_core.analysis.pays.timing import ONNX
from ltp_core.analysis.runs import REPORTED_ON
from ltp_core.bench.noise import TOO_NOISY
from ltp_core.bench.variants import METHOD


def sentence(decision: Decision, method_title: str) -> str:
    """The answer, with what is not known left out.

    Args:
        decision: What was found.
        method_title: Name of the method for people.
    """
    spared = 1 - decision.cost.relative_flops["paper"]
    parts = [f"On the lengths of {decision.lengths}, {method_title} {_spares(spared, 'FLOPs')}"]
    timing = decision.timing
    if timing is None:
        parts[0] += "; what that is worth in time was not measured"
    else:
        where = "this machine" if timing.is_here else timing.machine
        own = timing.speeds[METHOD]
        place = f"at batch {timing.batch_size} on {where}"
        if own.saved is not None:
            parts[0] += f" and {_spares(own.saved.value, 'time', verb=False)} {place}"
        else:
            why = TOO_NOISY if own.is_noisy else "not known"
            parts[0] += f"; how much of the time {place} is {why}"
        onnx = timing.speeds.get(ONNX)
        if onnx is not None and onnx.saved is not None:
            parts[0] += f" ({_percent(onnx.saved.value)} in ONNX)"
    change = decision.changes.get(REPORTED_ON)
    if change is not None and change.difference is not None:
        parts.append(f"{change.metric.replace('_', ' ')} changes by {points(change.difference)}")
    if decision.shallow is not None:
        control = decision.shallow
        other = control.changes.get(REPORTED_ON)
        if other is not None and other.difference is not None:
            parts.append(
                f"a model of {control.layers} of {control.num_layers} layers, the nearest in cost "
                f"({_percent(control.relative_flops)} of the FLOPs), would be at "
                f"{points(other.difference)}"
            )
    return "; ".join(parts) + "."


def _spares(share: float, what: str, *, verb: bool = True) -> str:
    """`saves 54 % of the FLOPs`, or what it takes more."""
    if math.isnan(share):
        return f"saves an unknown share of the {what}"
    if share < 0:
        return f"takes {_percent(-share)} more {what}"
    return f"{'saves ' if verb else ''}{_percent(share)} of the {what}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %".replace("-", "−")


def points(gap: Estimate) -> str:
    """A difference of fractions in points, with its interval where it has one."""
    value, low, high = (f"{100 * x:+.1f}".replace("-", "−") for x in (gap.value, gap.low, gap.high))
    return f"{value} points" + ("" if math.isnan(gap.low) else f" [{low}, {high}]")
