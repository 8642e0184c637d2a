"""What the `lengths` command counts: tasks, own files and folders, data sets of the hub."""

from __future__ import annotations

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ltp_core import environment
from ltp_core.cli import events
from ltp_core.records import UserError

if TYPE_CHECKING:
    from ltp_core.lengths.sets import LengthSet
    from ltp_core.lengths.sources import Report


@dataclass(frozen=True, kw_only=True)
class Counted:
    """Length counts, and whether they were counted just now or had been stored."""

    counts: LengthSet
    is_new: bool


def count(arguments: Namespace) -> Counted:
    """Counts the source, unless its counts are stored already.

    Raises:
        UserError: It is not at hand, or cannot be read.
    """
    from ltp_core.lengths.sources import HUB
    from ltp_core.tasks.catalogue import known_task

    source = arguments.source
    if known_task(source) is not None:
        return _task(arguments)
    if source.startswith(HUB):
        return Counted(counts=_hub(arguments), is_new=True)
    return count_own(arguments, _existing(source))


def _existing(source: str) -> Path:
    from ltp_core.lengths.sources import is_data_file
    from ltp_core.tasks.catalogue import find_task

    try:
        path = Path(source).expanduser()
        if source.strip() and path.exists():
            return path
    except (OSError, ValueError, RuntimeError):  # no path at all
        pass
    if not is_data_file(Path(source)) and "/" not in source:
        find_task(source)  # says which task is near
    raise UserError(f"There is no file or folder {source[:200]!r}: correct its path.")


def _task(arguments: Namespace) -> Counted:
    from ltp_core import checkpoint_tokenizer, store
    from ltp_core.lengths import sources

    is_recount = arguments.store and arguments.eval_file is None
    if not is_recount:
        facts = checkpoint_tokenizer.tokenizer_facts(arguments.checkpoint)
        found = sources.find_task_set(store.stores(), arguments.source, facts)
        if found:
            return Counted(counts=found, is_new=False)
    tokenizer, facts = checkpoint_tokenizer.load_tokenizer_of(arguments.checkpoint)
    counted = sources.count_task(
        arguments.source,
        tokenizer,
        facts,
        data_dir=arguments.data_dir,
        allow_downloads=environment.downloads_allowed(),
        report=_report(arguments),
    )
    return Counted(counts=counted, is_new=True)


def count_own(arguments: Namespace, path: Path) -> Counted:
    """Counts a file or folder; the same content is counted once.

    Raises:
        UserError: It cannot be read, or the columns are not clear.
    """
    from ltp_core import checkpoint_tokenizer, store
    from ltp_core.lengths import sources

    files = sources.own_files(path, arguments.splits)
    chosen = _columns(arguments, next(iter(files.values()))[0])
    facts = checkpoint_tokenizer.tokenizer_facts(arguments.checkpoint)
    content = sources.content_hash(files, chosen)
    found = sources.find_own_set(store.stores(), content, facts)
    if found:
        return Counted(counts=found, is_new=False)
    tokenizer, facts = checkpoint_tokenizer.load_tokenizer_of(arguments.checkpoint)
    counts = sources.count_files(
        path.name, files, chosen, tokenizer, facts, report=_report(arguments)
    )
    return Counted(counts=counts, is_new=True)


def _columns(arguments: Namespace, path: Path) -> tuple[str, ...]:
    """The chosen columns; without a choice the only one that holds texts."""
    from ltp_core.tasks.files import look

    if arguments.columns:
        return _one_or_two(arguments.columns)
    present = look(path).text_columns
    if len(present) == 1:
        return present
    raise UserError(
        f"{path.name} has several columns of text ({', '.join(present)}): choose one or two with "
        "--columns."
    )


def _one_or_two(names: tuple[str, ...]) -> tuple[str, ...]:
    if len(names) > 2:
        raise UserError(f"An input has one or two texts, not {len(names)}: name fewer --columns.")
    return names


def _hub(arguments: Namespace) -> LengthSet:
    from ltp_core import checkpoint_tokenizer
    from ltp_core.lengths import sources

    name = arguments.source.removeprefix(sources.HUB)
    allowed = environment.downloads_allowed()
    sources.check_hub(name, allow_downloads=allowed)
    if not arguments.columns:
        raise UserError(f"Name the columns of {name} that hold the texts with --columns.")
    tokenizer, facts = checkpoint_tokenizer.load_tokenizer_of(arguments.checkpoint)
    return sources.count_hub(
        name,
        arguments.splits or ("train", "validation"),
        _one_or_two(arguments.columns),
        tokenizer,
        facts,
        allow_downloads=allowed,
        report=_report(arguments),
    )


def _report(arguments: Namespace) -> Report:
    tell = events.reporter(arguments)
    return lambda split, rows, fraction: tell(
        "progress", {"split": split, "rows": rows, "fraction": fraction}
    )
