"""Files that a trace can be taken away as."""

from __future__ import annotations

from typing import Any

import pandas as pd

from app.ltp_ui.shared.palette import LIGHT
from app.ltp_ui.shared.wording import SAME_WEIGHTS, WITH_PRUNING, counted, percent
from app.ltp_ui.token_view import figure, markup
from app.ltp_ui.token_view.about import about
from app.ltp_ui.token_view.view import TokenView
from ltp_core.records import Prediction, Trace

PNG_SCALE = 2.0


def trace_frame(trace: Trace) -> pd.DataFrame:
    """One row a layer and token: layers from 1, positions from 0, score empty where not live.

    Text and setting stand in the first row.
    """
    return pd.DataFrame(
        [
            {
                "layer": number,
                "position": position,
                "token": token,
                "surface": trace.surfaces[position] if trace.surfaces else None,
                "token_id": trace.token_ids[position],
                "score": layer.score[position],
                "threshold": layer.threshold,
                "retained": layer.retained[position],
                "forced": _forced(trace, position),
                **(_asked(trace) if number == 1 and position == 0 else {}),
            }
            for number, layer in enumerate(trace.layers, start=1)
            for position, token in enumerate(trace.tokens)
        ]
    )


def _forced(trace: Trace, position: int) -> str | None:
    return next(
        (how for how in ("drop", "keep") if position in getattr(trace.what_if, how)),
        None,
    )


def _asked(trace: Trace) -> dict[str, Any]:
    """What was read and how the pass was set; in the first row alone, since texts may be long."""
    asked = trace.what_if
    edited = None if asked.thresholds is None else ",".join(map(repr, asked.thresholds))
    return {
        "checkpoint": trace.checkpoint,
        **{f"text_{number}": text for number, text in enumerate(trace.texts, start=1)},
        "multiplier": asked.scale,
        "budget": asked.budget,
        "edited_thresholds": edited,
    }


def csv(frame: pd.DataFrame) -> bytes:
    """A table as CSV in UTF-8, without the index; every export of a table is made here.

    A text or a heading that a spreadsheet would take for a formula, as the token `=` or `@`, gets a
    leading apostrophe.
    """
    safe = frame.copy()
    for name in frame.select_dtypes(exclude=["number", "bool"]):
        safe[name] = frame[name].map(_no_formula)
    return bytes(safe.rename(columns=_no_formula).to_csv(index=False, lineterminator="\n").encode())


def _no_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def trace_json(trace: Trace) -> bytes:
    """The trace as `ltp_core.records.Trace.from_json` reads it."""
    return trace.to_json().encode()


def view_html(view: TokenView, trace: Trace) -> bytes:
    """The token view as a page of its own, without script."""
    return markup.static_html(view, f"Tokens pruned by {trace.checkpoint}", facts(trace)).encode()


def view_svg(view: TokenView, trace: Trace) -> bytes:
    """The token × layer grid as a figure, with the text and the setting above it."""
    return figure.grid_figure(view, LIGHT, about=about(trace)).encode()


def view_png(view: TokenView, trace: Trace) -> bytes:
    """The same figure in pixels, twice the size."""
    return png(view_svg(view, trace).decode())


def png(svg: str) -> bytes:
    """A figure in pixels, twice the size."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=PNG_SCALE))


def facts(trace: Trace) -> list[str]:
    """What an exported page says above the picture."""
    lines = [*about(trace), f"{WITH_PRUNING}: {answer(trace.prediction)}."]
    if trace.unpruned:
        lines.append(f"{SAME_WEIGHTS}: {answer(trace.unpruned)}.")
    paper, executed = trace.relative_flops["paper"], trace.relative_flops["executed"]
    lines.append(
        f"{counted(trace.lengths[0], 'token')} at the input, {trace.lengths[-1]} at the end; "
        f"{percent(paper)} of the unpruned FLOPs in the paper’s accounting, {percent(executed)} as "
        "executed."
    )
    if trace.num_cut:
        lines.append(f"The input was too long: {counted(trace.num_cut, 'token')} were cut off.")
    return lines


def answer(prediction: Prediction) -> str:
    """The likeliest class with its probability, the value of a regression, or the answer."""
    if prediction.answer is not None:
        return "no answer" if prediction.label is None else f"“{prediction.label}”"
    if prediction.probabilities is None:
        return ", ".join(f"{value:.2f}" for value in prediction.logits)
    return f"{prediction.label} {percent(max(prediction.probabilities))}"
