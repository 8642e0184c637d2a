"""One answer of a checkpoint and how it is shown."""

from __future__ import annotations

from dataclasses import dataclass

from app.ltp_ui.shared import live
from app.ltp_ui.shared.live import Question
from app.ltp_ui.token_view.view import TokenView, build_view, telling_layer
from ltp_core.records import Trace, WhatIf


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One answer and how it is shown.

    Attributes:
        question: What was asked.
        what_if: How the pass departs from what was learned.
        trace: The answer; what is said unpruned comes later.
        learned: The answer as learned; None where nothing departs.
        view: The answer in columns.
    """

    question: Question
    what_if: WhatIf
    trace: Trace
    learned: Trace | None
    view: TokenView

    @property
    def telling_layer(self) -> int:
        """Where the token view opens; a multiplier that is moved does not move it."""
        return telling_layer((self.learned or self.trace).lengths)


def picture(question: Question, what_if: WhatIf, *, words: bool, special: bool) -> Picture:
    """Runs the network and lays the answer out, with ghosts of the learned thresholds if need be."""
    trace = live.trace(question, what_if)
    learned = None if what_if.is_neutral else live.learned_trace(question)
    view = build_view(
        trace,
        trace.words,
        learned=learned,
        merge_words=words,
        show_special=special,
        keep=what_if.keep,
        drop=what_if.drop,
        protected=trace.protected,
        score_kind=live.load(question.checkpoint).method.score_kind,
    )
    return Picture(question=question, what_if=what_if, trace=trace, learned=learned, view=view)
