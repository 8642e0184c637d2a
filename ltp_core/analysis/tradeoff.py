"""What operating points are compared with: their dense counterparts, benchmarks, curves, the paper.

Nothing here imports torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ltp_core import flops, store
from ltp_core.analysis.example_records import model_size
from ltp_core.analysis.intervals import Estimate, mean_estimate
from ltp_core.analysis.runs import (
    REPORTED_ON,
    UNPRUNED,
    Row,
    beaten,
    number,
    rows,
)
from ltp_core.bench.results import list_benches
from ltp_core.bench.variants import CONTROL
from ltp_core.metrics import paired_interval
from ltp_core.records import RunManifest
from ltp_core.store import StoreError
from ltp_core.tasks.catalogue import find_task

GIGA = 1e9
PACKED = "packed"

NUM_RESAMPLES, MAX_RESAMPLED_ROWS = 2000, 4_000_000
"""Draws of the bootstrap, down to a fifth where draws times rows would be more than the second."""


@dataclass(frozen=True)
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


PAPER_TABLE_1 = {
    "mnli": PaperPoint(0.8753, 0.8653, 6.83, 3.64),
    "qqp": PaperPoint(0.9039, 0.8969, 5.31, 2.53),
    "qnli": PaperPoint(0.9286, 0.9198, 8.94, 4.77),
    "sst2": PaperPoint(0.9427, 0.9346, 4.45, 2.13),
    "stsb": PaperPoint(0.9089, 0.9003, 5.53, 2.84),
    "mrpc": PaperPoint(0.9214, 0.9159, 9.33, 4.44),
    "rte": PaperPoint(0.7798, 0.7798, 11.38, 6.30),
}
"""By task; mnli is MNLI-m. Kim et al., KDD 2022."""


# ---- of a run ----


def read_split(folder: Path, kind: str, split: str) -> pd.DataFrame:
    """The rows of a table that are about one split.

    Raises:
        StoreError: The table is absent or damaged.
    """
    frame = store.read_table(folder, kind)
    return frame[frame["split"] == split]


def paired_difference(task: str, folder: Path, dense: Path, split: str = REPORTED_ON) -> Estimate:
    """Headline metric of a run minus that of its dense counterpart, with the 95 % interval.

    Both must have the same examples; the interval is over them, not over seeds.

    Raises:
        StoreError: A table is absent or damaged, or the two were evaluated on different rows.
    """
    ours, theirs = (read_split(f, "examples", split).set_index("row") for f in (folder, dense))
    theirs = theirs.reindex(ours.index)
    if ours.empty or theirs["prediction"].isna().any():
        raise StoreError(f"{folder.name} and {dense.name} were not evaluated on the same rows.")
    value, low, high = paired_interval(
        find_task(task).metric,
        ours["label"].to_numpy(),
        ours["prediction"].to_numpy(),
        theirs["prediction"].to_numpy(),
        num_resamples=max(NUM_RESAMPLES // 5, min(NUM_RESAMPLES, MAX_RESAMPLED_ROWS // len(ours))),
    )
    return Estimate(value=value, low=low, high=high)


def mean_difference(
    point: Row, folders: Mapping[str, Path], split: str = REPORTED_ON
) -> Estimate | None:
    """`paired_difference` of a point's runs, means over seeds; None where none can be told."""
    found = []
    for run, dense in zip(point.runs, point.counterparts, strict=True):
        if dense is not None:
            with contextlib.suppress(StoreError):
                found.append(paired_difference(point.task, folders[run], folders[dense], split))
    return mean_estimate(found)


def gigaflops(folder: Path, manifest: RunManifest, split: str = REPORTED_ON) -> float | None:
    """Mean GFLOPs of an example in the paper's accounting, without padding; None where not known.

    Raises:
        StoreError: The table of examples is absent or damaged.
    """
    size, result = model_size(folder, manifest), manifest.summary[split]
    layers, share = result.get("mean_retained"), number(result["relative_flops"].get("paper"))
    if size is None or not isinstance(layers, list) or not share >= 0:
        return None
    # Of a long context every window is an input of its own.
    examples = read_split(folder, "examples", split)
    length = examples["length"]
    if "null_difference" in examples:
        windows = read_split(folder, "layers", split)
        length = windows.loc[windows["layer"] == 0, "attention_length"]
    whole = flops.unpruned_flops(length.to_numpy(), num_layers=len(layers), **size.sizes)
    return share * whole / len(examples) / GIGA


def curve_of(folder: Path, split: str = REPORTED_ON) -> pd.DataFrame:
    """A checkpoint at other strengths or budgets, nothing retrained; empty where that was not measured.

    Columns are those of the table `curve`.
    """
    try:
        return read_split(folder, "curve", split).sort_values("factor")
    except StoreError:  # absent, mostly
        return pd.DataFrame(columns=[column.name for column in store.TABLES["curve"]])


# ---- measured speed ----


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
        lines = [
            line
            for line in document["results"]
            if line["contender"] == PACKED and isinstance(line.get("speedup"), int | float)
        ]
        # The run that the packed variant is, with its control beside it.
        packed = document["contenders"].get(PACKED)
        name = packed.get("checkpoint") if isinstance(packed, dict) else None
        if not (lines and isinstance(name, str) and CONTROL in document["contenders"]):
            continue
        line, machine = max(lines, key=lambda line: line["batch_size"]), document["environment"]
        speedup = Speedup(
            value=float(line["speedup"]),
            batch_size=line["batch_size"],
            device=str(machine.get("accelerator") or machine.get("processor") or "unknown"),
            bench=entry.name,
        )
        found.setdefault(name, speedup)
    return found


# ---- questions with and without an answer ----

GROUPS = {"f1": "all", "has_answer_f1": "has answer", "no_answer_f1": "no answer"}
"""Metrics of a run and the questions that they are means over."""

GROUP_COLUMNS = ["method", "recipe", "group", "relative_flops", "f1", "difference"]


def f1_by_group(manifest: RunManifest) -> dict[str, float]:
    """F1 of a run on validation, by group; empty where it was not measured on both kinds."""
    reported = manifest.summary.get(REPORTED_ON)
    found = reported.get("metrics") if isinstance(reported, dict) else None
    metrics = found if isinstance(found, dict) else {}
    if not {"has_answer_f1", "no_answer_f1"} <= set(metrics):
        return {}
    return {group: number(metrics[name]) for name, group in GROUPS.items() if name in metrics}


def answer_groups(points: pd.DataFrame, runs: pd.DataFrame) -> pd.DataFrame:
    """F1 of questions with and without an answer at each operating point: the paper's Figure 5.

    Points that another one of their method beats on held-out rows are left out. The table is empty where
    no run has groups.

    Args:
        points: Rows of `points_table`.
        runs: Rows of `runs_table`, theirs and their counterparts' among them.

    Returns:
        One row a point and group: `method` ("unpruned" for the dense counterparts, at relative FLOPs 1),
        `recipe`, `group`, `relative_flops` in the paper's accounting, `f1` and `difference`, that to the
        dense counterpart. Means over seeds; NaN where not known.
    """
    f1 = {run.run: f1_by_group(run.manifest) for run in rows(runs)}
    points = points[~beaten(points)]
    points = points[points["runs"].map(lambda names: all(map(f1.get, names))).astype(bool)]
    pruned = [
        {
            "method": point.method,
            "recipe": point.recipe,
            "group": group,
            "relative_flops": getattr(point, f"paper_{REPORTED_ON}"),
            "run": run,
            "f1": f1[run].get(group),
            "dense": dense and f1[dense].get(group),
        }
        for point in rows(points)
        for run, dense in zip(point.runs, point.counterparts, strict=True)
        for group in GROUPS.values()
    ]
    table = pd.DataFrame(pruned, columns=[*GROUP_COLUMNS[:-1], "run", "dense"])
    table["difference"] = table["f1"] - table["dense"].astype(float)
    counterparts = runs[runs["run"].isin({c for group in points["counterparts"] for c in group})]
    dense_rows = [
        {
            "method": UNPRUNED,
            "recipe": run.recipe,
            "group": group,
            "relative_flops": 1.0,
            "f1": f1[run.run].get(group),
            "difference": 0.0,
        }
        for run in rows(counterparts)
        for group in GROUPS.values()
    ]
    both = pd.concat([table, pd.DataFrame(dense_rows, columns=GROUP_COLUMNS)])
    keys = list(GROUP_COLUMNS[:4])
    means = both.groupby(keys, sort=False)[["f1", "difference"]].mean()
    return means.dropna(subset="f1").reset_index()


def share_unanswerable(folder: Path) -> float:
    """The share of validation questions that have no answer: the F1 of never answering.

    Raises:
        StoreError: The run's records are absent or damaged.
    """
    return float((read_split(folder, "examples", REPORTED_ON)["label"] == 0).mean())
