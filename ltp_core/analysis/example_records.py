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
from ltp_core.data.tasks import find_task
from ltp_core.records import RunManifest

KNOWN_SIZES = {"sentence-transformers/all-MiniLM-L6-v2": (384, 1536)}
"""Hidden and FFN width of base models whose runs were stored without them."""


@dataclass(frozen=True, kw_only=True)
class ModelSize:
    """What FLOPs depend on besides lengths: width of the hidden states, inner width of the FFN."""

    hidden: int
    intermediate: int


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

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.row)

    @property
    def num_layers(self) -> int:
        """Number of encoder layers, those that are left out included."""
        return int(self.ffn_length.shape[1])

    @property
    def is_correct(self) -> Bool[np.ndarray, " examples"] | None:
        """Whether each prediction is the truth; None for regression, which has no right or wrong."""
        return None if find_task(self.task).is_regression else self.prediction == self.label

    def flops(self, accounting: str) -> Float[np.ndarray, " examples"] | None:
        """FLOPs of each example through all layers; None where the model's size is not known."""
        if self.size is None:
            return None
        macs = flops.layer_macs(
            self.attention_length.astype(np.float64),
            self.ffn_length.astype(np.float64),
            hidden=self.size.hidden,
            intermediate=self.size.intermediate,
            accounting=accounting,
        )
        return np.asarray(flops.FLOPS_PER_MAC * macs.sum(axis=1))

    def unpruned_flops(self) -> Float[np.ndarray, " examples"] | None:
        """The same for the model without pruning and without padding; both accountings agree."""
        if self.size is None:
            return None
        length = self.length.astype(np.float64)
        macs = flops.layer_macs(
            length,
            length,
            hidden=self.size.hidden,
            intermediate=self.size.intermediate,
            accounting="paper",
        )
        return np.asarray(flops.FLOPS_PER_MAC * self.num_layers * macs)

    def take(self, index: Int[np.ndarray, " chosen"]) -> ExampleRecords:
        """The examples at these positions."""
        fields: dict[str, Any] = {
            key: value[index] if isinstance(value, np.ndarray) else value
            for key, value in vars(self).items()
        }
        return ExampleRecords(**fields)


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
    examples, layers = (_of_split(frame, split) for frame in tables.values())
    if examples.empty:
        raise store.StoreError(f"The run {folder.name} was not evaluated on {split}.")
    examples = examples.sort_values("row", kind="stable")
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
    )


def _of_split(frame: pd.DataFrame, split: str) -> pd.DataFrame:
    return frame[frame["split"] == split]


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
            return ModelSize(hidden=hidden, intermediate=intermediate)
    known = KNOWN_SIZES.get(str(manifest.base.get("name")))
    return ModelSize(hidden=known[0], intermediate=known[1]) if known else None


def _saved_config(folder: Path) -> dict[str, Any]:
    try:
        raw = json.loads((folder / "model" / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}
