"""A checkpoint that is called like a `transformers` text-classification pipeline, tokens really removed."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict

import numpy as np
import torch
from jaxtyping import Float

from ltp_core.checkpoint import PrunedModel, load_checkpoint
from ltp_core.predicting.scoring import RunnerName, Scorer
from ltp_core.records import Trace, UserError
from ltp_core.tokenize import encode
from ltp_core.trace import trace_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Input = str | Mapping[str, str]
"""A text, or `{"text": …, "text_pair": …}`."""
Function = Literal["softmax", "sigmoid", "none"]

WHAT_AN_INPUT_IS = 'An input is a text or {"text": …, "text_pair": …}, and nothing else.'

STREAM_ROWS = 1_024
"""Inputs of an iterator that are sorted by length, and computed, together."""


class LabelScore(TypedDict):
    """A label and its probability, or a value."""

    label: str
    score: float


Result = LabelScore | list[LabelScore]


class _Default:
    """Stands for "not given" where None has a meaning."""


_DEFAULT = _Default()


class TextClassifier:
    """Labels texts; inputs and results are those of `transformers.pipeline("text-classification")`.

    Differs from transformers: texts are sorted by length and batched whatever `batch_size` is, longer ones
    than the model takes are cut, a model with one output gives its value, and what is not understood is
    refused.

    Args:
        model: Loaded checkpoint that classifies or gives values.
        runner: What computes: `packed`, `onnx` or `masked`.
        dtype: Of the layers' weights.
        batch_size: Inputs of a pass.

    Raises:
        UserError: The checkpoint answers questions, or the runner cannot run it or takes no such type.
    """

    def __init__(
        self,
        model: PrunedModel,
        *,
        runner: RunnerName = "packed",
        dtype: str = "float32",
        batch_size: int = 32,
    ) -> None:
        self.model = model
        self._scorer = Scorer(model, runner=runner, dtype=dtype, batch_size=batch_size)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the outputs; `LABEL_0` and on where they are values."""
        outputs = range(self.model.encoder.config.num_labels)
        return self.model.label_names or tuple(f"LABEL_{i}" for i in outputs)

    def __call__(
        self,
        inputs: Input | Iterable[Input],
        *,
        top_k: int | _Default | None = _DEFAULT,
        function_to_apply: Function | None = None,
        batch_size: int | None = None,
    ) -> Any:
        """Labels one or more texts or pairs.

        Args:
            inputs: A text, `{"text": …, "text_pair": …}`, or a list or an iterator of these.
            top_k: That many labels of each input, the likeliest first; None gives all.
            function_to_apply: What makes scores of logits; None takes the softmax, for independent labels
                the sigmoid, and for values nothing.
            batch_size: Inputs of a pass, this time.

        Returns:
            As transformers: of one text a list with one `{"label", "score"}`, of one pair that dictionary,
            of a list a list of them, of an iterator an iterator. With `top_k` a list of dictionaries stands
            for each input.

        Raises:
            UserError: An input is something else, or not valid Unicode; or `top_k` or `batch_size` is
                below 1.

        Example:
            >>> import ltp_core
            >>> classifier = ltp_core.load("sst2-ltp")
            >>> classifier("A charming journey.")[0]["label"]
            'positive'
        """
        is_short = isinstance(top_k, _Default)
        count = 1 if isinstance(top_k, _Default) else top_k
        if count is not None and count < 1:
            raise UserError(f"top_k = {count}: must be at least 1, or None for all labels.")

        def results(texts: Sequence[Input]) -> list[Result]:
            pairs = [_texts_of(text) for text in texts]
            found = self._scores(pairs, function_to_apply, batch_size)
            ranked = [self._ranked(row, count) for row in found]
            return [row[0] for row in ranked] if is_short else list(ranked)

        if isinstance(inputs, str):
            return results([inputs]) if is_short else results([inputs])[0]
        if isinstance(inputs, Mapping):
            return results([inputs])[0]
        if isinstance(inputs, Iterator):
            return _streamed(inputs, results)
        if not isinstance(inputs, Iterable):
            raise UserError(WHAT_AN_INPUT_IS)
        return results(list(inputs))

    def trace(self, text: str, text_pair: str | None = None, **options: Any) -> Trace:
        """Every decision about one input; options are those of `ltp_core.trace.trace_text`.

        Raises:
            UserError: As there.
        """
        return trace_text(self.model, text, text_pair, **options)

    def _scores(
        self, texts: list[tuple[str, ...]], function: Function | None, batch_size: int | None
    ) -> Float[np.ndarray, "texts label"]:
        if not texts:
            return np.empty((0, len(self.labels)))
        logits = self._scorer(texts, batch_size=batch_size).logits
        if function is None:
            found = self.model.probabilities(logits)
            return logits if found is None else found
        exact = torch.from_numpy(logits).double()
        functions = {
            "softmax": lambda: torch.softmax(exact, dim=1),
            "sigmoid": lambda: torch.sigmoid(exact),
            "none": lambda: exact,
        }
        if function not in functions:
            raise UserError(
                f"function_to_apply = {function!r}: must be one of {', '.join(functions)}."
            )
        return functions[function]().numpy()

    def _ranked(self, scores: Float[np.ndarray, " label"], count: int | None) -> list[LabelScore]:
        order = np.argsort(-scores, kind="stable")[:count]
        return [LabelScore(label=self.labels[i], score=float(scores[i])) for i in order]


def _texts_of(given: Any) -> tuple[str, ...]:
    if isinstance(given, Mapping):
        if unknown := set(given) - {"text", "text_pair"}:
            raise UserError(f"An input has {sorted(unknown)[0]!r}; it takes text and text_pair.")
        values = [given.get("text"), given.get("text_pair")]
        texts: tuple[Any, ...] = tuple(values if values[1] is not None else values[:1])
    else:
        texts = (given,)
    if not all(isinstance(text, str) for text in texts):
        raise UserError(WHAT_AN_INPUT_IS)
    return texts


def _streamed(inputs: Iterator[Input], results: Any) -> Iterator[Result]:
    while rows := list(itertools.islice(inputs, STREAM_ROWS)):
        yield from results(rows)


def load(
    name_or_path: str,
    *,
    device: str = "cpu",
    runner: RunnerName = "packed",
    dtype: str = "float32",
    batch_size: int = 32,
    budget: float | None = None,
    max_loss: float | None = None,
) -> TextClassifier:
    """A checkpoint by run name, unique beginning of one, or folder.

    Args:
        name_or_path: As every command takes it.
        device: Where it runs.
        runner: What computes: `packed` removes tokens, `onnx` in ONNX Runtime, `masked` only masks.
        dtype: Of the layers' weights: float32; packed also bfloat16, float16 and int8, onnx int8.
        batch_size: Inputs of a pass.
        budget: Prune as much as spends this share of the unpruned FLOPs, 0..1.
        max_loss: Prune as much as loses this fraction of the metric on held-out rows.

    Raises:
        UserError: There is none of that name, its files are damaged, it answers questions, or it
            cannot be asked for a budget.
    """
    model = load_checkpoint(name_or_path, device=device, budget=budget, max_loss=max_loss)
    return TextClassifier(model, runner=runner, dtype=dtype, batch_size=batch_size)


def prune(
    hf_model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[Input | tuple[str, str]],
    target_relative_flops: float = 0.6,
    *,
    max_configurations: int = 200,
) -> TextClassifier:
    """A finetuned Hugging Face classifier with calibrated thresholds; nothing is trained.

    Args:
        hf_model: A `…ForSequenceClassification`; it is not changed.
        tokenizer: Its fast tokenizer.
        texts: Unlabelled texts, or pairs as tuples or as a `TextClassifier` takes them, like those that
            it will see; some hundred are enough.
        target_relative_flops: Budget as a fraction of the unpruned FLOPs, paper accounting.
        max_configurations: Thresholds tried at most.

    Raises:
        UserError: The architecture is not supported, a text is something else or there is none, or the
            budget is out of reach.
    """
    from ltp_core.calibration.calibrate import calibrate

    if not 0 < target_relative_flops <= 1:
        raise UserError(
            f"target_relative_flops = {target_relative_flops}: must be above 0 and at most 1."
        )
    inputs = [
        _texts_of(dict(zip(("text", "text_pair"), text, strict=True)))
        if isinstance(text, tuple) and len(text) == 2
        else _texts_of(text)
        for text in texts
    ]
    # The one way in is a folder, so that a model in memory is checked as any other.
    with tempfile.TemporaryDirectory() as folder:
        hf_model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        dense = load_checkpoint(folder, device=str(hf_model.device))
    name = Path(hf_model.config.name_or_path or hf_model.config.model_type).name
    dense = replace(dense, name=f"{name} pruned", base=hf_model.config.name_or_path or name)
    if dense.questions is not None:
        raise UserError(f"{name} answers questions; only classifiers can be calibrated yet.")
    found = calibrate(
        dense,
        encode(dense.tokenizer, inputs, dense.max_length),
        target_relative_flops,
        max_configurations=max_configurations,
    )
    method = found.method.to(dense.device).requires_grad_(False)
    return TextClassifier(replace(dense, method=method))
