"""One question about one text: its windows, and the answer with how sure it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ltp_core.data.batching import collate
from ltp_core.data.windows import Windows, encode_windows
from ltp_core.passes import model_inputs
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.questions.spans import Span, find_answers
from ltp_core.records import Answer, Candidate, QuestionSettings, UserError

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod
    from ltp_core.runners.base import Inputs, RunOutput

NUM_CANDIDATES = 5


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question with its context as the network sees them.

    Attributes:
        context: The text that holds the answer, or does not.
        windows: Its windows.
        inputs: All windows as one padded batch.
        shown: The window that a trace shows: the one in which the model answers if nothing is
            pruned, so that pruning does not change what is looked at.
    """

    context: str
    windows: Windows
    inputs: Inputs
    shown: int


def ask(model: PrunedModel, question: str, context: str) -> Asked:
    """Divides a context into the checkpoint's windows.

    Raises:
        UserError: Question or context are empty, or the question leaves no room for the context.
    """
    if not question.strip():
        raise UserError("There is no question; type one.")
    if not context.strip():
        raise UserError("There is no context: give the text in which the answer is to be found.")
    settings = model.questions or QuestionSettings()
    windows = encode_windows(
        model.tokenizer, [(question, context)], model.max_length, settings.stride
    )
    if windows.context_begin[0] == windows.context_end[0]:
        raise UserError("There is no token in the context: give a text with words.")
    everything = np.arange(len(windows))
    batch = collate(windows.encoded, everything, None, model.encoder.config.pad_id)
    inputs = model_inputs(model, batch).to(next(model.encoder.parameters()).device)
    asked = Asked(context=context, windows=windows, inputs=inputs, shown=0)
    if len(windows) == 1:
        return asked
    logits = _logits(model, asked, Unpruned.control_of(model.method))
    found = find_answers(windows, everything.tolist(), logits)
    shown = found.spans[0].window if found.spans else 0
    return Asked(context=context, windows=windows, inputs=inputs, shown=shown)


def answer(model: PrunedModel, asked: Asked, shown: RunOutput, elsewhere: PruningMethod) -> Answer:
    """The answer from all windows.

    Args:
        model: Loaded checkpoint.
        asked: What `ask` returned.
        shown: What the pass over the shown window gave.
        elsewhere: What prunes in the other windows.
    """
    settings = model.questions or QuestionSettings()
    logits = _logits(model, asked, elsewhere) if len(asked.windows) > 1 else [np.empty((0, 2))]
    logits[asked.shown] = shown.logits[0].double().cpu().numpy()
    found = find_answers(asked.windows, range(len(asked.windows)), logits, NUM_CANDIDATES)
    candidates = tuple(
        Candidate(
            text=asked.context[span.begin : span.end],
            begin=span.begin,
            end=span.end,
            score=span.score,
            tokens=_tokens(asked, span),
        )
        for span in found.spans
    )
    return Answer(
        candidates=candidates,
        null_score=found.null_score,
        null_threshold=settings.null_threshold,
        window=asked.shown + 1,
        num_windows=len(asked.windows),
    )


def _logits(model: PrunedModel, asked: Asked, method: PruningMethod) -> list[np.ndarray]:
    """Logits of every window."""
    return list(model.packed(asked.inputs, method).logits.double().cpu().numpy())


def _tokens(asked: Asked, span: Span) -> tuple[int, int] | None:
    """First and last position in the shown window; None where it does not hold the whole span."""
    offsets = asked.windows.offsets(asked.shown)
    begin = int(asked.windows.context_begin[asked.shown])
    first = np.flatnonzero(offsets[:, 0] == span.begin)
    last = np.flatnonzero(offsets[:, 1] == span.end)
    if not len(first) or not len(last):
        return None
    return begin + int(first[0]), begin + int(last[-1])
