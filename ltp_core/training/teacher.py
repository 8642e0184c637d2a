"""What the finetuned model says about every training row, computed once and kept beside the runs."""

from __future__ import annotations

import hashlib
import itertools
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from ltp_core import store
from ltp_core.checkpoint import PrunedModel
from ltp_core.files import atomic_write, json_text
from ltp_core.inference import predict
from ltp_core.tokenize import Encoded

FOLDER = "teachers"
"""Beside the store's runs; whatever is in there may be deleted at any time."""


def stored_teacher_logits(
    teacher: PrunedModel, run: Path, encoded: Encoded, destination: Path
) -> Float[Tensor, "inputs ..."]:
    """The logits that an earlier run with this teacher and these rows left, else `teacher_logits`.

    Args:
        teacher: The finetuned model.
        run: Its folder.
        encoded: The training rows.
        destination: Store that keeps the logits.
    """
    path = destination / FOLDER / f"{run.name}-{_fingerprint(run, encoded)}.safetensors"
    try:
        return load_file(path)["logits"]
    except (OSError, SafetensorError, KeyError):
        logits = teacher_logits(teacher, encoded)
    atomic_write(path, save({"logits": logits}))
    return logits


def _fingerprint(run: Path, encoded: Encoded) -> str:
    """Of the teacher's files and of every token that it reads."""
    digest = hashlib.sha256(json_text(store.read_manifest(run).files).encode())
    digest.update(encoded.length.tobytes())
    for rows in (encoded.input_ids, encoded.token_type_ids):
        digest.update(np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int32).tobytes())
    return digest.hexdigest()[:16]


def teacher_logits(teacher: PrunedModel, encoded: Encoded) -> Float[Tensor, "inputs ..."]:
    """What the finetuned model says about every row.

    Of a span head `input seq label`, in half precision, -inf behind the end of an input.
    """
    found = predict(teacher, encoded).logits
    if teacher.encoder.config.head != "span":
        return torch.from_numpy(np.stack(found))
    shape = (len(encoded), int(encoded.length.max()), teacher.encoder.config.num_labels)
    logits = torch.full(shape, -torch.inf, dtype=torch.float16)
    for i, values in enumerate(found):
        logits[i, : len(values)] = torch.from_numpy(values)
    return logits
