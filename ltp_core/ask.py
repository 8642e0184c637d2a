"""One question about one text: its windows, and the answer with how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from ltp_core.inference import model_inputs
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import Answer, Candidate, QuestionSettings, UserError
from ltp_core.runners.base import Inputs
from ltp_core.tasks.answers import Span, find_answers
from ltp_core.tasks.windows import Windows, encode_windows

if TYPE_CHECKING:
    from ltp_core.checkpoint import PrunedModel
    from ltp_core.pruning.base import PruningMethod
    from ltp_core.runners.base import RunOutput

NUM_CANDIDATES = 5
MAX_WINDOWS = 64
"""Of one context; they are read together."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A question with its context as the network sees them.

    Attributes:
        context: The text that holds the answer, or does not.
        windows: Its windows.
        inputs: All windows as one padded batch.
        shown: The window that a trace shows: the one in which the model answers if nothing is
            pruned, so that pruning does not change what is looked at.
        unpruned: Logits of every window with nothing pruned, where finding `shown` took them.
    """

    context: str
    windows: Windows
    inputs: Inputs
    shown: int
    unpruned: tuple[np.ndarray, ...] | None = None

    def inputs_of(self, chosen: Sequence[int]) -> Inputs:
        """Some of the windows, padded to the longest of them."""
        index = torch.tensor(chosen, device=self.inputs.input_ids.device)
        width = int(self.windows.encoded.length[list(chosen)].max())
        whole = (
            self.inputs.input_ids,
            self.inputs.token_type_ids,
            self.inputs.attention_mask,
            self.inputs.protected,
            self.inputs.special,
        )
        return Inputs(*(values.index_select(0, index)[:, :width] for values in whole))


def ask(model: PrunedModel, question: str, context: str, window: int | None = None) -> Asked:
    """Divides a context into the checkpoint's windows.

    Args:
        model: Loaded checkpoint.
        question: The question.
        context: The text that holds the answer, or does not.
        window: Window to show, from 1, where it is known; else all windows are read to find it.

    Raises:
        UserError: Question or context are empty, the question leaves no room for the context, the
            context is too long, or there is no such window.
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
    if not any(number == 0 for number in windows.encodings[0].sequence_ids):
        raise UserError("There is no token in the question: ask it in words.")
    _check_number(len(windows), window, model.max_length)
    everything = np.arange(len(windows))
    inputs = model_inputs(model, windows.encoded, everything)
    asked = Asked(context=context, windows=windows, inputs=inputs, shown=(window or 1) - 1)
    if len(windows) == 1 or window is not None:
        return asked
    logits = _logits(model, asked, everything.tolist(), Unpruned.control_of(model.method))
    found = find_answers(windows, everything.tolist(), logits)
    shown = found.spans[0].window if found.spans else 0
    return replace(asked, shown=shown, unpruned=tuple(logits))


def _check_number(num_windows: int, window: int | None, max_length: int) -> None:
    if num_windows > MAX_WINDOWS:
        raise UserError(
            f"Question and context make {num_windows} windows of {max_length} tokens, and at most "
            f"{MAX_WINDOWS} are read: shorten them."
        )
    if window is not None and not 1 <= window <= num_windows:
        raise UserError(f"There is no window {window}: the context has 1 to {num_windows}.")


def answer(model: PrunedModel, asked: Asked, shown: RunOutput, elsewhere: PruningMethod) -> Answer:
    """The answer from all windows.

    Args:
        model: Loaded checkpoint.
        asked: What `ask` returned.
        shown: What the pass over the shown window gave.
        elsewhere: What prunes in the other windows.
    """
    settings = model.questions or QuestionSettings()
    everything = range(len(asked.windows))
    if asked.unpruned is not None and isinstance(elsewhere, Unpruned):
        logits = list(asked.unpruned)
    else:
        others = [i for i in everything if i != asked.shown]
        logits = _logits(model, asked, others, elsewhere) if others else []
        logits.insert(asked.shown, np.empty((0, 2)))
    logits[asked.shown] = shown.logits[0].double().cpu().numpy()
    found = find_answers(asked.windows, everything, logits, NUM_CANDIDATES)
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


def _logits(
    model: PrunedModel, asked: Asked, chosen: Sequence[int], method: PruningMethod
) -> list[np.ndarray]:
    """Logits of some windows."""
    return list(model.packed(asked.inputs_of(chosen), method).logits.double().cpu().numpy())


def _tokens(asked: Asked, span: Span) -> tuple[int, int] | None:
    """First and last position in the shown window; None where it does not hold the whole span."""
    offsets = asked.windows.offsets(asked.shown)
    begin = int(asked.windows.context_begin[asked.shown])
    first = np.flatnonzero(offsets[:, 0] == span.begin)
    last = np.flatnonzero(offsets[:, 1] == span.end)
    if not len(first) or not len(last):
        return None
    return begin + int(first[0]), begin + int(last[-1])
