"""What the process of a background job prints, as its events and as the reason why it failed."""

from __future__ import annotations

import json
from typing import Any


def parsed(line: str) -> dict[str, Any] | None:
    """An event, the JSON object on a line; None where it is something else."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def reason(stderr: str) -> str:
    """The sentence that the command ended with; where there is none, it was killed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    last = lines[-1] if lines else ""
    if last.startswith("ltp: "):
        return last.removeprefix("ltp: ")
    hint = f" It said last: {last[:300]}" if last else ""
    return f"The process ended before its work was done; it was killed, or ran out of memory.{hint}"
