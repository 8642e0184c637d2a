"""Texts through a checkpoint by any runner, and what pruning changes about its answers."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ltp_core.checkpoint import PrunedModel
from ltp_core.flops import ACCOUNTINGS, FLOPS_PER_MAC, layer_macs, unpruned_flops
from ltp_core.inference import input_batches, predict
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.records import UserError
from ltp_core.runners import Inputs, fastest_runner, run_masked
from ltp_core.runners.base import LastLayer
from ltp_core.tokenize import encode

if TYPE_CHECKING:
    import pandas as pd

RunnerName = Literal["packed", "onnx", "masked"]
RUNNERS: dict[str, tuple[str, ...]] = {
    "packed": ("float32", "bfloat16", "float16", "int8"),
    "onnx": ("float32", "int8"),
    "masked": ("float32",),
}
"""What computes, and the types of weights that it takes."""


@dataclass(frozen=True, kw_only=True)
class Scores:
    """What a checkpoint says about texts, in their order.

    Attributes:
        logits: The head's output.
        num_tokens: Tokens of each input, after truncation.
        num_cut: Tokens of each that truncation cut off.
    """

    logits: Float[np.ndarray, "texts label"]
    num_tokens: Int[np.ndarray, " texts"]
    num_cut: Int[np.ndarray, " texts"]


class Scorer:
    """A checkpoint as a function from texts to logits, the longest texts first.

    Args:
        model: Loaded checkpoint that classifies or gives a value.
        runner: `packed` removes tokens, `onnx` does so in ONNX Runtime, `masked` only masks them.
        dtype: Of the layers' weights; `RUNNERS` says which a runner takes.
        batch_size: Texts of a pass; no label depends on it.

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
        if model.questions is not None:
            raise UserError(
                f"{model.name} answers questions about a text: take one that classifies, or `trace` "
                "for one question."
            )
        if runner not in RUNNERS:
            raise UserError(f"There is no runner {runner!r}: take {', '.join(RUNNERS)}.")
        if dtype not in RUNNERS[runner]:
            raise UserError(
                f"The {runner} runner takes {' or '.join(RUNNERS[runner])}, not {dtype}: choose one of "
                "these, or another runner."
            )
        self.model = model
        self._batch_size = _checked(batch_size)
        self._run = _runner(model, runner, dtype)

    def __call__(
        self, texts: Sequence[tuple[str, ...]], *, batch_size: int | None = None
    ) -> Scores:
        """Logits of one or more inputs of one or two texts each.

        Args:
            texts: One or two strings an input.
            batch_size: Texts of a pass, this time; None takes that of the scorer.

        Raises:
            UserError: A text is not valid Unicode, or a pass is to have less than one text.
        """
        model = self.model
        size = self._batch_size if batch_size is None else _checked(batch_size)
        encoded = encode(model.tokenizer, texts, model.max_length)
        logits = np.empty((len(encoded), model.encoder.config.num_labels), dtype=np.float32)
        with torch.inference_mode():
            for index, inputs in input_batches(model, encoded, size):
                logits[index] = self._run(inputs).float().cpu().numpy()
        return Scores(logits=logits, num_tokens=encoded.length, num_cut=encoded.cut)


def _checked(batch_size: int) -> int:
    if batch_size < 1:
        raise UserError(f"batch_size = {batch_size}: must be at least 1.")
    return batch_size


def _runner(model: PrunedModel, runner: str, dtype: str) -> Callable[[Inputs], Tensor]:
    if runner == "masked":
        return lambda inputs: run_masked(model.encoder, inputs, model.method).logits
    if runner == "onnx":
        from ltp_core.export import onnx_session

        if model.device.type != "cpu":
            raise UserError("ONNX Runtime computes on the processor here: take --device cpu.")
        threads = torch.get_num_threads() or os.cpu_count() or 1
        return onnx_session(model, pruned=True, int8=dtype == "int8", threads=threads).run
    packed = model.packed
    if dtype != "float32":
        packed = fastest_runner(model.encoder, getattr(torch, dtype))
    # Only the first token's last state is read, unless the head reads every token.
    last: LastLayer = "all" if model.encoder.config.reads_every_token else "first"
    return lambda inputs: packed(inputs, model.method, last_layer=last).logits


def compare_with_unpruned(model: PrunedModel, texts: Sequence[tuple[str, ...]]) -> pd.DataFrame:
    """What pruning changes, text by text, beside the same weights unpruned.

    Args:
        model: Loaded checkpoint that classifies or gives a value.
        texts: One or two strings an input.

    Returns:
        A row a text. `label` and `confidence` (its probability), `unpruned_label`,
        `unpruned_confidence` and `flips`, whether the two labels differ; of a model that gives values
        `value`, `unpruned_value` and `change`, the greatest absolute difference of its outputs. Then
        `tokens`, `tokens_left` behind the last layer, `flops_paper`, `flops_executed` and
        `unpruned_flops`.

    Raises:
        UserError: The checkpoint answers questions, or a text is not valid Unicode.
    """
    import pandas as pd

    if model.questions is not None:
        raise UserError(f"{model.name} answers questions about a text: take one that classifies.")
    encoded, shape = encode(model.tokenizer, texts, model.max_length), model.encoder.config
    pruned = predict(model, encoded)
    unpruned = predict(model, encoded, Unpruned.control_of(model.method))
    columns = _outcome(model, np.stack(pruned.logits))
    columns |= {f"unpruned_{k}": v for k, v in _outcome(model, np.stack(unpruned.logits)).items()}
    if "label" in columns:
        pairs = zip(columns["label"], columns["unpruned_label"], strict=True)
        columns["flips"] = [a != b for a, b in pairs]
    else:
        change = np.abs(np.stack(pruned.logits) - np.stack(unpruned.logits))
        columns["change"] = change.max(axis=1)
    columns |= {"tokens": encoded.length, "tokens_left": pruned.ffn_length[:, -1]}
    for accounting in ACCOUNTINGS:
        macs = layer_macs(
            pruned.attention_length.astype(np.float64),
            pruned.ffn_length.astype(np.float64),
            **shape.sizes,
            accounting=accounting,
            decision=pruned.decision,
        )
        columns[f"flops_{accounting}"] = FLOPS_PER_MAC * macs.sum(axis=1)
    columns["unpruned_flops"] = [
        unpruned_flops(
            encoded.length[i : i + 1],
            num_layers=shape.num_layers,
            **shape.sizes,
        )
        for i in range(len(encoded))
    ]
    return pd.DataFrame(columns)


def _outcome(model: PrunedModel, logits: np.ndarray) -> dict[str, Any]:
    found = model.probabilities(logits)
    if found is None:
        return {"value": logits[:, 0]}
    labels = [", ".join(names) or "no label" for names in model.labels_of(found)]
    return {"label": labels, "confidence": found.max(axis=1)}
