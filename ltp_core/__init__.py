"""Token pruning of transformer encoders: train it, run it with the tokens removed, measure it.

From Python, `load` gives a checkpoint that is called like a `transformers` text-classification pipeline, and
`prune` makes one of a finetuned Hugging Face model. Both import torch only when they are called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ltp_core.classifier import TextClassifier, load, prune

__all__ = ["TextClassifier", "load", "prune"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ltp_core import classifier

    return getattr(classifier, name)
