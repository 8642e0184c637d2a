"""What an exported picture says of its input: the text, and how the pass was set."""

from __future__ import annotations

import textwrap

from app.ltp_ui.shared.wording import number, percent
from app.ltp_ui.token_view.texts import token_texts, visible
from ltp_core.records import Trace

WIDTH = 110
"""Characters of a line."""

MOST_LINES = 3
"""That a long text takes; the JSON has all of it."""


def about(trace: Trace) -> list[str]:
    """The text in quotation marks and the setting, in short lines."""
    return quoted_texts(trace) + textwrap.wrap(setting(trace), WIDTH)


def quoted_texts(trace: Trace) -> list[str]:
    """The one or two texts in quotation marks, in short lines."""
    quoted = " / ".join(f"“{visible(' '.join(text.split()))}”" for text in trace.texts)
    return textwrap.wrap(quoted, WIDTH, max_lines=MOST_LINES, placeholder=" …”")


def setting(trace: Trace) -> str:
    """How the pass departs from what was learned, in a sentence; empty if it does not."""
    asked, parts = trace.what_if, []
    if asked.budget is not None:
        parts.append(f"budget of {percent(asked.budget, 0)} of the FLOPs")
    elif asked.max_loss is not None:
        parts.append(f"at most {percent(asked.max_loss)} lost")
    elif asked.scale != 1:
        parts.append(f"multiplier {number(asked.scale)}")
    if asked.thresholds is not None:
        parts.append("thresholds edited to " + ", ".join(map(number, asked.thresholds)))
    texts = token_texts(trace)
    for how, positions in (("kept", asked.keep), ("dropped", asked.drop)):
        if positions:
            names = ", ".join(f"‘{texts[i]}’ ({i})" for i in positions)
            parts.append(f"{how} by hand: {names}")
    return f"Setting: {'; '.join(parts)}." if parts else ""
