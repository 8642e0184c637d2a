"""Progress of a long command for a program that watches it: `--events` prints JSON lines.

Each line is an object whose `event` says what it is. The last line of a command that succeeds is
`{"event": "end", "document": …}` with the document of `--json`; the command line prints it.
"""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Callable
from typing import Any

END = "end"

Report = Callable[[str, dict[str, Any]], None]
"""Takes the name of an event and its fields."""


def reporter(arguments: Namespace) -> Report:
    """Prints events if the command was called with `--events`, else takes them silently."""
    return _print if getattr(arguments, "events", False) else _ignore


def line(event: str, fields: dict[str, Any]) -> str:
    """One event as a line of JSON without its line break; what is not a finite number is null."""
    from ltp_core.files import json_text

    return json.dumps(json.loads(json_text({"event": event, **fields})), separators=(",", ":"))


def _print(event: str, fields: dict[str, Any]) -> None:
    # While a command runs, `sys.stdout` leads to stderr: libraries print what is no event.
    print(line(event, fields), file=sys.__stdout__, flush=True)


def _ignore(event: str, fields: dict[str, Any]) -> None:
    del event, fields
