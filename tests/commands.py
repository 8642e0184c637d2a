"""Running the command line inside the test's process."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass

from ltp_core.cli.main import main


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What a command left behind."""

    status: int
    stdout: str
    stderr: str


class _Stream(io.StringIO):
    encoding = "utf-8"


def run(*argv: str) -> Ran:
    """Runs one command; its usage errors count as exit statuses."""
    out, err = _Stream(), _Stream()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(argv)
        except SystemExit as left:
            status = int(left.code or 0)
    return Ran(status=status, stdout=out.getvalue(), stderr=err.getvalue())
