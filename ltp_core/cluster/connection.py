"""Ray on this machine's cores alone, or a cluster that is there already."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ltp_core.environment import available_cores
from ltp_core.records import UserError
from ltp_core.threads import CHOSEN, VARIABLE

SILENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}
"""Nothing is reported to Ray's makers; a task without an accelerator sees none."""

HERE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's name for: listen on the loopback address alone. Without it other machines reach its ports."""

OBJECT_STORE_BYTES = 256 * 2**20
"""Shared memory for what is on its way; what does not fit is written to disk."""

RETRIES = 3
"""Times that work is done again whose worker died."""


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """What runs tasks.

    Attributes:
        ray: The library.
        cores: Of all machines.
        accelerators: GPUs of all machines.
    """

    ray: Any
    cores: int
    accelerators: int

    def task(self, function: Any, *, on_accelerator: bool, keeps_state: bool = False) -> Any:
        """The function as a task on one core, or on one GPU; done again if its worker dies.

        What it leaves on a GPU goes with its worker, unless it keeps something for the next task.
        """
        options: dict[str, Any] = {"num_gpus": 1} if on_accelerator else {"num_cpus": 1}
        if keeps_state:
            options["max_calls"] = 0  # without a limit
        return self.ray.remote(max_retries=RETRIES, **options)(function)

    def result(self, reference: Any) -> Any:
        """What a task returned; what its code raised is raised here.

        Raises:
            UserError: Its worker died each time.
        """
        failures = self.ray.exceptions
        try:
            return self.ray.get(reference)
        except failures.RayTaskError as error:
            raise (error.cause or error) from None
        except failures.RayError as error:
            raise UserError(
                f"Workers of the cluster died {RETRIES + 1} times on the same task "
                f"({type(error).__name__}): give them more memory, and run the same command again."
            ) from error


@contextlib.contextmanager
def connected(
    address: str | None, *, object_store_bytes: int = OBJECT_STORE_BYTES
) -> Iterator[Cluster]:
    """Starts Ray on this machine's cores for a while, or connects to a cluster.

    Here it has no dashboard, sends no statistics, and listens on the loopback address alone. The
    variables `LTP_…` hold on a cluster's machines too.

    Args:
        address: `HOST:PORT` of a cluster's head, or `auto` for one on this machine; None starts one here.
        object_store_bytes: Shared memory of the one that is started here.

    Raises:
        UserError: Ray is not installed, or there is no cluster.
    """
    os.environ.update(SILENT if address else SILENT | HERE)  # read when Ray is imported
    try:
        ray = importlib.import_module("ray")
    except ImportError as error:
        raise UserError(
            "--engine ray needs the package ray: pip install -r requirements-cluster.txt."
        ) from error
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    if address is None:
        options |= {
            "address": "local",
            "include_dashboard": False,
            "num_cpus": available_cores(),
            "object_store_memory": object_store_bytes,
        }
    else:
        options |= {"address": address, "runtime_env": {"env_vars": _own_variables()}}
    try:
        with _kept_signals():
            ray.init(**options)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = f"There is no Ray cluster at {address!r}" if address else "Ray does not start here"
        raise UserError(f"{where} ({reason}): check it with `ray status`.") from error
    try:
        found = ray.cluster_resources()
        yield Cluster(
            ray=ray, cores=int(found.get("CPU", 0)), accelerators=int(found.get("GPU", 0))
        )
    finally:
        ray.shutdown()


def _own_variables() -> dict[str, str]:
    """The project's settings of this process; how many threads it takes is no matter of theirs."""
    return {
        name: value
        for name, value in os.environ.items()
        if name.startswith("LTP_") and name not in (VARIABLE, CHOSEN)
    }


@contextlib.contextmanager
def _kept_signals() -> Iterator[None]:
    """Ray takes SIGTERM for itself; what a command does with it stays."""
    handler = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)


def use_one_core() -> None:
    """In a worker, which shares its machine with others: one thread for torch and the tokenizer."""
    os.environ.setdefault("RAYON_NUM_THREADS", "1")

    import torch

    torch.set_num_threads(1)
