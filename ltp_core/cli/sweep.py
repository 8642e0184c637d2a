"""`sweep`: every run of a sweep file that the store does not hold yet."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from typing import TYPE_CHECKING, Any

from ltp_core.cli.base import Command, Output, add_data, add_engine, check_engine, columns

if TYPE_CHECKING:
    from pathlib import Path

    from ltp_core.config import TrainConfig
    from ltp_core.sweep.plan import PlannedRun, Sweep


def add_arguments(parser: ArgumentParser) -> None:
    """Declares the arguments."""
    parser.add_argument("sweep", metavar="PRESET", help="name of a sweep, or a .toml file")
    parser.add_argument(
        "--dry-run", action="store_true", help="only show the plan and where each run stands"
    )
    add_data(parser)
    add_engine(parser)


def run(arguments: Namespace) -> Output:
    """Trains what is missing; killed and started again, it goes on where it was."""
    check_engine(arguments)

    from ltp_core.store import default_store
    from ltp_core.sweep.plan import load_sweep, make_plan
    from ltp_core.training.select import check_config

    sweep = load_sweep(arguments.sweep)
    plan = make_plan(sweep)
    for planned in plan:  # before the first hour is spent
        check_config(planned.config)
    destination = default_store()
    problems: dict[str, str] = {}
    if not arguments.dry_run:
        carry_out = _carry_out if arguments.engine == "local" else _carry_out_on_cluster
        problems = carry_out(plan, destination, arguments)
    document = _document(sweep, plan, destination, problems)
    return Output(document=document, text=_card(document), status=1 if problems else 0)


def _carry_out(plan: list[PlannedRun], destination: Path, arguments: Namespace) -> dict[str, str]:
    import gc

    import torch

    from ltp_core.sweep.runner import SweepRunner
    from ltp_core.training.train import train

    def train_one(config: TrainConfig, needs_weights: bool) -> None:
        train(config, data_dir=arguments.data_dir, show_progress=True, needs_weights=needs_weights)
        # What one training leaves on an accelerator must not crowd the next one.
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    runner = SweepRunner(plan=plan, destination=destination, train=train_one, say=_say)
    return runner.run()


def _carry_out_on_cluster(
    plan: list[PlannedRun], destination: Path, arguments: Namespace
) -> dict[str, str]:
    """Several runs at once: one a GPU of the cluster where it has some, else one a core."""
    from concurrent.futures import ThreadPoolExecutor

    from ltp_core.cluster.connection import connected
    from ltp_core.cluster.training import cluster_training
    from ltp_core.sweep.runner import SweepRunner

    with connected(arguments.address) as cluster:
        slots = cluster.accelerators or cluster.cores
        pool = ThreadPoolExecutor(slots)  # each thread waits for one run
        try:
            return SweepRunner(
                plan=plan,
                destination=destination,
                train=cluster_training(cluster, arguments.data_dir),
                say=_say,
                pool=pool,
                slots=slots,
            ).run()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _document(
    sweep: Sweep, plan: list[PlannedRun], destination: Path, problems: dict[str, str]
) -> dict[str, Any]:
    from ltp_core.sweep.plan import states

    return {
        "title": sweep.title,
        "store": str(destination),
        "runs": [
            {
                "name": planned.config.name,
                "task": planned.config.task,
                "method": planned.config.method.name,
                "seed": planned.config.seed,
                "role": planned.role,
                "varied": planned.varied,
                "state": "failed" if planned.config.name in problems else state,
                "problem": problems.get(planned.config.name),
            }
            for planned, state in zip(plan, states(plan, destination), strict=True)
        ],
    }


def _card(document: dict[str, Any]) -> str:
    runs = document["runs"]
    rows = [
        (
            run["name"],
            run["role"],
            str(run["seed"]),
            ", ".join(f"{key}={value}" for key, value in run["varied"].items()),
            run["state"],
        )
        for run in runs
    ]
    kinds = ("done", "being trained", "to do", "failed")
    counts = {kind: sum(run["state"] == kind for run in runs) for kind in kinds}
    summary = ", ".join(f"{count} {kind}" for kind, count in counts.items() if count)
    failures = [f"{run['name']} failed: {run['problem']}" for run in runs if run["problem"]]
    table = columns(("run", "role", "seed", "varied", "state"), rows)
    return "\n".join([f"{document['title']}: {summary}", "", table, *failures])


COMMAND = Command(
    name="sweep",
    summary="train every run of a sweep that the store does not hold yet",
    examples=("sst2 --dry-run", "sst2 --data-dir DATA"),
    add_arguments=add_arguments,
    run=run,
)
