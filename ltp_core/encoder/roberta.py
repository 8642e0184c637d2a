"""RoBERTa, XLM-R and CamemBERT: BERT's layers, positions counted from the padding id on, another head."""

from __future__ import annotations

from ltp_core.encoder.model import Family, LayerStack

ROBERTA = Family(
    name="roberta",
    model_types=("roberta", "xlm-roberta", "camembert"),
    class_prefix="Roberta",
    special_tokens={
        "cls_token": "<s>",
        "sep_token": "</s>",
        "pad_token": "<pad>",
        "unk_token": "<unk>",
        "mask_token": "<mask>",
        "bos_token": "<s>",
        "eos_token": "</s>",
    },
    default_pad_id=1,
    counts_from_padding=True,
    stack=LayerStack,
)
