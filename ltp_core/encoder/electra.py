"""ELECTRA's discriminator: BERT with a projection behind narrower embeddings, and RoBERTa's head with a GELU.

Source: Clark et al., ELECTRA, 2020.
"""

from __future__ import annotations

from ltp_core.encoder.bert import SPECIAL_TOKENS
from ltp_core.encoder.model import Family, LayerStack

ELECTRA = Family(
    name="electra",
    model_types=("electra",),
    class_prefix="Electra",
    special_tokens=SPECIAL_TOKENS,
    head_activation="gelu",
    projects_embeddings=True,
    renames=(("embeddings_project.", "embeddings.project."),),
    stack=LayerStack,
)
