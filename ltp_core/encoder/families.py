"""The families of encoders. A new one is a file and a line here."""

from __future__ import annotations

from ltp_core.encoder.bert import BERT
from ltp_core.encoder.distilbert import DISTILBERT
from ltp_core.encoder.electra import ELECTRA
from ltp_core.encoder.model import Family
from ltp_core.encoder.modernbert import MODERNBERT
from ltp_core.encoder.mpnet import MPNET
from ltp_core.encoder.roberta import ROBERTA

FAMILIES: dict[str, Family] = {
    family.name: family for family in (BERT, ROBERTA, MPNET, DISTILBERT, ELECTRA, MODERNBERT)
}

BY_MODEL_TYPE: dict[str, Family] = {
    model_type: family for family in FAMILIES.values() for model_type in family.model_types
}
"""Hugging Face's `model_type` to our family."""
