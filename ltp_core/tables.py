"""Tables of a run as Parquet files: their columns, reading and writing.

`data_cache/README.md` says what the columns mean.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ltp_core.files import StoreError, atomic_write
from ltp_core.records import first_line

# What lists runs reads no table: these take a second to import.
if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a stored table.

    Attributes:
        name: Column name; a trailing `*` stands for a number, and such columns are numbered on.
        types: Arrow types, the first that the values fit is taken; only integers fit integer types.
        is_required: False where a table may lack the column.
    """

    name: str
    types: tuple[str, ...]
    is_required: bool = True


def _columns(required: Mapping[str, str], optional: Mapping[str, str]) -> tuple[Column, ...]:
    return tuple(
        Column(name=name, types=tuple(kinds.split(" or ")), is_required=group is required)
        for group in (required, optional)
        for name, kinds in group.items()
    )


TABLES: dict[str, tuple[Column, ...]] = {
    "history": _columns(
        {"stage": "string", "step": "int32", "epoch": "float", "loss": "float"},
        {
            "task_loss": "float",
            "distillation_loss": "float",
            "regularizer": "float",
            "relative_flops": "float",
            "mean_retained": "float",
            "temperature": "float",
            "learning_rate": "float",
            "threshold_*": "float",
        },
    ),
    "examples": _columns(
        {
            "split": "string",
            "row": "int32",
            "length": "int16",
            "label": "int16 or float",
            "prediction": "int16 or float",
        },
        {
            "logit_*": "float",
            "holds_*": "int16",
            "exact_match": "float",
            "null_difference": "float",
            "answer_exact_match": "float",
            "answer_f1": "float",
            "answer_begin": "int32",
            "answer_end": "int32",
        },
    ),
    "layers": _columns(
        {
            "split": "string",
            "row": "int32",
            "layer": "int16",
            "attention_length": "int16",
            "ffn_length": "int16",
        },
        {"window": "int16"},
    ),
    "traces": _columns(
        {
            "split": "string",
            "row": "int32",
            "position": "int16",
            "layer": "int16",
            "score": "float",
            "retained": "bool",
        },
        {},
    ),
    "candidates": _columns(
        {"candidate": "int32", "relative_flops": "float", "is_chosen": "bool"},
        {
            "factor": "float",
            "metric": "float",
            "loss": "float",
            "divergence": "float",
            "agreement": "float",
            "protects_separators": "bool",
            "length_*": "int16",
            "threshold_*": "float",
        },
    ),
    "token_kinds": _columns(
        {
            "split": "string",
            "grouping": "string",
            "kind": "string",
            "layer": "int16",
            "entering": "int32",
            "retained": "int32",
        },
        {},
    ),
    "curve": _columns(
        {
            "split": "string",
            "factor": "float",
            "rows": "int32",
            "metric": "float",
            "relative_flops_paper": "float",
            "relative_flops_executed": "float",
        },
        {},
    ),
}


def read_table(folder: Path, kind: str) -> pd.DataFrame:
    """The table `<kind>.parquet` of a run; `kind` is one of `TABLES`.

    Integers keep their small types: widen them before arithmetic that may leave their range.

    Raises:
        StoreError: The file is absent or damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{kind}.parquet"
    try:
        table = pq.ParquetFile(path).read()
    except FileNotFoundError as error:
        raise StoreError(f"The run {folder.name} has no {path.name}.") from error
    except (OSError, pa.ArrowException) as error:
        raise StoreError(
            f"{path.name} of the run {folder.name} is damaged ({first_line(error)}): "
            "restore it or repeat the run."
        ) from error
    missing = [c.name for c in TABLES[kind] if c.is_required and c.name not in table.column_names]
    if missing:
        raise StoreError(
            f"{path.name} of the run {folder.name} lacks the column {', '.join(missing)}: "
            "restore it or repeat the run."
        )
    frame: pd.DataFrame = table.to_pandas()
    return frame


def write_table(folder: Path, kind: str, frame: pd.DataFrame) -> Path:
    """Writes a table of a run, whole or not at all.

    Raises:
        ValueError: A column is missing or unknown, or a value does not fit its type.
        StoreError: The disk does not take it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = _schema(kind, frame)
    try:
        table = pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False)
    except (pa.ArrowException, ValueError) as error:
        raise ValueError(f"{kind}: {error}") from error
    buffer = io.BytesIO()
    floats = [field.name for field in schema if pa.types.is_floating(field.type)]
    pq.write_table(
        table.replace_schema_metadata(None),
        buffer,
        compression="zstd",
        compression_level=19,
        # Measured numbers hardly repeat: a dictionary of them only costs room.
        use_dictionary=[name for name in schema.names if name not in floats],
        use_byte_stream_split=floats,
    )
    path = folder / f"{kind}.parquet"
    atomic_write(path, buffer.getvalue())
    return path


def _schema(kind: str, frame: pd.DataFrame) -> pa.Schema:
    import numpy as np
    import pyarrow as pa

    left = list(frame.columns)
    fields = []
    for column in TABLES[kind]:
        names = _matching(column.name, left)
        if column.is_required and not names:
            raise ValueError(f"{kind} lacks the column {column.name!r}")
        for name in names:
            left.remove(name)
            is_integer = np.issubdtype(np.asarray(frame[name]).dtype, np.integer)
            # A nullable field would let pandas' missing integers pass.
            is_nullable = column.types == ("float",)
            arrow_type = column.types[0] if is_integer else column.types[-1]
            fields.append(pa.field(name, pa.type_for_alias(arrow_type), nullable=is_nullable))
    if left:
        raise ValueError(f"{kind} has no column {left[0]!r}; add it to TABLES and to the README")
    return pa.schema(fields)


def _matching(pattern: str, names: list[str]) -> list[str]:
    if not pattern.endswith("*"):
        return [pattern] if pattern in names else []
    stem = pattern[:-1]
    found = [n for n in names if n.startswith(stem) and n[len(stem) :].isdecimal()]
    return sorted(found, key=lambda n: int(n[len(stem) :]))
