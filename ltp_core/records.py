"""Records that cross borders: between core, store, command line and app. Torch-free.

Layers are zero-based in code, tokens are counted in the original sequence, fractions are 0..1.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

SCHEMA_VERSION = 1


class UserError(Exception):
    """What the user gave cannot be used; the message is one sentence that says what to do."""


MAX_LISTED = 12
"""Names that a sentence about an unknown name lists at most."""


def nearest(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, else what is known."""
    names = list(known)
    close = difflib.get_close_matches(name, names, n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    more = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"; known are {', '.join(names[:MAX_LISTED])}{more}." if names else "; there are none."


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the head says about one input.

    `probabilities` and `label` are null for regression; `label` is the name of the likeliest class.
    """

    logits: tuple[float, ...]
    probabilities: tuple[float, ...] | None
    label: str | None


@dataclass(frozen=True, kw_only=True)
class LayerTrace:
    """One layer's decision about every token of the original sequence.

    Attributes:
        threshold: In the unit of the score; None where the method has no threshold.
        score: Importance score (times uniform attention); None where the token was no longer live.
        retained: True where the token goes on to the next layer.
        runs: False where the whole layer is left out; live tokens then pass it without a score.
    """

    threshold: float | None
    score: tuple[float | None, ...]
    retained: tuple[bool, ...]
    runs: bool = True

    @property
    def num_retained(self) -> int:
        """Number of tokens that go on to the next layer."""
        return sum(self.retained)


@dataclass(frozen=True, kw_only=True)
class Trace:
    """Everything one forward pass decided about one input.

    Attributes:
        tokens: Token strings of the sequence, special tokens included.
        token_ids: Their vocabulary ids.
        layers: One `LayerTrace` per encoder layer.
        logits: Head output of the pruned pass.
        probabilities: Softmax of the logits; None for regression.
        label: Name of the likeliest class; None for regression.
        unpruned: The same weights with pruning switched off; None if it was not asked for.
        relative_flops: Fraction of the unpruned FLOPs, by accounting (`paper`, `executed`).
        checkpoint: Name of the checkpoint that ran.
        num_cut: Tokens beyond the maximum length that were cut off before the pass.
    """

    tokens: tuple[str, ...]
    token_ids: tuple[int, ...]
    layers: tuple[LayerTrace, ...]
    logits: tuple[float, ...]
    probabilities: tuple[float, ...] | None
    label: str | None
    unpruned: Prediction | None
    relative_flops: dict[str, float]
    checkpoint: str
    num_cut: int = 0

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens live at the input and after each layer."""
        return (len(self.tokens), *(layer.num_retained for layer in self.layers))

    @property
    def num_survived(self) -> tuple[int, ...]:
        """For each token, the number of layers it was retained by (0 to the number of layers)."""
        return tuple(
            sum(layer.retained[i] for layer in self.layers) for i in range(len(self.tokens))
        )

    def to_json(self) -> str:
        """One JSON object with the fields of this class."""
        return json.dumps(dataclasses.asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Trace:
        """Reads what `to_json` wrote.

        Raises:
            UserError: The text is no JSON, or a field is missing or unknown.
        """
        try:
            raw: dict[str, Any] = json.loads(text)
            layers = tuple(
                LayerTrace(
                    threshold=layer["threshold"],
                    score=tuple(layer["score"]),
                    retained=tuple(layer["retained"]),
                    runs=bool(layer.get("runs", True)),
                )
                for layer in raw.pop("layers")
            )
            unpruned = raw.pop("unpruned")
            fields: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()
            }
            return cls(
                layers=layers, unpruned=_prediction(unpruned) if unpruned else None, **fields
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"This is not a trace written by this program: {error}") from error


def _prediction(raw: dict[str, Any]) -> Prediction:
    probabilities = raw["probabilities"]
    return Prediction(
        logits=tuple(raw["logits"]),
        probabilities=None if probabilities is None else tuple(probabilities),
        label=raw["label"],
    )


@dataclass(frozen=True, kw_only=True)
class FileEntry:
    """One file of a run."""

    name: str
    bytes: int
    sha256: str


@dataclass(frozen=True, kw_only=True)
class RunManifest:
    """What a finished run is and how it came about; written last, so its presence means complete.

    Attributes:
        name: `<task>-<method>-<fingerprint>`.
        status: "complete".
        config: The resolved training configuration.
        seed: Seed of this run.
        git: `commit` and `dirty` of the code that ran, null where unknown.
        packages: Version by package name.
        hardware: Processor, threads, accelerator.
        dataset: Source, rows, SHA-256 by split.
        base: `name`, `sha256`, `hidden_size` and `intermediate_size` of the base model.
        parent: Name of the run this one started from, or None.
        dense: Name of the dense counterpart's run, or None.
        summary: Named measurements; fractions 0..1, units as suffix of the name.
        files: Every other file of the run.
        created_at: ISO 8601, UTC.
        duration_s: Wall-clock time of the training.
        schema_version: Version of the storage format.
    """

    name: str
    task: str
    method: str
    fingerprint: str
    status: str
    config: dict[str, Any]
    seed: int
    git: dict[str, Any]
    packages: dict[str, str]
    hardware: dict[str, Any]
    dataset: dict[str, Any]
    base: dict[str, Any]
    parent: str | None
    dense: str | None
    summary: dict[str, Any]
    created_at: str
    duration_s: float
    files: tuple[FileEntry, ...] = field(default=())
    schema_version: int = SCHEMA_VERSION
