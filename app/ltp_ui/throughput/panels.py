"""What the throughput page shows: a measurement under way, and a finished one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import streamlit as st

from app.ltp_ui.shared import blocks, exports_panel
from app.ltp_ui.shared.blocks import show
from app.ltp_ui.shared.boundary import plain
from app.ltp_ui.shared.charts import Figure
from app.ltp_ui.shared.jobs import Job
from app.ltp_ui.shared.method_style import title_of
from app.ltp_ui.shared.wording import counted, percent
from app.ltp_ui.throughput import charts, data
from app.ltp_ui.throughput.data import RATIOS, Bench, Who, short_machine
from app.ltp_ui.throughput.export import bench_csv, bench_json
from ltp_core.analysis.pays.timing import is_here
from ltp_core.bench.noise import FEWEST_ROUNDS, NOISY_FIGURE, TOO_NOISY
from ltp_core.bench.variants import CONTROL, METHOD

MOST_COMPARED = 6


def progress(job: Job) -> None:
    """One look at the measurement: how far it is, and bars of what it has."""
    state = job.state
    if not job.is_recent:
        return
    if state == "failed":
        st.error(plain(job.error or ""), title="The measurement failed", icon=":material/error:")
        if st.button("Dismiss", icon=":material/close:"):
            job.forget()
            st.rerun()
    elif state == "stopped":
        st.info(
            "Stopped. The same measurement, started again, goes on from what is finished.",
            icon=":material/pause_circle:",
        )
    elif state == "running":
        _running(job)


def _running(job: Job) -> None:
    events = job.events()
    with st.container(border=True):
        share = data.progress(events)
        text = f"Measuring: {percent(share, 0)}" if events else "Loading the models"
        st.progress(share, text=f"{text}, {job.elapsed_s:.0f} s")
        frame = data.live_table(events)
        if len(frame):
            show(charts.live_chart(frame), alt="Speed of each variant so far.")


def nothing_yet(what: str) -> None:
    """The state of a fresh store: the paper's figures, tagged as such, and what to do."""
    st.info(
        "Press Measure below; a minute is enough for a first look.",
        title="Nothing measured here yet",
        icon=":material/speed:",
    )
    if what == "topk":
        said = ", ".join(f"{x}× at {n} tokens" for n, x in charts.PAPER_TOPK)
        st.caption(f"paper, Figure A.1: top-k takes up to {said} (Haswell CPU, batch 32).")
    else:
        said = ", ".join(f"{x}× on {task}" for task, x in charts.PAPER_THROUGHPUT)
        st.caption(f"paper, Figure 6: up to about {said} (RoBERTa-base, CPU and GPU).")


def answer(bench: Bench, of_another: str) -> dict[str, Figure]:
    """The answer in a sentence, and the pictures; before them, if need be, that it is of another model.

    Returns:
        The pictures, by what they are called in an export.
    """
    if of_another:
        st.info(plain(of_another), icon=":material/compare_arrows:")
    if sentence := headline(bench):
        blocks.answer(plain(sentence))
    st.caption(f"{plain(bench.subject)} · {plain(bench.machine)}")
    draw = {"throughput": _throughput, "scaling": _scaling, "topk": _topk}[bench.what]
    figures = draw(bench)
    _warnings(bench)
    return figures


def headline(bench: Bench) -> str:
    """What a person comes for: speed, ratio to what everybody uses, and what padding alone is worth."""
    if bench.what == "topk":
        return _topk_headline(bench)
    # The largest batch, or the longest texts, of which a ratio is known.
    known = bench.frame[(bench.frame["contender"] == METHOD) & bench.frame[bench.relative].notna()]
    place = known["place"].iloc[-1] if len(known) else bench.places[-1]
    frame = bench.frame[bench.frame["place"] == place]
    rows = {row["contender"]: row for _, row in frame.iterrows()}
    if METHOD not in rows:
        return ""
    packed, control = rows[METHOD], rows.get(CONTROL)
    method = title_of(bench.variants[METHOD].method) if bench.variants[METHOD].method else "this"
    where = "On this machine" if is_here(bench.document) else f"On {short_machine(bench)}"
    speed = packed["sequences_per_s"]
    shown = f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}"
    sentence = f"{where}, {method} scores {shown} texts a second ({place})"
    if pd.isna(packed[bench.relative]):
        return f"{sentence}; how that compares with Hugging Face is {_why_not(bench)}."
    sentence += f", {packed[bench.relative]:.1f} times {bench.baseline}"
    if control is None or pd.isna(control[bench.relative]):
        return f"{sentence}."
    alone = control[bench.relative]
    if pd.isna(packed["length"]):
        return f"{sentence}; removing the padding alone gives {alone:.1f} times."
    return f"{sentence}; the same runner with nothing pruned gives {alone:.1f} times."


def _why_not(bench: Bench) -> str:
    """Why a ratio is not there."""
    is_noisy = bool(bench.noisy[["relative_to_sorted", "relative_throughput"]].any(axis=None))
    return TOO_NOISY if is_noisy else "not measured here"


def _topk_headline(bench: Bench) -> str:
    part = bench.frame[bench.frame["contender"] == "topk"]
    part = part[part["slowdown"].notna()]
    if not len(part):
        return ""
    low, high = part["slowdown"].min(), part["slowdown"].max()
    return f"Choosing the k best tokens takes {low:.1f} to {high:.1f} times as long as a threshold."


def details(bench: Bench, found: Sequence[Bench], figures: Mapping[str, Figure]) -> None:
    """The table, other results beside this one, and how it was measured; `figures` can be exported."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.header("Numbers", anchor=False)
        _export(bench, figures)
    table, hidden = numbers(bench), _on_demand(bench)
    st.dataframe(
        table,
        hide_index=True,
        column_order=[name for name in map(str, table) if name not in hidden],
        column_config={
            name: st.column_config.Column(width=150 if name == "Variant" else 80)
            for name in map(str, table)
        },
        alt="Every measurement of this result.",
    )
    if bench.noisy.any(axis=None):
        st.caption(
            f"“{TOO_NOISY}”: fewer than {FEWEST_ROUNDS} rounds, or quartiles over the rounds further "
            f"apart than {percent(NOISY_FIGURE, 0)} of the median. Measure again for longer, or when "
            "the machine is quiet."
        )
    if bench.what != "topk":
        controls_note(bench)
    _compare(bench, found)
    with st.expander("How this is computed"):
        st.markdown(
            "All variants take turns within a round, so that a machine whose speed drifts slows them "
            "alike; ratios are taken within rounds. Figures are medians, in brackets the quartiles. "
            "Tokenising is left out."
        )
        st.json(_provenance(bench), expanded=2)


def _warnings(bench: Bench) -> None:
    if bench.warning:
        st.warning(
            f"{plain(bench.warning[0].upper() + bench.warning[1:])}.",
            title="Noisy machine",
            icon=":material/graphic_eq:",
        )
    if bench.num_skipped:
        st.caption(f"The time limit left out {counted(bench.num_skipped, 'measurement')}.")


def _throughput(bench: Bench) -> dict[str, Figure]:
    figures = {}
    has_bars = bench.frame["speedup"].notna().any()
    # One batch size is no line: its bars say all, where pruning was measured against its control.
    has_lines = len(bench.places) > 1 or not has_bars
    if has_lines:
        st.markdown("**Speed by batch size**")
        figures["Speed by batch size"] = lines = charts.throughput_chart(bench)
        about = f"Throughput relative to {bench.baseline} by batch size."
        show(lines, alt=f"{about} {headline(bench)}")
    if has_bars:
        st.markdown("**Speed: promised by the FLOPs, and measured**")
        place = bench.places[-1] if len(bench.places) == 1 else _choose_place(bench)
        figures["Speed promised and measured"] = bars = charts.promise_chart(bench, place)
        said = summary(bench, place)
        show(bars, alt=f"Measured and promised speed at {place}. {said}")
        st.markdown(said)
    return figures


def _choose_place(bench: Bench) -> str:
    """One of several batch sizes and lengths; the last one until another is chosen."""
    last = bench.places[-1]
    chosen = st.segmented_control(
        "At",
        bench.places,
        default=last,
        required=True,
        key=f"throughput.at.{bench.name}",
        label_visibility="collapsed",
    )
    return chosen or last


def summary(bench: Bench, place: str | None = None) -> str:
    """What pruning itself is worth, beside what its FLOPs promise."""
    place = place or bench.places[-1]
    frame = bench.frame[bench.frame["place"] == place]
    rows = {row["contender"]: row for _, row in frame.iterrows()}
    packed = rows.get(METHOD)
    if packed is None or pd.isna(packed["theoretical_speedup"]):
        return ""
    promised = packed["theoretical_speedup"]
    if pd.isna(packed["speedup"]):
        return (
            f"At {place}, the FLOPs promise {promised:.2f} times the speed of the packed runner with "
            f"nothing pruned; what comes of it is {TOO_NOISY}."
        )
    sentence = (
        f"At {place}, pruning makes the packed runner {packed['speedup']:.2f} times as fast; the FLOPs "
        f"promise {promised:.2f} times"
    )
    if packed["realised_share"] <= 1:  # more than all of it is noise
        low, high = (percent(packed[f"realised_share_{q}"], 0) for q in ("q1", "q3"))
        share = percent(packed["realised_share"], 0)
        spread = f" (quartiles {low} to {high})" if low != high else ""
        sentence += f", of which {share} becomes time{spread}"
    sentence += "."
    if not (pd.isna(packed["ceiling_speedup"]) or pd.isna(packed["ceiling_share"])):
        sentence += (
            f" The same matrix products alone become {packed['ceiling_speedup']:.2f} times as fast, so "
            f"that is {percent(packed['ceiling_share'], 0)} of what is possible."
        )
    return sentence


def controls_note(bench: Bench) -> None:
    """Who the controls are, and which is missing."""
    lines = [_described(who) for who in bench.variants.values()]
    st.caption("  \n".join(lines))
    if not any(who.method == "shallow" for who in bench.variants.values()):
        st.caption(
            ":orange[:material/info:] The second control, a shallower model of the same cost, did not "
            "take part: name one under Other checkpoints."
        )


def _described(who: Who) -> str:
    quality = f" ({plain(who.quality)} on validation)" if who.quality else ""
    return f"**{plain(who.title)}**: {plain(who.meaning)}{quality}"


def _scaling(bench: Bench) -> dict[str, Figure]:
    st.header("Time against the length", anchor=False)
    largest = int(bench.frame["batch_size"].max())
    figure = charts.length_chart(bench, largest)
    said = summary(bench)
    show(figure, alt=f"Milliseconds per sequence by length at batch {largest}. {said}")
    st.markdown(said)
    st.caption(
        f"Batch {largest}. Dotted: the time that the executed FLOPs would take at the rate of a plain "
        "matrix product on the same machine."
    )
    return {"Time by length": figure}


def _topk(bench: Bench) -> dict[str, Figure]:
    st.header("Top-k against a threshold", anchor=False)
    names = [name for name in bench.variants if name != "threshold"]
    titles = {"topk": "positions of the best", "topk_mask": "a mask of the best"}
    selection = st.segmented_control(
        "Top-k gives",
        names,
        default=names[0],
        required=True,
        format_func=lambda name: titles.get(name, name),
        key=f"throughput.selection.{bench.name}",
    )
    figure = charts.topk_chart(bench, selection or names[0])
    show(
        figure,
        alt="Time of top-k over the time of a comparison, by length and share of tokens kept.",
    )
    st.caption(
        "The selection alone, without the network around it. A comparison reads each score once, "
        "whatever share passes. PyTorch's implementation on this machine, not the paper's."
    )
    return {"Top-k by length": figure}


def _compare(bench: Bench, found: Sequence[Bench]) -> None:
    """Other results of the same kind beside this one."""
    others = [other for other in found if other.name != bench.name]
    if not others:
        return
    st.header("Compared with other results", anchor=False)
    by_name = {other.name: other for other in others}
    chosen = st.multiselect(
        "Compare with",
        list(by_name),
        format_func=lambda name: by_name[name].title,
        max_selections=MOST_COMPARED,
        key="throughput.compare",
        persist_state="session",
    )
    picked = [bench, *(by_name[name] for name in chosen if name in by_name)]
    if len(picked) < 2:
        return
    figures = (
        ("slowdown",) if bench.what == "topk" else ("sequences_per_s", bench.relative, "speedup")
    )
    figure = st.segmented_control(
        "Figure",
        figures,
        default=figures[0],
        required=True,
        format_func=lambda name: name.replace("_", " ").replace("per s", "per second"),
        key=f"throughput.figure.{bench.what}",
    )
    variant = "topk" if bench.what == "topk" else "packed"
    show(
        charts.machines_chart(picked, variant, figure or figures[0]),
        alt=f"{counted(len(picked), 'result')} side by side.",
    )
    for index, each in enumerate(picked, start=1):
        st.caption(f"{index}: {plain(each.title)}")


NUMBER_COLUMNS = {
    "place": "Measured at",
    "retain_ratio": "Kept",
    "title": "Variant",
    "rounds": "Rounds",
    "sequences": "Sequences per round",
    "sequences_per_s": "Sequences/s",
    "quartiles": "Quartiles",
    "relative_to_sorted": "× Hugging Face, sorted",
    "relative_throughput": "× Hugging Face, shuffled",
    "speedup": "× packed, unpruned",
    "theoretical_speedup": "× by FLOPs",
    "realised_share": "Realised",
    "gflops_per_s": "GFLOP/s",
    "matmul_share": "Share of a matrix product's rate",
    "equal_predictions": "Answers as in float32",
    "time_us": "µs",
    "slowdown": "× threshold",
}

SHOWN_NUMBERS = (
    *("retain_ratio", "title", "sequences_per_s", "speedup", "theoretical_speedup"),
    *("time_us", "slowdown"),
)
"""What the table shows of them at once, besides the speed relative to Hugging Face."""


def numbers(bench: Bench) -> pd.DataFrame:
    """The results as people read them, without columns that are empty."""
    frame = bench.frame
    value = "time_us" if bench.what == "topk" else "sequences_per_s"
    shown = frame.assign(
        title=[bench.variants[name].title for name in frame["contender"]],
        quartiles=[
            f"{q1:.1f}–{q3:.1f}"
            for q1, q3 in zip(frame[f"{value}_q1"], frame[f"{value}_q3"], strict=True)
        ],
        gflops_per_s=frame["flops_per_s"] / 1e9,
        matmul_share=_shares(frame["flops_per_s"] / (bench.matmul_flops_per_s or float("nan"))),
        realised_share=pd.Series([_share(row) for _, row in frame.iterrows()], dtype=object),
        equal_predictions=_shares(frame["equal_predictions"], digits=1),
        retain_ratio=_shares(frame["retain_ratio"]),
    )
    for ratio in set(RATIOS) & set(NUMBER_COLUMNS):
        if bench.noisy[ratio].any():
            texts = shown[ratio].map(
                lambda x: x if isinstance(x, str) or pd.isna(x) else f"{x:.2f}"
            )
            shown[ratio] = texts.astype(object).mask(bench.noisy[ratio], TOO_NOISY)
    kept = [name for name in NUMBER_COLUMNS if shown[name].notna().any()]
    return shown[kept].round(2).rename(columns=NUMBER_COLUMNS)


def _on_demand(bench: Bench) -> set[str]:
    """Columns that the table's menu shows: they have no room on a small screen."""
    shown = {*SHOWN_NUMBERS, bench.relative, *(["place"] if len(bench.places) > 1 else [])}
    return {title for name, title in NUMBER_COLUMNS.items() if name not in shown}


def _share(row: pd.Series[Any]) -> str | None:
    """The realised share with its quartiles; what is above 100 % says no more than that it is all."""
    if pd.isna(row["realised_share"]):
        return None
    if row["realised_share"] > 1:
        return "all"
    low, high = (f"{100 * row[f'realised_share_{q}']:.0f}" for q in ("q1", "q3"))
    return f"{percent(row['realised_share'], 0)} ({low}–{high})"


def _shares(values: pd.Series[float], digits: int = 0) -> pd.Series[Any]:
    return values.map(lambda value: percent(value, digits) if pd.notna(value) else None)


def _provenance(bench: Bench) -> dict[str, Any]:
    keys = ("created_at", "settings", "environment", "noise", "git")
    return {key: bench.document.get(key) for key in keys}


def _export(bench: Bench, figures: Mapping[str, Figure]) -> None:
    with st.popover("Export", icon=":material/download:"):
        rows: dict[str, exports_panel.Files] = {
            "Measurements": {
                "JSON": ("json", "application/json", lambda: bench_json(bench)),
                "CSV": ("csv", "text/csv", lambda: bench_csv(bench)),
            }
        }
        caption = (bench.subject, bench.machine)
        for title, figure in figures.items():
            rows[title] = exports_panel.chart_files(figure, width=720, caption=caption)
        for title, files in rows.items():
            exports_panel.row(title, bench.name, files, key="throughput.export")
