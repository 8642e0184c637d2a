"""From a configuration to a finished run: parent, stages, results."""

from __future__ import annotations

import contextlib
import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState
from tqdm import tqdm

from ltp_core import store
from ltp_core.checkpoint_places import holds_weights, weights_sha256
from ltp_core.config import TrainConfig, parent_config, resolve, stages_of
from ltp_core.encoder.bases import KNOWN_BASES, base_sha256, find_base
from ltp_core.encoder.errors import ModelError
from ltp_core.environment import EMULATED, emulates_bfloat16
from ltp_core.records import UserError
from ltp_core.tasks.catalogue import find_task
from ltp_core.training.loop import run_stage
from ltp_core.training.losses import Student
from ltp_core.training.prepare import Prepared, prepare
from ltp_core.training.results import Trained, finish
from ltp_core.training.resume import SNAPSHOT_FILE, Journal, read_position
from ltp_core.training.select import check_config, select_method
from ltp_core.training.watch import THINNING, Report, Watch

ORIGIN_FILE = ".origin.json"
"""SHA-256 of what a training began with, until it is complete."""


def train(
    config: TrainConfig,
    *,
    data_dir: Path | None = None,
    destination: Path | None = None,
    force: bool = False,
    show_progress: bool = False,
    snapshot_every: int = 200,
    needs_weights: bool = False,
    report: Report | None = None,
) -> Path:
    """Trains what the store does not hold yet: the parent, then this run.

    A killed training goes on where its last snapshot was, to the same result on the same machine.

    Args:
        config: The run.
        data_dir: Folder of Parquet files for GLUE tasks.
        destination: Store to write to; None takes the default one.
        force: Train again although the run is complete; the old one stays until the new one is.
        show_progress: Draw progress bars on stderr.
        snapshot_every: Steps between snapshots at most.
        needs_weights: A run that is stored without its weights does not count as complete.
        report: Takes what the training says of itself: `begin` and `finished` of each run, the parent
            first, `stage`, `step` with a row of the history, and `evaluate`.

    Returns:
        The run's folder.

    Raises:
        UserError: Data or base model are absent, a setting is impossible, the run is in use, or it
            is complete with another base model than the one at hand.
    """
    find_task(config.task)
    config = resolve(config)
    check_config(config)
    target = destination or store.default_store()
    folder = store.run_folder(target, config.name)
    if not force and (done := _complete(config.name, target, needs_weights)):
        _check_base(config, done)
        return done
    parent = parent_config(config)
    options: dict[str, Any] = {
        "data_dir": data_dir,
        "show_progress": show_progress,
        "snapshot_every": snapshot_every,
        "needs_weights": True,
        "report": report,
    }
    parent_folder = None if parent is None else train(parent, destination=target, **options)
    accelerator = accelerator_for(config)
    watch = Watch(config.name, report)
    if accelerator.mixed_precision != config.mixed_precision and accelerator.is_main_process:
        tqdm.write(f"{config.name} computes in float32: {EMULATED}.", file=sys.stderr)
    # Of several processes of one training, the main one holds the run's lock.
    is_main = accelerator.is_main_process
    with store.lock_run(folder) if is_main else contextlib.nullcontext():
        if not force and (done := _complete(config.name, target, needs_weights)):
            return done  # another process was faster
        is_complete = (folder / store.MANIFEST).exists()
        prepared = prepare(
            config,
            parent_folder,
            data_dir,
            target,
            device_of(accelerator),
            accelerator.mixed_precision,
        )
        place = store.replacement_folder(folder) if is_complete else folder
        if is_main:
            _begin(prepared, parent_folder, place)
        accelerator.wait_for_everyone()
        watch.tell("begin", rows=len(prepared.data.encoded))
        duration_s = _run_stages(prepared, place, accelerator, show_progress, snapshot_every, watch)
        if is_main:
            trained = Trained(prepared, parent_folder, device_of(accelerator), duration_s)
            finish(_selected(trained, data_dir, target), place, data_dir, watch)
            (place / ORIGIN_FILE).unlink(missing_ok=True)
            if is_complete:
                store.replace_run(folder)
        accelerator.wait_for_everyone()
    watch.tell("finished")
    return folder


def _begin(prepared: Prepared, parent: Path | None, place: Path) -> None:
    """Deletes what an earlier attempt left where this one cannot go on with it, and says why."""
    origin = {
        "base model": base_sha256(prepared.base),
        "parent": weights_sha256(parent) if parent else None,
        "data": prepared.rows.sha256,
    }
    try:
        earlier = json.loads((place / ORIGIN_FILE).read_bytes())
        changed = [name for name, sha256 in origin.items() if earlier[name] != sha256]
    except FileNotFoundError:
        changed = []
    except (OSError, ValueError, KeyError, TypeError):
        changed = ["record of its origin"]
    snapshot = place / SNAPSHOT_FILE
    reason = ""
    if changed and snapshot.exists():
        reason = f"the {' and the '.join(changed)} changed"
    elif snapshot.exists() and read_position(place) is None:
        reason = f"{snapshot.name} is damaged"
    elif (place / store.MANIFEST).exists():
        # A replacement that was killed when it was complete is not trusted: nobody knows its data.
        reason = "it was not put in place"
    if reason:
        tqdm.write(f"{prepared.config.name} begins again, since {reason}.", file=sys.stderr)
        for path in place.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name != store.LOCK:
                path.unlink()
    store.write_json(place / ORIGIN_FILE, origin)


def _selected(trained: Trained, data_dir: Path | None, destination: Path) -> Trained:
    """With the method that a `select` table chooses; else as it is."""
    config, parent = trained.prepared.config, trained.prepared.teacher
    if config.select is None:
        return trained
    assert parent is not None
    began = time.perf_counter()
    stores = [destination, *store.stores()]
    selection = select_method(config, parent, trained.method, data_dir, stores)
    duration_s = trained.duration_s + time.perf_counter() - began
    return replace(trained, selection=selection, duration_s=duration_s)


def _complete(name: str, target: Path, needs_weights: bool = False) -> Path | None:
    """The finished run of this name in the target store or the sample store."""
    for place in (target, *store.stores()):
        folder = store.run_folder(place, name)
        if (folder / store.MANIFEST).exists() and (holds_weights(folder) or not needs_weights):
            return folder
    return None


def _check_base(config: TrainConfig, folder: Path) -> None:
    """Refuses a complete run whose base model has other weights by now; an absent base is no matter."""
    if config.base in KNOWN_BASES:
        return  # its weights are known
    trained_on = store.read_manifest(folder).base.get("sha256")
    try:
        base = find_base(config.base, allow_downloads=False)
    except ModelError:
        return
    if trained_on is not None and base_sha256(base) != trained_on:
        raise UserError(
            f"{config.name} was trained on other weights than those in {base} (SHA-256 "
            f"{str(trained_on)[:12]}…): restore that base, or train again with --force."
        )


def accelerator_for(config: TrainConfig) -> Accelerator:
    """Device and precision of a training.

    bfloat16 is asked for to be faster. On a processor that only emulates it the training computes in
    float32; the run is the same by its configuration, and its manifest says which it was.

    Raises:
        UserError: This machine has not the precision.
    """
    # Accelerate allows one precision a process unless it is told to forget the last one.
    AcceleratorState._reset_state()
    name = config.mixed_precision
    try:
        accelerator = Accelerator(mixed_precision=name)
    except ValueError as error:
        raise UserError(f"mixed_precision = {name!r}: {error}") from error
    if name != "no" and not accelerator.native_amp:
        kind = accelerator.device.type
        raise UserError(f"mixed_precision = {name!r}: this {kind} has none; take 'no' or 'bf16'.")
    if name == "bf16" and accelerator.device.type == "cpu" and emulates_bfloat16():
        AcceleratorState._reset_state()
        return Accelerator(mixed_precision="no")
    return accelerator


def device_of(accelerator: Accelerator) -> str:
    """Where evaluation runs too; some of it needs float64, which not every accelerator has."""
    return str(accelerator.device) if accelerator.device.type == "cuda" else "cpu"


def _run_stages(
    prepared: Prepared,
    folder: Path,
    accelerator: Accelerator,
    show_progress: bool,
    snapshot_every: int,
    watch: Watch,
) -> float:
    student = Student(
        prepared.encoder, prepared.method, is_multi_label=prepared.task.is_multi_label
    )
    is_shown = show_progress and accelerator.is_main_process
    journal = Journal(folder, is_shown=is_shown, watch=watch)
    if journal.rows:
        watch.tell("history", rows=journal.rows[:: 1 + len(journal.rows) // THINNING])
    # From the stage on that the snapshot is of.
    stages = stages_of(prepared.config)
    position = read_position(folder)
    started = list(stages).index(position.stage) if position and position.stage in stages else 0
    duration_s = 0.0
    for number, (name, stage) in list(enumerate(stages.items()))[started:]:
        accelerator.wait_for_everyone()
        duration_s = run_stage(
            name,
            stage,
            student,
            prepared.data,
            accelerator,
            journal,
            seed=1000 * prepared.config.seed + number,
            folder=folder,
            snapshot_every=snapshot_every,
            elapsed_s=duration_s,
        )
        accelerator.free_memory()  # else it would unscale this stage's gradients in the next one too
    return duration_s
