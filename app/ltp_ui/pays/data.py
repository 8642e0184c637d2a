"""The decision as the page asks for it, kept until something in the stores changes."""

from __future__ import annotations

from dataclasses import dataclass, field

import streamlit as st

from app.ltp_ui.shared import stamps
from app.ltp_ui.shared.stored import run_table
from app.ltp_ui.shared.strength import Strength
from ltp_core import store
from ltp_core.analysis.pays import decision
from ltp_core.analysis.pays.cost import Lengths
from ltp_core.analysis.pays.decision import Decision
from ltp_core.bench.results import DOCUMENT

OWN_ROWS = "its own evaluation rows"


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What the page is about.

    Attributes:
        run: Name of the checkpoint's run.
        strength: How much it prunes.
        lengths: Lengths of the texts; None for the rows that it was evaluated on.
        key: Changes with these lengths.
        price: Of an hour of the machine, the user's own number; None where none was given.
    """

    run: str
    strength: Strength = field(default_factory=Strength)
    lengths: Lengths | None = None
    key: str = ""
    price: float | None = None


def decide(asked: Asked, *, bench: str | None = None, batch_size: int | None = None) -> Decision:
    """What the stores say.

    Raises:
        UserError: The run prunes nothing or was not evaluated, or there is no such benchmark.
    """
    changed = store.runs_stamp(), stamps.of_files(f"benches/*/{DOCUMENT}")
    return _decide(asked.run, asked.strength, asked.key, bench, batch_size, changed, asked.lengths)


@st.cache_data(max_entries=256, show_spinner=False)
def _decide(
    run: str,
    strength: Strength,
    key: str,
    bench: str | None,
    batch_size: int | None,
    changed: tuple[str, stamps.Stamp],
    _lengths: Lengths | None,
) -> Decision:
    del key, changed
    return decision.decide(
        run,
        _lengths,
        bench=bench,
        batch_size=batch_size,
        budget=strength.budget,
        max_loss=strength.max_loss,
        runs=run_table(),
    )
