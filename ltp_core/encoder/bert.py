"""BERT, and what shares its architecture: MiniLM, TinyBERT, BGE, E5."""

from __future__ import annotations

from ltp_core.encoder.model import Family, LayerStack, Pooler

SPECIAL_TOKENS = {
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "unk_token": "[UNK]",
    "mask_token": "[MASK]",
}

BERT = Family(
    name="bert",
    model_types=("bert",),
    class_prefix="Bert",
    special_tokens=SPECIAL_TOKENS,
    pooler=Pooler,
    stack=LayerStack,
)
