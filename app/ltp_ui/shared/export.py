"""Files that a trace can be taken away as."""

from __future__ import annotations

import pandas as pd

from app.ltp_ui.shared.palette import LIGHT
from app.ltp_ui.shared.wording import SAME_WEIGHTS, WITH_PRUNING, counted, percent
from app.ltp_ui.token_view import figure, markup
from app.ltp_ui.token_view.view import TokenView
from ltp_core.records import Prediction, Trace

PNG_SCALE = 2.0


def trace_frame(trace: Trace) -> pd.DataFrame:
    """One row a layer and token: layers from 1, positions from 0, score empty where not live."""
    return pd.DataFrame(
        [
            {
                "layer": number,
                "position": position,
                "token": token,
                "token_id": trace.token_ids[position],
                "score": layer.score[position],
                "threshold": layer.threshold,
                "retained": layer.retained[position],
            }
            for number, layer in enumerate(trace.layers, start=1)
            for position, token in enumerate(trace.tokens)
        ]
    )


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


def view_svg(view: TokenView) -> bytes:
    """The token × layer grid as a figure."""
    return figure.grid_figure(view, LIGHT).encode()


def view_png(view: TokenView) -> bytes:
    """The same figure in pixels, twice the size."""
    return png(figure.grid_figure(view, LIGHT))


def png(svg: str) -> bytes:
    """A figure in pixels, twice the size."""
    import vl_convert

    return bytes(vl_convert.svg_to_png(svg, scale=PNG_SCALE))


def facts(trace: Trace) -> list[str]:
    """What an exported page says above the picture."""
    lines = [f"{WITH_PRUNING}: {answer(trace.prediction)}."]
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
