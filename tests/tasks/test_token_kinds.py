"""Token kinds: each token is of one kind, counts are those of the layers, bands are fifths."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from ltp_core import store
from ltp_core.checkpoint import PrunedModel
from ltp_core.encoder.model import Encoder
from ltp_core.evaluate import evaluate_checkpoint, kind_counter
from ltp_core.pruning import PruningMethod, Unpruned
from ltp_core.runners.packed import PackedRunner
from ltp_core.tasks.loading import load_rows
from ltp_core.token_categories import (
    GROUPINGS,
    KINDS,
    NUM_BANDS,
    frequency_bands,
    kinds_of,
    layers_survived,
    survival,
)
from ltp_core.trace import trace_text
from tests import length_runs, tiny, trainings
from tests.running import ltp


def word_pieces(pieces: str) -> Tokenizer:
    """BERT's way: lower case, punctuation apart, `##` within words."""
    vocabulary = {p: i for i, p in enumerate(["[UNK]", "[CLS]", "[SEP]", *pieces.split()])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.BertProcessing(("[SEP]", 2), ("[CLS]", 1))
    return made


def named(tokenizer: Tokenizer, text: str) -> list[tuple[str, str]]:
    """Each token with the name of its kind."""
    encoding = tokenizer.encode(text)
    return list(zip(encoding.tokens, (KINDS[k] for k in kinds_of(encoding, [text])), strict=True))


def test_kinds_by_hand() -> None:
    """One of each; what the vocabulary lacks is judged by its text."""
    tokenizer = word_pieces("the film beaut ##iful ##ly don ' t ! is")
    assert [
        ("[CLS]", "special"),
        ("the", "stop_word"),
        ("film", "word"),
        ("[UNK]", "stop_word"),
        ("'", "punctuation"),
        ("t", "stop_word"),
        ("beaut", "piece"),
        ("##iful", "piece"),
        ("##ly", "piece"),
        ("[UNK]", "punctuation"),
        ("the", "stop_word"),
        ("[UNK]", "word"),
        ("!", "punctuation"),
        ("[SEP]", "special"),
    ] == named(tokenizer, "The film isn't beautifully ☃ The xyz!")


def test_words_of_a_pair_do_not_touch() -> None:
    """The last word of the first text and the first of the second have equal numbers, not one word."""
    tokenizer = word_pieces("film plot")
    encoding = tokenizer.encode("film", "plot")
    kinds = [KINDS[k] for k in kinds_of(encoding, ["film", "plot"])]
    assert ["special", "word", "special", "word", "special"] == kinds


def test_byte_level_tokens_are_looked_at_without_their_space() -> None:
    """RoBERTa's way: the space belongs to the token, several signs may be one token."""
    pieces = ["?", "The", "Ġfilm", "Ġthe", "..."]
    made = Tokenizer(models.WordLevel({p: i for i, p in enumerate(pieces)}, unk_token="?"))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    kinds = ["stop_word", "word", "stop_word", "punctuation"]
    assert kinds == [kind for _, kind in named(made, "The film the...")]


# --- frequency --------------------------------------------------------------------------------------


@given(st.lists(st.integers(0, 50), min_size=1, max_size=80))
def test_bands_follow_frequency(counts: list[int]) -> None:
    """More frequent is never in a rarer band, equally frequent in the same one."""
    count = np.array(counts)
    band = frequency_bands(count)
    assert ((band >= 0) & (band < NUM_BANDS)).all()
    order = np.argsort(-count, kind="stable")
    assert (np.diff(band[order]) >= 0).all()
    for value in set(counts):
        assert 1 == len(set(band[count == value].tolist()))
    assert set(band[count == 0].tolist()) <= {NUM_BANDS - 1}


def test_bands_are_fifths_where_they_can_be() -> None:
    """A thousand entries of slowly falling frequency."""
    count = np.arange(1000, 0, -1)
    band = frequency_bands(count)
    shares = [count[band == number].sum() / count.sum() for number in range(NUM_BANDS)]
    assert pytest.approx([0.2] * 5, abs=0.01) == shares


# --- counting ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with two tasks."""
    folder = tmp_path_factory.mktemp("data")
    for task in ("sst2", "mrpc"):
        trainings.save_data(folder, task, train=30, validation=25)
    return folder


def model_for(task: str, method: PruningMethod | None = None) -> PrunedModel:
    """A tiny pruned BERT in float64."""
    config = dataclasses.replace(tiny.encoder().config, num_labels=2)
    encoder = Encoder(config).double().eval()
    tiny.randomise(encoder, 4)
    return PrunedModel(
        name="tiny",
        task=task,
        method=method or ltp((0.5, 0.7, 0.9)),
        encoder=encoder,
        packed=PackedRunner(encoder),
        tokenizer=tiny.tokenizer("bert"),
        label_names=("a", "b"),
        max_length=40,
        dense=None,
        base="tiny",
    )


@pytest.mark.parametrize("batch_size", [1, 7, 64])
@pytest.mark.parametrize("task", ["sst2", "mrpc"])
def test_counts_equal_traces_one_by_one(data: Path, task: str, batch_size: int) -> None:
    """Every token of every example, its kind, and where it left; in batches of any size."""
    model = model_for(task)
    counter = kind_counter(model)
    evaluate_checkpoint(
        model, split="validation", data_dir=data, batch_size=batch_size, counter=counter
    )
    slow = np.zeros((2, 3, len(KINDS)), dtype=int)
    rows = load_rows(task, "validation", data_dir=data)
    for texts in rows.texts:
        kinds = kinds_of(model.tokenizer.encode(*texts), texts)
        live = np.ones(len(kinds), dtype=bool)
        for layer, trace in enumerate(trace_text(model, *texts).layers):
            stays = np.array(trace.retained)
            for side, mask in enumerate((live, stays)):
                slow[side, layer] += [
                    np.count_nonzero(mask & (kinds == k)) for k in range(len(KINDS))
                ]
            live = stays
    frame = counter.frame("validation")
    found = frame[frame["grouping"] == "kind"]
    assert slow[0].ravel().tolist() == found["entering"].tolist()
    assert slow[1].ravel().tolist() == found["retained"].tolist()
    assert slow[0].sum() > slow[1].sum() > 0


def test_counts_sum_to_the_layers(data: Path, tmp_path: Path) -> None:
    """Over kinds to all tokens of a layer, over bands to those that are not special; and it is stored."""
    model = model_for("sst2")
    counter = kind_counter(model)
    found = evaluate_checkpoint(model, data_dir=data, counter=counter)
    frame = counter.frame("validation")
    columns = ["entering", "retained"]
    layers = found.layers.groupby("layer")[["attention_length", "ffn_length"]].sum()
    kinds = frame[frame["grouping"] == "kind"]
    assert layers.to_numpy().tolist() == kinds.groupby("layer")[columns].sum().to_numpy().tolist()
    text = kinds[kinds["kind"] != "special"].groupby("layer")[columns].sum()
    bands = frame[frame["grouping"] == "frequency"].groupby("layer")[columns].sum()
    pd.testing.assert_frame_equal(text, bands)
    store.write_table(tmp_path, "token_kinds", frame)
    pd.testing.assert_frame_equal(
        frame, store.read_table(tmp_path, "token_kinds"), check_dtype=False
    )
    assert len(frame) == 3 * sum(map(len, GROUPINGS.values()))


def test_a_counter_changes_no_result(data: Path) -> None:
    """Counting looks on; where nothing is pruned, everything stays."""
    model = model_for("sst2")
    plain = evaluate_checkpoint(model, data_dir=data)
    counted = evaluate_checkpoint(model, data_dir=data, counter=kind_counter(model))
    pd.testing.assert_frame_equal(plain.examples, counted.examples)
    pd.testing.assert_frame_equal(plain.layers, counted.layers)
    counter = kind_counter(model)
    evaluate_checkpoint(model, data_dir=data, method=Unpruned.neutral(3), counter=counter)
    frame = counter.frame("validation")
    assert frame["entering"].tolist() == frame["retained"].tolist()
    assert frame["entering"].sum() > 0


class _WithoutMiddle(Unpruned):
    """Leaves its second layer out."""

    def runs_layer(self, layer_index: int) -> bool:
        """All but the middle one."""
        return layer_index != 1


def test_a_layer_that_is_left_out_counts_nothing_and_changes_nothing(data: Path) -> None:
    """Zeros in the table; the share stays what it was."""
    method = _WithoutMiddle.neutral(3)
    model = model_for("sst2", method)
    counter = kind_counter(model)
    evaluate_checkpoint(model, data_dir=data, counter=counter)
    frame = counter.frame("validation")
    assert 0 == frame.loc[frame["layer"] == 1, ["entering", "retained"]].to_numpy().sum()
    assert {1.0} == set(survival(frame, "kind")["share"])


# --- what is shown ----------------------------------------------------------------------------------


def test_survival_by_hand() -> None:
    """From the input on; kinds that do not occur are left out, and the first to go comes first."""
    frame = length_runs.kind_frame()
    frame.loc[frame["kind"] == "piece", ["entering", "retained"]] = 0
    found = survival(frame, "kind")
    assert ["special", "punctuation", "stop_word", "word"] == found["kind"].unique().tolist()
    assert [0, 1, 2, 3, 4] == found[found["kind"] == "word"]["layer"].tolist()
    special = found[found["kind"] == "special"]
    assert [100, 40, 16, 6, 2] == special["tokens"].tolist()
    assert pytest.approx([1, 0.4, 0.16, 0.06, 0.02]) == special["share"].tolist()
    survived = layers_survived(found)
    assert ["special", "punctuation", "stop_word", "word"] == survived.index.tolist()
    assert pytest.approx(0.64) == survived["special"]
