"""Token pruning of transformer encoders: train it, run it with the tokens removed, measure it.

From Python, `load` gives a checkpoint that is called like a `transformers` text-classification pipeline, and
`prune` makes one of a finetuned Hugging Face model. `PrunedModelForSequenceClassification` is a checkpoint
as a `transformers` model. What needs torch is imported when it is first named.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltp_core.predicting.classifier import TextClassifier, load, prune
    from ltp_core.predicting.hugging_face import PrunedModelForSequenceClassification

__all__ = ["PrunedModelForSequenceClassification", "TextClassifier", "load", "prune"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "hugging_face" if name == "PrunedModelForSequenceClassification" else "classifier"
    return getattr(importlib.import_module(f"ltp_core.predicting.{room}"), name)
