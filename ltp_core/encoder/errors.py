"""What can be wrong with a model's files; free of torch."""

from __future__ import annotations

from ltp_core.records import UserError


class ModelError(UserError):
    """A model that is absent, damaged or of an architecture that is not supported."""


class HeadError(ModelError):
    """Weights without the head that is needed."""


def reason(error: BaseException) -> str:
    """What a library says went wrong, on one line."""
    return " ".join(str(error).split())[:300] or type(error).__name__
