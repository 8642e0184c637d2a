"""Sequences per second of a checkpoint and its controls, by batch size and length (Figure 6).

Excluded is tokenisation; included are padding, packing and the head. Beside each measured ratio
stands the one that the FLOPs promise, counted on exactly what each variant computes, padding
included, and the share of it that was realised.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ltp_core.bench.answers import (
    Reference,
    compare_answers,
    is_coarse,
    needs_reference,
    reference_of,
)
from ltp_core.bench.document import card, describe_variants
from ltp_core.bench.engines import Entry, Survey, cast, count_tokens, enter
from ltp_core.bench.figures import figures
from ltp_core.bench.measure import Probe, Report, seconds_of, take_turns, using_threads
from ltp_core.bench.pieces import Place, finish, measure_pieces
from ltp_core.bench.results import Session, open_session
from ltp_core.bench.settings import BenchSettings
from ltp_core.bench.texts import sequences_of
from ltp_core.bench.workload import (
    Batches,
    LayerLengths,
    attention_padding_flops,
    batches_of,
    flops_of,
    with_lengths,
    with_padding,
    without_pruning,
)
from ltp_core.checkpoint import PrunedModel
from ltp_core.records import UserError
from ltp_core.tokenize import Encoded

FEWEST_BATCHES = 4

Line = dict[str, Any]


def bench(
    settings: BenchSettings,
    model: PrunedModel,
    *,
    against: Sequence[PrunedModel] = (),
    data_dir: Path | None = None,
    store: Path | None = None,
    report: Report = lambda event, fields: None,
) -> dict[str, Any]:
    """Measures a checkpoint, its controls and its peers.

    Args:
        settings: What to measure.
        model: Loaded checkpoint.
        against: Other loaded checkpoints of the same task.
        data_dir: Folder of Parquet files for GLUE tasks.
        store: Folder to keep the result in; None keeps nothing.
        report: Told what is going on: `plan`, then `turn` after each turn and `point` after each
            batch size and length.

    Returns:
        The document that `data_cache/README.md` describes.

    Raises:
        UserError: The data of a named task is absent, or a length is too long for the model.
    """
    given = (model, *against)
    _check(given, settings.lengths)
    sequences = sequences_of(settings, given, data_dir)
    task, encoded = sequences.task, sequences.encoded
    with using_threads(settings.threads):
        references = {
            m.name: reference_of(m, task, encoded[m.name], sequences.labels)
            for m in given
            if needs_reference(settings, m)
        }
        models = [cast(each, getattr(torch, settings.dtype)) for each in given]
        entries = enter(models[0], settings.variants, models[1:])
        facts = card(settings, task=task, texts=sequences.source, device=settings.device)
        with open_session(facts, store) as session:
            measurement = _Measurement(settings, entries, encoded, references, session, report)
            return measurement.run(facts)


def _check(models: Sequence[PrunedModel], lengths: Sequence[int | None]) -> None:
    names = [model.name for model in models]
    if len(names) > len(set(names)):
        raise UserError("A checkpoint is named twice: leave it out of --against.")
    asked = [model.name for model in models if model.questions is not None]
    if asked:
        raise UserError(
            f"{asked[0]} answers questions; throughput is measured on classifiers only."
        )
    for model in models:
        longest = model.encoder.config.max_length
        for length in lengths:
            if length is not None and length > longest:
                raise UserError(f"{model.name} reads at most {longest} tokens, not {length}.")


@dataclass(frozen=True)
class _Point:
    """One batch size and length, with its sequences as each model sees them."""

    batch_size: int
    length: int | None
    encoded: dict[str, Encoded]
    counted: dict[Survey, LayerLengths]
    answers: dict[str, dict[str, float]] = field(default_factory=dict)

    def batches(self, entry: Entry, seed: int) -> Batches:
        """The entry's batches in a round."""
        length = self.encoded[entry.model.name].length
        return batches_of(entry.variant, length, self.batch_size, seed=seed)

    def flops(self, entry: Entry, seed: int) -> float:
        """What the entry computes in a round, padding included."""
        config = entry.model.encoder.config
        counted, batches = self.counted[entry.survey], self.batches(entry, seed)
        padding, hidden = entry.variant.padding, config.hidden_size
        lengths = with_padding(counted, batches, padding)
        flops = flops_of(lengths, **config.sizes)
        if padding != "attention":
            return flops
        return flops + attention_padding_flops(lengths, batches, hidden=hidden)


class _Measurement:
    """All points of one benchmark."""

    def __init__(
        self,
        settings: BenchSettings,
        entries: list[Entry],
        encoded: dict[str, Encoded],
        references: dict[str, Reference],
        session: Session,
        report: Report,
    ) -> None:
        model = entries[0].model
        config = model.encoder.config
        self._settings, self._entries, self._encoded = settings, entries, encoded
        self._references = references
        self._session, self._report = session, report
        self._device = model.device
        dtype = getattr(torch, settings.dtype)
        self._probe = Probe(config.hidden_size, config.intermediate_size, self._device, dtype)
        self._turns_done = 0
        self._is_warm = False

    def run(self, facts: dict[str, Any]) -> dict[str, Any]:
        """Measures what is not measured yet, and puts the document together."""
        variants = describe_variants(self._entries)
        skipped = measure_pieces(
            [{"batch_size": size, "length": length} for size, length in self._settings.points],
            self._measure,
            settings=self._settings,
            variants=variants,
            session=self._session,
            report=self._report,
        )
        return finish(
            facts,
            variants=variants,
            session=self._session,
            probe=self._probe,
            skipped=skipped,
        )

    def _point(self, batch_size: int, length: int | None, budget: float | None) -> _Point:
        """The sequences of a point: fewer than the limit where time is short."""
        settings = self._settings
        whole = {
            name: rows if length is None else with_lengths(rows, np.full(settings.limit, length))
            for name, rows in self._encoded.items()
        }
        chosen = np.random.default_rng(0).permutation(len(next(iter(whole.values()))))
        per_batch = self._warm_up(_Point(batch_size, length, whole, {}))
        if budget is not None:
            chosen = chosen[: batch_size * _num_batches(budget / per_batch, settings.repeats)]
        encoded = {name: rows.take(chosen) for name, rows in whole.items()}
        counted = {
            entry.survey: count_tokens(entry.model, entry.survey, encoded[entry.model.name])
            for entry in {entry.survey: entry for entry in self._entries}.values()
        }
        point = _Point(batch_size, length, encoded, counted)
        return point if length is not None else replace(point, answers=self._answers(point, chosen))

    def _answers(self, point: _Point, chosen: np.ndarray) -> dict[str, dict[str, float]]:
        """What variants in coarser numbers answer, against float32."""
        return {
            entry.name: compare_answers(
                entry,
                point.encoded[entry.model.name],
                point.batches(entry, seed=0),
                self._references[entry.model.name].take(chosen),
            )
            for entry in self._entries
            if entry.model.name in self._references and is_coarse(entry)
        }

    def _warm_up(self, point: _Point) -> float:
        """Seconds for one batch of every variant; at the first point, after one that does not count."""
        seconds = 0.0
        for entry in self._entries:
            batches = point.batches(entry, seed=0)
            rows = point.encoded[entry.model.name].take(batches[len(batches) // 2])
            seconds += self._time_batch(entry, rows)
        self._is_warm = True
        return seconds

    def _time_batch(self, entry: Entry, rows: Encoded) -> float:
        everything = [np.arange(len(rows))]
        at_most = without_pruning(rows.length, [True] * entry.method.num_layers)

        def work() -> None:
            entry.run_batches(rows, everything, at_most)

        if not self._is_warm:
            work()
        return seconds_of(work, self._device)

    def _measure(self, place: Place, budget: float | None) -> dict[str, Any]:
        """Rounds at one batch size and length, and the lines of the results."""
        until = None if budget is None else time.monotonic() + budget
        point = self._point(place["batch_size"], place["length"], budget)
        sequences = len(next(iter(point.encoded.values())))

        def turn(entry: Entry) -> Any:
            rows = point.encoded[entry.model.name]
            counted = point.counted[entry.survey]
            return lambda seed: entry.run_batches(rows, point.batches(entry, seed), counted)

        def on_turn(name: str, seconds: float) -> None:
            self._turns_done += 1
            done = {"contender": name, "sequences_per_s": sequences / seconds}
            self._report("turn", {**place, **done, "done": self._turns_done})

        taken = take_turns(
            {entry.name: turn(entry) for entry in self._entries},
            self._settings.repeats,
            self._device,
            until=until,
            on_turn=on_turn,
            between=self._probe,
        )
        rounds = [
            {
                "batch_size": point.batch_size,
                "length": point.length or 0,
                "retain_ratio": None,
                "contender": name,
                "round": number,
                "seconds": seconds,
                "sequences": sequences,
            }
            for name, times in taken.items()
            for number, seconds in enumerate(times)
        ]
        return {"results": self._lines(point, taken), "rounds": rounds}

    def _lines(self, point: _Point, taken: dict[str, list[float]]) -> list[Line]:
        """One line a variant: measured and promised, against both controls."""
        rounds = len(next(iter(taken.values())))
        flops = {e.name: [point.flops(e, seed) for seed in range(rounds)] for e in self._entries}
        rows = next(iter(point.encoded.values()))
        return [
            {
                "batch_size": point.batch_size,
                "length": point.length,
                "contender": name,
                "rounds": rounds,
                "sequences": len(rows),
                "mean_length": float(rows.length.mean()),
                **figures(entry.variant, name, taken, flops, len(rows)),
                **point.answers.get(name, {}),
            }
            for name, entry in {entry.name: entry for entry in self._entries}.items()
        ]


def _num_batches(affordable: float, repeats: int) -> int:
    """Batches of a round where time is short.

    Rather a round less than so few batches that shuffling makes no difference.

    Args:
        affordable: Batches of every variant that there is time for.
        repeats: Rounds that are wanted.
    """
    return max(int(affordable / repeats), min(int(affordable), FEWEST_BATCHES), 1)
