"""The package from Python: called as transformers' pipeline is, and the document's code runs."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import ltp_core
from ltp_core.inference import input_batches
from ltp_core.records import UserError
from ltp_core.store import list_runs
from ltp_core.tokenize import encode
from tests import tiny
from tests.checkpoints import PAIRS, REVIEWS
from tests.source_trees import ROOT

TEXTS = [" ".join(tiny.WORDS[i % 7 : i % 7 + 1 + i % 9]) for i in range(12)]
PAIR = {"text": TEXTS[0], "text_pair": TEXTS[5]}


def pipeline_of(folder: Path) -> Any:
    """Transformers' own over the same folder."""
    import transformers

    tokenizer = transformers.PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_file=str(folder / "tokenizer.json"),
        pad_token="[PAD]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )
    network = transformers.AutoModelForSequenceClassification.from_pretrained(folder)
    return transformers.pipeline("text-classification", model=network, tokenizer=tokenizer)


def close(found: Any, expected: Any) -> bool:
    """The same shapes and labels, and scores to five digits."""
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(close, found, expected))
    return bool(
        found.keys() == expected.keys()
        and found["label"] == expected["label"]
        and found["score"] == pytest.approx(expected["score"], abs=1e-5)
    )


def test_it_is_called_like_a_pipeline(hugging_face_folder: Callable[[str], Path]) -> None:
    """Texts, lists, pairs, `top_k` and a function give what transformers gives, in the same shapes."""
    folder = hugging_face_folder("bert")
    ours, theirs = ltp_core.load(str(folder)), pipeline_of(folder)
    asked: list[Any] = [TEXTS[0], TEXTS, [TEXTS[0]], PAIR, [PAIR, PAIR]]
    several: list[dict[str, Any]] = [{}, {"top_k": 1}, {"top_k": 2}, {"top_k": None}]
    for given, options in itertools.product(asked, several):
        assert close(ours(given, **options), theirs(given, **options)), (given, options)
    for function in ("softmax", "sigmoid", "none"):
        named: dict[str, Any] = {"top_k": None, "function_to_apply": function}
        assert close(ours(TEXTS, batch_size=5, **named), theirs(TEXTS, **named)), function


def test_an_iterator_gives_an_iterator(tiny_store: Path) -> None:
    """What comes one after another is answered so."""
    classifier = ltp_core.load(REVIEWS)
    found = classifier(text for text in TEXTS)
    assert next(found) == classifier(TEXTS)[0]
    assert len(TEXTS) - 1 == len(list(found))
    assert [] == classifier([])


def test_what_is_no_input_is_refused(tiny_store: Path) -> None:
    """An error that says what an input is; -1 labels are not all but the last one."""
    classifier = ltp_core.load(REVIEWS)
    wrongs: list[Any] = [3, [3], [["a", "b"]], {"txt": "a"}, {"text_pair": "a"}, [None]]
    for given in wrongs:
        with pytest.raises(UserError, match=r"An input (is|has)"):
            classifier(given)
    for options in ({"top_k": 0}, {"top_k": -1}, {"batch_size": 0}):
        with pytest.raises(UserError, match="must be at least 1"):
            classifier(TEXTS, **options)


def test_what_cannot_compute_is_refused(tiny_store: Path) -> None:
    """A runner that there is not, a pass without a text."""
    with pytest.raises(UserError, match="no runner 'fast': take packed, onnx, masked"):
        ltp_core.load(REVIEWS, runner="fast")  # type: ignore[arg-type]
    with pytest.raises(UserError, match="batch_size = 0"):
        ltp_core.load(REVIEWS, batch_size=0)


def test_a_batch_size_is_of_one_call(tiny_store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next call has that of the classifier again."""
    sizes = []

    def noted(model: Any, encoded: Any, batch_size: int) -> Any:
        sizes.append(batch_size)
        return input_batches(model, encoded, batch_size)

    monkeypatch.setattr("ltp_core.predicting.scoring.input_batches", noted)
    classifier = ltp_core.load(REVIEWS, batch_size=4)
    classifier(TEXTS, batch_size=2)
    classifier(TEXTS)
    assert sizes == [2, 4]


def test_a_trace(tiny_store: Path) -> None:
    """The decisions behind an answer, of a text or a pair."""
    trace = ltp_core.load(REVIEWS).trace(TEXTS[8])
    assert trace.label == ltp_core.load(REVIEWS)(TEXTS[8])[0]["label"]
    assert ltp_core.load(PAIRS).trace(**{"text": TEXTS[1], "text_pair": TEXTS[2]}).tokens


def test_a_model_in_memory_is_pruned(hugging_face_folder: Callable[[str], Path]) -> None:
    """Thresholds for the budget; the model itself stays as it was, and with nothing pruned it is equal."""
    theirs = pipeline_of(hugging_face_folder("bert"))
    before = {name: value.clone() for name, value in theirs.model.state_dict().items()}
    fast = tiny.fast_tokenizer()
    pruned = ltp_core.prune(theirs.model, fast, TEXTS, 0.7, max_configurations=40)
    assert {len(TEXTS)} == {len(pruned(TEXTS))}
    assert pruned.trace(TEXTS[8]).relative_flops["paper"] < 1
    assert all(value.equal(before[name]) for name, value in theirs.model.state_dict().items())
    whole = ltp_core.prune(theirs.model, fast, TEXTS, 1.0, max_configurations=40)
    assert (
        close(whole(TEXTS)[:1], theirs(TEXTS)[:1])
        or whole.trace(TEXTS[0]).relative_flops["paper"] < 1
    )
    with pytest.raises(UserError, match="target_relative_flops"):
        ltp_core.prune(theirs.model, fast, TEXTS, 1.5)
    with pytest.raises(UserError, match="no text"):
        ltp_core.prune(theirs.model, fast, [], 0.7)


def test_calibration_takes_pairs_in_both_forms(
    hugging_face_folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dictionary stands for its two texts, not for their names."""
    seen: list[Any] = []

    def noted(tokenizer: Any, texts: Any, max_length: int) -> Any:
        seen.extend(texts)
        return encode(tokenizer, [], max_length)

    monkeypatch.setattr("ltp_core.predicting.classifier.encode", noted)
    model = pipeline_of(hugging_face_folder("bert")).model
    fast = tiny.fast_tokenizer()
    texts: list[Any] = ["a movie", PAIR, (TEXTS[1], TEXTS[2])]
    with pytest.raises(UserError, match="no text"):  # nothing is searched here
        ltp_core.prune(model, fast, texts, 0.9)
    assert seen == [("a movie",), (TEXTS[0], TEXTS[5]), (TEXTS[1], TEXTS[2])]
    wrongs: list[Any] = [[("a", "b", "c")], [("a", 1)], [["a", "b"]]]
    for wrong in wrongs:
        with pytest.raises(UserError, match="An input is"):
            ltp_core.prune(model, fast, wrong, 0.9)


def test_the_package_is_imported_without_torch() -> None:
    """`import ltp_core` takes no second; what it offers is listed."""
    code = "import sys, ltp_core; assert 'torch' not in sys.modules; print(*ltp_core.__all__)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert "PrunedModelForSequenceClassification TextClassifier load prune" == done.stdout.strip()
    with pytest.raises(AttributeError):
        ltp_core.nothing  # noqa: B018


SHIPPED = list_runs([ROOT / "data_cache" / "sample"])


@pytest.mark.skipif(not SHIPPED, reason="the sample store is empty")
def test_the_code_of_the_document_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every block of docs/python.md, one after another, in one namespace."""
    text = (ROOT / "docs" / "python.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 4
    monkeypatch.setenv("LTP_STORE", str(tmp_path / "store"))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
