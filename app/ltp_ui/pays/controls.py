"""What a user sets on the page: checkpoint, lengths, machine, price, and a measurement here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import streamlit as st

from app.ltp_ui.explore.controls import choose_checkpoint
from app.ltp_ui.lengths import data as lengths_data
from app.ltp_ui.lengths import job, own, uploads
from app.ltp_ui.lengths.data import TokenizerChoice
from app.ltp_ui.pays.data import OWN_ROWS, Asked
from app.ltp_ui.shared import blocks, jobs, state, strength
from app.ltp_ui.shared.boundary import boundary, plain
from app.ltp_ui.shared.strength import Strength
from app.ltp_ui.throughput import controls as throughput_controls
from app.ltp_ui.throughput import panels as throughput_panels
from app.ltp_ui.throughput.data import machine
from ltp_core import store
from ltp_core.analysis.pays.cost import Lengths
from ltp_core.analysis.pays.decision import Decision
from ltp_core.analysis.pays.timing import batch_sizes, benches_of
from ltp_core.bench.results import BenchEntry
from ltp_core.bench.variants import VARIANTS, missing
from ltp_core.budget import elastic_curve
from ltp_core.checkpoint_places import checkpoint_folder, holds_weights
from ltp_core.checkpoint_tokenizer import tokenizer_facts
from ltp_core.lengths.counts import LengthCounts
from ltp_core.lengths.sources import stated_lengths
from ltp_core.records import UserError

if TYPE_CHECKING:
    from streamlit.runtime.uploaded_file_manager import UploadedFile

LENGTHS, BENCH, BATCH, PRICE = "pays.lengths", "pays.bench", "pays.batch", "pays.price"
STATED = "pays.stated"
FILE = "file: "
"""What a file of numbers is called begins so."""
MEASURED = ("packed", "packed_unpruned", "hugging_face_sorted", "onnx_sorted", "onnx_pruned_sorted")
"""What a measurement from this page compares: pruning and its control, in two engines, and today's way."""
BEST = "best"
"""Stands for the best evidence, whichever that is by now."""


def ask() -> Asked | None:
    """Checkpoint, strength, lengths and price; None where there is no checkpoint."""
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    with left:
        name = choose_checkpoint()
    if name is None:
        blocks.no_checkpoint()
        return None
    folder = checkpoint_folder(name)
    with middle:
        lengths, key = _lengths(folder.name)
    with right:
        price = st.number_input(
            "Price of a machine hour",
            min_value=0.0,
            value=None,
            step=0.1,
            key=PRICE,
            bind="query-params",
            placeholder="your number",
            help="In any currency. It is nobody's list price: the cost of a million texts below is your "
            "number times the measured time.",
        )
    pruned = _strength(folder.name)
    return Asked(run=folder.name, strength=pruned, lengths=lengths, key=key, price=price)


def _strength(run: str) -> Strength:
    folder = checkpoint_folder(run)
    curve = elastic_curve(folder)
    if curve is None:
        return Strength()
    return strength.choose(curve, folder, store.read_manifest(folder).dense, "pays")


# ---- lengths ----


def _lengths(run: str) -> tuple[Lengths | None, str]:
    """The chosen lengths, and what changes with them."""
    sets, _ = lengths_data.stored_sets(tokenizer_facts(run))
    job.take_over(sets)
    own.take_over()
    for counted in (lengths_data.EVALUATION, lengths_data.TRAIN):
        # What was counted just now is shown.
        if (label := st.session_state.pop(counted, None)) is not None:
            st.session_state[LENGTHS] = label
    sides = lengths_data.sides_of(sets)
    stated: dict[str, LengthCounts] = st.session_state.get(STATED, {})
    options = [OWN_ROWS, *stated, *sides]
    if st.session_state.get(LENGTHS) not in (None, *options):
        del st.session_state[LENGTHS]
    chosen = st.selectbox(
        "Lengths of the texts",
        options,
        key=LENGTHS,
        bind="query-params",
        help="Its own rows, those that were counted with its tokenizer, or your own: count them below.",
    )
    if chosen in stated:
        counts = stated[chosen]
        key = f"{chosen} {counts.length.tolist()} {counts.count.tolist()}"
        return Lengths(name=chosen.removeprefix(FILE).rpartition(" (")[0], counts=counts), key
    if chosen not in sides:
        return None, ""
    side = sides[chosen]
    task = side.counts.name if side.counts.is_task else None
    found = Lengths(name=side.name, counts=side.lengths.counts, task=task, split=side.split)
    return found, f"{chosen} {side.lengths.sha256} {side.lengths.counts.rows}"


def other_lengths(run: str) -> None:
    """Own texts, counted in the background, or a file that states their lengths."""
    with st.expander("Other lengths: your own texts or numbers", icon=":material/straighten:"):
        with boundary("Reading the lengths"):
            file = st.file_uploader(
                "A number of tokens a line (.txt, .csv)",
                type=["txt", "csv", "tsv"],
                key="pays.numbers",
                help="Numbers are taken as they are, special tokens included; nothing is stored.",
            )
            if file is not None:
                _take_numbers(file)
        st.markdown("Or texts:")
        with boundary("Counting"):
            own.panel(TokenizerChoice(checkpoint=run, facts=tokenizer_facts(run)))


def _take_numbers(file: UploadedFile) -> None:
    """Adds stated lengths once, and shows them."""
    known: dict[str, LengthCounts] = st.session_state.setdefault(STATED, {})
    name = f"{FILE}{file.name} ({file.file_id[:6]})"
    if name in known:
        return
    place = uploads.new_place(file)
    try:
        uploads.save(file, place)
        counts = stated_lengths(place)
    finally:
        uploads.forget(place)
    if counts is None:
        raise UserError(f"{file.name} does not hold a number a line: give texts below.")
    st.session_state[STATED] = {**known, name: counts}
    # The selector is drawn above: it takes this in the next run.
    st.session_state[lengths_data.EVALUATION] = name
    st.rerun()


# ---- machine ----


def choose_bench(decision: Decision, lengths: Lengths | None) -> tuple[str | None, int | None]:
    """Which stored benchmark speaks, and at which batch size; None takes the best evidence."""
    found = benches_of(decision.records, lengths) if decision.records else []
    by_name = {entry.name: entry for entry in found}
    if (linked := state.adopt(BENCH)) in by_name:
        st.session_state[BENCH] = linked
    elif st.session_state.get(BENCH) not in (None, BEST, *by_name):
        del st.session_state[BENCH]
    if not found:
        return None, None
    # Without a choice, the benchmark that the decision took by itself.
    best = by_name.get(decision.timing.bench, found[0]) if decision.timing else found[0]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.selectbox(
            "Machine",
            [BEST, *by_name],
            format_func=lambda name: (
                _title(by_name[name]) if name in by_name else f"{_title(best)} (best evidence)"
            ),
            key=BENCH,
            help="Benchmarks of this checkpoint: of this machine first, then of these lengths.",
        )
        entry = by_name.get(chosen, best)
        sizes = batch_sizes(entry)
        if st.session_state.get(BATCH) not in (None, *sizes):
            del st.session_state[BATCH]
        size = st.selectbox(
            "Batch size",
            sizes,
            index=sizes.index(32) if 32 in sizes else len(sizes) - 1,
            key=BATCH,
            bind="query-params",
            width=140,
        )
    state.publish(BENCH, chosen if chosen in by_name else None)
    return (chosen if chosen in by_name else None), size


def _title(entry: BenchEntry) -> str:
    document = entry.document or {}
    texts = document.get("task") or "texts"
    return f"{machine(document)} · {texts} · {str(document.get('created_at'))[:10]}"


def measure_here(decision: Decision) -> None:
    """Starts the benchmark of this checkpoint as a job, and shows it."""
    run = decision.records
    jobs.poll(throughput_controls.KIND, throughput_panels.progress)
    if run is None or not holds_weights(checkpoint_folder(run)):
        return
    arguments = bench_arguments(run, decision)
    running = jobs.running()
    if running is not None and running.kind == throughput_controls.KIND:
        if st.button("Stop", icon=":material/stop:", key="pays.stop"):
            running.stop()
            st.rerun()
        return
    if st.button(
        "Measure here",
        icon=":material/play_arrow:",
        disabled=running is not None,
        help="About a minute: " + plain("python -m ltp_core " + jobs.typed(arguments)),
    ):
        with boundary("The measurement"):
            if jobs.start(throughput_controls.KIND, [*arguments, "--events"]).is_joined:
                st.toast(jobs.JOINED)
            st.rerun()


def bench_arguments(run: str, decision: Decision) -> Sequence[str]:
    """Of the command `bench`, for the variants that can run here and the shallower control."""
    variants = [name for name in MEASURED if missing(VARIANTS[name]) is None]
    arguments = ["bench", run, "--quick", "--batch-sizes", "1,32"]
    arguments += ["--variants", ",".join(variants)]
    control = decision.shallow
    if control is not None and holds_weights(checkpoint_folder(control.run)):
        arguments += ["--against", control.run]
    return arguments
