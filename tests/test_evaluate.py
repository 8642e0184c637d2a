"""Evaluation: the metrics, the cost and the records of a pass over a data set agree with each other."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from ltp_core import store
from ltp_core.checkpoint import PrunedModel
from ltp_core.encoder.model import Encoder
from ltp_core.evaluate import Evaluation, evaluate_checkpoint
from ltp_core.flops import layer_macs
from ltp_core.pruning import LearnedTokenPruning, Unpruned
from ltp_core.records import UserError
from ltp_core.runners.packed import PackedRunner
from ltp_core.tables import TABLES
from ltp_core.tasks.catalogue import TASKS
from ltp_core.tasks.loading import load_rows
from ltp_core.trace import trace_text
from tests import tiny, trainings
from tests.running import ltp

THRESHOLDS = (0.5, 0.7, 0.9)


def model_for(task: str | None, *, num_labels: int = 2, max_length: int = 40) -> PrunedModel:
    """A tiny pruned BERT in float64, so that batches do not matter down to the last decimal."""
    config = dataclasses.replace(tiny.encoder().config, num_labels=num_labels)
    encoder = Encoder(config).double().eval()
    tiny.randomise(encoder, 4)
    return PrunedModel(
        name="tiny",
        task=task,
        method=ltp(THRESHOLDS),
        encoder=encoder,
        packed=PackedRunner(encoder),
        tokenizer=tiny.tokenizer("bert"),
        label_names=tuple("abc"[:num_labels]),
        max_length=max_length,
        dense=None,
        base="tiny",
    )


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with a few tasks."""
    folder = tmp_path_factory.mktemp("data")
    for task in ("sst2", "mrpc", "stsb", "mnli"):
        trainings.save_data(folder, task, train=30, validation=25)
    return folder


def evaluate(data: Path, task: str = "sst2", **options: Any) -> Evaluation:
    """The tiny model on a task's validation split."""
    model = model_for(task, num_labels=TASKS[task].num_labels)
    return evaluate_checkpoint(model, data_dir=data, **options)


@pytest.mark.parametrize("task", ["sst2", "mrpc", "mnli", "stsb"])
def test_metrics_are_those_of_the_records(data: Path, task: str) -> None:
    """The metrics follow from the stored predictions, and these from the stored logits."""
    found = evaluate(data, task)
    examples = found.examples
    logits = examples[[c for c in examples if c.startswith("logit_")]].to_numpy()
    assert (25, TASKS[task].num_labels) == logits.shape
    expected = logits[:, 0] if task == "stsb" else logits.argmax(axis=1)
    assert expected.tolist() == examples["prediction"].tolist()
    rows = load_rows(task, "validation", data_dir=data)
    assert rows.labels.tolist() == examples["label"].tolist()
    assert rows.row.tolist() == examples["row"].tolist()
    metrics = TASKS[task].score(examples["prediction"].to_numpy(), rows.labels)
    assert metrics == found.metrics
    assert next(iter(metrics)) == next(iter(found.metrics))


@pytest.mark.parametrize("task", ["sst2", "mrpc"])
def test_cost_is_that_of_the_records(data: Path, task: str) -> None:
    """Relative FLOPs and retained fractions follow from the stored lengths, sums before division."""
    found = evaluate(data, task)
    size = {"hidden": 16, "intermediate": 24}
    layers, length = found.layers, found.examples["length"].to_numpy(dtype=float)
    for accounting, relative in found.relative_flops.items():
        macs = layer_macs(
            layers["attention_length"].to_numpy(dtype=float),
            layers["ffn_length"].to_numpy(dtype=float),
            accounting=accounting,
            **size,
        )
        whole = 3 * layer_macs(length, length, accounting=accounting, **size).sum()
        assert pytest.approx(macs.sum() / whole) == relative
        assert 0.2 < relative < 0.9
    kept = layers.groupby("layer")["ffn_length"].sum() / length.sum()
    assert pytest.approx(kept.tolist()) == found.mean_retained


def test_records_have_the_columns_of_the_store(data: Path, tmp_path: Path) -> None:
    """Both frames can be written as they are, and every example has a line a layer."""
    found = evaluate(data)
    for kind, frame in (("examples", found.examples), ("layers", found.layers)):
        store.write_table(tmp_path, kind, frame)
        assert len(frame) == len(store.read_table(tmp_path, kind))
        required = {c.name for c in TABLES[kind] if c.is_required}
        assert required <= set(frame)
    assert {"validation"} == set(found.examples["split"]) | set(found.layers["split"])
    assert [0, 1, 2] * 25 == found.layers["layer"].tolist()
    entering = found.layers.pivot(index="row", columns="layer", values="attention_length")
    assert found.examples["length"].tolist() == entering[0].tolist()
    leaving = found.layers.pivot(index="row", columns="layer", values="ffn_length")
    assert leaving[[0, 1]].to_numpy().tolist() == entering[[1, 2]].to_numpy().tolist()


@pytest.mark.parametrize("batch_size", [1, 2, 7, 25])
@pytest.mark.parametrize("task", ["sst2", "mrpc", "stsb"])
def test_batch_size_does_not_matter(data: Path, task: str, batch_size: int) -> None:
    """Alone or among others, an example has the same logits and the same lengths."""
    expected, found = evaluate(data, task), evaluate(data, task, batch_size=batch_size)
    pd.testing.assert_frame_equal(expected.layers, found.layers)
    pd.testing.assert_frame_equal(expected.examples, found.examples, rtol=1e-6)
    assert expected.relative_flops == found.relative_flops


def test_an_example_is_what_its_trace_says(data: Path) -> None:
    """Evaluation and a trace of the same text agree on logits and lengths."""
    found, model = evaluate(data), model_for("sst2")
    rows = load_rows("sst2", "validation", data_dir=data)
    for i in (0, 11, 24):
        trace = trace_text(model, *rows.texts[i])
        logits = found.examples.loc[i, ["logit_0", "logit_1"]].tolist()
        assert pytest.approx(trace.logits, abs=1e-5) == logits
        lengths = found.layers[found.layers["row"] == rows.row[i]]["ffn_length"].tolist()
        assert list(trace.lengths[1:]) == lengths


def test_a_limit_takes_some_of_the_same_rows(data: Path) -> None:
    """Rows keep their numbers and results; the record says how many there were."""
    every, some = evaluate(data), evaluate(data, limit=6)
    assert (25, 6) == (every.rows, some.rows)
    chosen = every.examples[every.examples["row"].isin(some.examples["row"])]
    pd.testing.assert_frame_equal(chosen.reset_index(drop=True), some.examples, rtol=1e-6)
    assert 6 == some.dataset["rows"]
    assert every.dataset["sha256"] != some.dataset["sha256"]
    assert str(data) not in str(some.dataset)


def test_another_method_prunes_with_the_same_weights(data: Path) -> None:
    """`method` replaces the checkpoint's own for this pass only."""
    model = model_for("sst2")
    off = evaluate_checkpoint(model, data_dir=data, method=Unpruned.neutral(3))
    assert ({"paper": 1.0, "executed": 1.0}, [1.0] * 3) == (off.relative_flops, off.mean_retained)
    on = evaluate_checkpoint(model, data_dir=data)
    assert off.examples["logit_0"].tolist() != on.examples["logit_0"].tolist()
    neutral = evaluate_checkpoint(model, data_dir=data, method=LearnedTokenPruning.neutral(3))
    pd.testing.assert_frame_equal(off.examples, neutral.examples, rtol=1e-6)


def test_inputs_are_cut_at_the_checkpoints_length(data: Path) -> None:
    """The longest input in training is the longest here."""
    found = evaluate_checkpoint(model_for("sst2", max_length=8), data_dir=data)
    assert 8 == found.examples["length"].max()
    whole = evaluate(data).examples["length"]
    assert np.minimum(whole, 8).tolist() == found.examples["length"].tolist()


def test_heldout_rows_are_training_rows(data: Path) -> None:
    """The split for choices comes from the training file and is named in the records."""
    found = evaluate(data, split="heldout")
    assert {"heldout"} == set(found.examples["split"])
    assert 1 <= found.rows <= 4


# --- what cannot be evaluated -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "task", "words"),
    [
        (2, "mnli", "tiny has 2 outputs, but mnli needs 3"),
        (3, "sst2", "tiny has 3 outputs, but sst2 needs 2"),
        (2, "stsb", "tiny has 2 outputs, but stsb needs 1"),
        (1, "mrpc", "tiny has 1 outputs, but mrpc needs 2"),
    ],
)
def test_a_head_of_another_size_is_refused(data: Path, labels: int, task: str, words: str) -> None:
    """Before anything runs."""
    model = model_for("sst2", num_labels=labels)
    with pytest.raises(UserError, match=words):
        evaluate_checkpoint(model, task, data_dir=data)


@pytest.mark.parametrize(
    ("model_task", "options", "words"),
    [
        (None, {}, "give one with --task"),
        ("sst2", {"split": "nonsense"}, "no split 'nonsense'"),
        ("sst2", {"limit": 0}, "from 1 on"),
        ("rte", {}, "rte/validation is neither"),
        ("sst3", {}, "did you mean 'sst2'"),
    ],
)
def test_what_is_not_there_is_said(
    data: Path,
    model_task: str | None,
    options: dict[str, Any],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A task, a split or a data set that does not exist is one sentence."""
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    with pytest.raises(UserError, match=words):
        evaluate_checkpoint(model_for(model_task), data_dir=data, **options)


def test_no_room_for_a_token_is_said(data: Path) -> None:
    """A maximum length that the special tokens fill."""
    with pytest.raises(UserError, match="max_length 2 leaves no room"):
        evaluate_checkpoint(model_for("sst2", max_length=2), data_dir=data)


def swapped(model: PrunedModel, names: tuple[str, ...]) -> PrunedModel:
    """The same model with its two outputs in the other order, and these names for them."""
    encoder = tiny.copy_of(model.encoder)
    for parameter in encoder.classifier.parameters():
        parameter.data = parameter.data.flip(0)
    return dataclasses.replace(
        model, task=None, encoder=encoder, packed=PackedRunner(encoder), label_names=names
    )


@pytest.mark.parametrize("names", [("POSITIVE", "NEGATIVE"), ("pos", "neg")])
def test_outputs_are_matched_by_name(names: tuple[str, ...], data: Path) -> None:
    """Another order of the classes gives the same accuracy and the same logits of each class."""
    model = dataclasses.replace(model_for("sst2"), label_names=("negative", "positive"))
    expected = evaluate_checkpoint(model, "sst2", data_dir=data)
    found = evaluate_checkpoint(swapped(model, names), "sst2", data_dir=data)
    assert expected.metrics == found.metrics
    pd.testing.assert_frame_equal(expected.examples, found.examples)


def test_names_that_fit_no_class_are_refused(data: Path) -> None:
    """Nobody guesses which output is which."""
    model = swapped(model_for("sst2"), ("weather", "price"))
    with pytest.raises(UserError, match="id2label"):
        evaluate_checkpoint(model, "sst2", data_dir=data)


def test_independent_labels_are_no_class(data: Path) -> None:
    """A multi-label head is not measured as if one label excluded the others."""
    model = dataclasses.replace(model_for("sst2"), task=None, is_multi_label=True)
    with pytest.raises(UserError, match="any number of labels"):
        evaluate_checkpoint(model, "sst2", data_dir=data)
