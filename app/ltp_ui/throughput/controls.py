"""What a user sets on the throughput page to measure something, and the button that does."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import streamlit as st

from app.ltp_ui.explore import controls
from app.ltp_ui.shared import blocks, jobs, live
from app.ltp_ui.shared.boundary import boundary
from app.ltp_ui.shared.jobs import Job
from app.ltp_ui.shared.labels import label_of
from app.ltp_ui.shared.strength import BUDGET, choose_budget
from app.ltp_ui.throughput import data
from ltp_core.bench.settings import RETAIN_RATIOS, SCALING_LENGTHS, TOPK_LENGTHS
from ltp_core.bench.variants import (
    BASELINE,
    CONTROL,
    SHUFFLED,
    VARIANTS,
    available_variants,
    can_run,
)
from ltp_core.budget import elastic_curve
from ltp_core.checkpoint_places import checkpoint_folder
from ltp_core.environment import BUSY_LOAD, load_average
from ltp_core.sweep.plan import SWEEPS

if TYPE_CHECKING:
    from streamlit.delta_generator import DeltaGenerator

KIND = "bench"
ALWAYS = ("packed", CONTROL, BASELINE)
"""Take part whatever is chosen: a method's speed means nothing without its controls."""

BATCH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)
AS_IN_THE_DATA = "as in the data"

GPU_SIGNS = ("/dev/nvidiactl", "/dev/kfd")
"""Files that a driver for CUDA or ROCm makes: enough to offer the device without importing torch."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """On what is measured, and for how long.

    Attributes:
        device: Kind of device.
        dtype: Type of the weights.
        arguments: All of it, as `bench` takes it.
    """

    device: str
    dtype: str
    arguments: list[str]


def measure(what: str) -> str | None:
    """The form, the command that it amounts to, and the button that starts or stops.

    Returns:
        The checkpoint that the form speaks of; None where there is none.
    """
    with st.container(border=True):
        st.header("Measure on this machine", anchor=False)
        columns = st.columns(3, gap="small")
        arguments = _topk_arguments(columns) if what == "topk" else _arguments(what, columns)
        if arguments is None:
            return None
        with columns[2]:
            _start_or_stop(arguments)
        with st.expander("The same in a terminal", icon=":material/terminal:"):
            command = "python -m ltp_core " + jobs.typed(arguments)
            st.code(command, language="bash", wrap_lines=True)
    return None if what == "topk" else arguments[1]


def _start_or_stop(arguments: Sequence[str]) -> None:
    running = jobs.running()
    if running is not None and running.kind == KIND:
        if st.button("Stop", icon=":material/stop:"):
            running.stop()
            st.rerun()
        return
    is_busy = running is not None
    if st.button("Measure", type="primary", icon=":material/play_arrow:", disabled=is_busy):
        _start(arguments)
    _load_note(running)


def _start(arguments: Sequence[str]) -> None:
    with boundary("The measurement"):
        if jobs.start(KIND, [*arguments, "--events"]).is_joined:
            st.toast(jobs.JOINED)
        st.rerun()


def _load_note(running: Job | None) -> None:
    """Says beforehand what would spoil the figures."""
    if running is not None:
        st.caption(f"Something else is running: `{running.command}`. Measure when it is done.")
    elif (load := load_average()) is not None and load > BUSY_LOAD:
        st.caption(
            f":orange[:material/warning:] The load average of the last minute is {load:.1f} per core: "
            "something else is busy here, and figures will be noisy."
        )


def _arguments(what: str, columns: Sequence[DeltaGenerator]) -> list[str] | None:
    """Arguments of `bench` for throughput or scaling; None where there is no checkpoint."""
    with columns[0]:
        checkpoint = controls.choose_checkpoint()
        if checkpoint is None:
            blocks.no_checkpoint()
            return None
        strength = _strength(checkpoint)
    with columns[2]:
        machine = _machine()
    with columns[0]:
        variants, against = _variants(what, machine), _against(checkpoint)
    with columns[1]:
        sizes, lengths = _extent(what)
    arguments = ["bench", checkpoint, *strength, "--what", what]
    arguments += ["--batch-sizes", _listed(sizes), "--lengths", _listed(lengths)]
    arguments += ["--variants", _listed(variants)]
    arguments += ["--against", _listed(against)] if against else []
    return arguments + machine.arguments


def _strength(checkpoint: str) -> list[str]:
    """How strongly a checkpoint prunes that was trained for any budget, as `bench` takes it."""
    curve = elastic_curve(checkpoint_folder(checkpoint))
    return [] if curve is None else choose_budget(curve, f"throughput{BUDGET}").arguments


def _extent(what: str) -> tuple[Sequence[int], Sequence[Any]]:
    """Batch sizes and lengths."""
    if what == "scaling":
        size = _batch_size(8)
        return [size], _pills("Lengths", SCALING_LENGTHS, (32, 64, 128, 256), what)
    sizes = _pills("Batch sizes", BATCH_SIZES, (1, 8, 32), what)
    chosen = _pills("Lengths", (AS_IN_THE_DATA, *SCALING_LENGTHS), (AS_IN_THE_DATA,), what)
    return sizes, [data.DATA_LENGTHS if n == AS_IN_THE_DATA else n for n in chosen]


def _topk_arguments(columns: Sequence[DeltaGenerator]) -> list[str]:
    with columns[0]:
        batch_size = _batch_size(32)
        lengths = _pills("Lengths", TOPK_LENGTHS, TOPK_LENGTHS, "topk")
    with columns[1]:
        ratios = _pills(
            "Tokens kept", RETAIN_RATIOS, RETAIN_RATIOS, "topk", show=lambda x: f"{100 * x:.0f} %"
        )
    arguments = ["bench", "--what", "topk", "--batch-sizes", str(batch_size)]
    arguments += ["--lengths", _listed(lengths), "--retain-ratios", _listed(ratios)]
    with columns[2]:
        return arguments + _machine(has_weights=False).arguments


def _pills(
    label: str,
    options: Sequence[Any],
    default: Sequence[Any],
    what: str,
    show: Callable[[Any], str] = str,
) -> list[Any]:
    """One or more of the options; the default where nothing is left."""
    chosen = st.pills(
        label,
        options,
        selection_mode="multi",
        default=list(default),
        format_func=show,
        key=f"throughput.{what}.{label}",
        persist_state="session",
        wrap=True,
    )
    return [option for option in options if option in chosen] or list(default)


def _batch_size(default: int) -> int:
    return st.select_slider(
        "Batch size",
        BATCH_SIZES,
        value=default,
        key=f"throughput.batch.{default}",
        persist_state="session",
    )


def _variants(what: str, machine: Machine) -> list[str]:
    """Who takes part; only those that can run there are offered."""
    free = [
        name
        for name in available_variants()
        if name not in ALWAYS and can_run(VARIANTS[name], machine.device, machine.dtype)
    ]
    chosen = st.multiselect(
        "Also measure",
        free,
        default=[SHUFFLED] if what == "throughput" else [],
        format_func=lambda name: VARIANTS[name].title,
        key=f"throughput.{what}.variants",
        persist_state="session",
        wrap=True,
        help="Beside packed, packed unpruned and Hugging Face with sorted batches, which always take part. "
        + " ".join(f"{VARIANTS[name].title}: {VARIANTS[name].meaning}." for name in free),
    )
    return [*ALWAYS, *(name for name in free if name in chosen)]


def _against(checkpoint: str) -> list[str]:
    """Other checkpoints of the task; a shallower model takes part by itself."""
    found = live.checkpoints()
    task = next((c.task for c in found if c.name == checkpoint), None)
    others = [c for c in found if c.task == task and c.name != checkpoint]
    shallow = [c.name for c in others if c.method == "shallow"]
    chosen = st.multiselect(
        "Other checkpoints",
        [c.name for c in others],
        default=shallow[:1],
        format_func=label_of,
        key=f"throughput.against.{checkpoint}",
        persist_state="session",
        wrap=True,
        help="Each with its own method, packed. A shallower model of the same cost is the second "
        "control.",
    )
    if not shallow:
        st.caption(_how_to_get_a_shallow_model(task))
    return chosen


def _how_to_get_a_shallow_model(task: str | None) -> str:
    missing = "No shallower model of this task is stored, so the second control is missing."
    if task and (SWEEPS / f"{task}.toml").is_file():
        return f"{missing} This trains one: `python -m ltp_core sweep {task}`"
    return missing


def _machine(*, has_weights: bool = True) -> Machine:
    """Device, time, and under More what few people need.

    Args:
        has_weights: Something runs that has weights, whose type can be chosen.
    """
    device = _device()
    seconds = st.slider(
        "Time limit",
        10,
        600,
        60,
        10,
        format="%d s",
        key="throughput.seconds",
        persist_state="session",
        help="Loading the models is not counted. With a short limit fewer sequences run in each round.",
    )
    with st.popover("More", icon=":material/tune:"):
        repeats = st.number_input(
            "Rounds", 1, 100, 5, key="throughput.repeats", persist_state="session"
        )
        threads = st.number_input(
            "Threads",
            1,
            os.cpu_count() or 1,
            None,
            placeholder="PyTorch's choice",
            key="throughput.threads",
            persist_state="session",
        )
        dtype = "float32"
        if has_weights:
            dtype = st.selectbox(
                "Numbers",
                ["float32", "bfloat16", "float16"],
                key="throughput.dtype",
                persist_state="session",
            )
    arguments = ["--seconds", str(seconds), "--repeats", str(repeats), "--device", device]
    arguments += ["--threads", str(threads)] if threads else []
    arguments += ["--dtype", dtype] if dtype != "float32" else []
    return Machine(device=device, dtype=dtype, arguments=arguments)


def _device() -> str:
    has_gpu = any(Path(sign).exists() for sign in GPU_SIGNS)
    return st.radio(
        "Device",
        ["cpu", "cuda"] if has_gpu else ["cpu"],
        format_func={"cpu": "CPU", "cuda": "GPU"}.__getitem__,
        captions=None if has_gpu else ["No GPU was found on this machine."],
        horizontal=True,
        key="throughput.device",
        persist_state="session",
    )


def _listed(values: Sequence[object]) -> str:
    return ",".join(map(str, values))
