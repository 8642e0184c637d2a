"""What a training says of itself while it runs, for a program that watches it. Torch-free."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

Report = Callable[[str, dict[str, Any]], None]
"""Takes the name of an event and its fields."""

LEAST_S = 1.0
"""Between two events about steps, at the beginning of a training."""
THINNING = 300
"""Later a step is told when a 300th of the time has passed since the last: three hours make 2,000."""


class Watch:
    """Passes on the events of one run, those about steps ever more seldom, so that they stay few.

    Args:
        run: Name of the run, which every event says.
        report: Takes the events; None takes none.
    """

    def __init__(self, run: str, report: Report | None = None) -> None:
        self.run = run
        self._report = report
        self._began = self._last = time.monotonic()

    def tell(self, event: str, **fields: Any) -> None:
        """Passes an event on."""
        if self._report is not None:
            self._report(event, {"run": self.run, "at_s": time.monotonic() - self._began, **fields})

    def is_due(self) -> bool:
        """Whether a step should be told now; if so, the next one is later."""
        now = time.monotonic()
        wait = max(LEAST_S, (now - self._began) / THINNING)
        if self._report is None or now - self._last < wait:
            return False
        self._last = now
        return True
