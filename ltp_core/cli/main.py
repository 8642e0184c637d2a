"""The command line: parses, calls one function, prints its output.

`--json` puts one JSON document on stdout and everything else on stderr; `--events` puts progress there
as JSON lines, the document last. Exit status 0: done; 1: the work failed; 2: bad usage or input, with
one sentence that says what to do.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import FrameType

from ltp_core.cli import COMMANDS, events
from ltp_core.cli.base import Command, CommandParser, Output
from ltp_core.records import UserError
from ltp_core.threads import fit_threads

DEBUG_VARIABLE = "LTP_DEBUG"
FAILED, BAD_INPUT = 1, 2


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: Arguments; None takes those of the process.

    Returns:
        The exit status.

    Raises:
        SystemExit: The arguments cannot be parsed, or help was asked for.
    """
    arguments = build_parser().parse_args(argv)
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, _interrupt)
        fit_threads()
        # What libraries print must not mix with the document.
        with contextlib.redirect_stdout(sys.stderr):
            output: Output = arguments.command.run(arguments)
        if arguments.events:
            print(events.line(events.END, {"document": output.document}), flush=True)
        else:
            _write(output, as_json=arguments.json)
    except UserError as error:
        return _fail(str(error), BAD_INPUT)
    except KeyboardInterrupt as error:
        signal_number = error.args[0] if error.args else signal.SIGINT
        message = "Interrupted: the same command takes up what was saved."
        return _fail(message, 128 + signal_number)  # the status that a shell gives
    except BrokenPipeError:
        return _leave_pipe()
    except Exception as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        return _fail(_reason(error), FAILED)
    return output.status


def _interrupt(signal_number: int, frame: FrameType | None) -> None:
    """A request to end takes the way of Ctrl-C, so that locks are released and the reader is told."""
    raise KeyboardInterrupt(signal_number)


def build_parser() -> argparse.ArgumentParser:
    """The parser with every command."""
    parser = argparse.ArgumentParser(
        prog=_program(),
        description="Token pruning of transformer encoders: train, trace, evaluate, measure.",
        epilog=f"`{_program()} COMMAND --help` shows examples.",
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {_version()}")
    group = parser.add_subparsers(
        title="commands", metavar="COMMAND", required=True, parser_class=CommandParser
    )
    for command in COMMANDS:
        _add(group, command)
    return parser


def _program() -> str:
    """How this was called, so that the examples can be copied."""
    return "ltp" if Path(sys.argv[0]).name == "ltp" else "python -m ltp_core"


def _add(group: argparse._SubParsersAction[CommandParser], command: Command) -> None:
    examples = "\n".join(
        f"  {_program()} {command.name} {line}".rstrip() for line in command.examples
    )
    parser = group.add_parser(
        command.name,
        help=command.summary,
        description=f"{command.summary[0].upper()}{command.summary[1:]}.",
        epilog=f"examples:\n{examples}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_arguments(parser)
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON document")
    form.add_argument(
        "--events", action="store_true", help="print progress as JSON lines, the document last"
    )
    parser.set_defaults(command=command)


def _version() -> str:
    try:
        return version("token-pruning-explorer")
    except PackageNotFoundError:
        return "(not installed)"


def _write(output: Output, *, as_json: bool) -> None:
    from ltp_core.files import json_text

    is_unicode = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    if as_json:
        text = json_text(output.document, ensure_ascii=not is_unicode)
    else:
        # Names and tokens may hold what the terminal obeys or cannot show, or lone surrogates.
        encoding = sys.stdout.encoding or "ascii"
        text = "".join(map(_shown, output.text))
        text = text.encode(encoding, "backslashreplace").decode(encoding)
    if text:
        print(text)
    sys.stdout.flush()


def _fail(message: str, status: int) -> int:
    shown = "".join(map(_shown, " ".join(message.split())))
    print(f"ltp: {shown}", file=sys.stderr)
    return status


def _shown(character: str) -> str:
    """A character, escaped if it steers the terminal or the order of what stands around it."""
    is_text = character.isprintable() or (character.isspace() and character > "\x85")
    return character if is_text or character in "\n\t\u200d" else ascii(character)[1:-1]


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}."
    reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"{reason} ({DEBUG_VARIABLE}=1 shows where)."


def _leave_pipe() -> int:
    # The reader has gone; without this the interpreter would complain when it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FAILED
