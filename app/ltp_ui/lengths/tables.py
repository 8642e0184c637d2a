"""Table 2: ours beside the paper's, and the other tables of the length page."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from app.ltp_ui.lengths import data
from app.ltp_ui.lengths.wording import (
    BEYOND,
    TITLES,
    WITHIN,
    amount,
    is_beyond_chance,
    quartiles,
    tokens,
)
from app.ltp_ui.shared.labels import task_label
from ltp_core.lengths.counts import LengthSet
from ltp_core.lengths.shift import (
    KL,
    MEASURES,
    TABLE_2,
    LengthShift,
    LengthSummary,
    Side,
    Table2Row,
    default_rule,
    evaluation_split,
    training_split,
)

NOTHING = "–"
OUR_ROWS = "Our rows, train | evaluation"
PAPER = ", paper"
"""In the names of columns and lines that hold the paper's numbers; the others are measured here."""


def summary_frame(shift: LengthShift, paper: Table2Row | None) -> pd.DataFrame:
    """Quartiles and extremes in tokens, a line a set; the paper's below, marked as such."""
    rows = [
        {"Set": name, "Inputs": f"{found.rows:,}", **_lengths(found)}
        for name, found in (("training", shift.train), ("evaluation", shift.evaluation))
    ]
    if paper is not None:
        for name, there in (("training", paper.train), ("evaluation", paper.evaluation)):
            rows.append({"Set": f"{name}{PAPER}, Table 2", **_quartiles(*map(str, there))})
    return pd.DataFrame(rows).fillna(NOTHING)


def _lengths(found: LengthSummary) -> dict[str, str]:
    return {
        "Shortest": tokens(found.least),
        **_quartiles(tokens(found.q1), tokens(found.q2), tokens(found.q3)),
        "99 %": tokens(found.p99),
        "Longest": tokens(found.greatest),
        "Mean": f"{found.mean:,.1f}",
    }


def _quartiles(q1: str, q2: str, q3: str) -> dict[str, str]:
    return {"Q1": q1, "Median": q2, "Q3": q3}


def measures_frame(shift: LengthShift, first: str) -> pd.DataFrame:
    """Each measure beside what chance alone gives; the chosen direction of KL on top."""
    assert shift.floors is not None
    rest = [measure for measure in MEASURES if measure != first]
    return pd.DataFrame(
        [
            {
                "Measure": TITLES[measure],
                "Measured": amount(measure, shift.measures[measure]),
                "By chance, median": amount(measure, shift.floors[measure].median),
                "By chance, 95 % below": amount(measure, shift.floors[measure].high),
                "Reading": BEYOND if is_beyond_chance(shift, measure) else WITHIN,
            }
            for measure in (first, *rest)
        ]
    )


def table_2(sets: Sequence[LengthSet]) -> pd.DataFrame:
    """The paper's lines in its order with ours beside them, then the tasks that it does not have."""
    tasks = {counts.name: counts for counts in sets if counts.is_task}
    rows = [_line(row.label, _pair(tasks.get(row.task), row.split), row) for row in TABLE_2]
    known = {row.task for row in TABLE_2}
    for name, counts in tasks.items():
        if name not in known:
            rows.append(_line(task_label(name), _pair(counts, evaluation_split(counts)), None))
    return pd.DataFrame(rows)


def _pair(counts: LengthSet | None, split: str | None) -> tuple[Side, Side] | None:
    if counts is None or split not in counts.splits:
        return None
    train = Side(counts=counts, split=training_split(counts))
    return train, Side(counts=counts, split=split)


def _line(name: str, pair: tuple[Side, Side] | None, paper: Table2Row | None) -> dict[str, str]:
    ours = dict.fromkeys(("train", "evaluation", "kl", "floor", "rows"), NOTHING)
    if pair is not None:
        shift = data.shift(*pair, default_rule(pair[0].counts))
        assert shift.floors is not None
        floor = shift.floors[KL]
        ours = {
            "train": quartiles(shift.train),
            "evaluation": quartiles(shift.evaluation),
            "kl": f"{shift.measures[KL]:.4f}",
            "floor": f"{floor.median:.4f} – {floor.high:.4f}",
            "rows": " | ".join(map(_rows, pair)),
        }
    return {
        "Task": name,
        "Train, ours": ours["train"],
        "Train, paper": " / ".join(map(str, paper.train)) if paper else NOTHING,
        "Evaluation, ours": ours["evaluation"],
        "Evaluation, paper": " / ".join(map(str, paper.evaluation)) if paper else NOTHING,
        "KL, ours": ours["kl"],
        "By chance": ours["floor"],
        "KL, paper": f"{paper.kl:.4f}" if paper else NOTHING,
        OUR_ROWS: ours["rows"],
    }


def _rows(side: Side) -> str:
    lengths = side.lengths
    rows = f"{lengths.counts.rows:,}"
    if lengths.published_rows is None or lengths.is_published:
        return rows
    is_part = lengths.counts.rows < lengths.published_rows
    return (
        f"{rows} of {lengths.published_rows:,}" if is_part else f"{rows}, not the published split"
    )
