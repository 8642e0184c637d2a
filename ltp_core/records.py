"""Records that cross borders: between core, store, command line and app. Torch-free.

Layers are zero-based in code, tokens are counted in the original sequence, fractions are 0..1.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal

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


def first_line(error: BaseException) -> str:
    """What a library says went wrong: the first line, or where it says nothing the kind of error."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


ScoreKind = Literal["attention", "factored", "probability"]
"""What a method compares with a threshold: attention received, that times a learned factor, or a
probability of going on, before a layer."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A part of a context that may be the answer.

    Attributes:
        text: As it stands in the context.
        begin: Its first character there.
        end: The character behind its last one.
        score: Sum of the logits of its start and its end.
        tokens: First and last position in the traced sequence; None where it is in another window.
    """

    text: str
    begin: int
    end: int
    score: float
    tokens: tuple[int, int] | None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a question is answered with.

    Attributes:
        candidates: The likeliest parts of the context, the likeliest first.
        null_score: The score of "no answer".
        null_threshold: The question is left unanswered where "no answer" is likelier than the best
            candidate by more than this; infinite: never. JSON has null for infinite.
        window: Window of the context that the trace shows, from 1.
        num_windows: Windows that the context was divided into.
    """

    candidates: tuple[Candidate, ...]
    null_score: float
    null_threshold: float
    window: int = 1
    num_windows: int = 1

    @property
    def best(self) -> Candidate | None:
        """The likeliest part of the context."""
        return self.candidates[0] if self.candidates else None

    @property
    def null_difference(self) -> float:
        """How much likelier "no answer" is than the best candidate."""
        return math.inf if self.best is None else self.null_score - self.best.score

    @property
    def is_answered(self) -> bool:
        """Whether the best candidate is given as the answer."""
        return self.best is not None and self.null_difference <= self.null_threshold

    @property
    def text(self) -> str | None:
        """The answer; None where there is none."""
        return self.best.text if self.is_answered and self.best else None

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> Answer:
        """Reads plain values, as `dataclasses.asdict` gives them and JSON keeps them."""
        candidates = tuple(
            Candidate(**{**each, "tokens": each["tokens"] and tuple(each["tokens"])})
            for each in raw["candidates"]
        )
        threshold = math.inf if raw["null_threshold"] is None else raw["null_threshold"]
        return cls(**{**raw, "candidates": candidates, "null_threshold": threshold})


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """What the head says about one input.

    `probabilities` and `label` are null for regression; `label` is the name of the likeliest class.
    Where labels are independent (multi-label), each probability stands alone, they need not sum to 1,
    and `label` lists those of 0.5 and more.
    For a question, `answer` says what was found, `label` is its text (null: no answer), and the
    logits are the scores of the best part of the context and of "no answer".
    """

    logits: tuple[float, ...]
    probabilities: tuple[float, ...] | None
    label: str | None
    answer: Answer | None = None


@dataclass(frozen=True, kw_only=True)
class QuestionSettings:
    """How a checkpoint answers questions, and which questions it learned from.

    Attributes:
        stride: Tokens of context that two neighbouring windows of a question share.
        null_threshold: A question is left unanswered where "no answer" is likelier than the best
            answer by more than this, in units of the logits; infinite: every question is answered.
        train_task: Task whose training questions it learned from, if another than its own.
        unanswerable_share: Share of them that was made unanswerable.
        heldout_by: How held-out questions were set aside from them: by text or by whole article.
    """

    stride: int = 128
    null_threshold: float = math.inf
    train_task: str | None = None
    unanswerable_share: float = 0.0
    heldout_by: Literal["text", "article"] = "text"

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; an infinite threshold is null."""
        threshold = self.null_threshold if math.isfinite(self.null_threshold) else None
        return dataclasses.asdict(self) | {"null_threshold": threshold}

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> QuestionSettings:
        """Reads what `to_dict` wrote.

        Raises:
            KeyError, TypeError, ValueError: Something is missing or has the wrong type.
        """
        threshold, task = raw["null_threshold"], raw["train_task"]
        return cls(
            stride=int(raw["stride"]),
            null_threshold=math.inf if threshold is None else float(threshold),
            train_task=None if task is None else str(task),
            unanswerable_share=float(raw["unanswerable_share"]),
            heldout_by="article" if raw.get("heldout_by", "text") == "article" else "text",
        )


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
class WhatIf:
    """How a pass departs from what was learned.

    Attributes:
        thresholds: One a layer, before `scale` multiplies them; None for the learned ones.
        scale: How much the method prunes, as a multiple of what it learned; 0 prunes nothing.
        budget: Share of the unpruned FLOPs that was asked for; None where none was.
        max_loss: What might be lost of the headline metric instead.
        keep: Positions kept by hand.
        drop: Positions dropped by hand.
    """

    thresholds: tuple[float, ...] | None = None
    scale: float = 1.0
    budget: float | None = None
    max_loss: float | None = None
    keep: tuple[int, ...] = ()
    drop: tuple[int, ...] = ()

    @property
    def is_neutral(self) -> bool:
        """Nothing departs."""
        return self == WhatIf()

    @classmethod
    def from_dict(cls, raw: dict[str, Any]) -> WhatIf:
        """Reads plain values, as `dataclasses.asdict` gives them and JSON keeps them."""
        thresholds = raw.get("thresholds")
        if thresholds is not None:
            thresholds = tuple(math.inf if each is None else each for each in thresholds)
        sides = {side: tuple(raw.get(side) or ()) for side in ("keep", "drop")}
        return cls(**{**raw, **sides, "thresholds": thresholds})


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
        answer: What a question is answered with; None for other tasks.
        words: Word that each token is a piece of, counted over both texts; None for special tokens.
        protected: Positions of the tokens that the method may not drop.
        texts: The one or two texts that were read.
        surfaces: What each token stands for in its text; empty for special tokens.
        what_if: How the pass departs from what was learned.
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
    answer: Answer | None = None
    words: tuple[int | None, ...] = ()
    protected: tuple[int, ...] = ()
    texts: tuple[str, ...] = ()
    surfaces: tuple[str, ...] = ()
    what_if: WhatIf = WhatIf()

    @property
    def prediction(self) -> Prediction:
        """What the pruned pass says."""
        return Prediction(
            logits=self.logits,
            probabilities=self.probabilities,
            label=self.label,
            answer=self.answer,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; what is infinite is null."""
        return {key: _finite(value) for key, value in dataclasses.asdict(self).items()}

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
        return json.dumps(self.to_dict(), ensure_ascii=False)

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
            unpruned, answer = raw.pop("unpruned"), raw.pop("answer", None)
            what_if = raw.pop("what_if", None) or {}
            fields: dict[str, Any] = {
                k: tuple(v) if isinstance(v, list) else v for k, v in raw.items()
            }
            return cls(
                layers=layers,
                unpruned=_prediction(unpruned) if unpruned else None,
                answer=Answer.from_dict(answer) if answer else None,
                what_if=WhatIf.from_dict(what_if),
                **fields,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"This is not a trace written by this program: {error}") from error


def _prediction(raw: dict[str, Any]) -> Prediction:
    probabilities = raw["probabilities"]
    return Prediction(
        logits=tuple(raw["logits"]),
        probabilities=None if probabilities is None else tuple(probabilities),
        label=raw["label"],
        answer=Answer.from_dict(raw["answer"]) if raw.get("answer") else None,
    )


def _finite(value: Any) -> Any:
    """Plain values with null for what is infinite, which JSON cannot say."""
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and math.isinf(value) else value


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
        hardware: Processor, threads, accelerator; of a training `mixed_precision` too, as it was there.
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
