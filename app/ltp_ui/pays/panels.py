"""What the page shows: the answer, what is missing, two pictures, the numbers, and how they came about."""

from __future__ import annotations

import dataclasses
import math
import shlex

import pandas as pd
import streamlit as st

from app.ltp_ui.pays import charts
from app.ltp_ui.pays.data import Asked, decide
from app.ltp_ui.shared import blocks, exports_panel, state
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.labels import run_label, task_label
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.wording import counted, duration, percent
from app.ltp_ui.throughput.data import short_processor
from ltp_core import store
from ltp_core.analysis.pays.accuracy import Change
from ltp_core.analysis.pays.decision import Decision
from ltp_core.analysis.pays.sentence import points, sentence
from ltp_core.analysis.pays.timing import Speed
from ltp_core.bench.noise import TOO_NOISY
from ltp_core.bench.variants import BASELINE, CONTROL, METHOD, SHUFFLED, VARIANTS
from ltp_core.files import json_text
from ltp_core.records import UserError
from ltp_core.tasks.catalogue import TASKS

SHOWN = (METHOD, CONTROL, BASELINE, SHUFFLED, "onnx_pruned_sorted", "onnx_sorted")
"""Variants that the picture has; the table has all."""
SPLIT_TITLES = {"validation": "validation", "heldout": "held-out rows"}


def answer(decision: Decision) -> None:
    """The answer in one sentence."""
    blocks.answer(plain(said(decision)))


def missing(decision: Decision) -> None:
    """What would have to be known to say more."""
    if decision.missing:
        lines = "\n".join(f"- {marked(each)}" for each in decision.missing)
        st.markdown(f"**What is missing to say more**\n\n{lines}")


def marked(sentence: str) -> str:
    """A sentence for a Markdown field; a command between backticks stays one."""
    parts = sentence.split("`")
    return " ".join(f"`{part}`" if i % 2 else plain(part) for i, part in enumerate(parts))


def said(decision: Decision) -> str:
    """The sentence, as it can be quoted."""
    timing, (task, _, split) = decision.timing, decision.lengths.partition("/")
    if timing is not None:
        timing = dataclasses.replace(timing, machine=short_processor(timing.machine))
    lengths = f"{task_label(task)} {split}" if task in TASKS else decision.lengths
    shown = dataclasses.replace(decision, timing=timing, lengths=lengths)
    return sentence(shown, title_of(decision.method))


def figures(decision: Decision, asked: Asked) -> None:
    """Before and after, as few numbers as there are questions."""
    cost, timing = decision.cost, decision.timing
    with st.container(horizontal=True):
        after = "" if cost.tokens_left is None else f" → {cost.tokens_left:.1f}"
        st.metric(
            "Tokens per text",
            f"{cost.tokens:.1f}{after}",
            width="content",
            help="Mean of the texts; behind the arrow what is left after a layer, mean over the layers.",
        )
        spent = cost.relative_flops["paper"]
        if not math.isnan(spent):
            st.metric("Relative FLOPs, paper", percent(spent), width="content")
        if timing is None:
            return
        speeds = [timing.speeds[name] for name in (CONTROL, METHOD)]
        about = (
            f"Packed runner at batch {timing.batch_size}, padding removed: nothing pruned → pruned."
        )
        _metric("Texts a second", [f"{each.texts_per_s:,.0f}" for each in speeds], about)
        _metric("Time per million", [duration(each.million_s, 1) for each in speeds], about)
        if asked.price is not None:
            costs = [f"{each.cost(asked.price):,.2f}" for each in speeds]
            _metric("Cost per million", costs, f"{about} At your {asked.price:g} an hour.")


def _metric(label: str, before_after: list[str], about: str) -> None:
    st.metric(label, " → ".join(before_after), width="content", help=about)


def pictures(decision: Decision) -> None:
    """Time of a million texts, and the change of accuracy with its interval."""
    times, changes = time_frame(decision), change_frame(decision)
    if len(times):
        timing = decision.timing
        assert timing is not None
        st.markdown(f"**Time, batch {timing.batch_size}**")
        alt = "; ".join(f"{row.title}: {row.label}" for row in times.itertuples())
        show(charts.time_chart(times), alt=f"Time of a million texts. {alt}.")
        st.caption(plain(f"{timing.machine}, benchmark {timing.bench}"))
    if len(changes):
        metric = next(iter(decision.changes.values())).metric.replace("_", " ")
        st.markdown(f"**Change of {plain(metric)}**")
        alt = "; ".join(f"{row.title}: {row.label}" for row in changes.itertuples())
        show(charts.change_chart(changes), alt=f"Points against the dense counterpart. {alt}.")
        st.caption(
            "Lines: the 95 % interval of a paired bootstrap, where every example was recorded."
        )


def time_frame(decision: Decision) -> pd.DataFrame:
    """Rows of the picture of time."""
    timing = decision.timing
    rows = [
        {
            "title": _title(speed),
            "kind": charts.PRUNED if _prunes(speed) else charts.NOT_PRUNED,
            "minutes": speed.million_s / 60,
            "label": duration(speed.million_s, 1),
        }
        for name, speed in (timing.speeds.items() if timing else ())
        if name in SHOWN or name not in VARIANTS
    ]
    return pd.DataFrame(rows, columns=["title", "kind", "minutes", "label"])


def _prunes(speed: Speed) -> bool:
    return speed.variant in VARIANTS and VARIANTS[speed.variant].is_pruned


def _title(speed: Speed) -> str:
    return speed.title if speed.variant in VARIANTS else _run_title(speed.variant)


def _run_title(run: str) -> str:
    try:
        return run_label(store.read_manifest(store.find_run(run)))
    except UserError:
        return run


def _who(decision: Decision) -> list[tuple[str, str, dict[str, Change]]]:
    """Who is compared with the dense counterpart: title, run and changes by split."""
    found = [(title_of(decision.method), decision.records or decision.checkpoint, decision.changes)]
    control = decision.shallow
    if control is not None:
        title = f"{control.layers} of {control.num_layers} layers"
        found.append((title, control.run, control.changes))
    return found


def change_frame(decision: Decision) -> pd.DataFrame:
    """Rows of the picture of accuracy, in points."""
    rows = []
    for title, _, changes in _who(decision):
        for split, change in changes.items():
            gap = change.difference
            if gap is None:
                continue
            rows.append(
                {
                    "title": f"{title}, {SPLIT_TITLES.get(split, split)}",
                    "split": split,
                    "value": 100 * gap.value,
                    "low": 100 * (gap.value if math.isnan(gap.low) else gap.low),
                    "high": 100 * (gap.value if math.isnan(gap.high) else gap.high),
                    "label": points(gap),
                }
            )
    return pd.DataFrame(rows, columns=["title", "split", "value", "low", "high", "label"])


def numbers(decision: Decision, asked: Asked) -> None:
    """Both tables, their exports, and the command."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Numbers", anchor=False)
        with st.popover("Export", icon=":material/download:"):
            whole = dataclasses.asdict(decision) | {"sentence": said(decision)}
            document: exports_panel.Files = {
                "JSON": ("json", "application/json", lambda: json_text(whole).encode())
            }
            speeds = exports_panel.frame_files(speed_frame(decision, asked.price))
            rows = {"Decision": document, "Speeds": speeds}
            caption = [said(decision)]
            if len(times := time_frame(decision)):
                figure = charts.time_chart(times)
                rows["Time picture"] = exports_panel.chart_files(figure, caption=caption)
            if len(changes := change_frame(decision)):
                figure = charts.change_chart(changes)
                rows["Accuracy picture"] = exports_panel.chart_files(figure, caption=caption)
            for title, files in rows.items():
                exports_panel.row(title, decision.checkpoint, files, key="pays.export")
    if decision.timing is not None:
        frame = speed_frame(decision, asked.price)
        st.dataframe(
            frame, hide_index=True, column_config=_SPEED_CONFIG, alt="Speed and cost by variant."
        )
    st.table(
        accuracy_frame(decision),
        hide_index=True,
        border="horizontal",
        alt="Accuracy by run and split.",
    )
    cost = decision.cost
    shares = ", ".join(f"{percent(x)} ({name})" for name, x in cost.relative_flops.items())
    st.caption(
        plain(
            f"{counted(cost.texts, 'text')} of {cost.tokens:.1f} tokens; FLOPs that are left: {shares}."
        )
    )
    command = ["pays", asked.run, *asked.strength.arguments]
    if asked.price is not None:
        command += ["--price", f"{asked.price:g}"]
    if asked.lengths is not None:
        command += ["--lengths", asked.lengths.name if asked.lengths.task else "YOUR_FILE"]
    st.code(f"python -m ltp_core {shlex.join(command)}", language="bash", wrap_lines=True)


def speed_frame(decision: Decision, price: float | None) -> pd.DataFrame:
    """Every way to run the texts."""
    timing = decision.timing
    rows = []
    for speed in timing.speeds.values() if timing else ():
        row = {
            "Variant": _title(speed),
            "Texts/s": speed.texts_per_s,
            "Minutes per million": speed.million_s / 60,
            "Time saved": saved_text(speed),
        }
        rows.append(row | ({} if price is None else {"Cost per million": speed.cost(price)}))
    return pd.DataFrame(rows)


def saved_text(speed: Speed) -> str:
    """What pruning saves of the same engine's time, with the quartiles over the rounds."""
    if speed.saved is None:
        return TOO_NOISY if speed.is_noisy else ""
    low, high = (f"{100 * x:.0f}" for x in (speed.saved.low, speed.saved.high))
    return f"{percent(speed.saved.value, 0)} ({low}–{high})"


_SPEED_CONFIG = {
    "Variant": st.column_config.TextColumn(width=170),
    "Texts/s": st.column_config.NumberColumn(format="%.0f", width=60),
    "Minutes per million": st.column_config.NumberColumn(format="%.1f", width=115),
    "Time saved": st.column_config.TextColumn(
        help="Of the same engine with nothing pruned; quartiles over the rounds.", width=105
    ),
    "Cost per million": st.column_config.NumberColumn(format="%.3f", width=105),
}


def accuracy_frame(decision: Decision) -> pd.DataFrame:
    """Metric of the checkpoint and its shallower control on each split."""
    return pd.DataFrame(
        [
            {
                "": title,
                "Run": run,
                "Rows": f"{SPLIT_TITLES.get(split, split)}, {change.rows:,}",
                "Metric": f"{change.metric.replace('_', ' ')} {percent(change.value)}",
                "To the dense counterpart": points(change.difference)
                if change.difference
                else "not known",
            }
            for title, run, changes in _who(decision)
            for split, change in changes.items()
        ]
    )


def how() -> None:
    """Where every figure comes from."""
    with st.expander("How this is computed"):
        st.markdown(
            "**FLOPs and tokens** are counted from the checkpoint's records of every evaluated example, "
            "in ten bands of length: a text costs the share that the rows of its band did. "
            "**Accuracy** is that of the checkpoint's own task, against the *dense counterpart*: the same "
            "data, epochs and distillation, nothing pruned. Budgets are looked up on held-out rows, and "
            "figures reported on validation.\n\n"
            "**Time** is always measured: the median over the rounds of a stored benchmark, in which "
            "pruning and the same engine with nothing pruned take turns; padding is removed in both. For "
            "texts of other lengths than those it ran, speeds are multiplied by the ratio of counted "
            "FLOPs, and the page says so. Exported files finish only the first token in the last layer "
            "where they prune. **Cost** is time times your price; tokenising is left out.\n\n"
            "The **shallower model** is the finetuned first layers of the same base, nearest in FLOPs, "
            "trained on the same rows with the same kind of adapter, against the same counterpart."
        )


def summary(run: str) -> None:
    """The same in short, on the page of a run."""
    try:
        decision = decide(Asked(run=run))
    except UserError as error:
        st.caption(plain(str(error)))
        return
    st.markdown(plain(said(decision)))
    for each in decision.missing:
        st.caption(marked(each))
    st.page_link(
        state.PAYS,
        label="Other lengths, machines and prices",
        icon=":material/savings:",
        query_params={state.CHECKPOINT: run},
    )
