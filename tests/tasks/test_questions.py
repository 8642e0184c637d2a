"""Question answering from the files to the records: data, training, evaluation, thresholds."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from ltp_core import store
from ltp_core.analysis.example_records import read_examples
from ltp_core.checkpoint import load_checkpoint
from ltp_core.config import ConfigError, DataConfig, MethodSettings, TrainConfig
from ltp_core.evaluate import evaluate_checkpoint
from ltp_core.flops import layer_macs
from ltp_core.metrics import compute_metrics
from ltp_core.pruning import METHODS, Unpruned
from ltp_core.records import QuestionSettings, UserError
from ltp_core.tables import TABLES
from ltp_core.tasks.answers import best_threshold
from ltp_core.tasks.loading import load_rows
from ltp_core.tasks.questions import make_unanswerable
from ltp_core.tasks.task import Rows
from ltp_core.training.losses import distillation_loss, divergence, task_loss
from tests import tiny, trainings
from tests.source_trees import ROOT
from tests.trainings import Workplace


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with both tasks."""
    return trainings.save_questions(tmp_path_factory.mktemp("questions"))


# --- rows ---------------------------------------------------------------------------------------


def test_rows_have_their_answers(data: Path) -> None:
    """Texts, labels and accepted answers as they stand in the file."""
    frame = pd.read_parquet(data / "squad_v2" / "validation.parquet")
    rows = load_rows("squad_v2", "validation", data_dir=data)
    assert rows.answers is not None
    assert list(zip(frame["question"], frame["context"], strict=True)) == rows.texts
    assert [int(i % 5 != 0) for i in range(24)] == rows.labels.tolist()
    for (_, context), answers, label in zip(rows.texts, rows.answers, rows.labels, strict=True):
        assert label == len(answers.texts)
        for text, begin in zip(answers.texts, answers.begins, strict=True):
            assert context[begin : begin + len(text)] == text
    some = rows.take(np.array([2, 5]))
    assert (rows.answers[2], rows.answers[5]) == some.answers


def test_other_tasks_have_no_answers(data: Path) -> None:
    """Only questions have; and a table without the column is refused by name."""
    trainings.save_data(data, "mrpc")
    assert load_rows("mrpc", "train", data_dir=data).answers is None
    broken = data / "broken" / "squad"
    broken.mkdir(parents=True, exist_ok=True)
    frame = pd.read_parquet(data / "squad" / "train.parquet")
    frame.drop(columns="answers").to_parquet(broken / "train.parquet")
    with pytest.raises(UserError, match="column 'answers' is missing"):
        load_rows("squad", "train", data_dir=data / "broken")
    frame.assign(answers="x").to_parquet(broken / "train.parquet")
    with pytest.raises(UserError, match="must hold `text` and `answer_start`"):
        load_rows("squad", "train", data_dir=data / "broken")


def made(data: Path, share: float) -> tuple[Rows, Rows]:
    """The training rows as they are, and with a share of them made unanswerable."""
    rows = load_rows("squad", "train", data_dir=data)
    return rows, make_unanswerable(rows, share, rows)


def test_made_questions_have_no_answer_in_their_new_context(data: Path) -> None:
    """The same question, another context of the same article, no accepted answer in it."""
    rows, changed = made(data, 1.0)
    assert rows.answers is not None
    assert changed.answers is not None
    assert rows.row.tolist() == changed.row.tolist()
    contexts: dict[str, set[str]] = {}
    for (_, context), answers in zip(rows.texts, rows.answers, strict=True):
        contexts.setdefault(answers.article, set()).add(context)
    num_made = 0
    for i, (question, context) in enumerate(changed.texts):
        before = rows.answers[i]
        usable = [
            other
            for other in contexts[before.article] - {rows.texts[i][1]}
            if before.texts[0] not in other
        ]
        assert rows.texts[i][0] == question
        assert bool(usable) == (context != rows.texts[i][1])
        assert int(not usable) == changed.labels[i] == len(changed.answers[i].texts)
        if usable:
            assert context in usable
            num_made += 1
    assert 0 < num_made
    assert f"{num_made} of {len(rows)} questions made unanswerable" in changed.source
    assert rows.sha256 != changed.sha256


def test_the_context_with_most_words_of_the_question_is_taken(data: Path) -> None:
    """Of the usable contexts it is the one that looks most like an answer, rare words first."""
    rows = load_rows("squad", "train", data_dir=data)
    answers = dataclasses.replace(rows.answers[0], article="x", texts=("fun",), begins=(0,))  # type: ignore[index]
    contexts = ("fun", "the the", "the plot", "the fun plot of love", "the love", "love")
    pool = dataclasses.replace(
        rows,
        texts=[("", context) for context in contexts],
        answers=(answers,) * len(contexts),
        row=np.arange(len(contexts)),
        labels=np.ones(len(contexts)),
    )
    asked = dataclasses.replace(pool.take(np.array([0])), texts=[("the plot", "fun")])
    assert [("the plot", "the plot")] == make_unanswerable(asked, 1.0, pool).texts


TIE = """
import numpy as np
from ltp_core.tasks.task import Rows
from ltp_core.tasks.questions import Answers, make_unanswerable
contexts = ["own", "six three two", "one", "six three", "six three too", "six two", "six", "six it"]
rows = Rows(
    task="squad",
    split="train",
    texts=[("six three two one", context) for context in contexts],
    labels=np.ones(len(contexts)),
    row=np.arange(len(contexts)),
    source="",
    sha256="",
    answers=(Answers(texts=("own",), begins=(0,), article="a"),) * len(contexts),
)
print(make_unanswerable(rows, 1.0, rows).texts[0][1])
"""


def test_every_process_makes_the_same_questions() -> None:
    """Sets have another order in each process; contexts of equal rank must not fall by it."""
    found = {
        subprocess.run(
            [sys.executable, "-c", TIE],
            env=os.environ | {"PYTHONHASHSEED": str(seed)},
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in (1, 5, 7)
    }
    assert 1 == len(found), found


def test_the_share_is_kept_and_stable(data: Path) -> None:
    """No share changes nothing; a larger share contains a smaller one."""
    rows, none = made(data, 0.0)
    assert rows.texts == none.texts
    few, many = (set(np.flatnonzero(made(data, s)[1].labels == 0)) for s in (0.3, 0.7))
    assert few < many


def test_held_out_articles_are_not_trained_on(data: Path) -> None:
    """By article no paragraph is on both sides; by text, as older runs have it, some are."""

    def sides(settings: QuestionSettings) -> list[set[str]]:
        found = [
            load_rows("squad", split, questions=settings, data_dir=data)
            for split in ("train", "heldout")
        ]
        assert sorted([*found[0].row, *found[1].row]) == list(range(64))
        return [{context for _, context in rows.texts} for rows in found]

    train, heldout = sides(QuestionSettings(heldout_by="article"))
    assert heldout
    assert not train & heldout
    train, heldout = sides(QuestionSettings())
    assert train & heldout
    made_up = QuestionSettings(heldout_by="article", unanswerable_share=1.0)
    rows = load_rows("squad", "heldout", questions=made_up, data_dir=data)
    assert 0 in rows.labels
    assert {context for _, context in rows.texts} <= sides(QuestionSettings(heldout_by="article"))[
        1
    ]
    assert made_up == QuestionSettings.from_dict(made_up.to_dict())
    older = {key: value for key, value in made_up.to_dict().items() if key != "heldout_by"}
    assert QuestionSettings.from_dict(older).heldout_by == "text"


def test_training_rows_may_come_from_another_task(data: Path) -> None:
    """squad_v2 learns from squad; its validation rows are its own, and nothing is made there."""
    settings = QuestionSettings(train_task="squad", unanswerable_share=0.5)
    train = load_rows("squad_v2", "train", questions=settings, data_dir=data)
    heldout = load_rows("squad_v2", "heldout", questions=settings, data_dir=data)
    assert "squad/train" in train.source
    assert {"squad_v2"} == {train.task, heldout.task}
    assert not set(train.row) & set(heldout.row)
    validation = load_rows("squad_v2", "validation", questions=settings, data_dir=data)
    assert load_rows("squad_v2", "validation", data_dir=data).texts == validation.texts
    wrong = QuestionSettings(train_task="sst2")
    with pytest.raises(UserError, match="must be a task of questions"):
        load_rows("squad_v2", "train", questions=wrong, data_dir=data)


# --- losses -------------------------------------------------------------------------------------

SPAN_LOGITS = torch.tensor(
    [[[0.5, -1.0], [2.0, 0.0], [-1.0, 1.5]], [[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]]]
)
SPAN_LABELS = torch.tensor([[1, 2], [0, 0]])


def test_the_loss_is_the_mean_of_starts_and_ends() -> None:
    """Cross-entropy over positions, as transformers computes it."""
    cross_entropy = torch.nn.functional.cross_entropy
    start, end = (cross_entropy(SPAN_LOGITS[..., k], SPAN_LABELS[:, k]) for k in (0, 1))
    assert pytest.approx(float((start + end) / 2)) == float(task_loss(SPAN_LOGITS, SPAN_LABELS))


def test_padding_and_excluded_positions_do_not_matter() -> None:
    """Padding adds nothing, and a target that cannot be named is left out; gradients are finite."""
    padded = torch.cat([SPAN_LOGITS, torch.full((2, 2, 2), -torch.inf)], dim=1).requires_grad_()
    assert pytest.approx(float(task_loss(SPAN_LOGITS, SPAN_LABELS))) == float(
        task_loss(padded.detach(), SPAN_LABELS)
    )
    teacher = padded.detach().flip(2)
    expected = distillation_loss(SPAN_LOGITS, SPAN_LOGITS.flip(2), 2.0)
    found = distillation_loss(padded, teacher, 2.0)
    assert pytest.approx(float(expected), rel=1e-5) == float(found.detach())
    excluded = SPAN_LOGITS.clone()
    excluded[0, 1, 0] = -torch.inf
    excluded.requires_grad_()
    loss = task_loss(excluded, SPAN_LABELS) + distillation_loss(excluded, SPAN_LOGITS, 2.0)
    (loss + found).backward()
    for leaf in (excluded, padded):
        assert leaf.grad is not None
        assert bool(leaf.grad.isfinite().all())
    assert bool(torch.isfinite(loss))


def test_the_divergence_is_that_of_both_distributions() -> None:
    """Mean over examples, start and end of KL(source || target)."""
    source, target = SPAN_LOGITS, SPAN_LOGITS.flip(1)
    p, q = source.softmax(1), target.softmax(1)
    expected = (p * (p / q).log()).sum(1).mean()
    assert pytest.approx(float(expected), rel=1e-5) == float(divergence(source, target))


# --- a run --------------------------------------------------------------------------------------


def config(place: Workplace, **method: Any) -> TrainConfig:
    """A run on squad_v2 that learns from squad."""
    return place.config(
        task="squad_v2",
        method=MethodSettings(name="ltp", settings={"final_threshold": 0.9, **method}),
        data=DataConfig(
            max_length=24,
            stride=6,
            train_task="squad",
            unanswerable_share=0.4,
            validation_rows=15,
        ),
        soft={"epochs": 0.5},
        hard={"epochs": 0.5},
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """A place with a base model and questions."""
    folder = tmp_path_factory.mktemp("workplace")
    trainings.save_questions(folder / "data")
    return Workplace(folder, tiny.save_hugging_face("bert", folder / "base"))


@pytest.fixture(scope="module")
def run(place: Workplace) -> Path:
    """A finished LTP run."""
    return place.train(config(place))


def test_a_run_holds_what_a_reader_needs(place: Workplace, run: Path) -> None:
    """Settings, both groups of questions, and what was made unanswerable."""
    manifest = store.read_manifest(run)
    metrics = manifest.summary["validation"]["metrics"]
    assert "f1" == next(iter(metrics))
    assert {"exact_match", "has_answer_f1", "no_answer_f1"} < set(metrics)
    assert 15 == manifest.summary["validation"]["rows"]
    about = manifest.dataset
    assert "made unanswerable" in about["train"]["source"]
    assert 0 < about["train"]["unanswerable_rows"] < about["train"]["rows"]
    assert 0 < about["validation"]["unanswerable_rows"] < 15
    for kind in ("examples", "layers"):
        known = {column.name for column in TABLES[kind]} - {"logit_*", "holds_*"}
        assert set(store.read_table(run, kind).columns) == known


def test_the_threshold_is_chosen_on_heldout_rows(run: Path) -> None:
    """It is the best one for them, the checkpoint keeps it, and the validation rows obey it."""
    examples = store.read_table(run, "examples")
    heldout = examples[examples["split"] == "heldout"]
    threshold = best_threshold(heldout)
    saved = json.loads((run / "pruning.json").read_text())["questions"]
    assert saved["null_threshold"] == pytest.approx(threshold)
    assert {"stride": 6, "train_task": "squad", "unanswerable_share": 0.4} == {
        key: saved[key] for key in ("stride", "train_task", "unanswerable_share")
    }
    unanswered = examples["null_difference"] > threshold
    assert (
        examples["prediction"]
        == np.where(unanswered, examples["label"] == 0, examples["answer_f1"])
    ).all()
    assert load_checkpoint(str(run)).questions == QuestionSettings(**saved)


def test_metrics_are_those_of_the_records(run: Path) -> None:
    """F1 follows from the stored scores, in total and by group."""
    examples = store.read_table(run, "examples")
    for split, summary in store.read_manifest(run).summary.items():
        own = examples[examples["split"] == split]
        found = compute_metrics("answers", own["prediction"].to_numpy(), own["label"].to_numpy())
        for name, value in found.items():
            assert summary["metrics"][name] == pytest.approx(value)
        assert summary["metrics"]["exact_match"] == pytest.approx(own["exact_match"].mean())


def test_evaluating_again_gives_the_same(place: Workplace, run: Path) -> None:
    """The checkpoint on its own: same metrics, same cost, any batch size."""
    model = load_checkpoint(str(run))
    stored = store.read_manifest(run).summary
    for split, limit in (("heldout", None), ("validation", 15)):
        again = evaluate_checkpoint(
            model, split=split, limit=limit, data_dir=place.folder / "data", batch_size=3
        )
        assert again.metrics == pytest.approx(stored[split]["metrics"])
        assert again.relative_flops == pytest.approx(stored[split]["relative_flops"])


def test_cost_is_that_of_all_windows(run: Path) -> None:
    """Relative FLOPs follow from the records of the windows, question by question."""
    records = read_examples(run, "validation")
    assert records.windows is not None
    assert len(records.windows.example) > len(records) == 15
    assert (records.length == records.attention_length[:, 0]).all()
    pruned, whole = records.flops("paper"), records.unpruned_flops()
    assert pruned is not None
    assert whole is not None
    summary = store.read_manifest(run).summary["validation"]["relative_flops"]
    assert pruned.sum() / whole.sum() == pytest.approx(summary["paper"])
    first = records.windows.example == 0
    sizes = {"hidden": 16, "intermediate": 24, "accounting": "paper"}
    by_hand = 2 * sum(
        float(layer_macs(float(a), float(f), **sizes))
        for entering, leaving in zip(
            records.windows.attention_length[first], records.windows.ffn_length[first], strict=True
        )
        for a, f in zip(entering, leaving, strict=True)
    )
    assert pruned[0] == pytest.approx(by_hand)
    part = records.take(np.array([7, 0]))
    assert part.flops("paper") == pytest.approx(pruned[[7, 0]])
    assert records.is_correct is None


def test_no_question_of_squad_is_left_unanswered(place: Workplace, run: Path) -> None:
    """A checkpoint that never answers SQuAD 2.0 still answers SQuAD 1.1, where every answer exists."""
    model = load_checkpoint(str(run))
    assert model.questions is not None
    never = dataclasses.replace(model.questions, null_threshold=-math.inf)
    silent = dataclasses.replace(model, questions=never)
    data_dir = place.folder / "data"
    found, expected = (
        evaluate_checkpoint(one, "squad", data_dir=data_dir).examples for one in (silent, model)
    )
    assert found["answer_f1"].tolist() == found["prediction"].tolist()
    pd.testing.assert_frame_equal(expected, found)
    unanswered = evaluate_checkpoint(silent, "squad_v2", data_dir=data_dir)
    assert 0.0 == unanswered.metrics["has_answer_f1"]


def test_a_head_of_another_kind_is_refused(place: Workplace, run: Path) -> None:
    """One sentence, both ways."""
    model = load_checkpoint(str(run))
    trainings.save_data(place.folder / "data", "sst2")
    with pytest.raises(UserError, match="answers questions about a text, which does not fit sst2"):
        evaluate_checkpoint(model, "sst2", data_dir=place.folder / "data")
    classifier = load_checkpoint(str(tiny.save_hugging_face("bert", place.folder / "other")))
    with pytest.raises(UserError, match="classifies, which does not fit squad_v2"):
        evaluate_checkpoint(classifier, "squad_v2", data_dir=place.folder / "data")


def test_a_foreign_checkpoint_answers(place: Workplace, tmp_path: Path) -> None:
    """A Hugging Face folder with a span head is evaluated unpruned, every question answered."""
    tiny.hugging_face("bert", kind="ForQuestionAnswering").float().save_pretrained(tmp_path)
    tiny.tokenizer("bert").save(str(tmp_path / "tokenizer.json"))
    model = load_checkpoint(str(tmp_path))
    assert QuestionSettings() == model.questions
    found = evaluate_checkpoint(model, "squad", data_dir=place.folder / "data")
    assert found.relative_flops == {"paper": 1.0, "executed": 1.0}
    assert np.isinf(model.questions.null_threshold)
    assert "no_answer_f1" not in found.metrics


@pytest.mark.parametrize("name", ["manual", "spatten", "lat"])
def test_other_methods_train_on_questions(place: Workplace, name: str) -> None:
    """Every trained method takes a span head; excluded answers and protected questions too."""
    settings: dict[str, Any] = {"pruned_answers": "excluded", "protect_question": True}
    if name == "spatten":
        settings |= {"keep_layers": 1, "final_ratio": -0.5}
    changed = dataclasses.replace(
        config(place),
        method=MethodSettings(name=name, settings=settings),
        adapter=config(place).adapter,
    )
    folder = place.train(changed)
    model = load_checkpoint(str(folder))
    assert model.method.config.protect_question
    assert isinstance(model.method, METHODS[name])
    own = evaluate_checkpoint(model, data_dir=place.folder / "data", limit=15)
    unpruned = evaluate_checkpoint(
        model, data_dir=place.folder / "data", limit=15, method=Unpruned.control_of(model.method)
    )
    assert own.relative_flops["paper"] <= unpruned.relative_flops["paper"] == 1.0


def test_impossible_settings_are_refused(place: Workplace) -> None:
    """Each with a sentence that names the setting."""
    base = config(place)
    for changes, message in (
        ({"max_train_length": 20}, "divided into windows"),
        ({"train_task": "sst2"}, "must be a task of questions"),
        ({"max_length": 10}, "leaves no room"),
    ):
        data = dataclasses.replace(base.data, **changes)
        with pytest.raises(UserError, match=message):
            place.train(dataclasses.replace(base, data=data, seed=5))
    with pytest.raises(ConfigError, match="unanswerable_share"):
        DataConfig(unanswerable_share=1.5)
