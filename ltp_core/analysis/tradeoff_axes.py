"""What operating points are drawn over and compared with, from tables, benchmarks and the paper.

Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Int

from ltp_core import flops, store
from ltp_core.analysis.example_records import model_size
from ltp_core.analysis.tradeoff import REPORTED_ON, StoredRun
from ltp_core.bench.catalogue import CONTROL
from ltp_core.bench.results import list_benches
from ltp_core.metrics import paired_interval
from ltp_core.store import StoreError

GIGA = 1e9
PACKED = "packed"

NUM_RESAMPLES, MAX_RESAMPLED_ROWS = 2000, 4_000_000
"""Draws of the bootstrap, down to a fifth where draws times rows would be more than the second."""


@dataclass(frozen=True, kw_only=True)
class PaperPoint:
    """One line of the paper's Table 1: RoBERTa-base, LTP within 1 % of the baseline.

    Attributes:
        baseline: Metric of RoBERTa-base, a fraction.
        metric: Metric of LTP, a fraction.
        baseline_gigaflops: GFLOPs of RoBERTa-base an example.
        gigaflops: GFLOPs of LTP an example.
    """

    baseline: float
    metric: float
    baseline_gigaflops: float
    gigaflops: float

    @property
    def relative_flops(self) -> float:
        """LTP's GFLOPs as a fraction of the baseline's."""
        return self.gigaflops / self.baseline_gigaflops

    @property
    def difference(self) -> float:
        """Metric minus baseline."""
        return self.metric - self.baseline


def _paper(baseline: float, metric: float, whole: float, pruned: float) -> PaperPoint:
    return PaperPoint(
        baseline=baseline / 100,
        metric=metric / 100,
        baseline_gigaflops=whole,
        gigaflops=pruned,
    )


PAPER_TABLE_1 = {
    "mnli": _paper(87.53, 86.53, 6.83, 3.64),
    "qqp": _paper(90.39, 89.69, 5.31, 2.53),
    "qnli": _paper(92.86, 91.98, 8.94, 4.77),
    "sst2": _paper(94.27, 93.46, 4.45, 2.13),
    "stsb": _paper(90.89, 90.03, 5.53, 2.84),
    "mrpc": _paper(92.14, 91.59, 9.33, 4.44),
    "rte": _paper(77.98, 77.98, 11.38, 6.30),
}
"""By task; mnli is MNLI-m. Kim et al., KDD 2022."""


def read_split(folder: Path, kind: str, split: str) -> pd.DataFrame:
    """The rows of a table that are about one split.

    Raises:
        StoreError: The table is absent or damaged.
    """
    frame = store.read_table(folder, kind)
    return frame[frame["split"] == split]


def paired_difference(
    run: StoredRun, dense: StoredRun, split: str = REPORTED_ON
) -> tuple[float, float, float]:
    """Headline metric of a run minus that of its dense counterpart, with the 95 % interval.

    Both must have the same examples; the interval is over them, not over seeds.

    Raises:
        StoreError: A table is absent or damaged, or the two were evaluated on different rows.
    """
    ours, theirs = (
        read_split(each.folder, "examples", split).set_index("row") for each in (run, dense)
    )
    theirs = theirs.reindex(ours.index)
    if ours.empty or theirs["prediction"].isna().any():
        raise StoreError(f"{run.name} and {dense.name} were not evaluated on the same rows.")
    return paired_interval(
        run.config.task,
        ours["label"].to_numpy(),
        ours["prediction"].to_numpy(),
        theirs["prediction"].to_numpy(),
        num_resamples=max(NUM_RESAMPLES // 5, min(NUM_RESAMPLES, MAX_RESAMPLED_ROWS // len(ours))),
    )


def gigaflops(run: StoredRun, accounting: str = "paper", split: str = REPORTED_ON) -> float | None:
    """Mean GFLOPs of an example, without padding; None where the model's size is not known.

    Raises:
        StoreError: The table of examples is absent or damaged.
    """
    size = model_size(run.folder, run.manifest)
    layers = run.manifest.summary[split].get("mean_retained")
    if size is None or not isinstance(layers, list) or split not in run.results:
        return None
    length, num_examples = _input_lengths(run.folder, split)
    whole = flops.unpruned_flops(
        length,
        num_layers=len(layers),
        hidden=size.hidden,
        intermediate=size.intermediate,
    )
    return run.results[split].relative_flops[accounting] * whole / num_examples / GIGA


def _input_lengths(folder: Path, split: str) -> tuple[Int[np.ndarray, " inputs"], int]:
    """Tokens of every input, windows of a question one by one, and the number of examples."""
    examples = read_split(folder, "examples", split)
    if "null_difference" not in examples:
        return examples["length"].to_numpy(), len(examples)
    layers = read_split(folder, "layers", split)
    return layers.loc[layers["layer"] == 0, "attention_length"].to_numpy(), len(examples)


@dataclass(frozen=True, kw_only=True)
class Speedup:
    """A measured speed-up.

    Attributes:
        value: Throughput as a multiple of that of the same weights unpruned, padding removed in both.
        batch_size: Sequences of a batch.
        device: What it was measured on.
        bench: Name of the benchmark.
    """

    value: float
    batch_size: int
    device: str
    bench: str


def speedups(stores: Sequence[Path] | None = None) -> dict[str, Speedup]:
    """By name of the run: of its newest benchmark, the line with the largest batch."""
    found: dict[str, Speedup] = {}
    for entry in list_benches(stores):
        document = entry.document
        if document is None or document["what"] != "throughput":
            continue
        lines = [line for line in document["results"] if _is_speedup(line)]
        name = _checkpoint(document)
        if lines and name is not None:
            line = max(lines, key=lambda line: line["batch_size"])
            speedup = Speedup(
                value=float(line["speedup"]),
                batch_size=line["batch_size"],
                device=_device(document),
                bench=entry.name,
            )
            found.setdefault(name, speedup)
    return found


def _is_speedup(line: dict[str, Any]) -> bool:
    return line["contender"] == PACKED and isinstance(line.get("speedup"), int | float)


def _checkpoint(document: dict[str, Any]) -> str | None:
    """The run that the packed contender is; None where the control is missing beside it."""
    contenders = document["contenders"]
    packed = contenders.get(PACKED)
    if CONTROL not in contenders or not isinstance(packed, dict):
        return None
    name = packed.get("checkpoint")
    return name if isinstance(name, str) else None


def _device(document: dict[str, Any]) -> str:
    environment = document["environment"]
    shown = environment.get("accelerator") or environment.get("processor") or "unknown"
    return str(shown)


def curve_of(run: StoredRun, split: str = REPORTED_ON) -> pd.DataFrame:
    """The run at other strengths, nothing retrained; empty where that was not measured.

    Columns are those of the table `curve`.
    """
    try:
        return read_split(run.folder, "curve", split).sort_values("factor")
    except StoreError:  # absent, mostly
        return pd.DataFrame(columns=[column.name for column in store.TABLES["curve"]])
