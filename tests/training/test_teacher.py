"""The teacher's logits: computed once for a model and its rows, then read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from ltp_core.checkpoint import PrunedModel, load_checkpoint
from ltp_core.tokenize import Encoded, encode
from ltp_core.training import teacher as teachers
from ltp_core.training.teacher import stored_teacher_logits
from tests.checkpoints import REVIEWS_DENSE, save_run

TEXTS = ["a fine film", "dull", "the cast is good , the end is not"]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finetuned model in a store."""
    return save_run(tmp_path, REVIEWS_DENSE)


@pytest.fixture
def model(run: Path) -> PrunedModel:
    """The same, loaded."""
    return load_checkpoint(str(run))


def rows(model: PrunedModel, texts: list[str]) -> Encoded:
    """Encoded texts."""
    return encode(model.tokenizer, [(text,) for text in texts], 16)


def kept(place: Path) -> list[Path]:
    """Files with logits."""
    return sorted((place / teachers.FOLDER).iterdir())


def test_logits_are_computed_once(
    run: Path, model: PrunedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second run with the same rows reads what the first one wrote."""
    encoded = rows(model, TEXTS)
    first = stored_teacher_logits(model, run, encoded, tmp_path)
    np.testing.assert_array_equal(first, teachers.teacher_logits(model, encoded))
    monkeypatch.setattr(teachers, "teacher_logits", lambda *_: pytest.fail("computed again"))
    assert torch.equal(first, stored_teacher_logits(model, run, encoded, tmp_path))


def test_other_rows_and_other_weights_have_their_own(
    run: Path, model: PrunedModel, tmp_path: Path
) -> None:
    """Nothing is read that another teacher said, or the same one about other rows."""
    stored_teacher_logits(model, run, rows(model, TEXTS), tmp_path)
    stored_teacher_logits(model, run, rows(model, TEXTS[::-1]), tmp_path)
    assert 2 == len(kept(tmp_path))
    manifest = run / "manifest.json"
    text = manifest.read_text()
    digest = next(word for word in text.split('"') if len(word) == 64)
    manifest.write_text(text.replace(digest, "0" * 64))
    stored_teacher_logits(model, run, rows(model, TEXTS), tmp_path)
    assert 3 == len(kept(tmp_path))


@pytest.mark.parametrize("content", [b"", b"not a tensor"])
def test_a_damaged_file_is_written_again(
    run: Path, model: PrunedModel, tmp_path: Path, content: bytes
) -> None:
    """What a killed process or a bad disk left costs time and nothing else."""
    encoded = rows(model, TEXTS)
    expected = stored_teacher_logits(model, run, encoded, tmp_path)
    [path] = kept(tmp_path)
    path.write_bytes(content)
    assert torch.equal(expected, stored_teacher_logits(model, run, encoded, tmp_path))
    assert len(path.read_bytes()) > len(content)
