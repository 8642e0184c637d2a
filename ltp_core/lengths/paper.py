"""The paper's Table 2, and the published sizes that tell a subset from a whole data set."""

from __future__ import annotations

from dataclasses import dataclass

Quartiles = tuple[int, int, int]


@dataclass(frozen=True, kw_only=True)
class Table2Row:
    """One line of the paper's Table 2, in RoBERTa's tokens.

    Attributes:
        label: Name of the task there.
        task: Our name of the task.
        split: Our name of the evaluation split.
        train: Q1, Q2 and Q3 of the training lengths.
        evaluation: The same of the evaluation lengths.
        kl: Divergence of the two, in nats as far as can be told; the paper states neither the
            direction nor the edges of its bins nor its smoothing.
    """

    label: str
    task: str
    split: str
    train: Quartiles
    evaluation: Quartiles
    kl: float


def _row(
    label: str,
    task: str,
    train: Quartiles,
    evaluation: Quartiles,
    kl: float,
    split: str = "validation",
) -> Table2Row:
    return Table2Row(label=label, task=task, split=split, train=train, evaluation=evaluation, kl=kl)


TABLE_2: tuple[Table2Row, ...] = (
    _row("MNLI-m", "mnli", (27, 38, 50), (26, 37, 50), 0.0055),
    _row("MNLI-mm", "mnli", (27, 38, 50), (29, 39, 51), 0.0042, "validation_mismatched"),
    _row("QQP", "qqp", (23, 28, 36), (23, 28, 36), 0.0006),
    _row("QNLI", "qnli", (39, 48, 59), (39, 49, 61), 0.0092),
    _row("SST-2", "sst2", (7, 11, 19), (18, 25, 33), 1.2250),
    _row("STS-B", "stsb", (20, 24, 32), (21, 29, 41), 0.0925),
    _row("MRPC", "mrpc", (45, 54, 63), (45, 54, 64), 0.0033),
    _row("RTE", "rte", (44, 57, 86), (42, 54, 78), 0.0261),
)
"""Source: Kim et al., Learned Token Pruning for Transformers, KDD 2022, Table 2."""

_PUBLISHED_ROWS: dict[str, dict[str, int]] = {
    "mnli": {"train": 392_702, "validation": 9_815, "validation_mismatched": 9_832},
    "qqp": {"train": 363_846, "validation": 40_430},
    "qnli": {"train": 104_743, "validation": 5_463},
    "sst2": {"train": 67_349, "validation": 872},
    "stsb": {"train": 5_749, "validation": 1_500},
    "mrpc": {"train": 3_668, "validation": 408},
    "rte": {"train": 2_490, "validation": 277},
}


def published_rows(task: str, split: str) -> int | None:
    """Labelled rows of the split that GLUE published; None where there is no such thing."""
    return _PUBLISHED_ROWS.get(task, {}).get(split)


def table_2_row(task: str, split: str) -> Table2Row | None:
    """The paper's line for a task and evaluation split, if it has one."""
    return next((row for row in TABLE_2 if (row.task, row.split) == (task, split)), None)
