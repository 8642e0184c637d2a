"""What a stored run measured on every example of a split, as arrays. Torch-free."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int, Num

from ltp_core import flops, store
from ltp_core.records import RunManifest
from ltp_core.tasks.catalogue import find_task

KNOWN_SIZES = {"sentence-transformers/all-MiniLM-L6-v2": (384, 1536)}
"""Hidden and FFN width of base models whose runs were stored without them."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What FLOPs depend on besides lengths.

    Attributes:
        hidden: Width of the hidden states.
        intermediate: Inner width of the FFN.
        ffn_maps: Linear maps of the FFN.
        decision: What the pruning method computes to decide.
    """

    hidden: int
    intermediate: int
    ffn_maps: int = 2
    decision: flops.DecisionCost = flops.NO_COST

    @property
    def sizes(self) -> dict[str, int]:
        """What `flops.layer_macs` takes."""
        widths = {"hidden": self.hidden, "intermediate": self.intermediate}
        return {**widths, "ffn_maps": self.ffn_maps}


@dataclass(frozen=True, kw_only=True)
class WindowLengths:
    """Lengths of inputs of which several can belong to one example, as windows of a long context.

    Attributes:
        example: Position of the example that each window belongs to, ascending.
        attention_length: Tokens that entered each layer's attention.
        ffn_length: Tokens that stayed after each layer.
    """

    example: Int[np.ndarray, " windows"]
    attention_length: Int[np.ndarray, "windows layers"]
    ffn_length: Int[np.ndarray, "windows layers"]

    def take(self, index: Int[np.ndarray, " chosen"]) -> WindowLengths:
        """The windows of the examples at these positions, which they are numbered by."""
        found = [np.flatnonzero(self.example == i) for i in index]
        windows = np.concatenate([*found, np.empty(0, dtype=np.int64)])
        return WindowLengths(
            example=np.repeat(np.arange(len(index)), [len(each) for each in found]),
            attention_length=self.attention_length[windows],
            ffn_length=self.ffn_length[windows],
        )


@dataclass(frozen=True, kw_only=True)
class ExampleRecords:
    """One run on one split, examples in ascending order of their row.

    Attributes:
        name: Name of the run.
        task: Name of its task.
        method: Name of its pruning method.
        split: Evaluated split.
        row: Row number of each example in the source split.
        length: Tokens of each input, after it was cut to the maximum length.
        label: The truth.
        prediction: What the model said.
        attention_length: Tokens that entered each layer's attention; 0 where the layer is left out.
        ffn_length: Tokens that stayed after each layer; 0 where the layer is left out.
        size: Size of the model; None where nothing says it, and FLOPs cannot be counted.
        windows: Lengths of each window, of which `attention_length` and `ffn_length` are the sums;
            None where every example is one input.
    """

    name: str
    task: str
    method: str
    split: str
    row: Int[np.ndarray, " examples"]
    length: Int[np.ndarray, " examples"]
    label: Num[np.ndarray, " examples"]
    prediction: Num[np.ndarray, " examples"]
    attention_length: Int[np.ndarray, "examples layers"]
    ffn_length: Int[np.ndarray, "examples layers"]
    size: ModelSize | None
    windows: WindowLengths | None = None

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.row)

    @property
    def num_layers(self) -> int:
        """Number of encoder layers, those that are left out included."""
        return int(self.ffn_length.shape[1])

    @property
    def is_correct(self) -> Bool[np.ndarray, " examples"] | None:
        """Whether each prediction is the truth; None where answers are not just right or wrong."""
        task = find_task(self.task)
        is_graded = task.is_regression or task.asks_questions or task.is_multi_label
        return None if is_graded else self.prediction == self.label

    def flops(self, accounting: str) -> Float[np.ndarray, " examples"] | None:
        """FLOPs of each example through all layers; None where the model's size is not known."""
        source = self.windows or self
        return self._flops(source.attention_length, source.ffn_length, accounting)

    def unpruned_flops(self) -> Float[np.ndarray, " examples"] | None:
        """The same for the model without pruning and without padding; both accountings agree."""
        length = self.length if self.windows is None else self.windows.attention_length.max(axis=1)
        lengths = np.repeat(length[:, None], self.num_layers, axis=1)
        return self._flops(lengths, lengths, "paper", is_pruned=False)

    def _flops(
        self,
        attention_length: Int[np.ndarray, "inputs layers"],
        ffn_length: Int[np.ndarray, "inputs layers"],
        accounting: str,
        *,
        is_pruned: bool = True,
    ) -> Float[np.ndarray, " examples"] | None:
        if self.size is None:
            return None
        macs = flops.layer_macs(
            attention_length.astype(np.float64),
            ffn_length.astype(np.float64),
            accounting=accounting,
            query_length=None,
            decision=self.size.decision if is_pruned else flops.NO_COST,
            **self.size.sizes,
        )
        found = np.asarray(flops.FLOPS_PER_MAC * macs.sum(axis=1))
        if self.windows is None:
            return found
        return np.bincount(self.windows.example, weights=found, minlength=len(self))

    def take(self, index: Int[np.ndarray, " chosen"]) -> ExampleRecords:
        """The examples at these positions."""
        fields: dict[str, Any] = {
            key: value[index] if isinstance(value, np.ndarray) else value
            for key, value in vars(self).items()
        }
        windows = None if self.windows is None else self.windows.take(index)
        return ExampleRecords(**(fields | {"windows": windows}))


def evaluated_splits(manifest: RunManifest) -> list[str]:
    """Splits that the run was evaluated on, as its summary names them."""
    return [
        split
        for split, result in manifest.summary.items()
        if isinstance(result, dict) and "metrics" in result
    ]


def read_examples(folder: Path, split: str) -> ExampleRecords:
    """Reads the tables `examples` and `layers` of a run.

    Raises:
        StoreError: The run is not complete, a table is absent or damaged, the tables do not fit each
            other, or the run was not evaluated on the split.
    """
    manifest = store.read_manifest(folder)
    tables = {kind: store.read_table(folder, kind) for kind in ("examples", "layers")}
    examples, layers = (frame[frame["split"] == split] for frame in tables.values())
    if examples.empty:
        raise store.StoreError(f"The run {folder.name} was not evaluated on {split}.")
    examples = examples.sort_values("row", kind="stable")
    windows = None
    if "window" in layers:
        windows = _window_lengths(folder.name, examples, layers)
        attention_length, ffn_length = (
            np.add.reduceat(lengths, np.searchsorted(windows.example, np.arange(len(examples))))
            for lengths in (windows.attention_length, windows.ffn_length)
        )
    else:
        attention_length, ffn_length = _layer_lengths(folder.name, examples, layers)
    return ExampleRecords(
        name=folder.name,
        task=manifest.task,
        method=manifest.method,
        split=split,
        row=examples["row"].to_numpy(dtype=np.int64),
        length=examples["length"].to_numpy(dtype=np.int64),
        label=examples["label"].to_numpy(),
        prediction=examples["prediction"].to_numpy(),
        attention_length=attention_length,
        ffn_length=ffn_length,
        size=model_size(folder, manifest),
        windows=windows,
    )


def _window_lengths(name: str, examples: pd.DataFrame, layers: pd.DataFrame) -> WindowLengths:
    """Lengths by window; every question has a window, and every window every layer."""
    key = layers["row"].to_numpy(dtype=np.int64) * 2**15 + layers["window"].to_numpy(dtype=np.int64)
    numbers = np.unique(key)
    rows, example = np.unique(numbers >> 15, return_inverse=True)
    if not np.array_equal(rows, examples["row"].to_numpy(dtype=np.int64)):
        raise store.StoreError(
            f"layers.parquet of the run {name} does not have every question: restore it or repeat "
            "the run."
        )
    inputs = pd.DataFrame({"row": numbers})
    attention_length, ffn_length = _layer_lengths(name, inputs, layers.assign(row=key))
    return WindowLengths(example=example, attention_length=attention_length, ffn_length=ffn_length)


def _layer_lengths(
    name: str, examples: pd.DataFrame, layers: pd.DataFrame
) -> tuple[Int[np.ndarray, "examples layers"], Int[np.ndarray, "examples layers"]]:
    """Both lengths as matrices; every example must have every layer once."""
    ordered = layers.sort_values(["row", "layer"], kind="stable")
    num_examples = len(examples)
    num_layers = len(ordered) // num_examples
    expected = np.repeat(examples["row"].to_numpy(), num_layers)
    numbers = np.tile(np.arange(num_layers), num_examples)
    is_whole = (
        num_layers > 0
        and np.array_equal(ordered["row"].to_numpy(), expected)
        and np.array_equal(ordered["layer"].to_numpy(), numbers)
    )
    if not is_whole:
        raise store.StoreError(
            f"layers.parquet of the run {name} does not have every layer of every example once: "
            "restore it or repeat the run."
        )
    shape = num_examples, num_layers
    attention, ffn = (
        ordered[column].to_numpy(dtype=np.int64).reshape(shape)
        for column in ("attention_length", "ffn_length")
    )
    return attention, ffn


def model_size(folder: Path, manifest: RunManifest) -> ModelSize | None:
    """Size of a run's model: from its manifest, its saved configuration, or its known base."""
    for raw in (manifest.base, _saved_config(folder)):
        hidden, intermediate = raw.get("hidden_size"), raw.get("intermediate_size")
        if type(hidden) is int and type(intermediate) is int and min(hidden, intermediate) > 0:
            maps = raw.get("ffn_maps", 2)
            return ModelSize(
                hidden=hidden,
                intermediate=intermediate,
                ffn_maps=maps if type(maps) is int and maps > 0 else 2,
                decision=flops.DecisionCost.from_json(raw),
            )
    known = KNOWN_SIZES.get(str(manifest.base.get("name")))
    return ModelSize(hidden=known[0], intermediate=known[1]) if known else None


def _saved_config(folder: Path) -> dict[str, Any]:
    try:
        raw = json.loads((folder / "model" / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}
