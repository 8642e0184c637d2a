"""A checkpoint as a `transformers` model: equal to ours and to theirs, and nothing is ignored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

import ltp_core
from ltp_core import PrunedModelForSequenceClassification as Pruned
from ltp_core.checkpoint import load_checkpoint
from ltp_core.predicting.scoring import Scorer
from ltp_core.records import UserError
from tests import tiny
from tests.checkpoints import PAIRS, QUESTIONS, REVIEWS, save_questions
from tests.commands import run

TEXTS = [" ".join(tiny.WORDS[i % 7 : i % 7 + 1 + i % 9]) for i in range(12)]
PAIR = {"text": TEXTS[0], "text_pair": TEXTS[5]}


def batch_of(model: Pruned, texts: list[str] = TEXTS, **options: Any) -> Any:
    """The texts as its tokenizer pads them."""
    return model.make_tokenizer()(texts, padding=True, return_tensors="pt", **options)


def scored(checkpoint: str, texts: list[str] = TEXTS) -> np.ndarray:
    """Logits that `predict` reads."""
    return Scorer(load_checkpoint(checkpoint))([(text,) for text in texts]).logits


@pytest.mark.parametrize("architecture", sorted(tiny.ARCHITECTURES))
def test_with_nothing_pruned_it_is_theirs(
    hugging_face_folder: Callable[[str], Path], architecture: str
) -> None:
    """Logits of every family's own class in transformers, for texts and pairs, with padding."""
    folder = hugging_face_folder(architecture)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ours = Pruned.from_pretrained(folder)
    for given in (batch_of(ours), batch_of(ours, text_pair=TEXTS[::-1])):
        torch.testing.assert_close(ours(**given).logits, theirs(**given).logits, atol=1e-4, rtol=0)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_on_either_side_changes_nothing(tiny_store: Path, side: str) -> None:
    """Each text has the logits that `predict` gives it, and more padding makes no difference."""
    model = Pruned.from_pretrained(REVIEWS)
    tokenizer = model.make_tokenizer()
    tokenizer.padding_side = side
    given = tokenizer(TEXTS, padding="max_length", max_length=20, return_tensors="pt")
    found = model(**given).logits
    torch.testing.assert_close(found, torch.from_numpy(scored(REVIEWS)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("checkpoint", "given"), [(REVIEWS, TEXTS), (REVIEWS, TEXTS[0]), (PAIRS, [PAIR, PAIR])]
)
def test_a_pipeline_says_what_ours_says(tiny_store: Path, checkpoint: str, given: Any) -> None:
    """`transformers.pipeline` gives the labels and scores of `ltp_core.load`."""
    model, ours = Pruned.from_pretrained(checkpoint), ltp_core.load(checkpoint)
    pipe = transformers.pipeline(
        "text-classification", model=model, tokenizer=model.make_tokenizer()
    )
    several: list[dict[str, Any]] = [{}, {"top_k": None}]
    for options in several:
        found, expected = pipe(given, batch_size=4, **options), ours(given, **options)
        flat, wanted = np.ravel(np.array([found, expected], dtype=object)).reshape(2, -1)
        assert [row["label"] for row in flat] == [row["label"] for row in wanted]
        assert [row["score"] for row in flat] == pytest.approx(
            [row["score"] for row in wanted], abs=1e-5
        )


def test_a_pipeline_takes_its_class_without_a_word(
    tiny_store: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is one of the classes that transformers expects for the task."""
    model = Pruned.from_pretrained(REVIEWS)
    transformers.logging.enable_propagation()
    transformers.pipeline("text-classification", model=model, tokenizer=model.make_tokenizer())
    assert "not supported" not in caplog.text


def test_a_trainer_predicts_with_it(tiny_store: Path, tmp_path: Path) -> None:
    """`Trainer.predict` gives the same logits, and the mean loss."""
    model = Pruned.from_pretrained(REVIEWS)
    tokenizer = model.make_tokenizer()
    labels = [i % 2 for i in range(len(TEXTS))]
    rows = [{**tokenizer(text), "labels": label} for text, label in zip(TEXTS, labels, strict=True)]
    options: dict[str, Any] = {
        "per_device_eval_batch_size": len(TEXTS),
        "report_to": "none",
        "use_cpu": True,
    }
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(output_dir=str(tmp_path), disable_tqdm=True, **options),
        data_collator=transformers.DataCollatorWithPadding(tokenizer),
    )
    found: Any = trainer.predict(rows)  # type: ignore[arg-type]
    expected = scored(REVIEWS)
    np.testing.assert_allclose(found.predictions, expected, atol=1e-5)
    loss = torch.nn.functional.cross_entropy(torch.from_numpy(expected), torch.tensor(labels))
    assert found.metrics["test_loss"] == pytest.approx(float(loss), abs=1e-5)


@pytest.mark.parametrize(
    ("problem", "labels"),
    [
        ("single_label_classification", torch.arange(12) % 3),
        ("multi_label_classification", (torch.arange(36).view(12, 3) % 2).float()),
        ("regression", torch.arange(36).view(12, 3) / 10),
    ],
)
def test_the_loss_is_theirs(tmp_path: Path, problem: str, labels: torch.Tensor) -> None:
    """For classes, independent labels and values; a tuple on demand."""
    folder = tiny.save_hugging_face("bert", tmp_path / "model", problem_type=problem)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(folder).eval()
    ours = Pruned.from_pretrained(folder)
    given = {**batch_of(ours), "labels": labels}
    torch.testing.assert_close(ours(**given).loss, theirs(**given).loss, atol=1e-4, rtol=1e-4)
    assert problem == ours.config.problem_type
    loss, logits = ours(**given, return_dict=False)
    assert loss == ours(**given).loss
    assert logits.shape == (12, 3)


def test_what_is_saved_is_loaded(tiny_store: Path, tmp_path: Path) -> None:
    """The same logits and the run's records; commands take the folder, transformers its model."""
    model, out = Pruned.from_pretrained(REVIEWS), tmp_path / "saved"
    model.save_pretrained(out)
    model.save_pretrained(out)  # an earlier one is replaced
    again = Pruned.from_pretrained(out)
    assert model.config.to_dict() == {**again.config.to_dict(), "_name_or_path": REVIEWS}
    given = batch_of(model)
    torch.testing.assert_close(model(**given).logits, again(**given).logits, atol=0, rtol=0)
    assert 0 == run("trace", str(out), "a great movie").status
    assert "0.9000" in (out / "README.md").read_text()
    assert transformers.AutoTokenizer.from_pretrained(out / "model")(TEXTS[3])["input_ids"]


def test_a_model_in_memory_is_saved_without_records(
    hugging_face_folder: Callable[[str], Path], tmp_path: Path
) -> None:
    """What `ltp_core.prune` made is a model too; nothing was measured of it."""
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        hugging_face_folder("bert")
    )
    fast = tiny.fast_tokenizer()
    classifier = ltp_core.prune(theirs, fast, TEXTS, 0.7, max_configurations=20)
    model = Pruned(classifier.model)
    model.save_pretrained(tmp_path / "saved")
    again = Pruned.from_pretrained(tmp_path / "saved")
    given = batch_of(model)
    torch.testing.assert_close(model(**given).logits, again(**given).logits, atol=0, rtol=0)
    assert "Nothing:" in (tmp_path / "saved" / "README.md").read_text()


def test_it_changes_its_type_and_thresholds_stay(tiny_store: Path) -> None:
    """bfloat16 and float16 are near; the classifier that it came from is not changed by that."""
    classifier = ltp_core.load(REVIEWS)
    before = classifier(TEXTS)
    model = Pruned(classifier.model)
    given = batch_of(model)
    exact, pruning = model(**given).logits, model._pruned.method.state_json()
    for change, dtype in ((model.bfloat16, torch.bfloat16), (model.half, torch.float16)):
        found = change()(**given).logits
        assert dtype == found.dtype == model.dtype
        torch.testing.assert_close(found.float(), exact, atol=0.3, rtol=0)
        assert pruning == model._pruned.method.state_json()
        model.load_state_dict(classifier.model.encoder.state_dict(prefix="encoder."))
        model.float()  # type: ignore[no-untyped-call]
    assert before == classifier(TEXTS)
    assert torch.bfloat16 == Pruned.from_pretrained(REVIEWS, dtype="bfloat16").dtype


def test_other_weights_are_computed_with(tiny_store: Path, tmp_path: Path) -> None:
    """What `load_state_dict` puts in place counts, and the run's records are not its own."""
    model = Pruned.from_pretrained(REVIEWS)
    model.load_state_dict({name: 0 * value for name, value in model.state_dict().items()})
    assert 0 == model(**batch_of(model)).logits.abs().max()
    model.save_pretrained(tmp_path / "saved")
    assert "0.9000" not in (tmp_path / "saved" / "README.md").read_text()


IDS = torch.tensor([[2, 7, 8, 3], [2, 9, 3, 0]])
MASK = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"input_ids": None}, "input_ids and no inputs_embeds"),
        ({"input_ids": None, "inputs_embeds": torch.zeros(2, 4, 16)}, "no inputs_embeds"),
        ({"input_ids": IDS[0]}, "one row an input"),
        ({"input_ids": IDS.float()}, "must be integers"),
        ({"input_ids": IDS + 1000}, "from 0 to"),
        ({"attention_mask": MASK[:, :3]}, "1 or 0"),
        ({"attention_mask": 2 * MASK}, "1 or 0"),
        ({"attention_mask": MASK[:, None, None]}, "1 or 0"),
        ({"attention_mask": 0 * MASK}, "has no token"),
        ({"attention_mask": torch.tensor([[1, 0, 1, 1]] * 2)}, "between real tokens"),
        ({"token_type_ids": 2 * MASK}, "from 0 to 1"),
        ({"position_ids": torch.tensor([[0, 1, 1, 2]])}, "position_ids"),
        ({"output_attentions": True}, "output_attentions"),
        ({"output_hidden_states": True}, "output_hidden_states"),
        ({"input_ids": IDS[:, [0] * 50], "attention_mask": None}, "50 tokens, and the model takes"),
    ],
)
def test_what_it_does_not_understand_is_refused(
    tiny_store: Path, changes: dict[str, Any], reason: str
) -> None:
    """A sentence about the argument; nothing is ignored."""
    model = Pruned.from_pretrained(REVIEWS)
    with pytest.raises(UserError, match=reason):
        model(**{"input_ids": IDS, "attention_mask": MASK, **changes})


def test_its_own_positions_may_be_named(tiny_store: Path) -> None:
    """Those of the tokens in their order, behind padding too."""
    model = Pruned.from_pretrained(REVIEWS)
    plain = model(input_ids=IDS, attention_mask=MASK)
    named = model(input_ids=IDS, attention_mask=MASK, position_ids=torch.arange(4)[None])
    shifted = model(
        input_ids=IDS.roll(1, 1)[1:],
        attention_mask=MASK.roll(1, 1)[1:],
        position_ids=torch.tensor([[0, 0, 1, 2]]),
    )
    assert plain.logits.equal(named.logits)
    torch.testing.assert_close(plain.logits[1:], shifted.logits, atol=1e-5, rtol=0)


def test_it_is_for_inference(tiny_store: Path, tmp_path: Path) -> None:
    """Training mode is refused, what it gives may be changed, and so are the other ways to make one."""
    model = Pruned.from_pretrained(REVIEWS)
    logits = model(input_ids=IDS, attention_mask=MASK).logits
    assert not logits.requires_grad
    logits += 1
    with pytest.raises(UserError, match=r"no gradients: call \.eval\(\)"):
        model.train()(input_ids=IDS, attention_mask=MASK)
    save_questions(tmp_path)
    for make, reason in (
        (lambda: Pruned.from_pretrained(REVIEWS, device_map="auto"), "no 'device_map' here"),
        (lambda: Pruned.from_pretrained(REVIEWS, dtype="int8"), "must be float32"),
        (lambda: Pruned.from_pretrained(tmp_path / "runs" / QUESTIONS), "answers questions"),
        (
            lambda: Pruned(model.config),  # type: ignore[arg-type]
            "made of a checkpoint",
        ),
        (lambda: model.save_pretrained(tmp_path / "x", push_to_hub=True), "no 'push_to_hub' here"),
    ):
        with pytest.raises(UserError, match=reason):
            make()
