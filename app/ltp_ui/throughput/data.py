"""Measured speed as the throughput page shows it: stored benchmarks, uploaded ones, running ones.

A document may come from another machine and anybody's hand. `results.parse_document` has checked its
figures; its texts are taken as texts and its other fields may be absent.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from app.ltp_ui.shared.labels import stored_labels, task_label
from app.ltp_ui.shared.wording import counted, percent
from ltp_core.analysis.pays.timing import is_here
from ltp_core.bench.noise import is_too_noisy
from ltp_core.bench.results import list_benches, results_frame
from ltp_core.bench.settings import AT
from ltp_core.bench.variants import BASELINE, METHOD, SHUFFLED, VARIANTS

COLUMNS = (
    "batch_size",
    "length",
    "retain_ratio",
    "contender",
    "rounds",
    "sequences",
    "mean_length",
    "sequences_per_s",
    "sequences_per_s_q1",
    "sequences_per_s_q3",
    "flops_per_sequence",
    "flops_per_s",
    "relative_to_sorted",
    "relative_to_sorted_q1",
    "relative_to_sorted_q3",
    "theoretical_relative_to_sorted",
    "relative_throughput",
    "relative_throughput_q1",
    "relative_throughput_q3",
    "theoretical_relative_throughput",
    "speedup",
    "speedup_q1",
    "speedup_q3",
    "theoretical_speedup",
    "realised_share",
    "realised_share_q1",
    "realised_share_q3",
    "ceiling_speedup",
    "ceiling_speedup_q1",
    "ceiling_speedup_q3",
    "ceiling_share",
    "ceiling_share_q1",
    "ceiling_share_q3",
    "equal_predictions",
    "metric",
    "time_us",
    "time_us_q1",
    "time_us_q3",
    "slowdown",
    "slowdown_q1",
    "slowdown_q3",
)

RATIOS = (
    "relative_to_sorted",
    "relative_throughput",
    "speedup",
    "realised_share",
    "ceiling_speedup",
    "ceiling_share",
)
"""Figures from which something is concluded; where they are too noisy they are left out."""

LONGEST_TITLE = 60

DATA_LENGTHS = "data"


@dataclass(frozen=True, kw_only=True)
class Who:
    """A variant on screen.

    Attributes:
        name: Its name in the results.
        title: Short name.
        meaning: What it is.
        method: Pruning method, or empty.
        quality: Its metric on validation, or empty.
    """

    name: str
    title: str
    meaning: str
    method: str
    quality: str


@dataclass(frozen=True, kw_only=True)
class Bench:
    """One benchmark, ready to be drawn.

    Attributes:
        name: Name of its folder or file.
        what: `throughput`, `scaling` or `topk`.
        title: One line that tells it from others.
        subject: What ran on what.
        machine: On which machine.
        frame: Its results, with every column of `COLUMNS`; ratios that are too noisy are missing.
        noisy: By ratio, for each line of `frame`, whether it was measured and is too noisy.
        variants: Who took part, in order.
        warning: Why it should not be trusted; None where it may be.
        matmul_flops_per_s: Rate of a plain matrix product on that machine; None where unknown.
        num_skipped: Measurements that a time limit left out.
        document: What was stored.
    """

    name: str
    what: str
    title: str
    subject: str
    machine: str
    frame: pd.DataFrame
    noisy: pd.DataFrame
    variants: dict[str, Who]
    warning: str | None
    matmul_flops_per_s: float | None
    num_skipped: int
    document: dict[str, Any]

    @property
    def places(self) -> list[str]:
        """Length and batch size of each measurement, in words and in order."""
        return list(dict.fromkeys(self.frame["place"]))

    @property
    def rank(self) -> tuple[bool, bool, bool, float]:
        """The lowest is shown first: quiet and of this processor, else of the own task with least noise.

        Those that were measured beside sorted batches go before, as the fairer comparison.
        """
        spread = self.document["noise"].get("identical_work_spread")
        is_known = isinstance(spread, int | float) and math.isfinite(spread)
        is_quiet_here = self.warning is None and is_here(self.document)
        noise = float(spread) if is_known and not is_quiet_here else math.inf
        checkpoint, task = self.document.get("checkpoint"), self.document.get("task")
        is_own_task = str(checkpoint).startswith(f"{task}-")
        is_fair = self.what != "throughput" or self.relative == "relative_to_sorted"
        return not is_quiet_here, not is_own_task, not is_fair, noise

    @property
    def relative(self) -> str:
        """Figure for the speed relative to Hugging Face: sorted batches, shuffled in older results."""
        has_sorted = self.frame["relative_to_sorted"].notna().any()
        return "relative_to_sorted" if has_sorted else "relative_throughput"

    @property
    def baseline(self) -> str:
        """Title of what `relative` is relative to."""
        is_sorted = self.relative == "relative_to_sorted"
        return VARIANTS[BASELINE].title if is_sorted else f"{VARIANTS[SHUFFLED].title}, shuffled"


def stored(what: str) -> tuple[list[Bench], list[str]]:
    """Benchmarks of this kind, the newest first, and the problems of those that cannot be read."""
    entries = list_benches()
    found = [bench(e.name, e.document) for e in entries if e.document]
    problems = [entry.problem for entry in entries if entry.problem]
    return [each for each in found if each.what == what], problems


def bench(name: str, document: dict[str, Any]) -> Bench:
    """A checked document as it is drawn."""
    noise = document["noise"]
    warning = noise.get("warning")
    rate = noise.get("matmul_flops_per_s")
    skipped = document.get("skipped")
    frame = table(results_frame(document))
    own_share = [_is_own_share(line, document) for line in document["results"]]
    frame.loc[~pd.Series(own_share, dtype=bool), "realised_share"] = None
    noisy = pd.DataFrame(
        {
            ratio: [
                pd.notna(line[ratio]) and is_too_noisy({str(k): v for k, v in line.items()}, ratio)
                for line in frame.to_dict(orient="records")
            ]
            for ratio in RATIOS
        },
        dtype=bool,
    )
    for ratio in RATIOS:
        frame.loc[noisy[ratio], ratio] = None
    return Bench(
        name=name,
        what=document["what"],
        title=_title(document),
        subject=_subject(document),
        machine=machine(document),
        frame=frame,
        noisy=noisy,
        variants=people(document["contenders"], frame["contender"]),
        warning=str(warning) if warning else None,
        matmul_flops_per_s=float(rate) if isinstance(rate, int | float) and rate > 0 else None,
        num_skipped=len(skipped) if isinstance(skipped, list) else 0,
        document=document,
    )


def _is_own_share(line: Mapping[str, Any], document: Mapping[str, Any]) -> bool:
    """Whether a realised share compares a pruned variant with the same engine, nothing pruned.

    Older documents also have shares between two engines, and of what prunes nothing.
    """
    name = line["contender"]
    card = document["contenders"].get(name)
    control = VARIANTS.get(str(card.get("control"))) if isinstance(card, Mapping) else None
    variant = VARIANTS.get(name, VARIANTS[METHOD])
    return control is not None and variant.is_pruned and variant.engine == control.engine


def table(frame: pd.DataFrame) -> pd.DataFrame:
    """Results with every column, absent figures missing, and the place in words."""
    whole = frame.reindex(columns=list(COLUMNS))
    for column in whole.columns.drop("contender"):
        whole[column] = pd.to_numeric(whole[column], errors="coerce")
    whole["place"] = [
        place(size, length)
        for size, length in zip(whole["batch_size"], whole["length"], strict=True)
    ]
    return whole


def place(batch_size: float, length: float | None) -> str:
    """`batch 8`, or `batch 8, 128 tokens`."""
    batch = f"batch {batch_size:.0f}"
    return batch if length is None or pd.isna(length) else f"{batch}, {length:.0f} tokens"


def people(variants: Mapping[str, Any], names: Iterable[str]) -> dict[str, Who]:
    """Who took part, by name: the catalogue's in its order, then the others."""
    order = list(VARIANTS)
    found = sorted(set(names), key=lambda n: (order.index(n) if n in order else len(order), n))
    return {name: _who(name, variants.get(name)) for name in found}


def _who(name: str, said: Any) -> Who:
    fields = said if isinstance(said, Mapping) else {}
    known = VARIANTS.get(name)
    return Who(
        name=name,
        title=known.title
        if known
        else str(_run_title(name) or fields.get("title") or name)[:LONGEST_TITLE],
        meaning=known.meaning if known else str(fields.get("meaning") or ""),
        method=str(fields.get("method") or ""),
        quality=_quality(fields.get("metric")),
    )


def _run_title(name: str) -> str | None:
    """What a run of this store is called everywhere, and its strength; None for what is none."""
    run, _, strength = name.partition(AT)
    title = stored_labels().get(run)
    return f"{title}, {strength.replace('-', ' ')}" if title and strength else title


def _quality(metric: Any) -> str:
    value = metric.get("value") if isinstance(metric, Mapping) else None
    if not isinstance(value, int | float):
        return ""
    return f"{percent(float(value))} {metric.get('name', '')}".strip().replace("_", " ")


def short_machine(bench: Bench) -> str:
    """Processor and threads as people say them: "Intel Xeon, 2 threads"."""
    return short_processor(bench.machine).removesuffix(", float32")


def short_processor(name: str) -> str:
    """A processor's name without marks and sets of instructions: "Intel Xeon"."""
    return re.sub(r"\((?:R|TM)\)| Processor\b| CPU\b| (?:avx2|avx512f|amx_bf16)\b", "", name)


def machine(document: Mapping[str, Any]) -> str:
    """Processor or accelerator, threads and type of numbers."""
    card, settings = document["environment"], document["settings"]
    parts = [card.get("accelerator") or card.get("processor") or "unknown processor"]
    if not card.get("accelerator") and isinstance(card.get("threads"), int):
        parts.append(counted(card["threads"], "thread"))
    if document["what"] != "topk":
        parts.append(settings.get("dtype") or "float32")
    return ", ".join(str(part)[:LONGEST_TITLE] for part in parts)


def _title(document: Mapping[str, Any]) -> str:
    day = str(document["created_at"])[:16].replace("T", " ")
    checkpoint = str(document.get("checkpoint") or "")
    return " · ".join(filter(None, [_run_title(checkpoint) or checkpoint, machine(document), day]))


def _subject(document: Mapping[str, Any]) -> str:
    if document["what"] == "topk":
        return "Scores of random tokens"
    split = document["settings"].get("split") or ""
    checkpoint = str(document.get("checkpoint"))
    texts = task_label(str(document["task"])) if document.get("task") else "texts"
    if "not at hand" in str(document.get("texts")):
        return f"{_run_title(checkpoint) or checkpoint} on words of Rotten Tomatoes reviews"
    return f"{_run_title(checkpoint) or checkpoint} on {texts} {split}".strip()


def live_table(events: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """What a running benchmark has measured so far: finished lines, else medians of the turns."""
    lines = [line for event in events for line in event.get("results") or ()]
    finished = {(line["batch_size"], line["length"]) for line in lines}
    turns = [e for e in events if e.get("event") == "turn"]
    running = [e for e in turns if (e["batch_size"], e["length"]) not in finished]
    if running:
        keys = ["batch_size", "length", "contender"]
        grouped = pd.DataFrame(running).groupby(keys, dropna=False, sort=False)["sequences_per_s"]
        quartiles = {"sequences_per_s_q1": 0.25, "sequences_per_s": 0.5, "sequences_per_s_q3": 0.75}
        spread = pd.DataFrame({name: grouped.quantile(q) for name, q in quartiles.items()})
        lines += spread.reset_index().to_dict(orient="records")
    return table(pd.DataFrame(lines, columns=list(COLUMNS)))


def progress(events: Sequence[Mapping[str, Any]]) -> float:
    """Share of the turns that are done, 0 to 1."""
    total = next((e["turns"] for e in events if e.get("event") == "plan"), 0)
    done = max((e.get("done", 0) for e in events), default=0)
    return min(1.0, done / total) if total else 0.0
