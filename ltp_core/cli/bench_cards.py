"""What `bench` prints."""

from __future__ import annotations

from typing import Any

from ltp_core.bench.noise import TOO_NOISY, is_too_noisy
from ltp_core.cli.base import columns, percent

_HEADER = (
    "batch",
    "length",
    "variant",
    "rounds",
    "sequences/s (quartiles)",
    "to HF sorted",
    "to HF shuffled",
    "to packed, unpruned",
    "by FLOPs",
    "realised",
)


def throughput_card(document: dict[str, Any]) -> str:
    """Every variant at every place, what each is, and what else was found."""
    lines = [
        f"{document['checkpoint']} on {document['task'] or 'no task'}/"
        f"{document['settings']['split']} ({document['texts']})",
        *_machine(document),
        "",
        columns(_HEADER, [_row(line, document) for line in document["results"]]),
        "",
        *(f"{who['title']}: {who['meaning']}" for who in document["contenders"].values()),
    ]
    # What the matrix products alone allow, where they took part.
    lines += [
        f"batch {line['batch_size']}: the same matrix products alone become "
        f"{_times(line['ceiling_speedup'])} as fast; {percent(line['ceiling_share'], 0)} of that is "
        "realised"
        for line in document["results"]
        if not is_too_noisy(line, "ceiling_share")
    ]
    # What coarser numbers do to the answers; where the texts have labels, how good these are in both.
    for line in document["results"]:
        if "equal_predictions" in line:
            lines.append(
                f"batch {line['batch_size']}, {document['contenders'][line['contender']]['title']}: "
                f"{percent(line['equal_predictions'])} of {line['sequences']} predictions are those of "
                "float32"
            )
        if "metric" in line:
            theirs = percent(line["reference_metric"])
            lines[-1] += f"; metric {percent(line['metric'])}, there {theirs}"
    return "\n".join(lines + _notes(document))


def _machine(document: dict[str, Any]) -> list[str]:
    machine, noise = document["environment"], document["noise"]
    processor = machine.get("accelerator") or machine["processor"]
    rate = noise["matmul_flops_per_s"] / 1e9
    return [
        f"{processor}, {machine['threads']} threads, {machine['device']}, "
        f"{document['settings']['dtype']}; matrix products reach {rate:,.0f} GFLOP/s; identical work "
        f"varied by {percent(noise['identical_work_spread'])}"
    ]


def _row(line: dict[str, Any], document: dict[str, Any]) -> tuple[str, ...]:
    speed = f"{line['sequences_per_s']:.0f}"
    quartiles = f"{line['sequences_per_s_q1']:.0f}–{line['sequences_per_s_q3']:.0f}"
    length = str(line["length"]) if line["length"] else f"data, {line['mean_length']:.0f}"
    return (
        str(line["batch_size"]),
        length,
        document["contenders"][line["contender"]]["title"],
        f"{line['rounds']} × {line['sequences']}",
        f"{speed} ({quartiles})",
        _measured(line, "relative_to_sorted"),
        _measured(line, "relative_throughput"),
        _measured(line, "speedup"),
        _times(line.get("theoretical_speedup")),
        _realised(line),
    )


def _measured(line: dict[str, Any], figure: str) -> str:
    """A ratio, unless it is too noisy."""
    if line.get(figure) is None:
        return "–"
    return TOO_NOISY if is_too_noisy(line, figure) else _times(line[figure])


def _realised(line: dict[str, Any]) -> str:
    """The share with its quartiles: above 100 % it is a matter of these."""
    if line.get("realised_share") is None:
        return "–"
    if is_too_noisy(line, "realised_share"):
        return TOO_NOISY
    low, high = (f"{100 * line[f'realised_share_{q}']:.0f}" for q in ("q1", "q3"))
    return f"{percent(line['realised_share'], 0)} ({low}–{high})"


def _times(ratio: float | None) -> str:
    return "–" if ratio is None else f"{ratio:.2f}×"


def topk_card(document: dict[str, Any]) -> str:
    """Time of each selection, and its ratio to the threshold's."""
    rows = [
        (
            str(line["length"]),
            percent(line["retain_ratio"], 0),
            document["contenders"][line["contender"]]["title"],
            f"{line['time_us']:.1f} ({line['time_us_q1']:.1f}–{line['time_us_q3']:.1f})",
            _times(line["slowdown"]),
        )
        for line in document["results"]
    ]
    header = ("length", "kept", "selection", "µs (quartiles)", "to threshold")
    sizes = ", ".join(map(str, document["settings"]["batch_sizes"]))
    title = f"Selecting tokens, batch {sizes}"
    table = columns(header, rows)
    return "\n".join([title, *_machine(document), "", table, *_notes(document)])


def training_card(document: dict[str, Any]) -> str:
    """Time of a step by stage, and its ratio to finetuning's."""
    rows = [
        (
            str(line["batch_size"]),
            str(line["length"]),
            document["contenders"][line["contender"]]["title"],
            f"{1000 * line['step_s']:.0f} "
            f"({1000 * line['step_s_q1']:.0f}–{1000 * line['step_s_q3']:.0f})",
            _times(line["relative_time"]),
        )
        for line in document["results"]
    ]
    table = columns(("batch", "length", "stage", "ms a step (quartiles)", "to finetuning"), rows)
    return "\n".join([*_machine(document), "", table, *_notes(document)])


def predict_card(document: dict[str, Any]) -> str:
    """Rows a second by contender, and how many times the pipeline's."""
    rows = [
        (
            str(line["batch_size"]),
            document["contenders"][line["contender"]]["title"],
            f"{line['rows_per_s']:.0f} ({line['rows_per_s_q1']:.0f}–{line['rows_per_s_q3']:.0f})",
            _times(line["relative_throughput"]),
            _times(line["relative_to_sorted"]),
        )
        for line in document["results"]
    ]
    header = ("batch", "what", "rows/s (quartiles)", "to the pipeline", "to the sorted one")
    texts = f"{document['rows']:,} rows: {document['texts']}"
    return "\n".join([*_machine(document), texts, "", columns(header, rows), *_notes(document)])


def _notes(document: dict[str, Any]) -> list[str]:
    notes = []
    if document.get("skipped"):
        notes.append(f"The time limit left out {len(document['skipped'])} measurements.")
    if document["noise"]["warning"]:
        notes.append(f"Noisy machine: {document['noise']['warning']}.")
    if document.get("name"):
        notes.append(f"Kept in the store as {document['name']}.")
    return ["", *notes] if notes else []
