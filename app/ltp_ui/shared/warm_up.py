"""Importing torch takes seconds, which no first paint should wait for: it happens in the background."""

from __future__ import annotations

import gc
import importlib
import threading

import streamlit as st

_MODULES = ("ltp_core.trace", "ltp_core.encoder.adapter", "ltp_core.encoder.tokenizer")


class _WarmUp:
    """The import of torch and the model code, once a process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.thread: threading.Thread | None = None

    def start(self) -> threading.Thread:
        """The running or finished import."""
        with self._lock:
            if self.thread is None:
                self.thread = threading.Thread(target=_import_core, name="warm-up", daemon=True)
                self.thread.start()
            return self.thread


@st.cache_resource(show_spinner=False)
def _warm_up() -> _WarmUp:
    return _WarmUp()


def is_done() -> bool:
    """Whether torch and the model code are imported; starts nothing."""
    thread = _warm_up().thread
    return thread is not None and not thread.is_alive()


def start() -> None:
    """Starts the import; call it after the page is drawn."""
    _warm_up().start()


def wait() -> None:
    """Blocks until the import is done, and starts it if need be."""
    _warm_up().start().join()


def _import_core() -> None:
    for name in _MODULES:
        importlib.import_module(name)
    keep_forever()


def keep_forever() -> None:
    """Spares the garbage collector everything that is in memory now.

    Streamlit lets it go through all objects after every run of a page. Those of torch are half a
    million, and looking at them takes longer than the run.
    """
    gc.collect()
    gc.freeze()
