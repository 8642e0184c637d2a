"""The one place where errors become sentences on the screen."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import streamlit as st

from ltp_core.records import UserError

_LOG = logging.getLogger(__name__)


@contextmanager
def boundary(what: str = "This page") -> Iterator[None]:
    """Shows what goes wrong inside as one sentence; usable as a decorator, too.

    A `UserError` says itself what to do. Anything else is a fault of the program: the screen names
    it, the log has the traceback.
    """
    try:
        yield
    except UserError as error:
        st.error(plain(str(error)), title="That did not work", icon=":material/error:")
    except Exception as error:
        _LOG.exception("%s failed", what)
        name = f"{type(error).__name__}: {error}"[:300]
        st.error(
            f"{what} failed through an error in the program: {plain(name)}. Its log has the details.",
            title="That should not have happened",
            icon=":material/bug_report:",
        )


_MARKDOWN = str.maketrans({sign: f"\\{sign}" for sign in r"\`*_{}[]()#+-.!|~$:<>&"})


def plain(text: str) -> str:
    """`text` for a Markdown field, every sign standing for itself."""
    return " ".join(text.translate(_MARKDOWN).split())
