"""The separator is what the tokenizer puts behind a text, whatever else its vocabulary holds."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, processors

from ltp_core.encoder.families import FAMILIES
from ltp_core.encoder.tokenizer import separator_id
from tests import tiny


def with_both() -> Tokenizer:
    """MPNet's trap: a vocabulary with `[SEP]` that the tokenizer never uses, beside `</s>`."""
    made = tiny.tokenizer("mpnet")
    made.add_tokens(["[SEP]"])
    assert made.token_to_id("[SEP]") is not None
    return made


def test_the_tests_know_every_family() -> None:
    """A family in the list is one that the suites run over."""
    assert set(FAMILIES) == set(tiny.FAMILIES)
    types = {kind for family in FAMILIES.values() for kind in family.model_types}
    assert types == {tiny.hugging_face(name).config.model_type for name in tiny.ARCHITECTURES}


@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_the_separator_ends_a_text(family: str) -> None:
    """It is the last token of an encoded text, and of both texts of a pair."""
    tokenizer = tiny.tokenizer(family)
    separator = separator_id(tokenizer)
    assert separator == tokenizer.encode("a film").ids[-1]
    assert tokenizer.encode("a film", "a plot").ids.count(separator) >= 2


@pytest.mark.parametrize(
    "processor",
    [
        processors.RobertaProcessing(("</s>", 2), ("<s>", 0)),
        processors.BertProcessing(("</s>", 2), ("<s>", 0)),
        processors.TemplateProcessing(
            single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
        ),
    ],
    ids=["roberta", "bert", "template"],
)
def test_an_unused_separator_is_not_taken(processor: object) -> None:
    """`</s>` is the separator, though `[SEP]` is in the vocabulary, in every kind of processor."""
    tokenizer = with_both()
    tokenizer.post_processor = processor
    assert 2 == separator_id(tokenizer)


def test_without_a_processor_the_known_names_count() -> None:
    """A tokenizer that adds nothing by itself has the separator that its vocabulary names."""
    from tokenizers import models

    has_one = Tokenizer(models.WordLevel({"[UNK]": 0, "[SEP]": 1}, unk_token="[UNK]"))
    has_none = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    assert 1 == separator_id(has_one)
    assert separator_id(has_none) is None
