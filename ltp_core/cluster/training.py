"""Runs of a sweep, each a task of a cluster, on a store that all its machines share."""

from __future__ import annotations

from pathlib import Path

from ltp_core.cluster.connection import Cluster, use_one_core
from ltp_core.config import TrainConfig
from ltp_core.sweep.runner import Train


def cluster_training(cluster: Cluster, data_dir: Path | None) -> Train:
    """Trains a run on a core of a cluster, on a GPU where it has some, and waits for it.

    A run whose worker died goes on from its last snapshot, on another one.
    """
    task = cluster.task(_train, on_accelerator=cluster.accelerators > 0)

    def train(config: TrainConfig, needs_weights: bool) -> object:
        return cluster.result(task.remote(config, data_dir, needs_weights))

    return train


def _train(config: TrainConfig, data_dir: Path | None, needs_weights: bool) -> None:
    """The task."""
    use_one_core()

    from ltp_core.training.train import train

    train(config, data_dir=data_dir, needs_weights=needs_weights)
