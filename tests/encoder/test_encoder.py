"""Our encoder is Hugging Face's: same logits, hidden states and attention."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given

from ltp_core.encoder.bases import DEFAULT_BASE, find_base
from ltp_core.encoder.loading import load_encoder
from ltp_core.encoder.tokenizer import load_tokenizer
from ltp_core.pruning.unpruned import Unpruned
from ltp_core.runners.base import make_inputs
from ltp_core.runners.packed import run_packed
from tests import reference, strategies, tiny
from tests.against_hugging_face import (
    ATOL,
    assert_equal_models,
    atol,
    batch_for,
    family_of,
    load_theirs,
    ours,
    theirs,
)
from tests.strategies import Case

FolderOf = Callable[[str], Path]
every_architecture = pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)


def has_types(architecture: str) -> bool:
    """Whether the architecture knows two token types."""
    return tiny.ARCHITECTURES[architecture][2].get("type_vocab_size") == 2


@every_architecture
def test_equals_hugging_face(architecture: str, hugging_face_folder: FolderOf) -> None:
    """Logits, hidden states and attention of a padded batch are Hugging Face's."""
    folder = hugging_face_folder(architecture)
    inputs = batch_for(architecture, token_types=has_types(architecture))
    expected = theirs(load_theirs(folder), inputs)
    assert_equal_models(expected, load_encoder(folder).double(), inputs)


@every_architecture
def test_packed_runner_equals_hugging_face(
    architecture: str, hugging_face_folder: FolderOf
) -> None:
    """The packed runner's unpruned logits are Hugging Face's, too."""
    folder = hugging_face_folder(architecture)
    inputs = batch_for(architecture, token_types=False)
    encoder = load_encoder(folder).double()
    actual = run_packed(encoder, inputs, Unpruned.neutral(encoder.config.num_layers))
    expected = theirs(load_theirs(folder), inputs).logits
    torch.testing.assert_close(actual.logits, expected.double(), rtol=0, atol=atol(architecture))


@every_architecture
def test_pair_inputs_equal_hugging_face(architecture: str, hugging_face_folder: FolderOf) -> None:
    """A pair of sentences, as the family's tokenizer writes it, gives Hugging Face's logits."""
    folder = hugging_face_folder(architecture)
    encoding = tiny.tokenizer(family_of(architecture)).encode("a slow film", "the plot was great")
    ids, types = torch.tensor([encoding.ids]), torch.tensor([encoding.type_ids])
    assert ("[SEP]" in tiny.special_tokens(family_of(architecture))) == bool(types.any())
    inputs = make_inputs(ids, types, torch.ones_like(ids, dtype=torch.bool))
    expected = theirs(load_theirs(folder), inputs)
    assert_equal_models(expected, load_encoder(folder).double(), inputs)


def test_token_types_matter(hugging_face_folder: FolderOf) -> None:
    """BERT's token types reach the embeddings: changing them changes the logits."""
    encoder = load_encoder(hugging_face_folder("bert")).double()
    with_types = ours(encoder, batch_for("bert", token_types=True))[0]
    without = ours(encoder, batch_for("bert", token_types=False))[0]
    assert not torch.allclose(with_types, without, atol=1e-3)


@every_architecture
def test_padding_token_inside_a_sequence(architecture: str, hugging_face_folder: FolderOf) -> None:
    """A text that spells the padding token is numbered as Hugging Face numbers it."""
    folder = hugging_face_folder(architecture)
    inputs = batch_for(architecture, token_types=False)
    inputs.input_ids[0, [2, 5]] = tiny.pad_id(family_of(architecture))
    expected = theirs(load_theirs(folder), inputs)
    encoder = load_encoder(folder).double()
    assert_equal_models(expected, encoder, inputs)
    packed = run_packed(encoder, inputs, Unpruned.neutral(encoder.config.num_layers))
    torch.testing.assert_close(
        packed.logits, expected.logits.double(), rtol=0, atol=atol(architecture)
    )


@every_architecture
def test_longest_input_fits(architecture: str, hugging_face_folder: FolderOf) -> None:
    """`max_length` tokens run: RoBERTa has pad id + 1 positions fewer than its table."""
    folder = hugging_face_folder(architecture)
    encoder = load_encoder(folder).double()
    longest = encoder.config.max_length
    counts_from_padding = tiny.pad_id(family_of(architecture)) == 1
    assert (38 if counts_from_padding else 40) == longest
    inputs = tiny.inputs((longest,), family=family_of(architecture))
    inputs = replace(inputs, token_type_ids=inputs.token_type_ids * 0)
    assert_equal_models(theirs(load_theirs(folder), inputs), encoder, inputs)


def test_one_label_is_regression(tmp_path: Path) -> None:
    """A regression checkpoint (STS-B) has one output, equal to Hugging Face's."""
    folder = tiny.save_hugging_face("bert", tmp_path, num_labels=1)
    encoder = load_encoder(folder).double()
    inputs = batch_for("bert", token_types=True)
    assert 1 == encoder.config.num_labels
    assert_equal_models(theirs(load_theirs(folder), inputs), encoder, inputs)


@given(case=strategies.cases)
def test_equals_the_loops(case: Case) -> None:
    """Hidden states and attention are those of Eqs. 1 to 6 written as loops."""
    inputs = case.inputs
    logits, hidden, attention = ours(case.encoder, inputs)
    weights = reference.Weights(
        case.encoder.state_dict(), tiny.reference_config(case.encoder.config)
    )
    for row, n in enumerate(case.lengths):
        ids, types = inputs.input_ids[row, :n].tolist(), inputs.token_type_ids[row, :n].tolist()
        expected = reference.run_hard(weights, ids, types, reference.keep_all)
        np.testing.assert_allclose(logits[row].numpy(), expected.logits, atol=ATOL)
        for layer, states, probs in zip(expected.layers, hidden[1:], attention, strict=True):
            vectors = np.stack([layer.hidden[i] for i in range(n)])
            np.testing.assert_allclose(states[row, :n].numpy(), vectors, atol=ATOL)
            heads = [[[head[j, i] for i in range(n)] for j in range(n)] for head in layer.attention]
            np.testing.assert_allclose(probs[row, :, :n, :n].numpy(), heads, atol=ATOL)


@every_architecture
def test_reference_equals_hugging_face(architecture: str, hugging_face_folder: FolderOf) -> None:
    """The loops themselves are right: unpruned, they give Hugging Face's logits."""
    model = load_theirs(hugging_face_folder(architecture))
    inputs = batch_for(architecture, token_types=has_types(architecture))
    weights = reference.Weights(model.state_dict(), model.config)
    expected = theirs(model, inputs)
    for row, n in enumerate(inputs.length.tolist()):
        ids, types = inputs.input_ids[row, :n].tolist(), inputs.token_type_ids[row, :n].tolist()
        actual = reference.run_hard(weights, ids, types, reference.keep_all)
        close = atol(architecture)
        np.testing.assert_allclose(actual.logits, expected.logits[row].numpy(), atol=close)


def test_default_base_equals_hugging_face() -> None:
    """The real default model's hidden states are Hugging Face's, on real sentences."""
    from transformers import AutoModel

    folder = find_base(DEFAULT_BASE)
    tokenizer = load_tokenizer(folder)
    tokenizer.enable_padding()
    encodings = tokenizer.encode_batch(["A charming, often affecting journey.", "Dull"])
    ids = torch.tensor([encoding.ids for encoding in encodings])
    mask = torch.tensor([encoding.attention_mask for encoding in encodings])
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    with torch.no_grad():
        expected = model(ids, attention_mask=mask, output_hidden_states=True).hidden_states
    hidden = ours(load_encoder(folder), make_inputs(ids, torch.zeros_like(ids), mask.bool()))[1]
    assert len(expected) == len(hidden)
    for left, right in zip(expected, hidden, strict=True):
        torch.testing.assert_close(right[mask.bool()], left[mask.bool()], rtol=0, atol=2e-5)
