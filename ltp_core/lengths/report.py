"""What is said about a pair of length counts, as one document: the command and the app give the same."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ltp_core.lengths.paper import Table2Row, table_2_row
from ltp_core.lengths.sets import LengthSet, SplitLengths
from ltp_core.lengths.shift import LengthShift, summarize
from ltp_core.lengths.statistics import DivergenceRule, kl_bins

TRAIN = "train"
EVALUATION_SPLITS = ("validation", "validation_matched", "dev", "test")
"""What the evaluation split of own data may be called, the likeliest first."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Side:
    """One split of stored counts."""

    counts: LengthSet
    split: str

    @property
    def lengths(self) -> SplitLengths:
        """Its lengths."""
        return self.counts.splits[self.split]

    @property
    def name(self) -> str:
        """Data set and split, `sst2/train`."""
        return f"{self.counts.name}/{self.split}"


def training_split(counts: LengthSet) -> str:
    """The split that stands for training: `train`, else the first one."""
    return TRAIN if TRAIN in counts.splits else next(iter(counts.splits))


def evaluation_split(counts: LengthSet) -> str | None:
    """The split that is compared with training by default; None where there is only one."""
    others = [name for name in counts.splits if name != training_split(counts)]
    usual = (name for name in EVALUATION_SPLITS if name in others)
    return next(usual, next(iter(others), None))


def default_rule(train: LengthSet) -> DivergenceRule:
    """The paper's number of bins where it says one, else 50; bins both sides have."""
    return DivergenceRule(bins=kl_bins(train.name if train.is_task else ""))


def paper_row(train: Side, evaluation: Side | None) -> Table2Row | None:
    """The paper's line of Table 2 for this pair, if it has one."""
    if evaluation is None or not train.counts.is_task or train.split != TRAIN:
        return None
    is_one_task = evaluation.counts.is_task and evaluation.counts.name == train.counts.name
    return table_2_row(train.counts.name, evaluation.split) if is_one_task else None


def document(train: Side, evaluation: Side | None, shift: LengthShift | None) -> dict[str, Any]:
    """Everything as JSON's own types, arrays and dataclasses apart: fractions 0 to 1, tokens, nats.

    Args:
        train: What stands for training.
        evaluation: What it is compared with; None where there is nothing.
        shift: How far they are apart.
    """
    paper = paper_row(train, evaluation)
    return {
        "tokenizer": asdict(train.counts.tokenizer),
        "train": _side(train),
        "evaluation": None if evaluation is None else _side(evaluation),
        "shift": None if shift is None else asdict(shift),
        "paper": None if paper is None else asdict(paper),
    }


def _side(side: Side) -> dict[str, Any]:
    lengths = side.lengths
    return {
        "data": side.counts.name,
        "split": side.split,
        "key": side.counts.key,
        "columns": list(side.counts.columns),
        "lengths": asdict(summarize(lengths.counts)),
        "source": lengths.source,
        "sha256": lengths.sha256,
        "published_rows": lengths.published_rows,
        "is_published": lengths.is_published,
        "left_out": lengths.left_out,
        "created_at": side.counts.created_at,
    }


def counts_table(sides: Iterable[Side]) -> list[dict[str, Any]]:
    """One row a length of each side: data, split, length, count."""
    return [
        {"data": side.counts.name, "split": side.split, "length": length, "count": count}
        for side in sides
        for length, count in zip(
            side.lengths.counts.length.tolist(), side.lengths.counts.count.tolist(), strict=True
        )
    ]
