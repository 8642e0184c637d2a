"""Builders of tiny random models, batches and tokenizers; everything follows from a seed.

Imports of torch and transformers are local: tests of the torch-free parts share this package.
"""

from __future__ import annotations

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    from ltp_core.encoder.model import Encoder
    from ltp_core.runners.base import Inputs

FAMILIES = ("bert", "roberta", "mpnet", "distilbert", "electra", "modernbert")

VARIANTS = (*FAMILIES, "modernbert-mean")
"""Families, and architectures that differ in what runners do."""

_LIKE_ROBERTA = {"pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2, "layer_norm_eps": 1e-5}

_BIASES = {f"{part}_bias": True for part in ("norm", "attention", "mlp", "classifier")}

_MODERN = {
    "pad_token_id": 0,
    "bos_token_id": 2,
    "cls_token_id": 2,
    "eos_token_id": 3,
    "sep_token_id": 3,
    "local_attention": 6,
    "global_attn_every_n_layers": 2,
    "global_rope_theta": 500.0,
    "local_rope_theta": 50.0,
}
"""The second of three layers is local: a window of 3 tokens on each side."""

ARCHITECTURES: dict[str, tuple[str, str, dict[str, Any]]] = {
    "bert": ("bert", "Bert", {"pad_token_id": 0, "type_vocab_size": 2}),
    "roberta": ("roberta", "Roberta", {**_LIKE_ROBERTA, "type_vocab_size": 1}),
    "xlm-r": ("roberta", "XLMRoberta", {**_LIKE_ROBERTA, "type_vocab_size": 1}),
    "camembert": ("roberta", "Camembert", {**_LIKE_ROBERTA, "type_vocab_size": 1}),
    "mpnet": ("mpnet", "MPNet", _LIKE_ROBERTA),
    "distilbert": ("distilbert", "DistilBert", {"pad_token_id": 0, "hidden_dim": 24}),
    "electra": ("electra", "Electra", {"embedding_size": 12, "type_vocab_size": 2}),
    "electra-wide": ("electra", "Electra", {"embedding_size": 16, "type_vocab_size": 2}),
    "modernbert": ("modernbert", "ModernBert", _MODERN),
    "modernbert-mean": (
        "modernbert",
        "ModernBert",
        {**_MODERN, **_BIASES, "classifier_pooling": "mean"},
    ),
}
"""Our family of Hugging Face's architectures, the beginning of its classes' names, and settings."""

_WORDS = (
    "a an the this that it is was not very more most of and but or to in on for with as by from "
    "movie film plot actor scene story score good great fine bad dull slow long short funny sad "
    "warm cold touching clever boring charming journey ending never always"
)
WORDS = tuple(_WORDS.split())

SPECIAL_TOKENS = {
    "bert": ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    "roberta": ("<s>", "<pad>", "</s>", "<unk>", "<mask>"),
}
VOCAB_SIZE = 5 + len(WORDS)
SEPARATOR_ID = 3
"""Id of BERT's separator here; with RoBERTa's vocabulary another token, which is as good."""
SIZES = {
    "vocab_size": VOCAB_SIZE,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 24,
    "max_position_embeddings": 40,
}


def randomise(module: torch.nn.Module, seed: int) -> None:
    """Weights wide enough that attention is far from uniform and scores spread around 1."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            if "norm.weight" in name.lower():
                parameter.copy_(1 + 0.2 * noise)
            else:
                parameter.copy_(noise * (0.5 if parameter.ndim == 2 else 0.2))


def special_tokens(family: str) -> tuple[str, ...]:
    """BERT's or RoBERTa's."""
    return SPECIAL_TOKENS["roberta" if family in {"roberta", "mpnet"} else "bert"]


def pad_id(family: str) -> int:
    """Id of the padding token."""
    return 0 if "[PAD]" in special_tokens(family) else 1


@functools.lru_cache(maxsize=128)
def encoder(
    family: str = "bert", seed: int = 0, *, num_layers: int = 3, num_heads: int = 2
) -> Encoder:
    """A random encoder of this project in float64, in evaluation mode; shared, so do not change it."""
    from ltp_core.encoder.families import FAMILIES as KNOWN
    from ltp_core.encoder.model import Encoder, EncoderConfig

    known, _, special = ARCHITECTURES[family]
    own = KNOWN[known]
    shape = EncoderConfig(
        family=own,
        vocab_size=VOCAB_SIZE,
        hidden_size=16,
        num_layers=num_layers,
        num_heads=num_heads,
        intermediate_size=24,
        max_positions=40,
        type_vocab_size=2 if own.has_token_types else 0,
        pad_id=pad_id(family),
        num_labels=3,
        layer_norm_eps=1e-5,
        embedding_size=12 if own.projects_embeddings else None,
    )
    config = shape if own.read_own is None else own.read_own(special, shape)
    model = Encoder(config).double().eval()
    randomise(model, seed)
    return model


@functools.lru_cache(maxsize=32)
def span_encoder(family: str = "bert", seed: int = 0) -> Encoder:
    """The same with a span head; shared, so do not change it."""
    import dataclasses

    from ltp_core.encoder.model import Encoder

    config = dataclasses.replace(encoder(family).config, head="span", num_labels=2)
    model = Encoder(config).double().eval()
    randomise(model, seed)
    return model


def copy_of(model: Encoder) -> Encoder:
    """A copy that a test may change."""
    return copy.deepcopy(model)


def float32_encoder(seed: int = 0) -> Encoder:
    """A fresh float32 copy of `encoder`."""
    return copy_of(encoder("bert", seed)).float()


def noisy_encoder(*, attention_dropout: float, hidden_dropout: float) -> Encoder:
    """A fresh copy of `encoder` with these dropout probabilities."""
    from torch import nn

    model = copy_of(encoder())
    for name, module in model.named_modules():
        if isinstance(module, nn.Dropout):
            module.p = attention_dropout if "attention_dropout" in name else hidden_dropout
    return model


def reference_config(config: Any) -> SimpleNamespace:
    """This project's encoder config under Hugging Face's names, as `tests.reference` reads it."""
    write_own = config.family.write_own
    return SimpleNamespace(
        **({} if write_own is None else write_own(config)),
        model_type=config.family.name,
        hidden_size=config.hidden_size,
        intermediate_size=config.intermediate_size,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        layer_norm_eps=config.layer_norm_eps,
        pad_token_id=config.pad_id,
        hidden_act="gelu",
    )


def inputs(
    lengths: Sequence[int],
    seed: int = 0,
    *,
    family: str = "bert",
    extra_padding: int = 0,
    protect_first: bool = True,
) -> Inputs:
    """A right-padded batch of random tokens, the second half of each sequence of token type 1."""
    import torch

    from ltp_core.runners.base import make_inputs

    generator = torch.Generator().manual_seed(seed)
    width = max(lengths) + extra_padding
    input_ids = torch.full((len(lengths), width), pad_id(family))
    token_type_ids = torch.zeros_like(input_ids)
    mask = torch.zeros_like(input_ids, dtype=torch.bool)
    for row, length in enumerate(lengths):
        input_ids[row, :length] = torch.randint(2, VOCAB_SIZE, (length,), generator=generator)
        token_type_ids[row, (length + 1) // 2 : length] = 1
        mask[row, :length] = True
    return make_inputs(
        input_ids, token_type_ids, mask, protect_first=protect_first, separator_id=SEPARATOR_ID
    )


def row(batch: Inputs, index: int) -> Inputs:
    """One sequence of a batch on its own, without padding."""
    from ltp_core.runners.base import Inputs

    cut = slice(0, int(batch.attention_mask[index].sum()))
    return Inputs(
        batch.input_ids[index : index + 1, cut],
        batch.token_type_ids[index : index + 1, cut],
        batch.attention_mask[index : index + 1, cut],
        batch.protected[index : index + 1, cut],
        batch.special[index : index + 1, cut],
    )


def hugging_face(
    architecture: str, seed: int = 0, *, kind: str = "ForSequenceClassification", **changes: Any
) -> Any:
    """A random model with a head of this kind in float64, eager attention, evaluation mode."""
    import transformers

    _, name, special = ARCHITECTURES[architecture]
    num_labels = 3 if kind == "ForSequenceClassification" else 2
    sizes = {**SIZES, "num_labels": num_labels, **special, **changes}
    config = getattr(transformers, f"{name}Config")(**sizes)
    model = getattr(transformers, f"{name}{kind}")(config).double().eval()
    model.set_attn_implementation("eager")
    randomise(model, seed)
    return model


def tokenizer(family: str = "bert") -> Tokenizer:
    """A lower-casing word-level tokenizer with the family's special tokens and pair template."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

    special = special_tokens(family)
    is_bert = "[CLS]" in special
    vocab = {token: index for index, token in enumerate((*special, *WORDS))}
    unknown, first, last = ("[UNK]", "[CLS]", "[SEP]") if is_bert else ("<unk>", "<s>", "</s>")
    made = Tokenizer(models.WordLevel(vocab, unk_token=unknown))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    made.add_special_tokens(list(special))
    second = f"$B:1 {last}:1" if is_bert else f"{last} $B {last}"
    made.post_processor = processors.TemplateProcessing(
        single=f"{first} $A {last}",
        pair=f"{first} $A {last} {second}",
        special_tokens=[(first, vocab[first]), (last, vocab[last])],
    )
    return made


def fast_tokenizer() -> PreTrainedTokenizerFast:
    """The tokenizer as transformers' own."""
    import transformers

    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer())  # type: ignore[no-untyped-call]


def save_hugging_face(architecture: str, folder: Path, **changes: Any) -> Path:
    """Saves a tiny model and its tokenizer in Hugging Face's layout, in float32."""
    hugging_face(architecture, **changes).float().save_pretrained(folder)
    tokenizer(ARCHITECTURES[architecture][0]).save(str(folder / "tokenizer.json"))
    return folder
